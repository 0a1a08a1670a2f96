"""Work passes between processes: answered once it is done, left to its poster when nobody did it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading

import msgspec
import pytest

from cas import StorageError, blobs, commit, groupcommit, relay
from cas.digest import digest_bytes
from cas.groupcommit import GroupCommit, RelayRefusedError
from cas.lmdbenv import Table
from cas.relay import FOLDER, TURN_FILE, Relay
from tests.store.stores import commit as commit_run
from tests.store.stores import dump

WAIT_S = 60

HOLDER = """
import sys, time
from pathlib import Path
from cas.relay import Relay
with Relay(Path(sys.argv[1])).turn(lambda: None):
    print("held", flush=True)
    time.sleep(600)
"""


class Poster(threading.Thread):
    """Asks for the turn with work to post; threads of one process meet at the lock as processes do."""

    def __init__(self, directory, work):
        super().__init__(daemon=True)
        self._relay, self._work = Relay(directory), work
        self.answer, self.had_turn = None, None
        self.start()

    def run(self):
        with self._relay.turn(lambda: self._work) as turn:
            self.answer, self.had_turn = turn.answer, turn.is_held

    def outcome(self):
        self.join(WAIT_S)
        assert not self.is_alive(), "a deadlock"
        return self.answer, self.had_turn


def wait_for_posts(directory, count):
    for _ in range(WAIT_S * 1000):
        if len(Relay(directory).posts()) == count:
            return
        threading.Event().wait(0.001)
    raise AssertionError("no post came")


def left(directory):
    folder = directory / FOLDER
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_posted_work_is_answered_and_its_poster_gets_no_turn(tmp_path):
    with Relay(tmp_path).turn(lambda: None) as turn:
        posters = [Poster(tmp_path, b"work %d" % number) for number in range(3)]
        wait_for_posts(tmp_path, 3)
        for name, content in turn.iter_posts():
            turn.reply(name, content.upper())
    outcomes = {poster.outcome() for poster in posters}
    assert outcomes == {(b"WORK %d" % number, False) for number in range(3)}
    assert left(tmp_path) == []


def test_unanswered_posters_get_the_turn_one_after_the_other(tmp_path):
    with Relay(tmp_path).turn(lambda: None) as turn:
        posters = [Poster(tmp_path, b"work") for _ in range(3)]
        wait_for_posts(tmp_path, 3)
        assert [content for _, content in turn.iter_posts()] == [b"work"] * 3
    assert [poster.outcome() for poster in posters] == [(None, True)] * 3
    assert left(tmp_path) == []


def test_who_cannot_post_goes_on_without_the_turn(tmp_path):
    with Relay(tmp_path).turn(lambda: None):
        assert Poster(tmp_path, None).outcome() == (None, False)
        assert Poster(tmp_path, bytes(relay.MAX_POST_BYTES + 1)).outcome() == (None, False)
        (tmp_path / FOLDER).write_text("in the way of the folder")
        assert Poster(tmp_path, b"work").outcome() == (None, False)


def test_killed_holder_leaves_the_turn_to_the_poster(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    poster = Poster(tmp_path, b"work")
    wait_for_posts(tmp_path, 1)
    assert poster.had_turn is None
    holder.send_signal(signal.SIGKILL)
    holder.wait(WAIT_S)
    holder.stdout.close()
    assert poster.outcome() == (None, True)


def test_posts_of_the_dead_are_removed_unread(tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir()
    for name in ("00000000000000000001-a", "00000000000000000002-b"):
        os.mkfifo(folder / f"{name}.bell")
        (folder / f"{name}.posted").write_bytes(b"never read")
    (folder / "00000000000000000003-c.writing").write_bytes(b"half")
    with Relay(tmp_path).turn(lambda: None) as turn:
        assert list(turn.iter_posts()) == []
    assert left(tmp_path) == []


def test_one_turn_takes_a_bounded_number_of_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(relay, "MAX_TURN_BYTES", 10)
    with Relay(tmp_path).turn(lambda: None) as turn:
        posters = [Poster(tmp_path, bytes(8)) for _ in range(4)]
        wait_for_posts(tmp_path, 4)
        assert len(list(turn.iter_posts())) == 2
    assert [poster.outcome() for poster in posters] == [(None, True)] * 4


@pytest.mark.parametrize("noise", [b"", b"f", b"fff"])
def test_answer_is_heard_among_announcements_of_a_free_turn(tmp_path, noise):
    path = tmp_path / "bell"
    os.mkfifo(path)
    bell = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    assert relay._listen(bell) is None
    os.write(bell, noise)
    assert relay._listen(bell) is None
    for answer in (b"f", bytes(relay.MAX_ANSWER_BYTES), b"f" * 300):
        os.write(bell, noise + b"a" + len(answer).to_bytes(2, "big") + answer + noise)
        assert relay._listen(bell) == answer
    os.close(bell)


def put(key):
    def work(transaction):
        transaction.put(Table.COUNTERS, key, b"x")
        return [int(key)]

    return work


@pytest.fixture
def slow_disk(monkeypatch):
    monkeypatch.setattr(groupcommit, "RELAY_FLUSH_S", 0.0)


def commit_beside_a_post(store, decode):
    """Commit ``1`` by a queue that finds ``2`` posted; return what the poster was told and the queue."""
    queue, folder = GroupCommit(store.environment, decode=decode), store.environment.directory
    with Relay(folder).turn(lambda: None):
        poster = Poster(folder, b"2")
        wait_for_posts(folder, 1)
        # While the poster waits for this turn, the queue is given one of its own, as if it had come first.
        (folder / TURN_FILE).rename(folder / "held-by-the-test")
        assert queue.run(put(b"1"), encode=lambda: b"1") == [1]
        (folder / "held-by-the-test").rename(folder / TURN_FILE)
    return poster.outcome(), queue


@pytest.mark.usefixtures("slow_disk")
def test_queue_does_what_was_posted_in_its_own_transaction(store):
    told, queue = commit_beside_a_post(store, put)
    assert told == (msgspec.msgpack.encode([2]), False)
    assert queue.transaction_count == 1
    assert {b"1", b"2"} == dump(store)["COUNTERS"].keys()


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.parametrize("error", [RelayRefusedError(), StorageError("the disk is full", kind="disk_full")])
def test_post_that_cannot_be_done_fails_nobody_else(store, error):
    def failing(transaction):
        raise error

    told, _ = commit_beside_a_post(store, lambda content: failing)
    assert told == (None, True)
    assert dump(store)["COUNTERS"].keys() == {b"1"}


@pytest.mark.usefixtures("slow_disk")
def test_work_whose_poster_cannot_be_answered_is_done_once(store, monkeypatch):
    def fail(*_):
        raise OSError(errno.EACCES, "the post cannot be taken down")

    monkeypatch.setattr(Relay, "take_down", fail)
    told, queue = commit_beside_a_post(store, put)
    assert told == (None, True), "the poster does its own work, when it has the turn"
    assert queue.transaction_count == 1


def test_fast_disk_needs_no_turn(store):
    queue = GroupCommit(store.environment, decode=put)
    assert queue.run(put(b"1"), encode=lambda: b"1") == [1]
    assert not (store.environment.directory / TURN_FILE).exists()


def test_run_of_a_batch_that_cannot_be_applied_is_refused_before_anything_is_written(store):
    commit_run(store, "old", files={"a.csv": b"old\n"})
    prepared = [
        store._prepare(
            *store._checked_arguments(
                {"workflow_id": "wf", "task_id": "t", "files": {"a.csv": content}, "correlation_id": name}
            )
        )
        for name, content in (("first", b"new\n"), ("second", b"old\n"))
    ]
    content = commit.encode_relayed(prepared)
    with store.environment.write() as transaction:
        blobs.erase(transaction, blobs.require(transaction, digest_bytes(b"old\n")))
    before = dump(store)
    with store.environment.write() as transaction, pytest.raises(RelayRefusedError):
        commit.decode_relayed(content)(transaction)
    assert dump(store) == before

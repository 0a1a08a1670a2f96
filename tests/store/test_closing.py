"""Closing a store that other threads are at work in, and one whose file is no longer where it was."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cas import ArtifactStoreError, StateError, StorageError, compact_store
from cas.lmdbenv import Table, environment
from tests.store.stores import commit, open_store

WAIT_S = 60


class Inside:
    """A thread that is inside a transaction of a store until it is let out."""

    def __init__(self, store, begin):
        self._environment, self._begin = store.environment, begin
        self._entered, self._leave = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._done = self._pool.submit(self._work)
        assert self._entered.wait(WAIT_S)

    def _work(self):
        with getattr(self._environment, self._begin)() as transaction:
            self._entered.set()
            assert self._leave.wait(WAIT_S)
            if self._begin == "write":
                transaction.put(Table.COUNTERS, b"a", b"b")
            return transaction.get(Table.COUNTERS, b"a")

    def let_out(self):
        """Return what the thread found."""
        self._leave.set()
        with self._pool:
            return self._done.result(WAIT_S)


@pytest.mark.parametrize(("begin", "found"), [("read", None), ("write", b"b")])
def test_close_leaves_another_threads_transaction_whole(tmp_path, begin, found):
    store = open_store(tmp_path)
    inside = Inside(store, begin)
    opened = store.environment
    store.close()
    with pytest.raises(StateError, match="closed"), opened.read():
        pass
    assert inside.let_out() == found
    assert compact_store(store.config), "whoever came out last has closed the file"
    with open_store(tmp_path) as again, again.environment.read() as transaction:
        assert again.environment is not opened
        assert transaction.get(Table.COUNTERS, b"a") == found


def test_store_opened_while_a_transaction_outlives_its_close_shares_the_file(tmp_path):
    store = open_store(tmp_path)
    inside = Inside(store, "read")
    opened = store.environment
    store.close()
    with open_store(tmp_path) as again:
        assert again.environment is opened
        inside.let_out()
        assert commit(again)["success"]
        with pytest.raises(StateError):
            commit(store)


def test_close_inside_the_own_transaction_takes_effect_at_its_end(tmp_path):
    store = open_store(tmp_path)
    with store.environment.write() as transaction:
        store.close()
        transaction.put(Table.COUNTERS, b"a", b"b")
    with open_store(tmp_path) as again, again.environment.read() as transaction:
        assert transaction.get(Table.COUNTERS, b"a") == b"b"


@pytest.mark.parametrize("durability", ["full", "group"])
def test_close_beside_committing_threads_ends_them_with_a_typed_error(tmp_path, durability):
    acknowledged = []

    def work(store, name):
        for number in range(10_000):
            try:
                acknowledged.append(commit(store, f"{name}-{number}", files={"a": os.urandom(100)}))
            except ArtifactStoreError as error:
                return error
        return None

    for turn in range(5):
        store = open_store(tmp_path, durability=durability)
        count = len(acknowledged)
        with ThreadPoolExecutor(4) as pool:
            ends = [pool.submit(work, store, f"{turn}-{thread}") for thread in range(4)]
            while len(acknowledged) < count + 5:
                pass
            store.close()
            assert {type(end.result(WAIT_S)) for end in ends} == {StateError}
    with open_store(tmp_path) as store:
        stored = {run["commit_sha"] for run in store.list_artifacts(limit=100_000)}
        assert {run["commit_sha"] for run in acknowledged} <= stored
        assert store.verify().ok


def test_store_closed_by_two_threads_at_once_is_given_back_once(tmp_path, monkeypatch):
    both = threading.Barrier(2)
    store, other = open_store(tmp_path), open_store(tmp_path)
    monkeypatch.setattr(store, "flush_metrics", lambda: both.wait(WAIT_S))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: store.close(), range(2)))
    assert commit(other)["success"]
    other.close()


def move_away(folder):
    folder.rename(folder.with_name("moved"))


def put_another_in_its_place(folder):
    move_away(folder)
    with open_store(folder.parent) as store:
        commit(store, "another")


@pytest.mark.parametrize(
    "deed", [shutil.rmtree, move_away, put_another_in_its_place], ids=lambda f: f.__name__
)
def test_commit_into_a_store_that_is_no_longer_there_is_refused(tmp_path, deed):
    with open_store(tmp_path) as store:
        commit(store, "first")
        folder = store.environment.directory
        deed(folder)
        with pytest.raises(StorageError, match="removed or replaced") as caught:
            commit(store, "lost")
        assert (caught.value.kind, caught.value.subject) == ("not_a_store", str(folder))
        if not folder.exists():
            with pytest.raises(StorageError) as caught:
                store.stats()
            assert caught.value.kind == "not_a_store"
    with open_store(tmp_path) as again:
        assert commit(again, "kept")["success"]


def test_moved_store_is_not_opened_beside_its_old_place(tmp_path):
    with open_store(tmp_path) as store:
        commit(store)
        move_away(store.environment.directory)
        with pytest.raises(StateError, match="moved"):
            open_store(tmp_path, store_path=tmp_path / "moved")
    with open_store(tmp_path, store_path=tmp_path / "moved") as store:
        assert store.get_artifact_by_correlation_id("1")


def test_fork_waits_for_a_copy_of_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "_FORK_WAIT_S", 0.0)
    copy = tmp_path / "copy"
    copy.mkdir()
    with open_store(tmp_path) as store:
        commit(store)
        counted = []
        raw = store.environment._raw

        class Watched:
            def copy(self, directory, *, compact):
                counted.append(store.environment._visits.threads())
                raw.copy(directory, compact=compact)

        monkeypatch.setattr(store.environment, "_raw", Watched())
        store.environment.copy_to(copy)
        monkeypatch.setattr(store.environment, "_raw", raw)
    assert counted == [{threading.get_ident()}]
    assert Path(copy / "data.mdb").is_file()

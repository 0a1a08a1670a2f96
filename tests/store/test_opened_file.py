"""An opened store file from inside: its map, its headroom, forks beside transactions, and what closing gives back."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import lmdb
import pytest

from cas import StateError, StorageError
from cas.lmdbenv import DATA_FILE, SUSPECT_FILE, Table, environment
from cas.lmdbenv.creation import create_environment, file_system_type, refuse_network_file_system
from cas.lmdbenv.mapping import drop_cached
from cas.lmdbenv.registry import close_environment, open_environment
from tests.store.stores import commit, open_store

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30
WAIT_S = 60


@pytest.fixture
def folder(tmp_path):
    create_environment(tmp_path / "store", {b"key": b"value"})
    return tmp_path / "store"


@pytest.fixture
def opened(folder):
    made = open_environment(folder, map_size_bytes=GIBIBYTE, durability="full")
    yield made
    close_environment(made)


def in_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def ended(thread):
    thread.join(WAIT_S)
    return not thread.is_alive()


def descriptors():
    """Return the open ones, without that of the look itself."""
    return {path.name: path.resolve() for path in Path("/proc/self/fd").iterdir() if path.exists()}


def test_new_file_holds_what_was_given_and_ignores_itself_in_git(folder, opened):
    with opened.read() as transaction:
        assert transaction.get(Table.META, b"key") == b"value"
        assert [transaction.count(table) for table in Table if table is not Table.META] == [0] * (
            len(Table) - 1
        )
    assert (folder / ".gitignore").read_text() == "*\n"
    assert [path.name for path in folder.parent.iterdir()] == ["store"]


def test_creation_that_lost_a_race_leaves_the_winners_file(folder, opened):
    create_environment(folder, {b"key": b"other"})
    with opened.read() as transaction:
        assert transaction.get(Table.META, b"key") == b"value"
    assert [path.name for path in folder.parent.iterdir()] == ["store"]


def test_flush_is_the_least_of_the_last_eight(opened, monkeypatch):
    assert (opened.flush_s, opened.last_flush_s) == (0.0, 0.0)
    clock = iter([0.0, 5.0, *(at for took in (3, 4, 9, 8, 7, 6, 5, 4) for at in (10.0, 10.0 + took))])
    monkeypatch.setattr(environment.time, "perf_counter", lambda: next(clock))
    for number, (least_s, last_s) in enumerate(
        [
            (0.0, 5.0),
            (0.0, 3.0),
            (0.0, 4.0),
            (0.0, 9.0),
            (0.0, 8.0),
            (0.0, 7.0),
            (0.0, 6.0),
            (3.0, 5.0),
            (3.0, 4.0),
        ]
    ):
        with opened.write() as transaction:
            transaction.put(Table.META, b"n", bytes([number]))
        assert (opened.flush_s, opened.last_flush_s) == (least_s, last_s)


def limit_address_space(monkeypatch, most_bytes):
    """Let the database find no room for a map of more than so many bytes; return the sizes it was asked for."""
    asked, real = [], lmdb.open

    def limited(path, **arguments):
        asked.append(arguments["map_size"])
        if arguments["map_size"] > most_bytes:
            raise lmdb.MemoryError("no room")
        return real(path, **arguments)

    monkeypatch.setattr(lmdb, "open", limited)
    return asked


def test_map_is_as_large_as_asked_for_where_there_is_room(folder, monkeypatch):
    asked = limit_address_space(monkeypatch, GIBIBYTE)
    made = open_environment(folder, map_size_bytes=GIBIBYTE, durability="full")
    assert asked == [GIBIBYTE]
    assert made.map_size_bytes == GIBIBYTE
    close_environment(made)


@pytest.mark.parametrize(
    ("wanted", "most", "asked", "got"),
    [
        (GIBIBYTE, 600 * MEBIBYTE, [1024, 512, 256], 256),
        (GIBIBYTE, 200 * MEBIBYTE, [1024, 512, 256, 128, 64], 64),
        (GIBIBYTE, 100 * MEBIBYTE, [1024, 512, 256, 128, 64], 64),
    ],
)
def test_map_is_half_of_the_largest_that_fits_but_no_less_than_the_least(
    folder, monkeypatch, wanted, most, asked, got
):
    sizes = limit_address_space(monkeypatch, most)
    made = open_environment(folder, map_size_bytes=wanted, durability="full")
    assert [size // MEBIBYTE for size in sizes] == asked
    assert made.map_size_bytes == got * MEBIBYTE
    close_environment(made)


def test_process_without_room_for_the_least_map_is_refused(folder, monkeypatch):
    before = descriptors()
    sizes = limit_address_space(monkeypatch, 63 * MEBIBYTE)
    with pytest.raises(StorageError) as caught:
        open_environment(folder, map_size_bytes=GIBIBYTE, durability="full")
    assert caught.value.kind == "storage_error"
    assert sizes[-1] == 64 * MEBIBYTE
    assert descriptors() == before


class Outgrown:
    """The database of an environment, whose next transactions find that another process has enlarged the file."""

    def __init__(self, raw, times=1):
        self._raw, self._times, self.sizes = raw, times, []

    def __getattr__(self, name):
        return getattr(self._raw, name)

    def begin(self, **arguments):
        if self._times:
            self._times -= 1
            raise lmdb.MapResizedError("resized")
        return self._raw.begin(**arguments)

    def set_mapsize(self, size_bytes):
        self.sizes.append(size_bytes)


@pytest.mark.parametrize("way", ["read", "write"])
def test_file_that_another_process_enlarged_is_mapped_anew(opened, monkeypatch, way):
    outgrown = Outgrown(opened._raw)
    monkeypatch.setattr(opened, "_raw", outgrown)
    with getattr(opened, way)() as transaction:
        assert transaction.get(Table.META, b"key") == b"value"
    assert outgrown.sizes == [0]


@pytest.mark.parametrize("way", ["read", "write"])
def test_file_that_outgrew_a_limited_process_is_opened_anew_by_the_next_call(folder, monkeypatch, way):
    limit_address_space(monkeypatch, 600 * MEBIBYTE)
    made = open_environment(folder, map_size_bytes=GIBIBYTE, durability="full")
    before, outgrown = descriptors(), Outgrown(made._raw)
    made._raw = outgrown
    with pytest.raises(StorageError) as caught, getattr(made, way)():
        pass
    assert (caught.value.kind, caught.value.retryable) == ("map_full", True)
    assert caught.value.subject == str(folder)
    assert outgrown.sizes == []
    with made.read() as transaction:
        assert transaction.get(Table.META, b"key") == b"value"
    assert made._raw is not outgrown
    revived = made._raw
    with made.write() as transaction:
        transaction.put(Table.META, b"key", b"new")
    assert made._raw is revived
    assert descriptors() == before
    close_environment(made)


def test_revival_waits_until_nobody_is_inside(opened, monkeypatch):
    outgrown = Outgrown(opened._raw, times=0)
    monkeypatch.setattr(opened, "_raw", outgrown)
    with opened.read():
        opened._must_reopen = True
        with opened.read() as transaction:
            assert transaction.get(Table.META, b"key") == b"value"
        assert opened._raw is outgrown
    with opened.read():
        assert opened._raw is not outgrown


def test_file_is_extended_ahead_of_need_by_a_step_and_not_again(opened):
    low, step = environment.HEADROOM_LOW_BYTES, environment.HEADROOM_STEP_BYTES
    used = opened.used_bytes()
    with opened.write() as transaction:
        transaction.put(Table.META, b"a", b"1")
        extended = opened.file_bytes()
        assert extended == used + low + step
    with opened.write(reserve_bytes=(extended - opened.used_bytes() - low) // 2):
        assert opened.file_bytes() == extended
    used = opened.used_bytes()
    reserve = (extended - used - low) // 2 + 1
    with opened.write(reserve_bytes=reserve):  # written in blocks of a mebibyte
        assert 0 <= opened.file_bytes() - (used + low + 2 * reserve + step) < MEBIBYTE
    with opened.write() as transaction:
        transaction.reserve(30 * MEBIBYTE)
        wanted = opened.used_bytes() + low + 60 * MEBIBYTE
        assert 0 <= opened.file_bytes() - (wanted + step) < MEBIBYTE


def test_file_is_not_extended_beyond_its_map(folder):
    made = open_environment(folder, map_size_bytes=8 * MEBIBYTE, durability="full")
    with made.write(reserve_bytes=MEBIBYTE):
        assert 8 * MEBIBYTE <= made.file_bytes() < 9 * MEBIBYTE
    close_environment(made)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_room_that_cannot_be_made_is_missed_only_when_what_is_there_does_not_do(opened, monkeypatch, code):
    with opened.write():
        pass
    file_bytes = opened.file_bytes()

    def refuse(*_):
        raise OSError(code, "full")

    monkeypatch.setattr(os, "pwrite", refuse)
    fitting = (file_bytes - opened.used_bytes()) // 2
    with opened.write(reserve_bytes=fitting) as transaction:
        transaction.put(Table.META, b"a", b"1")
    with pytest.raises(StorageError) as caught, opened.write(reserve_bytes=fitting + 1):
        pass
    assert caught.value.kind == "disk_full"
    assert opened.file_bytes() == file_bytes


def test_room_that_is_refused_for_another_reason_fails_the_write(opened, monkeypatch):
    with opened.write():
        pass

    def refuse(*_):
        raise OSError(errno.EBADF, "bad")

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(StorageError) as caught, opened.write(reserve_bytes=15 * MEBIBYTE):
        pass
    assert caught.value.kind == "io_error"


def test_block_that_fails_stores_nothing_and_the_next_one_goes_on(opened):
    def work(transaction):
        transaction.put(Table.META, b"a", b"1")
        return 1 // 0

    with pytest.raises(ZeroDivisionError), opened.write() as transaction:
        work(transaction)
    with opened.write() as transaction:
        assert not transaction.has(Table.META, b"a")


def test_suspect_mark_is_told_from_a_later_one(opened, folder):
    assert opened.suspect_mark() is None
    (folder / SUSPECT_FILE).write_text("one")
    status = (folder / SUSPECT_FILE).stat()
    assert opened.suspect_mark() == (status.st_ino, status.st_mtime_ns)
    os.utime(folder / SUSPECT_FILE, ns=(5, 5))
    assert opened.suspect_mark() == (status.st_ino, 5)
    opened.clear_suspect()
    opened.clear_suspect()
    assert opened.suspect_mark() is None


def test_fork_waits_for_the_transactions_of_other_threads_and_keeps_new_ones_out(opened):
    inside, leave, results = threading.Event(), threading.Event(), []

    def read_for_long():
        with opened.read() as transaction:
            inside.set()
            leave.wait(WAIT_S)
            with opened.read() as nested:  # one that is in already is never held up
                results.append(nested.get(Table.META, b"key"))
            results.append(transaction.get(Table.META, b"key"))

    def fork():
        opened.before_fork()
        results.append("forked")
        forked.set()
        go_on.wait(WAIT_S)
        opened.after_fork_in_parent()

    def read():
        with opened.read():
            results.append("read")

    forked, go_on = threading.Event(), threading.Event()
    reader = in_thread(read_for_long)
    assert inside.wait(WAIT_S)
    forking = in_thread(fork)
    assert not forked.wait(0.1)
    leave.set()
    assert forked.wait(WAIT_S)
    assert ended(reader)
    late = in_thread(read)
    late.join(0.1)
    assert late.is_alive()
    go_on.set()
    assert ended(late)
    assert ended(forking)
    assert results == [b"value", b"value", "forked", "read"]


def test_fork_does_not_wait_for_its_own_transaction_nor_for_ever(opened, monkeypatch):
    with opened.read():
        opened.before_fork()
        opened.after_fork_in_parent()
        monkeypatch.setattr(environment, "_FORK_WAIT_S", 0.05)
        assert ended(in_thread(lambda: (opened.before_fork(), opened.after_fork_in_parent())))
    assert ended(in_thread(lambda: opened.read().__enter__()))


def child_says(work):
    """Return what a forked child finds."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, work())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_forked_child_opens_the_file_for_itself(opened):
    raw = opened._raw

    def work():
        with opened.write() as transaction:
            transaction.put(Table.META, b"child", b"1")
            return b"fresh" if opened._raw is not raw else b"inherited"

    assert child_says(work) == b"fresh"
    with opened.write() as transaction:
        assert transaction.get(Table.META, b"child") == b"1"
    assert opened._raw is raw


def test_child_forked_inside_a_transaction_is_refused_and_its_parent_goes_on(opened, folder):
    def work():
        try:
            with opened.read():
                return b"read"
        except StateError as error:
            return (error.subject + " " + error.message).encode()

    with opened.read() as transaction:
        said = child_says(work).decode()
        assert transaction.get(Table.META, b"key") == b"value"
    assert said == f"{folder} this process was forked while a transaction of its parent was open"


def test_child_that_closes_leaves_the_parents_file_open(tmp_path):
    with open_store(tmp_path) as store:
        commit(store)

        def work():
            store.close()
            return b"closed"

        assert child_says(work) == b"closed"
        assert commit(store, "next")["success"]


def test_closing_gives_back_every_descriptor_once_the_last_user_has_gone(folder):
    before = descriptors()
    made = open_environment(folder, map_size_bytes=GIBIBYTE, durability="full")
    again = open_environment(folder, map_size_bytes=GIBIBYTE, durability="full")
    assert again is made
    close_environment(made)
    with made.read() as transaction:
        assert transaction.get(Table.META, b"key") == b"value"
    close_environment(again)
    assert descriptors() == before
    for way in (made.read, made.write):
        with pytest.raises(StateError, match="the store is closed"), way():
            pass
    assert made._visits.threads() == set()
    other = open_environment(folder, map_size_bytes=GIBIBYTE, durability="relaxed")
    assert other is not made
    close_environment(other)


@pytest.mark.parametrize(("read_only", "durability"), [(True, "full"), (False, "relaxed")])
def test_file_open_in_one_way_is_not_shared_in_another(folder, opened, read_only, durability):
    with pytest.raises(StateError, match="durability 'full'") as caught:
        open_environment(folder, map_size_bytes=GIBIBYTE, durability=durability, read_only=read_only)
    assert caught.value.subject == str(folder)


def test_file_whose_earlier_path_cannot_be_looked_at_is_not_shared(folder, opened):
    moved = folder.rename(folder.with_name("moved"))
    folder.symlink_to(folder)
    with pytest.raises(StorageError) as caught:
        open_environment(moved, map_size_bytes=GIBIBYTE, durability="full")
    assert caught.value.subject == str(folder)


def test_read_pages_are_given_back_of_an_open_file_alone(folder, monkeypatch):
    given = []
    monkeypatch.setattr(environment, "release_mapping", given.append)
    monkeypatch.setattr(environment, "drop_cached", lambda descriptor: given.append(os.fstat(descriptor)))
    made = open_environment(folder, map_size_bytes=GIBIBYTE, durability="full")
    path = folder / DATA_FILE
    made.release_pages()
    assert given == [path]
    made.drop_cached()
    assert given[:2] == [path] * 2
    assert os.path.samestat(given[2], path.stat())
    close_environment(made)
    made.release_pages()
    assert len(given) == 3


def test_pages_that_the_system_will_not_drop_are_no_error():
    pipe = os.pipe()
    try:
        drop_cached(pipe[0])
    finally:
        for descriptor in pipe:
            os.close(descriptor)


def mounted(monkeypatch, *lines):
    text = "".join(f"1 0 8:1 / {point} rw,relatime shared:1 - {kind} dev rw\n" for point, kind in lines)
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: text)


def test_file_system_is_that_of_the_longest_mount_point_above(monkeypatch):
    mounted(monkeypatch, ("/mnt/a/b", "xfs"), ("/", "ext4"), ("/mnt/a", "nfs"), ("/mnt/a/c", "tmpfs"))
    assert file_system_type(Path("/mnt/a/b/c")) == "xfs"
    assert file_system_type(Path("/mnt/a/b")) == "xfs"
    assert file_system_type(Path("/mnt/a/bc")) == "nfs"
    assert file_system_type(Path("/mnt/ab")) == "ext4"
    mounted(monkeypatch, ("/mnt/a", "nfs"), ("/mnt/a", "ext4"))
    assert file_system_type(Path("/mnt/a")) == "ext4", "what was mounted last covers the rest"
    assert file_system_type(Path("/other")) is None


@pytest.mark.parametrize(
    "kind",
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "lustre",
    ],
)
def test_every_network_file_system_is_refused_with_its_name(monkeypatch, kind):
    mounted(monkeypatch, ("/", kind))
    with pytest.raises(StorageError, match=rf"\({kind}\)") as caught:
        refuse_network_file_system(Path("/mnt/store"))
    assert (caught.value.kind, caught.value.subject) == ("network_filesystem", "/mnt/store")


def test_system_that_does_not_tell_its_mounts_refuses_nothing(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("pathlib.Path.read_text", missing)
    assert file_system_type(Path("/")) is None
    refuse_network_file_system(Path("/"))


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "bad"), lmdb.CorruptedError("bad")], ids=["system", "database"]
)
def test_error_inside_a_snapshot_is_told_as_ours_and_the_snapshot_ends(opened, folder, error):
    def fail():
        raise error

    with pytest.raises(StorageError) as caught, opened.read():
        fail()
    assert caught.value.__cause__ is error
    assert caught.value.subject == str(folder)
    assert caught.value.kind == ("io_error" if isinstance(error, OSError) else "damaged")
    assert opened._visits.threads() == set()


def test_error_of_another_kind_leaves_a_snapshot_as_it_is(opened):
    def fail():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), opened.read():
        fail()
    assert opened._visits.threads() == set()


def test_child_begins_with_locks_of_its_own_and_nobody_inside(opened):
    raw = opened._raw
    for lock in (opened._lock, opened._gate):
        lock.acquire()  # as a thread of the parent that does not exist in the child
    opened._forking_threads.add(threading.get_ident())
    opened.after_fork_in_child()
    opened._process_id = -1  # that of the parent
    with opened.read() as transaction:
        assert transaction.get(Table.META, b"key") == b"value"
    assert opened._raw is not raw
    opened.before_fork()
    opened.after_fork_in_parent()
    assert opened._visits.threads() == set()
    with opened.write() as transaction:
        transaction.put(Table.META, b"key", b"new")


def test_child_of_a_parent_inside_a_transaction_does_not_close_what_is_the_parents(opened, folder):
    with opened.read() as transaction:
        raw, process_id = opened._raw, opened._process_id
        opened.after_fork_in_child()
        opened._process_id = -1
        assert opened._raw is raw
        for _ in range(2):
            with pytest.raises(StateError, match="was forked while a transaction") as caught, opened.read():
                pass
            assert caught.value.subject == str(folder)
        opened._process_id = process_id
        assert transaction.get(Table.META, b"key") == b"value"

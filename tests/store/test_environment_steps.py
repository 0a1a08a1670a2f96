"""An open store file, call by call: what each refuses and how it says so, and what a failure leaves behind."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import lmdb
import pytest

from cas import IntegrityError, ReadOnlyStoreError, StateError, StorageError, StoreSuspectError
from cas.lmdbenv import DATA_FILE, SUSPECT_FILE, Table, environment
from cas.lmdbenv.creation import create_environment
from cas.lmdbenv.registry import close_environment, open_environment
from cas.lmdbenv.visits import Visit

GIBIBYTE = 1 << 30


@pytest.fixture
def folder(tmp_path):
    create_environment(tmp_path / "store", {b"key": b"value"})
    return tmp_path / "store"


@pytest.fixture
def opened(folder):
    made = open_environment(folder, map_size_bytes=GIBIBYTE, durability="full")
    yield made
    close_environment(made)


def failing(code):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    return fail


class Raw:
    """The database of an environment, with some of its calls replaced."""

    def __init__(self, raw, **calls):
        self._raw = raw
        self.__dict__.update(calls)

    def __getattr__(self, name):
        return getattr(self._raw, name)


class Transaction:
    """A transaction whose commit fails."""

    def __init__(self, real, error):
        self._real, self._error = real, error

    def __getattr__(self, name):
        return getattr(self._real, name)

    def commit(self):
        self._real.abort()
        raise self._error


def open_descriptors():
    return {path.name: path.resolve() for path in Path("/proc/self/fd").iterdir() if path.exists()}


def test_new_environment_is_what_it_was_asked_to_be(opened, folder):
    assert (opened.directory, opened.durability, opened.read_only) == (folder, "full", False)
    assert opened.map_size_bytes == GIBIBYTE
    assert (opened.is_gone, opened.flush_s, opened.last_flush_s) == (False, 0.0, 0.0)
    assert set(opened.tables) == set(Table)


@pytest.mark.parametrize("read_only", [False, True])
def test_own_descriptors_of_an_open_file_are_not_inherited_by_programs(folder, read_only):
    before = open_descriptors()
    made = open_environment(folder, map_size_bytes=GIBIBYTE, durability="full", read_only=read_only)
    try:
        new = {name: path for name, path in open_descriptors().items() if name not in before}
        ours = [descriptor for descriptor in (made._data_fd, made._share_fd) if descriptor >= 0]
        assert all(fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for descriptor in ours)
        for_headroom = [name for name, path in new.items() if path == folder / DATA_FILE]
        assert (made._data_fd == -1) == read_only
        if not read_only:
            assert str(made._data_fd) in for_headroom
            assert fcntl.fcntl(made._data_fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
        assert new[str(made._share_fd)] == folder
    finally:
        close_environment(made)
    assert open_descriptors() == before


def test_file_that_cannot_be_opened_gives_back_what_was_opened_for_it(folder, monkeypatch):
    before = open_descriptors()
    os.truncate(folder / DATA_FILE, 100)
    with pytest.raises(IntegrityError):
        open_environment(folder, map_size_bytes=GIBIBYTE, durability="full")
    assert open_descriptors() == before


def test_file_whose_tables_cannot_be_opened_is_closed_again(folder, monkeypatch):
    closed, real = [], environment.open_database

    def open_it(*words, **options):
        raw = real(*words, **options)
        return Raw(raw, close=lambda: closed.append(raw) or raw.close())

    def refuse(_):
        raise lmdb.NotFoundError("no table")

    before = open_descriptors()
    monkeypatch.setattr(environment, "open_database", open_it)
    monkeypatch.setattr(environment, "open_tables", refuse)
    with pytest.raises(StorageError):
        open_environment(folder, map_size_bytes=GIBIBYTE, durability="full")
    assert len(closed) == 1
    assert open_descriptors() == before


@pytest.mark.parametrize(("read_only", "looked"), [(False, 1), (True, 0)])
def test_readers_of_dead_processes_are_cleared_by_who_may_write(folder, monkeypatch, read_only, looked):
    seen, real = [], environment.open_database

    def open_it(*words, **options):
        raw = real(*words, **options)
        return Raw(raw, reader_check=lambda: seen.append(1))

    monkeypatch.setattr(environment, "open_database", open_it)
    monkeypatch.setattr(environment, "open_tables", lambda raw: environment_tables(raw._raw))
    made = open_environment(folder, map_size_bytes=GIBIBYTE, durability="full", read_only=read_only)
    close_environment(made)
    assert len(seen) == looked


environment_tables = environment.open_tables


def test_tables_are_opened_with_the_file_held_by_who_may_write(folder, monkeypatch):
    from cas.lmdbenv import locks

    held = []
    monkeypatch.setattr(
        environment, "open_tables", lambda raw: held.append(len(locks._owned)) or environment_tables(raw)
    )
    for read_only in (False, True):
        made = open_environment(folder, map_size_bytes=GIBIBYTE, durability="full", read_only=read_only)
        close_environment(made)
    assert held == [1, 0]


def test_write_to_a_store_that_is_only_read_is_refused_by_its_folder(folder):
    made = open_environment(folder, map_size_bytes=GIBIBYTE, durability="full", read_only=True)
    try:
        with pytest.raises(ReadOnlyStoreError) as caught, made.write():
            pass
        assert caught.value.subject == str(folder)
    finally:
        close_environment(made)


def test_closed_store_says_what_to_do(folder):
    made = open_environment(folder, map_size_bytes=GIBIBYTE, durability="full")
    close_environment(made)
    for call in (made.read().__enter__, made.used_bytes, made.write().__enter__):
        with pytest.raises(StateError, match="the store is closed") as caught:
            call()
        assert caught.value.hint == "Open a new ArtifactStore."
    assert made.is_gone
    assert set(made._visits.threads()) == set()


def test_suspect_store_refuses_writes_and_names_its_folder(opened, folder):
    opened.check_suspect()
    (folder / SUSPECT_FILE).touch()
    for call in (opened.check_suspect, opened.write().__enter__):
        with pytest.raises(StoreSuspectError) as caught:
            call()
        assert caught.value.subject == str(folder)
        assert "cas verify --full" in caught.value.hint
    opened.clear_suspect()
    with opened.write() as transaction:
        transaction.put(Table.META, b"a", b"1")


def test_mark_is_lifted_durably(opened, folder, monkeypatch):
    synced = []
    (folder / SUSPECT_FILE).touch()
    monkeypatch.setattr(environment, "sync_directory", synced.append)
    opened.clear_suspect()
    assert synced == [folder]
    assert not (folder / SUSPECT_FILE).exists()


def test_transaction_knows_whether_it_is_stored(opened):
    with opened.write() as transaction:
        assert transaction.is_stored is None
    assert transaction.is_stored is True
    with pytest.raises(ZeroDivisionError), opened.write() as transaction:
        raise ZeroDivisionError
    assert transaction.is_stored is False


def test_commit_that_fails_stores_nothing_and_the_file_is_opened_anew(opened, monkeypatch):
    raw = opened._raw
    broken = Raw(raw, begin=lambda **how: Transaction(raw.begin(**how), lmdb.DiskError("no")))
    monkeypatch.setattr(opened, "_raw", broken)
    with pytest.raises(StorageError), opened.write() as transaction:
        transaction.put(Table.META, b"a", b"1")
    assert transaction.is_stored is False
    assert opened.last_flush_s == 0.0
    with opened.read() as transaction:
        assert transaction.get(Table.META, b"a") is None
    assert opened._raw is not broken
    assert opened._must_reopen is False
    with opened.write() as transaction:
        transaction.put(Table.META, b"a", b"1")
    assert opened.last_flush_s > 0


def test_store_whose_file_went_is_refused_before_anything_is_written(opened, folder):
    (folder / DATA_FILE).rename(folder / "moved")
    with pytest.raises(StorageError) as caught, opened.write():
        raise AssertionError("begun")
    assert (caught.value.kind, caught.value.subject) == ("not_a_store", str(folder))
    (folder / "moved").rename(folder / DATA_FILE)
    with opened.write() as transaction:
        transaction.put(Table.META, b"a", b"1")


def test_sizes_are_those_of_the_file_and_of_its_last_page(opened, folder):
    info = opened._raw.info()
    assert opened.used_bytes() == (info["last_pgno"] + 1) * opened._raw.stat()["psize"]
    assert opened.file_bytes() == (folder / DATA_FILE).stat().st_size


@pytest.mark.parametrize("call", ["file_bytes", "drop_cached"])
def test_file_out_of_reach_is_told_by_name(opened, folder, call):
    (folder / DATA_FILE).rename(folder / "moved")
    with pytest.raises(StorageError) as caught:
        getattr(opened, call)()
    assert (caught.value.kind, caught.value.subject) == ("not_a_store", str(folder))
    (folder / "moved").rename(folder / DATA_FILE)


def test_cache_is_dropped_of_the_whole_file_and_nothing_left_open(opened, folder, monkeypatch):
    dropped, released = [], []
    monkeypatch.setattr(
        environment, "drop_cached", lambda *given: dropped.append((os.fstat(given[0]).st_ino, given[1:]))
    )
    monkeypatch.setattr(environment, "release_mapping", released.append)
    before = open_descriptors()
    opened.drop_cached()
    assert dropped == [((folder / DATA_FILE).stat().st_ino, ())]
    assert released == [folder / DATA_FILE]
    assert open_descriptors() == before


def test_copy_is_compact_and_consistent(opened, tmp_path):
    with opened.write() as transaction:
        transaction.put(Table.BLOBS, b"large", bytes(3_000_000))
    with opened.write() as transaction:
        transaction.delete(Table.BLOBS, b"large")
    (tmp_path / "copy").mkdir()
    opened.copy_to(tmp_path / "copy")
    assert (tmp_path / "copy" / DATA_FILE).stat().st_size < 1_000_000
    copy = open_environment(tmp_path / "copy", map_size_bytes=GIBIBYTE, durability="full", read_only=True)
    with copy.read() as transaction:
        assert transaction.get(Table.META, b"key") == b"value"
    close_environment(copy)


@pytest.mark.parametrize(
    ("code", "kind", "marked"), [(errno.ENOSPC, "disk_full", False), (errno.EIO, "io_error", True)]
)
def test_copy_that_fails_is_told_of_its_own_folder(opened, folder, tmp_path, monkeypatch, code, kind, marked):
    from cas.lmdbenv import faults

    monkeypatch.setattr(faults, "_is_full", lambda _: False)
    (tmp_path / "copy").mkdir()
    monkeypatch.setattr(opened, "_raw", Raw(opened._raw, copy=failing(code)))
    with pytest.raises(StorageError) as caught:
        opened.copy_to(tmp_path / "copy")
    assert (caught.value.kind, caught.value.subject) == (kind, str(tmp_path / "copy"))
    assert (tmp_path / "copy" / SUSPECT_FILE).exists() == marked
    assert not (folder / SUSPECT_FILE).exists()


def test_thread_inside_is_known_until_the_last_of_its_visits_ends(opened):
    thread = threading.get_ident()
    visit = Visit()
    opened.enter(visit)
    with opened.holding_off_forks():
        assert set(opened._visits.threads()) == {thread}
    assert set(opened._visits.threads()) == {thread}
    for _ in range(2):  # a second word of the same end changes nothing
        opened.leave(visit)
        assert set(opened._visits.threads()) == set()


def test_users_are_counted_and_the_last_one_closes(folder):
    one = open_environment(folder, map_size_bytes=GIBIBYTE, durability="full")
    assert open_environment(folder, map_size_bytes=GIBIBYTE, durability="full") is one
    close_environment(one)
    assert not one.is_gone
    with one.read() as transaction:
        assert transaction.get(Table.META, b"key") == b"value"
        close_environment(one)
        assert not one.is_gone
        assert one.retain()
        one.release()
    assert one.is_gone
    assert not one.retain()


def test_forked_process_that_finds_an_open_transaction_is_told_how_to_start_workers(
    opened, folder, monkeypatch
):
    monkeypatch.setattr(opened, "_process_id", -1)
    with pytest.raises(StateError, match="forked while a transaction") as caught, opened.read():
        pass
    monkeypatch.undo()
    assert caught.value.subject == str(folder)
    assert "spawn or forkserver" in caught.value.hint
    assert set(opened._visits.threads()) == set()


@pytest.mark.parametrize(
    ("way", "first"),
    [("read", lmdb.MapResizedError), ("read", lmdb.ReadersFullError), ("write", lmdb.MapResizedError)],
)
def test_transaction_begun_at_the_second_try_reads_without_copying_as_ever(opened, monkeypatch, way, first):
    begun, raw = [], opened._raw

    def begin(**how):
        begun.append(how)
        if len(begun) == 1:
            raise first("at the first try")
        return raw.begin(**how)

    monkeypatch.setattr(opened, "_raw", Raw(raw, begin=begin, set_mapsize=lambda _: None))
    with getattr(opened, way)():
        assert begun[0] == begun[1] == ({"buffers": True} | ({"write": True} if way == "write" else {}))

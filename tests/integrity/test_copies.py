"""A store file's compacted copy from inside: its room, its comparison row by row, and both locks around it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from cas import IntegrityError, StateError, StorageError
from cas.lmdbenv import DATA_FILE, LOCK_FILE, Table, compaction
from cas.lmdbenv.creation import create_environment
from cas.lmdbenv.registry import close_environment, open_environment

pytestmark = pytest.mark.usefixtures("no_descriptor_is_left")

MAP_BYTES = 1 << 30
MEBIBYTE = 1 << 20


@pytest.fixture
def folder(tmp_path):
    """A closed store with rows in two tables and much free room."""
    path = tmp_path / "store"
    create_environment(path, {b"key": b"value"})
    environment = open_environment(path, map_size_bytes=MAP_BYTES, durability="full")
    with environment.write() as transaction:
        for number in range(40):
            transaction.put(Table.BLOBS, b"%d" % number, bytes([number]) * 50_000)
        transaction.put(Table.META, b"second", b"row")
    with environment.write() as transaction:
        for number in range(39):
            transaction.delete(Table.BLOBS, b"%d" % number)
    close_environment(environment)
    return path


def compact(folder):
    return compaction.compact_environment(folder, map_size_bytes=MAP_BYTES)


def rows(folder):
    environment = open_environment(folder, map_size_bytes=MAP_BYTES, durability="full", read_only=True)
    try:
        with environment.read() as transaction:
            return {table: dict(transaction.scan(table)) for table in Table}
    finally:
        close_environment(environment)


def identity(path):
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def test_compaction_tells_the_sizes_before_and_after_and_keeps_the_rows(folder):
    before_rows, before_bytes = rows(folder), (folder / DATA_FILE).stat().st_size
    old = os.umask(0)
    try:
        told = compact(folder)
    finally:
        os.umask(old)
    assert told == (before_bytes, (folder / DATA_FILE).stat().st_size)
    assert told[1] < MEBIBYTE < told[0]
    assert rows(folder) == before_rows
    assert stat.S_IMODE((folder / DATA_FILE).stat().st_mode) == 0o600
    assert not list(folder.glob("compact-*"))


def test_compaction_syncs_the_copy_before_it_gets_the_name_and_the_folder_after(folder, monkeypatch):
    steps, fsync, replace = [], os.fsync, Path.replace

    def synced(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        steps.append(("sync", path.name if path.is_file() else "folder"))
        fsync(descriptor)

    def renamed(self, target):
        steps.append(("rename", Path(target).name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    compact(folder)
    assert steps[-3:] == [("sync", DATA_FILE), ("rename", DATA_FILE), ("sync", "folder")]


def test_copy_of_an_earlier_compaction_goes_first(folder):
    (folder / "compact-dead").mkdir()
    (folder / "compact-dead" / DATA_FILE).write_bytes(b"old")
    compact(folder)
    assert not list(folder.glob("compact-*"))


def test_copy_is_made_under_a_name_that_the_next_compaction_knows(folder, monkeypatch):
    copy, names = compaction._copy, []

    def look(directory, temporary, map_size_bytes):
        names.append((temporary.parent, temporary.name))
        copy(directory, temporary, map_size_bytes)

    monkeypatch.setattr(compaction, "_copy", look)
    compact(folder)
    ((parent, name),) = names
    assert parent == folder
    assert name.startswith("compact-")


def test_copys_folder_that_cannot_be_removed_does_not_undo_what_was_done(folder, monkeypatch):
    before = rows(folder)
    remove = os.rmdir

    def refuse(path, **options):
        if "compact-" in str(path):
            raise OSError(errno.EACCES, "no")
        remove(path, **options)

    monkeypatch.setattr(os, "rmdir", refuse)
    assert compact(folder)[1] < MEBIBYTE
    monkeypatch.undo()
    assert rows(folder) == before


def test_compaction_of_a_missing_or_cut_file_is_refused(folder, tmp_path):
    with pytest.raises(StorageError) as caught:
        compact(tmp_path / "nowhere")
    assert (caught.value.kind, caught.value.subject) == ("not_a_store", str(tmp_path / "nowhere"))
    os.truncate(folder / DATA_FILE, 4096)
    with pytest.raises(IntegrityError, match="truncated"):
        compact(folder)


def holder_of_lmdbs_lock(folder):
    """Another program that has the store open: LMDB tells by the first byte of its lock file."""
    script = (
        "import fcntl, sys\n"
        f"file = open({str(folder / LOCK_FILE)!r}, 'r+b')\n"
        "fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, int(sys.argv[1]), int(sys.argv[2]))\n"
        "print('held', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    return lambda length, start: subprocess.Popen(
        [sys.executable, "-c", script, str(length), str(start)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_store_that_another_program_has_open_is_not_touched(folder):
    (folder / LOCK_FILE).touch()
    before = identity(folder / DATA_FILE)
    with holder_of_lmdbs_lock(folder)(1, 0) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateError) as caught:
            compact(folder)
        holder.stdin.close()
    error = caught.value
    assert (error.kind, error.retryable, error.subject) == ("store_in_use", True, str(folder))
    assert "freed room is reused" in error.hint
    assert identity(folder / DATA_FILE) == before
    assert compact(folder)


def test_only_lmdbs_own_byte_of_the_lock_file_counts(folder):
    with holder_of_lmdbs_lock(folder)(0, 1) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert compact(folder)
        holder.stdin.close()


def test_lmdbs_lock_is_held_and_made_private_while_the_copy_is_made(folder, monkeypatch):
    copy, seen = compaction._copy, []
    (folder / LOCK_FILE).unlink(missing_ok=True)

    def look(*arguments):
        probe = (
            "import fcntl, sys\n"
            "file = open(sys.argv[1], 'r+b')\n"
            "try: fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 0)\n"
            "except BlockingIOError: print('busy')\n"
        )
        seen.append(
            subprocess.run(
                [sys.executable, "-c", probe, folder / LOCK_FILE], capture_output=True, text=True, check=True
            ).stdout
        )
        seen.extend(
            bool(fcntl.fcntl(int(path.name), fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
            for path in Path("/proc/self/fd").iterdir()
            if path.exists() and path.resolve() == folder / LOCK_FILE
        )
        copy(*arguments)

    monkeypatch.setattr(compaction, "_copy", look)
    old = os.umask(0)
    try:
        compact(folder)
    finally:
        os.umask(old)
    assert seen == ["busy\n", True]
    assert stat.S_IMODE((folder / LOCK_FILE).stat().st_mode) == 0o600


def test_room_for_the_bytes_in_use_and_some_more_is_asked_for(folder, monkeypatch):
    with lmdb.open(str(folder), max_dbs=16, readonly=True, lock=False) as raw:
        used_bytes = (raw.info()["last_pgno"] + 1) * raw.stat()["psize"]
    assert used_bytes > MEBIBYTE
    needed_bytes = used_bytes + 16 * MEBIBYTE
    asked = []

    def usage(free_bytes):
        return lambda path: asked.append(path) or type("Usage", (), {"free": free_bytes})

    before = identity(folder / DATA_FILE)
    monkeypatch.setattr(compaction.shutil, "disk_usage", usage(needed_bytes - 1))
    with pytest.raises(StorageError) as caught:
        compact(folder)
    assert (caught.value.kind, caught.value.subject) == ("disk_full", str(folder))
    assert str(needed_bytes) in caught.value.message
    assert asked == [folder]
    assert identity(folder / DATA_FILE) == before
    assert not list(folder.glob("compact-*"))
    monkeypatch.setattr(compaction.shutil, "disk_usage", usage(needed_bytes))
    assert compact(folder)


def test_disk_that_fails_at_the_end_leaves_the_store_and_no_copy(folder, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    before = rows(folder)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageError) as caught:
        compact(folder)
    monkeypatch.undo()
    assert (caught.value.kind, caught.value.subject) == ("disk_full", str(folder))
    assert rows(folder) == before
    assert not list(folder.glob("compact-*"))


def database(path, tables):
    """A database of LMDB's own with some tables, opened as compaction opens one."""
    path.mkdir()
    with lmdb.open(str(path), max_dbs=16, map_size=MEBIBYTE) as raw:
        for name, content in tables.items():
            handle = raw.open_db(name)
            with raw.begin(write=True) as transaction:
                for key, value in content.items():
                    transaction.put(key, value, db=handle)
    return compaction._open_unlocked(path, MEBIBYTE)


SAME = {b"one": {b"a": b"1", b"b": b"2"}, b"two": {b"c": b"3"}}


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        (SAME, True),
        (SAME | {b"one": {b"a": b"1", b"b": b"9"}}, False),
        (SAME | {b"one": {b"a": b"1", b"x": b"2"}}, False),
        (SAME | {b"one": {b"a": b"1"}}, False),
        (SAME | {b"two": {b"c": b"3", b"d": b"4"}}, False),
        (SAME | {b"two": {}}, False),
        (SAME | {b"three": {}}, False),
        ({b"one": SAME[b"one"]}, False),
    ],
    ids=["same", "value", "key", "row-less", "row-more", "empty", "table-more", "table-less"],
)
def test_copy_is_compared_table_by_table_and_row_by_row(tmp_path, other, is_same):
    left, right = database(tmp_path / "left", SAME), database(tmp_path / "right", other)
    try:
        if is_same:
            compaction._check_same(left, right)
        else:
            with pytest.raises(IntegrityError, match="not what the store holds") as caught:
                compaction._check_same(left, right)
            assert "cas verify --full" in caught.value.hint
    finally:
        left.close()
        right.close()


def test_copy_is_read_without_lmdbs_locks_and_never_written(tmp_path):
    raw = database(tmp_path / "store", SAME)
    (tmp_path / "store" / "lock.mdb").unlink()
    try:
        assert raw.flags()["readonly"]
        assert not raw.flags()["lock"]
        assert raw.flags()["readahead"]
        assert raw.info()["map_size"] == MEBIBYTE
        assert raw.open_db(b"one", create=False)
    finally:
        raw.close()
    with pytest.raises(lmdb.Error):
        compaction._open_unlocked(tmp_path / "missing", MEBIBYTE)
    assert not (tmp_path / "missing").exists()
    assert not (tmp_path / "store" / "lock.mdb").exists()

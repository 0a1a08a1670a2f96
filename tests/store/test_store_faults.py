"""What the database and the file system say, as errors of ours: kind, whether to try again, and the mark it leaves."""

import errno
import os
from types import SimpleNamespace

import lmdb
import pytest

from cas import IntegrityError, ReadOnlyStoreError, StorageError
from cas.lmdbenv import DATA_FILE, SUSPECT_FILE, faults
from tests.store.stores import commit, open_store

MEBIBYTE = 1 << 20
PAGE_BYTES = 4096


def failing(error, **how):
    """Return what becomes of an error inside the block that maps errors."""
    with pytest.raises(StorageError) as caught, faults.mapped_errors(how.pop("path"), **how):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (lmdb.MapFullError("full"), "map_full", False),
        (lmdb.PanicError("panic"), "io_error", True),
        (lmdb.ReadersFullError("full"), "readers_full", True),
    ],
    ids=["map-full", "panic", "readers-full"],
)
def test_error_of_the_database_has_a_kind(tmp_path, error, kind, retryable):
    found = failing(error, path=tmp_path, writing=True)
    assert (found.kind, found.retryable) == (kind, retryable)
    assert found.subject == (None if kind == "readers_full" else str(tmp_path))
    assert found.hint or kind == "readers_full"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "kind",
    [
        lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError,
        lmdb.IncompatibleError, lmdb.BadChecksumError, lmdb.ProblemError,
    ],
)  # fmt: skip
def test_damage_seen_by_the_database_is_an_integrity_error(tmp_path, kind):
    found = failing(kind("bad"), path=tmp_path)
    assert isinstance(found, IntegrityError)
    assert kind.__name__ in found.message
    assert found.subject == str(tmp_path)


def test_error_of_the_system_inside_the_database_is_told_as_the_systems(tmp_path):
    class FullError(lmdb.Error):
        code = errno.ENOSPC

    class UnknownError(lmdb.Error):
        code = -30000

    assert failing(FullError("x"), path=tmp_path).kind == "disk_full"
    found = failing(UnknownError("what"), path=tmp_path)
    assert "UnknownError: what" in found.message
    assert (found.kind, found.subject) == ("storage_error", str(tmp_path))


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        (errno.ENOSPC, "disk_full", True),
        (errno.EDQUOT, "disk_full", True),
        (errno.ENOENT, "not_a_store", False),
        (errno.ENOTDIR, "not_a_store", False),
        (errno.EEXIST, "not_a_store", False),
        (errno.EACCES, "permission_denied", False),
        (errno.EPERM, "permission_denied", False),
        (errno.ENOMEM, "storage_error", False),
        (errno.EIO, "io_error", False),
        (errno.EBADF, "io_error", False),
    ],
)
def test_error_of_the_file_system_has_a_kind_and_leaves_no_mark_when_nothing_was_written(
    tmp_path, code, kind, retryable
):
    found = failing(OSError(code, "said"), path=tmp_path)
    assert (found.kind, found.retryable, found.subject) == (kind, retryable, str(tmp_path))
    assert str(tmp_path) in found.message
    assert list(tmp_path.iterdir()) == []


def test_unknown_error_says_what_the_system_calls_it_or_what_it_says_itself(tmp_path):
    assert failing(OSError(errno.EBADF, "said"), path=tmp_path).message.endswith(os.strerror(errno.EBADF))
    assert failing(OSError("no number"), path=tmp_path).message.endswith("no number")


def test_read_only_file_system_has_an_error_of_its_own(tmp_path):
    found = failing(OSError(errno.EROFS, "said"), path=tmp_path, writing=True)
    assert isinstance(found, ReadOnlyStoreError)
    assert found.subject == str(tmp_path)


def room(free_bytes):
    return lambda path: SimpleNamespace(f_bavail=free_bytes // 512, f_frsize=512)


def test_failed_write_marks_the_store_on_a_disk_with_room(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", room(32 * MEBIBYTE))
    for code in (errno.EBADF, errno.EACCES, errno.EROFS):
        failing(OSError(code, "said"), path=tmp_path, writing=True)
    assert not (tmp_path / SUSPECT_FILE).exists()
    assert failing(OSError(errno.EIO, "said"), path=tmp_path, writing=True).kind == "io_error"
    assert "cas verify --full" in (tmp_path / SUSPECT_FILE).read_text()


def test_failed_write_on_a_disk_without_room_is_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", room(32 * MEBIBYTE - 512))
    assert failing(OSError(errno.EIO, "said"), path=tmp_path, writing=True).kind == "disk_full"
    assert failing(OSError(errno.EIO, "said"), path=tmp_path).kind == "io_error"
    assert not (tmp_path / SUSPECT_FILE).exists()


def test_disk_that_says_nothing_and_refuses_the_mark_is_a_failed_one(tmp_path):
    assert failing(OSError(errno.EIO, "said"), path=tmp_path / "gone", writing=True).kind == "io_error"


def meta(transaction, last_page, page_bytes=PAGE_BYTES, magic=0xBEEFC0DE):
    """Bytes of one of LMDB's two meta pages, by its layout on a 64-bit machine."""
    fields = [
        bytes(16), magic.to_bytes(4, "little"), bytes(4 + 8 + 8), page_bytes.to_bytes(4, "little"), bytes(44 + 48),
        last_page.to_bytes(8, "little"), transaction.to_bytes(8, "little"),
    ]  # fmt: skip
    return b"".join(fields).ljust(page_bytes, b"\0")


@pytest.mark.parametrize(
    ("pages", "needed_pages"),
    [
        ([meta(5, 9), meta(6, 3)], 4),
        ([meta(6, 3), meta(5, 9)], 4),
        ([meta(6, 3), meta(7, 9)], 10),
        ([meta(6, 3), meta(7, 9, magic=1)], 4),
        ([meta(6, 3, magic=1), meta(5, 9)], 10),
        ([meta(256, 2**8), meta(255, 3)], 257),
    ],
    ids=["second", "first", "longer", "bad-second", "bad-first", "wide"],
)
def test_file_must_reach_as_far_as_its_newest_meta_page_says(tmp_path, pages, needed_pages):
    path = tmp_path / DATA_FILE
    path.write_bytes(b"".join(pages))
    os.truncate(path, needed_pages * PAGE_BYTES)
    faults.check_length(path)
    os.truncate(path, needed_pages * PAGE_BYTES - 1)
    with pytest.raises(IntegrityError, match="truncated") as caught:
        faults.check_length(path)
    assert caught.value.subject == str(path)


@pytest.mark.parametrize(
    "head",
    [b"", bytes(PAGE_BYTES * 4), meta(1, 1, page_bytes=65537) * 2, meta(1, 1, magic=1) * 2],
    ids=["empty", "zeroes", "page-size", "magic"],
)
def test_file_without_a_meta_page_is_not_a_store(tmp_path, head):
    (tmp_path / DATA_FILE).write_bytes(head)
    with pytest.raises(IntegrityError):
        faults.check_length(tmp_path / DATA_FILE)


def test_file_with_the_largest_pages_is_measured_by_them(tmp_path):
    path = tmp_path / DATA_FILE
    path.write_bytes(meta(1, 1, page_bytes=65536) + meta(2, 2, page_bytes=65536))
    with pytest.raises(IntegrityError):
        faults.check_length(path)
    os.truncate(path, 3 * 65536)
    faults.check_length(path)


def test_length_of_a_real_store_is_that_of_its_last_page(tmp_path):
    with open_store(tmp_path) as store:
        commit(store)
    with open_store(tmp_path, read_only=True) as store:
        used_bytes = store.environment.used_bytes()
        path = store.environment.directory / DATA_FILE
    os.truncate(path, used_bytes)
    faults.check_length(path)
    os.truncate(path, used_bytes - 1)
    with pytest.raises(IntegrityError):
        faults.check_length(path)
    with pytest.raises(StorageError) as caught:
        faults.check_length(path.with_name("other"))
    assert (caught.value.kind, caught.value.subject) == ("not_a_store", str(path.with_name("other")))

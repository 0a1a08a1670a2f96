"""Faults: errors of lmdb and of the file system as ours, and the mark left by a write that failed.

Invariant: the only place where errors of the database become ours.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

import lmdb

from cas.errors import IntegrityError, ReadOnlyStoreError, StorageError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

SUSPECT_FILE: Final = "suspect"
MAX_READERS: Final = 1024  # one slot per reading thread of all processes; a slot costs 64 bytes of lock file
# Below this much free space a failed write is called a full disk, whatever errno the file system chose.
_DISK_FULL_BYTES: Final = 32 * 1024 * 1024


def sync_directory(directory: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_length(data_path: Path) -> None:
    """Refuse a file shorter than its meta page says: reading past its end would kill the process with SIGBUS.

    Raises:
        IntegrityError: It is, or it has no meta page.
        StorageError: It is missing or cannot be read.
    """
    try:
        with data_path.open("rb") as file:
            head = file.read(_META_PAGES_BYTES)
            length_bytes = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise storage_error(error, data_path) from error
    last_page = _last_page(head)
    if last_page is None or (last_page + 1) * _page_bytes(head) > length_bytes:
        raise IntegrityError(
            "the store file is truncated or not a store",
            hint="Restore it from a backup; `cas doctor` shows what is known about the file.",
            subject=str(data_path),
        )


# Positions in LMDB 0.9's two meta pages on a 64-bit machine, from MDB_meta in its mdb.c: after a page header of 16
# bytes come magic, version, address, map size, two MDB_db records of 48 bytes, the last page and the transaction id.
# The page size stands in the first record's md_pad.
_PAGE_HEADER_BYTES: Final = 16
_META_MAGIC: Final = 0xBEEFC0DE
_PAGE_SIZE_AT: Final = _PAGE_HEADER_BYTES + 24
_LAST_PAGE_AT: Final = _PAGE_HEADER_BYTES + 24 + 2 * 48
_TRANSACTION_AT: Final = _LAST_PAGE_AT + 8
_LARGEST_PAGE_BYTES: Final = 65536
_META_PAGES_BYTES: Final = _LARGEST_PAGE_BYTES + _TRANSACTION_AT + 8


def _page_bytes(head: bytes) -> int:
    return int.from_bytes(head[_PAGE_SIZE_AT : _PAGE_SIZE_AT + 4], "little")


def _last_page(head: bytes) -> int | None:
    page_bytes = _page_bytes(head)
    if not 0 < page_bytes <= _LARGEST_PAGE_BYTES:
        return None
    found: list[tuple[int, int]] = []
    for start in (0, page_bytes):
        meta = head[start : start + _TRANSACTION_AT + 8]
        if int.from_bytes(meta[_PAGE_HEADER_BYTES : _PAGE_HEADER_BYTES + 4], "little") != _META_MAGIC:
            continue
        last = int.from_bytes(meta[_LAST_PAGE_AT : _LAST_PAGE_AT + 8], "little")
        transaction = int.from_bytes(meta[_TRANSACTION_AT : _TRANSACTION_AT + 8], "little")
        found.append((transaction, last))
    return max(found)[1] if found else None


@contextlib.contextmanager
def mapped_errors(path: Path, *, writing: bool = False) -> Generator[None]:
    """Turn errors of lmdb and of the file system into ours; the only place where that is done for the store.

    Args:
        path: Folder of the store, for the text and for the mark.
        writing: The block writes: an I/O error there marks the store suspect.
    """
    try:
        yield
    except (lmdb.Error, OSError) as error:
        raise as_ours(error, path, writing=writing) from error


def as_ours(error: lmdb.Error | OSError, path: Path, *, writing: bool = False) -> StorageError:
    """Return our error for one of lmdb's or of the file system's; see `mapped_errors`."""
    if isinstance(error, lmdb.Error):
        return _from_lmdb(error, path, writing=writing)
    return storage_error(error, path, writing=writing)


def _from_lmdb(error: lmdb.Error, path: Path, *, writing: bool) -> StorageError:
    if isinstance(error, lmdb.MapFullError):
        return StorageError(
            "the store has reached its map size",
            kind="map_full",
            hint="Raise map_size_bytes (CAS_MAP_SIZE_BYTES), or free space with `cas gc`.",
            subject=str(path),
        )
    if isinstance(error, lmdb.PanicError):
        return StorageError(
            "an earlier write to this store failed, and other threads still use the file as it was opened then",
            kind="io_error",
            retryable=True,
            hint="Repeat the call once their calls have ended.",
            subject=str(path),
        )
    if isinstance(error, lmdb.ReadersFullError):
        return StorageError(
            f"more than {MAX_READERS} threads read the store at once", kind="readers_full", retryable=True
        )
    if isinstance(error, _DAMAGE):
        return IntegrityError(
            f"the store file is damaged ({type(error).__name__})",
            hint="Run `cas verify --full`, or restore a backup.",
            subject=str(path),
        )
    code = getattr(error, "code", 0)
    if isinstance(code, int) and code > 0:
        return storage_error(OSError(code, os.strerror(code)), path, writing=writing)
    return StorageError(f"the store could not be used ({type(error).__name__}: {error})", subject=str(path))


_DAMAGE: Final = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.BadChecksumError,
    lmdb.ProblemError,
)


# What has nothing to do with the disk's health: kind, text, hint.
_PLAIN: Final = {
    errno.ENOENT: ("not_a_store", "there is no store at {path}", "Run `cas init` there."),
    errno.ENOTDIR: ("not_a_store", "a part of {path} is not a folder", None),
    errno.EEXIST: ("not_a_store", "a part of {path} is not a folder", None),
    errno.ENAMETOOLONG: ("not_a_store", "{path} is longer than a path can be", None),
    errno.EACCES: ("permission_denied", "no permission to use {path}", None),
    errno.EPERM: ("permission_denied", "no permission to use {path}", None),
    errno.ENOMEM: (
        "storage_error",
        "not enough memory or address space for {path}",
        "Lower map_size_bytes (CAS_MAP_SIZE_BYTES), or raise the limit (ulimit -v).",
    ),
}


def storage_error(error: OSError, path: Path, *, writing: bool = False) -> StorageError:
    """Return our error for one of the file system's, marking the store suspect after a failed write."""
    code = error.errno or 0
    text = os.strerror(code) if code else str(error)
    if code in {errno.ENOSPC, errno.EDQUOT} or (writing and code == errno.EIO and _is_full(path)):
        return StorageError(
            f"the disk of {path} is full",
            kind="disk_full",
            retryable=True,
            hint="Free space, then repeat the call; nothing of it was stored.",
            subject=str(path),
        )
    if code in {errno.EMFILE, errno.ENFILE}:
        return StorageError(
            f"too many open files to use {path}",
            kind="storage_error",
            retryable=True,
            hint="Raise the limit (ulimit -n), or close what is not needed.",
            subject=str(path),
        )
    if code in _PLAIN:
        kind, says, hint = _PLAIN[code]
        return StorageError(says.format(path=path), kind=kind, hint=hint, subject=str(path))
    if code == errno.EROFS:
        return ReadOnlyStoreError(f"{path} lies on a read-only file system", subject=str(path))
    if code == errno.EIO and writing:
        _mark_suspect(path)
    return StorageError(f"the disk of {path} failed: {text}", kind="io_error", subject=str(path))


def _is_full(path: Path) -> bool:
    try:
        status = os.statvfs(path)
    except OSError:
        return False
    return status.f_bavail * status.f_frsize < _DISK_FULL_BYTES


def suspect_mark(directory: Path) -> tuple[int, int] | None:
    """Return what tells a store's suspect mark from a later one, or None when there is none.

    Raises:
        StorageError: This user may not look into the folder, or a disk refused.
    """
    with mapped_errors(directory):
        try:
            status = (directory / SUSPECT_FILE).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns


def _mark_suspect(directory: Path) -> None:
    try:
        (directory / SUSPECT_FILE).write_text("a write failed; run `cas verify --full`\n")
        sync_directory(directory)
    except OSError:
        # The disk that just failed may refuse the mark as well; the error on its way up already says what happened.
        return

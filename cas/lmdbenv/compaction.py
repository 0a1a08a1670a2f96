"""Copies of a store file: compaction in place, and the sizes and rows by which a copy is checked.

LMDB files never shrink. Compaction writes what lives into a new file and renames it over the old one. Invariant: that
happens only while no process has the store open, which the locks of `cas.lmdbenv.locks` and LMDB's own lock byte both
say; whoever opens it meanwhile waits, and gets the new file. A crash leaves the old file or the new one, whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import lmdb

from cas.errors import IntegrityError, StateError, StorageError
from cas.lmdbenv.creation import DATA_FILE, FILE_MODE, LOCK_FILE, MAX_TABLES
from cas.lmdbenv.faults import check_length, mapped_errors, sync_directory
from cas.lmdbenv.locks import hold_alone

if TYPE_CHECKING:
    from collections.abc import Generator

_PREFIX: Final = "compact-"
# Free space asked for beyond the bytes in use.
_SPARE_BYTES: Final = 16 * 1024 * 1024


def compact_environment(directory: Path, *, map_size_bytes: int) -> tuple[int, int]:
    """Replace the store file by a copy without free pages.

    Args:
        directory: Folder of the store; no process may have it open, this one included.
        map_size_bytes: Address space to map it with.

    Returns:
        Size of the file in bytes, before and after.

    Raises:
        StateError: Somebody has the store open.
        StorageError: There is not enough room, or the disk refused; the store is as it was.
        IntegrityError: The copy is not what the store holds; the store is as it was.
    """
    data_path = directory / DATA_FILE
    with mapped_errors(directory), _alone(directory):
        check_length(data_path)
        before_bytes = data_path.stat().st_size
        for stale in directory.glob(_PREFIX + "*"):
            shutil.rmtree(stale)
        temporary = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=directory))
        try:
            _copy(directory, temporary, map_size_bytes)
            (temporary / DATA_FILE).replace(data_path)
            sync_directory(directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return before_bytes, data_path.stat().st_size


@contextlib.contextmanager
def _alone(directory: Path) -> Generator[None]:
    """Hold both locks that say who has the store open."""
    in_use = StateError(
        "the store is in use, and its file can only be replaced while nobody has it open",
        kind="store_in_use",
        retryable=True,
        hint="Stop the processes that use it, or leave out the compaction: freed room is reused in any case.",
        subject=str(directory),
    )
    with hold_alone(directory) as is_alone:
        if not is_alone:
            raise in_use
        # LMDB's own byte as well: a program that is not ours may have it open. The descriptor is closed at the end
        # only, as closing any one of a file gives up all such locks of a process.
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
            except (BlockingIOError, PermissionError):
                raise in_use from None
            yield
        finally:
            os.close(descriptor)


def _copy(directory: Path, temporary: Path, map_size_bytes: int) -> None:
    # Without LMDB's locks, which would close the descriptor that holds ours; nobody writes while we hold them.
    old = _open_unlocked(directory, map_size_bytes)
    try:
        used_bytes = (int(old.info()["last_pgno"]) + 1) * int(old.stat()["psize"])
        if shutil.disk_usage(directory).free < used_bytes + _SPARE_BYTES:
            raise StorageError(
                f"compaction needs {used_bytes + _SPARE_BYTES} free bytes beside the store",
                kind="disk_full",
                subject=str(directory),
            )
        old.copy(str(temporary), compact=True)
        new = _open_unlocked(temporary, map_size_bytes)
        try:
            _check_same(old, new)
        finally:
            new.close()
    finally:
        old.close()
    path = temporary / DATA_FILE
    path.chmod(FILE_MODE)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _open_unlocked(directory: Path, map_size_bytes: int) -> lmdb.Environment:
    return lmdb.open(
        str(directory),
        map_size=map_size_bytes,
        max_dbs=MAX_TABLES,
        readonly=True,
        lock=False,
        create=False,
        readahead=True,
    )


def _check_same(old: lmdb.Environment, new: lmdb.Environment) -> None:
    """Compare every row of every table; the old file is about to go."""
    with old.begin() as left, new.begin() as right:
        names = [key for key, _ in left.cursor()]
        if names != [key for key, _ in right.cursor()]:
            raise _differs()
        for name in names:
            pairs = zip(
                left.cursor(db=old.open_db(name, txn=left, create=False)),
                right.cursor(db=new.open_db(name, txn=right, create=False)),
                strict=True,
            )
            try:
                if any(mine != theirs for mine, theirs in pairs):
                    raise _differs()
            except ValueError as error:  # one has more rows
                raise _differs() from error


def _differs() -> IntegrityError:
    return IntegrityError(
        "the compacted copy is not what the store holds",
        hint="Run `cas verify --full`; nothing was replaced.",
    )

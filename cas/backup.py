"""Backup and restore: a consistent, verified copy of a store in a folder of its own.

Invariant: a folder gets its name only when everything in it was verified and synced, and nothing that exists is ever
overwritten. A backup is a store like any other: it can be opened, verified and healed from.
"""

from __future__ import annotations

import os
import secrets
import shutil
from typing import TYPE_CHECKING

from cas.destination import check_outside, folder_errors, present_above, sync_names
from cas.errors import IntegrityError, StorageError
from cas.lmdbenv import (
    DATA_FILE,
    SUSPECT_FILE,
    close_environment,
    is_store,
    open_environment,
    refuse_network_file_system,
    sync_directory,
)
from cas.meta import read_meta

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cas.check import Report
    from cas.lmdbenv import Environment
    from cas.records import Record

    Verify = Callable[[Environment], Report]

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600


def back_up(environment: Environment, directory: Path, verify: Verify) -> Record:
    """Copy an open store into a new folder; readers and writers go on meanwhile.

    Args:
        environment: The open store.
        directory: Folder to make.
        verify: Checks every invariant of an environment.

    Raises:
        InvalidFileError: The folder lies in the store's, or cannot be made.
        StorageError: The folder is in the way, or a disk refused; nothing is left there.
        IntegrityError: The copy breaks an invariant.
    """
    check_outside(directory, environment.directory)
    return _make(
        directory, environment.map_size_bytes, lambda folder: _copy_open(environment, folder), verify
    )


def restore(source: Path, directory: Path, verify: Verify, *, map_size_bytes: int) -> Record:
    """Copy a backup to where a store is to be; the backup is verified before and after.

    Args:
        source: Folder of the backup.
        directory: Folder of the store to be made; must not exist, or be empty.
        verify: Checks every invariant of an environment.
        map_size_bytes: Address space to map the files with.

    Raises:
        StorageError: There is no backup, the folder is in the way, or a disk refused.
        IntegrityError: The backup is damaged.
    """

    def copy(folder: Path) -> None:
        backup = open_environment(source, map_size_bytes=map_size_bytes, durability="full", read_only=True)
        try:
            _copy_open(backup, folder)
        finally:
            close_environment(backup)

    if not is_store(source):
        raise StorageError(
            f"there is no backup at {source}",
            kind="not_a_store",
            hint="Name the folder that `cas backup` wrote.",
            subject=str(source),
        )
    refuse_network_file_system(directory.absolute().parent)
    return _make(directory, map_size_bytes, copy, verify)


def _copy_open(environment: Environment, folder: Path) -> None:
    environment.check_suspect()
    environment.copy_to(folder)


def _make(directory: Path, map_size_bytes: int, copy: Callable[[Path], None], verify: Verify) -> Record:
    directory = directory.absolute()
    with folder_errors(directory):
        is_taken = directory.is_symlink() or (
            directory.exists() and not (directory.is_dir() and not any(directory.iterdir()))
        )
    if is_taken:
        raise StorageError(
            f"{directory} exists and is not an empty folder",
            kind="target_exists",
            hint="Choose a new folder; nothing is ever overwritten.",
            subject=str(directory),
        )
    temporary = directory.parent / f".{directory.name}.{secrets.token_hex(4)}.part"
    with folder_errors(directory):
        present = present_above(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(mode=_DIRECTORY_MODE)
        try:
            copy(temporary)
            report = _verified(temporary, map_size_bytes, verify)
            _sync(temporary)
            temporary.rename(directory)
            sync_names(directory, present)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return {
        "directory": str(directory),
        "runs": report.manifest_count,
        "blobs": report.blob_count,
        "bytes": (directory / DATA_FILE).stat().st_size,
    }


def _verified(folder: Path, map_size_bytes: int, verify: Verify) -> Report:
    copied = open_environment(folder, map_size_bytes=map_size_bytes, durability="full", read_only=True)
    try:
        with copied.read() as transaction:
            read_meta(transaction)
        report = verify(copied)
    finally:
        close_environment(copied)
    broken = [fault for fault in report.faults if fault.level == "must"]
    if broken:
        raise IntegrityError(
            f"the copy breaks {len(broken)} invariants, the first: {broken[0].check} of {broken[0].subject}",
            hint="Run `cas verify --heal` on the store, then copy it again.",
            subject=broken[0].subject,
        )
    return report


def _sync(folder: Path) -> None:
    (folder / ".gitignore").write_text("*\n")
    (folder / SUSPECT_FILE).unlink(missing_ok=True)
    for path in folder.iterdir():
        path.chmod(_FILE_MODE)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_directory(folder)

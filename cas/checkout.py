"""Checkout: a run's files on disk, complete and verified, or not at all.

Invariant: files are written into a new directory below a handle, never through a link, and the directory gets its
name in one rename after every file matched its digest and is on the disk (docs/decisions.md, D24). Hostile names cannot
leave it: names are checked again here, whatever a manifest says. It must not write to the store.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from cas import blobs, manifest, names
from cas.destination import (
    check_outside,
    check_replaceable,
    folder_errors,
    present_above,
    sync_names,
)
from cas.errors import InvalidFileError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from cas.lmdbenv import Environment
    from cas.manifest import RunManifest

_FILE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Files that are synced at the same time. Eight bring a run of five to the disk in about two flushes instead of six.
_SYNC_THREADS: Final = 8
_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def check_out(
    environment: Environment,
    run: RunManifest,
    directory: Path,
    repository: Path,
    *,
    overwrite: bool,
    sync: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[str]:
    """Write a run's files into ``directory``.

    Args:
        environment: The open store.
        run: The manifest.
        directory: Created with its parents; an existing empty folder is replaced.
        repository: The git repository of the store, which is not replaced.
        overwrite: Replace an existing folder with files in it; it is removed only after the new one is complete.
        sync: Have everything on the disk before the folder gets its name, and that before the call returns.
        progress: Called with the phase ``files``, files written, files in all.

    Returns:
        The names written, ``metadata.json`` included when the run has one.

    Raises:
        InvalidFileError: The folder exists and is not empty, is not a folder, or holds what is never replaced.
        InvalidNameError: A name in the manifest is unsafe; nothing is written.
        IntegrityError: A blob is damaged; the folder is as it was.
        StorageError: The disk refused.
    """
    directory = directory.absolute()
    names.check_artifact_names([entry.name for entry in run.files])
    check = functools.partial(
        _check_target, directory, environment.directory, repository, overwrite=overwrite
    )
    with folder_errors(directory):
        check()
        check_outside(directory, environment.directory)
    temporary = directory.parent / f".{directory.name}.{secrets.token_hex(4)}.part"
    with folder_errors(directory):
        present = present_above(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(mode=0o755)
        try:
            written = _fill(environment, run, temporary, progress)
            if sync:
                _sync_tree(temporary, written)
            _move_into_place(temporary, directory, check)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        if sync:
            sync_names(directory, present)
    return written


def _check_target(directory: Path, store: Path, repository: Path, *, overwrite: bool) -> None:
    """Refuse a folder that may not be replaced.

    Raises:
        InvalidFileError: It is not to be overwritten, is no folder, or holds what is never replaced.
    """
    if _is_filled(directory, overwrite=overwrite):
        check_replaceable(directory, store, repository)


def _is_filled(directory: Path, *, overwrite: bool) -> bool:
    """Tell whether there is a folder with something in it, that may be overwritten.

    Raises:
        InvalidFileError: It may not, or something else is there.
    """
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise InvalidFileError(f"{directory} exists and is not a folder", subject=str(directory))
    is_filled = directory.is_dir() and any(directory.iterdir())
    if is_filled and not overwrite:
        raise InvalidFileError(
            f"{directory} exists and is not empty",
            subject=str(directory),
            hint="Choose a new folder, or allow overwriting (--force).",
        )
    return is_filled


def _fill(
    environment: Environment,
    run: RunManifest,
    temporary: Path,
    progress: Callable[[str, int, int], None] | None,
) -> list[str]:
    written: list[str] = []
    root = os.open(temporary, _DIRECTORY_FLAGS)
    try:
        for entry in run.files:
            if progress is not None:
                progress("files", len(written), len(run.files))
            with environment.read() as transaction:
                blob = blobs.require(transaction, entry.digest)
            with _create(root, entry.name) as file:
                for chunk in blobs.iter_content(environment, blob):
                    _write_all(file, chunk)
            written.append(entry.name)
        if progress is not None:
            progress("files", len(written), len(run.files))
        if run.with_metadata_file:
            with _create(root, names.METADATA_NAME) as file:
                _write_all(file, manifest.metadata_file_bytes(run))
            written.append(names.METADATA_NAME)
    finally:
        os.close(root)
    return written


@contextlib.contextmanager
def _create(root: int, name: str) -> Generator[int]:
    """Open a new file below a directory handle, making its folders one handle at a time."""
    parts = name.split("/")
    folder = os.dup(root)
    try:
        for part in parts[:-1]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=folder)
            inner = os.open(part, _DIRECTORY_FLAGS, dir_fd=folder)
            os.close(folder)
            folder = inner
        file = os.open(parts[-1], _FILE_FLAGS, 0o644, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        yield file
    finally:
        os.close(file)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _move_into_place(temporary: Path, directory: Path, check: Callable[[], None]) -> None:
    """Rename the complete folder over the target; an old non-empty one is set aside first and removed last.

    Raises:
        InvalidFileError: What has come there meanwhile may not be replaced.
    """
    try:
        temporary.rename(directory)
    except OSError as error:
        if not directory.is_dir():
            raise
        check()
        aside = directory.parent / f".{directory.name}.{secrets.token_hex(4)}.old"
        directory.rename(aside)
        try:
            temporary.rename(directory)
        except BaseException:
            # After an interrupt as well, or the old folder would stay under a name that nobody knows.
            if not directory.exists():
                aside.rename(directory)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        if aside.exists():
            raise StorageError(
                f"the replaced folder could not be removed: {aside}", subject=str(aside)
            ) from error


def _sync_tree(root: Path, written: list[str]) -> None:
    """Bring files and folders to the disk; several at a time, as those that wait together share a flush."""
    paths = {root, *(root / name for name in written)}
    paths |= {above for path in paths for above in path.parents if above.is_relative_to(root)}
    with ThreadPoolExecutor(min(_SYNC_THREADS, len(paths)), thread_name_prefix="cas-sync") as pool:
        for _ in pool.map(_sync, paths):
            continue


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

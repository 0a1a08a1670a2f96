"""Files that belong to a living process: locked while it lives, recognisable as leftovers once it is gone.

Invariant: only who holds the ``flock`` of a file removes it, and only after seeing that the name still leads
to that file. So a leftover of a killed process can be told from a living one's file on every machine that
shares the kernel, in containers too, without clocks or process numbers, and two sweepers can never remove a
newer file by mistake. The kernel frees the lock when the process dies, and not before children that inherited
the descriptor are gone too.

Also the place where what the operating system refuses in a repository becomes an error of ours.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from typing import TYPE_CHECKING

from cas.errors import ExportError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

Buffer = bytes | bytearray | memoryview


def create_held(directory: Path, prefix: str, mode: int) -> tuple[Path, int]:
    """Create a new file with a random name and hold it while its descriptor is open.

    Args:
        directory: Where to create it.
        prefix: Leading part of its name.
        mode: Permission bits, before the umask.

    Returns:
        The path, and the descriptor, open for reading and writing, that the caller closes.

    Raises:
        OSError: It cannot be created.
    """
    while True:
        path = directory / f"{prefix}{secrets.token_hex(8)}"
        descriptor = _create(path, mode)
        if _hold(path, descriptor):
            return path, descriptor


def create_held_at(path: Path, mode: int) -> int:
    """Create a file that must not exist, hold it, and return its descriptor, open for reading and writing.

    Raises:
        FileExistsError: It exists.
        OSError: It cannot be created.
    """
    while True:
        descriptor = _create(path, mode)
        if _hold(path, descriptor):
            return descriptor


def _create(path: Path, mode: int) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


def _hold(path: Path, descriptor: int) -> bool:
    """Lock what was made a moment ago; False, with the descriptor closed, when a sweeper was there before the lock.

    Until it is locked a new file looks like a killed process's. Once it is locked and the name still leads to it, no
    sweeper can take it any more.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = is_same_file(path, descriptor)
    except BlockingIOError:  # a sweeper has it, and is about to remove it
        held = False
    except OSError:  # a file system without locks: after a kill the leftover then stays
        held = True
    if not held:
        os.close(descriptor)
    return held


def remove_held(path: Path, descriptor: int) -> None:
    """Unlink a held file if its name still leads to it, then close the descriptor.

    Raises:
        OSError: It cannot be removed.
    """
    try:
        if is_same_file(path, descriptor):
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def remove_stale(
    path: Path, content: bytes | None = None, before: Callable[[Path], None] | None = None
) -> bool:
    """Unlink a file whose holder is dead; tell whether that was done.

    Args:
        path: The leftover.
        content: What the whole file must hold to be ours; None when the name alone says so.
        before: Called with the path while the lock is held, before the file goes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # gone meanwhile, a link, or another user's, who will sweep it
        return False
    try:
        if content is not None and os.pread(descriptor, len(content) + 1, 0) != content:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_same_file(path, descriptor):
            return False
        if before is not None:
            before(path)
        path.unlink(missing_ok=True)
    except OSError:  # held by a living process, not ours to remove, or a file system without locks
        return False
    finally:
        os.close(descriptor)
    return True


@contextlib.contextmanager
def create_held_folder(parent: Path, prefix: str) -> Generator[tuple[Path, int], None, None]:
    """Make a folder with a random name and hold it during the block; it is removed with all that is in it.

    Yields:
        The path, and a descriptor that a child may inherit, so that the folder is held as long as the child lives.

    Raises:
        OSError: It cannot be made.
    """
    path, descriptor = _create_folder(parent, prefix)
    try:
        yield path, descriptor
    finally:
        shutil.rmtree(path, ignore_errors=True)  # what stays is swept later
        os.close(descriptor)


def _create_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        path = parent / f"{prefix}{secrets.token_hex(8)}"
        path.mkdir(mode=0o700)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # swept before it was opened
            continue
        if _hold(path, descriptor):
            return path, descriptor


def remove_stale_folder(path: Path) -> bool:
    """Remove a folder whose holder is dead, with all that is in it; tell whether that was done."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # gone meanwhile, no folder, or another user's, whose live push it may be
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_same_file(path, descriptor):
            return False
        shutil.rmtree(path)
    except OSError:  # held by a living process, not ours to remove, or a file system without locks
        return False
    finally:
        os.close(descriptor)
    return True


def is_same_file(path: Path, descriptor: int) -> bool:
    """Tell whether a name still leads to an open file."""
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def start_writeback(descriptor: int, start: int, size_bytes: int) -> None:
    """Ask the kernel to begin writing out what was just written, so that less is left for the sync at the end.

    Linux does so when told that the pages are not needed, and keeps them all the same, as they are dirty. It may have
    no such call, or refuse.
    """
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):  # it is advice
            os.posix_fadvise(descriptor, start, size_bytes, os.POSIX_FADV_DONTNEED)


def write_all(descriptor: int, data: Buffer) -> None:
    """Write everything, however often the kernel takes only a part.

    Raises:
        OSError: The disk refused.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Sync a directory, so that names created in it survive a power cut.

    Raises:
        OSError: The disk refused.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def mapped_os_errors(path: Path) -> Generator[None, None, None]:
    """Turn errors of the operating system inside the block into errors of ours that name ``path``.

    Raises:
        ExportError: A file vanished, as a prune by another program does it; retryable.
        StorageError: Anything else, with the kind that fits.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise ExportError(
            f"a file vanished at {path}", subject=str(path), kind="file_vanished", retryable=True
        ) from error
    except OSError as error:
        kinds = {
            errno.ENOSPC: "disk_full",
            errno.EDQUOT: "disk_full",
            errno.EIO: "io_error",
            errno.EACCES: "permission_denied",
            errno.EPERM: "permission_denied",
            errno.EROFS: "permission_denied",
        }
        kind = kinds.get(error.errno or 0, "storage_error")
        raise StorageError(
            f"{path}: {error.strerror}", subject=str(path), kind=kind, retryable=kind == "disk_full"
        ) from error

"""Kernel locks on a store's folder and files: who has it open, who writes, and who alone may work on it.

Invariant: a lock ends with its process, however that ends; none is judged by age or process number.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from typing import TYPE_CHECKING, Final

from cas.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_FILE_MODE: Final = 0o600
_POLL_S: Final = 0.05
# Descriptors held by `hold_to_write`, by thread.
_writing: Final[dict[int, int]] = {}
_UNSUPPORTED: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


def share_directory(directory: Path, wait_s: float) -> int:
    """Note on the store's folder that this process has the store open; waits while it is being compacted.

    Args:
        directory: Folder of the store.
        wait_s: Seconds to wait for a compaction; 0 does not wait.

    Returns:
        A descriptor to close when the store is closed, -1 where the file system knows no such locks.

    Raises:
        StateError: The store is still being compacted.
        OSError: The folder cannot be opened.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _share(descriptor, directory, wait_s)
    except OSError as error:
        os.close(descriptor)
        if error.errno in _UNSUPPORTED:
            return -1
        raise
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _share(descriptor: int, directory: Path, wait_s: float) -> None:
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise StateError(
                    "another process has the store for itself while it makes its file smaller",
                    kind="store_in_use",
                    retryable=True,
                    hint="Wait for it: give --lock-wait 10m, or raise the setting open_timeout.",
                    subject=str(directory),
                ) from None
        else:
            return
        time.sleep(_POLL_S)


@contextlib.contextmanager
def hold_to_write(data_path: Path) -> Generator[None]:
    """Hold the store's file for the block, as every process does before it takes LMDB's own write lock.

    LMDB's lock is a robust mutex in shared memory. The kernel wakes one of those who sleep at it; when that one is
    killed before it runs, and another process has passed by meanwhile, nobody wakes the others any more. So nobody
    sleeps there, but here, where the kernel itself keeps the queue (docs/decisions.md, D26). No effect where the file
    system knows no such locks.

    Args:
        data_path: The store's file. It is opened anew for each block, so threads of one process queue like processes.

    Raises:
        OSError: The file cannot be opened.
    """
    descriptor = os.open(data_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            yield
            return
        _writing[threading.get_ident()] = descriptor
        try:
            yield
        finally:
            del _writing[threading.get_ident()]
            # Said explicitly: a child forked meanwhile shares the lock and would go on holding it.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def let_go_inherited() -> None:
    """Close what other threads held to write when this process was forked, or it would stay held without them."""
    for thread in _writing.keys() - {threading.get_ident()}:
        os.close(_writing.pop(thread))


@contextlib.contextmanager
def hold_alone(path: Path) -> Generator[bool]:
    """Hold a folder or file, which is made when missing, for the block; yields whether nobody else has it.

    Raises:
        OSError: It cannot be opened, or the file system knows no such locks.
    """
    if path.is_dir():
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    with _held_alone(descriptor) as is_alone:
        yield is_alone


@contextlib.contextmanager
def hold_folder_alone(directory: Path) -> Generator[bool]:
    """Hold a folder that is there for the block; yields whether nobody else has it. A link to one is no folder.

    Raises:
        OSError: It cannot be opened, or the file system knows no such locks.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with _held_alone(descriptor) as is_alone:
        yield is_alone


@contextlib.contextmanager
def _held_alone(descriptor: int) -> Generator[bool]:
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            # Said explicitly: a child forked meanwhile shares the lock and would go on holding it.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)

"""Kernel locks on a store's folder and files: who has it open, who writes, and who alone may work on it.

Invariant: a lock ends with its process, however that ends; none is judged by age or process number.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

from cas.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_FILE_MODE: Final = 0o600
_POLL_S: Final = 0.05
# Descriptors of locks that no child may share. A dictionary, as adding and removing are single steps to an interrupt.
_owned: Final[dict[int, None]] = {}
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
def owned(descriptor: int) -> Generator[None]:
    """Keep a descriptor from children, as its lock is this process's: unlocked and closed at the end of the block.

    A child that is forked meanwhile shares the lock. It closes its copy at once, or the lock would stay held for as
    long as the child lives, once this process is killed.
    """
    _owned[descriptor] = None
    try:
        yield
    finally:
        if descriptor in _owned:  # not in a child
            try:
                with contextlib.suppress(OSError):  # no such locks here
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
            finally:
                del _owned[descriptor]
                os.close(descriptor)


def let_go_inherited() -> None:
    """Close what the parent holds, whichever of its threads; called in a child that was just forked."""
    for descriptor in _owned:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _owned.clear()


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
    with owned(descriptor):  # before the wait, during which another thread may fork
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        yield


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
    with owned(descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True

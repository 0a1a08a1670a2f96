"""Kernel locks on a store's folder and files: who has it open, and who alone may work on it.

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
def hold_alone(path: Path) -> Generator[bool]:
    """Hold a folder or file, which is made when missing, for the block; yields whether nobody else has it.

    Raises:
        OSError: It cannot be opened, or the file system knows no such locks.
    """
    if path.is_dir():
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
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

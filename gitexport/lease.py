"""The lease: one exporter at a time per store, freed by the kernel when its holder dies.

Invariant: the lock is on an open file description, so a crash, a kill or a power cut leaves no lock to clean up; what
else its holder left in the store's folder, the next one removes. What the file says is for people only and decides
nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import time
from typing import TYPE_CHECKING, Final

from cas.arguments import check_seconds
from cas.errors import LeaseHeldError
from cas.lmdbenv import mapped_errors, owned

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

LEASE_FILE: Final = "export.lock"
# Folders in the store's, used under the lease; they hold what is not scanned yet.
WORK_PREFIX: Final = "cas-import-"
_POLL_S: Final = 0.05
_GRACE_S: Final = 0.2  # `holder` takes the lock for an instant to see whether it is free
_FILE_MODE: Final = 0o600
_MAX_NOTE_BYTES: Final = 200


@contextlib.contextmanager
def hold(store_dir: Path, wait_s: float | None) -> Generator[None, None, None]:
    """Hold the export lease of a store for the ``with`` block.

    Args:
        store_dir: Folder of the store.
        wait_s: Seconds to wait for another exporter; None waits without a limit, 0 does not wait.

    Raises:
        InvalidInputError: ``wait_s`` is no number of seconds.
        LeaseHeldError: Another exporter holds it; the text says which.
        StorageError: The lock file cannot be used.
    """
    check_seconds(wait_s, "wait_s", endless=True)
    with mapped_errors(store_dir):
        descriptor = os.open(store_dir / LEASE_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    with owned(descriptor):
        with mapped_errors(store_dir):
            _take(descriptor, wait_s)
            for left in store_dir.glob(f"{WORK_PREFIX}*"):  # of a holder that was killed
                shutil.rmtree(left, ignore_errors=True)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield


def _take(descriptor: int, wait_s: float | None) -> None:
    deadline = None if wait_s is None else time.monotonic() + max(wait_s, _GRACE_S)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EWOULDBLOCK, errno.EINTR}:
                raise
            if deadline is not None and time.monotonic() >= deadline:
                holder = os.pread(descriptor, _MAX_NOTE_BYTES, 0).decode(errors="replace").strip()
                raise LeaseHeldError(
                    f"another exporter works on this store ({holder or 'unknown process'})",
                    hint="Wait for it, or pass --wait; a dead exporter's lease is free at once.",
                ) from error
            time.sleep(_POLL_S)
        else:
            return


def holder(store_dir: Path) -> str | None:
    """Return who holds the lease now, or None when it is free."""
    try:
        descriptor = os.open(store_dir / LEASE_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # never exported, or not this user's to know
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.pread(descriptor, _MAX_NOTE_BYTES, 0).decode(errors="replace").strip() or "unknown process"
    finally:
        os.close(descriptor)
    return None

"""The scaffold: the folder in which a store is made, before the finished store gets its name.

It stands beside the place where the store is to be, so that one rename puts it there. Invariant: whoever makes a store
holds a kernel lock on his scaffold, so one that nobody holds was left behind by a process that is gone; only such a one
is removed, and only when it looks as a scaffold does: nothing in it, or one folder of the name that stores are made
under. A store that was moved to such a name, or anything else that a user keeps there, looks different.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cas.errors import StateError
from cas.lmdbenv.locks import hold_folder_alone, share_directory

if TYPE_CHECKING:
    from collections.abc import Generator

_INFIX: Final = ".new-"
_INSIDE: Final = "store"
# What `tempfile` puts behind a prefix.
_CHOSEN: Final = re.compile(r"[a-z0-9_]{8}")


@contextlib.contextmanager
def scaffold(directory: Path) -> Generator[Path]:
    """Give a path beside ``directory`` to make a folder at, on the same disk; what is left of it is removed at the end.

    Scaffolds of the same store that processes left behind when they were killed go first.

    Args:
        directory: Where the finished folder is to be; the folder above it is there.

    Raises:
        OSError: The folder above cannot be written to.
    """
    _remove_left(directory)
    outer, descriptor = _held(directory)
    try:
        yield outer / _INSIDE
    finally:
        shutil.rmtree(outer, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def _held(directory: Path) -> tuple[Path, int]:
    """Make a scaffold and hold it; one that another process took for left over before it was held is given up."""
    while True:
        outer = Path(tempfile.mkdtemp(prefix=directory.name + _INFIX, dir=directory.parent))
        with contextlib.suppress(FileNotFoundError, StateError):
            descriptor = share_directory(outer, 0)
            if outer.is_dir():
                return outer, descriptor
            os.close(descriptor)


def _remove_left(directory: Path) -> None:
    for found in directory.parent.iterdir():
        prefix, infix, chosen = found.name.rpartition(_INFIX)
        if not infix or prefix != directory.name or not _CHOSEN.fullmatch(chosen):
            continue
        # Gone meanwhile, no folder, another user's, or on a file system without locks: it stays, and harms nobody.
        with contextlib.suppress(OSError), hold_folder_alone(found) as is_alone:
            if is_alone and {path.name for path in found.iterdir()} <= {_INSIDE}:
                shutil.rmtree(found)

"""Who may write to a store that an earlier failed write has marked: the thread that mends it, for as long as it does.

Invariant: a mark keeps everybody else from writing, other threads of the same process included. Nothing is marked or
lifted here.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


class _Mended(threading.local):
    """The store that this thread mends, None for none."""

    directory: Path | None = None


_mended = _Mended()


@contextlib.contextmanager
def mending(directory: Path) -> Generator[None]:
    """Let this thread write to a store in the block in spite of a mark, to bring back what a failed write has lost."""
    before = _mended.directory
    _mended.directory = directory
    try:
        yield
    finally:
        _mended.directory = before


def is_mended(directory: Path) -> bool:
    """Tell whether this thread mends a store."""
    return _mended.directory == directory

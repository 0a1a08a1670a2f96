"""Progress of reading a run's files, counted in bytes.

Invariant: what is counted is what `cas.intake` reads, so that the count ends at its total: a large file that is new is
read twice, once to judge it and once to store it. A file that cannot be looked at counts nothing; the intake says why.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cas import intake

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cas.intake import Content


def reading_counter(
    progress: Callable[[str, int, int], None], sources: Mapping[str, Content]
) -> Callable[[int], None]:
    """Return what takes the size of each piece that was read, and tells how far the reading of a run is.

    Args:
        progress: Called with the phase ``read``, bytes read, bytes to read in all.
        sources: Name → path or bytes.
    """
    total_bytes = sum(map(_bytes_to_read, sources.values()))
    done_bytes = 0

    def count(size_bytes: int) -> None:
        nonlocal done_bytes
        done_bytes += size_bytes
        progress("read", done_bytes, total_bytes)

    return count


def _bytes_to_read(source: Content) -> int:
    if not isinstance(source, str | os.PathLike):
        return memoryview(source).nbytes
    try:
        size_bytes = Path(source).stat().st_size
    except (OSError, ValueError):
        return 0
    return 2 * size_bytes if size_bytes > intake.LARGE_FILE_BYTES else size_bytes

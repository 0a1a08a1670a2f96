"""Giving pages of the store file back to the system: mapped ones, so that a long job stays small, and cached ones.

LMDB maps the file and never unmaps what was read; Linux counts those clean, shared pages as the process's own.
``madvise(MADV_DONTNEED)`` on a shared file mapping only drops the page-table entries; the next access maps the page
again from the page cache (madvise(2)).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_MADV_DONTNEED: Final = 4
_MAPS: Final = "/proc/self/maps"


def release_mapping(data_path: Path) -> None:
    """Drop this process's mapped pages of ``data_path``; nothing happens where it is not mapped."""
    if sys.platform != "linux":
        return
    name = os.path.realpath(data_path)
    with open(_MAPS, encoding="utf-8", errors="surrogateescape") as maps:  # noqa: PTH123  not a file to have a path for
        ranges = [line.split(" ", 1)[0] for line in maps if line.rstrip("\n").endswith(name)]
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    for text in ranges:
        start, end = (int(part, 16) for part in text.split("-"))
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), ctypes.c_int(_MADV_DONTNEED))


def drop_cached(descriptor: int, start_bytes: int = 0) -> None:
    """Ask the kernel to drop a file's clean pages, from an offset on; it may have no such call, or refuse."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):  # it is advice: no commit fails for want of it
            os.posix_fadvise(descriptor, start_bytes, 0, os.POSIX_FADV_DONTNEED)

"""Marks by which a process can be told from every other, long after it has gone.

Invariant: a living process is never taken for a dead one. A process number alone may have been given to another
process, so the mark holds the boot, the process namespace, the number and the moment the process began; a mark that
cannot be judged from here counts as alive. This module reads ``/proc`` and signals nothing.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
# Field 22 of /proc/<pid>/stat (proc(5)), counted after the command's closing bracket, which field 2 ends with.
_START_TIME_FIELD: Final = 22 - 3
_PARTS_COUNT: Final = 4
_UNKNOWN: Final = "-"


def own_mark() -> bytes:
    """Return the mark of this process; a forked child has its own."""
    return _mark_of(os.getpid())


@functools.lru_cache(maxsize=8)
def _mark_of(process_id: int) -> bytes:
    started = _start_time(process_id) or _UNKNOWN
    return f"{_boot()} {_namespace()} {process_id} {started}".encode()


# A child may come to have the number of a dead forebear whose mark it inherited.
os.register_at_fork(after_in_child=_mark_of.cache_clear)


def may_be_alive(mark: bytes) -> bool:
    """Tell whether the process of a mark may still run; False only when it certainly does not.

    A process of another namespace (a container) cannot be judged as long as the machine has not been restarted.
    """
    parts = mark.decode("utf-8", "replace").split(" ")
    if len(parts) != _PARTS_COUNT or not parts[2].isdecimal():
        return not mark.isdigit() or _exists(int(mark))
    boot, namespace, process_id, started = parts
    if _UNKNOWN not in (boot, _boot()) and boot != _boot():
        return False
    if namespace != _namespace():
        return True
    if not _exists(int(process_id)):
        return False
    found = _start_time(int(process_id))
    return started == _UNKNOWN or found is None or found == started


def _exists(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _start_time(process_id: int) -> str | None:
    """Return when a process began, in clock ticks since the boot; None where the system does not tell."""
    try:
        text = (_PROC / str(process_id) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[_START_TIME_FIELD] if len(fields) > _START_TIME_FIELD else None


@functools.cache
def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return _UNKNOWN


def _namespace() -> str:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return _UNKNOWN

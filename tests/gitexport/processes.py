"""The processes of this machine, for tests that look for those that should be gone."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

_DYING_S = 10  # a killed process is gone within milliseconds, on a busy machine a little later


def survivors(*marks):
    """Return the command lines that hold one of the marks, of processes that do not end by themselves at once."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if any(mark in command for mark in marks) and not _ends(int(folder.name)):
                found.append(command)
    return found


def _ends(process_id):
    descriptor = os.pidfd_open(process_id)
    try:
        return bool(select.select([descriptor], [], [], _DYING_S)[0])
    finally:
        os.close(descriptor)

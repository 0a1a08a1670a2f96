"""The suite's recording shim: builds it, runs a process under it, and reads what it recorded.

Invariant: a record is never invented: a log that was cut short by a kill ends with its last whole record.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("shim.c")
WORKLOAD = Path(__file__).with_name("workload.py")
WAIT_S = 120
_HEADER = struct.Struct("=IIQQQ")
_PROBE = "import ctypes; ctypes.CDLL(None).faults_arm(0, 0, 0)"


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One operation: its letter (see shim.c), the path or paths, and what a write wrote."""

    op: str
    path: str
    other: str
    inode: int
    offset: int
    data: bytes


def build_shim(folder):
    """Compile the shim; return its path and an empty text, or None and the reason."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None, "a C compiler on Linux is needed to record writes"
    library = folder / "shim.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    if built.returncode != 0:
        return None, f"the recording shim does not compile: {built.stderr[:200]}"
    probe = subprocess.run(
        [sys.executable, "-c", _PROBE],
        check=False,
        capture_output=True,
        env=os.environ | {"LD_PRELOAD": str(library)},
    )
    return (library, "") if probe.returncode == 0 else (None, "a preloaded library has no effect here")


def run_recorded(shim, disk, *arguments, log=None, status=0, script=WORKLOAD):
    """Run a workload under the shim, below the folder ``disk``; return what it printed.

    With ``status`` None it may end in any way.
    """
    environment = os.environ | {"LD_PRELOAD": str(shim), "FAULTS_ROOT": str(disk), "PYTHONPATH": str(ROOT)}
    if log is not None:
        environment["FAULTS_LOG"] = str(log)
    done = subprocess.run(
        [sys.executable, script, disk, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=WAIT_S,
    )
    assert status is None or done.returncode == status, done.stdout + done.stderr
    return done.stdout


def read_log(path):
    """Return the whole records of a log, in order."""
    content, at, records = path.read_bytes(), 0, []
    while at + _HEADER.size <= len(content):
        op, path_bytes, inode, offset, data_bytes = _HEADER.unpack_from(content, at)
        start = at + _HEADER.size
        at = start + path_bytes + data_bytes
        if at > len(content):
            break
        first, _, other = content[start : start + path_bytes].decode().partition("\0")
        data = content[start + path_bytes : at]
        records.append(Record(chr(op), first.removesuffix(" (deleted)"), other, inode, offset, data))
    return records

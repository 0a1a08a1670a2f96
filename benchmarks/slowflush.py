"""Builds the preloaded library that slows flushes down, and proves that it does.

Invariant: a result is never labelled with a flush time that was not in force: where the library cannot be built or has
no effect, the reason is returned instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_suffix(".c")
_PROBE: Final = """
import os, sys, time
descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
started_s = time.perf_counter()
for _ in range(10):
    os.fdatasync(descriptor)
print(time.perf_counter() - started_s)
"""


def build(folder: Path) -> tuple[Path | None, str]:
    """Compile the library into a folder.

    Returns:
        Its path and an empty text, or None and the reason.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None, "a C compiler on Linux is needed to slow flushes down (install gcc)"
    library = folder / "slowflush.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    if built.returncode != 0:
        return None, f"the flush library does not compile: {built.stderr.strip()[:200]}"
    if not _works(library, folder / "probe"):
        return None, "the preloaded flush library has no effect on this system"
    return library, ""


def environment(library: Path | None, flush_ms: float) -> dict[str, str]:
    """Return the environment of a process whose flushes take ``flush_ms`` milliseconds longer."""
    if library is None or flush_ms == 0:
        return dict(os.environ)
    return {
        **os.environ,
        "LD_PRELOAD": str(library),
        "BENCH_FLUSH_DELAY_US": str(round(flush_ms * 1000)),
    }


def _works(library: Path, file: Path) -> bool:
    delay_ms = 5
    command = [sys.executable, "-c", _PROBE, str(file)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment(library, delay_ms)
    )
    return done.returncode == 0 and float(done.stdout) >= 10 * delay_ms / 1000

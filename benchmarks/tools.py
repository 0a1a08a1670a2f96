"""Programs that are peers: where they are, which version, how to get them, and how they are started.

A program is looked up on PATH, or taken from the variable BENCH_RESTIC, BENCH_BORG or BENCH_DVC. Invariant: it is
started without the user's configuration, caches or credentials: everything it writes lies below the folder it is given.
This module must not time anything.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from benchmarks.engines_git import clean_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# DVC brings a hundred packages along, so it lives in an environment of its own.
_INSTALL: Final = {
    "restic": "apt-get install restic",
    "borg": "apt-get install borgbackup",
    "dvc": "python3 -m venv ~/dvc && ~/dvc/bin/pip install dvc && export BENCH_DVC=~/dvc/bin/dvc",
}
_TIMEOUT_S: Final = 300


def path_of(tool: str) -> str | None:
    """Return where a program is, or None."""
    chosen = os.environ.get(f"BENCH_{tool.upper()}")
    return shutil.which(chosen or tool)


def missing(tool: str) -> dict[str, str] | None:
    """Return why a program is left out and how to get it, or None when it is there."""
    if path_of(tool):
        return None
    return {"reason": f"{tool} is not installed", "install": _INSTALL[tool]}


def versions() -> dict[str, str]:
    """Return the versions of the programs that are there."""
    found: dict[str, str] = {}
    for tool in _INSTALL:
        if path_of(tool):
            words = _version_words(tool)
            found[tool] = next(word for word in words if word[:1].isdigit())
    return found


@functools.cache
def _version_words(tool: str) -> list[str]:
    option = "version" if tool == "restic" else "--version"
    command = [path_of(tool) or tool, option]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S)
    return done.stdout.split()


def run(tool: str, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None) -> bytes:
    """Run a program and return its output.

    Raises:
        RuntimeError: It failed; the text has the end of what it said.
    """
    done = subprocess.run(
        [path_of(tool) or tool, *arguments],
        check=False,
        cwd=cwd,
        env=clean_environment() | dict(environment or {}),
        capture_output=True,
        timeout=_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{tool} {arguments[0]} failed: {done.stderr.decode(errors='replace')[-300:]}")
    return done.stdout

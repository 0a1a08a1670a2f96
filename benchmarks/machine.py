"""The circumstances of a measurement: machine, kernel, file system, versions, commit of the project.

Invariant: whatever a reader needs to judge a figure is in its file. Nothing here names a host, a user or a path of the
machine.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.plan import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterable

_PACKAGES: Final = (
    *("blake3", "hyperscan", "isal", "lmdb", "msgspec"),  # what the product stands on
    *("diskcache", "dulwich", "GitPython", "pygit2"),  # peers
    *("backtesting", "pandas"),  # what decides the bytes of the runs
)


def circumstances(folder: Path) -> dict[str, Any]:
    """Return what the figures were taken on and with.

    Args:
        folder: A folder on the file system that was measured.
    """
    return {
        "taken_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cores_count": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "kernel": f"{platform.system()} {platform.release()}",
            "file_system": file_system(folder),
        },
        "versions": versions(),
        "project_commit": _project_commit(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, git and of every package that a figure may depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if shutil.which("git"):
        found["git"] = _output("git", "--version").removeprefix("git version ")
    from benchmarks import tools  # which asks this module whether git is there

    return found | tools.versions()


def missing_package(module: str, package: str) -> dict[str, str] | None:
    """Return why a peer is left out and how to install it, or None when it is there."""
    if importlib.util.find_spec(module) is not None:
        return None
    return {"reason": f"{package} is not installed", "install": f"python -m pip install {package}"}


def missing_git() -> dict[str, str] | None:
    """Return why everything that runs git is left out, or None when git is there."""
    if shutil.which("git"):
        return None
    return {"reason": "git is not installed", "install": "install git with the system's package manager"}


def file_system(folder: Path) -> str:
    """Return type and options of the file system that holds ``folder``; "unknown" where the system does not tell."""
    try:
        mounts = [line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    place = str(folder.resolve())
    holding = [mount for mount in mounts if _is_below(place, mount[1])]
    if not holding:
        return "unknown"
    mount = max(holding, key=lambda mount: len(mount[1]))
    return f"{mount[2]} ({mount[3]})"


def _is_below(place: str, mount_point: str) -> bool:
    return mount_point in {"/", place} or place.startswith(f"{mount_point}/")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names: Iterable[str] = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(iter(names), platform.machine())


def _project_commit() -> dict[str, Any]:
    """Return the commit the figures belong to; ``dirty`` when files differ from it, no id outside a repository.

    What a measurement itself writes, results and pages, does not count: the second question of a call would be dirty.
    """
    commit = _output("git", "-C", str(PROJECT), "rev-parse", "--verify", "--quiet", "HEAD")
    written = [f":(exclude){place}" for place in ("benchmarks/results", "docs", "README.md")]
    changed = _output(
        *("git", "-C", str(PROJECT), "status", "--porcelain", "--untracked-files=normal", "--", ".", *written)
    )
    return {"id": commit or None, "dirty": bool(changed)}


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def peak_resident_bytes() -> int:
    """Return the most memory this process ever had resident, mapped files included."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    raise RuntimeError("the system does not tell a process's peak of memory")


def processes_waiting() -> list[float]:
    """Return the system's load averages over 1, 5 and 15 minutes, so that a busy machine can be told afterwards."""
    return [round(value, 2) for value in os.getloadavg()]

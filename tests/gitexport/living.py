"""The command lines of the processes that live, by which a test sees that one was killed."""

import contextlib
import subprocess
from pathlib import Path

PROCESSES = Path("/proc")


def living_commands():
    """Return a line for each living process; from the system itself, as small ones lack `ps`."""
    if not (PROCESSES / "self" / "cmdline").exists():
        listed = subprocess.run(["ps", "-eo", "stat,args"], capture_output=True, text=True, check=True).stdout
        return [line for line in listed.splitlines() if not line.startswith("Z")]
    found = []
    for path in PROCESSES.glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            found.append(
                path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            )  # empty of a zombie
    return found

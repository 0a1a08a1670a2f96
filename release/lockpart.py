"""Prints the part of the lock that an installation with the given extras takes; without any, with all of them.

python -m release.lockpart [EXTRA ...]
"""

from __future__ import annotations

import re
import sys

from release.closure import LOCK, extras, needed_by


def lock_part(names: set[str]) -> str:
    """Return the lock's entries of some packages as they stand there, markers and digests included."""
    entries = re.split(r"\n(?=[a-z0-9])", re.sub(r"^#.*\n", "", LOCK.read_text(), flags=re.MULTILINE))
    return "\n".join(entry for entry in entries if entry.partition("==")[0] in names) + "\n"


if __name__ == "__main__":
    chosen = sys.argv[1:] or extras()
    print(lock_part(needed_by(None).union(*map(needed_by, chosen))), end="")

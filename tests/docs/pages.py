"""The examples of a page: its fenced blocks, and the comments that say how a test treats them.

<!-- set-up          commands that a reader does not see, run before what follows
$ git init -q
-->
<!-- not run: why --> before a block that cannot be run here
<!-- exit code: 5 --> before a block whose last command ends with that code
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_PIECE = re.compile(
    r"^(?:<!-- set-up\n(?P<setup>.*?)^-->|(?:<!-- (?P<word>not run|exit code): (?P<value>[^>]+) -->\n)?"
    r"^```(?P<language>[^\n]*)\n(?P<text>.*?)^```)$",
    re.DOTALL | re.MULTILINE,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """One example.

    Attributes:
        language: What stands behind the fence; ``set-up`` for commands that a reader does not see.
        text: What stands inside.
        line: Number of its first line in the page.
        reason: Why it is not run; empty when it is.
        code: Exit code of its last command.
    """

    language: str
    text: str
    line: int
    reason: str = ""
    code: int = 0


def blocks_of(text: str) -> list[Block]:
    """Return the examples of a page, in their order."""
    found = []
    for piece in _PIECE.finditer(text):
        if piece["setup"] is not None:
            found.append(Block("set-up", piece["setup"], text.count("\n", 0, piece.start("setup")) + 1))
            continue
        line = text.count("\n", 0, piece.start("text")) + 1
        reason = piece["value"] if piece["word"] == "not run" else ""
        code = int(piece["value"]) if piece["word"] == "exit code" else 0
        found.append(Block(piece["language"], piece["text"], line, reason, code))
    return found


def commands_of(text: str) -> list[tuple[str, list[str]]]:
    """Return the commands of a console block, each with the lines of output that stand below it."""
    found: list[tuple[str, list[str]]] = []
    for line in text.replace("\\\n", "").splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return found

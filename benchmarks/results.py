"""Result files: one JSON document for each benchmark, with everything that is needed to judge and repeat it.

Invariant: a file appears whole or not at all, and says which size of measurement made it.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT: Final = 1


def save(folder: Path, name: str, document: Mapping[str, Any]) -> Path:
    """Write the result of a benchmark and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.json"
    made = target.with_suffix(f".{os.getpid()}")
    made.write_text(_text(document) + "\n")
    made.replace(target)
    return target


def load(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the result of a benchmark, or None when it was never kept.

    Raises:
        ValueError: The file is of another format.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    document: dict[str, Any] = json.loads(path.read_text())
    if document.get("format") != FORMAT:
        raise ValueError(f"{path.name} has format {document.get('format')!r}, not {FORMAT}: measure it again")
    return document


def _text(document: Mapping[str, Any]) -> str:
    """Return indented JSON with each list of plain numbers on one line."""
    lines = json.dumps(document, indent=1, allow_nan=False).split("\n")
    joined: list[str] = []
    for line in lines:
        in_list = bool(joined) and joined[-1].rstrip().endswith(("[", ",")) and _is_number_list(joined[-1])
        text = line.strip()
        if in_list and (_is_number(text) or text in {"]", "],"}):
            joined[-1] += text
        else:
            joined.append(line)
    return "\n".join(joined)


def _is_number_list(line: str) -> bool:
    inside = line.rpartition("[")[2]
    return "[" in line and all(_is_number(part) for part in inside.split(",") if part)


def _is_number(text: str) -> bool:
    bare = text.rstrip(",")
    return bool(bare) and bare.lstrip("-").replace(".", "", 1).replace("e-", "", 1).isdigit()

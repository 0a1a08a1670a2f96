"""Differences between two runs, as data: files, metrics, the first diverging row of tables, changed lines of text.

Invariant: the result is bounded whatever the runs hold, and everything in it can be written as JSON. Contents are
compared by digest first; only files that differ are read, and those are checked against their digests like any read.
"""

from __future__ import annotations

import csv
import difflib
import itertools
import math
from collections import deque
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from cas import blobs, manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cas.lmdbenv import Environment
    from cas.manifest import FileEntry, RunManifest
    from cas.records import Record

# A unified diff is quadratic at worst and meant to be read; larger files are said to differ, and no more.
MAX_TEXT_BYTES: Final = 256 * 1024
MAX_TEXT_LINES: Final = 5000
MAX_DIFF_LINES: Final = 400
MAX_CELL_CHARS: Final = 200
MAX_CELLS: Final = 64
_TABLE_SUFFIXES: Final = {".csv": ",", ".tsv": "\t"}
_CONTEXT_LINES: Final = 3
_BINARY_MARK: Final = b"\0"


def diff_runs(environment: Environment, left: RunManifest, right: RunManifest) -> Record:
    """Return what differs between two runs.

    Returns:
        ``left`` and ``right`` (which runs), ``identical``, ``added``, ``removed`` (file names), ``changed`` (one
        dictionary per file: ``name, left_bytes, right_bytes``, and ``table`` or ``text`` where it is one), ``metrics``
        and ``metadata`` (name → ``left, right`` and, for numbers, ``change``).

    Raises:
        IntegrityError: A file that differs is damaged.
    """
    mine = {entry.name: entry for entry in left.files}
    theirs = {entry.name: entry for entry in right.files}
    shared = [name for name in mine if name in theirs and mine[name].digest != theirs[name].digest]
    changed = [_file_change(environment, mine[name], theirs[name]) for name in shared]
    added = [name for name in theirs if name not in mine]
    removed = [name for name in mine if name not in theirs]
    values = [manifest.load_metadata(run.metadata) for run in (left, right)]
    metrics = [_metrics(value) for value in values]
    return {
        "left": _named(left),
        "right": _named(right),
        "identical": not (changed or added or removed) and values[0] == values[1],
        "added": added,
        "removed": removed,
        "changed": changed,
        "metrics": _side_by_side(*metrics),
        "metadata": _side_by_side(
            *({k: v for k, v in value.items() if k != "test_metrics"} for value in values)
        ),
    }


def _named(run: RunManifest) -> Record:
    return {
        "correlation_id": run.correlation_id,
        "revision": run.revision,
        "branch": run.branch,
        "commit_timestamp": manifest.timestamp_text(run.created_at_us),
    }


def _metrics(metadata: Mapping[str, object]) -> dict[str, object]:
    metrics = metadata.get("test_metrics")
    return metrics if isinstance(metrics, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _side_by_side(left: Mapping[str, object], right: Mapping[str, object]) -> dict[str, Record]:
    """Return the values that differ, by name, the left one's order first."""
    found: dict[str, Record] = {}
    for name in dict.fromkeys((*left, *right)):
        mine, theirs = left.get(name), right.get(name)
        if mine == theirs and (name in left) == (name in right):
            continue
        found[name] = {"left": mine, "right": theirs}
        change = _difference(mine, theirs)
        if change is not None:
            found[name]["change"] = change
    return found


def _difference(mine: object, theirs: object) -> float | None:
    """Return the difference of two numbers; None for other values, and where a double cannot hold it."""
    if not (isinstance(mine, int | float) and isinstance(theirs, int | float)):
        return None
    if isinstance(mine, bool) or isinstance(theirs, bool):
        return None
    try:
        change = theirs - mine
        return change if math.isfinite(change) else None
    except OverflowError:
        return None


def _file_change(environment: Environment, mine: FileEntry, theirs: FileEntry) -> Record:
    change: Record = {"name": mine.name, "left_bytes": mine.size_bytes, "right_bytes": theirs.size_bytes}
    suffix = PurePosixPath(mine.name).suffix.lower()
    if suffix in _TABLE_SUFFIXES:
        table = _table_change(environment, mine, theirs, _TABLE_SUFFIXES[suffix])
        if table is not None:
            change["table"] = table
    elif max(mine.size_bytes, theirs.size_bytes) <= MAX_TEXT_BYTES:
        text = _text_change(_content(environment, mine), _content(environment, theirs))
        if text is not None:
            change["text"] = text
    return change


def _iter_content(environment: Environment, entry: FileEntry) -> Iterator[bytes]:
    with environment.read() as transaction:
        blob = blobs.require(transaction, entry.digest)
    return blobs.iter_content(environment, blob)


def _content(environment: Environment, entry: FileEntry) -> bytes:
    return b"".join(_iter_content(environment, entry))


def _table_change(
    environment: Environment, mine: FileEntry, theirs: FileEntry, separator: str
) -> Record | None:
    """Return the first row that differs, counted from 1 with the heading, and the names of the columns that do.

    The rows before it are streamed, so tables of any size are compared in little memory; None when one is no table.
    """
    streams = [_iter_content(environment, entry) for entry in (mine, theirs)]
    left, right = (csv.reader(_lines(stream), delimiter=separator) for stream in streams)
    heading: list[str] = []
    try:
        for number, (row, other) in enumerate(itertools.zip_longest(left, right), start=1):
            if number == 1:
                heading = row or []
            if row != other:
                for stream in streams:
                    deque(stream, maxlen=0)  # content counts only once it was read, and checked, to its end
                return {
                    "row": number,
                    "columns": _differing_columns(heading, row or [], other or []),
                    "left": _shown(row),
                    "right": _shown(other),
                }
    except (UnicodeDecodeError, csv.Error):
        return None
    return {"row": None, "columns": [], "left": None, "right": None}  # only line ends or quoting differ


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines of a stream of UTF-8, with their ends."""
    left = b""
    for chunk in chunks:
        *whole, left = (left + chunk).split(b"\n")
        if len(left) > MAX_TEXT_BYTES:
            raise csv.Error("a line is too long for a table")
        for line in whole:
            yield (line + b"\n").decode()
    if left:
        yield left.decode()


def _differing_columns(heading: list[str], row: list[str], other: list[str]) -> list[str]:
    pairs = itertools.zip_longest(row, other)
    indexes = [index for index, (mine, theirs) in enumerate(pairs) if mine != theirs]
    return [heading[i] if i < len(heading) else f"column {i + 1}" for i in indexes][:MAX_CELLS]


def _shown(row: list[str] | None) -> list[str] | None:
    return None if row is None else [cell[:MAX_CELL_CHARS] for cell in row[:MAX_CELLS]]


def _text_change(mine: bytes, theirs: bytes) -> Record | None:
    """Return a unified diff of two texts; None when one is not text, or too long to be read."""
    try:
        left, right = (data.decode().splitlines() for data in (mine, theirs))
    except UnicodeDecodeError:
        return None
    if max(len(left), len(right)) > MAX_TEXT_LINES or _BINARY_MARK in mine + theirs:
        return None
    lines = list(difflib.unified_diff(left, right, "left", "right", n=_CONTEXT_LINES, lineterm=""))
    return {"lines": lines[:MAX_DIFF_LINES], "truncated": len(lines) > MAX_DIFF_LINES}

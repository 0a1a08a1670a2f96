"""Tables: rows of a delimited text, read as a stream, a page of them at a time.

Invariant: memory is bounded by the page, or by `MAX_SORTED_BYTES` when a page is asked for in another order; whatever
a file holds, reading ends in rows or in `UnreadableTableError`. Pure: bytes come from the caller.
"""

from __future__ import annotations

import codecs
import csv
import dataclasses
import math
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_SORTED_BYTES: Final = 16 << 20
MAX_COLUMNS: Final = 40
MAX_CELL_CHARS: Final = 200
_MAX_LINE_CHARS: Final = 1 << 20
_SEPARATORS: Final = ",;\t|"
_SUFFIXES: Final = frozenset({".csv", ".tsv"})


class UnreadableTableError(Exception):
    """A file that is called a table is none."""


@dataclasses.dataclass(frozen=True, slots=True)
class TablePage:
    """Some rows of a table.

    Attributes:
        heading: The first row.
        rows: Rows of the page, each as long as the heading.
        numeric: For each column, whether every cell of the page that is not empty is a number.
        total: Rows of the file, without the heading.
        column_count: Columns of the file; more than the heading has when some are left out.
    """

    heading: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    total: int
    column_count: int


def is_table_name(name: str) -> bool:
    """Tell whether a file is a table by its name."""
    return PurePosixPath(name).suffix.lower() in _SUFFIXES


def iter_rows(chunks: Iterable[bytes]) -> Iterator[list[str]]:
    """Yield the rows of a delimited text; blank lines are left out, and the separator is taken from the first line.

    Raises:
        UnreadableTableError: It is binary, or has a line or a field too long to be one.
    """
    lines = _lines(chunks)
    first = next(lines, None)
    if first is None:
        return
    separator = max(_SEPARATORS, key=first.count)
    try:
        yield from filter(None, csv.reader(_chain(first, lines), delimiter=separator))
    except csv.Error as error:
        raise UnreadableTableError(f"not a table: {error}") from error


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield lines with their ends; bytes that are no UTF-8 become replacement characters."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    pending = ""
    for chunk in chunks:
        text = pending + decoder.decode(chunk)
        if "\0" in text:
            raise UnreadableTableError("not a table: it holds binary data")
        *whole, pending = text.split("\n")
        if len(pending) > _MAX_LINE_CHARS:
            raise UnreadableTableError("not a table: a line is too long")
        for line in whole:
            yield line + "\n"
    pending += decoder.decode(b"", final=True)
    if pending:
        yield pending


def read_page(
    chunks: Iterable[bytes], *, offset: int, limit: int, sort: int | None = None, descending: bool = False
) -> TablePage:
    """Return some rows of a table; all of it is read, so that the caller's check of the content has happened.

    Args:
        chunks: The file's bytes; at most `MAX_SORTED_BYTES` of them when ``sort`` is given.
        offset: Rows to skip.
        limit: Most rows to return.
        sort: Index of the column to order by, numbers before texts, empty cells last; None keeps the file's order.
        descending: The greatest first.

    Raises:
        UnreadableTableError: It is no table.
    """
    rows = iter_rows(chunks)
    heading = next(rows, list[str]())
    total = 0
    kept: list[list[str]] = []
    for row in rows:
        if sort is not None or offset <= total < offset + limit:
            kept.append(row)
        total += 1
    if sort is not None:
        kept = _sorted(kept, sort, descending=descending)[offset : offset + limit]
    width = max([len(heading), *map(len, kept)])
    shown = min(width, MAX_COLUMNS)
    padded = [[cell[:MAX_CELL_CHARS] for cell in (*row, *[""] * shown)[:shown]] for row in (heading, *kept)]
    return TablePage(
        heading=padded[0],
        rows=padded[1:],
        numeric=[_is_numeric(row[index] for row in padded[1:]) for index in range(shown)],
        total=total,
        column_count=width,
    )


def _sorted(rows: list[list[str]], column: int, *, descending: bool) -> list[list[str]]:
    filled = [row for row in rows if column < len(row) and row[column].strip()]
    empty = [row for row in rows if not (column < len(row) and row[column].strip())]
    filled.sort(key=lambda row: _sort_key(row[column]), reverse=descending)
    return filled + empty


def _sort_key(cell: str) -> tuple[bool, float, str]:
    number = number_of(cell)
    return (True, 0.0, cell.casefold()) if number is None else (False, number, "")


def number_of(cell: str) -> float | None:
    """Return a cell's finite number, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _is_numeric(cells: Iterable[str]) -> bool:
    filled = [cell for cell in cells if cell.strip()]
    return bool(filled) and all(number_of(cell) is not None for cell in filled)

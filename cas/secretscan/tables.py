"""Reads tables: credentials in the column that a header names so, in CSV and in Markdown.

Invariant: a pure function of the bytes around the header; rows count as far as they lie in the window, and only while
they have as many fields as the header.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cas.secretscan.assignments import Assigned, accepts_cell
from cas.secretscan.names import NameKind, judge_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_DELIMITERS: Final = (b"\t", b",", b";", b"|")
_FIELD_NAME: Final = re.compile(r"(?:[#A-Za-z_][\w \-/().%#*`]{0,48})?")
_RULER: Final = re.compile(rb"[\s|:+-]+")
_FIELDS: Final = {
    delimiter: re.compile(
        rb'\s*(?:"(?P<q>[^"\r\n]*)"|(?P<b>[^'
        + re.escape(delimiter)
        + rb"\r\n]*))[^"
        + re.escape(delimiter)
        + rb"\r\n]*(?:"
        + re.escape(delimiter)
        + rb"|\Z)"
    )
    for delimiter in _DELIMITERS
}
_MIN_FIELDS: Final = 2
_MAX_FIELDS: Final = 64
_MAX_ROWS: Final = 200
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_LIST_BYTES: Final = 512
_COPIED: Final = re.compile(rb"\)\s{0,8}from\s{1,8}stdin[^\n]{0,80}\n", re.IGNORECASE)
_VALUES: Final = re.compile(rb"\)\s{0,8}values\s{0,8}(?=\()", re.IGNORECASE)
_TUPLE: Final = re.compile(rb"[\s,]{0,8}\(((?:'(?:[^'\\]|\\.){0,512}'|[^'()]){1,2048})\)")
_CELL: Final = re.compile(rb"\s*(?:'(?P<v>(?:[^'\\]|\\.|''){0,512})'|[^',]{1,128})\s*(?:,|\Z)")

Field = tuple[int, int]


def read_table(text: bytes, at: int) -> Iterator[Assigned]:
    """Yield the credentials below the header on whose line ``at`` lies, if that line is a header.

    Args:
        text: Bytes around the place: the window.
        at: A place in the name of a column.
    """
    start = text.rfind(b"\n", 0, at) + 1
    if text.startswith(_BYTE_ORDER_MARK, start):
        start += len(_BYTE_ORDER_MARK)
    end = text.find(b"\n", at)
    if end < 0:
        return
    header = text[start:end].rstrip(b"\r")
    delimiter = max(_DELIMITERS, key=header.count)
    fields = _split(header, delimiter)
    if not _MIN_FIELDS <= len(fields) <= _MAX_FIELDS:
        return
    titles = [header[low:high].strip(b" *`").decode("utf-8", "replace") for low, high in fields]
    inner = titles[1:-1] if delimiter == b"|" else titles  # Markdown's outer bars
    if not all(titles if delimiter != b"|" else inner) or not all(
        _FIELD_NAME.fullmatch(title) for title in titles
    ):
        return
    here = next((n for n, (low, high) in enumerate(fields) if start + low <= at < start + high), None)
    kind = None if here is None else judge_name(titles[here].replace(" ", "_"))
    if here is None or kind is None or not kind.sure:
        return
    for row_start, row in _rows(text, end + 1):
        if delimiter == b"|" and _RULER.fullmatch(row):
            continue
        cells = _split(row, delimiter)
        if len(cells) != len(fields):
            return
        low, high = cells[here]
        if accepts_cell(kind, row[low:high]):
            yield Assigned(kind, row_start + low, row_start + high)


def read_insert(text: bytes, at: int) -> Iterator[Assigned]:
    """Yield the credentials that an SQL ``INSERT`` or ``COPY`` puts into the column whose name ``at`` lies in."""
    start = text.rfind(b"(", max(0, at - _LIST_BYTES), at) + 1
    copied = _COPIED.search(text, at, at + _LIST_BYTES)
    found = copied or _VALUES.search(text, at, at + _LIST_BYTES)
    if start == 0 or found is None or b"(" in text[at : found.start()]:
        return
    titles = text[start : found.start()].split(b",")
    here = text.count(b",", start, at)
    kind = judge_name(titles[here].strip(b' `"[]\r\n\t').decode("utf-8", "replace"))
    if kind is None or not kind.sure:
        return
    end = found.end()
    if copied is not None:
        yield from _copied_cells(text, end, here, len(titles), kind)
        return
    while (row := _TUPLE.match(text, end)) is not None:
        cells = list(_CELL.finditer(text, row.start(1), row.end(1)))
        if len(cells) != len(titles):
            return
        span = cells[here].span("v")
        if span != (-1, -1) and accepts_cell(kind, text[span[0] : span[1]]):
            yield Assigned(kind, *span)
        end = row.end()


def _copied_cells(text: bytes, start: int, here: int, count: int, kind: NameKind) -> Iterator[Assigned]:
    """Yield the credentials in column ``here`` of the rows that a dump of PostgreSQL copies in."""
    for row_start, row in _rows(text, start):
        cells = row.split(b"\t")
        if len(cells) != count:
            return
        low = row_start + sum(len(cell) + 1 for cell in cells[:here])
        if accepts_cell(kind, cells[here]):
            yield Assigned(kind, low, low + len(cells[here]))


def _rows(text: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    for _ in range(_MAX_ROWS):
        end = text.find(b"\n", start)
        row = text[start : len(text) if end < 0 else end]
        if not row.strip():
            return
        yield start, row.rstrip(b"\r")
        if end < 0:
            return
        start = end + 1


def _split(line: bytes, delimiter: bytes) -> list[Field]:
    """Return where the fields of a line lie, without blanks, quotes and Markdown's outer bars."""
    fields: list[Field] = []
    at = 0
    while at <= len(line) and len(fields) <= _MAX_FIELDS:
        found = _FIELDS[delimiter].match(line, at)
        if found is None:
            break
        low, high = found.span("q") if found["q"] is not None else found.span("b")
        stripped = line[low:high].strip(b" `*")
        low += line[low:high].find(stripped)
        fields.append((low, low + len(stripped)))
        if found.end() == len(line) and not line.endswith(delimiter):
            break
        at = found.end() if found.end() > at else at + 1
        if at == len(line):
            fields.append((at, at))
            break
    return fields

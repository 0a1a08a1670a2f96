"""Curves: an equity curve read from a table, its drawdown, and both reduced to what a plot can show.

Invariant: a reduced curve looks as the whole one does at the plot's resolution, since the first, last, least and
greatest value of every pixel column are kept; the memory of the whole one is two doubles a row, and short-lived.
Pure: bytes come from the caller.

The reduction is M4: Jugel, Jerzak, Hackenbroich and Markl, "M4: A Visualization-Oriented Time Series Data
Aggregation", Proceedings of the VLDB Endowment 7(10), 2014, which proves it free of error for lines of one pixel.
"""

from __future__ import annotations

import bisect
import dataclasses
import datetime
import itertools
import math
from array import array
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from cli.browse.tables import UnreadableTableError, is_table_name, iter_rows, number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

COLUMNS: Final = 800  # pixel columns that are told apart; a wide window has about 1,100
_POINTS_PER_COLUMN: Final = 4
_VALUE_NAMES: Final = ("equity", "balance", "portfolio", "nav", "capital", "account", "value", "total", "pnl")
_TIME_NAMES: Final = ("time", "date", "stamp")
_FILE_WORDS: Final = ("equity", "balance", "nav", "curve")
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NAIVE_EPOCH: Final = _EPOCH.replace(tzinfo=None)
# Numbers of a time column are seconds, or milli-, micro- or nanoseconds, told apart by their size: each of these is the
# year 5138 in the unit before.
_UNIT_STEPS: Final = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6))
_NANOSECONDS: Final = 1e9
_PER_CENT: Final = 100.0
_LARGEST: Final = 1e150  # beyond it differences and ratios of two values leave the range of doubles
_LAST_S: Final = 1e12  # the year 33,658; larger numbers are no times


class NoCurveError(Exception):
    """A table has no column that could be plotted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """Points of a line, in order of x; both of the same length, at least one."""

    xs: Sequence[float]
    ys: Sequence[float]


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """An equity curve as it is plotted.

    Attributes:
        column: Heading of the plotted column.
        is_timed: Whether x is seconds since the epoch; otherwise it is the number of the row, from 0.
        equity: The values.
        drawdown: How far each value lies below the greatest one before it.
        is_relative: Whether drawdown is in per cent of that peak; otherwise, where a peak is not positive, in the
            curve's own unit.
        row_count: Rows that hold a value.
        skipped_count: Rows that hold none.
    """

    column: str
    is_timed: bool
    equity: Line
    drawdown: Line
    is_relative: bool
    row_count: int
    skipped_count: int


def find_curve_name(names: Sequence[str]) -> str | None:
    """Return which file of a run is its equity curve, by name; None when there is none."""
    tables = [name for name in names if is_table_name(name)]
    for word in _FILE_WORDS:
        for name in tables:
            if word in PurePosixPath(name).stem.lower():
                return name
    return None


def read_curve(chunks: Iterable[bytes]) -> Curve:
    """Return the reduced equity curve of a table; it is read to its end.

    The column is chosen by its heading (equity, balance, ...), else the first of numbers; x is the column of times when
    every row has one and they do not go back, else the number of the row.

    Raises:
        NoCurveError: It is no table, or none of its columns holds numbers.
    """
    try:
        column, times, values, skipped_count = _read_columns(chunks)
    except UnreadableTableError as error:
        raise NoCurveError(str(error)) from error
    if not values:
        raise NoCurveError("no row holds a number")
    is_timed = times is not None and all(itertools.starmap(float.__le__, itertools.pairwise(times)))
    xs: Sequence[float] = times if times is not None and is_timed else range(len(values))
    depths, is_relative = drawdown(values)
    return Curve(
        column=column,
        is_timed=is_timed,
        equity=reduced(Line(xs, values)),
        drawdown=reduced(Line(xs, depths)),
        is_relative=is_relative,
        row_count=len(values),
        skipped_count=skipped_count,
    )


def drawdown(values: Sequence[float]) -> tuple[array[float], bool]:
    """Return how far each value lies below the greatest so far, never above 0, and whether that is in per cent."""
    peaks = array("d", itertools.accumulate(values, max))
    if peaks[0] > 0:
        ratios = array("d", ((v / peak - 1.0) * _PER_CENT for v, peak in zip(values, peaks, strict=True)))
        if all(map(math.isfinite, ratios)):
            return ratios, True
    return array("d", map(float.__sub__, values, peaks)), False


def reduced(line: Line, columns: int = COLUMNS) -> Line:
    """Return the first, last, least and greatest point of each pixel column; a short line as it is."""
    xs, ys = line.xs, line.ys
    if len(xs) <= _POINTS_PER_COLUMN * columns:
        return Line(array("d", xs), array("d", ys))
    first, width = xs[0], (xs[-1] - xs[0]) / columns
    kept: list[int] = []
    low = 0
    for column in range(columns):
        last = column == columns - 1
        high = len(xs) if last else bisect.bisect_left(xs, first + (column + 1) * width, lo=low)
        if high > low:
            part = ys[low:high]
            places = {low, high - 1, low + part.index(min(part)), low + part.index(max(part))}
            kept += sorted(places)
        low = high
    return Line(array("d", (xs[i] for i in kept)), array("d", (ys[i] for i in kept)))


def _read_columns(chunks: Iterable[bytes]) -> tuple[str, array[float] | None, array[float], int]:
    """Return heading, times (None when they cannot be read) and values of the columns chosen, and rows left out."""
    rows = iter_rows(chunks)
    heading, first = next(rows, None), next(rows, None)
    if heading is None or first is None:
        raise NoCurveError("the table has no rows")
    time_index, value_index = _choose(heading, first)
    column = f"column {value_index + 1}"
    if any(number_of(cell) is not None for cell in heading):  # a table without a heading
        rows = itertools.chain([heading, first], rows)
    else:
        rows = itertools.chain([first], rows)
        column = (heading[value_index].strip() if value_index < len(heading) else "") or column
    read_time = None if time_index is None else _time_reader(first[time_index])
    times = array("d")
    values = array("d")
    skipped_count = 0
    for row in rows:
        value = number_of(row[value_index]) if value_index < len(row) else None
        if value is None or abs(value) > _LARGEST:
            skipped_count += 1
            continue
        values.append(value)
        if read_time is not None and time_index is not None:
            moment = read_time(row[time_index]) if time_index < len(row) else None
            if moment is None:
                read_time = None
            else:
                times.append(moment)
    return column, None if read_time is None else times, values, skipped_count


def _choose(heading: list[str], first: list[str]) -> tuple[int | None, int]:
    """Return the indexes of the columns of times and of values."""
    named = [cell.strip().lower() for cell in heading]
    numeric = [index for index, cell in enumerate(first) if number_of(cell) is not None]
    time_index = next(
        (i for i, name in enumerate(named[: len(first)]) if any(word in name for word in _TIME_NAMES)), None
    )
    if time_index is None and first and number_of(first[0]) is None and _time_reader(first[0]) is not None:
        time_index = 0
    candidates = [index for index in numeric if index != time_index]
    for word in _VALUE_NAMES:
        for index in candidates:
            if index < len(named) and word in named[index] and "drawdown" not in named[index]:
                return time_index, index
    if not candidates:
        raise NoCurveError("no column holds numbers")
    return time_index, candidates[0]


def _time_reader(sample: str) -> Callable[[str], float | None] | None:
    """Return what reads the times of a column, chosen by its first one; None when they are no times."""
    number = number_of(sample)
    if number is None:
        return None if _iso_time(sample) is None else _iso_time
    divisor = next((unit for limit, unit in _UNIT_STEPS if abs(number) < limit), _NANOSECONDS)

    def scaled(text: str) -> float | None:
        value = number_of(text)
        return None if value is None or abs(value) > _LAST_S * divisor else value / divisor

    return scaled


def _iso_time(text: str) -> float | None:
    """Return seconds since the epoch of an ISO 8601 time, UTC where it has no zone; None when it is none."""
    try:
        moment = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (moment - (_NAIVE_EPOCH if moment.tzinfo is None else _EPOCH)).total_seconds()

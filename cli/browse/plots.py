"""Plots: lines turned into what the template of a plot writes as SVG.

Invariant: pure arithmetic and number formatting; no markup is made here, and every text goes through the template's
escaping. Coordinates are in a box of `WIDTH` by `HEIGHT` that the browser stretches; labels are placed outside of it,
in per cent of the width and in pixels of height, so that text keeps its size whatever the width is.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from typing import TYPE_CHECKING, Final, Literal

from cli.browse.curves import Line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.browse.curves import Curve

Axis = Literal["time", "row", "share"]
WIDTH: Final = 1000
HEIGHT: Final = 200
_Y_TICKS: Final = 5
_X_TICKS: Final = 4
_DAY_S: Final = 86400
_YEARS_S: Final = 2 * 365 * _DAY_S
_FEW_DAYS_S: Final = 3 * _DAY_S
_PADDING: Final = 0.04  # of the range, so that a line does not touch the frame
_FLAT_AT_ZERO: Final = (-1.0, 1.0)
_NEVER_DOWN: Final = (-1.0, _PADDING)
_SAME_START: Final = 0.01
_PER_CENT: Final = 100.0
_LAST_MOMENT_S: Final = 253_402_300_799.0  # the end of the year 9999


@dataclasses.dataclass(frozen=True, slots=True)
class Trace:
    """One line of a plot: its name, the class that gives it its colour, and its points as SVG takes them."""

    label: str
    css: str
    points: str
    area: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """A label on an axis, and where: pixels from the top for y, per cent from the left for x."""

    at: float
    label: str
    anchor: str = "middle"


@dataclasses.dataclass(frozen=True, slots=True)
class Plot:
    """What the template of a plot needs.

    Attributes:
        title: What is plotted.
        unit: What follows each value.
        summary: What the lines show, in words.
        traces: The lines.
        y_ticks: Labels on the left.
        x_ticks: Labels below.
        x_range: Values of x at both ends.
        y_range: Values of y at both ends.
        axis: What x is: seconds since the epoch, the number of a row, or per cent of a run.
    """

    title: str
    unit: str
    summary: str
    traces: list[Trace]
    y_ticks: list[Tick]
    x_ticks: list[Tick]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    axis: Axis


def equity_plot(named: Sequence[tuple[str, Curve]]) -> Plot:
    """Return the plot of one curve, or of several over each other.

    Curves that begin at values more than a hundredth apart are drawn as growth since their beginning.
    """
    lines = [curve.equity for _, curve in named]
    unit = ""
    starts = [line.ys[0] for line in lines]
    if min(starts) > 0 and max(starts) - min(starts) > _SAME_START * max(starts):
        grown = [Line(line.xs, [(y / line.ys[0] - 1) * _PER_CENT for y in line.ys]) for line in lines]
        if all(math.isfinite(y) for line in grown for y in line.ys):
            lines, unit = grown, "%"
    title = "Equity" if not unit else "Equity, growth since the beginning"
    return _plot(title, unit, named, lines, with_area=False)


def drawdown_plot(named: Sequence[tuple[str, Curve]]) -> Plot | None:
    """Return the plot of the drawdowns; None when some are in per cent and others are not."""
    kinds = {curve.is_relative for _, curve in named}
    if len(kinds) > 1:
        return None
    lines = [curve.drawdown for _, curve in named]
    return _plot("Drawdown", "%" if True in kinds else "", named, lines, with_area=len(named) == 1)


def _plot(
    title: str, unit: str, named: Sequence[tuple[str, Curve]], lines: list[Line], *, with_area: bool
) -> Plot:
    axis = _axis([curve for _, curve in named])
    if axis == "share":
        lines = [_by_share(line) for line in lines]
    x_range = _x_range(lines)
    y_range = _y_range(lines)
    if y_range == _FLAT_AT_ZERO and title == "Drawdown":
        y_range = _NEVER_DOWN
    traces = [
        _trace(line, label, "ab"[index % 2], x_range, y_range, with_area=with_area)
        for index, (line, (label, _)) in enumerate(zip(lines, named, strict=True))
    ]
    return Plot(
        title=title,
        unit=unit,
        summary=" ".join(_summary(label, line, unit) for (label, _), line in zip(named, lines, strict=True)),
        traces=traces,
        y_ticks=_y_ticks(y_range, unit),
        x_ticks=_x_ticks(x_range, axis),
        x_range=x_range,
        y_range=y_range,
        axis=axis,
    )


def _axis(curves: Sequence[Curve]) -> Axis:
    """Return what x is: time, row numbers, or for curves of different kinds or times the share of each that has passed.

    Curves count as being of the same time when they share half of the shorter one's.
    """
    kinds = {curve.is_timed for curve in curves}
    if kinds == {False}:
        return "row"
    spans = [(curve.equity.xs[0], curve.equity.xs[-1]) for curve in curves]
    shared = min(last for _, last in spans) - max(first for first, _ in spans)
    shortest = min(last - first for first, last in spans)
    return "time" if kinds == {True} and shared >= shortest / 2 else "share"


def _by_share(line: Line) -> Line:
    span = (line.xs[-1] - line.xs[0]) or 1.0
    return Line([(x - line.xs[0]) / span * _PER_CENT for x in line.xs], line.ys)


def _x_range(lines: Sequence[Line]) -> tuple[float, float]:
    low, high = min(line.xs[0] for line in lines), max(line.xs[-1] for line in lines)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _y_range(lines: Sequence[Line]) -> tuple[float, float]:
    low, high = min(min(line.ys) for line in lines), max(max(line.ys) for line in lines)
    margin = (high - low) * _PADDING or abs(high) * _PADDING or 1.0
    return low - margin, high + margin


def _trace(
    line: Line,
    label: str,
    css: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    *,
    with_area: bool,
) -> Trace:
    x_scale = WIDTH / (x_range[1] - x_range[0])
    y_scale = HEIGHT / (y_range[1] - y_range[0])
    points = [
        f"{(x - x_range[0]) * x_scale:.1f},{(y_range[1] - y) * y_scale:.2f}"
        for x, y in zip(line.xs, line.ys, strict=True)
    ]
    if len(points) == 1:  # a line needs two ends to be seen
        points = [f"0,{points[0].partition(',')[2]}", f"{WIDTH},{points[0].partition(',')[2]}"]
    area = None
    if with_area:
        zero = f"{y_range[1] * y_scale:.2f}"
        left, right = points[0].partition(",")[0], points[-1].partition(",")[0]
        area = " ".join([f"{left},{zero}", *points, f"{right},{zero}"])
    return Trace(label, css, " ".join(points), area)


def _y_ticks(y_range: tuple[float, float], unit: str) -> list[Tick]:
    low, high = y_range
    step = _nice_step((high - low) / _Y_TICKS)
    first, last = math.ceil(low / step), math.floor(high / step)
    scale = HEIGHT / (high - low)
    return [
        Tick(round((high - number * step) * scale, 2), amount_text(number * step, step) + unit)
        for number in range(first, last + 1)
    ]


def _nice_step(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def amount_text(value: float, step: float) -> str:
    """Return a value with the decimals that tell steps apart, thousands set off by commas."""
    decimals = min(12, max(0, -math.floor(math.log10(step) + 1e-9)))
    text = f"{value:,.{decimals}f}"
    return text if len(text) <= 14 else f"{value:.4g}"  # noqa: PLR2004  wider than a phone's plot has room for


def _x_ticks(x_range: tuple[float, float], axis: Axis) -> list[Tick]:
    low, high = x_range
    found: list[Tick] = []
    for number in range(_X_TICKS):
        share = number / (_X_TICKS - 1)
        x = low + (high - low) * share
        labels = {"time": moment_text(x, high - low), "row": f"row {x:,.0f}", "share": f"{x:.0f}%"}
        anchor = "start" if number == 0 else ("end" if number == _X_TICKS - 1 else "middle")
        found.append(Tick(round(share * 100, 2), labels[axis], anchor))
    return found


def moment_text(at_s: float, span_s: float) -> str:
    """Return a moment as exactly as the span of a plot calls for; UTC."""
    if not abs(at_s) <= _LAST_MOMENT_S:
        return f"{at_s:.4g}"
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=at_s)
    if span_s > _YEARS_S:
        return f"{moment:%Y-%m}"
    return f"{moment:%Y-%m-%d}" if span_s > _FEW_DAYS_S else f"{moment:%m-%d %H:%M}"


def _summary(label: str, line: Line, unit: str) -> str:
    """Return in words what the line shows, for those who do not see it."""
    first, last, low, high = (
        f"{value:,.6g}{unit}" for value in (line.ys[0], line.ys[-1], min(line.ys), max(line.ys))
    )
    return f"{label}: from {first} to {last}, lowest {low}, highest {high}."

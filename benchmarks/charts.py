"""Charts as data, and the SVG that shows them.

Two forms: `Bars`, one mark for each store, and `Lines`, one line for each series. Invariant: a chart shows figures of a
result and nothing else, and says everything in text too: its figures stand beside the marks, and colour is never the
only sign. An SVG carries its own background and follows the reader's light or dark setting, so it can be read on any
page. Pure: no file, no clock.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from html import escape
from typing import TYPE_CHECKING, Final

from benchmarks.tables import figure

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH: Final = 860
_MARGIN: Final = 20
_ROW: Final = 26
_HEAD: Final = 64
_LABEL_WIDTH: Final = 300
_VALUE_WIDTH: Final = 130
_LINES_HEIGHT: Final = 260
_DASHES: Final = ("", "7 4", "2 4", "10 3 2 3")

FLUSH_KEY: Final = "Filled: on the disk when the call returns. Hollow: left to the page cache"

# The colours of each setting: background, frame, text, dim text, grid, this store, others.
_LIGHT: Final = ("#ffffff", "#d1d9e0", "#1f2328", "#59636e", "#e6eaef", "#0969da", "#6e7781")
_DARK: Final = ("#0d1117", "#3d444d", "#f0f6fc", "#9198a1", "#262c36", "#58a6ff", "#8b949e")
_SERIES: Final = (
    ("#0969da", "#58a6ff"),
    ("#bc4c00", "#f0883e"),
    ("#1a7f37", "#3fb950"),
    ("#8250df", "#bc8cff"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """One mark: its words, its figure (None: not measured), whether it is this store, whether it is hollow."""

    label: str
    value: float | None
    ours: bool = False
    hollow: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Bars:
    """One mark for each store.

    Attributes:
        name: File name without its ending.
        title: What is shown.
        unit: Unit of the figures.
        bars: The marks, from top to bottom.
        key: What filled and hollow marks mean; empty when there is no such difference.
        logarithmic: The axis is logarithmic and the marks are dots, as a bar's length would mean nothing then.
    """

    name: str
    title: str
    unit: str
    bars: Sequence[Bar]
    key: str = ""
    logarithmic: bool = False

    def svg(self) -> str:
        """Return the chart as SVG."""
        bars = [bar for bar in self.bars if bar.value is not None and bar.value > 0]
        values = [bar.value or 0.0 for bar in bars]
        left, right = _LABEL_WIDTH + _MARGIN, _WIDTH - _VALUE_WIDTH - _MARGIN
        ticks = _decades(values) if self.logarithmic else _steps(max(values))
        height = _HEAD + _ROW * len(bars) + 44
        bottom = _HEAD + _ROW * len(bars)

        def x_of(value: float) -> float:
            if self.logarithmic:
                low, high = math.log10(ticks[0]), math.log10(ticks[-1])
                return left + (right - left) * (math.log10(value) - low) / (high - low)
            return left + (right - left) * value / ticks[-1]

        parts = [_grid_line(x_of(tick), bottom, figure(tick)) for tick in ticks]
        for number, bar in enumerate(bars):
            middle = _HEAD + _ROW * number + _ROW / 2
            parts.append(self._mark(bar, middle, left, x_of(bar.value or 0.0)))
        sub = f"{self.unit}{', logarithmic' if self.logarithmic else ''}{'. ' + self.key if self.key else ''}"
        return _document(height, self.title, sub, parts)

    def _mark(self, bar: Bar, middle: float, left: float, end: float) -> str:
        kind = "ours" if bar.ours else "other"
        weight = ' font-weight="600"' if bar.ours else ""
        at = f'y="{middle + 4.5:.1f}"{weight}'
        label = f'<text class="text" x="{left - 10}" {at} text-anchor="end">{escape(bar.label)}</text>'
        value = f'<text class="text" x="{end + 12:.1f}" {at}>{figure(bar.value)}</text>'
        form = f"{kind}-hollow" if bar.hollow else kind
        if self.logarithmic:
            stem = (
                f'<line class="{kind}-stem" x1="{left}" y1="{middle:.1f}" x2="{end:.1f}" y2="{middle:.1f}"/>'
            )
            mark = f'{stem}<circle class="{form}" cx="{end:.1f}" cy="{middle:.1f}" r="6"/>'
        else:
            size = f'width="{max(1.0, end - left):.1f}" height="14" rx="2"'
            mark = f'<rect class="{form}" x="{left}" y="{middle - 7:.1f}" {size}/>'
        return label + mark + value


@dataclasses.dataclass(frozen=True, slots=True)
class Series:
    """One line: its words and its points, from left to right."""

    label: str
    points: Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True, slots=True)
class Lines:
    """One line for each series, over a logarithmic x axis.

    Attributes:
        name: File name without its ending.
        title: What is shown.
        x_title: What is counted along the x axis.
        unit: Unit of the figures.
        series: The lines, four at most.
    """

    name: str
    title: str
    x_title: str
    unit: str
    series: Sequence[Series]

    def svg(self) -> str:
        """Return the chart as SVG."""
        if len(self.series) > len(_SERIES):
            raise ValueError(f"{len(self.series)} lines cannot be told apart")
        points = [point for series in self.series for point in series.points]
        marks = sorted({x for x, _ in points})
        ticks = _steps(max(y for _, y in points))
        left, right, bottom = _MARGIN + 56, _WIDTH - 220, _HEAD + _LINES_HEIGHT
        low, high = math.log10(marks[0]), math.log10(max(marks[-1], marks[0] * 2))

        def at(x: float, y: float) -> tuple[float, float]:
            across = left + (right - left) * (math.log10(x) - low) / (high - low)
            return across, bottom - (bottom - _HEAD) * y / ticks[-1]

        parts = [_level(at(marks[0], tick)[1], left, right, figure(tick)) for tick in ticks]
        parts += [_text(at(mark, 0)[0], bottom + 20, f"{mark:,.0f}", "dim", "middle") for mark in marks]
        parts.append(_text((left + right) / 2, bottom + 40, self.x_title, "dim", "middle"))
        ends = _spread([at(*series.points[-1])[1] for series in self.series])
        for number, (series, end) in enumerate(zip(self.series, ends, strict=True)):
            places = [at(x, y) for x, y in series.points]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(
                f'<polyline class="line{number}" fill="none" stroke-width="2.5" '
                f'stroke-dasharray="{_DASHES[number]}" points="{path}"/>'
            )
            parts += [f'<circle class="dot{number}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in places]
            words = f"{series.label}: {figure(series.points[-1][1])}"
            parts.append(_text(right + 14, end + 4.5, words, f"dot{number}", "start"))
        return _document(bottom + 60, self.title, self.unit, parts)


Chart = Bars | Lines


def _grid_line(x: float, bottom: float, words: str) -> str:
    line = f'<line class="grid" x1="{x:.1f}" y1="{_HEAD - 4}" x2="{x:.1f}" y2="{bottom + 4:.1f}"/>'
    return line + _text(x, bottom + 20, words, "dim", "middle")


def _level(y: float, left: float, right: float, words: str) -> str:
    line = f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
    return line + _text(left - 10, y + 4.5, words, "dim", "end")


def _text(x: float, y: float, words: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _document(height: float, title: str, sub: str, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(title)}">'
    )
    frame = f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1:.0f}" rx="6"/>'
    words = (
        f'<text class="title" x="{_MARGIN}" y="28">{escape(title)}</text>'
        f'<text class="dim" x="{_MARGIN}" y="48">{escape(sub)}</text>'
    )
    return "\n".join([head, f"<style>{_style()}</style>", frame, words, *parts, "</svg>"]) + "\n"


def _style() -> str:
    shared = (
        "text{font:13px -apple-system,BlinkMacSystemFont,'Segoe UI','Noto Sans',Helvetica,Arial,sans-serif}"
        ".title{font-size:15px;font-weight:600}.dim{font-size:12px}"
    )
    return shared + _colours(_LIGHT, 0) + f"@media (prefers-color-scheme:dark){{{_colours(_DARK, 1)}}}"


def _colours(colours: tuple[str, ...], setting: int) -> str:
    card, frame, text, dim, grid, ours, other = colours
    rules = [
        f".card{{fill:{card};stroke:{frame}}}.text,.title{{fill:{text}}}.dim{{fill:{dim}}}.grid{{stroke:{grid}}}",
    ]
    for kind, colour in (("ours", ours), ("other", other)):
        rules.append(
            f".{kind}{{fill:{colour};stroke:{colour};stroke-width:2}}"
            f".{kind}-hollow{{fill:{card};stroke:{colour};stroke-width:2}}.{kind}-stem{{stroke:{colour};opacity:.45}}"
        )
    for number, pair in enumerate(_SERIES):
        rules.append(f".line{number}{{stroke:{pair[setting]}}}.dot{number}{{fill:{pair[setting]}}}")
    return "".join(rules)


def _decades(values: Sequence[float]) -> list[float]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


def _steps(most: float) -> list[float]:
    """Return even ticks from 0 to at least ``most``: four to six steps of 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(most / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * 6 >= most)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def _spread(places: Sequence[float], gap: float = 17) -> list[float]:
    """Move labels apart so that none covers another, keeping their order; y grows downwards."""
    moved = list(places)
    order = sorted(range(len(moved)), key=lambda number: moved[number])
    for before, after in itertools.pairwise(order):
        moved[after] = max(moved[after], moved[before] + gap)
    return moved

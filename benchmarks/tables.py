"""Tables as data, and figures as short text; `render` turns them into pages."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """One table of a page; the first column is text, the others mostly figures."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    note: str = ""

    def markdown(self) -> str:
        """Return the table in Markdown, with figures aligned to the right."""
        aligned = ["---"] + [
            "---:" if self._is_figures(place) else "---" for place in range(1, len(self.heads))
        ]
        lines = [self.heads, aligned, *self.rows]
        text = "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
        return text + (f"\n\n{self.note}" if self.note else "")

    def _is_figures(self, place: int) -> bool:
        return all(row[place][:1].isdigit() or row[place] in {"", "n/a"} for row in self.rows)


@dataclasses.dataclass(frozen=True, slots=True)
class Headline:
    """One line of the README's table: a question; the figures of this store, the replaced system, the best peer."""

    question: str
    ours: str
    replaced: str
    peer: str


def figure(value: float | None) -> str:
    """Write a figure with three significant digits, whole when large; "n/a" when there is none."""
    if value is None:
        return "n/a"
    if value >= 100:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    text = f"{value:.3g}"
    return text if "e" not in text else f"{value:.6f}".rstrip("0")


def best_peers(peers: Sequence[Mapping[str, Any]], key: str, *, most: bool = False) -> str:
    """Name the peer with the best figure, and beside one that does not flush the best of those that do.

    Args:
        peers: Engines with ``title`` and ``flushed``.
        key: Which of their figures counts.
        most: Whether the highest is the best, not the lowest.
    """
    pick = max if most else min
    best = pick(peers, key=lambda peer: float(peer[key]))
    flushed = pick((peer for peer in peers if peer["flushed"]), key=lambda peer: float(peer[key]))
    return " · ".join(
        f"{peer['title']} {figure(peer[key])}{'' if peer['flushed'] else ' (not flushed)'}"
        for peer in (best, *(() if best is flushed else (flushed,)))
    )


def megabytes(size_bytes: float) -> str:
    """Write a size in megabytes (10^6 bytes)."""
    return figure(size_bytes / 1_000_000)

"""Small charts made of characters: bars with labels, and a row of columns.

Invariant: pure; fits the width it is given; where nothing was counted it says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_EIGHTHS: Final = "▏▎▍▌▋▊▉█"
_COLUMNS: Final = "▁▂▃▄▅▆▇█"
_PLAIN: Final = "#"
_LEAST_BAR: Final = 10
_GAPS: Final = 4
_NOTHING: Final = "nothing counted yet"


def bars(pairs: Sequence[tuple[str, int]], width: int, *, plain: bool = False) -> list[str]:
    """Return a line for each label: the label, a bar as long as its share of the greatest count, the count.

    Args:
        pairs: Labels and counts; zeroes at both ends are left out.
        width: Columns to fit into.
        plain: Use ASCII only.
    """
    filled = [index for index, (_, count) in enumerate(pairs) if count > 0]
    if not filled:
        return [_NOTHING]
    shown = pairs[filled[0] : filled[-1] + 1]
    label_width = max(len(label) for label, _ in shown)
    count_width = max(len(f"{count:,}") for _, count in shown)
    room = max(_LEAST_BAR, width - label_width - count_width - _GAPS)
    most = max(count for _, count in shown)
    return [
        f"{label:>{label_width}}  {_bar(count / most, room, plain=plain):<{room}}  {count:>{count_width},}".rstrip()
        for label, count in shown
    ]


def columns(values: Sequence[float], *, plain: bool = False) -> str:
    """Return a row of columns, one for each value, as high as its share of the greatest; blanks for zeroes.

    Args:
        values: Non-negative numbers.
        plain: Use digits from 1 to 8 instead of blocks.
    """
    most = max(values, default=0)
    if most <= 0:
        return _NOTHING
    steps = "12345678" if plain else _COLUMNS
    return "".join(
        " " if value <= 0 else steps[min(len(steps) - 1, int(value / most * (len(steps) - 1) + 0.5))]
        for value in values
    )


def _bar(share: float, room: int, *, plain: bool) -> str:
    if plain:
        return _PLAIN * max(1 if share else 0, round(share * room))
    eighths = round(share * room * len(_EIGHTHS))
    whole, rest = divmod(max(1 if share else 0, eighths), len(_EIGHTHS))
    return _EIGHTHS[-1] * whole + (_EIGHTHS[rest - 1] if rest else "")

"""Quantities as people type them: ``5%``, ``60s``, ``2h``.

Invariant: what cannot be read is a usage error that shows the form; nothing is guessed.
"""

from __future__ import annotations

import re
from typing import Final

import typer

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?")
_UNIT_S: Final = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PER_CENT: Final = 100


def parse_share(text: str | float) -> float:
    """Return a share above 0 and up to 1, of text such as ``5%`` or ``0.05``; a number is a default, taken as it is."""
    if isinstance(text, int | float):
        return text
    number, mark, rest = text.partition("%")
    try:
        share = float(number) / (_PER_CENT if mark else 1)
    except ValueError:
        share = 0.0
    if rest or not 0 < share <= 1:
        raise typer.BadParameter(f"{text!r} is not a share such as 5% or 0.05")
    return share


def parse_duration(text: str | float) -> float:
    """Return a duration in seconds, of text such as ``60s``, ``5m`` or ``90``; a number is taken as it is."""
    if isinstance(text, int | float):
        return text
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a duration such as 60s, 5m or 1h")
    return float(match[1]) * _UNIT_S[match[2]]

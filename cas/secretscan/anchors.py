"""From rules to anchors: what an engine looks for, in the words in which it is fast.

An automaton passes over text in which none of its literals ends, as long as none is shorter than three bytes; a single
shorter one makes it look at every byte, for all rules. So sets of bytes are spelled out here until each literal has
three. Invariant: the spellings of an anchor match together what the anchor matches. This module looks at no artifact.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final

from cas.secretscan.engine import Anchor, Fixed, Guarded
from cas.secretscan.tree import beginnings, byte_class, members, parse

if TYPE_CHECKING:
    from cas.secretrules import Rule

_BEGINNING_BYTES: Final = 20
_MIN_LITERAL_CHARS: Final = 2
_LITERAL_BYTES: Final = 3  # the shortest literal that lets the automaton pass over text
# What it spells out by itself: a set of so many bytes, and so many literals.
_SPELLED_BYTES: Final = 8
_SPELLED_COUNT: Final = 32


def anchors_of(rule: Rule) -> list[Anchor]:
    """Return what an engine looks for to try a rule; every match of the rule lies at one of them."""
    if rule.guard:
        return [Guarded(rule.guard, rule.literals, _gates(rule.gate))]
    begun = beginnings(parse(rule.pattern), _BEGINNING_BYTES)
    if begun is None:
        raise AssertionError(f"rule {rule.id} has no fixed beginning")
    return [_fixed(masks) for masks in begun]


def _fixed(masks: tuple[int, ...]) -> Fixed:
    literal, literal_at, run_at = b"", 0, 0
    run = b""
    for at, mask in enumerate((*masks, 0)):
        letters = {bytes((byte,)).lower() for byte in members(mask, most=2)}
        if len(letters) == 1:
            run += letters.pop()
            continue
        if len(run) > len(literal):
            literal, literal_at = run, run_at
        run, run_at = b"", at + 1
    if len(literal) < _MIN_LITERAL_CHARS:
        literal = b""
    expression = b"".join(byte_class(mask) for mask in masks)
    return Fixed(expression, len(masks), literal, literal_at, tuple(_spellings(masks)))


def _gates(gate: bytes) -> tuple[bytes, ...]:
    found: list[bytes] = []
    for masks in beginnings(parse(gate), _LITERAL_BYTES) or () if gate else ():
        found += _spellings(masks) or [b"".join(map(byte_class, masks))]
    return tuple(found)


def _spellings(masks: tuple[int, ...]) -> list[bytes]:
    """Return expressions with a literal of three bytes each that together match ``masks``, where that has none."""
    windows = range(len(masks) - _LITERAL_BYTES + 1)
    spelled_counts = [math.prod(map(int.bit_count, masks[at : at + _LITERAL_BYTES])) for at in windows]
    if not spelled_counts or min(spelled_counts) <= _SPELLED_COUNT:
        return []
    at = spelled_counts.index(min(spelled_counts))
    window = masks[at : at + _LITERAL_BYTES]
    widest = max(window, key=int.bit_count)
    cut = [
        _cut(mask, _SPELLED_BYTES if number == window.index(widest) else 1)
        for number, mask in enumerate(window)
    ]
    before, behind = masks[:at], masks[at + _LITERAL_BYTES :]
    return [b"".join(map(byte_class, (*before, *chosen, *behind))) for chosen in itertools.product(*cut)]


def _cut(mask: int, size: int) -> list[int]:
    """Return ``mask`` in sets of at most ``size`` bytes."""
    found = members(mask)
    return [sum(1 << byte for byte in found[start : start + size]) for start in range(0, len(found), size)]

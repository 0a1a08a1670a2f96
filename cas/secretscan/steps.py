"""How many steps does a backtracking matcher take on the worst text of a window, from all its places together?

A step is the comparison of one byte. Ways into each position are counted along a text: one for each way in which the
text up to there can be read. `is_cheap` counts for all texts at once, and never too little; where that is too coarse,
`worst_text_bytes` goes after the text that costs most. Invariant: what is called cheap takes no more than `MOST_STEPS`,
and a text that is said to take more does. Nothing is matched here.
"""

from __future__ import annotations

import heapq
import operator
from typing import TYPE_CHECKING, Final

from cas.secretscan.automaton import Automaton, Counted, TooComplexError, build, ends_in_condition
from cas.secretscan.engine import WINDOW_BYTES

if TYPE_CHECKING:
    from cas.secretscan.automaton import Part
    from cas.secretscan.tree import Node

# A fifth of a second at 10 nanoseconds a step. One repeat without a limit may stand anywhere, a second one over the
# same text only behind fixed text.
MOST_STEPS: Final = 1 << 24
_MODELS: Final[tuple[Counted, ...]] = ("loop", "whole")
_MAX_POSITIONS: Final = 2000  # more take longer to count than the text search
_TEXTS: Final = 8  # that are followed at a time, by what they have cost, and as many by what they cost now


def is_cheap(node: Node) -> bool:
    """Tell whether no text of a window takes more than `MOST_STEPS`; False where that cannot be shown."""
    is_final = not ends_in_condition(node)
    for model in _MODELS:
        try:
            automaton, whole = build(node, model)
        except TooComplexError:
            continue
        if len(automaton.masks) <= _MAX_POSITIONS and _is_cheap(automaton, whole, is_final=is_final):
            return True
    return False


def _is_cheap(automaton: Automaton, whole: Part, *, is_final: bool) -> bool:
    """Tell it of one automaton.

    A matcher that has reached an end of the expression, ``is_final``, takes back nothing of what led there; it can only
    go on from there, once for each match.
    """
    ends = set(whole.last) if is_final else set[int]()
    groups = _grouped(automaton)
    begun = dict.fromkeys(whole.first, 1)
    left = _left(automaton, groups, begun, MOST_STEPS, each=True, ends=ends)
    after: dict[int, int] = {}
    for end in ends:
        for target, ways in automaton.follow[end].items():
            after[target] = max(after.get(target, 0), ways)
    if left >= 0 and after:
        left = _left(automaton, groups, after, left // WINDOW_BYTES, each=False, ends=set())
    return left >= 0


# For each position: groups of positions, with their ways, that can stand before it under one and the same byte.
_Groups = list[list[list[tuple[int, int]]]]


def _grouped(automaton: Automaton) -> _Groups:
    masks = automaton.masks
    before: list[dict[int, int]] = [{} for _ in masks]
    for source, following in enumerate(automaton.follow):
        for target, ways in following.items():
            before[target][source] = ways
    kinds = _kinds(masks)
    found: _Groups = []
    for sources in before:
        sets = {frozenset(source for source in sources if masks[source] >> byte & 1) for byte in kinds}
        largest = [one for one in sets if one and not any(one < other for other in sets)]
        found.append([[(source, sources[source]) for source in one] for one in largest])
    return found


def _kinds(masks: list[int]) -> list[int]:
    """Return one byte of each kind that the positions tell apart and that one of them takes."""
    distinct = list(dict.fromkeys(masks))
    kinds = {tuple(mask >> byte & 1 for mask in distinct): byte for byte in reversed(range(256))}
    return sorted(byte for kind, byte in kinds.items() if any(kind))


def _costs(automaton: Automaton) -> list[int]:
    """Return what one way into each position costs: its own byte, and a comparison for each that may follow."""
    return [1 + len(following) for following in automaton.follow]


def _left(
    automaton: Automaton,
    groups: _Groups,
    begun: dict[int, int],
    steps: int,
    *,
    each: bool,
    ends: set[int],
) -> int:
    """Return what the worst text of a window leaves of some steps, less than none when they do not suffice.

    Args:
        automaton: The positions.
        groups: What may stand before each.
        begun: Ways into the first positions.
        steps: Steps there are.
        each: Begin at each byte of the text; False begins at the first one only.
        ends: Positions from which nothing goes on.
    """
    costs = _costs(automaton)
    every = range(len(costs))
    ways = [begun.get(position, 0) for position in every]
    again = begun if each else {}
    for length in range(1, WINDOW_BYTES + 1):
        spent: int = sum(map(operator.mul, ways, costs)) + len(again)
        steps -= spent
        if steps < 0 or not spent:
            break
        previous = [0 if position in ends else count for position, count in enumerate(ways)]
        following = [
            max((sum(previous[source] * by for source, by in group) for group in groups[position]), default=0)
            + again.get(position, 0)
            for position in every
        ]
        if following == ways:
            return steps - spent * (WINDOW_BYTES - length)
        ways = following
    return steps


def worst_text_bytes(node: Node) -> int | None:
    """Return after how many bytes of a text more than `MOST_STEPS` are taken, None when no such text was found.

    Raises:
        TooComplexError: The expression is too large.
    """
    automaton, whole = build(node, "whole")
    ends = set[int]() if ends_in_condition(node) else set(whole.last)
    costs, kinds = _costs(automaton), _kinds(automaton.masks)
    texts: list[tuple[int, int, dict[int, int]]] = [(0, 0, {})]
    for length in range(1, WINDOW_BYTES + 1):
        longer: dict[tuple[tuple[int, int], ...], tuple[int, int, dict[int, int]]] = {}
        for spent, _, ways in texts:
            for byte in kinds:
                following = _read(automaton, ways, whole.first, ends, byte)
                cost = sum(count * costs[position] for position, count in following.items())
                key = tuple(sorted(following.items()))
                if key not in longer or longer[key][0] < spent + cost:
                    longer[key] = (spent + cost, cost, following)
        found = list(longer.values())
        texts = heapq.nlargest(_TEXTS, found, operator.itemgetter(0))
        texts += [text for text in heapq.nlargest(_TEXTS, found, operator.itemgetter(1)) if text not in texts]
        if texts[0][0] > MOST_STEPS:
            return length
    return None


def _read(
    automaton: Automaton, ways: dict[int, int], first: list[int], ends: set[int], byte: int
) -> dict[int, int]:
    """Return the ways into each position after one more byte, with those that begin at it."""
    masks = automaton.masks
    following = {position: 1 for position in first if masks[position] >> byte & 1}
    for source, count in ways.items():
        if source in ends:
            continue
        for target, by in automaton.follow[source].items():
            if masks[target] >> byte & 1:
                following[target] = following.get(target, 0) + count * by
    return following

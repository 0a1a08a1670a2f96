"""Can matching an expression take time out of proportion to the text?

A backtracking matcher runs away when one text can be read in many ways. The position automaton is searched for the two
faults that Weber and Seidl describe (1991), two ways round one loop, which cost exponential time, and a chain of loops
over the same text, which costs a power of its length; and for a text that takes too many steps without either.
Invariant: no expression of exponential cost is passed; where the search itself would take too long, the answer is that
it may be. Nothing is matched here.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from cas.secretscan.automaton import Automaton, TooComplexError, build, ends_in_condition
from cas.secretscan.steps import MOST_STEPS, is_cheap, worst_text_bytes
from cas.secretscan.tree import Node, beginnings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ANCHORING_BYTES: Final = 3  # a search that starts so tries few places
_MAX_STATES: Final = 500_000  # of each search; half a second


def runaway_reason(node: Node) -> str | None:
    """Return why matching ``node`` can run away, or None when it cannot.

    Args:
        node: Tree of the whole expression.
    """
    try:
        return _reason(node)
    except (TooComplexError, RecursionError):
        return "it is too large to be shown harmless"


def _reason(node: Node) -> str | None:
    automaton, whole = build(node, "few")
    component = _components(automaton.follow)
    if automaton.is_ambiguous or _loops_twice(automaton, component):
        return "a repeated part can match the same text in several ways, which takes exponential time"
    if is_cheap(node):
        return None
    # A loop in which the match may already end never has to be taken back.
    harmless: set[int] = set() if ends_in_condition(node) else set(whole.last)
    begun = beginnings(node, _ANCHORING_BYTES)
    anchored = begun is not None and all(len(masks) == _ANCHORING_BYTES for masks in begun)
    chain = _longest_chain(automaton, component, harmless)
    if chain > (2 if anchored else 1):
        return f"{chain} unlimited repeats follow each other over the same text; bound them, as in {{0,40}}"
    length_bytes = worst_text_bytes(node)
    if length_bytes is not None:
        return (
            f"{length_bytes} bytes of text can take more than {MOST_STEPS:,} steps; let fewer repeats match the same "
            "text, or lower their limits"
        )
    return None


def _components(follow: Sequence[Iterable[int]]) -> list[int]:
    """Return for each node the number of its strongly connected component, in an order that edges never go up."""
    order: list[int] = []
    seen: set[int] = set()
    for root in range(len(follow)):
        _finish(follow, root, seen, order)
    backwards: list[list[int]] = [[] for _ in follow]
    for source, targets in enumerate(follow):
        for target in targets:
            backwards[target].append(source)
    component = [-1] * len(follow)
    count = 0
    for root in reversed(order):
        if component[root] >= 0:
            continue
        stack = [root]
        component[root] = count
        while stack:
            for source in backwards[stack.pop()]:
                if component[source] < 0:
                    component[source] = count
                    stack.append(source)
        count += 1
    return component


def _finish(follow: Sequence[Iterable[int]], root: int, seen: set[int], order: list[int]) -> None:
    if root in seen:
        return
    seen.add(root)
    stack = [(root, iter(follow[root]))]
    while stack:
        node, targets = stack[-1]
        target = next((target for target in targets if target not in seen), None)
        if target is None:
            stack.pop()
            order.append(node)
        else:
            seen.add(target)
            stack.append((target, iter(follow[target])))


def _loops_twice(automaton: Automaton, component: list[int]) -> bool:
    """Tell whether some position can return to itself over one text in two ways.

    Two readings of one text are a pair of positions. They part and meet again if a pair of different ones lies on a
    cycle with a pair of equal ones.
    """
    for source, ways in enumerate(automaton.follow):
        if any(count > 1 and component[target] == component[source] for target, count in ways.items()):
            return True
    numbers = {(position, position): position for position in range(len(automaton.masks))}
    pairs, follow = list(numbers), list[list[int]]()
    tried_count = 0
    while len(follow) < len(pairs):
        left, right = pairs[len(follow)]
        targets: list[int] = []
        inside = [
            [target for target in automaton.follow[position] if component[target] == component[position]]
            for position in (left, right)
        ]
        tried_count += len(inside[0]) * len(inside[1])
        if tried_count > _MAX_STATES:
            raise TooComplexError
        for one, other in itertools.product(*inside):
            if automaton.masks[one] & automaton.masks[other]:
                pair = (min(one, other), max(one, other))
                if pair not in numbers:
                    numbers[pair] = len(pairs)
                    pairs.append(pair)
                targets.append(numbers[pair])
        follow.append(targets)
    found = _components(follow)
    equal = {found[number] for number, (left, right) in enumerate(pairs) if left == right}
    return any(found[number] in equal for number, (left, right) in enumerate(pairs) if left != right)


def _longest_chain(automaton: Automaton, component: list[int], harmless: set[int]) -> int:
    """Return the largest number of loops through which one text can be divided in every way."""
    loops = [
        position
        for position, ways in enumerate(automaton.follow)
        if position not in harmless and any(component[target] == component[position] for target in ways)
    ]
    longest: dict[int, int] = {}
    # Later loops have higher component numbers, so they are finished first.
    for position in sorted(loops, key=lambda position: -component[position]):
        following = [
            longest[component[other]]
            for other in loops
            if component[other] > component[position] and _divides(automaton, component, position, other)
        ]
        here = 1 + max(following, default=0)
        longest[component[position]] = max(longest.get(component[position], 0), here)
    return max(longest.values(), default=0)


def _divides(automaton: Automaton, component: list[int], first: int, second: int) -> bool:
    """Tell whether some text leads round ``first``, round ``second``, and from the one to the other."""
    start, goal = (first, first, second), (first, second, second)
    stack = [start]
    seen = {start}
    while stack:
        one, two, three = stack.pop()
        for a in automaton.follow[one]:
            if component[a] != component[first]:
                continue
            for c in automaton.follow[three]:
                mask = automaton.masks[a] & automaton.masks[c]
                if component[c] != component[second] or not mask:
                    continue
                for b in automaton.follow[two]:
                    state = (a, b, c)
                    if not mask & automaton.masks[b] or state in seen:
                        continue
                    if state == goal:
                        return True
                    seen.add(state)
                    stack.append(state)
        if len(seen) > _MAX_STATES:
            raise TooComplexError
    return False

"""Can matching an expression take time out of proportion to the text?

A backtracking matcher runs away when one text can be read in many ways. The tree is turned into its position
automaton (Glushkov 1961) and searched for the two faults that Weber and Seidl describe (1991): two ways round
one loop, which cost exponential time, and a chain of loops over the same text, which costs a power of its
length. Invariant: no expression of exponential cost is passed; where the search itself would take too long,
the answer is that it may be. Nothing is matched here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cas.secretscan.tree import (
    ALL_BYTES,
    Bytes,
    Choice,
    Look,
    Node,
    Repeat,
    Sequence,
    Unknown,
    beginnings,
    can_be_empty,
)

# A repeat up to this often is written out; one with a higher limit counts as unlimited, as its cost is that
# of one.
_WRITTEN_OUT: Final = 3
_LARGE_REPEAT: Final = 100
_MAX_POSITIONS: Final = 400
_ANCHORING_BYTES: Final = 3  # a search that starts so tries few places
_MAX_STEPS: Final = 200_000


class TooComplexError(Exception):
    """The automaton is too large to be searched."""


@dataclass(slots=True)
class _Part:
    """First and last positions of a part, and whether it can be empty."""

    first: list[int]
    last: list[int]
    empty: bool


@dataclass(slots=True)
class _Automaton:
    masks: list[int] = field(default_factory=list[int])
    # For each position those that may come next, and how many ways lead there.
    follow: list[dict[int, int]] = field(default_factory=list[dict[int, int]])
    is_ambiguous: bool = False

    def add(self, mask: int) -> int:
        if len(self.masks) >= _MAX_POSITIONS:
            raise TooComplexError
        self.masks.append(mask)
        self.follow.append({})
        return len(self.masks) - 1

    def join(self, sources: list[int], targets: list[int]) -> None:
        for source in sources:
            ways = self.follow[source]
            for target in targets:
                ways[target] = ways.get(target, 0) + 1


def runaway_reason(node: Node) -> str | None:
    """Return why matching ``node`` can run away, or None when it cannot.

    Args:
        node: Tree of the whole expression.
    """
    try:
        for part in (node, *_conditions(node)):
            reason = _reason(part)
            if reason:
                return reason
    except (TooComplexError, RecursionError):
        return "it is too large to be shown harmless"
    return None


def _conditions(node: Node) -> list[Node]:
    match node:
        case Look(inner):
            return [inner, *_conditions(inner)]
        case Sequence(parts) | Choice(parts):
            return [found for part in parts for found in _conditions(part)]
        case Repeat(body, _, _):
            return _conditions(body)
        case _:
            return []


def _reason(node: Node) -> str | None:
    automaton = _Automaton()
    whole = _build(node, automaton)
    component = _components(automaton)
    if automaton.is_ambiguous or _loops_twice(automaton, component):
        return "a repeated part can match the same text in several ways, which takes exponential time"
    # A loop in which the match may already end never has to be taken back.
    harmless: set[int] = set() if _ends_in_condition(node) else set(whole.last)
    begun = beginnings(node, _ANCHORING_BYTES)
    anchored = begun is not None and all(len(masks) == _ANCHORING_BYTES for masks in begun)
    chain = _longest_chain(automaton, component, harmless)
    if chain > (2 if anchored else 1):
        return f"{chain} unlimited repeats follow each other over the same text; bound them, as in {{0,80}}"
    return None


def _ends_in_condition(node: Node) -> bool:  # noqa: PLR0911  # one return for each kind of node
    match node:
        case Look():
            return True
        case Sequence(parts):
            for part in reversed(parts):
                if _ends_in_condition(part):
                    return True
                if not can_be_empty(part):
                    return False
            return False
        case Choice(branches):
            return any(_ends_in_condition(branch) for branch in branches)
        case Repeat(body, _, _):
            return _ends_in_condition(body)
        case _:
            return False


def _build(node: Node, automaton: _Automaton) -> _Part:
    match node:
        case Bytes(mask):
            position = automaton.add(mask)
            return _Part([position], [position], empty=False)
        case Sequence(parts):
            return _build_sequence(list(parts), automaton)
        case Choice(branches):
            built = [_build(branch, automaton) for branch in branches]
            return _Part(
                [p for part in built for p in part.first],
                [p for part in built for p in part.last],
                any(part.empty for part in built),
            )
        case Repeat(body, least, most):
            return _build_repeat(body, least, most, automaton)
        case Look():
            return _Part([], [], empty=True)
        case Unknown():
            return _build_repeat(Bytes(ALL_BYTES), 0, None, automaton)


def _build_sequence(parts: list[Node], automaton: _Automaton) -> _Part:
    done = _Part([], [], empty=True)
    for node in parts:
        part = _build(node, automaton)
        automaton.join(done.last, part.first)
        done = _Part(
            done.first + part.first if done.empty else done.first,
            part.last + done.last if part.empty else part.last,
            done.empty and part.empty,
        )
    return done


def _build_repeat(body: Node, least: int, most: int | None, automaton: _Automaton) -> _Part:
    if can_be_empty(body) and (least > 1 or (most is not None and most > _WRITTEN_OUT)):
        automaton.is_ambiguous = True  # which of the counted rounds are empty ones?
    if (most is None or most > _WRITTEN_OUT) and _is_empty_in_two_ways(body):
        automaton.is_ambiguous = True  # each round can be read twice
    written = min(least, _WRITTEN_OUT)
    maybe = Choice((body, Sequence(())))
    if most is not None and most <= _LARGE_REPEAT and isinstance(body, Bytes):
        copies: list[Node] = [*[body] * written, *[maybe] * (most > least)]
        return _build_sequence(copies, automaton)
    if most is not None and most <= _WRITTEN_OUT:
        return _build_sequence([body] * least + [maybe] * (most - least), automaton)
    before = _build_sequence([body] * max(0, written - 1), automaton)
    loop = _build(body, automaton)
    automaton.join(loop.last, loop.first)
    automaton.join(before.last, loop.first)
    empty = loop.empty or least == 0
    return _Part(
        before.first + loop.first if before.empty else before.first,
        loop.last + before.last if empty else loop.last,
        before.empty and empty,
    )


def _is_empty_in_two_ways(node: Node) -> bool:
    """Tell whether a part of ``node`` can match nothing in more than one way; positions do not show that."""
    match node:
        case Choice(branches):
            return sum(map(can_be_empty, branches)) > 1 or any(map(_is_empty_in_two_ways, branches))
        case Sequence(parts):
            return any(map(_is_empty_in_two_ways, parts))
        case Repeat(body, least, most):
            return (least == 0 and most is not None and can_be_empty(body)) or _is_empty_in_two_ways(body)
        case _:
            return False


def _components(automaton: _Automaton) -> list[int]:
    """Return for each position the number of its strongly connected component, in an order that edges never go up."""
    order: list[int] = []
    seen: set[int] = set()
    for root in range(len(automaton.masks)):
        _finish(automaton, root, seen, order)
    backwards: list[list[int]] = [[] for _ in automaton.masks]
    for source, ways in enumerate(automaton.follow):
        for target in ways:
            backwards[target].append(source)
    component = [-1] * len(automaton.masks)
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


def _finish(automaton: _Automaton, root: int, seen: set[int], order: list[int]) -> None:
    if root in seen:
        return
    seen.add(root)
    stack = [(root, iter(automaton.follow[root]))]
    while stack:
        position, targets = stack[-1]
        target = next((target for target in targets if target not in seen), None)
        if target is None:
            stack.pop()
            order.append(position)
        else:
            seen.add(target)
            stack.append((target, iter(automaton.follow[target])))


def _loops_twice(automaton: _Automaton, component: list[int]) -> bool:
    """Tell whether some position can return to itself over one text in two ways."""
    for source, ways in enumerate(automaton.follow):
        if any(count > 1 and component[target] == component[source] for target, count in ways.items()):
            return True
    return any(_parts_and_meets(automaton, component, position) for position in range(len(automaton.masks)))


def _parts_and_meets(automaton: _Automaton, component: list[int], position: int) -> bool:
    """Tell whether two readings that part after ``position`` come together in it again, within its component."""
    stack = [(position, position)]
    seen = set(stack)
    parted: set[tuple[int, int]] = set()
    inside = component[position]
    while stack:
        pair = stack.pop()
        for left in automaton.follow[pair[0]]:
            for right in automaton.follow[pair[1]]:
                if component[left] != inside or component[right] != inside:
                    continue
                if not automaton.masks[left] & automaton.masks[right]:
                    continue
                following = (left, right)
                if following == (position, position) and pair in parted:
                    return True
                is_parted = left != right or pair in parted
                if following in seen and not (is_parted and following not in parted):
                    continue
                seen.add(following)
                if is_parted:
                    parted.add(following)
                stack.append(following)
        if len(seen) > _MAX_STEPS:
            raise TooComplexError
    return False


def _longest_chain(automaton: _Automaton, component: list[int], harmless: set[int]) -> int:
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


def _divides(automaton: _Automaton, component: list[int], first: int, second: int) -> bool:
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
        if len(seen) > _MAX_STEPS:
            raise TooComplexError
    return False

"""The position automaton of an expression (Glushkov 1961): which byte of it may follow which.

A condition that looks ahead or behind hangs on at its place and leads to nothing, as a matcher tries it there and goes
on from where it was. Invariant: every way of a matcher through a text is a path of the automaton. Nothing is matched
here.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Final, Literal

from cas.secretscan.tree import ALL_BYTES, Bytes, Choice, Look, Node, Repeat, Sequence, Unknown, can_be_empty

# A repeat of one byte with a higher limit counts as unlimited, as its cost is that of one.
_LARGE_REPEAT: Final = 100
_WRITTEN_OUT: Final = 3
_MAX_POSITIONS: Final = 2000
_MAX_POSITIONS_WHOLE: Final = 4000

# A counted repeat of one byte as a repeat without a limit, as its first few rounds, or as all of them. The first two
# admit more than there is, each in its own way; the few rounds show loops and no numbers.
Counted = Literal["loop", "few", "whole"]


class TooComplexError(Exception):
    """The automaton is too large to be searched."""


@dataclass(slots=True)
class Part:
    """First and last positions of a part, and whether it can be empty."""

    first: list[int]
    last: list[int]
    empty: bool


@dataclass(slots=True)
class Automaton:
    """Positions and what follows them.

    Attributes:
        counted: How counted repeats of one byte are written.
        masks: The bytes of each position.
        follow: For each position those that may come next, and how many ways lead there.
        is_ambiguous: A repeated part can be empty in several ways, which positions do not show.
    """

    counted: Counted = "few"
    masks: list[int] = field(default_factory=list[int])
    follow: list[dict[int, int]] = field(default_factory=list[dict[int, int]])
    is_ambiguous: bool = False

    def add(self, mask: int) -> int:
        """Add a position and return its number.

        Raises:
            TooComplexError: There are too many.
        """
        if len(self.masks) >= (_MAX_POSITIONS_WHOLE if self.counted == "whole" else _MAX_POSITIONS):
            raise TooComplexError
        self.masks.append(mask)
        self.follow.append({})
        return len(self.masks) - 1

    def join(self, sources: list[int], targets: list[int]) -> None:
        """Let each target follow each source, in one way more."""
        for source in sources:
            ways = self.follow[source]
            for target in targets:
                ways[target] = ways.get(target, 0) + 1


def build(node: Node, counted: Counted) -> tuple[Automaton, Part]:
    """Return the automaton of a tree, with where it begins and ends.

    Raises:
        TooComplexError: It is too large.
    """
    automaton = Automaton(counted)
    try:
        return automaton, _build(node, automaton)
    except RecursionError:
        raise TooComplexError from None


def ends_in_condition(node: Node) -> bool:  # noqa: PLR0911  # one return for each kind of node
    """Tell whether a match may still fail where nothing more has to be read: at a look around or a back reference."""
    match node:
        case Look() | Unknown():
            return True
        case Sequence(parts):
            for part in reversed(parts):
                if ends_in_condition(part):
                    return True
                if not can_be_empty(part):
                    return False
            return False
        case Choice(branches):
            return any(ends_in_condition(branch) for branch in branches)
        case Repeat(body, _, _):
            return ends_in_condition(body)
        case _:
            return False


def _build(node: Node, automaton: Automaton) -> Part:
    match node:
        case Bytes(mask):
            position = automaton.add(mask)
            return Part([position], [position], empty=False)
        case Sequence(parts):
            return _build_sequence(list(parts), automaton)
        case Choice(branches):
            built = [_build(branch, automaton) for branch in branches]
            return Part(
                [p for part in built for p in part.first],
                [p for part in built for p in part.last],
                any(part.empty for part in built),
            )
        case Repeat(body, least, most):
            return _build_repeat(body, least, most, automaton)
        case Look(condition):
            # Tried at each place that leads there, and left behind again: it goes on to nothing.
            return Part(_build(condition, automaton).first, [], empty=True)
        case Unknown():
            return _build_repeat(Bytes(ALL_BYTES), 0, None, automaton)


def _build_sequence(parts: list[Node], automaton: Automaton) -> Part:
    done = Part([], [], empty=True)
    for node in parts:
        part = _build(node, automaton)
        automaton.join(done.last, part.first)
        done = Part(
            done.first + part.first if done.empty else done.first,
            part.last + done.last if part.empty else part.last,
            done.empty and part.empty,
        )
    return done


def _build_repeat(body: Node, least: int, most: int | None, automaton: Automaton) -> Part:
    if can_be_empty(body) and (least > 1 or (most is not None and most > _WRITTEN_OUT)):
        automaton.is_ambiguous = True  # which of the counted rounds are empty ones?
    if (most is None or most > _WRITTEN_OUT) and _is_empty_in_two_ways(body):
        automaton.is_ambiguous = True  # each round can be read twice
    written = min(least, _WRITTEN_OUT)
    maybe = Choice((body, Sequence(())))
    if most is not None and most <= _LARGE_REPEAT and isinstance(body, Bytes) and automaton.counted != "loop":
        if automaton.counted == "whole":
            return _build_counted(body, least, most, automaton)
        copies: list[Node] = [*[body] * written, *[maybe] * (most > least)]
        return _build_sequence(copies, automaton)
    if most is not None and most <= _WRITTEN_OUT:
        return _build_sequence([body] * least + [maybe] * (most - least), automaton)
    before = _build_sequence([body] * max(0, written - 1), automaton)
    loop = _build(body, automaton)
    automaton.join(loop.last, loop.first)
    automaton.join(before.last, loop.first)
    empty = loop.empty or least == 0
    return Part(
        before.first + loop.first if before.empty else before.first,
        loop.last + before.last if empty else loop.last,
        before.empty and empty,
    )


def _build_counted(body: Bytes, least: int, most: int, automaton: Automaton) -> Part:
    """Write a repeat of one byte out, so that so many of them are one way and no more."""
    positions = [automaton.add(body.mask) for _ in range(most)]
    for position, following in itertools.pairwise(positions):
        automaton.join([position], [following])
    return Part(positions[:1], positions[max(0, least - 1) :], empty=least == 0)


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

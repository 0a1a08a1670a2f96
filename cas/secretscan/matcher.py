"""From bytes to hits: candidates of an engine, judged one by one in windows of fixed size.

Invariant: whether a place holds a credential depends on a window around it and on nothing else, so a file cut
into blocks, whatever engine was used, gives the same hits. A hit holds a fingerprint, never a value. Matchers
are immutable and may be shared by threads and processes.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cas.secretrules import KIND_RULES, RULES, Rule
from cas.secretscan.allowance import Allowance, now_ns
from cas.secretscan.anchors import anchors_of
from cas.secretscan.assignments import Assigned, read_assignment
from cas.secretscan.checks import CHECKS, key_body
from cas.secretscan.encodings import Decoded, WrappedAnchor, decode_base64, wide_texts, wrapped_anchors
from cas.secretscan.engine import (
    CELL_BYTES,
    GUARD_REACH_BYTES,
    MATCH_BYTES,
    WIDE_INDEX,
    WINDOW_BYTES,
    Anchor,
    Engine,
)
from cas.secretscan.findings import fingerprint
from cas.secretscan.tables import read_insert, read_table
from cas.secretscan.waivers import inline_mark

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cas.secretscan.patterns import UserPattern

# The window: a key file's body and the rest of the line fit ahead; a line's beginning and a name fit behind.
BACK_BYTES: Final = 1024
AHEAD_BYTES: Final = 5120
# What a block must carry on either side of the part that it answers for. UTF-16 doubles the window, and a
# text found by its middle reaches back.
OVERLAP_BYTES: Final = 16 * 1024
_EDGE_BYTES: Final = 2048
_GUARD_BACK_BYTES: Final = 64
_MAX_DEPTH: Final = 2  # base64 inside UTF-16
_USER_RANK: Final = 100


class Hit(NamedTuple):
    """One place that was judged a credential.

    Attributes:
        start: Offset of the value's first byte.
        end: Offset behind its last byte.
        rank: Of overlapping hits the highest rank stays.
        rule: Id of the rule.
        description: Its description.
        fingerprint: See ``findings``.
        mark: Inline waiver on the same line that covers the rule, or empty.
        wide: It lies in UTF-16 text.
    """

    start: int
    end: int
    rank: int
    rule: str
    description: str
    fingerprint: str
    mark: str
    wide: bool


class Block(NamedTuple):
    """A stretch of a file.

    Attributes:
        data: Its bytes, with ``OVERLAP_BYTES`` on either side where the file goes on.
        base: Offset of ``data`` in the file, a multiple of twice ``CELL_BYTES``.
        core_start: First offset in ``data`` that this block answers for.
        core_end: Offset behind the last.
    """

    data: bytes
    base: int
    core_start: int
    core_end: int


class _Prepared:
    """A rule whose expressions are compiled when they are first needed: most rules never are."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    @functools.cached_property
    def pattern(self) -> re.Pattern[bytes]:
        return re.compile(self.rule.pattern)

    @functools.cached_property
    def guard(self) -> re.Pattern[bytes] | None:
        return re.compile(self.rule.guard, re.IGNORECASE) if self.rule.guard else None


@functools.cache
def _built_in() -> tuple[tuple[Anchor, ...], tuple[_Prepared | WrappedAnchor, ...]]:
    """Return the anchors of the rule table and what each stands for; made once for a process."""
    made: list[tuple[Anchor, _Prepared | WrappedAnchor]] = []
    for rule in RULES:
        prepared = _Prepared(rule)
        made += [(anchor, prepared) for anchor in anchors_of(rule)]
    made += [(wrapped.anchor, wrapped) for wrapped in wrapped_anchors()]
    anchors, targets = zip(*made, strict=True)
    return anchors, targets


class Matcher:
    """The built-in rules and a user's patterns, ready to judge."""

    def __init__(self, user_patterns: Iterable[UserPattern]) -> None:
        anchors, targets = _built_in()
        self.anchors: list[Anchor] = list(anchors)
        self._targets: list[_Prepared | WrappedAnchor | UserPattern] = list(targets)
        for pattern in user_patterns:
            self.anchors.append(pattern.anchor(CELL_BYTES))
            self._targets.append(pattern)

    def search(
        self, block: Block, engine: Engine, place: str, depth: int = 0, allowance: Allowance | None = None
    ) -> list[Hit]:
        """Return the hits whose value begins in the core of ``block``, with offsets in the file.

        Args:
            block: What to search.
            engine: Engine over ``self.anchors``.
            place: ``code``, ``config`` or ``text``.
            depth: How many encodings have been undone.
            allowance: What a user's patterns have left; None gives them that of the block.

        Raises:
            PatternTooSlowError: One of them takes more than that.
        """
        if allowance is None:
            allowance = Allowance(len(block.data))
        found: set[Hit] = set()
        cells: set[tuple[int, int]] = set()
        first, last = block.core_start - OVERLAP_BYTES // 2, block.core_end + _EDGE_BYTES
        for index, at in engine.candidates(block.data):
            if index == WIDE_INDEX:
                found.update(self._search_wide(block, engine, place, depth, allowance))
                continue
            if not first <= at <= last:
                continue
            target = self._targets[index]
            if isinstance(target, _Prepared):
                found.update(_judge(target, block.data, at, place))
            elif isinstance(target, WrappedAnchor):
                found.update(self._search_wrapped(target, block, at, engine, place, depth, allowance))
            else:
                cells.update((index, cell) for cell in _cells(block, at))
        for index, cell in cells:
            target = self._targets[index]
            if not isinstance(target, _Prepared | WrappedAnchor):
                started_ns = now_ns()
                found.update(_match_cell(target, block.data, cell))
                allowance.spend(target.rule, started_ns)
        return [
            hit._replace(start=hit.start + block.base, end=hit.end + block.base)
            for hit in found
            if block.core_start <= hit.start < block.core_end
        ]

    def _search_wide(
        self, block: Block, engine: Engine, place: str, depth: int, allowance: Allowance
    ) -> Iterator[Hit]:
        if depth >= _MAX_DEPTH:
            return
        for decoded in wide_texts(block.data):
            # The grid of cells must not depend on where the block begins.
            base = (block.base + decoded.start) // 2
            lead = base % (2 * CELL_BYTES)
            inner = Block(bytes(lead) + decoded.text, base - lead, lead, lead + len(decoded.text))
            for hit in self.search(inner, engine, place, depth + 1, allowance):
                yield _moved(hit, decoded, base)._replace(wide=True)

    def _search_wrapped(
        self,
        target: WrappedAnchor,
        block: Block,
        at: int,
        engine: Engine,
        place: str,
        depth: int,
        allowance: Allowance,
    ) -> Iterator[Hit]:
        if depth >= _MAX_DEPTH:
            return
        text, low = _window(block.data, at)
        decoded = decode_base64(text, at - low, target.quad_at)
        if decoded is None:
            return
        inner = Block(decoded.text, 0, 0, len(decoded.text))
        inner_place = "text" if place == "code" else place
        for hit in self.search(inner, engine, inner_place, depth + 1, allowance):
            moved = _moved(hit, decoded, 0)
            mark = inline_mark(text, moved.start, hit.rule)
            yield moved._replace(start=moved.start + low, end=moved.end + low, mark=mark, wide=False)


def _moved(hit: Hit, decoded: Decoded, base: int) -> Hit:
    start = decoded.origin(hit.start - base)
    return hit._replace(start=start, end=max(start + 1, decoded.origin(hit.end - base)))


def _window(data: bytes, at: int) -> tuple[bytes, int]:
    low = max(0, at - BACK_BYTES)
    return data[low : at + AHEAD_BYTES], low


def _judge(prepared: _Prepared, data: bytes, at: int, place: str) -> Iterator[Hit]:
    text, low = _window(data, at)
    rule = prepared.rule
    here = at - low
    if prepared.guard is not None and not _is_guarded(prepared.guard, text, here):
        return
    if rule.check == "assignment":
        assigned = read_assignment(text, here, place, option=rule.id == "option")
        if assigned is not None:
            yield _assigned_hit(assigned, text, low, rule.rank)
        return
    if rule.check == "table" and place == "code":  # lists of names look like headers there
        return
    if rule.check in {"table", "insert"}:
        for cell in read_table(text, here) if rule.check == "table" else read_insert(text, here):
            yield _assigned_hit(cell, text, low, rule.rank)
        return
    match = prepared.pattern.match(text, here)
    if match is None:
        return
    group = "v" if "v" in prepared.pattern.groupindex else 0
    span: tuple[int, int] | None = match.span(group)
    if rule.check:
        span = CHECKS[rule.check](text, *match.span(group))
    if span is not None:
        yield _hit(text, low, span, rule.rank, rule.id, rule.description)


def _is_guarded(guard: re.Pattern[bytes], text: bytes, here: int) -> bool:
    """Tell whether the guard matches in a way that makes every engine report this place."""
    at = max(0, here - _GUARD_BACK_BYTES)
    while (match := guard.search(text, at, here + GUARD_REACH_BYTES)) is not None:
        if match.end() > here:
            return True
        at = match.start() + 1
    return False


def _assigned_hit(assigned: Assigned, text: bytes, low: int, rank: int) -> Hit:
    kind = assigned.kind
    name = "trading" if kind.trading and kind.kind in {"key", "secret", "token"} else kind.kind
    rule, description = KIND_RULES[name]
    return _hit(text, low, (assigned.start, assigned.end), rank, rule, description)


def _hit(text: bytes, low: int, span: tuple[int, int], rank: int, rule: str, description: str) -> Hit:
    start, end = span
    value = text[start:end]
    if rule == "private-key":
        value = key_body(value)  # the same key, however its lines are broken
    return Hit(
        start + low,
        end + low,
        rank,
        rule,
        description,
        fingerprint(rule, value),
        inline_mark(text, start, rule),
        wide=False,
    )


def _cells(block: Block, at: int) -> Iterator[int]:
    """Yield the offsets of the cells in which a match that holds ``at`` may begin."""
    for place in range(at - MATCH_BYTES, at + 1, CELL_BYTES):
        cell = place // CELL_BYTES * CELL_BYTES  # a block begins where a cell does
        if 0 <= cell < len(block.data):
            yield cell


def _match_cell(pattern: UserPattern, data: bytes, cell: int) -> Iterator[Hit]:
    low = max(0, cell - BACK_BYTES)
    text = data[low : cell + CELL_BYTES + AHEAD_BYTES]
    stop = cell + CELL_BYTES - low
    for match in pattern.compiled.finditer(text, cell - low, cell + WINDOW_BYTES - low):
        if match.start() >= stop:
            return
        # A branch without the group may have matched, and its text is forbidden all the same.
        group = "v" if "v" in pattern.compiled.groupindex and match["v"] else 0
        span = match.span(group)
        yield _hit(text, low, span, _USER_RANK, pattern.rule, pattern.description)


def without_overlaps(hits: list[Hit]) -> list[Hit]:
    """Return the hits in file order, of those on the same bytes only the one with the highest rank."""
    kept: list[Hit] = []
    taken: dict[int, list[Hit]] = {}
    for hit in sorted(hits, key=lambda hit: (-hit.rank, hit.start, -hit.end, hit.rule)):
        around = range(hit.start // AHEAD_BYTES - 2, hit.end // AHEAD_BYTES + 1)
        if any(
            other.start < hit.end and hit.start < other.end
            for cell in around
            for other in taken.get(cell, ())
        ):
            continue
        kept.append(hit)
        taken.setdefault(hit.start // AHEAD_BYTES, []).append(hit)
    return sorted(kept)

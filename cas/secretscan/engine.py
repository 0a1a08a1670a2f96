"""Where to look: candidates for the slow, exact judgement, found at memory speed.

Two engines, Hyperscan and pure Python, report places at which a rule *may* match. Invariant: each reports
every place at which the judgement could accept, so both lead to the same findings whatever else they report.
No engine decides anything, and none keeps a reference to the bytes it was given.

Thread safety: engines are immutable once built and may be shared; Hyperscan's scratch space is one per
thread. Fork safety: there is no lock and no thread; a child may go on using an engine of its parent.
"""

from __future__ import annotations

import importlib
import re
import threading
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import ModuleType

# How far before the end of a guard's match the literals are looked for. The longest accepted reach is that of
# an address with a password: "://", 80 characters of user, 200 of password.
GUARD_REACH_BYTES: Final = 320
# A user's pattern is run on one cell after the other: a match begins in the cell, and is found up to this length. Both
# together are the window that one run looks at.
CELL_BYTES: Final = 512
MATCH_BYTES: Final = 1024
WINDOW_BYTES: Final = CELL_BYTES + MATCH_BYTES
# Printable characters each followed by a zero byte: UTF-16 text, in either byte order. Eight, so that arrays
# of small numbers are not taken for it.
WIDE_MIN_CHARS: Final = 8
WIDE: Final = re.compile(rb"(?:[\t\n\r\x20-\x7e]\x00){%d,}[\t\n\r\x20-\x7e]?" % WIDE_MIN_CHARS)
_WIDE_EXPRESSION: Final = rb"(?:[\t\n\r\x20-\x7e]\x00){%d}" % WIDE_MIN_CHARS


class Fixed(NamedTuple):
    """A beginning of constant width, as one byte set for each position.

    ``spellings``, where there are any, match together what ``expression`` matches, and each has a longer literal.
    """

    expression: bytes
    width: int
    literal: bytes
    literal_at: int
    spellings: tuple[bytes, ...] = ()


class Guarded(NamedTuple):
    """Literals that count where ``guard``, which is caseless, has matched shortly after.

    One of ``gates``, where there are any, matches in whatever ``guard`` matches; they are caseless, and no literal of
    theirs is short.
    """

    guard: bytes
    literals: tuple[bytes, ...]
    gates: tuple[bytes, ...] = ()


class Loose(NamedTuple):
    """A user's expression; ``expression`` None or an empty ``literal`` means that nothing narrower is known."""

    expression: bytes | None
    literal: bytes
    step_bytes: int


Anchor = Fixed | Guarded | Loose
# Index of the anchor, and a place: the beginning of a fixed anchor or of a literal; of a loose match somewhere inside
# it, or the beginning of the cell, counted from the beginning of the data, in which it ends.
Candidate = tuple[int, int]
_Pattern = tuple[int, bytes, int]  # number, expression, flags

# Index of the pseudo anchor that says "there is UTF-16 text somewhere"; its place means nothing.
WIDE_INDEX: Final = -1


class Engine(Protocol):
    """Finds candidates; see the module's invariant."""

    def candidates(self, data: bytes) -> list[Candidate]:
        """Return places in ``data`` worth judging, sorted, each once."""
        ...


class PythonEngine:
    """Candidates by literal search with the standard library alone."""

    def __init__(self, anchors: Iterable[tuple[int, Anchor]]) -> None:
        # Anchor, literal, its letters, its place in the anchor.
        self._literals: list[tuple[int, bytes, bytes, int]] = []
        self._patterns: list[tuple[int, re.Pattern[bytes]]] = []
        self._steps: list[tuple[int, int]] = []
        for index, anchor in anchors:
            match anchor:
                case Fixed(_, _, literal, literal_at, _) if literal:
                    self._literals.append((index, literal, _letters(literal), literal_at))
                case Fixed(expression):
                    # Zero width, because matches may overlap.
                    self._patterns.append((index, re.compile(b"(?=" + expression + b")", re.DOTALL)))
                case Guarded(_, literals, _):
                    self._literals += [(index, literal, _letters(literal), 0) for literal in literals]
                case Loose(_, literal, _) if literal:
                    self._literals.append((index, literal, _letters(literal), 0))
                case Loose(_, _, step_bytes):
                    self._steps.append((index, step_bytes))

    def candidates(self, data: bytes) -> list[Candidate]:
        """See ``Engine``."""
        # Numbers and punctuation make up most of an artifact and none of most literals: what is left is
        # searched first.
        letters = _letters(data)
        lowered = data.lower()
        found: set[Candidate] = set()
        for index, literal, its_letters, literal_at in self._literals:
            if its_letters in letters:
                found.update(
                    (index, at - literal_at) for at in _occurrences(lowered, literal) if at >= literal_at
                )
        for index, pattern in self._patterns:
            found.update((index, match.start()) for match in pattern.finditer(data))
        for index, step_bytes in self._steps:
            found.update((index, at) for at in range(0, len(data) + step_bytes, step_bytes))
        if b"\0" in data and WIDE.search(data):
            found.add((WIDE_INDEX, 0))
        return sorted(found)


_LOWER: Final = bytes(range(256)).lower()
_NO_LETTERS: Final = bytes(byte for byte in range(256) if not bytes((byte,)).isalpha())


def _letters(data: bytes) -> bytes:
    return data.translate(_LOWER, _NO_LETTERS)


def _occurrences(data: bytes, literal: bytes) -> Iterator[int]:
    at = data.find(literal)
    while at >= 0:
        yield at
        at = data.find(literal, at + 1)


class _Automaton:
    """One compiled set of expressions, each told by its number."""

    def __init__(self, patterns: Sequence[_Pattern]) -> None:
        hyperscan = _hyperscan()
        ids, expressions, flags = zip(*patterns, strict=True)
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._database.compile(expressions=expressions, ids=ids, elements=len(patterns), flags=flags)
        self._local = threading.local()

    def events(self, data: bytes) -> list[tuple[int, int]]:
        """Return the number and the end of every match."""
        events: list[tuple[int, int]] = []
        self._scan(data, _remember, events)
        return events

    def cells(self, data: bytes) -> set[tuple[int, int]]:
        """Return the numbers and the beginnings of the cells in which matches end.

        Such a set stays small where the matches of one expression end at every byte.
        """
        cells: set[tuple[int, int]] = set()
        self._scan(data, _remember_cell, cells)
        return cells

    def _scan(
        self, data: bytes, on_match: Callable[[int, int, int, int, object], None], context: object
    ) -> None:
        scratch = getattr(self._local, "scratch", None)
        if scratch is None:
            scratch = self._local.scratch = _hyperscan().Scratch(self._database)
        self._database.scan(data, match_event_handler=on_match, context=context, scratch=scratch)


class HyperscanEngine:
    """Candidates by one pass of a compiled multi-pattern automaton, and rarely by a second of a small one.

    The automaton looks for literals and passes over the bytes between. One literal of one or two bytes makes it look
    at every byte, for all rules: what has none longer goes to an automaton of its own, which runs where a gate tells
    that it may find something. A user's patterns, of whose literals nothing is known, have one of their own too.
    """

    def __init__(self, anchors: Sequence[Anchor]) -> None:
        self._anchors = tuple(anchors)
        always, gated, users, unknown = _sorted_out(self._anchors)
        self._gated: dict[int, _Automaton] = {}  # by the number of their gates in the first automaton
        flags = _hyperscan().HS_FLAG_CASELESS | _hyperscan().HS_FLAG_SINGLEMATCH
        for number, (gates, patterns) in enumerate(gated.items(), len(self._anchors)):
            always += [(number, gate, flags) for gate in gates]
            self._gated[number] = _Automaton(patterns)
        self._always = _Automaton(always)
        self._users = _Automaton(users) if users else None
        self._wide = _Automaton([(0, _WIDE_EXPRESSION, _hyperscan().HS_FLAG_SINGLEMATCH)])
        self._rest = PythonEngine((index, anchors[index]) for index in unknown) if unknown else None

    def _events(self, data: bytes) -> list[tuple[int, int]]:
        events = self._always.events(data)
        if events:
            for number in {index for index, _ in events if index in self._gated}:
                events += self._gated[number].events(data)
        return events

    def candidates(self, data: bytes) -> list[Candidate]:
        """See ``Engine``."""
        events = self._events(data)
        is_wide = b"\0" in data and bool(self._wide.events(data))
        found: set[Candidate] = set() if self._users is None else self._users.cells(data)
        if self._rest is not None:
            found.update(self._rest.candidates(data))
        if is_wide:
            found.add((WIDE_INDEX, 0))
        if not events and not found:
            return []  # most artifacts
        for index, end in events:
            anchor = self._anchors[index] if index < len(self._anchors) else None
            match anchor:
                case Fixed():
                    found.add((index, end - anchor.width))
                case Guarded():
                    start = max(0, end - GUARD_REACH_BYTES)
                    region = data[start:end].lower()
                    found.update(
                        (index, start + at)
                        for literal in anchor.literals
                        for at in _occurrences(region, literal)
                    )
                case _:  # a gate
                    pass
        return sorted(found)


def _remember(index: int, _start: int, end: int, _flags: int, context: object) -> None:
    cast("list[tuple[int, int]]", context).append((index, end))


def _remember_cell(index: int, _start: int, end: int, _flags: int, context: object) -> None:
    cast("set[tuple[int, int]]", context).add((index, end - end % CELL_BYTES))


def _hyperscan() -> ModuleType:
    return importlib.import_module("hyperscan")


def _sorted_out(
    anchors: tuple[Anchor, ...],
) -> tuple[list[_Pattern], dict[tuple[bytes, ...], list[_Pattern]], list[_Pattern], list[int]]:
    """Return patterns for every pass, those behind gates, the user's, and the anchors that have none."""
    always: list[_Pattern] = []
    gated: dict[tuple[bytes, ...], list[_Pattern]] = {}
    users: list[_Pattern] = []
    unknown: list[int] = []
    for index, anchor in enumerate(anchors):
        match anchor:
            case Fixed(expression):
                always += [(index, spelling, 0) for spelling in anchor.spellings or (expression,)]
            case Guarded(guard, _, gates):
                where = gated.setdefault(gates, []) if gates else always
                where.append((index, guard, _hyperscan().HS_FLAG_CASELESS))
            case Loose(expression) if expression is not None and _is_taken(expression):
                users.append((index, expression, 0))
            case Loose():
                unknown.append(index)
    return always, gated, users, unknown


def _is_taken(expression: bytes) -> bool:
    """Tell whether Hyperscan takes a user's expression."""
    try:
        _Automaton([(0, expression, 0)])
    except _hyperscan().error:
        return False
    return True


def build(anchors: Sequence[Anchor], engine: str) -> Engine:
    """Return an engine over ``anchors``.

    Args:
        anchors: What to look for; candidates name them by their index.
        engine: ``hyperscan`` or ``python``.

    Raises:
        ImportError: Hyperscan was asked for and is not installed.
    """
    return HyperscanEngine(anchors) if engine == "hyperscan" else PythonEngine(enumerate(anchors))

"""The ``where`` language: comparisons over metrics and metadata, joined by and, or, not.

    net_pnl > 100 and (win_rate >= 0.5 or not metadata.note = "x")

Names are test metrics first, then top-level metadata keys; dots walk into nested mappings. A comparison with a value
of another type, or with a missing one, is false. Invariant: parsing either gives a predicate or a QueryError with the
position; nothing is ever evaluated as code. Pure.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cas.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Literal = str | float | bool | None
_MAX_DEPTH: Final = 50  # deeper nesting is a mistake, and recursion must end
_TOKEN: Final = re.compile(
    r"""(?:
        (?P<number>[-+]?(?:\d++\.?\d*+|\.\d++)(?:[eE][-+]?\d++)?(?![\w.]))
      | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<operator><=|>=|==|!=|<>|=|<|>|~)
      | (?P<bracket>[()])
      | (?P<word>[^\W\d][\w.%-]*)
    )""",
    re.VERBOSE,
)
_NO_BLANK: Final = re.compile(r"\S")
_COMPARE: Final[dict[str, Callable[[Any, Any], object]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
}
_CONSTANTS: Final[dict[str, Literal]] = {"true": True, "false": False, "null": None, "none": None}
_JOINS: Final = frozenset({"and", "or", "not"})


class Token(NamedTuple):
    """One word of an expression, its kind, and the character offset it begins at."""

    kind: str
    text: str
    position: int


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison: a name, an operator and a literal."""

    name: str
    sign: str
    value: Literal

    def matches(self, metadata: Mapping[str, object]) -> bool:
        """Tell whether the run's metadata satisfies it."""
        found, actual = look_up(metadata, self.name)
        if self.sign == "~":
            return isinstance(actual, str) and str(self.value).casefold() in actual.casefold()
        if not found:
            return False
        if self.value is None or actual is None:
            same = actual is None and self.value is None
            return same if self.sign in {"=", "=="} else (not same if self.sign in {"!=", "<>"} else False)
        if not _comparable(actual, self.value):
            return False
        return bool(_COMPARE[self.sign](actual, self.value))


@dataclasses.dataclass(frozen=True, slots=True)
class Joined:
    """Parts joined by ``and`` or ``or``; ``not`` has one part."""

    join: str
    parts: tuple[Predicate, ...]

    def matches(self, metadata: Mapping[str, object]) -> bool:
        """Tell whether the run's metadata satisfies it."""
        if self.join == "not":
            return not self.parts[0].matches(metadata)
        every = (part.matches(metadata) for part in self.parts)
        return all(every) if self.join == "and" else any(every)


Predicate = Comparison | Joined


def parse(expression: str) -> Predicate:
    """Return the predicate of a ``where`` expression.

    Raises:
        QueryError: It is not one; ``position`` is the offset of the problem.
    """
    if not isinstance(expression, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise QueryError(f"where must be text, not {type(expression).__name__}")
    return _Parser(expression).parse()


def bounds(predicate: Predicate) -> dict[str, tuple[float | None, float | None]]:
    """Return, for each name that every match must keep in a range, that range with its ends included.

    Used to choose an index; the predicate itself still decides.
    """
    if isinstance(predicate, Comparison):
        if isinstance(predicate.value, bool) or not isinstance(predicate.value, int | float):
            return {}
        value = predicate.value
        ranges = {"<": (None, value), "<=": (None, value), ">": (value, None), ">=": (value, None)}
        ranges |= {"=": (value, value), "==": (value, value)}
        return {predicate.name: ranges[predicate.sign]} if predicate.sign in ranges else {}
    if predicate.join != "and":
        return {}
    merged: dict[str, tuple[float | None, float | None]] = {}
    for part in predicate.parts:
        for name, (low, high) in bounds(part).items():
            old_low, old_high = merged.get(name, (None, None))
            merged[name] = (_tighter(max, old_low, low), _tighter(min, old_high, high))
    return merged


def _tighter(pick: Callable[[float, float], float], left: float | None, right: float | None) -> float | None:
    if left is None or right is None:
        return right if left is None else left
    return pick(left, right)


def look_up(metadata: Mapping[str, object], name: str) -> tuple[bool, object]:
    """Return whether a run has a value of that name, and the value: metrics first, then metadata, dots walk in."""
    metrics = metadata.get("test_metrics")
    for scope in (metrics, metadata):
        if isinstance(scope, dict):
            found, value = _walk(scope, name)  # pyright: ignore[reportUnknownArgumentType]
            if found:
                return True, value
    return False, None


def _walk(scope: Mapping[str, object], name: str) -> tuple[bool, object]:
    if name in scope:
        return True, scope[name]
    head, _, rest = name.partition(".")
    inner = scope.get(head)
    if rest and isinstance(inner, dict):
        return _walk(inner, rest)  # pyright: ignore[reportUnknownArgumentType]
    return False, None


def _comparable(left: object, right: object) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return isinstance(left, bool) and isinstance(right, bool)
    if isinstance(left, str) or isinstance(right, str):
        return isinstance(left, str) and isinstance(right, str)
    return isinstance(left, int | float) and isinstance(right, int | float)


class _Parser:
    """Recursive descent over the tokens: or, and, not, comparison."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = list(_tokens(expression))
        self._index = 0

    def parse(self) -> Predicate:
        predicate = self._either(0)
        token = self._peek()
        if token.kind != "end":
            raise self._fault(token, f"expected 'and' or 'or', found {token.text!r}")
        return predicate

    def _either(self, depth: int) -> Predicate:
        return self._chain("or", lambda: self._chain("and", lambda: self._single(depth)))

    def _chain(self, join: str, part: Callable[[], Predicate]) -> Predicate:
        parts = [part()]
        while self._peek().kind == "word" and self._peek().text.lower() == join:
            self._index += 1
            parts.append(part())
        return parts[0] if len(parts) == 1 else Joined(join, tuple(parts))

    def _single(self, depth: int) -> Predicate:
        token = self._next()
        if depth >= _MAX_DEPTH:
            raise self._fault(token, "nested too deeply")
        if token.kind == "word" and token.text.lower() == "not":
            return Joined("not", (self._single(depth + 1),))
        if token.text == "(" and token.kind == "bracket":
            inner = self._either(depth + 1)
            closing = self._next()
            if closing.text != ")":
                raise self._fault(closing, "expected ')'")
            return inner
        if token.kind not in {"word", "text"} or token.text.lower() in _JOINS:
            raise self._fault(token, "expected the name of a metric" + _found(token))
        name = _unquoted(token.text) if token.kind == "text" else token.text
        sign = self._next()
        if sign.kind != "operator":
            raise self._fault(sign, "expected one of < <= = != >= > ~" + _found(sign))
        return Comparison(name, sign.text, self._literal())

    def _literal(self) -> Literal:
        token = self._next()
        if token.kind == "number":
            number = float(token.text)
            if not math.isfinite(number):
                raise self._fault(token, "the number is out of range")
            return int(token.text) if token.text.lstrip("+-").isdigit() else number
        if token.kind == "text":
            return _unquoted(token.text)
        if token.kind == "word" and token.text.lower() in _CONSTANTS:
            return _CONSTANTS[token.text.lower()]
        raise self._fault(token, "expected a number, a quoted text, true, false or null" + _found(token))

    def _peek(self) -> Token:
        return self._tokens[self._index]

    def _next(self) -> Token:
        token = self._tokens[self._index]
        if token.kind != "end":
            self._index += 1
        return token

    def _fault(self, token: Token, why: str) -> QueryError:
        pointer = " " * token.position + "^"
        return QueryError(
            f"where: {why} at position {token.position}",
            position=token.position,
            hint=f"{self._expression}\n{pointer}",
        )


def _tokens(expression: str) -> list[Token]:
    tokens: list[Token] = []
    position = 0
    while (begun := _NO_BLANK.search(expression, position)) is not None:
        start = begun.start()
        match = _TOKEN.match(expression, start)
        if match is None or match.lastgroup is None:
            pointer = " " * start + "^"
            raise QueryError(
                f"where: cannot read {expression[start]!r} at position {start}",
                position=start,
                hint=f"{expression}\n{pointer}",
            )
        tokens.append(Token(match.lastgroup, match.group(match.lastgroup), match.start(match.lastgroup)))
        position = match.end()
    tokens.append(Token("end", "", len(expression)))
    return tokens


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _found(token: Token) -> str:
    return ", found the end" if token.kind == "end" else f", found {token.text!r}"

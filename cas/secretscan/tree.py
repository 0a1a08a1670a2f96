"""Regular expressions as trees of byte sets, made from Python's own parser.

Two things are read off a tree: what a linear-time engine has to look for (never narrower than the
expression), and whether matching the expression can run away. Invariant: every string that the expression
matches is matched by its tree; where the tree cannot say more (lookarounds, back references) it admits more,
never less. This module matches nothing.
"""

from __future__ import annotations

import functools
import importlib
import re
from dataclasses import dataclass
from typing import Any, Final

ALL_BYTES: Final = (1 << 256) - 1
_NOT_NEWLINE: Final = ALL_BYTES & ~(1 << 10)


@dataclass(frozen=True, slots=True)
class Bytes:
    """One byte out of a set; bit n of ``mask`` stands for byte n."""

    mask: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """Parts one after the other; empty matches the empty text."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several branches."""

    branches: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """``node`` at least ``least`` times and at most ``most`` times; ``most`` None has no limit."""

    node: Node
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Look:
    """A condition without width, which the tree as a whole does not apply."""

    node: Node


@dataclass(frozen=True, slots=True)
class Unknown:
    """Text that depends on an earlier group: anything, of any length."""


Node = Bytes | Sequence | Choice | Repeat | Look | Unknown


def parse(pattern: bytes) -> Node:
    """Return the tree of a Python bytes pattern.

    Raises:
        re.error: The pattern is not a valid expression.
    """
    parsed: Any = importlib.import_module("re._parser").parse(pattern)
    return _sequence(parsed, parsed.state.flags)


def _sequence(items: Any, flags: int) -> Node:  # noqa: ANN401  # the parser's own types are private
    parts = tuple(_node(str(op), argument, flags) for op, argument in items)
    return parts[0] if len(parts) == 1 else Sequence(parts)


def _node(op: str, argument: Any, flags: int) -> Node:  # noqa: ANN401, C901, PLR0911  # one return for each kind of node
    match op:
        case "LITERAL":
            return Bytes(_literal(argument, flags))
        case "NOT_LITERAL":
            return Bytes(ALL_BYTES & ~_literal(argument, flags))
        case "ANY":
            return Bytes(ALL_BYTES if flags & re.DOTALL else _NOT_NEWLINE)
        case "IN":
            return Bytes(_set(argument, flags))
        case "BRANCH":
            return Choice(tuple(_sequence(branch, flags) for branch in argument[1]))
        case "SUBPATTERN":
            return _sequence(argument[3], (flags | argument[1]) & ~argument[2])
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, body = argument
            unlimited = str(most) == "MAXREPEAT"
            return Repeat(_sequence(body, flags), int(least), None if unlimited else int(most))
        case "ATOMIC_GROUP":
            return _sequence(argument, flags)
        case "ASSERT" | "ASSERT_NOT":
            inner = _sequence(argument[1], flags)
            return Look(inner if argument[0] > 0 else _any_bytes(inner))
        case "AT":
            return Look(Sequence(()))
        case "GROUPREF_EXISTS":
            _, there, absent = argument
            return Choice((_sequence(there, flags), _sequence(absent or (), flags)))
        case _:  # GROUPREF, and whatever a later Python adds
            return Unknown()


def _any_bytes(node: Node) -> Node:
    """Return a tree of the same form that says nothing of the text: a look behind sees other text than what follows."""
    match node:
        case Bytes():
            return Bytes(ALL_BYTES)
        case Sequence(parts):
            return Sequence(tuple(map(_any_bytes, parts)))
        case Choice(branches):
            return Choice(tuple(map(_any_bytes, branches)))
        case Repeat(body, least, most):
            return Repeat(_any_bytes(body), least, most)
        case Look() | Unknown():
            return node


def _literal(byte: int, flags: int) -> int:
    mask = 1 << byte
    return _both_cases(mask) if flags & re.IGNORECASE else mask


def _set(items: Any, flags: int) -> int:  # noqa: ANN401
    mask, negated = 0, False
    for op, argument in items:
        match str(op):
            case "NEGATE":
                negated = True
            case "LITERAL":
                mask |= 1 << argument
            case "RANGE":
                low, high = argument
                mask |= (1 << (high + 1)) - (1 << low)
            case "CATEGORY":
                mask |= _CATEGORIES[str(argument)]
            case _:
                mask = ALL_BYTES
    if flags & re.IGNORECASE:
        mask = _both_cases(mask)
    return ALL_BYTES & ~mask if negated else mask


def _both_cases(mask: int) -> int:
    upper, lower = mask >> 65 & 0x3FFFFFF, mask >> 97 & 0x3FFFFFF
    return mask | upper << 97 | lower << 65


def _mask(characters: bytes) -> int:
    mask = 0
    for byte in characters:
        mask |= 1 << byte
    return mask


_DIGITS: Final = _mask(b"0123456789")
_SPACES: Final = _mask(b" \t\n\r\f\v")
_WORDS: Final = _mask(b"_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CATEGORIES: Final[dict[str, int]] = {
    "CATEGORY_DIGIT": _DIGITS,
    "CATEGORY_NOT_DIGIT": ALL_BYTES & ~_DIGITS,
    "CATEGORY_SPACE": _SPACES,
    "CATEGORY_NOT_SPACE": ALL_BYTES & ~_SPACES,
    "CATEGORY_WORD": _WORDS,
    "CATEGORY_NOT_WORD": ALL_BYTES & ~_WORDS,
}


def can_be_empty(node: Node) -> bool:
    """Tell whether the tree matches the empty text."""
    match node:
        case Bytes():
            return False
        case Sequence(parts):
            return all(can_be_empty(part) for part in parts)
        case Choice(branches):
            return any(can_be_empty(branch) for branch in branches)
        case Repeat(body, least, _):
            return least == 0 or can_be_empty(body)
        case Look() | Unknown():
            return True


def beginnings(node: Node, width_limit: int, count_limit: int = 16) -> list[tuple[int, ...]] | None:
    """Return byte sets, position by position, with one of which every match begins.

    Args:
        node: Tree of the expression.
        width_limit: Most positions in one beginning.
        count_limit: Most beginnings; an expression with more choices has none.

    Returns:
        Beginnings of at least one position, or None when there are too many or one is empty.
    """
    done: list[tuple[int, ...]] = []
    for masks, _ in _begin(node, width_limit, count_limit):
        if not masks or len(done) >= count_limit:
            return None
        done.append(masks)
    return done


# A beginning and whether it is the whole of its part, so that the next part may go on.
_Begun = tuple[tuple[int, ...], bool]


def _begin(node: Node, width: int, count_limit: int) -> list[_Begun]:
    match node:
        case Bytes(mask):
            return [((mask,), True)]
        case Sequence(parts):
            return _begin_sequence(parts, width, count_limit)
        case Choice(branches):
            return list(
                dict.fromkeys(begun for branch in branches for begun in _begin(branch, width, count_limit))
            )
        case Repeat(body, least, most):
            fixed = _begin_sequence((body,) * min(least, width), width, count_limit)
            return fixed if most == least else [(masks, False) for masks, _ in fixed]
        case Look():
            return [((), True)]
        case Unknown():
            return [((), False)]


def _begin_sequence(parts: tuple[Node, ...], width: int, count_limit: int) -> list[_Begun]:
    begun: list[_Begun] = [((), True)]
    for part in parts:
        if not any(whole and len(masks) < width for masks, whole in begun):
            break
        following = _begin(part, width, count_limit)
        begun = [
            ((masks + more)[:width], whole and more_whole and len(masks) + len(more) <= width)
            if whole
            else (masks, False)
            for masks, whole in begun
            for more, more_whole in (following if whole else [((), False)])
        ]
        begun = list(dict.fromkeys(begun))
        if len(begun) > count_limit:
            return [((), False)]
    return begun


def longest_literal(node: Node) -> bytes:
    """Return the longest text, lower case, that every match contains in some case; empty when there is none."""
    found, _ = _literals(node)
    return max(found, key=len, default=b"")


def _literals(node: Node) -> tuple[list[bytes], bytes | None]:
    """Return texts that occur in every match, and the whole match where it is one fixed text."""
    match node:
        case Bytes(mask):
            byte = _one_letter(mask)
            return ([byte], byte) if byte is not None else ([], None)
        case Sequence(parts):
            return _sequence_literals(parts)
        case Repeat(body, least, most) if least >= 1:
            found, whole = _literals(body)
            return found, whole if (least, most) == (1, 1) else None
        case Look():
            return [], b""
        case _:
            return [], None


def _sequence_literals(parts: tuple[Node, ...]) -> tuple[list[bytes], bytes | None]:
    found: list[bytes] = []
    run, fixed = b"", True
    for part in parts:
        inner, whole = _literals(part)
        if whole is None:
            found += [run, *inner]
            run, fixed = b"", False
        else:
            run += whole
    found.append(run)
    return [text for text in found if text], run if fixed else None


def _one_letter(mask: int) -> bytes | None:
    lowered = {byte + 32 if 65 <= byte <= 90 else byte for byte in members(mask, most=2)}  # noqa: PLR2004  # A to Z
    return bytes(lowered) if len(lowered) == 1 else None


def members(mask: int, most: int = 256) -> list[int]:
    """Return the bytes of a set in order; a set of more than ``most`` gives at least ``most`` + 1 of them."""
    found: list[int] = []
    while mask and len(found) <= most:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def expression(node: Node) -> bytes | None:
    """Return the tree in the notation of linear-time engines, in ASCII; None when it admits anything at all."""
    match node:
        case Bytes(mask):
            return byte_class(mask)
        case Sequence(parts):
            return _joined([expression(part) for part in parts], b"")
        case Choice(branches):
            inner = _joined([expression(branch) for branch in branches], b"|")
            return None if inner is None else b"(?:" + inner + b")"
        case Repeat(body, least, most):
            inner = expression(body)
            return (
                None
                if inner is None
                else b"(?:%s){%d,%s}" % (inner, least, b"" if most is None else b"%d" % most)
            )
        case Look():
            return b""
        case Unknown():
            return None


@functools.cache
def byte_class(mask: int) -> bytes:
    """Return a set of bytes as a character class."""
    ranges: list[bytes] = []
    values = members(mask)
    at = 0
    while at < len(values):
        end = at
        while end + 1 < len(values) and values[end + 1] == values[end] + 1:
            end += 1
        ranges.append(b"\\x%02x" % values[at] + (b"-\\x%02x" % values[end] if end > at else b""))
        at = end + 1
    return b"[" + b"".join(ranges) + b"]" if len(values) != 1 else ranges[0]


def _joined(parts: list[bytes | None], by: bytes) -> bytes | None:
    if any(part is None for part in parts):
        return None
    return by.join(part for part in parts if part is not None)

"""Credentials behind an encoding: base64 and UTF-16.

Invariant: what is decoded depends on a bounded stretch of bytes around a place, never on where a block of the
file ends.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final, NamedTuple

from cas.secretrules import WRAPPED_LITERALS
from cas.secretscan.engine import WIDE, Fixed
from cas.secretscan.tree import byte_class

if TYPE_CHECKING:
    from collections.abc import Iterator

# How much encoded text before and after a beginning is decoded: the name before a value, and the value.
_BACK_CHARS: Final = 512
_AHEAD_CHARS: Final = 2048
_ALPHABET: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_MIN_ANCHOR_CHARS: Final = 4


class WrappedAnchor(NamedTuple):
    """One spelling in base64 of the beginning of a credential.

    Attributes:
        anchor: What the engine looks for.
        quad_at: Place of the anchor's first character within its group of four.
    """

    anchor: Fixed
    quad_at: int


class Decoded(NamedTuple):
    """Decoded text and where it came from.

    Attributes:
        text: The decoded bytes.
        start: Offset of the first encoded byte.
        scale: Encoded bytes for each decoded one, as a fraction: numerator and denominator.
    """

    text: bytes
    start: int
    scale: tuple[int, int]

    def origin(self, at: int) -> int:
        """Return the offset of the encoded byte that holds decoded byte ``at``."""
        return self.start + at * self.scale[0] // self.scale[1]


def wrapped_anchors() -> list[WrappedAnchor]:
    """Return every base64 spelling of the known beginnings."""
    return [
        anchor for literal in WRAPPED_LITERALS for shift in range(3) if (anchor := _spelling(literal, shift))
    ]


def _spelling(literal: bytes, shift: int) -> WrappedAnchor | None:
    encoded = base64.b64encode(bytes(shift) + literal)
    first = -(-8 * shift // 6)  # characters before it also depend on what precedes the literal
    last = 8 * (shift + len(literal)) // 6
    spelled = encoded[first:last]
    if len(spelled) < _MIN_ANCHOR_CHARS:
        return None
    expression = b"".join(byte_class(1 << byte) for byte in spelled)
    return WrappedAnchor(Fixed(expression, len(spelled), spelled.lower(), 0), first % 4)


def decode_base64(text: bytes, at: int, quad_at: int) -> Decoded | None:
    """Return the base64 text around ``at`` decoded, at most about 2.5 KB of it.

    Args:
        text: Bytes around the place.
        at: Where a beginning was found.
        quad_at: Its place within a group of four characters.
    """
    first = at - quad_at
    if first < 0:
        return None
    start = first
    while start - 4 >= max(0, first - _BACK_CHARS) and all(
        byte in _ALPHABET for byte in text[start - 4 : start]
    ):
        start -= 4
    end = at
    limit = min(len(text), at + _AHEAD_CHARS)
    while end < limit and text[end] in _ALPHABET:
        end += 1
    if any(byte not in _ALPHABET for byte in text[first:at]):
        return None
    body = text[start:end]
    decoded = base64.b64decode(
        body[: len(body) - 1 if len(body) % 4 == 1 else len(body)] + b"=" * (-len(body) % 4 % 3)
    )
    return Decoded(decoded, start, (4, 3))


def wide_texts(data: bytes) -> Iterator[Decoded]:
    """Yield every stretch of UTF-16 text in ``data``, one byte a character."""
    for match in WIDE.finditer(data):
        run = match[0]
        # In big-endian text the zero byte comes first, so the run found here lacks the first and ends in a
        # character.
        big_endian = match.start() > 0 and data[match.start() - 1] == 0
        if len(run) % 2 and not big_endian:
            run = run[:-1]
        yield Decoded(run[::2], match.start(), (2, 1))

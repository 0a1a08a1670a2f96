"""The user's own patterns: checked when the scanner is built, then run on windows of bounded size.

Invariant: a pattern that is accepted compiles, matches no empty text, and cannot run away. Patterns are
Python regular expressions over bytes, in which ``^`` and ``$`` stand for the ends of a line; a match is found
where it and what it needs around it lie within 1 KB. A group named ``v`` marks the value, as in the built-in
rules.
"""

from __future__ import annotations

import functools
import re
import warnings
from typing import TYPE_CHECKING, Final, NamedTuple

from cas.digest import digest_bytes
from cas.errors import ConfigError
from cas.secretscan.engine import Loose
from cas.secretscan.runaway import runaway_reason
from cas.secretscan.tree import (
    Choice,
    Node,
    Repeat,
    Sequence,
    can_be_empty,
    expression,
    longest_literal,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

MAX_PATTERN_CHARS: Final = 2000
_MIN_LITERAL_CHARS: Final = 3
_ID_CHARS: Final = 8
_TRIMMED_REPEAT: Final = 64  # an automaton pays for every counted position, and a shorter text says as much


class UserPattern(NamedTuple):
    """One accepted pattern.

    Attributes:
        pattern: As it was configured.
        rule: Id of the rule: ``user-`` and eight hexadecimal characters of the pattern's digest.
        description: What a finding says; it does not repeat the pattern.
        compiled: The pattern, ready to run.
        node: Its tree.
    """

    pattern: str
    rule: str
    description: str
    compiled: re.Pattern[bytes]
    node: Node

    def anchor(self, step_bytes: int) -> Loose:
        """Return what an engine has to look for."""
        literal = longest_literal(self.node)
        usable = literal if len(literal) >= _MIN_LITERAL_CHARS else b""
        return Loose(expression(_trimmed(self.node)), usable, step_bytes)


def validate_patterns(patterns: Many[str]) -> None:
    """Check a user's patterns.

    Args:
        patterns: Python regular expressions.

    Raises:
        ConfigError: One is invalid, matches the empty text, or can run away; the text names it and says why.
    """
    compile_patterns(patterns)


def compile_patterns(patterns: Many[str]) -> tuple[UserPattern, ...]:
    """Return the patterns ready to run; see ``validate_patterns`` for what is refused."""
    accepted: list[UserPattern] = []
    for index, pattern in enumerate(patterns):
        if len(pattern) > MAX_PATTERN_CHARS:
            raise _refused(pattern, index, f"longer than {MAX_PATTERN_CHARS} characters")
        made = _compile(pattern)
        if isinstance(made, str):
            raise _refused(pattern, index, made)
        accepted.append(made)
    return tuple(accepted)


# The configuration asks, and then each scanner; the search takes up to a second.
@functools.lru_cache(maxsize=256)
def _compile(pattern: str) -> UserPattern | str:
    """Return a pattern ready to run, or why it is refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compiled = re.compile(pattern.encode(), re.MULTILINE)
            node = parse(pattern.encode())
    except (re.error, OverflowError, RecursionError, ValueError, Warning) as error:
        return f"not a valid regular expression: {error}"
    if not pattern.isascii() and _has_wide_class(pattern):
        return "a set in brackets holds a character outside ASCII; write alternatives instead"
    if can_be_empty(node):
        return "it matches the empty text"
    reason = runaway_reason(node)
    if reason:
        return f"it can run away: {reason}"
    digest = digest_bytes(pattern.encode()).hex()[:_ID_CHARS]
    return UserPattern(pattern, f"user-{digest}", "text that a configured pattern forbids", compiled, node)


def _refused(pattern: str, index: int, reason: str) -> ConfigError:
    return ConfigError(f"secret_patterns[{index}] {pattern[:200]!r}: {reason}", subject="secret_patterns")


def _has_wide_class(pattern: str) -> bool:
    return any(not inner.isascii() for inner in re.findall(r"(?<!\\)\[(?:\\.|[^\]\\])*\]", pattern))


def _trimmed(node: Node) -> Node:
    """Return a tree that admits at least as much and is cheaper to look for."""
    match node:
        case Repeat(body, least, most):
            few = min(least, _TRIMMED_REPEAT)
            many = None if most is None or most > _TRIMMED_REPEAT else most
            return Repeat(_trimmed(body), few, many)
        case Sequence(parts):
            return Sequence(tuple(_trimmed(part) for part in parts))
        case Choice(branches):
            return Choice(tuple(_trimmed(branch) for branch in branches))
        case _:
            return node

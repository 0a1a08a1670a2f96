"""The form of one rule, and the few ways of writing one.

Invariant: a rule is data; everything it says can be printed, compared and digested, and what a check is
called here is looked up by the scanner. This module must not scan anything.
"""

from __future__ import annotations

from typing import Final

import msgspec

# A token starts where no name goes on: after anything but a letter, digit or underscore, after an escaped
# line break in a JSON string (the two characters backslash and n), or after a percent escape of a URL.
START: Final = rb"(?:(?<![A-Za-z0-9_])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"
END: Final = rb"(?![A-Za-z0-9_])"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of credential.

    Attributes:
        id: Stable name, in kebab case; waivers and baselines refer to it.
        description: What was found, as a noun phrase.
        pattern: Python bytes pattern; group ``v`` is the credential, the whole match when there is none. Every
            repeat is bounded, because it is run on windows of limited size.
        check: Name of the check that decides whether a match is a credential; empty means that the form suffices.
        rank: Of two findings on the same bytes the higher rank stays.
        guard: Bytes pattern, caseless, that must match around a literal before ``pattern`` is tried; empty means
            that the fixed beginning of ``pattern`` is looked for instead.
        literals: Lower-case words at one of which ``pattern`` is tried when ``guard`` has matched.
        gate: Bytes pattern, caseless, three bytes wide, that matches in whatever ``guard`` matches; where it matches
            nothing, the guard is not looked for. Without one, a guard whose literals are shorter than that halves the
            speed of the search for all rules.
    """

    id: str
    description: str
    pattern: bytes
    check: str = ""
    rank: int = 50
    guard: bytes = b""
    literals: tuple[bytes, ...] = ()
    gate: bytes = b""


def token(rule_id: str, description: str, body: bytes, check: str = "random", *, end: bytes = END) -> Rule:
    """Return the rule of a credential that is recognised by its own beginning."""
    return Rule(
        id=rule_id, description=description, pattern=START + b"(?P<v>" + body + b")" + end, check=check
    )

"""What the gate reports: findings, and waivers that were used.

Invariant: no attribute, repr or text of anything here holds the value of a credential. This module neither
scans nor reads files.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from cas.digest import digest_bytes

FINGERPRINT_CHARS: Final = 32
# A fingerprint is published in baselines, so guessing a weak password from it is made slower; findings are
# few.
_STRETCH_COUNT: Final = 1024


class Finding(msgspec.Struct, frozen=True):
    """A credential found in an artifact; never holds its value.

    Attributes:
        name: Artifact name, as given to the scanner.
        line: Line of the first byte of the value, from 1.
        column: Byte within that line, from 1.
        rule: Id of the rule.
        description: What was found, as a noun phrase.
        fingerprint: 32 hexadecimal characters, the same wherever the same value breaks the same rule.
    """

    name: str
    line: int
    column: int
    rule: str
    description: str
    fingerprint: str

    def as_dict(self) -> dict[str, object]:
        """Return the fields as JSON-able data."""
        return {
            "name": self.name,
            "line": self.line,
            "column": self.column,
            "rule": self.rule,
            "description": self.description,
            "fingerprint": self.fingerprint,
        }


class Waiver(msgspec.Struct, frozen=True):
    """A finding that was let through, and why; for the manifest.

    Attributes:
        name: Artifact name.
        line: Line of the finding, from 1.
        rule: Id of the waived rule.
        fingerprint: Fingerprint of the waived finding.
        source: ``inline:<mark>``, ``baseline``, or ``settings``.
    """

    name: str
    line: int
    rule: str
    fingerprint: str
    source: str

    def as_dict(self) -> dict[str, object]:
        """Return the fields as JSON-able data."""
        return {
            "name": self.name,
            "line": self.line,
            "rule": self.rule,
            "fingerprint": self.fingerprint,
            "source": self.source,
        }


def fingerprint(rule: str, value: bytes) -> str:
    """Return the fingerprint of a value under a rule.

    One-way, the same on every machine. A strong credential cannot be found from it; a weak password can still
    be guessed and confirmed, only more slowly.
    """
    salt = b"cas secret fingerprint 1\0" + rule.encode()
    stretched = hashlib.pbkdf2_hmac("sha256", digest_bytes(value), salt, _STRETCH_COUNT)
    return stretched.hex()[:FINGERPRINT_CHARS]

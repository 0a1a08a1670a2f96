"""Waivers: inline marks, and baseline files of fingerprints.

Invariant: a waiver never waives more than it names. An inline mark covers the line it stands on; a baseline
entry covers one value under one rule in one file. Baselines hold fingerprints, never values.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from typing import TYPE_CHECKING, Final

import msgspec

from cas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cas.secretscan.findings import Finding

_BASELINE_VERSION: Final = 1
_ANY_NAME: Final = "*"
# Marks of others count where they speak of credentials only: a bare "nosec" or "noqa" is written for many
# reasons.
_MARKS: Final[tuple[tuple[str, re.Pattern[bytes]], ...]] = (
    ("cas", re.compile(rb"cas:\s?allow-secret(?:\[(?P<rules>[^\]\r\n]{0,200})\])?(?![\w-])")),
    ("allowlist", re.compile(rb"pragma:\s?(?:allow|white)list[ -]secret\b")),
    ("gitleaks", re.compile(rb"gitleaks:allow\b")),
    ("trufflehog", re.compile(rb"trufflehog:ignore\b")),
    ("nosec", re.compile(rb"#\s?nosec:?\s(?:[B\d, ]{0,40})\bB10[567]\b")),
    ("noqa", re.compile(rb"#\s?noqa:\s?(?:[A-Z]+\d+[, ]{1,2}){0,10}S10[567]\b")),
)

_ESCAPED_BREAK: Final = re.compile(rb"\\{1,4}n")


def inline_mark(text: bytes, at: int, rule: str) -> str:
    """Return the name of the mark on the line of ``at`` that waives ``rule``, or an empty text.

    Args:
        text: Bytes around the place; of a longer line only what lies within is looked at.
        at: Where the value begins.
        rule: Id of the rule that was broken.
    """
    end = text.find(b"\n", at)
    start = text.rfind(b"\n", 0, at) + 1
    line = text[start : len(text) if end < 0 else end]
    for name, mark in _MARKS:
        for match in mark.finditer(line):
            if _is_apart(line, match, at - start):
                continue
            named = match.groupdict().get("rules")
            if named is None or rule.encode() in {part.strip() for part in named.split(b",")}:
                return name
    return ""


def _is_apart(line: bytes, mark: re.Match[bytes], at: int) -> bool:
    """Tell whether a mark stands on another line than ``at`` of a text with escaped line breaks, as in JSON.

    One with no such break behind it is a comment at the line's end, and covers whatever stands before it.
    """
    if _ESCAPED_BREAK.search(line, mark.end()) is None:
        return False
    low, high = sorted((at, mark.start()))
    return _ESCAPED_BREAK.search(line, low, high) is not None


class Baseline:
    """Findings that were looked at and let through.

    Args:
        entries: Triples of fingerprint, rule id and artifact name; the name ``*`` stands for any.
    """

    def __init__(self, entries: Iterable[tuple[str, str, str]] = ()) -> None:
        self.entries = frozenset(entries)

    def __len__(self) -> int:
        return len(self.entries)

    def covers(self, finding: Finding) -> bool:
        """Tell whether a finding is among them."""
        return any(
            (finding.fingerprint, finding.rule, name) in self.entries for name in (finding.name, _ANY_NAME)
        )


class _Entry(msgspec.Struct, frozen=True):
    fingerprint: str
    rule: str
    name: str = _ANY_NAME


class _Document(msgspec.Struct, frozen=True):
    version: int
    findings: list[_Entry]


def read_baseline(path: Path) -> Baseline:
    """Return the baseline in a file.

    Raises:
        ConfigError: The file is missing, unreadable, or no baseline of a known version.
    """
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
    except OSError as error:
        raise ConfigError(
            f"secret_baseline: cannot read {path}: {error.strerror}", subject=str(path)
        ) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ConfigError(
            f"secret_baseline: {path} is not a baseline file: {error}", subject=str(path)
        ) from error
    if document.version != _BASELINE_VERSION:
        raise ConfigError(
            f"secret_baseline: {path} has the unknown version {document.version}", subject=str(path)
        )
    return Baseline((entry.fingerprint, entry.rule, entry.name) for entry in document.findings)


def write_baseline(path: Path, findings: Iterable[Finding]) -> None:
    """Write findings as a baseline, replacing the file as a whole.

    Sorted and without line numbers, so that a version-controlled baseline changes only when findings do.

    Raises:
        ConfigError: The file cannot be written, or a name is not Unicode; the file is as it was.
    """
    entries = sorted({(finding.name, finding.rule, finding.fingerprint) for finding in findings})
    document = {
        "version": _BASELINE_VERSION,
        "findings": [{"name": name, "rule": rule, "fingerprint": mark} for name, rule, mark in entries],
    }
    try:
        content = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"secret_baseline: {path} cannot hold a file's name that is not Unicode", subject=str(path)
        ) from error
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)  # noqa: PTH105
        except OSError:
            os.unlink(temporary)  # noqa: PTH108
            raise
    except OSError as error:
        raise ConfigError(
            f"secret_baseline: cannot write {path}: {error.strerror}", subject=str(path)
        ) from error

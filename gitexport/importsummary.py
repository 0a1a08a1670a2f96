"""What an import says of itself: what it took over, what it left out and why.

Invariant: no text of it is one that the secret gate would refuse; a name that holds a credential is withheld.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from cas.silence import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas.secretscan import Finding, SecretScanner

_WITHHELD: Final = "(a text that holds a credential)"


@dataclasses.dataclass(slots=True)
class ImportSummary:
    """What an import took over and what it left out.

    Attributes:
        branches: Branches with commits taken over in this import.
        commits: Commits taken over.
        present: Commits that the store had already.
        files: Files taken over.
        raw_bytes: Their content, in bytes.
        refused: One dictionary per branch left out: ``branch, reason``.
        findings: What the secret gate found: ``branch, name, line, rule``; never the value.
        remarks: Oddities that were taken as they are: ``branch, commit, remark``.
        dry_run: True when nothing was written.
        duration_s: Seconds.
    """

    branches: int = 0
    commits: int = 0
    present: int = 0
    files: int = 0
    raw_bytes: int = 0
    refused: list[dict[str, str]] = dataclasses.field(default_factory=list[dict[str, str]])
    findings: list[dict[str, object]] = dataclasses.field(default_factory=list[dict[str, object]])
    remarks: list[dict[str, str]] = dataclasses.field(default_factory=list[dict[str, str]])
    dry_run: bool = False
    duration_s: float = 0.0

    def as_dict(self) -> dict[str, object]:
        """Return the summary as JSON-able data."""
        return dataclasses.asdict(self)


class Told:
    """Writes into a summary what the secret gate lets through.

    Args:
        summary: What is written to.
        scanner: The scanner; None when scanning is off, and then everything is told.
    """

    def __init__(self, summary: ImportSummary, scanner: SecretScanner | None) -> None:
        self._summary = summary
        self._scanner = scanner

    def refuse(self, branch: str, reason: str) -> None:
        """Tell that a branch is left out."""
        self._summary.refused.append({"branch": self._text(branch), "reason": self._text(reason)})

    def remark(self, branch: str, commit: str, remark: str) -> None:
        """Tell an oddity that is taken as it is."""
        self._summary.remarks.append(
            {"branch": self._text(branch), "commit": commit, "remark": self._text(remark)}
        )

    def forget_remarks(self, branch: str) -> None:
        """Take back what was told of a branch."""
        named = self._text(branch)
        self._summary.remarks = [item for item in self._summary.remarks if item["branch"] != named]

    def find(self, branch: str, findings: Sequence[Finding]) -> None:
        """Tell what the gate found on a branch, each place once."""
        for finding in findings:
            item: dict[str, object] = {
                "branch": self._text(branch),
                "name": finding.name,
                "line": finding.line,
                "rule": finding.rule,
            }
            if item not in self._summary.findings:
                self._summary.findings.append(item)

    def _text(self, text: str) -> str:
        return shown(self._scanner, text) or _WITHHELD

"""SARIF 2.1.0: findings in the form that code hosts and editors read.

Invariant: positions, rules and fingerprints only; no credential is in the document. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas import Finding

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif_document(found: Sequence[tuple[str, Finding]], version: str) -> dict[str, object]:
    """Return findings, each with the path it was found in, as one SARIF document."""
    rules = {finding.rule: finding.description for _, finding in found}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "cas scan",
                        "version": version,
                        "rules": [
                            {"id": rule, "shortDescription": {"text": text}}
                            for rule, text in sorted(rules.items())
                        ],
                    }
                },
                "results": [_result(path, finding) for path, finding in found],
            }
        ],
    }


def _result(path: str, finding: Finding) -> dict[str, object]:
    return {
        "ruleId": finding.rule,
        "level": "error",
        "message": {"text": f"{finding.description} ({finding.rule})"},
        "partialFingerprints": {"casFingerprint/v1": finding.fingerprint},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(path)},
                    # No column: SARIF counts characters there, and ours are bytes.
                    "region": {"startLine": finding.line},
                }
            }
        ],
    }

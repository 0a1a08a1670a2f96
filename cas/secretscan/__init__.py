"""The secret gate: finds credentials in artifacts, names and metadata.

Invariant: a finding, a waiver, a baseline and every error of this package hold positions, rules and
fingerprints, never the value of a credential. The package knows nothing of stores, git or terminals.
"""

from __future__ import annotations

from cas.secretscan.findings import Finding, Waiver, fingerprint
from cas.secretscan.patterns import validate_patterns
from cas.secretscan.scanner import SecretScanner, StreamScanner, rule_ids
from cas.secretscan.waivers import Baseline, read_baseline, write_baseline

__all__ = [
    "Baseline",
    "Finding",
    "SecretScanner",
    "StreamScanner",
    "Waiver",
    "fingerprint",
    "read_baseline",
    "rule_ids",
    "validate_patterns",
    "write_baseline",
]

"""What does signing a commit cost, in this process and by `ssh-keygen`?

Both sign the same commit with the same Ed25519 key and must give the same signature. They take turns.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.machine import missing_package
from benchmarks.tables import Table, figure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.plan import Plan

_ROUNDS_COUNT: Final = {"tiny": 2, "quick": 10, "full": 100}
_OURS_PER_ROUND: Final = 20
_COMMIT: Final = b"tree %040d\nauthor A <a@example.com> 1700000000 +0000\n\nAdd artifacts\n" % 1


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    rounds_count = _ROUNDS_COUNT[plan.size]
    skipped = [{"name": "signing", **why} for why in (_missing(),) if why]
    took_s: dict[str, list[float]] = {} if skipped else _times(plan.fresh("signing"), rounds_count)
    return {
        "parameters": {
            "rounds_count": rounds_count,
            "sync_mode": "nothing is stored",
            "input": f"a commit of {len(_COMMIT)} bytes; an Ed25519 key without a passphrase",
        },
        "ways": [
            {"name": name, "p50_ms": round(statistics.median(values) * 1000, 4)}
            for name, values in took_s.items()
        ],
        "skipped": skipped,
    }


def _missing() -> dict[str, str] | None:
    if shutil.which("ssh-keygen") is None:
        return {"reason": "ssh-keygen is not installed", "install": "apt-get install openssh-client"}
    return missing_package("cryptography", "cryptography")


def _times(folder: Path, rounds_count: int) -> dict[str, list[float]]:
    from cas.signing import SshSigner

    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    signer = SshSigner.open(key)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(key)]
    took_s: dict[str, list[float]] = {"in this process": [], "ssh-keygen": []}
    for _ in range(rounds_count):
        started_s = time.perf_counter()
        for _ in range(_OURS_PER_ROUND):
            ours = signer.sign(_COMMIT)
        took_s["in this process"].append((time.perf_counter() - started_s) / _OURS_PER_ROUND)
        started_s = time.perf_counter()
        done = subprocess.run(command, check=True, input=_COMMIT, capture_output=True)
        took_s["ssh-keygen"].append(time.perf_counter() - started_s)
        if ours.strip() != done.stdout.decode().strip():
            raise AssertionError("the signatures differ")
    return took_s


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the table of the page."""
    rows = [[way["name"], figure(way["p50_ms"])] for way in result["ways"]]
    return [Table("Signing a commit", ["by", "ms"], rows)]

"""What does signing a commit cost when it is committed, by kind of key, and does git accept every signature?

The same runs go to one store for each kind of key, in turns, so that a busy moment meets all of them. Then all of it is
exported, and `git verify-commit` judges each commit. ECDSA signs with the number of RFC 6979, so that ids repeat.
"""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.engines_git import clean_environment, create_repository, git, require_git
from benchmarks.runs import real_runs
from benchmarks.samples import summary_ms
from benchmarks.tables import Table, figure
from cas import ArtifactStore, ArtifactStoreConfig, ConfigError
from gitexport import Exporter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.plan import Plan

_RUNS_COUNT: Final = {"tiny": 2, "quick": 20, "full": 150}
_WARM_COUNT: Final = 1  # the first commit loads what signing needs
_PAYLOAD: Final = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\nSign me\n"
_SIGNED_COUNT: Final = 50
_CURVES: Final = {"p256": "SECP256R1", "p384": "SECP384R1", "p521": "SECP521R1"}


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    require_git()
    runs_count = _RUNS_COUNT[plan.size]
    skipped: list[dict[str, str]] = []
    kinds = ["none"]
    if importlib.util.find_spec("cryptography") is None:
        skipped.append(
            {
                "name": "signing",
                "reason": "cryptography is not installed",
                "install": "pip install 'cas-gitexport[sign]'",
            }
        )
    else:
        kinds += ["ed25519", "rsa-3072"]
    folder = plan.fresh("signing")
    if len(kinds) > 1:
        ecdsa = [f"ecdsa-{name}" for name in _CURVES]
        if _repeats(folder):
            kinds += ecdsa
        else:
            skipped += [
                {"name": kind, "reason": "this OpenSSL signs with a random number", "install": "OpenSSL 3.2"}
                for kind in ecdsa
            ]
    keys = {kind: _make_key(folder, kind) for kind in kinds}
    samples = _commit_in_turns(folder, keys, real_runs(runs_count + _WARM_COUNT, plan.data))
    plain_ms = statistics.median(samples["none"]) * 1000
    cells = [
        {
            "key": kind,
            "commit": summary_ms(samples[kind]),
            "more_than_unsigned_ms": max(0.0, round(statistics.median(samples[kind]) * 1000 - plain_ms, 4)),
            "signature_ms": _signature_ms(keys[kind]),
            **_verified(folder, kind, keys[kind]),
        }
        for kind in kinds
    ]
    return {
        "parameters": {"runs_count": runs_count, "input": "paths, in the page cache", "sync_mode": "full"},
        "cells": cells,
        "skipped": skipped,
    }


def _repeats(folder: Path) -> bool:
    """Tell whether the store takes ECDSA keys here."""
    from cas.signing import SshSigner

    key = _make_key(folder, "ecdsa-p256")
    try:
        return key is not None and bool(SshSigner.open(key).public_key)
    except ConfigError:
        return False


def _make_key(folder: Path, kind: str) -> Path | None:
    """Write a new private key in OpenSSH form; None for no signing."""
    if kind == "none":
        return None
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    if kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    elif kind == "rsa-3072":
        key = rsa.generate_private_key(65537, 3072)
    else:
        key = ec.generate_private_key(getattr(ec, _CURVES[kind.removeprefix("ecdsa-")])())
    path = folder / f"key-{kind}"
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    return path


def _commit_in_turns(folder: Path, keys: Mapping[str, Path | None], runs: Any) -> dict[str, list[float]]:
    stores = {
        kind: ArtifactStore(
            ArtifactStoreConfig(
                repo_path=folder / f"{kind}.git",
                store_path=folder / f"store-{kind}",
                git_signing_key=None if key is None else str(key),
            )
        )
        for kind, key in keys.items()
    }
    samples: dict[str, list[float]] = {kind: [] for kind in stores}
    try:
        for run in runs:
            for kind, store in stores.items():
                started_s = time.perf_counter()
                store.commit_artifacts(**run.as_call())
                samples[kind].append(time.perf_counter() - started_s)
    finally:
        for store in stores.values():
            store.close()
    return {kind: values[_WARM_COUNT:] for kind, values in samples.items()}


def _signature_ms(key: Path | None) -> float | None:
    if key is None:
        return None
    from cas.signing import SshSigner

    signer = SshSigner.open(key)
    taken_s: list[float] = []
    for number in range(_SIGNED_COUNT):
        started_s = time.perf_counter()
        signer.sign(_PAYLOAD + b"%d" % number)
        taken_s.append(time.perf_counter() - started_s)
    return round(statistics.median(taken_s) * 1000, 4)


def _verified(folder: Path, kind: str, key: Path | None) -> dict[str, Any]:
    """Export a store and let git judge its commits, where ssh-keygen is there for it."""
    repository = folder / f"{kind}.git"
    create_repository(repository, bare=True)
    with ArtifactStore(
        ArtifactStoreConfig(
            repo_path=repository,
            store_path=folder / f"store-{kind}",
            git_signing_key=None if key is None else str(key),
        ),
        create=False,
    ) as store:
        summary = Exporter(store).run(push=False)
    if summary.state != "done":
        raise RuntimeError(f"the export is {summary.state}: {summary.failures[:3]}")
    if key is None or shutil.which("ssh-keygen") is None:
        return {"accepted_count": None, "commits_count": summary.exported}
    from cas.signing import SshSigner

    allowed = folder / f"allowed-{kind}"
    allowed.write_text(f"* {SshSigner.open(key).public_key}\n")
    commits = git(repository, "for-each-ref", "--format=%(objectname)", "refs/heads").decode().split()
    configuration = ["-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={allowed}"]
    accepted = sum(
        subprocess.run(
            ["git", "-C", str(repository), *configuration, "verify-commit", commit],
            env=clean_environment(),
            capture_output=True,
            check=False,
        ).returncode
        == 0
        for commit in commits
    )
    if accepted != len(commits):
        raise AssertionError(f"git accepts {accepted} of {len(commits)} signatures")
    return {"accepted_count": accepted, "commits_count": len(commits)}


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    rows = [
        [
            cell["key"],
            figure(cell["commit"]["p50_ms"]),
            figure(cell["more_than_unsigned_ms"]),
            figure(cell["signature_ms"]),
            f"{cell['accepted_count']} of {cell['commits_count']}" if cell["accepted_count"] else "n/a",
        ]
        for cell in result["cells"]
    ]
    heads = ["key", "commit p50 ms", "more than unsigned ms", "signature alone ms", "accepted by git"]
    return [Table("Signed commits", heads, rows)]

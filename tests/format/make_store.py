"""Make the stored stores of format 1 that tests read: ``python -m tests.format.make_store``.

Run it only to add a case, or after a change that format 1 allows: what it wrote before must stay readable, so a file
that is replaced is a promise taken back. The clock and the ids are fixed; one file per id format, and beside each the
results that were told when its runs were committed.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import sys
import tempfile
import uuid
from pathlib import Path
from unittest import mock

from cas import blobs, intake, outbox
from cas.gitreader import BranchTip
from cas.objects import MODE_EXECUTABLE, MODE_FILE, MODE_TREE, TreeEntry
from tests.store.stores import METADATA, open_store

FOLDER = Path(__file__).parent / "stores" / "v1"
STORE_ID = uuid.UUID(int=1)
FORMATS = ("sha1", "sha256")
LARGE_BYTES, PART_BYTES = 1000, 500
NAMES = ("a.txt", "deep/er/b.csv", "caf\u00e9.txt", "empty")


class Reader:
    """A repository with one branch, which has other things beside the artifact root."""

    def __init__(self, object_format):
        self._oid = bytes(range(20 if object_format == "sha1" else 32))
        self._format = object_format

    def branch_tip(self, repo_path, branch):
        if branch != "main":
            return None
        return BranchTip(
            commit_oid=self._oid,
            object_format=self._format,
            root_entries=(
                TreeEntry(MODE_FILE, b"README.md", self._oid),
                TreeEntry(MODE_TREE, b"src", self._oid),
            ),
            backtest_entries=(TreeEntry(MODE_EXECUTABLE, b"run.sh", self._oid),),
            artifact_root=None,
        )


def noise(size_bytes):
    """Return bytes that do not compress, the same on every machine."""
    blocks = (hashlib.sha256(b"%d" % number).digest() for number in range(size_bytes // 32 + 1))
    return b"".join(blocks)[:size_bytes]


def large_file(store):
    """Return a file that is stored in several parts; only files are, never bytes from memory."""
    path = store.config.repo_path / "large.bin"
    path.write_bytes(noise(2 * LARGE_BYTES))
    return path


def fill(store):
    """Commit and roll back one of everything; return the results as they were told."""
    files = {name: b"content of %d\n" % number for number, name in enumerate(NAMES)} | {"empty": b""}
    run = {"workflow_id": "wf_rsi", "task_id": "task_001", "files": files, "metadata": METADATA}
    results = {
        "first": store.commit_artifacts(**run, correlation_id="corr_abc123", prompt_hash="7a8b9c0d1e2f3a4b"),
        "revision": store.commit_artifacts(
            **{**run, "files": {**files, "a.txt": b"new\n"}, "metadata": {**METADATA, "note": "second"}},
            correlation_id="abc123",
        ),
        "odd": store.commit_artifacts(
            "w/\u00fc",
            "con",
            {"f": b"same"},
            {"test_metrics": {"net_pnl": -0.0}, "n": [1, None]},
            "any text \u4e2d\n",
        ),
        "long": store.commit_artifacts("w" * 300, "t" * 300, {"f": b"same"}, None, "c" * 300),
        "large": store.commit_artifacts("wf_rsi", "large", [large_file(store)], None, "large"),
        "own": store.revert_to_tag("corr_abc123", "ai/generated/wf_rsi/task_001", reason="worse"),
        "git": store.revert_to_tag("corr_abc123@2", "main"),
    }
    with store.environment.write() as transaction:
        outbox.record_exported(transaction, [1, 2, 3], store.now_us())
        outbox.record_pushed(transaction, [1], store.now_us())
        for sequence in (3, 4):
            outbox.record_failure(transaction, sequence, reason="refused", now_us=store.now_us(), park=True)
    return results


def describe(store, results):
    """Return everything a reader can be told of the store, as JSON-able data."""
    refs = {result["commit_sha"]: name for name, result in results.items()}
    return {
        "results": results,
        "shown": {ref: store.show(ref) for ref in refs},
        "files": {
            ref: {
                entry["name"]: hashlib.sha256(store.read_file(ref, entry["name"])).hexdigest()
                for entry in [*store.list_files(ref), {"name": "metadata.json"}]
            }
            for ref in refs
        },
        "histories": {
            branch: store.history(branch) for branch in sorted({r["branch"] for r in results.values()})
        },
        "positive": [run["correlation_id"] for run in store.list_artifacts(where="net_pnl >= 0")],
    }


def main():
    """Write the files anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for object_format in FORMATS:
        with (
            mock.patch.object(uuid, "uuid4", return_value=STORE_ID),
            mock.patch.object(intake, "LARGE_FILE_BYTES", LARGE_BYTES),
            mock.patch.object(blobs, "PART_BYTES", PART_BYTES),
            tempfile.TemporaryDirectory() as folder,
            open_store(
                Path(folder),
                git_reader=Reader(object_format),
                object_format=object_format,
                indexed_metrics=("net_pnl",),
            ) as store,
        ):
            described = describe(store, fill(store))
            copy = Path(folder) / "copy"
            copy.mkdir()
            store.environment.copy_to(copy)
            packed = lzma.compress((copy / "data.mdb").read_bytes(), preset=9)
        (FOLDER / f"{object_format}.mdb.xz").write_bytes(packed)
        text = json.dumps(described, indent=1, sort_keys=True)
        (FOLDER / f"{object_format}.json").write_text(text + "\n")
        sys.stdout.write(f"{object_format}: {len(packed)} bytes\n")


if __name__ == "__main__":
    main()

"""An exporter that is recorded: exports that make packs and refs, and move refs that are packed and loose.

Run as a script: exporting.py DISK [VARIANT]. A line before each export says that it begins, one after it tells the refs
that have receipts now. The variant ``no-sync`` exports without flushes, to show that the suite would notice.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from cas import ArtifactStore, ArtifactStoreConfig
from gitexport import Exporter
from tests.export.places import Clock, refs_of, run_git
from tests.faults.workload import ACKNOWLEDGED, shrink_steps

REPOSITORY, STORE = "repo.git", "store"


def open_store(disk, **settings):
    """Open the store of a recorded disk."""
    config = ArtifactStoreConfig(
        repo_path=Path(disk) / REPOSITORY, store_path=Path(disk) / STORE, scan_for_secrets=False
    )
    return ArtifactStore(config, clock=Clock(), **settings)


def sync_below(folder):
    """Flush what lies in a folder, as time does to a repository that was made long ago."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def make_loose(repository, branch):
    """Give a packed branch a file of its own, as any commit in a work tree does; the move then takes git."""
    path = repository / "refs" / "heads" / branch
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(run_git(repository, "rev-parse", f"refs/heads/{branch}") + "\n")
    sync_below(repository / "refs")


def commit(store, export, number):
    """Commit one run: branches go on from export to export, and one file is the same in all."""
    files = {"same.csv": b"the same in every run\n", "own.csv": b"%d,%d\n" % (export, number) * 200}
    return store.commit_artifacts("wf", f"t{number}", files, {}, f"c{export}.{number}", f"{export}{number}")


def main(disk, variant=""):
    disk = Path(disk)
    repository = disk / REPOSITORY
    repository.mkdir()
    run_git(repository, "init", "--quiet", "--bare", "--template=")
    for path in filter(Path.is_file, repository.rglob("*")):
        path.write_bytes(path.read_bytes())  # git writes HEAD through stdio, which the shim does not see
    with open_store(disk) as store:
        sync_below(disk)
        if variant == "no-sync":
            os.fsync = lambda _descriptor: None
        acknowledged = os.open(disk / ACKNOWLEDGED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for export in range(3):
            branches = [commit(store, export, number)["branch"] for number in range(3)]
            if export == 2:
                make_loose(repository, branches[0])
            os.write(acknowledged, json.dumps({"begins": export}).encode() + b"\n")
            summary = Exporter(store).run(push=False)
            assert summary.state == "done", summary
            os.write(acknowledged, json.dumps({"refs": refs_of(repository)}).encode() + b"\n")


if __name__ == "__main__":
    shrink_steps()
    main(*sys.argv[1:])

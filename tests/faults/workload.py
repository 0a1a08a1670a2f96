"""A writer that is recorded: commits of every kind, each acknowledged by a line written once its call returned.

Run as a script: workload.py DISK commits|keeping DURABILITY SEED COUNT [VARIANT], or workload.py DISK fails KIND STEP
ERRNO. A variant is a store that was broken on purpose, here and not in the product, to show that the suite would
notice. The file grows in small steps, so that recordings are short and growth happens often.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import sys
import threading
from pathlib import Path

import lmdb

from cas import (
    ArtifactStore,
    ArtifactStoreConfig,
    ArtifactStoreError,
    blobs,
    checkout,
    commit,
    compact_store,
    intake,
    outbox,
)
from cas.lmdbenv import compaction, creation, environment

ACKNOWLEDGED = "acknowledged"
REPOSITORY = "repo"
CHECKOUTS = "checkouts"
SMALL_STEP_BYTES = 256 * 1024
LARGE_BYTES = 64 * 1024


def shrink_steps():
    """Make the file grow by little and cut files that are not large at all, so that both happen in a short run."""
    environment.HEADROOM_STEP_BYTES = SMALL_STEP_BYTES
    environment.HEADROOM_LOW_BYTES = SMALL_STEP_BYTES // 4
    intake.LARGE_FILE_BYTES = LARGE_BYTES
    blobs.PART_BYTES = LARGE_BYTES // 2


class Acknowledgements:
    """The lines of what was promised, written whole and in order."""

    def __init__(self, disk):
        self._descriptor = os.open(disk / ACKNOWLEDGED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def run(self, result):
        fields = {name: result[name] for name in ("correlation_id", "revision", "commit_sha")}
        os.write(self._descriptor, json.dumps(fields).encode() + b"\n")

    def revert(self, result):
        fields = {"branch": result["branch"], "commit_sha": result["commit_sha"]}
        os.write(self._descriptor, json.dumps(fields).encode() + b"\n")


def content(rng, size_bytes):
    """Return bytes that compress by half, as results do."""
    return b"".join(
        b"%08d,%s\n" % (rng.randrange(10**8), rng.randbytes(8)) for _ in range(size_bytes // 18 + 1)
    )


def run_arguments(rng, task, number):
    return {
        "workflow_id": "wf",
        "task_id": task,
        "files": {"a.csv": content(rng, rng.randrange(200, 20_000)), "same.txt": b"the same in all\n"},
        "metadata": {"test_metrics": {"net_pnl": number}},
        "correlation_id": f"{task}-{number}",
    }


def step(store, rng, acknowledged, task, number):
    """Do one of the things a writer does, and acknowledge it."""
    kind = rng.choice(["commit", "commit", "commit", "revision", "many", "large", "revert", "writer", "gc"])
    arguments = run_arguments(rng, task, number)
    if kind == "many":
        for result in store.commit_many([run_arguments(rng, task, f"{number}.{part}") for part in range(3)]):
            acknowledged.run(result)
        return
    if kind == "writer":
        with store.open_run("wf", task, arguments["correlation_id"]) as run:
            run.add_bytes("b.csv", content(rng, 3 * LARGE_BYTES))
            acknowledged.run(run.commit())
        return
    if kind == "large":
        arguments["files"]["large.csv"] = content(rng, 2 * LARGE_BYTES + rng.randrange(LARGE_BYTES))
    elif kind == "revision":
        arguments["correlation_id"] = f"{task}-revised"
    acknowledged.run(store.commit_artifacts(**arguments))
    if kind == "revert":
        acknowledged.revert(store.revert_to_tag(f"corr_{arguments['correlation_id']}", f"release-{task}"))
    elif kind == "gc":
        store.gc()


def work(store, acknowledged, seed, task, count):
    rng = random.Random(f"{seed} {task}")
    for number in range(count):
        step(store, rng, acknowledged, task, number)


class NoRepository:
    """What a git reader says where there is no repository."""

    def branch_tip(self, repo_path, branch):
        return None


def break_sync():
    """Open the database without flushes, as a careless speed-up would."""
    real = lmdb.open
    lmdb.open = lambda *words, **settings: real(*words, **settings | {"sync": False})


def break_metasync():
    """Leave the meta page to the next flush while promising durability."""
    real = lmdb.open
    lmdb.open = lambda *words, **settings: real(*words, **settings | {"metasync": False})


def break_outbox():
    """Queue a run for export in a second transaction."""
    real = ArtifactStore._apply_prepared
    enqueue, late = commit.outbox.enqueue, []
    commit.outbox.enqueue = lambda transaction, *queued: late.append(queued)

    def applied(self, queue, prepared):
        result = real(self, queue, prepared)
        with self.environment.write() as transaction:
            while late:
                enqueue(transaction, *late.pop())
        return result

    ArtifactStore._apply_prepared = applied


def break_creation():
    """Make the store under its own name, as plain LMDB does, and sync nothing of it."""
    for name in ("sync_directory",):
        setattr(creation, name, lambda directory: None)
    creation.os = type(
        "NoSync", (), {"__getattr__": lambda _, name: getattr(os, name), "fsync": lambda _, fd: None}
    )()
    real = lmdb.open
    lmdb.open = lambda *words, **settings: real(
        *words, **({"sync": False} if "create" not in settings else {}) | settings
    )


def break_compaction():
    """Give the compacted file its name before it is on the disk."""
    compaction.sync_directory = lambda directory: None
    compaction.os = type(
        "NoSync", (), {"__getattr__": lambda _, name: getattr(os, name), "fsync": lambda _, fd: None}
    )()


def break_checkout():
    """Give a checked out folder its name before its files are on the disk."""
    checkout._sync_tree = lambda root, written: None


def break_suspect():
    """Go on after a write that failed."""
    environment.Environment.check_suspect = lambda self: None


VARIANTS = {
    "suspect": break_suspect,
    "sync": break_sync,
    "metasync": break_metasync,
    "outbox": break_outbox,
    "creation": break_creation,
    "compaction": break_compaction,
    "checkout": break_checkout,
}


def open_store(disk, durability="full"):
    """Open the store of a recorded disk."""
    config = ArtifactStoreConfig(
        repo_path=Path(disk) / REPOSITORY, durability=durability, scan_for_secrets=False
    )
    return ArtifactStore(config, git_reader=NoRepository())


def commits(disk, durability, seed, count, variant=""):
    """Two threads that commit; one alone when the store is relaxed, so that what is acknowledged has an order."""
    if variant:
        VARIANTS[variant]()
    acknowledged = Acknowledgements(Path(disk))
    with open_store(disk, durability) as store:
        threads = [
            threading.Thread(target=work, args=(store, acknowledged, seed, f"t{number}", int(count)))
            for number in range(1 if durability == "relaxed" else 2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def keeping(disk, durability, seed, count, variant=""):
    """One process that keeps a store: garbage is made, forgotten, brought back, collected, compacted and copied."""
    if variant:
        VARIANTS[variant]()
    rng = random.Random(seed)
    acknowledged = Acknowledgements(Path(disk))
    deeds = ["forget", "undelete", "gc", "compact", "backup", "heal", "pin", "checkout"]
    if variant:  # what is broken comes first, as a recording of it is cut until it shows
        deeds.sort(key={"checkout": "checkout", "compaction": "compact"}[variant].__ne__)
    for number in range(int(count)):
        with open_store(disk, durability) as store:
            store.commit_artifacts(
                "wf", "waste", {"f": content(rng, 30_000)}, correlation_id=f"waste{number}"
            )
            acknowledged.run(store.commit_artifacts(**run_arguments(rng, "kept", number)))
            with store.environment.write() as transaction:  # as an exporter notes what is in git
                queued = [found for found, _ in outbox.iter_entries(transaction, outbox.Stage.WRITE)]
                outbox.record_exported(transaction, queued, store.now_us())
            keep(store, Path(disk), number, deeds[number % len(deeds)])
            acknowledged.run(store.commit_artifacts(**run_arguments(rng, "kept", f"{number}-after")))
        if deeds[number % len(deeds)] == "compact":
            compact_store(store.config)


def keep(store, disk, number, deed):
    """Do one of the things by which a store is kept."""
    if deed in {"forget", "gc", "compact", "undelete"}:
        store.forget([f"waste{number}"])
    if deed == "undelete":
        store.undelete(f"waste{number}")
    elif deed in {"gc", "compact"}:
        store.gc()
    elif deed == "backup":
        store.backup(disk / f"backup{number}")
    elif deed == "heal":
        store.heal()
    elif deed == "pin":
        store.pin(f"waste{number}")
    elif deed == "checkout":
        (disk / CHECKOUTS).mkdir(exist_ok=True)
        store.checkout(f"kept-{number}", disk / CHECKOUTS / f"kept-{number}")


def fails(disk, kind, step_number, errno_name, variant=""):
    """Commit, let a step of the next commit fail, try that commit again; print how both tries ended."""
    if variant:
        VARIANTS[variant]()
    shim = ctypes.CDLL(None)
    rng = random.Random(step_number)
    acknowledged = Acknowledgements(Path(disk))
    with open_store(disk) as store:
        acknowledged.run(store.commit_artifacts("wf", "t", {"f": b"first"}, correlation_id="first"))
        # More than the room made ahead, so that growth is among the steps.
        files = {"f": content(rng, 3 * SMALL_STEP_BYTES)} | {"g": b"%d" % rng.randrange(10**9)}
        intake.LARGE_FILE_BYTES = 1 << 30
        shim.faults_arm(
            ord(kind), int(step_number), -1 if errno_name == "KILL" else getattr(errno, errno_name)
        )
        for is_last in (False, True):
            try:
                acknowledged.run(store.commit_artifacts("wf", "t", files, correlation_id="second"))
                said = "stored"
            except ArtifactStoreError as error:
                said = error.kind
            print(said, end="\n" if is_last else " ", flush=True)  # noqa: T201
            shim.faults_arm(0, 0, 0)


if __name__ == "__main__":
    shrink_steps()
    {"commits": commits, "keeping": keeping, "fails": fails}[sys.argv[2]](sys.argv[1], *sys.argv[3:])

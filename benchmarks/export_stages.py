"""Where does the time of an export of 1,000 real runs go, and what bounds each of its steps?

The exporter's own steps are timed from outside, in alternating exports that check segments and that check every blob,
each from a fresh copy of the store into an empty repository. Beside them stands what bounds them, alone and on the same
data: all segments digested, the objects of all runs made again with nothing read or written, all contents inflated and
digested by one thread and by two, the stored bytes copied with one fsync, as many refs made by `git update-ref` in one
transaction, with and without syncing them, and a git that does nothing.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from benchmarks.engines_git import create_repository, git, require_git
from benchmarks.filling import copy_store, filled_store
from benchmarks.floor import copy_with_fsync
from benchmarks.runs import real_runs
from benchmarks.stopwatch import Stopwatch
from benchmarks.tables import Table, figure
from cas import ArtifactStore, ArtifactStoreConfig, blobs, gitform, records
from cas.codec import inflate
from cas.digest import digest_bytes
from gitexport import Exporter, batch, exporter, pack, writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.plan import Plan
    from cas.blobs import Blob
    from cas.lmdbenv import ReadTransaction
    from gitexport.blobcopy import CheckLevel

# runs, rounds
_EXTENT: Final = {"tiny": (3, 1), "quick": (200, 2), "full": (1000, 7)}
_LEVELS: Final[dict[str, CheckLevel]] = {"deposit": "deposit", "full": "full"}
_THREADS_COUNT: Final = 2
_REFS_ROUNDS_COUNT: Final = 3  # each takes seconds
_STEPS: Final = {
    "open": (exporter.Exporter, "open_repository"),
    "claim": (exporter._Export, "_claim"),  # the steps are the exporter's own
    "plan": (batch.BatchWriter, "_plan"),
    "look_up": (writer, "collect"),
    "ask_git": (writer, "_find_missing"),
    "pack": (writer, "_write_pack"),
    "check": (writer, "check_blobs"),
    "publish": (pack.PackWriter, "finish"),
    "refs": (writer, "update_refs"),
    "read_back": (writer, "_prove"),
    "receipts": (batch.BatchWriter, "_receive"),
}
_TITLES: Final = {
    "open": "open the repository: two git processes",
    "claim": "read manifests and the objects their commits made, compare all ids",
    "plan": "read the refs there are, decide what moves",
    "look_up": "find where all blobs lie",
    "ask_git": "ask git what it has: one process",
    "pack": "digest segments, copy streams and new objects into the pack",
    "check": "inflate every blob and compare its digest, while the disk syncs the pack (only on demand)",
    "publish": "index, sync of pack, index and folder, renames",
    "refs": "all refs in one transaction, synced",
    "read_back": "read the refs back",
    "receipts": "receipts in one transaction of the store, synced",
    "rest": "the rest",
    "export": "the export",
}


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    require_git()
    runs_count, rounds_count = _EXTENT[plan.size]
    store_dir, _ = filled_store(plan.fresh("store"), real_runs(runs_count, plan.data))
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in _LEVELS}
    watch = Stopwatch()
    try:
        for name, (owner, function_name) in _STEPS.items():
            watch.around(name, owner, function_name)
        repository, _ = _export(
            plan, store_dir, watch, "deposit"
        )  # imports what an export needs; not counted
        for _ in range(rounds_count):
            for name, level in _LEVELS.items():
                _, stages = _export(plan, store_dir, watch, level)
                samples[name].append(stages)
    finally:
        watch.restore()
    return {
        "parameters": {
            "runs_count": runs_count,
            "rounds_count": rounds_count,
            "input": "store in the page cache and synced, repository empty",
            "sync_mode": "pack, index, folder, refs and receipts synced",
        },
        "stages_ms": {
            name: {stage: _median_ms([sample[stage] for sample in taken]) for stage in taken[0]}
            for name, taken in samples.items()
        },
        "bounds_ms": _bounds(plan, store_dir, repository, rounds_count),
        "refs_count": len(_refs(repository)),
        "skipped": [],
    }


def _export(
    plan: Plan, store_dir: Path, watch: Stopwatch, level: CheckLevel
) -> tuple[Path, dict[str, float]]:
    """Export everything once; return the repository, and the seconds of each step."""
    folder = plan.fresh("export")
    repository = folder / "repository.git"
    create_repository(repository, bare=True)
    copy_store(store_dir, folder / "store")
    config = ArtifactStoreConfig(repo_path=repository, store_path=folder / "store")
    with ArtifactStore(config, create=False) as store:
        watch.read()
        started_s = time.perf_counter()
        summary = Exporter(store, check=level).run(push=False)
        took_s = time.perf_counter() - started_s
    if summary.state != "done":
        raise RuntimeError(f"the export is {summary.state}: {summary.failures[:3]}")
    parts = dict.fromkeys(_STEPS, 0.0) | watch.read()
    parts["pack"] -= parts["check"] + parts["publish"]
    return repository, {**parts, "rest": took_s - sum(parts.values()), "export": took_s}


def _refs(repository: Path) -> list[str]:
    return git(repository, "for-each-ref", "--format=%(refname) %(objectname)").decode().splitlines()


def _bounds(plan: Plan, store_dir: Path, exported: Path, rounds_count: int) -> dict[str, float]:
    """Return milliseconds of what bounds the steps, each alone; medians."""
    config = ArtifactStoreConfig(repo_path=exported, store_path=store_dir)
    (packed,) = (exported / "objects" / "pack").glob("*.pack")
    lines = [f"create {line}\n" for line in _refs(exported)]
    told = "".join(["start\n", *lines, "prepare\n", "commit\n"]).encode()
    took_s: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], object]) -> None:
        started_s = time.perf_counter()
        call()
        took_s.setdefault(name, []).append(time.perf_counter() - started_s)

    with ArtifactStore(config, create=False) as store, store.environment.read() as transaction:
        count = int(str(store.stats()["manifests"]))
        rows = [records.load(transaction, sequence) for sequence in range(1, count + 1)]
        known = sorted(blobs.iter_blobs(transaction), key=lambda blob: (blob.segment, blob.offset))
        streams = list(blobs.iter_whole_streams(transaction, known))
        segments = {blob.segment for blob in known}
        for number in range(rounds_count):
            timed("segments", lambda: [digest_bytes(view) for view in _segments(transaction, segments)])
            timed("ids", lambda: [gitform.check_row(*row) for row in rows])
            timed("digests_one_thread", lambda: _digest(streams))
            timed("digests_two_threads", lambda: _digest_in_threads(streams))
            copied = plan.fresh("copy") / packed.name
            timed("copy", lambda copied=copied: copy_with_fsync(packed, copied))
            timed("git_alone", lambda: git(exported, "version"))
            if number >= _REFS_ROUNDS_COUNT:
                continue
            for name, words in (
                ("refs_by_git", ()),
                ("refs_by_git_synced", ("-c", "core.fsync=committed,reference")),
            ):
                other = _borrowing(plan.fresh("refs") / "repository.git", exported)
                call = (*words, "update-ref", "--stdin")
                timed(name, lambda other=other, call=call: git(other, *call, data=told))
    return {name: _median_ms(values) for name, values in took_s.items()}


def _borrowing(folder: Path, lender: Path) -> Path:
    """Make an empty repository that has all objects of another one."""
    create_repository(folder, bare=True)
    (folder / "objects" / "info" / "alternates").write_text(f"{lender / 'objects'}\n")
    return folder


def _segments(transaction: ReadTransaction, numbers: Iterable[int]) -> Iterator[memoryview]:
    for number in numbers:
        view = blobs.view_segment(transaction, number)
        if view is not None:
            yield view


def _digest(streams: Sequence[tuple[Blob, memoryview]]) -> None:
    for blob, stream in streams:
        if digest_bytes(inflate(stream, blob.size_bytes)) != blob.digest:
            raise RuntimeError("a stored blob is damaged")


def _digest_in_threads(streams: Sequence[tuple[Blob, memoryview]]) -> None:
    with ThreadPoolExecutor(_THREADS_COUNT) as pool:
        list(pool.map(_digest, [streams[part::32] for part in range(32)]))


def _median_ms(values: Sequence[float]) -> float:
    return round(statistics.median(values) * 1000, 2)


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    deposit, full = (result["stages_ms"][name] for name in _LEVELS)
    rows = [[title, figure(deposit[name]), figure(full[name])] for name, title in _TITLES.items()]
    bounds = result["bounds_ms"]
    count = result["parameters"]["runs_count"]
    titles = {
        "segments": "digest every segment",
        "ids": f"make the objects of {count:,} runs anew, and their ids, all in memory",
        "digests_one_thread": "inflate and digest every blob, one thread",
        "digests_two_threads": "the same, two threads",
        "copy": "copy the pack with one fsync",
        "refs_by_git": f"{result['refs_count']:,} refs by one `git update-ref --stdin`, as it comes (refs not synced)",
        "refs_by_git_synced": "the same, refs synced",
        "git_alone": "a git process that does nothing",
    }
    return [
        Table(
            f"An export of {count:,} runs, step by step",
            ["step", "ms, segments digested", "ms, every blob inflated"],
            rows,
        ),
        Table(
            "What bounds it",
            ["alone", "ms"],
            [[title, figure(bounds[name])] for name, title in titles.items()],
        ),
    ]

"""Where does the time of one commit go, and how much of it is what LMDB's way of writing asks of the disk?

Real runs are committed one by one from files in the page cache; the store's own steps are timed from outside. Beside
them stands the disk's part alone: as many pages as a commit writes, one stretch for the content and the others
scattered, into a file written before, one flush, and a write of LMDB's meta page that is itself flushed. It takes turns
with the commits.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.floor import Floor
from benchmarks.runs import real_runs
from benchmarks.stopwatch import Stopwatch
from benchmarks.tables import Table, figure
from cas import ArtifactStore, ArtifactStoreConfig, commit, intake

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.plan import Plan

# runs in all, runs before the first that are committed but not counted
_EXTENT: Final = {"tiny": (8, 2), "quick": (120, 20), "full": (700, 100)}
_PAGE_BYTES: Final = 4096
_META_BYTES: Final = 120
_FILE_PAGES: Final = 8192


class _Disk:
    """A file that is written as LMDB writes one transaction."""

    def __init__(self, path: Path) -> None:
        self._draw = random.Random(1)
        path.write_bytes(bytes(_FILE_PAGES * _PAGE_BYTES))
        self._descriptor = os.open(path, os.O_RDWR)
        self._meta = os.open(path, os.O_RDWR | os.O_DSYNC)
        os.fsync(self._descriptor)

    def write(self, pages_count: int, stretch_count: int) -> None:
        """Write so many pages, ``stretch_count`` of them behind each other, and flush as LMDB does."""
        scattered_count = max(0, pages_count - stretch_count)
        places = sorted(self._draw.sample(range(2, _FILE_PAGES - stretch_count), scattered_count + 1))
        for place in places[1:]:
            os.pwrite(self._descriptor, os.urandom(_PAGE_BYTES), place * _PAGE_BYTES)
        os.pwrite(self._descriptor, os.urandom(stretch_count * _PAGE_BYTES), places[0] * _PAGE_BYTES)
        os.fdatasync(self._descriptor)
        os.pwrite(self._meta, bytes(_META_BYTES), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
        os.close(self._meta)


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count, warm_count = _EXTENT[plan.size]
    runs = real_runs(runs_count, plan.data)
    folder = plan.fresh("stages")
    watch = Stopwatch()
    disk, floor = _Disk(folder / "disk"), Floor(folder, 2 * sum(run.raw_bytes for run in runs))
    samples: list[dict[str, float]] = []
    try:
        with ArtifactStore(ArtifactStoreConfig(repo_path=folder)) as store:
            store.warm_up()
            watch.around("content", intake, "take_in")
            watch.around("prepared", store, "_prepare")
            watch.around("applied", commit, "apply_all")
            watch.around("results", store, "_results")
            for number, run in enumerate(runs):
                before_bytes, stored_bytes = _written_bytes(), floor.stored_bytes
                started_s = time.perf_counter()
                store.commit_artifacts(**run.as_call())
                took_s = time.perf_counter() - started_s
                parts = watch.read()
                pages_count = (_written_bytes() - before_bytes) // _PAGE_BYTES
                begun_s = time.perf_counter()
                floor.commit(run)
                floor_s = time.perf_counter() - begun_s
                stretch_count = -(-(floor.stored_bytes - stored_bytes) // _PAGE_BYTES)
                begun_s = time.perf_counter()
                disk.write(pages_count, stretch_count)
                disk_s = time.perf_counter() - begun_s
                if number >= warm_count:
                    flush_s = store.environment.last_flush_s
                    samples.append(_stages(took_s, parts, flush_s, floor_s, disk_s, pages_count))
    finally:
        watch.restore()
        disk.close()
        floor.close()
    medians = {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}
    return {
        "parameters": {
            "runs_count": len(samples),
            "uncounted_runs_count": warm_count,
            "input": "paths, in the page cache",
            "sync_mode": "full",
        },
        "pages_per_commit": medians.pop("pages"),
        "stages_us": {name: round(value * 1_000_000, 1) for name, value in medians.items()},
        "skipped": [],
    }


def _stages(
    took_s: float, parts: Mapping[str, float], flush_s: float, floor_s: float, disk_s: float, pages: int
) -> dict[str, float]:
    inside_s = parts["applied"]
    return {
        "commit": took_s,
        "content": parts["content"],
        "tree_and_digest": parts["prepared"] - parts["content"],
        "inside_the_lock": inside_s,
        "flush": flush_s,
        "result": parts["results"],
        "rest": took_s - parts["prepared"] - inside_s - flush_s - parts["results"],
        "floor": floor_s,
        "disk_alone": disk_s,
        "pages": pages,
    }


def _written_bytes() -> int:
    """Return how many bytes this process has handed to write calls so far."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise OSError("this system does not count written bytes")


_TITLES: Final = {
    "content": "read, digest, look up, scan, git oid, deflate",
    "tree_and_digest": "metadata file, trees, digest of the content",
    "inside_the_lock": "inside the write lock: commit, tags, manifest, rows",
    "flush": "LMDB writes its pages, flushes, writes its meta page",
    "result": "result",
    "rest": "checks of IDs and metadata, queue, lock, transactions",
    "commit": "the commit",
    "floor": "the floor, same runs",
    "disk_alone": "the disk's part of LMDB's way, alone",
}


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the table of the page."""
    stages = result["stages_us"]
    whole = stages["commit"]
    rows = [[title, figure(stages[name]), figure(stages[name] / whole)] for name, title in _TITLES.items()]
    bound = (stages["floor"] + stages["disk_alone"]) / stages["floor"]
    note = (
        f"A commit writes {figure(result['pages_per_commit'])} pages. The commit is "
        f"{figure(whole / stages['floor'])} x the floor. The floor and the disk's part of LMDB's way together, with no "
        f"line of a store around them, would be {figure(bound)} x; the floor's own flush is counted in both."
    )
    return [Table("One commit, step by step", ["step", "p50 µs", "of the commit"], rows, note)]

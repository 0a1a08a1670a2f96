"""How fast is a verify with more threads, and what do garbage collection and verify cost the commits beside them?

Verify reads a store of real runs, whose file is in the page cache, with each number of threads in turn, in rounds. The
other store has small runs of three files; a part of them is forgotten in each round, a third in all. A writer commits
for as long as another process collects, then for as long as one verifies, and some runs before each of them, so that a
busy moment of the machine meets both.
"""

from __future__ import annotations

import concurrent.futures
import random
import statistics
import time
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final

from benchmarks.runs import real_runs
from benchmarks.samples import summary_ms
from benchmarks.tables import Table, figure
from cas import ArtifactStore, ArtifactStoreConfig, outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor
    from pathlib import Path

    from benchmarks.plan import Plan

_VERIFIED_RUNS_COUNT: Final = {"tiny": 4, "quick": 100, "full": 500}
_SMALL_RUNS_COUNT: Final = {"tiny": 60, "quick": 3000, "full": 20_000}
_ROUNDS_COUNT: Final = {"tiny": 1, "quick": 2, "full": 3}
_VERIFY_ROUNDS_COUNT: Final = {"tiny": 1, "quick": 3, "full": 7}
_THREADS: Final = (1, 2, 4)
_BATCH_COUNT: Final = 500
_LEAST_COMMITS_COUNT: Final = 20


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    verified = _verify_rounds(plan)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        beside = _beside_rounds(plan, pool)
    return {
        "parameters": {
            "verified_runs_count": _VERIFIED_RUNS_COUNT[plan.size],
            "small_runs_count": _SMALL_RUNS_COUNT[plan.size],
            "rounds_count": _ROUNDS_COUNT[plan.size],
            "sync_mode": "full",
            "input": "store files in the page cache; small runs as bytes in memory",
        },
        "verify": verified,
        "beside": beside,
        "skipped": [],
    }


def _config(folder: Path) -> ArtifactStoreConfig:
    return ArtifactStoreConfig(repo_path=folder, scan_for_secrets=False)


def _verify_rounds(plan: Plan) -> list[dict[str, Any]]:
    folder = plan.fresh("verified")
    runs = real_runs(_VERIFIED_RUNS_COUNT[plan.size], plan.data)
    with ArtifactStore(_config(folder)) as store:
        for run in runs:
            store.commit_artifacts(**run.as_call())
        size_bytes = store.verify().byte_count
        samples_s: dict[int, list[float]] = {threads: [] for threads in _THREADS}
        for number in range(_VERIFY_ROUNDS_COUNT[plan.size]):
            for threads in _THREADS if number % 2 else reversed(_THREADS):
                started_s = time.perf_counter()
                report = store.verify(threads=threads)
                samples_s[threads].append(time.perf_counter() - started_s)
                assert report.ok
    one_s = statistics.median(samples_s[1])
    return [
        {
            "threads_count": threads,
            "p50_s": round(statistics.median(times_s), 4),
            "megabytes_per_s": round(size_bytes / 1e6 / statistics.median(times_s), 1),
            "times_one_thread": round(one_s / statistics.median(times_s), 3),
        }
        for threads, times_s in samples_s.items()
    ]


def _beside_rounds(plan: Plan, pool: Executor) -> dict[str, Any]:
    folder, count = plan.fresh("beside"), _SMALL_RUNS_COUNT[plan.size]
    _fill(folder, count)
    rounds_count = _ROUNDS_COUNT[plan.size]
    samples_s: dict[str, list[float]] = {"before_gc": [], "gc": [], "before_verify": [], "verify": []}
    took_s: dict[str, list[float]] = {"gc": [], "verify": []}
    removed_count = 0
    pool.submit(time.time).result()  # the process is there before anything is timed
    with ArtifactStore(_config(folder)) as store:
        writer = _Writer(store)
        writer.commit_while(lambda: False)
        for number in range(rounds_count):
            third = range(number, count, rounds_count * 3)
            store.forget([f"small_{index:08d}" for index in third])
            for name, work in (("gc", _collect), ("verify", _verify)):
                samples_s[f"before_{name}"] += writer.commit_while(
                    _counter(max(_LEAST_COMMITS_COUNT, count // 60))
                )
                future = pool.submit(work, folder)
                samples_s[name] += writer.commit_while(lambda future=future: not future.done())
                seconds, figure_of_work = future.result()
                took_s[name].append(seconds)
                removed_count += figure_of_work if name == "gc" else 0
    return {
        "samples": {name: summary_ms(values) for name, values in samples_s.items()},
        "gc_p50_s": round(statistics.median(took_s["gc"]), 3),
        "verify_p50_s": round(statistics.median(took_s["verify"]), 3),
        "removed_blobs_count": removed_count,
    }


def _counter(count: int) -> Callable[[], bool]:
    left = iter(range(count))
    return lambda: next(left, None) is not None


class _Writer:
    """Commits small runs one by one, and times them."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._number = 0

    def commit_while(self, goes_on: Callable[[], bool]) -> list[float]:
        """Commit at least one run, and more as long as that is wanted; return seconds of each."""
        samples_s: list[float] = []
        while not samples_s or goes_on():
            run = _small_run(self._number, "written")
            self._number += 1
            started_s = time.perf_counter()
            self._store.commit_artifacts(**run)
            samples_s.append(time.perf_counter() - started_s)
        return samples_s


def _fill(folder: Path, count: int) -> None:
    with ArtifactStore(_config(folder)) as store:
        for start in range(0, count, _BATCH_COUNT):
            store.commit_many(
                [_small_run(number, "small") for number in range(start, min(start + _BATCH_COUNT, count))]
            )
        with store.environment.write() as transaction:  # as an export notes it; what is not in git is kept
            queued = [number for number, _ in outbox.iter_entries(transaction, outbox.Stage.WRITE)]
            outbox.record_exported(transaction, queued, store.now_us())


def _small_run(number: int, name: str) -> dict[str, Any]:
    draw = random.Random(f"{name} {number}")
    lines = "".join(f"{index},{draw.uniform(1, 2):.5f},{draw.randint(1, 900)}\n" for index in range(60))
    return {
        "workflow_id": f"wf_{number % 40}",
        "task_id": f"task_{number % 500}",
        "files": {
            "strategy.py": f"FAST, SLOW = {draw.randint(3, 30)}, {draw.randint(31, 90)}\n# {name} {number}\n".encode(),
            "trades.csv": f"n,price,size\n{lines}".encode(),
            "test_report.json": f'{{"run": "{name} {number}", "net_pnl": {draw.gauss(0, 9):.4f}}}\n'.encode(),
        },
        "metadata": {"test_metrics": {"net_pnl": round(draw.gauss(0, 9), 4)}},
        "correlation_id": f"{name}_{number:08d}",
    }


def _collect(folder: Path) -> tuple[float, int]:
    """Collect garbage; return the seconds it took and how many blobs went."""
    with ArtifactStore(_config(folder)) as store:
        started_s = time.perf_counter()
        done = store.gc()
        return time.perf_counter() - started_s, int(str(done["blobs"]))


def _verify(folder: Path) -> tuple[float, int]:
    """Verify with one thread; return the seconds it took and how many blobs were read."""
    with ArtifactStore(_config(folder)) as store:
        started_s = time.perf_counter()
        report = store.verify(threads=1)
        assert report.ok
        return time.perf_counter() - started_s, report.blob_count


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    verified = [
        [
            str(each["threads_count"]),
            figure(each["p50_s"]),
            figure(each["megabytes_per_s"]),
            figure(each["times_one_thread"]),
        ]
        for each in result["verify"]
    ]
    beside, samples = result["beside"], result["beside"]["samples"]
    commits = [
        [
            label,
            figure(samples[name]["p50_ms"]),
            figure(samples[name]["p90_ms"]),
            figure(samples[name]["p99_ms"]),
            str(samples[name]["samples_count"]),
        ]
        for label, name in (
            ("alone", "before_gc"),
            ("beside a collection", "gc"),
            ("alone, later", "before_verify"),
            ("beside a verify of one thread", "verify"),
        )
    ]
    note = (
        f"A collection took {figure(beside['gc_p50_s'])} s, a verify {figure(beside['verify_p50_s'])} s (medians); "
        f"{beside['removed_blobs_count']:,} blobs were removed in all."
    )
    return [
        Table("Verify", ["threads", "s", "MB/s of content", "x one thread"], verified),
        Table("Commits of small runs", ["", "p50 ms", "p90 ms", "p99 ms", "commits"], commits, note),
    ]

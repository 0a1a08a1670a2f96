"""How many runs per second do 1 to 16 writers commit into one store, and does any of them ever fail?

Each cell is a store of its own that gets the same real runs, divided among its writers: processes that wait for one
start signal, or threads of one process. Flush times above zero are added by a preloaded library to the disk's own.
After each cell the store is counted: a run that is missing or doubled is a failure like an error raised by a commit.
Floors are processes that do the necessary alone, each into a file of its own: what the machine has to give. Plain
processes never hand a run to another one, each waits for the write lock: what the relay is to be compared with.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import slowflush
from benchmarks.charts import Lines, Series
from benchmarks.floor import Floor
from benchmarks.plan import PROJECT
from benchmarks.runs import StoredRun, real_runs
from benchmarks.samples import summary_ms
from benchmarks.tables import Table, figure
from cas import ArtifactStore, ArtifactStoreConfig, groupcommit
from cas.errors import ArtifactStoreError
from cas.secretscan import SecretScanner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from benchmarks.plan import Plan

# writers, extra milliseconds of each flush, runs in all, rounds
_EXTENT: Final[dict[str, tuple[tuple[int, ...], tuple[float, ...], int, int]]] = {
    "tiny": ((4,), (0, 1), 4, 1),
    "quick": ((1, 4), (0, 5), 48, 1),
    "full": ((1, 2, 4, 8, 16), (0, 1, 5), 240, 2),
}
_WARM_RUNS_COUNT: Final = 3  # each writer's first commits open, allocate and page in
_SLOW_COUNTS: Final = (1, 4, 16)  # of writers where flushes are slow, to save time
_MAX_ERRORS_KEPT: Final = 5
_PROCESSES, _PLAIN, _THREADS, _FLOORS = "processes", "plain processes", "threads", "floors"


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    writers_counts, flushes_ms, runs_count, rounds_count = _EXTENT[plan.size]
    most = max(writers_counts)
    runs = real_runs(runs_count + most * _WARM_RUNS_COUNT, plan.data)
    library, reason = slowflush.build(plan.fresh("slowflush"))
    flushes_ms = flushes_ms if library else (0,)
    cells = [
        (kind, flush_ms, count)
        for flush_ms in flushes_ms
        for kind in (_PROCESSES, _PLAIN, _THREADS, _FLOORS)
        for count in writers_counts
        if _is_asked(kind, flush_ms, count)
    ]
    rounds: dict[tuple[str, float, int], list[dict[str, Any]]] = {cell: [] for cell in cells}
    for number in range(rounds_count):
        for cell in cells if number % 2 == 0 else reversed(cells):
            rounds[cell].append(_cell(plan, runs, cell, library))
    return {
        "parameters": {
            "runs_count": runs_count,
            "rounds_count": rounds_count,
            "sync_mode": "full",
            "input": "paths, in the page cache",
        },
        "cells": [_figures(cell, results) for cell, results in rounds.items()],
        "skipped": [{"name": "slow flushes", "reason": reason, "install": "install gcc"}] if reason else [],
    }


def _is_asked(kind: str, flush_ms: float, count: int) -> bool:
    """Tell whether a combination says something that the others do not."""
    if kind == _FLOORS:
        return flush_ms == 0
    if flush_ms == 0:
        return kind != _PLAIN
    return count in _SLOW_COUNTS and (kind != _PLAIN or count > 1)


def _cell(
    plan: Plan, runs: Sequence[StoredRun], cell: tuple[str, float, int], library: Path | None
) -> dict[str, Any]:
    kind, flush_ms, count = cell
    folder = plan.fresh(f"{kind}-{count}-{flush_ms:g}ms")
    processes_count, threads_count = (1, count) if kind == _THREADS else (count, 1)
    with ArtifactStore(ArtifactStoreConfig(repo_path=folder)):
        pass  # made before the writers start, as creation is not what is asked
    counted = runs[: len(runs) - len(runs) % count]
    orders = [folder / f"orders-{number}.json" for number in range(processes_count)]
    for number, order in enumerate(orders):
        mine = counted[number::processes_count]
        calls = [{**run.as_call(), "files": [str(path) for path in run.paths]} for run in mine]
        told = {"folder": str(folder), "threads": threads_count, "calls": calls}
        if kind == _FLOORS:
            told["floor"] = str(folder / f"floor-{number}")
        told["plain"] = kind == _PLAIN
        order.write_text(json.dumps(told))
    environment = slowflush.environment(library, flush_ms)
    results = _run_writers(orders, environment)
    samples_s = [sample for result in results for sample in result["samples_s"]]
    began_s = min(result["began_s"] for result in results)
    figures = {
        "runs_per_s": len(samples_s) / (max(result["ended_s"] for result in results) - began_s),
        "samples_s": samples_s,
        "errors": [error for result in results for error in result["errors"]],
    }
    if kind == _FLOORS:
        return {**figures, "lost_count": 0, "doubled_count": 0}
    with ArtifactStore(ArtifactStoreConfig(repo_path=folder), create=False) as store:
        kept = {str(record["correlation_id"]) for record in store.list_artifacts(limit=10_000)}
        rows_count = int(str(store.stats()["manifests"]))
    acknowledged = [name for result in results for name in result["acknowledged"]]
    return {
        **figures,
        "lost_count": count_lost(acknowledged, kept),
        "doubled_count": rows_count - len(kept),
    }


def count_lost(acknowledged: Sequence[str], kept: AbstractSet[str]) -> int:
    """Return how many runs were acknowledged and are not there; one that failed was not promised."""
    return len(set(acknowledged) - kept)


def _run_writers(orders: Sequence[Path], environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """Start one process for each order, let them begin together, and return what they tell."""
    command = [sys.executable, "-m", "benchmarks.writers"]
    processes = [
        subprocess.Popen(
            [*command, str(order)],
            cwd=PROJECT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for order in orders
    ]
    try:
        for process in processes:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise RuntimeError("a writer process did not start")
        # Written to all before any is waited for: communicate() waits.
        for process in processes:
            if process.stdin is not None:
                process.stdin.write("go\n")
                process.stdin.flush()
        return [json.loads(process.communicate()[0]) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


def _figures(cell: tuple[str, float, int], results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    kind, flush_ms, count = cell
    errors = [error for result in results for error in result["errors"]]
    return {
        "kind": kind,
        "writers_count": count,
        "added_flush_ms": flush_ms,
        "runs_per_s": round(statistics.median(result["runs_per_s"] for result in results), 1),
        "runs_per_s_by_round": [round(result["runs_per_s"], 1) for result in results],
        "failed_count": len(errors),
        "lost_count": sum(result["lost_count"] for result in results),
        "doubled_count": sum(result["doubled_count"] for result in results),
        "errors": errors[:_MAX_ERRORS_KEPT],
        "latency": {
            name: value
            for name, value in summary_ms([s for result in results for s in result["samples_s"]]).items()
            if name != "runs_per_s"
        },
    }


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return one table for each kind of writer and flush time."""
    made = []
    alone = {
        cell["added_flush_ms"]: cell["runs_per_s"]
        for cell in reversed(result["cells"])
        if cell["kind"] == _PROCESSES
    }
    for kind, flush_ms in dict.fromkeys((cell["kind"], cell["added_flush_ms"]) for cell in result["cells"]):
        cells = [
            cell for cell in result["cells"] if (cell["kind"], cell["added_flush_ms"]) == (kind, flush_ms)
        ]
        # A plain process alone does what any process alone does, and is not measured again.
        one = alone[flush_ms] if kind == _PLAIN else cells[0]["runs_per_s"]
        rows = [
            [
                figure(cell["writers_count"]),
                figure(cell["runs_per_s"]),
                figure(cell["runs_per_s"] / one),
                figure(cell["latency"]["p50_ms"]),
                figure(cell["latency"]["p99_ms"]),
                figure(cell["failed_count"] + cell["lost_count"] + cell["doubled_count"]),
            ]
            for cell in cells
        ]
        heads = [kind, "runs/s", "x one", "p50 ms", "p99 ms", "failed, lost or doubled"]
        title = (
            f"{kind.capitalize()}, the disk's own flush time"
            if flush_ms == 0
            else f"{kind.capitalize()}, {flush_ms:g} ms added to each flush"
        )
        made.append(Table(title, heads, rows))
    return made


def charts(result: Mapping[str, Any]) -> list[Lines]:
    """Return the pictures of the page: one for each kind of writer, with one line for each flush time."""
    made = []
    for kind in dict.fromkeys(cell["kind"] for cell in result["cells"]):
        cells = [cell for cell in result["cells"] if cell["kind"] == kind]
        series = [
            Series(
                f"+{flush_ms:g} ms" if flush_ms else "the disk's own",
                [(c["writers_count"], c["runs_per_s"]) for c in cells if c["added_flush_ms"] == flush_ms],
            )
            for flush_ms in dict.fromkeys(cell["added_flush_ms"] for cell in cells)
        ]
        title = f"Writers of one store: {kind}"
        made.append(
            Lines(f"writers_{kind.replace(' ', '_')}", title, kind, "runs per second, by flush time", series)
        )
    return made


def write_runs(order: Path) -> dict[str, Any]:
    """Commit what an order says with as many threads as it says; the body of a writer process."""
    told = json.loads(order.read_text())
    if "floor" in told:
        return _write_floor(Path(told["floor"]), told["calls"])
    if told["plain"]:
        groupcommit.RELAY_FLUSH_S = math.inf  # pyright: ignore[reportAttributeAccessIssue]  no flush is that slow
    threads_count = told["threads"]
    shares = [told["calls"][number::threads_count] for number in range(threads_count)]
    start = threading.Barrier(threads_count + 1)
    SecretScanner().warm()  # for the whole process; otherwise it would fall into the first counted commits
    with (
        ArtifactStore(ArtifactStoreConfig(repo_path=Path(told["folder"])), create=False) as store,
        ThreadPoolExecutor(threads_count) as pool,
    ):
        tasks = [pool.submit(_commit_share, store, share, start) for share in shares]
        start.wait()
        print("ready", flush=True)
        sys.stdin.readline()
        start.wait()
        parts = [task.result() for task in tasks]
    return {
        "began_s": min(part["began_s"] for part in parts),
        "ended_s": max(part["ended_s"] for part in parts),
        "samples_s": [sample for part in parts for sample in part["samples_s"]],
        "errors": [error for part in parts for error in part["errors"]],
        "acknowledged": [name for part in parts for name in part["acknowledged"]],
    }


def _write_floor(folder: Path, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    paths = [[Path(path) for path in call["files"]] for call in calls]
    folder.mkdir()
    floor = Floor(folder, 2 * sum(path.stat().st_size for each in paths for path in each))
    samples_s: list[float] = []
    began_s = 0.0
    for number, files in enumerate(paths):
        if number == _WARM_RUNS_COUNT:
            print("ready", flush=True)
            sys.stdin.readline()
            began_s = time.clock_gettime(time.CLOCK_MONOTONIC)
        begun_s = time.perf_counter()
        floor.append([floor.stream_of(path) for path in files])
        samples_s.append(time.perf_counter() - begun_s)
    ended_s = time.clock_gettime(time.CLOCK_MONOTONIC)
    floor.close()
    return {"began_s": began_s, "ended_s": ended_s, "samples_s": samples_s[_WARM_RUNS_COUNT:], "errors": []}


def _commit_share(
    store: ArtifactStore, calls: Sequence[dict[str, Any]], start: threading.Barrier
) -> dict[str, Any]:
    samples_s: list[float] = []
    errors: list[str] = []
    acknowledged: list[str] = []
    for call in calls[:_WARM_RUNS_COUNT]:
        _commit(store, call, acknowledged, errors)
    start.wait()
    start.wait()
    # One clock for all processes of the machine, so that the first start and the last end can be compared.
    began_s = time.clock_gettime(time.CLOCK_MONOTONIC)
    for call in calls[_WARM_RUNS_COUNT:]:
        begun_s = time.perf_counter()
        if _commit(store, call, acknowledged, errors):
            samples_s.append(time.perf_counter() - begun_s)
    ended_s = time.clock_gettime(time.CLOCK_MONOTONIC)
    return {
        "began_s": began_s,
        "ended_s": ended_s,
        "samples_s": samples_s,
        "errors": errors,
        "acknowledged": acknowledged,
    }


def _commit(store: ArtifactStore, call: dict[str, Any], acknowledged: list[str], errors: list[str]) -> bool:
    try:
        acknowledged.append(str(store.commit_artifacts(**call)["correlation_id"]))
    except ArtifactStoreError as error:
        errors.append(f"{error.kind}: {error.message}")
        return False
    return True


if __name__ == "__main__":
    print(json.dumps(write_runs(Path(sys.argv[1]))))

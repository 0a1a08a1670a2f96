"""Do commits and look-ups stay as fast as the store grows to thousands of runs, and what does a run cost on disk?

Runs have three small files each, all different, so that what is measured is the store's own bookkeeping. They are
committed one by one by one writer process, whose memory is read at each mark. Look-ups are made at each mark on runs
drawn from the whole store; overhead is the growth of the used pages between the marks minus the streams stored.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import random
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.samples import summary_ms
from benchmarks.tables import Table, figure
from cas import ArtifactStore, ArtifactStoreConfig
from cas.codec import deflate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.plan import Plan

_RUNS_COUNT: Final = {"tiny": 60, "quick": 2000, "full": 30_000}
_EARLY_PART: Final = {"tiny": 0.5, "quick": 0.2, "full": 0.2}
_WINDOW_PART: Final = 0.2  # of the runs before a mark, those whose times count
_LOOKUPS_COUNT: Final = {"tiny": 5, "quick": 100, "full": 300}
_WORKFLOWS_COUNT: Final = 40
_TASKS_COUNT: Final = 500


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count = plan.scale_runs or _RUNS_COUNT[plan.size]
    return measure_at(plan, sorted({min(10_000, int(runs_count * _EARLY_PART[plan.size])), runs_count}))


def measure_at(plan: Plan, marks: Sequence[int]) -> dict[str, Any]:
    """Return the figures of a store that grows to the last of ``marks``, taken at each of them; ascending."""
    folder = plan.fresh("scale")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        measured = pool.submit(_fill, folder, marks, _LOOKUPS_COUNT[plan.size]).result()
    first, last = measured[0], measured[-1]
    grown = {
        name: last[name] - first[name] for name in ("runs_count", "used_bytes", "stream_bytes", "raw_bytes")
    }
    overhead = (grown["used_bytes"] - grown["stream_bytes"]) / grown["runs_count"]
    return {
        "parameters": {
            "runs_count": last["runs_count"],
            "files_per_run_count": 3,
            "raw_bytes_mean": round(grown["raw_bytes"] / grown["runs_count"]),
            "sync_mode": "full",
            "input": "bytes in memory; store warm",
        },
        "marks": measured,
        "overhead_bytes_per_run": round(overhead),
        "commit_p50_growth": round(last["commit"]["p50_ms"] / first["commit"]["p50_ms"], 3),
        "commit_cpu_p50_growth": round(last["commit_cpu"]["p50_ms"] / first["commit_cpu"]["p50_ms"], 3),
        "skipped": [],
    }


@dataclasses.dataclass(slots=True)
class _Window:
    """What gathers between two marks."""

    samples_s: list[float] = dataclasses.field(default_factory=list)
    stream_bytes: int = 0
    raw_bytes: int = 0


def _fill(folder: Path, marks: Sequence[int], lookups_count: int) -> list[dict[str, Any]]:
    """Commit up to each mark in turn and measure there; the body of the writer process."""
    measured: list[dict[str, Any]] = []
    total = _Window()
    with ArtifactStore(ArtifactStoreConfig(repo_path=folder)) as store:
        done_count = 0
        for mark in marks:
            counted_from = mark - max(1, int(min(mark, marks[0]) * _WINDOW_PART))
            window: list[float] = []
            cpu_window: list[float] = []
            for number in range(done_count, mark):
                files = _small_files(number)
                total.raw_bytes += sum(map(len, files.values()))
                total.stream_bytes += sum(len(deflate(data)) for data in files.values())
                started_s, cpu_started_s = time.perf_counter(), time.process_time()
                _commit(store, number, files)
                if number >= counted_from:
                    window.append(time.perf_counter() - started_s)
                    cpu_window.append(time.process_time() - cpu_started_s)
            done_count = mark
            measured.append(
                {
                    "runs_count": mark,
                    "commit": summary_ms(window),
                    "commit_cpu": summary_ms(cpu_window),
                    **_lookups(store, mark, lookups_count),
                    **_memory(),
                    "used_bytes": store.environment.used_bytes(),
                    "stream_bytes": total.stream_bytes,
                    "raw_bytes": total.raw_bytes,
                }
            )
    return measured


def _commit(store: ArtifactStore, number: int, files: dict[str, bytes]) -> None:
    store.commit_artifacts(
        f"wf_{number % _WORKFLOWS_COUNT}",
        f"task_{number % _TASKS_COUNT}",
        files,
        {"agent_version": "tester-v1.0", "test_metrics": {"net_pnl": number % 977, "win_rate": 0.5}},
        _correlation_id(number),
        f"{number % 1000:012d}",
    )


def _correlation_id(number: int) -> str:
    return f"run_{number:08d}"


def _small_files(number: int) -> dict[str, bytes]:
    draw = random.Random(number)
    lines = [f"{index},{draw.uniform(1, 2):.5f},{draw.randint(1, 900)}" for index in range(12)]
    report = ", ".join(f'"metric_{index}": {draw.random():.6f}' for index in range(8))
    return {
        "strategy.py": f"# {number}\nfast_bars = {draw.randint(3, 30)}\nslow_bars = {draw.randint(30, 90)}\n".encode(),
        "test_report.json": f'{{"run": {number}, {report}}}\n'.encode(),
        "trades.csv": "\n".join([f"n,price,size {number}", *lines]).encode(),
    }


def _lookups(store: ArtifactStore, runs_count: int, lookups_count: int) -> dict[str, Any]:
    draw = random.Random(runs_count)

    def times(call: Callable[[], object]) -> dict[str, Any]:
        samples_s: list[float] = []
        for _ in range(lookups_count):
            started_s = time.perf_counter()
            call()
            samples_s.append(time.perf_counter() - started_s)
        return summary_ms(samples_s)

    return {
        "list_newest_50": times(lambda: store.list_artifacts(limit=50)),
        "list_workflow_50": times(
            lambda: store.list_artifacts(f"wf_{draw.randrange(_WORKFLOWS_COUNT)}", limit=50)
        ),
        "get_by_correlation_id": times(
            lambda: store.get_artifact_by_correlation_id(_correlation_id(draw.randrange(runs_count)))
        ),
    }


def _memory() -> dict[str, int]:
    """Return resident memory of this process: all of it, and what is not the mapped store file."""
    found: dict[str, int] = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in {"VmRSS", "RssAnon"}:
            key = "resident_bytes" if name == "VmRSS" else "anonymous_bytes"
            found[key] = int(value.split()[0]) * 1024
    return found


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the table of the page."""
    lookups = ("list_newest_50", "list_workflow_50", "get_by_correlation_id")
    rows = [
        [
            f"{mark['runs_count']:,}",
            figure(mark["commit"]["p50_ms"]),
            figure(mark["commit_cpu"]["p50_ms"]),
            figure(mark["commit"]["p99_ms"]),
            *(figure(mark[name]["p50_ms"]) for name in lookups),
            figure(mark["anonymous_bytes"] / 1_000_000),
        ]
        for mark in result["marks"]
    ]
    heads = [
        "runs in the store",
        "commit p50 ms",
        "of it CPU ms",
        "commit p99 ms",
        "newest 50 ms",
        "newest 50 of a workflow ms",
    ]
    heads += ["by correlation ID ms", "writer's own memory MB"]
    note = (
        f"Overhead per run (manifest, names, queue; three blob rows; page slack): "
        f"{result['overhead_bytes_per_run']:,} bytes. Commit p50 at the end is "
        f"{figure(result['commit_p50_growth'])} x its value at the first mark, its "
        f"processor time {figure(result['commit_cpu_p50_growth'])} x."
    )
    return [Table("A store that grows", heads, rows, note)]

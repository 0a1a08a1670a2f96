"""Do commits and look-ups stay as fast as the store grows to 100,000 runs, and what does a run cost on disk?

Runs have three small files each, all different, so that what is measured is the store's own bookkeeping. Two stores are
filled, one with the runs of the first mark, one with all, each by a process of its own, whose memory is told: by small
batches, then by single commits that are not counted, until the list of freed pages is as short as in a store that was
filled run by run. Then one process opens both, and they grow by single commits in blocks that take turns, so that a
busy moment of the machine meets both; so do the look-ups, on runs drawn from the whole store. Overhead is the growth of
the used pages between the two stores minus the streams stored.
"""

from __future__ import annotations

import concurrent.futures
import random
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, TypeVar

from benchmarks.charts import Lines, Series
from benchmarks.samples import summary_ms
from benchmarks.tables import Table, figure
from cas import ArtifactStore, ArtifactStoreConfig
from cas.codec import deflate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.plan import Plan
    from cas.intake import RunArguments

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
# runs of the small store and of the large one
_RUNS_COUNT: Final = {"tiny": (30, 60), "quick": (1_000, 4_000), "full": (10_000, 100_000)}
# blocks in each store, commits of a block, look-ups of each kind in a block
_EXTENT: Final = {"tiny": (2, 5, 2), "quick": (4, 50, 25), "full": (20, 100, 30)}
_BATCH_RUNS: Final = 20
# Batches leave some hundred pages free, of which a single commit uses up about one more than it frees.
_UNCOUNTED: Final = {"tiny": 3, "quick": 100, "full": 1_500}
_WORKFLOWS_COUNT: Final = 40
_TASKS_COUNT: Final = 500


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    small_count, large_count = _RUNS_COUNT[plan.size]
    large_count = plan.scale_runs or large_count
    return measure_at(plan, (min(small_count, large_count), large_count))


def measure_at(plan: Plan, counts: Sequence[int]) -> dict[str, Any]:
    """Return the figures of stores of so many runs each, measured by turns; ascending."""
    folders = [plan.fresh(f"scale-{count}") for count in counts]
    stores = [
        _in_own_process(_fill, folder, count, _UNCOUNTED[plan.size])
        for folder, count in zip(folders, counts, strict=True)
    ]
    measured = _in_own_process(_measure_by_turns, stores, _EXTENT[plan.size])
    first, last = measured[0], measured[-1]
    grown = {
        name: last[name] - first[name] for name in ("runs_count", "used_bytes", "stream_bytes", "raw_bytes")
    }
    overhead = (grown["used_bytes"] - grown["stream_bytes"]) / grown["runs_count"]
    return {
        "parameters": {
            "runs_count": counts[-1],
            "files_per_run_count": 3,
            "raw_bytes_mean": round(grown["raw_bytes"] / grown["runs_count"]),
            "commits_measured_count": _EXTENT[plan.size][0] * _EXTENT[plan.size][1],
            "sync_mode": "full",
            "input": "bytes in memory; store warm",
        },
        "marks": measured,
        "overhead_bytes_per_run": round(overhead),
        "commit_p50_growth": round(last["commit"]["p50_ms"] / first["commit"]["p50_ms"], 3),
        "commit_cpu_p50_growth": round(last["commit_cpu"]["p50_ms"] / first["commit_cpu"]["p50_ms"], 3),
        "skipped": [],
    }


class _Filled(NamedTuple):
    """A store that was filled: where it is, what went in, and what the process that filled it held at the end."""

    folder: Path
    runs_count: int
    used_bytes: int
    stream_bytes: int
    raw_bytes: int
    memory: dict[str, int]


def _in_own_process(
    work: Callable[_Arguments, _Result], *args: _Arguments.args, **named: _Arguments.kwargs
) -> _Result:
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *args, **named).result()


def _fill(folder: Path, runs_count: int, singles_count: int) -> _Filled:
    """Fill a new store; the last ``singles_count`` runs one by one."""
    raw_bytes = stream_bytes = 0
    batches_end = max(runs_count - singles_count, 0)
    with ArtifactStore(ArtifactStoreConfig(repo_path=folder)) as store:
        for start in range(0, runs_count, _BATCH_RUNS):
            numbers = range(start, min(start + _BATCH_RUNS, runs_count))
            files = [_small_files(number) for number in numbers]
            batch = [_run(number, named) for number, named in zip(numbers, files, strict=True)]
            contents = [data for named in files for data in named.values()]
            raw_bytes += sum(map(len, contents))
            stream_bytes += sum(len(deflate(data)) for data in contents)
            if start < batches_end:
                store.commit_many(batch)
            else:
                for run in batch:
                    store.commit_artifacts(**run)
        used_bytes = store.environment.used_bytes()
        return _Filled(folder, runs_count, used_bytes, stream_bytes, raw_bytes, _memory())


class _Growing:
    """One store that grows, and the times of its blocks."""

    def __init__(self, filled: _Filled) -> None:
        self.filled = filled
        self.store = ArtifactStore(ArtifactStoreConfig(repo_path=filled.folder))
        self.runs_count = filled.runs_count
        self.commits_s: list[float] = []
        self.commits_cpu_s: list[float] = []
        self.lookups_s: dict[str, list[float]] = {}

    def commit_block(self, commits_count: int) -> None:
        """Commit runs one by one."""
        for _ in range(commits_count):
            run = _run(self.runs_count, _small_files(self.runs_count))
            started_s, cpu_started_s = time.perf_counter(), time.process_time()
            self.store.commit_artifacts(**run)
            self.commits_s.append(time.perf_counter() - started_s)
            self.commits_cpu_s.append(time.process_time() - cpu_started_s)
            self.runs_count += 1

    def look_up(self, lookups_count: int, draw: random.Random) -> None:
        """Ask for lists and runs."""
        store = self.store
        questions: dict[str, Callable[[], object]] = {
            "list_newest_50": lambda: store.list_artifacts(limit=50),
            "list_workflow_50": lambda: store.list_artifacts(
                f"wf_{draw.randrange(_WORKFLOWS_COUNT)}", limit=50
            ),
            "get_by_correlation_id": lambda: store.get_artifact_by_correlation_id(
                _correlation_id(draw.randrange(self.runs_count))
            ),
        }
        for name, ask in questions.items():
            for _ in range(lookups_count):
                started_s = time.perf_counter()
                ask()
                self.lookups_s.setdefault(name, []).append(time.perf_counter() - started_s)

    def figures(self) -> dict[str, Any]:
        """Return what was measured."""
        filled = self.filled
        return {
            "runs_count": filled.runs_count,
            "used_bytes": filled.used_bytes,
            "stream_bytes": filled.stream_bytes,
            "raw_bytes": filled.raw_bytes,
            **filled.memory,
            "commit": summary_ms(self.commits_s),
            "commit_cpu": summary_ms(self.commits_cpu_s),
            **{name: summary_ms(samples_s) for name, samples_s in self.lookups_s.items()},
        }


def _measure_by_turns(filled: Sequence[_Filled], extent: tuple[int, int, int]) -> list[dict[str, Any]]:
    """Let filled stores grow by turns, and ask them."""
    blocks_count, commits_count, lookups_count = extent
    draw = random.Random(1)
    stores = [_Growing(each) for each in filled]
    for number in range(blocks_count):
        for growing in stores if number % 2 == 0 else reversed(stores):
            growing.commit_block(commits_count)
            growing.look_up(lookups_count, draw)
    for growing in stores:
        growing.store.close()
    return [growing.figures() for growing in stores]


def _run(number: int, files: dict[str, bytes]) -> RunArguments:
    return {
        "workflow_id": f"wf_{number % _WORKFLOWS_COUNT}",
        "task_id": f"task_{number % _TASKS_COUNT}",
        "files": files,
        "metadata": {
            "agent_version": "tester-v1.0",
            "test_metrics": {"net_pnl": number % 977, "win_rate": 0.5},
        },
        "correlation_id": _correlation_id(number),
        "prompt_hash": f"{number % 1000:012d}",
    }


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
        f"{result['overhead_bytes_per_run']:,} bytes. Commit p50 in the larger store is "
        f"{figure(result['commit_p50_growth'])} x that in the smaller one, its "
        f"processor time {figure(result['commit_cpu_p50_growth'])} x."
    )
    return [Table("A store that grows", heads, rows, note)]


def charts(result: Mapping[str, Any]) -> list[Lines]:
    """Return the picture of the page."""
    lines = {
        "commit": ("commit", "p50_ms"),
        "of it processor": ("commit_cpu", "p50_ms"),
        "newest 50": ("list_newest_50", "p50_ms"),
        "by correlation ID": ("get_by_correlation_id", "p50_ms"),
    }
    series = [
        Series(words, [(mark["runs_count"], mark[part][key]) for mark in result["marks"]])
        for words, (part, key) in lines.items()
    ]
    return [
        Lines(str(result["name"]), "A store that grows", "runs in the store", "p50, milliseconds", series)
    ]

"""How many runs per second do four processes commit into one store, here and with the peers?

Each process commits its share of the same runs, one by one; all begin together. Where a store has a work tree that
bears one process at a time, the processes hold a file lock around each commit, as their users have to. Afterwards the
store is asked which runs it holds: one that is missing counts as a failure, like an error. The stores take turns. The
first commit of each process opens and allocates, and is not counted; restic, borg and DVC get a run for each process
and one round, as each of their commits is a process that opens everything anyway.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final

from benchmarks.charts import FLUSH_KEY, Bar, Bars
from benchmarks.engines import FEW, FLOOR, PRODUCT, available
from benchmarks.plan import PROJECT
from benchmarks.runs import real_runs
from benchmarks.samples import summary_ms
from benchmarks.tables import Headline, Table, best_peers, figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

    from benchmarks.engines import Engine, EngineKind
    from benchmarks.plan import Plan
    from benchmarks.runs import StoredRun

PROCESSES_COUNT: Final = 4
# runs in all, rounds
_EXTENT: Final = {"tiny": (8, 1), "quick": (80, 1), "full": (240, 3)}
_START_LIMIT_S: Final = 120
_MAX_ERRORS_KEPT: Final = 5

_barriers: list[Barrier] = []  # the one of this process, handed over when it starts


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count, rounds_count = _EXTENT[plan.size]
    runs = real_runs(runs_count + PROCESSES_COUNT, plan.data)
    kinds, skipped = available()
    kinds = [kind for kind in kinds if kind.name != FLOOR]
    rounds: dict[str, list[dict[str, Any]]] = {kind.name: [] for kind in kinds}
    context = get_context("spawn")  # nothing of this process, such as an open store, is to be copied
    barrier = context.Barrier(PROCESSES_COUNT)
    with ProcessPoolExecutor(PROCESSES_COUNT, context, _keep_barrier, (barrier,)) as pool:
        for number in range(rounds_count):
            for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
                if kind.share > FEW or number == 0:
                    rounds[kind.name].append(_one(plan, pool, kind, runs))
    return {
        "parameters": {
            "runs_count": runs_count,
            "processes_count": PROCESSES_COUNT,
            "rounds_count": rounds_count,
            "sync_mode": "full",
            "input": "paths, in the page cache",
        },
        "engines": [_figures(kind, rounds) for kind in kinds],
        "skipped": skipped,
    }


def _keep_barrier(barrier: Barrier) -> None:
    _barriers[:] = [barrier]


def _one(
    plan: Plan, pool: ProcessPoolExecutor, kind: EngineKind, runs: Sequence[StoredRun]
) -> dict[str, Any]:
    """Let the processes fill one store and return what they and the store tell."""
    folder = plan.fresh(kind.name)
    warm_count = 0 if kind.share <= FEW else 1
    counted = 0 if kind.share <= FEW else round((len(runs) - PROCESSES_COUNT) * kind.share)
    counted = max(PROCESSES_COUNT, counted)
    given = runs[: warm_count * PROCESSES_COUNT + counted - counted % PROCESSES_COUNT]
    room_bytes = sum(run.raw_bytes for run in given)
    kind.open(folder, room_bytes).close()  # made before they start, as creation is not what is asked
    shares = [given[number::PROCESSES_COUNT] for number in range(PROCESSES_COUNT)]
    tasks = [pool.submit(_commit_share, kind.name, folder, room_bytes, share, warm_count) for share in shares]
    parts = [task.result() for task in tasks]
    opened: Any = kind.open(folder, room_bytes)
    kept = set(opened.newest(len(given)))
    opened.close()
    took_s = max(part["ended_s"] for part in parts) - min(part["began_s"] for part in parts)
    samples_s = [sample for part in parts for sample in part["samples_s"]]
    return {
        "runs_per_s": len(samples_s) / took_s,
        "runs_count": len(given) - warm_count * PROCESSES_COUNT,
        "samples_s": samples_s,
        "errors": [error for part in parts for error in part["errors"]],
        "lost_count": len({run.correlation_id for run in given} - kept),
    }


def _commit_share(
    name: str, folder: Path, room_bytes: int, runs: Sequence[StoredRun], warm_count: int
) -> dict[str, Any]:
    """Open the store, commit what is not counted, wait for the others, commit; the body of a process."""
    kind = next(kind for kind in available()[0] if kind.name == name)
    engine = kind.open(folder, room_bytes)
    turn = (
        functools.partial(_turn, folder.with_name(f"{folder.name}.lock"))
        if kind.alone
        else contextlib.nullcontext
    )
    samples_s: list[float] = []
    errors: list[str] = []
    for run in runs[:warm_count]:
        _commit(engine, run, turn, errors)
    _barriers[0].wait(_START_LIMIT_S)
    began_s = time.clock_gettime(time.CLOCK_MONOTONIC)  # one clock for all processes
    for run in runs[warm_count:]:
        started_s = time.perf_counter()
        if _commit(engine, run, turn, errors):
            samples_s.append(time.perf_counter() - started_s)
    ended_s = time.clock_gettime(time.CLOCK_MONOTONIC)
    engine.close()
    return {"began_s": began_s, "ended_s": ended_s, "samples_s": samples_s, "errors": errors}


def _commit(engine: Engine, run: StoredRun, turn: Callable[[], Any], errors: list[str]) -> bool:
    try:
        with turn():
            engine.commit(run)
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is a run that it did not take, and is counted
        told = f"{type(error).__name__}: {error}".replace(f"{PROJECT}/", "")  # results are kept and shown
        errors.append(told[:300])
        return False
    return True


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _figures(kind: EngineKind, rounds: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    own = rounds[kind.name]
    errors = [error for result in own for error in result["errors"]]
    samples_s = [sample for result in own for sample in result["samples_s"]]
    rate = statistics.median(result["runs_per_s"] for result in own)
    ours = statistics.median(result["runs_per_s"] for result in rounds[PRODUCT])
    latency = summary_ms(samples_s) if samples_s else {"p50_ms": None, "p99_ms": None}
    return {
        "name": kind.name,
        "title": kind.title,
        "flushed": kind.flushed,
        "under_a_lock": kind.alone,
        "runs_count": own[0]["runs_count"],
        "runs_per_s": round(rate, 2),
        "runs_per_s_by_round": [round(result["runs_per_s"], 2) for result in own],
        "this_store_over": round(ours / rate, 2) if rate else None,
        "p50_ms": latency["p50_ms"],
        "p99_ms": latency["p99_ms"],
        "failed_count": len(errors),
        "lost_count": sum(result["lost_count"] for result in own) - len(errors),
        "errors": errors[:_MAX_ERRORS_KEPT],
    }


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the table of the page."""
    rows = [
        [
            engine["title"] + (", under a lock" if engine["under_a_lock"] else ""),
            f"{engine['runs_count']:,}",
            figure(engine["runs_per_s"]),
            figure(engine["this_store_over"]),
            figure(engine["p50_ms"]),
            figure(engine["p99_ms"]),
            figure(engine["failed_count"] + engine["lost_count"]),
            "yes" if engine["flushed"] else "no",
        ]
        for engine in sorted(result["engines"], key=lambda engine: -float(engine["runs_per_s"]))
    ]
    heads = ["store", "runs", "runs/s", "this store x", "p50 ms", "p99 ms", "failed or lost", "flushed"]
    return [Table("Four processes", heads, rows)]


def charts(result: Mapping[str, Any]) -> list[Bars]:
    """Return the picture of the page."""
    engines = sorted(result["engines"], key=lambda engine: -float(engine["runs_per_s"]))
    marks = [
        Bar(
            engine["title"],
            engine["runs_per_s"],
            ours=engine["name"] == PRODUCT,
            hollow=not engine["flushed"],
        )
        for engine in engines
    ]
    title = "Four processes commit into one store"
    return [Bars("four_processes", title, "runs per second", marks, FLUSH_KEY, logarithmic=True)]


def headlines(result: Mapping[str, Any]) -> list[Headline]:
    """Return the line of the README: the best peer is the quickest, and the quickest of those that flush."""
    engines = {engine["name"]: engine for engine in result["engines"]}
    peers = [engine for name, engine in engines.items() if name != PRODUCT]
    words = best_peers(peers, "runs_per_s", most=True)
    replaced = engines.get("replaced_system", {}).get("runs_per_s")
    return [
        Headline("four processes, runs/s", figure(engines[PRODUCT]["runs_per_s"]), figure(replaced), words)
    ]

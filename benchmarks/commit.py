"""How long does one commit of a real run take, here, at the floor, and with the peers?

Runs come from paths of files in the page cache. The engines take turns in rounds, each round on runs that no engine
has seen, in another order each time, so that a busy moment of the machine meets all of them. A ratio compares the same
runs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.charts import FLUSH_KEY, Bar, Bars
from benchmarks.engines import FLOOR, PRODUCT, available
from benchmarks.floor import stages_us
from benchmarks.runs import real_runs
from benchmarks.samples import paired_ratio, spread, summary_ms
from benchmarks.tables import Headline, Table, best_peers, figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.engines import Engine, EngineKind
    from benchmarks.plan import Plan
    from benchmarks.runs import StoredRun

# rounds, runs of each, runs before the first that are committed but not counted
_EXTENT: Final = {"tiny": (2, 2, 1), "quick": (3, 20, 8), "full": (12, 60, 8)}
_STAGE_RUNS_COUNT: Final = 200

Times = dict[int, float]  # number of the run → seconds


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    rounds_count, block_count, warm_count = _EXTENT[plan.size]
    runs = real_runs(warm_count + rounds_count * block_count, plan.data)
    kinds, skipped = available()
    room_bytes = sum(run.raw_bytes for run in runs) * 2  # the stages write once more
    engines = {kind.name: kind.open(plan.fresh(kind.name), room_bytes) for kind in kinds}
    times: dict[str, list[Times]] = {kind.name: [] for kind in kinds}
    try:
        for kind in kinds:
            _commit_all(engines[kind.name], _share(dict(enumerate(runs[:warm_count])), kind))
        for number in range(rounds_count):
            start = warm_count + number * block_count
            block = dict(enumerate(runs[start : start + block_count], start))
            for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
                times[kind.name].append(_commit_all(engines[kind.name], _share(block, kind)))
        stages = stages_us(engines[FLOOR], runs[:_STAGE_RUNS_COUNT])
    finally:
        for engine in engines.values():
            engine.close()
    return {
        "parameters": {
            "runs_count": rounds_count * block_count,
            "rounds_count": rounds_count,
            "uncounted_runs_count": warm_count,
            "raw_bytes_mean": round(sum(run.raw_bytes for run in runs) / len(runs)),
            "input": "paths, in the page cache",
            "sync_mode": "full",
        },
        "engines": [_figures(kind, times) for kind in kinds],
        "floor_stages_us": stages,
        "skipped": skipped,
    }


def _share(block: dict[int, StoredRun], kind: EngineKind) -> dict[int, StoredRun]:
    count = max(1, round(len(block) * kind.share))
    return dict(list(block.items())[:count])


def _commit_all(engine: Engine, runs: Mapping[int, StoredRun]) -> Times:
    took: Times = {}
    for number, run in runs.items():
        started_s = time.perf_counter()
        engine.commit(run)
        took[number] = time.perf_counter() - started_s
    return took


def _figures(kind: EngineKind, times: Mapping[str, Sequence[Times]]) -> dict[str, Any]:
    rounds = times[kind.name]
    together = _joined(rounds)
    return {
        "name": kind.name,
        "title": kind.title,
        "durability": kind.durability,
        "flushed": kind.flushed,
        **summary_ms(list(together.values())),
        "over_floor_p50": round(paired_ratio(together, _joined(times[FLOOR])), 3),
        "over_this_store_p50": round(paired_ratio(together, _joined(times[PRODUCT])), 3),
        "over_floor_p50_by_round": spread([paired_ratio(*pair) for pair in zip(rounds, times[FLOOR], strict=True)]),
        "samples_ms": [round(value * 1000, 3) for value in together.values()],
    }  # fmt: skip


def _joined(rounds: Sequence[Times]) -> Times:
    return {number: value for times in rounds for number, value in times.items()}


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    floor_ms = next(float(engine["p50_ms"]) for engine in result["engines"] if engine["name"] == FLOOR)
    rows = [
        [
            engine["title"],
            figure(engine["p50_ms"]),
            figure(engine["p99_ms"]),
            figure(engine["runs_per_s"]),
            figure(engine["over_this_store_p50"]),
            figure(engine["p50_ms"] / floor_ms),
            engine["durability"],
        ]
        for engine in sorted(result["engines"], key=lambda engine: float(engine["p50_ms"]))
    ]
    heads = ["engine", "p50 ms", "p99 ms", "runs/s", "x this store", "x floor", "on the disk when it returns"]
    note = (
        "The floor reads, digests, scans and deflates the files and flushes once. No store that does as much can be "
        "quicker: the column x floor is the most by which one could ever beat an engine here."
    )
    stages = [[name.replace("_", " "), figure(value)] for name, value in result["floor_stages_us"].items()]
    return [
        Table("One commit", heads, rows, note),
        Table("The floor, stage by stage", ["stage", "µs per run"], stages),
    ]


def charts(result: Mapping[str, Any]) -> list[Bars]:
    """Return the picture of the page."""
    engines = sorted(result["engines"], key=lambda engine: float(engine["p50_ms"]))
    marks = [
        Bar(
            engine["title"],
            engine["p50_ms"],
            ours=engine["name"] == PRODUCT,
            hollow=not (engine["flushed"] or engine["name"] == FLOOR),
        )
        for engine in engines
    ]
    return [
        Bars("commit", "One commit of a real run", "p50, milliseconds", marks, FLUSH_KEY, logarithmic=True)
    ]


def headlines(result: Mapping[str, Any]) -> list[Headline]:
    """Return the line of the README: the best peer is the quickest, and the quickest of those that flush."""
    engines = {engine["name"]: engine for engine in result["engines"]}
    words = best_peers([engine for name, engine in engines.items() if name not in {FLOOR, PRODUCT}], "p50_ms")
    replaced = engines.get("replaced_system", {}).get("p50_ms")
    return [Headline("one commit, p50 ms", figure(engines[PRODUCT]["p50_ms"]), figure(replaced), words)]

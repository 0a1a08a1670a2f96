"""How long does it take to bring one run back to a folder, and how long to bring back all of them?

Each kind of store holds the same runs (restic, borg and DVC the last few, as filling them takes a process or more for
each); the four ways to read git share one packed repository, made by this store's export. The stores take turns in
rounds. What was restored is compared with what was stored, outside the measured time.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.charts import Bar, Bars
from benchmarks.engines import PRODUCT
from benchmarks.readers import Source, available, same_files
from benchmarks.runs import real_runs
from benchmarks.samples import summary_ms
from benchmarks.tables import Headline, Table, figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.plan import Plan
    from benchmarks.readers import Reader
    from benchmarks.runs import StoredRun

# runs, runs where every commit takes a process, rounds of single runs, single runs of each, rounds of all runs
_EXTENT: Final = {"tiny": (5, 2, 1, 1, 1), "quick": (100, 3, 3, 3, 1), "full": (300, 5, 10, 6, 2)}
_FEW_PER_ROUND: Final = 1


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count, few_count, rounds_count, block_count, all_rounds_count = _EXTENT[plan.size]
    source = Source(plan.fresh("source"), real_runs(runs_count, plan.data), few_count)
    kinds, skipped = available()
    readers = {kind.name: kind.open(source, plan.fresh(kind.name)) for kind in kinds}
    ones: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    alls: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    try:
        for number in range(rounds_count):
            for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
                held = kind.runs_of(source)
                count = _FEW_PER_ROUND if kind.few else block_count
                chosen = [held[(number * block_count + place * 7) % len(held)] for place in range(count)]
                ones[kind.name] += _each(readers[kind.name], chosen, plan.fresh(kind.name))
        for number in range(all_rounds_count):
            for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
                if kind.few and number > 0:
                    continue
                alls[kind.name].append(_all(readers[kind.name], kind.runs_of(source), plan.fresh(kind.name)))
    finally:
        for reader in readers.values():
            reader.close()
        source.store.close()
    ours_ms = statistics.median(ones[PRODUCT]) * 1000
    return {
        "parameters": {
            "runs_count": runs_count,
            "rounds_count": rounds_count,
            "sync_mode": "nothing is synced, as no peer does (`checkout(sync=False)`)",
            "input": "stores in the page cache",
        },
        "stores": [
            {
                "name": kind.name,
                "title": kind.title,
                "runs_count": len(kind.runs_of(source)),
                "one": summary_ms(ones[kind.name]),
                "one_over_this_store": round(statistics.median(ones[kind.name]) * 1000 / ours_ms, 3),
                "all_s": round(statistics.median(alls[kind.name]), 4),
                "all_runs_per_s": round(len(kind.runs_of(source)) / statistics.median(alls[kind.name]), 2),
                "all_samples_s": [round(value, 4) for value in alls[kind.name]],
            }
            for kind in kinds
        ],
        "skipped": skipped,
    }


def _each(reader: Reader, runs: Sequence[StoredRun], folder: Path) -> list[float]:
    """Restore runs one by one, compare them, and return the seconds of each."""
    took_s: list[float] = []
    for number, run in enumerate(runs):
        started_s = time.perf_counter()
        place = reader.restore(run, folder / str(number))
        took_s.append(time.perf_counter() - started_s)
        _require_same(run, place)
    return took_s


def _all(reader: Reader, runs: Sequence[StoredRun], folder: Path) -> float:
    """Restore all runs, by one command where the store has it, compare them, and return the seconds in all."""
    at_once = getattr(reader, "restore_all", None)
    started_s = time.perf_counter()
    if at_once:
        places = at_once(runs, folder)
    else:
        places = [reader.restore(run, folder / str(number)) for number, run in enumerate(runs)]
    took_s = time.perf_counter() - started_s
    for run, place in zip(runs, places, strict=True):
        _require_same(run, place)
    return took_s


def _require_same(run: StoredRun, place: Path) -> None:
    if not same_files(run, place):
        raise AssertionError(f"{run.correlation_id} came back changed")


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the table of the page."""
    rows = [
        [
            store["title"],
            figure(store["one"]["p50_ms"]),
            figure(store["one"]["p99_ms"]),
            figure(store["one_over_this_store"]),
            f"{store['runs_count']:,}",
            figure(store["all_s"]),
            figure(store["all_runs_per_s"]),
        ]
        for store in sorted(result["stores"], key=lambda store: float(store["one"]["p50_ms"]))
    ]
    heads = ["store", "one run, p50 ms", "p99 ms", "x this store", "runs held", "all, s", "all, runs/s"]
    note = "This store and restic check every byte against a digest on the way; so does borg."
    return [Table("Restoring", heads, rows, note)]


def charts(result: Mapping[str, Any]) -> list[Bars]:
    """Return the pictures of the page: one run, and all of them."""
    stores = sorted(result["stores"], key=lambda store: float(store["one"]["p50_ms"]))
    ones = [Bar(store["title"], store["one"]["p50_ms"], ours=store["name"] == PRODUCT) for store in stores]
    stores.sort(key=lambda store: float(store["all_s"]) / float(store["runs_count"]))
    alls = [
        Bar(store["title"], 1000 / store["all_runs_per_s"], ours=store["name"] == PRODUCT) for store in stores
    ]
    return [
        Bars("restore_one", "One run back to a folder", "p50, milliseconds", ones, logarithmic=True),
        Bars("restore_all", "All runs back to a folder", "milliseconds per run", alls, logarithmic=True),
    ]


def headlines(result: Mapping[str, Any]) -> list[Headline]:
    """Return the lines of the README."""
    stores = {store["name"]: store for store in result["stores"]}
    peers = [store for name, store in stores.items() if name != PRODUCT]
    best = min(peers, key=lambda store: float(store["one"]["p50_ms"]))
    quickest = max(peers, key=lambda store: float(store["all_runs_per_s"]))
    replaced = stores.get("replaced_system", {"one": {"p50_ms": None}, "all_runs_per_s": None})
    return [
        Headline(
            "restoring one run, p50 ms",
            figure(stores[PRODUCT]["one"]["p50_ms"]),
            figure(replaced["one"]["p50_ms"]),
            f"{best['title']} {figure(best['one']['p50_ms'])}",
        ),
        Headline(
            "restoring all, runs/s",
            figure(stores[PRODUCT]["all_runs_per_s"]),
            figure(replaced["all_runs_per_s"]),
            f"{quickest['title']} {figure(quickest['all_runs_per_s'])}",
        ),
    ]

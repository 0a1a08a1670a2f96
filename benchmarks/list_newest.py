"""How long does it take to list the newest 50 runs?

Each kind of store holds the same runs (restic, borg and DVC only a few, which is to their advantage); the four ways to
read git share one packed repository, made by this store's export. This store and the plain ones return the metadata as
well, git the names alone. The stores take turns in rounds, and the names they return are compared.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.charts import Bar, Bars
from benchmarks.engines import PRODUCT
from benchmarks.readers import Source, available
from benchmarks.runs import real_runs
from benchmarks.samples import summary_ms
from benchmarks.tables import Headline, Table, figure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.plan import Plan

# runs, runs of a store whose every commit takes a process, rounds
_EXTENT: Final = {"tiny": (5, 2, 1), "quick": (100, 3, 3), "full": (1000, 5, 20)}
_NEWEST_COUNT: Final = 50
_SLOW_ROUNDS_COUNT: Final = 5  # of a store whose every list takes a process


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count, few_count, rounds_count = _EXTENT[plan.size]
    source = Source(plan.fresh("source"), real_runs(runs_count, plan.data), few_count)
    kinds, skipped = available()
    readers = {kind.name: kind.open(source, plan.fresh(kind.name)) for kind in kinds}
    took_s: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    try:
        for number in range(rounds_count):
            for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
                if kind.few and number >= _SLOW_ROUNDS_COUNT:
                    continue
                started_s = time.perf_counter()
                found = readers[kind.name].newest(_NEWEST_COUNT)
                took_s[kind.name].append(time.perf_counter() - started_s)
                expected = [run.correlation_id for run in kind.runs_of(source)[: -_NEWEST_COUNT - 1 : -1]]
                # A store that keeps whole seconds cannot order what was made within one; the others must.
                if sorted(found) != sorted(expected) or not (kind.few or found == expected):
                    raise AssertionError(f"{kind.title} lists other runs than the newest")
    finally:
        for reader in readers.values():
            reader.close()
        source.store.close()
    ours_s = statistics.median(took_s[PRODUCT])
    return {
        "parameters": {
            "runs_count": runs_count,
            "rounds_count": rounds_count,
            "sync_mode": "nothing is written",
            "input": "stores open, in the page cache",
        },
        "stores": [
            {
                "name": kind.name,
                "title": kind.title,
                "runs_count": len(kind.runs_of(source)),
                **summary_ms(took_s[kind.name]),
                "over_this_store": round(statistics.median(took_s[kind.name]) / ours_s, 2),
            }
            for kind in kinds
        ],
        "skipped": skipped,
    }


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the table of the page."""
    rows = [
        [
            store["title"],
            f"{store['runs_count']:,}",
            figure(store["p50_ms"]),
            figure(store["p90_ms"]),
            figure(store["over_this_store"]),
        ]
        for store in sorted(result["stores"], key=lambda store: float(store["p50_ms"]))
    ]
    return [Table("The newest 50", ["store", "runs held", "p50 ms", "p90 ms", "x this store"], rows)]


def charts(result: Mapping[str, Any]) -> list[Bars]:
    """Return the picture of the page."""
    stores = sorted(result["stores"], key=lambda store: float(store["p50_ms"]))
    marks = [Bar(store["title"], store["p50_ms"], ours=store["name"] == PRODUCT) for store in stores]
    return [Bars("list_newest", "Listing the newest 50 runs", "p50, milliseconds", marks, logarithmic=True)]


def headlines(result: Mapping[str, Any]) -> list[Headline]:
    """Return the line of the README."""
    stores = {store["name"]: store for store in result["stores"]}
    best = min(
        (store for name, store in stores.items() if name != PRODUCT),
        key=lambda store: float(store["p50_ms"]),
    )
    replaced = stores.get("replaced_system", {}).get("p50_ms")
    words = f"{best['title']} {figure(best['p50_ms'])}"
    return [
        Headline("listing the newest 50, p50 ms", figure(stores[PRODUCT]["p50_ms"]), figure(replaced), words)
    ]

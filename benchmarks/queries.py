"""How long do filters, orders and pages over 100,000 runs take, with an index on the metric and without?

The runs have eight metrics and the metadata of a sweep, drawn at random, and one small file in common. Each list is
asked for in one store before its metrics have an index and in the same store afterwards, by a process that opened it
and asked each once before, so that the store file is in the page cache. A list returns whole records: 50 at most,
unless it says otherwise.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.samples import summary_ms
from benchmarks.tables import Table, figure
from cas import ArtifactStore, ArtifactStoreConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.plan import Plan

_RUNS_COUNT: Final = {"tiny": 300, "quick": 10_000, "full": 100_000}
_SAMPLES_COUNT: Final = {"tiny": 1, "quick": 5, "full": 15}
_BATCH_COUNT: Final = 500
_INDEXED: Final = ("net_pnl", "sharpe")
_WORKFLOWS_COUNT: Final = 40


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count = _RUNS_COUNT[plan.size]
    folder = plan.fresh("queries")
    values = _fill(folder, runs_count)
    lists = _lists(values)
    with ArtifactStore(ArtifactStoreConfig(repo_path=folder, scan_for_secrets=False)) as store:
        plain = {name: _timed(store, words, _SAMPLES_COUNT[plan.size]) for name, words in lists.items()}
    config = ArtifactStoreConfig(repo_path=folder, scan_for_secrets=False, indexed_metrics=_INDEXED)
    started_s = time.perf_counter()
    with ArtifactStore(config) as store:
        index_s = time.perf_counter() - started_s
        indexed = {name: _timed(store, words, _SAMPLES_COUNT[plan.size]) for name, words in lists.items()}
    return {
        "parameters": {
            "runs_count": runs_count,
            "metrics_per_run_count": 8,
            "indexed": ", ".join(_INDEXED),
            "sync_mode": "full; nothing is written while lists are asked for",
            "input": "store file in the page cache",
        },
        "making_both_indexes_s": round(index_s, 2),
        "lists": [
            {
                "name": name,
                "asked": ", ".join(f"{key}={value!r}" for key, value in words.items()),
                "returned_count": plain[name][1],
                "plain": plain[name][0],
                "indexed": indexed[name][0],
                "same_answer": plain[name][1:] == indexed[name][1:],
            }
            for name, words in lists.items()
        ],
        "skipped": [],
    }


def _fill(folder: Path, runs_count: int) -> list[tuple[float, float]]:
    """Commit the runs in batches; return profit and Sharpe ratio of each."""
    draw = random.Random(1)
    values: list[tuple[float, float]] = []
    with ArtifactStore(ArtifactStoreConfig(repo_path=folder, scan_for_secrets=False)) as store:
        for start in range(0, runs_count, _BATCH_COUNT):
            batch = []
            for number in range(start, min(start + _BATCH_COUNT, runs_count)):
                pnl, sharpe = draw.gauss(20, 400), draw.gauss(0.4, 1)
                values.append((pnl, sharpe))
                batch.append(_run(draw, number, pnl, sharpe))
            store.commit_many(batch)
    return values


def _run(draw: random.Random, number: int, pnl: float, sharpe: float) -> dict[str, Any]:
    metrics = {
        "total_trades": draw.randrange(5, 900),
        "net_pnl": round(pnl, 2),
        "sharpe": round(sharpe, 4),
        "win_rate": round(draw.uniform(0.2, 0.8), 3),
        "max_drawdown": round(-draw.expovariate(8), 4),
        "exposure": round(draw.random(), 3),
        "profit_factor": round(draw.lognormvariate(0, 0.4), 3),
        "bars": 2500,
    }
    return {
        "workflow_id": f"wf_{number % _WORKFLOWS_COUNT}",
        "task_id": f"task_{number % 500}",
        "files": {"strategy.py": b"FAST, SLOW = 10, 30\n"},
        "metadata": {
            "agent_version": f"coder-v1.{number % 7}",
            "llm_version": "model-4",
            "test_metrics": metrics,
            "symbol": draw.choice(["EURUSD", "GBPUSD", "BTCUSD"]),
        },
        "correlation_id": f"run_{number:08d}",
    }


def _lists(values: Sequence[tuple[float, float]]) -> dict[str, dict[str, Any]]:
    """Return the lists to ask for, each by a name that says what it has to look through."""
    profits, ratios = (sorted(column) for column in zip(*values, strict=True))
    last = len(profits) - 1
    best = profits[last - len(profits) // 1000 - 1]
    return {
        "one run in a thousand": {"where": f"net_pnl > {best:.2f}"},
        "one in a thousand, of two metrics": {
            "where": f"net_pnl > {profits[last * 97 // 100]:.2f} and sharpe > {ratios[last * 97 // 100]:.4f}"
        },
        "every second run": {"where": f"net_pnl > {profits[last // 2]:.2f}"},
        "no run": {"where": f"net_pnl > {profits[last] + 1:.2f}"},
        "one in a hundred, all of them": {
            "where": f"net_pnl > {profits[last * 99 // 100]:.2f}",
            "limit": len(profits),
        },
        "the best by a metric": {"sort": "net_pnl"},
        "the best of every second run": {"where": "sharpe > 0.4", "sort": "net_pnl"},
        "the worst of one workflow": {"workflow_id": "wf_7", "sort": "sharpe", "ascending": True},
        "newest, a page of ten thousand further on": {"offset": min(10_000, last // 2)},
        "metadata without an index": {"where": 'symbol = "BTCUSD" and win_rate > 0.799'},
    }


def _timed(
    store: ArtifactStore, words: Mapping[str, Any], samples_count: int
) -> tuple[dict[str, Any], int, int]:
    """Return times, how many runs were returned, and a digest of which ones in what order."""
    ask: Callable[[], list[Any]] = lambda: store.list_artifacts(**words)  # noqa: E731
    found = ask()
    samples_s: list[float] = []
    for _ in range(samples_count):
        started_s = time.perf_counter()
        ask()
        samples_s.append(time.perf_counter() - started_s)
    return summary_ms(samples_s), len(found), hash(tuple(run["commit_sha"] for run in found))


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the table of the page."""
    rows = [
        [
            each["name"],
            f"`{each['asked']}`",
            str(each["returned_count"]),
            figure(each["plain"]["p50_ms"]),
            figure(each["plain"]["p90_ms"]),
            figure(each["indexed"]["p50_ms"]),
            figure(each["indexed"]["p90_ms"]),
        ]
        for each in result["lists"]
    ]
    heads = ["list", "asked for", "runs", "no index p50 ms", "p90 ms", "with index p50 ms", "p90 ms"]
    note = (
        f"Both indexes over {result['parameters']['runs_count']:,} runs were made in "
        f"{figure(result['making_both_indexes_s'])} s when the store was opened with them."
    )
    return [Table(f"Lists over {result['parameters']['runs_count']:,} runs", heads, rows, note)]

"""How much slower does a writer commit while an export of the same store is running?

One process commits real runs one after the other, in windows that alternate: alone, and while another process exports
a thousand queued runs into a new repository again and again. Windows follow each other within a second or two, so both
kinds meet the same moments of the machine; the ratio of each pair is kept. The exporter runs once at the priority of
the writer and once at the lower one of the shipped service.
"""

from __future__ import annotations

import os
import statistics
import time
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final

from benchmarks.engines_git import create_repository, require_git
from benchmarks.filling import filled_store
from benchmarks.runs import many_runs
from benchmarks.samples import spread, summary_ms
from benchmarks.tables import Table, figure
from cas import ArtifactStore, ArtifactStoreConfig
from gitexport import Exporter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from benchmarks.plan import Plan
    from benchmarks.runs import StoredRun

# queued runs, pairs of windows, commits of a window
_EXTENT: Final = {"tiny": (3, 1, 2), "quick": (200, 4, 15), "full": (1000, 12, 40)}
_NICE: Final = {"same priority": 0, "Nice=10, as the shipped service": 10}
_WARM_COUNT: Final = 2  # the first commits compile the secret rules and open what they need
_BEGIN_TIMEOUT_S: Final = 120


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    require_git()
    queued_count, pairs_count, window_count = _EXTENT[plan.size]
    runs = many_runs(queued_count + len(_NICE) * (_WARM_COUNT + pairs_count * 2 * window_count), plan.data)
    left = iter(runs[queued_count:])
    folder = plan.fresh("store")
    store_dir, _ = filled_store(folder, runs[:queued_count])
    cells = [
        _cell(plan, store_dir, title, nice, left, pairs_count, window_count) for title, nice in _NICE.items()
    ]
    return {
        "parameters": {
            "queued_runs_count": queued_count,
            "pairs_count": pairs_count,
            "commits_per_window_count": window_count,
            "input": "paths, in the page cache",
            "sync_mode": "full",
        },
        "cells": cells,
        "skipped": [],
    }


def _cell(
    plan: Plan,
    store_dir: Path,
    title: str,
    nice: int,
    left: Iterator[StoredRun],
    pairs_count: int,
    window_count: int,
) -> dict[str, Any]:
    context = get_context("spawn")
    wanted, going, ended, exports = context.Event(), context.Event(), context.Event(), context.Value("i", 0)
    arguments = (store_dir, plan.fresh("exports"), nice, wanted, going, ended, exports)
    exporter = context.Process(target=_export_while_wanted, args=arguments, daemon=True)
    exporter.start()
    alone: list[float] = []
    beside: list[float] = []
    ratios: list[float] = []
    with ArtifactStore(ArtifactStoreConfig(repo_path=store_dir.parent, store_path=store_dir)) as store:
        _window(store, left, _WARM_COUNT)
        for _ in range(pairs_count):
            first = _window(store, left, window_count)
            wanted.set()
            if not going.wait(_BEGIN_TIMEOUT_S):
                raise RuntimeError("the exporter did not begin")
            second = _window(store, left, window_count)
            wanted.clear()
            _await_rest(exporter, going)
            alone += first
            beside += second
            ratios.append(statistics.median(second) / statistics.median(first))
    ended.set()
    wanted.set()
    exporter.join(_BEGIN_TIMEOUT_S)
    return {
        "name": title,
        "exporter_nice": nice,
        "alone": summary_ms(alone),
        "beside": summary_ms(beside),
        "exports_count": exports.value,
        "p50_ratio": spread(ratios),
    }


def _window(store: ArtifactStore, left: Iterator[StoredRun], count: int) -> list[float]:
    samples_s: list[float] = []
    for _ in range(count):
        call = next(left).as_call()
        started_s = time.perf_counter()
        store.commit_artifacts(**call)
        samples_s.append(time.perf_counter() - started_s)
    return samples_s


def _await_rest(exporter: Any, going: Any) -> None:
    """Wait until the exporter has ended the export at hand, so that the next window is alone."""
    while going.is_set():
        if not exporter.is_alive():
            raise RuntimeError(f"the exporter ended with {exporter.exitcode}")
        time.sleep(0.001)


def _export_while_wanted(
    store_dir: Path, folder: Path, nice: int, wanted: Any, going: Any, ended: Any, exports: Any
) -> None:
    """Export everything into a new repository, again and again while it is wanted; the body of a process."""
    os.nice(nice)
    config = ArtifactStoreConfig(repo_path=store_dir.parent, store_path=store_dir)
    with ArtifactStore(config, create=False) as store:
        while True:
            wanted.wait()
            if ended.is_set():
                return
            repository = folder / f"{exports.value:04d}.git"
            create_repository(repository, bare=True)
            going.set()
            Exporter(store, repository=repository).run(push=False, rebuild=True)
            exports.value += 1
            if not wanted.is_set():
                going.clear()


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    rows = [
        [
            cell["name"],
            figure(cell["alone"]["p50_ms"]),
            figure(cell["beside"]["p50_ms"]),
            figure(cell["p50_ratio"]["median"]),
            f"{figure(cell['p50_ratio']['min'])} to {figure(cell['p50_ratio']['max'])}",
            figure(cell["alone"]["p99_ms"]),
            figure(cell["beside"]["p99_ms"]),
        ]
        for cell in result["cells"]
    ]
    heads = [
        "exporter",
        "p50 ms alone",
        "p50 ms beside",
        "ratio of a pair, median",
        "least to greatest",
        "p99 ms alone",
        "p99 ms beside",
    ]
    return [Table("Commits beside an export", heads, rows)]

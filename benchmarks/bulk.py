"""How long do many runs that lie ready take into each store, by the quickest way that it has?

This store takes batches in one transaction each; git's bulk tools and the libraries make a commit, a branch and two
tags for each run, all told the same; the replaced system has no quicker way than its own, one by one. Others take all
files as one: one commit, one snapshot, one archive, one transaction. What each makes stands beside its figure. The ways
take turns in rounds, each into an empty store.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks import bulk_peers, tools
from benchmarks.charts import FLUSH_KEY, Bar, Bars
from benchmarks.engines_git import CommandLine, create_repository, git
from benchmarks.engines_plain import DiskCache
from benchmarks.engines_tools import Borg, Dvc, Restic
from benchmarks.machine import missing_git, missing_package
from benchmarks.orders import orders_of
from benchmarks.runs import real_runs
from benchmarks.tables import Headline, Table, figure
from cas import ArtifactStore, ArtifactStoreConfig
from gitexport import Exporter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.orders import Order
    from benchmarks.plan import Plan
    from benchmarks.runs import StoredRun

# runs, rounds
_EXTENT: Final = {"tiny": (4, 1), "quick": (60, 1), "full": (300, 3)}
_BATCH_RUNS_COUNT: Final = 100
_BASE: Final = "this_store"

Inputs = tuple["Sequence[StoredRun]", "Sequence[Order]"]


def _this_store(folder: Path, inputs: Inputs, *, export: bool = False) -> None:
    repository = folder / "repository.git"
    if export:
        repository.mkdir()
        create_repository(repository, bare=True)
    runs = inputs[0]
    config = ArtifactStoreConfig(repo_path=repository, store_path=folder / "store")
    with ArtifactStore(config) as store:
        for start in range(0, len(runs), _BATCH_RUNS_COUNT):
            results = store.commit_many([run.as_call() for run in runs[start : start + _BATCH_RUNS_COUNT]])
            if not all(result["success"] for result in results):
                raise RuntimeError("this store refused a run")
        if export and Exporter(store).run(push=False).exported != len(runs):
            raise RuntimeError("the export left runs behind")


def _replaced_system(folder: Path, inputs: Inputs) -> None:
    engine = CommandLine(folder, 0)
    for run in inputs[0]:
        engine.commit(run)
    engine.close()


def _git_add(folder: Path, inputs: Inputs) -> None:
    """Copy all files into a work tree, add and commit them as one."""
    create_repository(folder, bare=False)
    for run in inputs[0]:
        target = folder / run.folder
        target.mkdir(parents=True)
        for path in run.paths:
            shutil.copyfile(path, target / path.name)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=Add all runs")


def _by_orders(way: Callable[[Path, Path, Sequence[Order]], None], folder: Path, inputs: Inputs) -> None:
    create_repository(folder, bare=True)
    way(folder, folder, inputs[1])


def _by_engine(kind: Callable[[Path, int], Any], folder: Path, inputs: Inputs) -> None:
    engine = kind(folder, 0)
    engine.commit_all(inputs[0])
    engine.close()


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """A way to bring many runs in: what it makes, whether it is on the disk when it returns, its part of the runs."""

    name: str
    title: str
    makes: str
    run: Callable[[Path, Inputs], None]
    missing: Callable[[], dict[str, str] | None] = lambda: None
    flushed: bool = False
    share: float = 1.0


_EACH: Final = "a commit, a branch, two tags for each run"


def _library(name: str, title: str, makes: str, share: float = 1.0) -> Way:
    way = functools.partial(_by_orders, getattr(bulk_peers, name))
    module = "git" if name == "gitpython" else name
    return Way(name, title, makes, way, functools.partial(missing_package, module, title), share=share)


WAYS: Final = (
    Way(_BASE, "this store, commit_many", "a manifest for each run, git ids known", _this_store, flushed=True),
    Way(
        "this_store_exported", "this store, commit_many and export", f"the same, and in git {_EACH}",
        functools.partial(_this_store, export=True), missing_git, flushed=True,
    ),
    Way("replaced_system", "replaced system, one by one", _EACH, _replaced_system, missing_git, share=0.1),
    Way("git_add", "git add and commit of all", "one commit", _git_add, missing_git),
    Way(
        "fast_import", "git fast-import", f"{_EACH}, in one pack",
        functools.partial(_by_orders, bulk_peers.fast_import), missing_git,
    ),
    _library("dulwich", "dulwich", f"{_EACH}, in one pack"),
    _library("pygit2", "pygit2", f"{_EACH}, loose"),
    _library("gitpython", "GitPython", f"{_EACH}, loose", share=0.1),
    Way(
        "diskcache", "diskcache, one transaction", "a key for each file and run",
        functools.partial(_by_engine, DiskCache), functools.partial(missing_package, "diskcache", "diskcache"),
    ),
    Way(
        "restic", "restic backup of all", "one snapshot", functools.partial(_by_engine, Restic),
        functools.partial(tools.missing, "restic"), flushed=True,
    ),
    Way(
        "borg", "borg create of all", "one archive", functools.partial(_by_engine, Borg),
        functools.partial(tools.missing, "borg"), flushed=True,
    ),
    Way(
        "dvc", "dvc add of all, git commit", "one tracked folder, one commit", functools.partial(_by_engine, Dvc),
        functools.partial(tools.missing, "dvc"),
    ),
)  # fmt: skip


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count, rounds_count = _EXTENT[plan.size]
    runs = real_runs(runs_count, plan.data)
    orders = _orders(plan, runs)
    skipped = [{"name": way.name, **why} for way in WAYS if (why := way.missing())]
    ways = [way for way in WAYS if way.missing() is None]
    took_s: dict[str, list[float]] = {way.name: [] for way in ways}
    _this_store(plan.fresh("warm"), (runs[:1], orders[:1]))  # builds the secret gate, once for the process
    for number in range(rounds_count):
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            count = max(1, round(runs_count * way.share))
            folder = plan.fresh(way.name)
            started_s = time.perf_counter()
            way.run(folder, (runs[:count], orders[:count]))
            took_s[way.name].append((time.perf_counter() - started_s) / count)
    ours_s = statistics.median(took_s[_BASE])
    return {
        "parameters": {
            "runs_count": runs_count,
            "rounds_count": rounds_count,
            "batch_runs_count": _BATCH_RUNS_COUNT,
            "sync_mode": "full",
            "input": "paths, in the page cache; empty stores, whose creation counts",
        },
        "ways": [
            {
                "name": way.name,
                "title": way.title,
                "makes": way.makes,
                "flushed": way.flushed,
                "runs_count": max(1, round(runs_count * way.share)),
                "per_run_ms": round(statistics.median(took_s[way.name]) * 1000, 4),
                "runs_per_s": round(1 / statistics.median(took_s[way.name]), 2),
                "over_this_store": round(statistics.median(took_s[way.name]) / ours_s, 3),
                "samples_per_run_ms": [round(value * 1000, 4) for value in took_s[way.name]],
            }
            for way in ways
        ],
        "skipped": skipped,
    }


def _orders(plan: Plan, runs: Sequence[StoredRun]) -> list[Order]:
    """Return the runs as git commits with the names and times that this store gives them."""
    with ArtifactStore(ArtifactStoreConfig(repo_path=plan.fresh("orders"))) as store:
        store.commit_many([run.as_call() for run in runs])
        return orders_of(store, {run.correlation_id: {path.name: path for path in run.paths} for run in runs})


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the table of the page."""
    rows = [
        [
            way["title"],
            f"{way['runs_count']:,}",
            figure(way["per_run_ms"]),
            figure(way["runs_per_s"]),
            figure(way["over_this_store"]),
            way["makes"],
            "yes" if way["flushed"] else "no",
        ]
        for way in sorted(result["ways"], key=lambda way: float(way["per_run_ms"]))
    ]
    heads = ["way", "runs", "ms per run", "runs/s", "x this store", "what it makes", "flushed"]
    return [Table("Many runs at once", heads, rows)]


def charts(result: Mapping[str, Any]) -> list[Bars]:
    """Return the picture of the page."""
    ways = sorted(result["ways"], key=lambda way: float(way["per_run_ms"]))
    marks = [
        Bar(way["title"], way["per_run_ms"], ours=way["name"].startswith(_BASE), hollow=not way["flushed"])
        for way in ways
    ]
    return [Bars("bulk", "Many runs at once", "milliseconds per run", marks, FLUSH_KEY, logarithmic=True)]


def headlines(result: Mapping[str, Any]) -> list[Headline]:
    """Return the line of the README: the best peer is the quickest of those that make a commit for each run."""
    ways = {way["name"]: way for way in result["ways"]}
    ours = ways.get("this_store_exported", ways[_BASE])
    peers = [
        way for way in ways.values() if way["makes"].startswith(_EACH) and way["name"] != "replaced_system"
    ]
    best = min(peers, key=lambda way: float(way["per_run_ms"]), default=None)
    return [
        Headline(
            "many runs into git at once, ms per run",
            figure(ours["per_run_ms"]),
            figure(ways.get("replaced_system", {}).get("per_run_ms")),
            f"{best['title']} {figure(best['per_run_ms'])} (not flushed)" if best else "n/a",
        )
    ]

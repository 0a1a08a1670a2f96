"""How long do 1,000 real runs take into a git repository, by this exporter, by git's bulk tools and by libraries?

Each method gets an empty bare repository and a process of its own, makes the same commits, branches and tags, and the
resulting refs are compared. The floor is a plain copy of as many bytes as the exporter's pack has, with fsync of file
and folder. A push of the result to an empty repository on the same disk is measured apart from the export.
"""

from __future__ import annotations

import functools
import hashlib
import resource
import shutil
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final

from benchmarks.engines_git import create_repository, git
from benchmarks.exporters import METHODS
from benchmarks.floor import copy_with_fsync
from benchmarks.machine import peak_resident_bytes
from benchmarks.orders import orders_of
from benchmarks.runs import real_runs
from benchmarks.tables import Table, figure, megabytes
from cas import ArtifactStore, ArtifactStoreConfig
from gitexport import Exporter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.exporters import MethodKind
    from benchmarks.orders import Order
    from benchmarks.plan import Plan

# runs, rounds
_EXTENT: Final = {"tiny": (3, 1), "quick": (200, 2), "full": (1000, 5)}
_COPY: Final = "floor"
_PUSH_WILDCARDS: Final = ("refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*")
_PUSH_TIMEOUT_S: Final = 600


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count, rounds_count = _EXTENT[plan.size]
    runs_count = plan.export_runs or runs_count
    store_dir, orders = _filled_store(plan, runs_count)
    skipped = [{"name": kind.name, **why} for kind in METHODS if (why := kind.missing())]
    kinds = [kind for kind in METHODS if kind.missing() is None]
    samples: dict[str, list[dict[str, Any]]] = {kind.name: [] for kind in kinds}
    copies_s: list[float] = []
    for number in range(rounds_count):
        for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
            samples[kind.name].append(_one(plan, kind, store_dir, orders, check=number == 0))
        stored_bytes = samples["this_exporter"][0]["pack_bytes"]
        copies_s.append(_copy(plan, samples["this_exporter"][0]["pack"], number))
    _compare_refs(samples, kinds)
    pushes = _pushes(plan, store_dir, rounds_count)
    return {
        "parameters": {
            "runs_count": runs_count,
            "rounds_count": rounds_count,
            "input": "store and input files in the page cache",
            "sync_mode": "this exporter: pack, index, folder and refs synced; git: its default",
        },
        "methods": [_figures(kind, samples, copies_s, runs_count) for kind in kinds],
        "floor": {"copy_bytes": stored_bytes, "p50_s": _median(copies_s), "samples_s": _rounded(copies_s)},
        "pushes": pushes,
        "skipped": skipped,
    }


def _filled_store(plan: Plan, runs_count: int) -> tuple[Path, list[Order]]:
    runs = real_runs(runs_count, plan.data)
    folder = plan.fresh("store")
    with ArtifactStore(ArtifactStoreConfig(repo_path=folder)) as store:
        for run in runs:
            store.commit_artifacts(**run.as_call())
        paths = {run.correlation_id: {path.name: path for path in run.paths} for run in runs}
        return folder / ".cas", orders_of(store, paths)


def _in_new_process(call: Callable[[], Any]) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call).result()


def _one(
    plan: Plan, kind: MethodKind, store_dir: Path, orders: Sequence[Order], *, check: bool
) -> dict[str, Any]:
    folder = plan.fresh(kind.name)
    repository = folder / "repository.git"
    repository.mkdir()
    create_repository(repository, bare=True)
    if kind.reads_store:
        shutil.copytree(store_dir, folder / "store")  # an outbox that nobody has worked off
        told: Sequence[Order] = ()
    else:
        told = orders[: max(1, round(len(orders) * kind.share))]
    result = _in_new_process(functools.partial(_run_method, kind.name, repository, folder / "store", told))
    if check:
        git(repository, "fsck", "--strict", "--no-dangling")
    packs = sorted((repository / "objects").rglob("*.pack"))
    refs = git(repository, "for-each-ref", "--format=%(objectname) %(refname)").splitlines()
    return {
        **result,
        "runs_count": len(told) or len(orders),
        "pack": packs[0] if packs else None,
        "pack_bytes": sum(path.stat().st_size for path in packs),
        "object_bytes": sum(
            path.stat().st_blocks * 512 for path in (repository / "objects").rglob("*") if path.is_file()
        ),
        "refs_count": len(refs),
        "refs_digest": hashlib.sha256(b"\n".join(sorted(refs))).hexdigest(),
    }


def _run_method(name: str, repository: Path, store_dir: Path, orders: Sequence[Order]) -> dict[str, Any]:
    """Run one method and tell seconds and memory; the body of a process of its own."""
    kind = next(kind for kind in METHODS if kind.name == name)
    started_s = time.perf_counter()
    kind.run(repository, store_dir, orders)
    took_s = time.perf_counter() - started_s
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    # Not ru_maxrss for this process: it is inherited over fork and exec, and would tell the parent's peak.
    return {
        "took_s": took_s,
        "cpu_s": sum(part.ru_utime + part.ru_stime for part in usage),
        "resident_bytes": peak_resident_bytes(),
        "git_resident_bytes": usage[1].ru_maxrss * 1024,
    }


def _copy(plan: Plan, pack: Path, number: int) -> float:
    target = plan.fresh(f"copy-{number}") / "copy"
    started_s = time.perf_counter()
    copy_with_fsync(pack, target)
    return time.perf_counter() - started_s


def _compare_refs(samples: Mapping[str, Sequence[dict[str, Any]]], kinds: Sequence[MethodKind]) -> None:
    """Make sure that all methods that got all runs ended in the very same refs."""
    found = {sample["refs_digest"] for kind in kinds if kind.share == 1 for sample in samples[kind.name]}
    if len(found) != 1:
        raise AssertionError("the methods did not make the same refs")


def _figures(
    kind: MethodKind,
    samples: Mapping[str, Sequence[dict[str, Any]]],
    copies_s: Sequence[float],
    runs_count: int,
) -> dict[str, Any]:
    own = samples[kind.name]
    took_s = [sample["took_s"] for sample in own]
    scale = runs_count / own[0]["runs_count"]
    ours_s = _median([sample["took_s"] for sample in samples["this_exporter"]])
    return {
        "name": kind.name,
        "title": kind.title,
        "runs_count": own[0]["runs_count"],
        "refs_count": own[0]["refs_count"],
        "p50_s": _median(took_s),
        "min_s": round(min(took_s), 4),
        "runs_per_s": round(own[0]["runs_count"] / statistics.median(took_s), 1),
        "cpu_s": _median([sample["cpu_s"] for sample in own]),
        "over_this_exporter": round(_median(took_s) * scale / ours_s, 2),
        "over_floor": round(_median(took_s) * scale / statistics.median(copies_s), 2),
        "pack_bytes": own[0]["pack_bytes"],
        "object_bytes_on_disk": own[0]["object_bytes"],
        "resident_bytes": max(sample["resident_bytes"] for sample in own),
        "git_resident_bytes": max(sample["git_resident_bytes"] for sample in own),
        "samples_s": _rounded(took_s),
    }


def _pushes(plan: Plan, store_dir: Path, rounds_count: int) -> list[dict[str, Any]]:
    """Push an exported repository into an empty one on the same disk: by this exporter, and by one git command."""
    took: dict[str, list[float]] = {"this_exporter": [], "git_push_wildcards": []}
    for _ in range(rounds_count):
        folder = plan.fresh("push")
        shutil.copytree(store_dir, folder / "store")
        repository, remotes = folder / "repository.git", [folder / "one.git", folder / "two.git"]
        for path in (repository, *remotes):
            path.mkdir()
            create_repository(path, bare=True)
        git(repository, "remote", "add", "origin", str(remotes[0]))
        config = ArtifactStoreConfig(
            repo_path=repository, store_path=folder / "store", push_timeout=_PUSH_TIMEOUT_S
        )
        with ArtifactStore(config, create=False) as store:
            Exporter(store).run(push=False)
            started_s = time.perf_counter()
            summary = Exporter(store).run(push=True)
            took["this_exporter"].append(time.perf_counter() - started_s)
        if summary.state != "done":
            raise RuntimeError(f"the push is {summary.state}: {summary.failures[:3]}")
        started_s = time.perf_counter()
        git(repository, "push", "--quiet", str(remotes[1]), *_PUSH_WILDCARDS)
        took["git_push_wildcards"].append(time.perf_counter() - started_s)
    return [
        {"name": name, "p50_s": _median(values), "samples_s": _rounded(values)}
        for name, values in took.items()
    ]


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    rows = [
        [
            method["title"],
            f"{method['runs_count']:,}",
            figure(method["p50_s"]),
            figure(method["runs_per_s"]),
            figure(method["over_this_exporter"]),
            figure(method["over_floor"]),
            megabytes(method["pack_bytes"] or method["object_bytes_on_disk"]),
            megabytes(max(method["resident_bytes"], method["git_resident_bytes"])),
        ]
        for method in sorted(result["methods"], key=lambda method: -float(method["runs_per_s"]))
    ]
    heads = [
        "method",
        "runs",
        "s",
        "runs/s",
        "x this exporter",
        "x copying",
        "MB written",
        "peak MB of a process",
    ]
    floor = result["floor"]
    note = (
        f"Copying {megabytes(floor['copy_bytes'])} MB with fsync took {figure(floor['p50_s'])} s. "
        "Ratios are per run where a method was given fewer runs."
    )
    pushes = [[push["name"].replace("_", " "), figure(push["p50_s"])] for push in result["pushes"]]
    title = f"Export of {result['parameters']['runs_count']:,} runs"
    return [
        Table(title, heads, rows, note),
        Table("Push to a repository on the same disk", ["by", "s"], pushes),
    ]

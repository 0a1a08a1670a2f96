"""How long do 1,000 and 10,000 real runs take into a git repository, by this exporter, git's bulk tools and libraries?

Each method gets an empty bare repository and a process of its own, which has exported one run before, so that imports
do not count. All make the same commits, branches and tags, and the resulting refs are compared. The floor is a plain
copy of as many bytes as the exporter's pack has, with fsync of file and folder. Of the 10,000 runs nine tenths are
written from the others by replacing digits, and slow methods are given a part of them.
"""

from __future__ import annotations

import functools
import hashlib
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final

from benchmarks.charts import FLUSH_KEY, Bar, Bars
from benchmarks.engines_git import create_repository, git
from benchmarks.exporters import METHODS
from benchmarks.filling import copy_store, filled_store
from benchmarks.floor import copy_with_fsync
from benchmarks.machine import peak_resident_bytes
from benchmarks.runs import many_runs, real_runs
from benchmarks.tables import Table, figure, megabytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.exporters import MethodKind
    from benchmarks.orders import Order
    from benchmarks.plan import Plan

# runs, rounds; first those that every method gets whole, then those of which slow methods get a part
_EXTENT: Final = {"tiny": ((3, 1), None), "quick": ((200, 1), (400, 1)), "full": ((1000, 3), (10_000, 1))}
_COPIES_COUNT: Final = 3


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    usual, many = _EXTENT[plan.size]
    if plan.export_runs is not None:
        usual, many = (plan.export_runs, usual[1]), None
    kinds = [kind for kind in METHODS if kind.missing() is None]
    warm = filled_store(plan.fresh("warm"), real_runs(1, plan.data))
    extents = [_extent(plan, kinds, warm, *usual, parts=False)]
    if many is not None:
        extents.append(_extent(plan, kinds, warm, *many, parts=True))
    return {
        "parameters": {
            "runs_count": usual[0],
            "rounds_count": usual[1],
            "input": "store and input files in the page cache",
            "sync_mode": "this exporter: pack, index, folder and refs synced; git: its default",
        },
        **extents[0],
        "many": extents[1:],
        "skipped": [{"name": kind.name, **why} for kind in METHODS if (why := kind.missing())],
    }


def _extent(
    plan: Plan,
    kinds: Sequence[MethodKind],
    warm: tuple[Path, list[Order]],
    runs_count: int,
    rounds_count: int,
    *,
    parts: bool,
) -> dict[str, Any]:
    """Measure all methods at one number of runs."""
    store_dir, orders = filled_store(plan.fresh("store"), many_runs(runs_count, plan.data))
    samples: dict[str, list[dict[str, Any]]] = {kind.name: [] for kind in kinds}
    copies_s: list[float] = []
    for number in range(rounds_count):
        for kind in [*kinds[number % len(kinds) :], *kinds[: number % len(kinds)]]:
            share = min(kind.share, kind.share_of_many) if parts else kind.share
            told = orders[: max(1, round(len(orders) * share))]
            check = number == 0 and not parts  # git fsck of 10,000 runs takes longer than most methods
            samples[kind.name].append(_one(plan, kind, store_dir, told, warm, check=check))
        copies_s += _copies(plan, samples["this_exporter"][0]["packs"], number)
    _compare_refs(samples, runs_count)
    return {
        "runs_count": runs_count,
        "methods": [_figures(kind, samples, copies_s, runs_count) for kind in kinds],
        "floor": {
            "copy_bytes": samples["this_exporter"][0]["pack_bytes"],
            "p50_s": _median(copies_s),
            "samples_s": _rounded(copies_s),
        },
    }


def _in_new_process(call: Callable[[], Any]) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call).result()


def _one(
    plan: Plan,
    kind: MethodKind,
    store_dir: Path,
    told: Sequence[Order],
    warm: tuple[Path, list[Order]],
    *,
    check: bool,
) -> dict[str, Any]:
    folder = plan.fresh(kind.name)
    repository = folder / "repository.git"
    create_repository(repository, bare=True)
    create_repository(folder / "warm.git", bare=True)
    if kind.reads_store:
        copy_store(store_dir, folder / "store")  # an outbox that nobody has worked off
        copy_store(warm[0], folder / "warm")
    first = functools.partial(kind.run, folder / "warm.git", folder / "warm", warm[1])
    # Orders that nobody reads would count as this process's memory.
    given = () if kind.reads_store else told
    call = functools.partial(kind.run, repository, folder / "store", given)
    result = _in_new_process(functools.partial(_run_method, first, call))
    if check:
        git(repository, "fsck", "--strict", "--no-dangling")
    packs = sorted((repository / "objects").rglob("*.pack"))
    refs = git(repository, "for-each-ref", "--format=%(objectname) %(refname)").splitlines()
    return {
        **result,
        "runs_count": len(told),
        "packs": packs,
        "pack_bytes": sum(path.stat().st_size for path in packs),
        "object_bytes": sum(
            path.stat().st_blocks * 512 for path in (repository / "objects").rglob("*") if path.is_file()
        ),
        "refs_count": len(refs),
        "refs_digest": hashlib.sha256(b"\n".join(sorted(refs))).hexdigest(),
    }


def _run_method(first: Callable[[], None], call: Callable[[], None]) -> dict[str, Any]:
    """Run one method, after a run of its own that does not count; the body of a process."""
    first()
    before_s = _cpu_s()
    started_s = time.perf_counter()
    call()
    took_s = time.perf_counter() - started_s
    # Not ru_maxrss for this process: it is inherited over fork and exec, and would tell the parent's peak.
    return {
        "took_s": took_s,
        "cpu_s": _cpu_s() - before_s,
        "resident_bytes": peak_resident_bytes(),
        "git_resident_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }


def _cpu_s() -> float:
    """Return the processor seconds of this process and of those it has waited for."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in usage)


def _copies(plan: Plan, packs: Sequence[Path], number: int) -> list[float]:
    """Copy the packs several times, as one copy takes milliseconds only; return the times."""
    taken_s: list[float] = []
    for turn in range(_COPIES_COUNT):
        folder = plan.fresh(f"copy-{number}-{turn}")
        started_s = time.perf_counter()
        for pack in packs:
            copy_with_fsync(pack, folder / pack.name)
        taken_s.append(time.perf_counter() - started_s)
    return taken_s


def _compare_refs(samples: Mapping[str, Sequence[dict[str, Any]]], runs_count: int) -> None:
    """Make sure that all methods that got all runs ended in the very same refs."""
    found = {
        sample["refs_digest"]
        for taken in samples.values()
        for sample in taken
        if sample["runs_count"] == runs_count
    }
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


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    return [_table(extent) for extent in (result, *result["many"])]


def _table(extent: Mapping[str, Any]) -> Table:
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
        for method in sorted(extent["methods"], key=lambda method: -float(method["runs_per_s"]))
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
    floor = extent["floor"]
    note = (
        f"Copying {megabytes(floor['copy_bytes'])} MB with fsync took {figure(floor['p50_s'])} s. "
        "Ratios are per run where a method was given fewer runs."
    )
    return Table(f"Export of {extent['runs_count']:,} runs", heads, rows, note)


def charts(result: Mapping[str, Any]) -> list[Bars]:
    """Return the picture of the page."""
    methods = sorted(result["methods"], key=lambda method: -float(method["runs_per_s"]))
    marks = [
        Bar(
            method["title"],
            1000 / method["runs_per_s"],
            ours=method["name"].startswith("this_exporter"),
            hollow=not method["name"].startswith("this_exporter"),
        )
        for method in methods
    ]
    return [Bars("export", "Export into git", "milliseconds per run", marks, FLUSH_KEY, logarithmic=True)]

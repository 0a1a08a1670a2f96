"""What do refs cost as a repository grows to 300,000 of them: made, 300 more, listed, deleted, pushed, cloned?

Branches and tags stand in the ratio 1 to 2 and all name one commit, so that nothing but refs is measured. They are made
in batches of 3,000, as an export of 1,000 runs does it. What git makes as loose files is packed afterwards, and then
costs what packed refs cost. Where git has reftable, a repository of that format is measured beside. The last table
exports 100 real runs into repositories with and without that many refs.
"""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.engines_git import create_repository, git, require_git
from benchmarks.filling import copy_store, filled_store
from benchmarks.runs import real_runs
from benchmarks.tables import Table, figure, megabytes
from cas import ArtifactStore, ArtifactStoreConfig
from gitexport import Exporter
from gitexport.refs import update_refs
from gitexport.refvalues import RefChange
from gitexport.repository import GitRepository
from gitexport.transfer import push_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from benchmarks.plan import Plan

# sizes in refs, rounds of what is repeated, runs of the export
_EXTENT: Final[dict[str, tuple[tuple[int, ...], int, int]]] = {
    "tiny": ((30,), 1, 2),
    "quick": ((1000, 3000), 1, 20),
    "full": ((1000, 10_000, 100_000, 300_000), 3, 100),
}
_BATCH_COUNT: Final = 3000
_ADDED_COUNT: Final = 300
_GIT_MOST_COUNT: Final = 10_000
_REFTABLE_VERSION: Final = (2, 45)
_TIMEOUT_S: Final = 600


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    require_git()
    sizes, rounds_count, runs_count = _EXTENT[plan.size]
    ways = [way for way in _WAYS if way.ref_format == "files" or _has_reftable()]
    cells: list[dict[str, Any]] = []
    grown: dict[int, Path] = {}
    for size in sizes:
        cells += [_cell(plan, way, size, rounds_count, grown) for way in ways if size <= way.most_count]
    return {
        "parameters": {
            "rounds_count": rounds_count,
            "added_refs_count": _ADDED_COUNT,
            "exported_runs_count": runs_count,
            "input": "repositories in the page cache",
            "sync_mode": "refs and packed-refs synced",
        },
        "cells": cells,
        "exports": _exports(plan, grown, rounds_count, runs_count),
        "skipped": _left_out(max(sizes)),
    }


def _has_reftable() -> bool:
    version = git(Path("/"), "version").split()[2].split(b".")
    return tuple(int(part) for part in version[:2]) >= _REFTABLE_VERSION


def _left_out(most: int) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    if most > _GIT_MOST_COUNT:
        found.append(
            {
                "name": f"git update-ref beyond {_GIT_MOST_COUNT:,} refs",
                "reason": "it makes a synced file for each, and takes minutes",
                "install": "nothing",
            }
        )
    if not _has_reftable():
        name = git(Path("/"), "version").split()[2].decode()
        found.append({"name": "reftable", "reason": f"git {name} has none", "install": "git 2.45 or newer"})
    return found


def _by_git(repository: GitRepository, changes: list[RefChange]) -> None:
    repository.update_refs(changes)


@dataclasses.dataclass(frozen=True, slots=True)
class _Way:
    """A way to move refs, the format of the repository, and the most refs it is tried with."""

    title: str
    move: Callable[[GitRepository, list[RefChange]], None]
    ref_format: str
    most_count: int


_WAYS: Final = (
    _Way("packed-refs rewritten (this exporter)", update_refs, "files", 10**9),
    _Way("reftable, git update-ref (this exporter)", update_refs, "reftable", 10**9),
    _Way("git update-ref, then git pack-refs", _by_git, "files", _GIT_MOST_COUNT),
)


def _names(first: int, count: int) -> Iterator[str]:
    """Yield names as runs have them, branch and two tags in turn."""
    for number in range(first, first + count):
        run, kind = divmod(number, 3)
        if kind == 0:
            yield f"refs/heads/ai/generated/wf_{run % 97:04d}/task_{run:07d}"
        elif kind == 1:
            yield f"refs/tags/corr_{run:07d}"
        else:
            yield f"refs/tags/prompt_{run * 2654435761 % 2**48:012x}"  # a prompt's hash sorts anywhere


def _commit(folder: Path) -> str:
    tree = git(folder, "hash-object", "-t", "tree", "-w", "--stdin", data=b"").decode().strip()
    return git(folder, "commit-tree", tree, "-m", "One commit").decode().strip()


def _changes(oid: str, first: int, count: int) -> list[RefChange]:
    return [RefChange(name, None, oid) for name in _names(first, count)]


def _timed(call: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


def _cell(
    plan: Plan,
    way: _Way,
    size: int,
    rounds_count: int,
    grown: dict[int, Path],
) -> dict[str, Any]:
    folder = plan.fresh("refs") / "repository.git"
    create_repository(folder, bare=True, ref_format=way.ref_format)
    oid = _commit(folder)
    repository = GitRepository.open(folder)
    batches = [_changes(oid, at, min(_BATCH_COUNT, size - at)) for at in range(0, size, _BATCH_COUNT)]
    made_s = sum(_timed(lambda batch=batch: way.move(repository, batch)) for batch in batches)
    packed_s = _timed(repository.pack_refs)
    kept = [folder / "packed-refs", *(folder / "reftable").glob("*.ref")]
    packed_bytes = sum(path.stat().st_size for path in kept if path.exists())
    if way.ref_format == "files" and size not in grown:
        grown[size] = folder.with_name("kept.git")
        shutil.copytree(folder, grown[size])
    remote = plan.fresh("remote") / "repository.git"
    shutil.copytree(folder, remote)
    samples: dict[str, list[float]] = {"add": [], "list": [], "delete": [], "push": [], "clone": []}
    for number in range(rounds_count):
        added = _changes(oid, size + number * _ADDED_COUNT, _ADDED_COUNT)
        samples["add"].append(_timed(lambda added=added: way.move(repository, added)))
        samples["list"].append(_timed(lambda: git(folder, "for-each-ref")))
        new = {change.name: oid for change in added}
        samples["push"].append(
            _timed(lambda new=new: push_once(repository, str(remote), new, timeout_s=_TIMEOUT_S))
        )
        gone = [RefChange(change.name, oid, None) for change in added]
        samples["delete"].append(_timed(lambda gone=gone: update_refs(repository, gone)))
        target = str(plan.fresh("clone") / "clone.git")
        samples["clone"].append(
            _timed(lambda target=target: git(folder, "clone", "-q", "--mirror", folder.as_uri(), target))
        )
    return {
        "way": way.title,
        "refs_count": size,
        "packed_refs_bytes": packed_bytes,
        "made_s": round(made_s, 4),
        "packed_s": round(packed_s, 4),
        **{f"{name}_p50_s": _median(values) for name, values in samples.items()},
    }


def _exports(
    plan: Plan, grown: Mapping[int, Path], rounds_count: int, runs_count: int
) -> list[dict[str, Any]]:
    """Export the same runs into an empty repository and into one of each size, in turns."""
    store_dir, _ = filled_store(plan.fresh("store"), real_runs(runs_count, plan.data))
    empty = plan.fresh("empty") / "repository.git"
    create_repository(empty, bare=True)
    targets = {0: empty, **grown}
    samples: dict[int, list[float]] = {size: [] for size in targets}
    for _ in range(rounds_count + 1):
        for size, source in targets.items():
            folder = plan.fresh("export")
            shutil.copytree(source, folder / "repository.git")
            copy_store(store_dir, folder / "store")
            samples[size].append(_export(folder))
    # The first round imports what an export needs, and is not counted.
    medians = {size: _median(values[1:]) for size, values in samples.items()}
    return [
        {
            "refs_count": size,
            "p50_s": value,
            "over_empty": round(value / medians[0], 3),
            "samples_s": [round(sample, 4) for sample in samples[size][1:]],
        }
        for size, value in medians.items()
    ]


def _export(folder: Path) -> float:
    config = ArtifactStoreConfig(repo_path=folder / "repository.git", store_path=folder / "store")
    with ArtifactStore(config, create=False) as store:
        started_s = time.perf_counter()
        summary = Exporter(store).run(push=False)
        took_s = time.perf_counter() - started_s
    if summary.state != "done":
        raise RuntimeError(f"the export is {summary.state}: {summary.failures[:3]}")
    return took_s


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 5)


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    rows = [
        [
            cell["way"],
            f"{cell['refs_count']:,}",
            figure(cell["made_s"]),
            figure(cell["packed_s"]),
            *(figure(cell[f"{name}_p50_s"] * 1000) for name in ("add", "list", "delete", "push", "clone")),
            megabytes(cell["packed_refs_bytes"]),
        ]
        for cell in result["cells"]
    ]
    heads = ["way", "refs", "made s", "packed s", "300 more ms", "list ms", "delete 300 ms", "push 300 ms"]
    heads += ["clone ms", "MB of refs"]
    exports = [
        [f"{export['refs_count']:,}", figure(export["p50_s"] * 1000), figure(export["over_empty"])]
        for export in result["exports"]
    ]
    count = result["parameters"]["exported_runs_count"]
    return [
        Table("Refs by their number", heads, rows),
        Table(
            f"Export of {count} runs into a repository that has refs already",
            ["refs there", "ms", "x empty"],
            exports,
        ),
    ]

"""How many bytes do real runs take on disk, compared with their raw size, here and with the peers?

Disk blocks are counted, not file sizes: a small file takes a block. The store's file is preallocated, so its used pages
are given beside its size. restic, borg and DVC get all runs as one snapshot, which spares them what a snapshot costs;
their caches, and the copies that DVC keeps in its work tree, do not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.charts import Bar, Bars
from benchmarks.engines import FLOOR, PRODUCT, available
from benchmarks.engines_git import git
from benchmarks.runs import real_runs
from benchmarks.tables import Headline, Table, figure, megabytes
from cas import ArtifactStore, ArtifactStoreConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.engines import EngineKind
    from benchmarks.plan import Plan
    from benchmarks.runs import StoredRun

_RUNS_COUNT: Final = {"tiny": 3, "quick": 100, "full": 500}
_DISK_BLOCK_BYTES: Final = 512  # the unit of st_blocks, whatever the file system's own


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count = _RUNS_COUNT[plan.size]
    runs = real_runs(runs_count, plan.data)
    kinds, skipped = available()
    engines: list[dict[str, Any]] = []
    for kind in kinds:
        if kind.name == FLOOR or kind.name.endswith("_fsync"):
            continue  # not a store; or the same bytes as its other form
        engines += _figures(kind, plan.fresh(kind.name), runs)
    return {
        "parameters": {"runs_count": runs_count, "sync_mode": "full", "input": "paths"},
        "engines": engines,
        "skipped": skipped,
    }


def _figures(kind: EngineKind, folder: Path, runs: Sequence[StoredRun]) -> list[dict[str, Any]]:
    """Fill one store and return what it takes; for the work tree of git also what it takes after `git gc`."""
    engine = kind.open(folder, 2 * sum(run.raw_bytes for run in runs))
    left_out: tuple[Path, ...] = getattr(engine, "beside", ())
    empty_bytes = _disk_bytes(folder, left_out)
    at_once = getattr(engine, "commit_all", None)
    given = runs if at_once else runs[: max(1, round(len(runs) * kind.share))]
    if at_once:
        at_once(given)
    else:
        for run in given:
            engine.commit(run)
    engine.close()
    about = {
        "runs_count": len(given),
        "raw_bytes": sum(run.raw_bytes for run in given),
        "empty_disk_bytes": empty_bytes,
    }

    def row(name: str, title: str) -> dict[str, Any]:
        found = {"disk_bytes": _disk_bytes(folder, left_out)}
        if kind.name == PRODUCT:
            found |= _product_bytes(folder)
        net = found.get("used_bytes", found["disk_bytes"] - empty_bytes)
        return {
            "name": name,
            "title": title,
            **about,
            **found,
            "net_over_raw": round(net / about["raw_bytes"], 4),
        }

    rows = [row(kind.name, kind.title)]
    if kind.name == "replaced_system":
        git(folder, "gc", "--quiet", "--prune=now")
        rows.append(row("replaced_system_gc", "replaced system, after git gc"))
    return rows


def _product_bytes(folder: Path) -> dict[str, int]:
    with ArtifactStore(ArtifactStoreConfig(repo_path=folder), create=False) as store:
        figures = store.stats()
    return {
        name: int(str(figures[name])) for name in ("stored_bytes", "index_bytes", "used_bytes", "file_bytes")
    }


def _disk_bytes(folder: Path, left_out: Sequence[Path]) -> int:
    return sum(
        path.lstat().st_blocks * _DISK_BLOCK_BYTES
        for path in folder.rglob("*")
        if not any(path.is_relative_to(other) for other in left_out)
    )


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the table of the page."""
    rows = [
        [
            engine["title"],
            f"{engine['runs_count']:,}",
            megabytes(engine["raw_bytes"]),
            megabytes(engine.get("used_bytes", engine["disk_bytes"] - engine["empty_disk_bytes"])),
            figure(engine["net_over_raw"]),
            figure(1 / engine["net_over_raw"]),
        ]
        for engine in sorted(result["engines"], key=lambda engine: float(engine["net_over_raw"]))
    ]
    heads = ["store", "runs", "raw MB", "on disk MB", "on disk / raw", "raw / on disk"]
    ours = next(engine for engine in result["engines"] if engine["name"] == PRODUCT)
    note = (
        f"This store: {megabytes(ours['stored_bytes'])} MB of pages for content, "
        f"{megabytes(ours['index_bytes'])} MB for everything else; its file, with the room written ahead, is "
        f"{megabytes(ours['file_bytes'])} MB. A work tree's last checkout counts for the replaced system."
    )
    return [Table("Bytes on disk", heads, rows, note)]


def charts(result: Mapping[str, Any]) -> list[Bars]:
    """Return the picture of the page."""
    engines = sorted(result["engines"], key=lambda engine: float(engine["net_over_raw"]))
    marks = [
        Bar(engine["title"], engine["net_over_raw"], ours=engine["name"] == PRODUCT) for engine in engines
    ]
    return [Bars("stored_bytes", "Bytes on disk for each byte of a run", "bytes on disk / raw bytes", marks)]


def headlines(result: Mapping[str, Any]) -> list[Headline]:
    """Return the line of the README."""
    parts = {engine["name"]: engine for engine in result["engines"]}
    peers = [engine for name, engine in parts.items() if name != PRODUCT]
    best = min(peers, key=lambda engine: float(engine["net_over_raw"]))
    replaced = parts.get("replaced_system", {}).get("net_over_raw")
    words = f"{best['title']} {figure(best['net_over_raw'])}"
    return [
        Headline("bytes on disk / raw bytes", figure(parts[PRODUCT]["net_over_raw"]), figure(replaced), words)
    ]

"""How many bytes do real runs take on disk, compared with their raw size, here and with the peers?

Disk blocks are counted, not file sizes: a small file takes a block. The store's file is preallocated, so its used pages
are given beside its size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.engines import FLOOR, PRODUCT, available
from benchmarks.runs import real_runs
from benchmarks.tables import Table, figure, megabytes
from cas import ArtifactStore, ArtifactStoreConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.plan import Plan

_RUNS_COUNT: Final = {"tiny": 3, "quick": 100, "full": 500}
_DISK_BLOCK_BYTES: Final = 512  # the unit of st_blocks, whatever the file system's own


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count = _RUNS_COUNT[plan.size]
    runs = real_runs(runs_count, plan.data)
    raw_bytes = sum(run.raw_bytes for run in runs)
    kinds, skipped = available()
    engines: list[dict[str, Any]] = []
    for kind in kinds:
        if kind.name == FLOOR or kind.name.endswith(
            "_fsync"
        ):  # not a store; or the same bytes as its other form
            continue
        folder = plan.fresh(kind.name)
        given = runs[: max(1, round(runs_count * kind.share))]
        engine = kind.open(folder, 2 * raw_bytes)
        before_bytes = _disk_bytes(folder)
        for run in given:
            engine.commit(run)
        engine.close()
        given_bytes = sum(run.raw_bytes for run in given)
        found = {"disk_bytes": _disk_bytes(folder), "empty_disk_bytes": before_bytes}
        if kind.name == PRODUCT:
            found |= _product_bytes(folder)
        net = found.get("used_bytes", found["disk_bytes"] - before_bytes)
        engines.append(
            {
                "name": kind.name,
                "title": kind.title,
                "runs_count": len(given),
                "raw_bytes": given_bytes,
                **found,
                "net_over_raw": round(net / given_bytes, 4),
            }
        )
    return {
        "parameters": {"runs_count": runs_count, "sync_mode": "full", "input": "paths"},
        "engines": engines,
        "skipped": skipped,
    }


def _product_bytes(folder: Path) -> dict[str, int]:
    with ArtifactStore(ArtifactStoreConfig(repo_path=folder), create=False) as store:
        figures = store.stats()
    return {
        name: int(str(figures[name])) for name in ("stored_bytes", "index_bytes", "used_bytes", "file_bytes")
    }


def _disk_bytes(folder: Path) -> int:
    return sum(path.lstat().st_blocks * _DISK_BLOCK_BYTES for path in folder.rglob("*"))


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

"""What does a write transaction cost in processor time and disk, by the way that a run's streams lie in the tables?

Bare LMDB with the store's flags and no flush, so that the layout is all that differs: a row for each stream; small
streams inside the manifest's row; all new streams of a run as one segment, which is what this store does. The streams
are those of real runs; a number that makes each run's content its own stands in their keys alone. The layouts take
turns in rounds, each in a file of its own.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

import lmdb

from benchmarks.floor import read_whole
from benchmarks.runs import real_runs
from benchmarks.tables import Table, figure
from cas.codec import deflate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.plan import Plan

# transactions, rounds, runs whose streams are used in turn
_EXTENT: Final = {"tiny": (20, 1, 2), "quick": (500, 1, 20), "full": (8000, 3, 100)}
_INLINE_BYTES: Final = 2048
_MAP_BYTES: Final = 1 << 36
_MANIFEST_BYTES: Final = 700  # about what a real run's manifest takes


def _key(number: int, place: int) -> bytes:
    return hashlib.blake2b(b"%d/%d" % (number, place), digest_size=32).digest()


def _row_per_stream(
    transaction: Any, tables: Mapping[str, Any], number: int, streams: Sequence[bytes]
) -> None:
    for place, stream in enumerate(streams):
        transaction.put(_key(number, place), stream, db=tables["blobs"])
    transaction.put(number.to_bytes(8, "big"), bytes(_MANIFEST_BYTES), db=tables["manifests"], append=True)


def _small_inside(transaction: Any, tables: Mapping[str, Any], number: int, streams: Sequence[bytes]) -> None:
    inside = b"".join(stream for stream in streams if len(stream) <= _INLINE_BYTES)
    for place, stream in enumerate(streams):
        if len(stream) > _INLINE_BYTES:
            transaction.put(_key(number, place), stream, db=tables["blobs"])
    row = bytes(_MANIFEST_BYTES) + inside
    transaction.put(number.to_bytes(8, "big"), row, db=tables["manifests"], append=True)


def _segment(transaction: Any, tables: Mapping[str, Any], number: int, streams: Sequence[bytes]) -> None:
    transaction.put(number.to_bytes(8, "big"), b"".join(streams), db=tables["segments"], append=True)
    for place in range(len(streams)):
        transaction.put(_key(number, place), bytes(40), db=tables["blobs"])
    transaction.put(number.to_bytes(8, "big"), bytes(_MANIFEST_BYTES), db=tables["manifests"], append=True)


_LAYOUTS: Final[dict[str, Callable[..., None]]] = {
    "a row for each stream": _row_per_stream,
    "small streams in the manifest's row": _small_inside,
    "one segment for a run (this store)": _segment,
}


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    count, rounds_count, runs_count = _EXTENT[plan.size]
    runs = [[deflate(read_whole(path)) for path in run.paths] for run in real_runs(runs_count, plan.data)]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _LAYOUTS}
    names = list(_LAYOUTS)
    for number in range(rounds_count):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(_fill(plan.fresh("layout"), _LAYOUTS[name], runs, count))
    return {
        "parameters": {
            "transactions_count": count,
            "rounds_count": rounds_count,
            "streams_bytes_mean": round(sum(len(s) for streams in runs for s in streams) / len(runs)),
            "sync_mode": "none, on purpose",
            "input": "streams in memory",
        },
        "layouts": [
            {
                "name": name,
                "cpu_us": round(statistics.median(cpu for cpu, _ in found[name]), 2),
                "disk_bytes_per_run": round(statistics.median(size for _, size in found[name])),
            }
            for name in names
        ],
        "skipped": [],
    }


def _fill(
    folder: Path, write: Callable[..., None], runs: Sequence[Sequence[bytes]], count: int
) -> tuple[float, float]:
    """Write a transaction for each run and return processor microseconds and used bytes of one."""
    environment = lmdb.open(
        str(folder), map_size=_MAP_BYTES, max_dbs=8, sync=False, metasync=False, readahead=False
    )
    tables = {name: environment.open_db(name.encode()) for name in ("blobs", "manifests", "segments")}
    started_s = time.process_time()
    for number in range(count):
        with environment.begin(write=True) as transaction:
            write(transaction, tables, number, runs[number % len(runs)])
    cpu_us = (time.process_time() - started_s) * 1_000_000 / count
    used_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    environment.close()
    return cpu_us, used_bytes / count


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the table of the page."""
    rows = [
        [layout["name"], figure(layout["cpu_us"]), figure(layout["disk_bytes_per_run"] / 1000)]
        for layout in result["layouts"]
    ]
    mean = result["parameters"]["streams_bytes_mean"]
    note = f"{figure(mean / 1000)} KB of streams a run; nothing is flushed."
    return [Table("Layouts of a run", ["layout", "processor µs", "KB on disk per run"], rows, note)]

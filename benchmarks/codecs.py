"""How fast, and how small, are the codecs that could make a blob's pack-ready stream?

All make the same kind of stream, the one a git pack holds. The files are those of real runs, in memory. The codecs take
turns in rounds; every stream is inflated again and compared, and inflating is timed by the library that deflated.
"""

from __future__ import annotations

import functools
import statistics
import time
import zlib
from typing import TYPE_CHECKING, Any, Final

from isal import isal_zlib

from benchmarks.floor import read_whole
from benchmarks.runs import real_runs
from benchmarks.tables import Table, figure
from cas import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.plan import Plan

# runs, rounds
_EXTENT: Final = {"tiny": (2, 1), "quick": (20, 1), "full": (100, 5)}
_PRODUCT: Final = "this store's"


def _codecs() -> dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]]:
    made: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
        f"zlib, level {level}": (functools.partial(zlib.compress, level=level), zlib.decompress)
        for level in (1, 6)
    }
    for level in (0, 1, 2, 3):
        made[f"ISA-L, level {level}"] = (
            functools.partial(isal_zlib.compress, level=level),
            isal_zlib.decompress,
        )
    return {_PRODUCT: (codec.deflate, isal_zlib.decompress), **made}


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count, rounds_count = _EXTENT[plan.size]
    files = [read_whole(path) for run in real_runs(runs_count, plan.data) for path in run.paths]
    raw_bytes = sum(map(len, files))
    codecs = _codecs()
    deflate_s: dict[str, list[float]] = {name: [] for name in codecs}
    inflate_s: dict[str, list[float]] = {name: [] for name in codecs}
    stored_bytes: dict[str, int] = {}
    names = list(codecs)
    for number in range(rounds_count):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            deflate, inflate = codecs[name]
            started_s = time.perf_counter()
            streams = [deflate(data) for data in files]
            deflate_s[name].append(time.perf_counter() - started_s)
            started_s = time.perf_counter()
            again = [inflate(stream) for stream in streams]
            inflate_s[name].append(time.perf_counter() - started_s)
            if again != files:
                raise AssertionError(f"{name} does not give back what it took")
            stored_bytes[name] = sum(map(len, streams))
    return {
        "parameters": {
            "runs_count": runs_count,
            "rounds_count": rounds_count,
            "sync_mode": "nothing is written",
            "input": "bytes in memory",
        },
        "codecs": [
            {
                "name": name,
                "deflate_mb_per_s": round(raw_bytes / statistics.median(deflate_s[name]) / 1e6, 2),
                "deflate_ms_per_run": round(statistics.median(deflate_s[name]) * 1000 / runs_count, 4),
                "inflate_mb_per_s": round(raw_bytes / statistics.median(inflate_s[name]) / 1e6, 2),
                "stored_over_raw": round(stored_bytes[name] / raw_bytes, 4),
            }
            for name in codecs
        ],
        "skipped": [],
    }


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the table of the page."""
    rows = [
        [
            one["name"],
            figure(one["deflate_mb_per_s"]),
            figure(one["deflate_ms_per_run"]),
            figure(one["inflate_mb_per_s"]),
            figure(one["stored_over_raw"]),
        ]
        for one in sorted(result["codecs"], key=lambda one: -float(one["deflate_mb_per_s"]))
    ]
    heads = ["codec", "deflate MB/s", "ms per run", "inflate MB/s", "stored / raw"]
    return [Table("Codecs of pack-ready streams", heads, rows)]

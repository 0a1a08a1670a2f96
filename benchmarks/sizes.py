"""What does a commit cost as runs grow from 50 KB to 100 MB, cold, warm, and when its content is known already?

Runs of a given size are real ones: longer files are the same-named files of many runs put together, shorter ones are
cut at a line. Every sample has content of its own. *Cold* means that the input files were dropped from the page cache
before the call, for the floor as well. *Known content* is the same files under another correlation ID: a manifest and
no blob. *Same call* is the very call again, which stores nothing.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.engines import FLOOR, PRODUCT
from benchmarks.floor import Floor, read_whole
from benchmarks.runs import real_runs
from benchmarks.samples import summary_ms
from benchmarks.tables import Table, figure
from cas import ArtifactStore, ArtifactStoreConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.plan import Plan
    from benchmarks.runs import StoredRun

# bytes of a run → samples of each kind
_EXTENT: Final[dict[str, dict[int, int]]] = {
    "tiny": {50_000: 2, 300_000: 1},
    "quick": {50_000: 20, 300_000: 15, 3_000_000: 6, 100_000_000: 1},
    "full": {50_000: 120, 300_000: 80, 3_000_000: 20, 100_000_000: 5},
}
_SOURCE_RUNS_COUNT: Final = {"tiny": 4, "quick": 60, "full": 200}


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    source = real_runs(_SOURCE_RUNS_COUNT[plan.size], plan.data)
    rows = [_measure_size(plan, source, size, count) for size, count in _EXTENT[plan.size].items()]
    return {
        "parameters": {
            "source_runs_count": len(source),
            "sync_mode": "full",
            "input": "paths; warm: in the page cache, cold: dropped from it",
        },
        "sizes": rows,
        "skipped": [],
    }


def _measure_size(plan: Plan, source: Sequence[StoredRun], size_bytes: int, count: int) -> dict[str, Any]:
    folder = plan.fresh(f"{size_bytes}-bytes")
    inputs = [
        _make_input(folder / f"input-{number}", source, size_bytes, number) for number in range(2 * count)
    ]
    raw_bytes = sum(path.stat().st_size for path in inputs[0])
    floor = Floor(folder, 2 * count * raw_bytes)  # warms the gate for the process, the product included
    samples: dict[str, list[float]] = {}
    with ArtifactStore(ArtifactStoreConfig(repo_path=folder / "store", max_file_bytes=1 << 31)) as store:
        store.commit_artifacts("wf_sizes", "task_first", {"first.txt": b"opens and allocates"}, {}, "opening")
        for number, paths in enumerate(inputs):
            state = "cold" if number % 2 else "warm"
            calls = [
                (PRODUCT, lambda p=paths, n=number: _commit(store, p, f"first-{n}")),
                (FLOOR, lambda p=paths: floor.append([floor.stream_of(path) for path in p])),
            ]
            for name, call in calls if number % 4 < 2 else reversed(calls):
                _drop(paths) if state == "cold" else _warm(paths)
                samples.setdefault(f"{name}_{state}", []).append(_timed(call))
            if state == "warm":
                again = _timed(lambda p=paths, n=number: _commit(store, p, f"again-{n}"))
                same = _timed(lambda p=paths, n=number: _commit(store, p, f"first-{n}"))
                samples.setdefault("known_content_warm", []).append(again)
                samples.setdefault("same_call_warm", []).append(same)
    floor.close()
    figures = {name: summary_ms(values) for name, values in samples.items()}
    ratios = {
        f"over_floor_p50_{state}": round(
            figures[f"{PRODUCT}_{state}"]["p50_ms"] / figures[f"{FLOOR}_{state}"]["p50_ms"], 3
        )
        for state in ("warm", "cold")
    }
    return {"target_bytes": size_bytes, "raw_bytes": raw_bytes, **ratios, "samples": figures}


def _make_input(folder: Path, source: Sequence[StoredRun], size_bytes: int, number: int) -> list[Path]:
    """Write the files of one run of about ``size_bytes``; each begins with a line of its own, so none is known."""
    folder.mkdir()
    names = [path.name for path in source[0].paths]
    shift = number % len(source)
    turn = itertools.cycle(source[shift:] + source[:shift])
    pieces: dict[str, list[bytes]] = {name: [b"# sample %d\n" % number] for name in names}
    left_bytes = size_bytes
    while left_bytes > 0:
        run = next(turn)
        part = min(1.0, left_bytes / run.raw_bytes)
        for path in run.paths:
            data = read_whole(path)
            piece = data if part == 1.0 else data[: data.rfind(b"\n", 0, int(len(data) * part)) + 1]
            pieces[path.name].append(piece)
        left_bytes -= run.raw_bytes
    paths = [folder / name for name in names]
    for path in paths:
        with path.open("wb") as file:
            file.writelines(pieces[path.name])
            file.flush()
            os.fsync(file.fileno())  # only clean pages can be dropped
    return paths


def _drop(paths: Sequence[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _warm(paths: Sequence[Path]) -> None:
    for path in paths:
        read_whole(path)


def _commit(store: ArtifactStore, paths: Sequence[Path], correlation_id: str) -> None:
    store.commit_artifacts("wf_sizes", "task_sizes", list(paths), {}, correlation_id)


def _timed(call: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the table of the page."""
    timed = [f"{engine}_{state}" for state in ("warm", "cold") for engine in (PRODUCT, FLOOR)]
    columns = [*timed, "known_content_warm", "same_call_warm"]
    rows = [
        [
            f"{figure(row['raw_bytes'] / 1000)} KB",
            *(figure(row["samples"][column]["p50_ms"]) for column in columns[:2]),
            figure(row["over_floor_p50_warm"]),
            *(figure(row["samples"][column]["p50_ms"]) for column in columns[2:4]),
            figure(row["over_floor_p50_cold"]),
            *(figure(row["samples"][column]["p50_ms"]) for column in columns[4:]),
        ]
        for row in result["sizes"]
    ]
    heads = [
        "run",
        "warm",
        "floor",
        "x floor",
        "cold",
        "floor, cold",
        "x floor, cold",
        "known content",
        "same call",
    ]
    return [Table("Commit by size of the run, p50 in ms", heads, rows)]

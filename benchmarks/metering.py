"""What do the durable counters add to a commit?

Every run is committed twice, into two stores that are alike but for one thing: in one of them nothing is counted. The
two commits of a pair follow each other at once, the store that goes first changes from pair to pair, and a pair is
compared only with itself, so that the disk's moods meet both. The share is the median difference of the pairs over the
median commit without counting, with a 95 % interval from resampling the pairs.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from benchmarks.runs import real_runs
from benchmarks.samples import percentile, summary_ms
from benchmarks.tables import Table, figure
from cas import ArtifactStore, ArtifactStoreConfig, metrics
from cas.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.plan import Plan
    from benchmarks.runs import StoredRun

# runs, times that each is committed (with another last line, so that it is new), pairs that are not counted
_EXTENT: Final = {"tiny": (3, 2, 1), "quick": (40, 5, 20), "full": (240, 12, 40)}
_RESAMPLES_COUNT: Final = 2000
_SEED: Final = 20260101

Pair = tuple[float, float]  # seconds with and without counting


def _nothing(*_: object) -> None:
    """Take the place of a counting function; a plain function, as a mock would cost more than what it replaces."""


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """Leave out all counting in the block: nothing is kept in the process, nothing is written to the table."""
    with (
        mock.patch.object(metrics, "add", _nothing),
        mock.patch.object(metrics, "fold", _nothing),
        mock.patch.object(metrics, "latency_counts", _nothing),
        mock.patch.object(Meter, "note", _nothing),
    ):
        yield


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count, rounds_count, warm_count = _EXTENT[plan.size]
    runs = real_runs(runs_count, plan.data)
    pairs: list[Pair] = []
    with _store(plan, "counting") as counting, _store(plan, "plain") as plain:
        for number in range(rounds_count):
            for run in runs:
                pairs.append(_pair(counting, plain, _call(run, number), counts_first=len(pairs) % 2 == 0))
    kept = pairs[warm_count:] or pairs
    low, high = _interval(kept)
    return {
        "parameters": {
            "pairs_count": len(kept),
            "uncounted_pairs_count": len(pairs) - len(kept),
            "input": "bytes of real runs, each time with another last line",
            "sync_mode": "full",
        },
        "counting": summary_ms([pair[0] for pair in kept]),
        "not_counting": summary_ms([pair[1] for pair in kept]),
        "counting_over_not_counting": round(_ratio(kept), 4),
        "interval_95": {"low": round(low, 4), "high": round(high, 4)},
        "skipped": [],
    }


def _store(plan: Plan, label: str) -> ArtifactStore:
    return ArtifactStore(ArtifactStoreConfig(repo_path=plan.fresh(label), durability="full"))


def _call(run: StoredRun, number: int) -> dict[str, Any]:
    tail = f"# {number}\n".encode()
    return {
        **run.as_call(),
        "correlation_id": f"{run.correlation_id}-{number}",
        "files": {path.name: path.read_bytes() + tail for path in run.paths},
    }


def _pair(counting: ArtifactStore, plain: ArtifactStore, call: dict[str, Any], *, counts_first: bool) -> Pair:
    if counts_first:
        first = _timed(counting, call)
        with uncounted():
            return first, _timed(plain, call)
    with uncounted():
        second = _timed(plain, call)
    return _timed(counting, call), second


def _timed(store: ArtifactStore, call: dict[str, Any]) -> float:
    started_s = time.perf_counter()
    store.commit_artifacts(**call)
    return time.perf_counter() - started_s


def _ratio(pairs: Sequence[Pair]) -> float:
    """Return 1 + median difference / median without counting."""
    added_s = statistics.median(counted - plain for counted, plain in pairs)
    return 1 + added_s / statistics.median(plain for _, plain in pairs)


def _interval(pairs: Sequence[Pair]) -> tuple[float, float]:
    drawn = random.Random(_SEED)
    ratios = [_ratio(drawn.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLES_COUNT)]
    return percentile(ratios, 2.5), percentile(ratios, 97.5)


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    rows = [
        [title, figure(result[key]["p50_ms"]), figure(result[key]["p90_ms"]), figure(result[key]["p99_ms"])]
        for key, title in (("counting", "with counters"), ("not_counting", "without"))
    ]
    added = (result["counting_over_not_counting"] - 1) * 100
    low, high = ((result["interval_95"][end] - 1) * 100 for end in ("low", "high"))
    note = f"Counting adds {added:.1f} % to the median commit (95 % interval {low:.1f} to {high:.1f} %)."
    return [Table("One commit, counted and not", ["store", "p50 ms", "p90 ms", "p99 ms"], rows, note)]

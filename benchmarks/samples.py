"""Samples: from raw times to medians, tails and paired ratios.

Invariant: a ratio compares the same runs under both engines, so a slower peer that was given fewer runs is not judged
by other data. Pure: no clock, no file.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of ``values``, which need not be sorted; ``percent`` from 0 to 100."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def summary_ms(samples_s: Sequence[float]) -> dict[str, Any]:
    """Return count, minimum, median and tails of times, and how many fit a second; seconds in, milliseconds out."""
    return {
        "samples_count": len(samples_s),
        "min_ms": round(min(samples_s) * 1000, 4),
        "p50_ms": round(statistics.median(samples_s) * 1000, 4),
        "p90_ms": round(percentile(samples_s, 90) * 1000, 4),
        "p99_ms": round(percentile(samples_s, 99) * 1000, 4),
        "runs_per_s": round(len(samples_s) / sum(samples_s), 2),
    }


def paired_ratio(above: Mapping[int, float], below: Mapping[int, float]) -> float:
    """Return median of ``above`` / median of ``below`` over the keys (run numbers) that both have."""
    shared = above.keys() & below.keys()
    return statistics.median(above[key] for key in shared) / statistics.median(below[key] for key in shared)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return least, median and greatest of ratios taken round by round: how far a ratio can be trusted."""
    return {
        "min": round(min(values), 3),
        "median": round(statistics.median(values), 3),
        "max": round(max(values), 3),
    }

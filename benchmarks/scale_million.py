"""Do commits and look-ups stay as fast as the store grows to 1,000,000 runs?

The same measurement as that of the smaller store, taken further. Filling takes a quarter of an hour and some GB of
disk, so it is measured by `make bench-scale` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks import scale

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.charts import Lines
    from benchmarks.plan import Plan
    from benchmarks.tables import Table

_MARKS: Final = {"tiny": (20, 80), "quick": (1000, 4000), "full": (10_000, 1_000_000)}


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    return scale.measure_at(plan, _MARKS[plan.size])


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the table of the page."""
    return scale.tables(result)


def charts(result: Mapping[str, Any]) -> list[Lines]:
    """Return the picture of the page."""
    return scale.charts(result)

"""The store's counts and figures as Prometheus text, through the official client library (extra ``metrics``).

Invariant: a counter never falls while its store lives, and every metric name is listed in `NAMES`, which the shipped
alert rules are checked against. No name, label or value holds an ID, a path or a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from cas import metrics, stats
from cas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cas.lmdbenv import Environment
    from cas.metrics import Counts
    from cas.records import Record

FAILURE_REASONS: Final = ("invalid_input", "storage", "other", "unexpected")
# Name without the prefix ``cas_``, the count it shows, and what it means.
COUNTERS: Final = {
    "commits": ("commits", "Runs stored"),
    "rollbacks": ("rollbacks", "Rollbacks stored"),
    "secret_detections": ("secret_detections", "Secrets found in refused runs"),
    "secret_refusals": ("secret_refusals", "Runs refused for a secret"),
    "exported_runs": ("exported", "Runs and rollbacks proved in git"),
    "export_failures": ("export_failures", "Runs that git refused"),
    "pushed_runs": ("pushed", "Runs and rollbacks proved on the remote"),
    "push_failures": ("push_failures", "Runs whose push failed, each time it did"),
}
GAUGES: Final = {
    "commit_success_rate": ("commit_success_rate", "Share of successful commits in a day"),
    "avg_commit_time_seconds": ("avg_commit_time", "Mean time of a commit in a day"),
    "push_success_rate": ("push_success_rate", "Share of successful pushes in a day"),
    "rollback_frequency": ("rollback_frequency", "Rollbacks in 30 days"),
    "export_backlog_runs": ("queued", "Runs that wait for git"),
    "export_backlog_seconds": ("backlog_age_s", "Age of the oldest run that waits for git"),
    "push_backlog_runs": ("awaiting_push", "Runs that wait for the push"),
    "parked_runs": ("parked", "Runs set aside for a person to look at"),
    "disk_free_bytes": ("disk_free_bytes", "Free bytes on the store's disk"),
}
TIMES: Final = {
    "last_commit": "last_commit_at_us",
    "last_export": "last_export_at_us",
    "last_push": "last_push_at_us",
}
_KINDS: Final = ("raw", "stored", "file")
NAMES: Final = frozenset(
    {f"cas_{name}_total" for name in COUNTERS}
    | {f"cas_{name}" for name in GAUGES}
    | {f"cas_{name}_timestamp_seconds" for name in TIMES}
    | {f"cas_commit_duration_seconds_{part}" for part in ("bucket", "count", "sum")}
    | {
        "cas_commit_failures_total",
        "cas_committed_bytes_total",
        "cas_storage_growth_bytes",
        "cas_store_bytes",
    }
)


class StoreCollector:
    """Reads a store each time its metrics are asked for; thread-safe.

    Args:
        environment: An open store; it must stay open.
        now_us: Microseconds since the epoch.
    """

    def __init__(self, environment: Environment, now_us: Callable[[], int]) -> None:
        self._environment = environment
        self._now_us = now_us

    def collect(self) -> Iterator[Any]:
        """Yield the metric families, for the client library.

        Raises:
            StorageError: The store cannot be read.
        """
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        with self._environment.read() as transaction:
            counts = metrics.totals(transaction)
        figures = stats.collect(self._environment, self._now_us())
        for name, (key, text) in COUNTERS.items():
            yield CounterMetricFamily(f"cas_{name}", text, value=counts.get(key, 0))
        failures = CounterMetricFamily("cas_commit_failures", "Commits refused or failed", labels=["reason"])
        for reason in FAILURE_REASONS:
            failures.add_metric([reason], counts.get(f"commit_failures.{reason}", 0))
        yield failures
        committed = CounterMetricFamily("cas_committed_bytes", "Bytes of stored runs", labels=["kind"])
        for kind in _KINDS[:2]:
            committed.add_metric([kind], counts.get(f"commit_{kind}_bytes", 0))
        yield committed
        yield _latencies(counts)
        for name, (key, text) in GAUGES.items():
            value = figures.get(key)
            if isinstance(value, int | float):
                yield GaugeMetricFamily(f"cas_{name}", text, value=value)
        for name, key in TIMES.items():
            at_us = figures.get(key)
            if isinstance(at_us, int):
                text = f"When the {name.replace('_', ' ')} was"
                yield GaugeMetricFamily(
                    f"cas_{name}_timestamp_seconds", text, value=at_us / metrics.MICROSECONDS
                )
        yield from _sizes(figures)


def _latencies(counts: Counts) -> Any:  # noqa: ANN401
    from prometheus_client.core import HistogramMetricFamily

    buckets: list[tuple[str, float]] = []
    seen = 0
    bounds = [str(bound_us / metrics.MICROSECONDS) for bound_us in metrics.LATENCY_BOUNDS_US]
    for bound, count in zip([*bounds, "+Inf"], metrics.latency_buckets(counts), strict=True):
        seen += count
        buckets.append((bound, seen))
    return HistogramMetricFamily(
        "cas_commit_duration_seconds",
        "Time of a successful commit, flush included; a repeated one counts",
        buckets=buckets,
        sum_value=counts.get("commit_us", 0) / metrics.MICROSECONDS,
    )


def _sizes(figures: Record) -> Iterator[Any]:
    from prometheus_client.core import GaugeMetricFamily

    growth = GaugeMetricFamily("cas_storage_growth_bytes", "Growth in 30 days", labels=["kind"])
    grown = cast("dict[str, int]", figures["storage_growth"])
    for kind in _KINDS:
        growth.add_metric([kind], grown[f"{kind}_bytes"])
    yield growth
    sizes = GaugeMetricFamily("cas_store_bytes", "Size of the store", labels=["kind"])
    for kind in ("file", "used", "stored", "index"):
        sizes.add_metric([kind], cast("int", figures[f"{kind}_bytes"]))
    yield sizes


def new_registry(environment: Environment, now_us: Callable[[], int]) -> Any:  # noqa: ANN401  the library is optional
    """Return a registry of the client library that holds the store's metrics and nothing else.

    Raises:
        ConfigError: The extra ``metrics`` is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry
    except ImportError as error:
        raise ConfigError(
            "metrics need the package prometheus_client", hint="pip install 'cas-gitexport[metrics]'"
        ) from error
    registry = CollectorRegistry(auto_describe=False)
    registry.register(cast("Any", StoreCollector(environment, now_us)))
    return registry


def render(environment: Environment, now_us: Callable[[], int]) -> bytes:
    """Return the store's metrics in Prometheus text format.

    Raises:
        ConfigError: The extra ``metrics`` is not installed.
        StorageError: The store cannot be read.
    """
    registry = new_registry(environment, now_us)
    from prometheus_client import generate_latest

    return generate_latest(registry)

"""How the store does: success rates, latencies, growth and backlog over their windows, and the rules that alert.

Invariant: pure over one snapshot and a time; the same rules stand in ``docs/alerts.rules.yml``. A window of hours is
the running hour and the full ones before it, as counts are kept by the hour.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Literal

from cas import metrics

if TYPE_CHECKING:
    from cas.lmdbenv import ReadTransaction
    from cas.metrics import Counts
    from cas.records import Record

Severity = Literal["info", "warning", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = ("info", "warning", "critical")
_DAY_US: Final = 24 * metrics.HOUR_US
RATE_WINDOW_US: Final = _DAY_US
SECRETS_WINDOW_US: Final = 7 * _DAY_US
MONTH_US: Final = 30 * _DAY_US
FAILED: Final = "commit_failures."
COMMIT_FAILURE_LIMIT: Final = 0.05
PUSH_FAILURE_LIMIT: Final = 0.10
# One failure among two commits is half of them and means little; three are no accident.
LEAST_FAILURES: Final = 3
_MEDIAN: Final = 0.5
_NINETY_NINE: Final = 0.99


@dataclasses.dataclass(frozen=True, slots=True)
class Alert:
    """One rule that fires, or does not.

    Attributes:
        name: Stable name; the Prometheus rule has the same.
        severity: How urgent.
        reason: One line that says what was counted.
    """

    name: str
    severity: Severity
    reason: str

    def as_dict(self) -> Record:
        """Return the fields as JSON-able data."""
        return {"name": self.name, "severity": self.severity, "reason": self.reason}


def commit_failures(counts: Counts) -> int:
    """Return how many commits were refused or failed, secrets not counted: they have a count of their own."""
    return sum(value for name, value in counts.items() if name.startswith(FAILED))


def commit_successes(counts: Counts) -> int:
    """Return how many commits ended well; those that found their run there already count as well."""
    return max(counts.get("commits", 0), sum(metrics.latency_buckets(counts)))


def rate(good: int, bad: int) -> float | None:
    """Return the share of the good ones, None when there were none at all."""
    return good / (good + bad) if good + bad else None


def measures(transaction: ReadTransaction, now_us: int) -> Record:
    """Return the measures of the contract, each over its own window; times in seconds, sizes in bytes.

    Args:
        transaction: The snapshot.
        now_us: The present time, microseconds since the epoch.
    """
    month = metrics.hours(transaction, now_us - MONTH_US)
    day = metrics.merged(counts for at_us, counts in month if at_us > now_us - RATE_WINDOW_US)
    week = metrics.merged(counts for at_us, counts in month if at_us > now_us - SECRETS_WINDOW_US)
    total = metrics.merged(counts for _, counts in month)
    buckets = metrics.latency_buckets(day)
    timed = sum(buckets)
    return {
        "commit_success_rate": rate(commit_successes(day), commit_failures(day)),
        "avg_commit_time": day.get("commit_us", 0) / timed / metrics.MICROSECONDS if timed else None,
        "commit_time_p50": metrics.quantile_s(buckets, _MEDIAN),
        "commit_time_p99": metrics.quantile_s(buckets, _NINETY_NINE),
        "push_success_rate": rate(day.get("pushed", 0), day.get("push_failures", 0)),
        "secret_detections": week.get("secret_detections", 0),
        "rollback_frequency": total.get("rollbacks", 0),
        "storage_growth": _growth(month, total),
        "last_commit_at_us": metrics.totals(transaction).get(metrics.LAST_COMMIT),
    }


def _growth(month: list[tuple[int, Counts]], total: Counts) -> Record:
    sizes = [counts[metrics.FILE_BYTES] for _, counts in month if metrics.FILE_BYTES in counts]
    return {
        "raw_bytes": total.get("commit_raw_bytes", 0),
        "stored_bytes": total.get("commit_stored_bytes", 0),
        "file_bytes": sizes[-1] - sizes[0] if sizes else 0,
    }


def evaluate(transaction: ReadTransaction, now_us: int) -> list[Alert]:
    """Return the alerts that fire, the most urgent first.

    The running hour and the one before it are judged each for itself, so that a burst of failures just before the hour
    is not missed just after it.

    Args:
        transaction: The snapshot.
        now_us: The present time, microseconds since the epoch.
    """
    windows = [counts for _, counts in metrics.hours(transaction, now_us - metrics.HOUR_US)]
    both = metrics.merged(windows)
    fired = [
        _too_many(
            "CasCommitFailures",
            "critical",
            "commits failed",
            [(commit_failures(counts), commit_successes(counts)) for counts in windows],
            COMMIT_FAILURE_LIMIT,
        ),
        _too_many(
            "CasPushFailures",
            "warning",
            "pushes failed",
            [(counts.get("push_failures", 0), counts.get("pushed", 0)) for counts in windows],
            PUSH_FAILURE_LIMIT,
        ),
        _seen(
            "CasSecretDetected",
            both.get("secret_detections", 0),
            "secret detected: investigate, and rotate it",
        ),
        _seen("CasRollback", both.get("rollbacks", 0), "rollback performed: review its reason"),
    ]
    return [alert for alert in fired if alert is not None]


def _too_many(
    name: str, severity: Severity, what: str, pairs: list[tuple[int, int]], limit: float
) -> Alert | None:
    for bad, good in pairs:
        if bad >= LEAST_FAILURES and bad > limit * (bad + good):
            share = bad / (bad + good)
            return Alert(
                name, severity, f"{bad} of {bad + good} {what} in an hour: {share:.0%}, more than {limit:.0%}"
            )
    return None


def _seen(name: str, count: int, what: str) -> Alert | None:
    return Alert(name, "info", f"{count} x {what}") if count else None

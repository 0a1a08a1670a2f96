"""Figures of a store: counts, bytes and backlog, from one snapshot.

Invariant: cheap; nothing here reads blob content or walks the manifests, only what waits in the outbox.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from cas import catalog, health, manifest, metrics, outbox
from cas.lmdbenv import Table
from cas.outbox import Stage

if TYPE_CHECKING:
    from cas.lmdbenv import Environment, ReadTransaction
    from cas.records import Record

_MICROSECONDS: Final = 1_000_000


def collect(environment: Environment, now_us: int) -> Record:
    """Return the figures of a store: sizes, counts and backlog, and the measures of `cas.health`.

    Args:
        environment: The open store.
        now_us: The present time, for the age of the backlog.
    """
    with environment.read() as transaction:
        counts = {stage: outbox.count_entries(transaction, stage) for stage in Stage}
        figures: Record = {
            "manifests": transaction.count(Table.MANIFESTS),
            "blobs": transaction.count(Table.BLOBS),
            "stored_bytes": transaction.bytes_used(Table.SEGMENTS),
            "index_bytes": sum(
                transaction.bytes_used(table) for table in Table if table is not Table.SEGMENTS
            ),
            "queued": counts[Stage.WRITE],
            "awaiting_push": counts[Stage.PUSH],
            "parked": counts[Stage.PARKED_WRITE] + counts[Stage.PARKED_PUSH],
            "backlog_age_s": _backlog_age_s(transaction, now_us),
            **health.measures(transaction, now_us),
        }
        figures["last_export_at_us"], figures["last_push_at_us"] = outbox.last_times(transaction)
    figures["used_bytes"] = environment.used_bytes()
    figures["file_bytes"] = environment.file_bytes()
    figures["disk_free_bytes"] = shutil.disk_usage(environment.directory).free
    return figures


def _backlog_age_s(transaction: ReadTransaction, now_us: int) -> float | None:
    for sequence, _ in outbox.iter_entries(transaction, Stage.WRITE):
        row = catalog.get_row(transaction, sequence)
        if row is not None:
            return max(0.0, (now_us - manifest.decode(row.manifest).created_at_us) / _MICROSECONDS)
    return None


def charts(environment: Environment, now_us: int, days: int = 30) -> Record:
    """Return what is drawn: latencies of a day by bucket, and sizes and counts by the day.

    Args:
        environment: The open store.
        now_us: The present time, microseconds since the epoch.
        days: How many days, the present one last.
    """
    day_us = 24 * metrics.HOUR_US
    first_us = (now_us // day_us - days + 1) * day_us
    with environment.read() as transaction:
        found = metrics.hours(transaction, first_us)
    recent = metrics.merged(counts for at_us, counts in found if at_us > now_us - health.RATE_WINDOW_US)
    by_day: list[metrics.Counts] = [{} for _ in range(days)]
    for at_us, counts in found:
        if at_us < first_us + days * day_us:
            metrics.merge(by_day[(at_us - first_us) // day_us], counts)
    return {
        "latency_bounds_us": list(metrics.LATENCY_BOUNDS_US),
        "latency_counts": metrics.latency_buckets(recent),
        "stored_bytes_by_day": [counts.get("commit_stored_bytes", 0) for counts in by_day],
        "commits_by_day": [counts.get("commits", 0) for counts in by_day],
        "backlog_by_day": [counts.get("commits", 0) - counts.get("exported", 0) for counts in by_day],
    }

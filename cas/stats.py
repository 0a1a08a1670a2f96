"""Figures of a store: counts, bytes and backlog, from one snapshot.

Invariant: cheap; nothing here reads blob content or walks the manifests.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from cas import catalog, outbox
from cas.lmdbenv import Table
from cas.outbox import Stage

if TYPE_CHECKING:
    from cas.lmdbenv import Environment, ReadTransaction
    from cas.records import Record

_MICROSECONDS = 1_000_000


def collect(environment: Environment, now_us: int) -> Record:
    """Return the figures of a store.

    Args:
        environment: The open store.
        now_us: The present time, for the age of the backlog.
    """
    with environment.read() as transaction:
        counts = {stage: _stage_count(transaction, stage) for stage in Stage}
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
        }
    figures["used_bytes"] = environment.used_bytes()
    figures["file_bytes"] = environment.file_bytes()
    figures["disk_free_bytes"] = shutil.disk_usage(environment.directory).free
    return figures


def _stage_count(transaction: ReadTransaction, stage: Stage) -> int:
    return sum(1 for _ in transaction.scan(Table.OUTBOX, stage.value))


def _backlog_age_s(transaction: ReadTransaction, now_us: int) -> float | None:
    from cas import manifest

    for sequence, _ in outbox.iter_entries(transaction, Stage.WRITE):
        row = catalog.get_row(transaction, sequence)
        if row is not None:
            return max(0.0, (now_us - manifest.decode(row.manifest).created_at_us) / _MICROSECONDS)
    return None

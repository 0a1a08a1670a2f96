"""What the tests of gc and retention share: runs that count as exported, and what a store holds of their files."""

from __future__ import annotations

from cas import blobs, metrics, outbox
from cas.lmdbenv import Table
from tests.store.stores import dump

METADATA = {"agent_version": "a", "test_metrics": {"net_pnl": 1.0}}


def commit(store, correlation_id="c1", *, files=None, workflow="wf", task=None, metrics=None, **changes):
    """Commit a run; each has a branch of its own unless a task is given."""
    arguments = {
        "workflow_id": workflow,
        "task_id": task or correlation_id,
        "files": {"a.txt": correlation_id.encode() * 40} if files is None else files,
        "metadata": {**METADATA, "test_metrics": metrics or {"net_pnl": 1.0}},
        "correlation_id": correlation_id,
    }
    return store.commit_artifacts(**{**arguments, **changes})


def pretend_export(store):
    """Give every queued manifest the receipt that an export writes."""
    with store.environment.write() as transaction:
        queued = [number for number, _ in outbox.iter_entries(transaction, outbox.Stage.WRITE)]
        outbox.record_exported(transaction, queued, store.now_us())
    return len(queued)


def digests(store):
    """Return the digests of all stored blobs."""
    with store.environment.read() as transaction:
        return set(transaction.scan_keys(Table.BLOBS))


def segment_numbers(store):
    """Return the numbers of all stored segments."""
    with store.environment.read() as transaction:
        return list(blobs.iter_segments(transaction))


def rows_of(store):
    """Return every row of every table but the counters, which are written when a store is closed."""
    tables = {name: rows for name, rows in dump(store).items() if name != Table.COUNTERS.name}
    tables[Table.OUTBOX.name].pop(metrics.NEWEST_HOUR, None)
    return tables


def flip_byte(store, table, key, position=20):
    """Change one bit of a stored value behind the seal's back."""
    with store.environment.write() as transaction:
        raw, handle = transaction._raw, transaction._tables[table]
        stored = bytearray(raw.get(key, db=handle))
        stored[position % len(stored)] ^= 1
        raw.put(key, bytes(stored), db=handle)


def collect(store, **options):
    """Collect without pauses: nothing else wants the lock in most tests."""
    from cas import gc

    options.setdefault("pause", lambda _: None)
    return gc.collect(store.environment, now_us=store.now_us(), **options)

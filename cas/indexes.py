"""Indexes of metrics: which there are, and which may be trusted.

A metric becomes indexed when a store is opened for writing with its name in ``indexed_metrics``. Invariant: from the
transaction that lists a metric on, every commit of every process maintains its rows, whatever its own settings say;
and a metric is called complete only when all earlier runs have theirs as well. Queries use complete ones only. Owner
of the row ``indexed_metrics`` of the table ``meta``.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Final

import msgspec

from cas import catalog, manifest, marks
from cas.errors import IntegrityError
from cas.lmdbenv import Table
from cas.manifest import RunManifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas.lmdbenv import Environment, ReadTransaction

_KEY: Final = b"indexed_metrics"
# Runs given their rows in one transaction: some tens of milliseconds for which writers wait.
_RUNS_PER_TRANSACTION: Final = 500


class Index(msgspec.Struct, frozen=True, array_like=True):
    """One indexed metric, and whether every run has its row."""

    metric: str
    is_complete: bool


@functools.lru_cache(maxsize=16)
def _decode(encoded: bytes) -> tuple[Index, ...]:
    try:
        return msgspec.msgpack.decode(encoded, type=tuple[Index, ...])
    except msgspec.MsgspecError as error:
        raise IntegrityError("the list of indexed metrics is damaged") from error


def listed(transaction: ReadTransaction) -> tuple[Index, ...]:
    """Return every index of the store."""
    encoded = transaction.get(Table.META, _KEY)
    return () if encoded is None else _decode(encoded)


def maintained(transaction: ReadTransaction) -> tuple[str, ...]:
    """Return the metrics whose rows every commit has to write."""
    return tuple(index.metric for index in listed(transaction))


def complete(transaction: ReadTransaction) -> tuple[str, ...]:
    """Return the metrics whose index holds every run."""
    return tuple(index.metric for index in listed(transaction) if index.is_complete)


def ensure(environment: Environment, metrics: Sequence[str]) -> None:
    """Make the indexes that are missing; runs that are there get their rows in short transactions.

    Killed in between, the next call starts over; commits go on meanwhile. Takes about 20 µs a run.

    Raises:
        StorageError: The disk refused; the index stays unused.
    """
    with environment.read() as transaction:
        missing = [metric for metric in dict.fromkeys(metrics) if metric not in complete(transaction)]
    if not missing:
        return
    _list(environment, missing, is_complete=False)
    position = 0
    while True:
        found = _fill(environment, position, tuple(missing))
        if found is None:
            break
        position = found
    _list(environment, missing, is_complete=True)


def _list(environment: Environment, metrics: Sequence[str], *, is_complete: bool) -> None:
    with environment.write() as transaction:
        known = {index.metric: index for index in listed(transaction)}
        for metric in metrics:
            if metric not in known or is_complete:
                known[metric] = Index(metric, is_complete)
        transaction.put(Table.META, _KEY, msgspec.msgpack.encode(tuple(known.values())))


def _fill(environment: Environment, position: int, metrics: tuple[str, ...]) -> int | None:
    """Write the rows of some runs after a sequence number; return the last one, None when there are no more."""
    with environment.write() as transaction:
        hidden = marks.Hidden(transaction)
        rows = catalog.iter_rows(transaction, start=position + 1)
        batch = list(itertools.islice(rows, _RUNS_PER_TRANSACTION))
        for sequence, row in batch:
            loaded = manifest.decode(row.manifest)
            if isinstance(loaded, RunManifest) and sequence not in hidden:
                for key in catalog.metric_keys(loaded, sequence, metrics):
                    transaction.put(Table.CATALOG, key, catalog.sequence_key(sequence))
    return batch[-1][0] if batch else None

"""Repair of what is derivable: the catalog, from the manifests.

Invariant: only rows that the manifests give are written, and only rows that no manifest gives are removed; manifests,
blobs, outbox and receipts are not touched. Works in short transactions, beside writers.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Final

from cas import catalog, indexes, manifest, marks, records
from cas.errors import IntegrityError
from cas.lmdbenv import Table
from cas.manifest import RunManifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cas.lmdbenv import Environment, ReadTransaction, WriteTransaction

_RUNS_PER_TRANSACTION: Final = 100
_ROWS_PER_TRANSACTION: Final = 1000


@dataclasses.dataclass(slots=True)
class Repair:
    """How many catalog rows were written, and how many removed."""

    written: int = 0
    removed: int = 0

    def as_dict(self) -> dict[str, object]:
        """Return the figures as JSON-able data."""
        return dataclasses.asdict(self)


def repair_catalog(environment: Environment) -> Repair:
    """Make the catalog what the manifests give; about 100 µs a run.

    Raises:
        IntegrityError: A manifest is damaged, so that the rows it gives are not known; nothing is removed then.
        StorageError: The disk refused.
    """
    report = Repair()
    with environment.read() as transaction:
        position: int | None = catalog.next_sequence(transaction)
    while position is not None:
        with environment.write() as transaction:
            position = _write_missing(transaction, position, report)
    start: bytes | None = b""
    while start is not None:
        with environment.write() as transaction:
            start = _remove_strays(transaction, start, report)
    return report


def _write_missing(transaction: WriteTransaction, position: int, report: Repair) -> int | None:
    """Write the rows of some manifests before a sequence number; return the first one, None when there are no more.

    Newest first: the first that gives a shared key is the one that belongs there, so a branch's row goes from wrong to
    right in one step, and no writer that comes in between takes an old commit for its newest.
    """
    sequences = catalog.iter_sequences(transaction, after=position)
    batch = list(itertools.islice(sequences, _RUNS_PER_TRANSACTION))
    given: dict[int, frozenset[bytes]] = {}
    for sequence in batch:
        for key in _keys_of(transaction, sequence):
            found = _sequence_at(transaction, key)
            is_newer = found is not None and found > sequence and catalog.is_shared_key(key)
            if found != sequence and not (is_newer and key in _given_by(transaction, found or 0, given)):
                transaction.put(Table.CATALOG, key, catalog.sequence_key(sequence))
                report.written += 1
    return batch[-1] if batch else None


def _given_by(
    transaction: ReadTransaction, sequence: int, given: dict[int, frozenset[bytes]]
) -> frozenset[bytes]:
    """Return the keys that the manifest of a row's value gives, none when there is no such manifest."""
    if sequence not in given:
        is_there = transaction.has(Table.MANIFESTS, catalog.sequence_key(sequence))
        given[sequence] = frozenset(_keys_of(transaction, sequence) if is_there else ())
    return given[sequence]


def _keys_of(transaction: ReadTransaction, sequence: int) -> Iterator[bytes]:
    """Yield the catalog keys that a manifest has to have."""
    loaded, row = records.load(transaction, sequence)
    content = None
    if isinstance(loaded, RunManifest):
        content = manifest.content_digest(
            loaded.workflow_id, loaded.task_id, loaded.prompt_hash, loaded.metadata, loaded.files
        )
    hidden = marks.is_hidden(transaction, sequence)
    for key in catalog.catalog_keys(sequence, loaded, row, content, indexes.maintained(transaction)):
        if not (hidden and catalog.is_listing_key(key)):
            yield key


def _sequence_at(transaction: ReadTransaction, key: bytes) -> int | None:
    try:
        value = transaction.get(Table.CATALOG, key)
    except IntegrityError:
        return None
    return None if value is None or len(value) != catalog.SEQUENCE_BYTES else catalog.sequence_of(value)


def _remove_strays(transaction: WriteTransaction, start: bytes, report: Repair) -> bytes | None:
    """Look at some rows; return where the next ones begin, None at the end."""
    keys = transaction.scan_keys(Table.CATALOG, start=start)
    batch = list(itertools.islice(keys, _ROWS_PER_TRANSACTION))
    given: dict[int, frozenset[bytes]] = {}
    for key in batch:
        sequence = _sequence_at(transaction, key)
        if sequence is None or key not in _given_by(transaction, sequence, given):
            transaction.delete(Table.CATALOG, key)
            report.removed += 1
    return batch[-1] + b"\0" if len(batch) == _ROWS_PER_TRANSACTION else None

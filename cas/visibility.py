"""Hiding and showing runs: the rows by which a run is listed, and the mark that says it is forgotten.

Invariant: a run is shown or hidden whole, in one transaction, and a shown run has every blob. Its manifest, ids,
branch step, tags' rows and receipt stay in either case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cas import blobs, catalog, indexes, marks, records
from cas.lmdbenv import Table
from cas.marks import Forgotten

if TYPE_CHECKING:
    from cas.lmdbenv import ReadTransaction, WriteTransaction


def hide(transaction: WriteTransaction, sequence: int, *, now_us: int, reason: str | None) -> None:
    """Forget a run: nothing lists or finds it any more; its blobs stay until the garbage is collected."""
    for key in _listing_keys(transaction, sequence):
        transaction.delete(Table.CATALOG, key)
    marks.put_forgotten(transaction, sequence, Forgotten(now_us, reason))


def show(transaction: WriteTransaction, sequence: int) -> None:
    """Show a forgotten run again; the caller has made sure that its blobs are there, in this transaction."""
    for key in _listing_keys(transaction, sequence):
        transaction.put(Table.CATALOG, key, catalog.sequence_key(sequence))
    marks.lift_forgotten(transaction, sequence)


def missing_files(transaction: ReadTransaction, sequence: int) -> list[str]:
    """Return the names of a run's files whose content is not in the store, or is damaged."""
    run, _ = records.load_run(transaction, sequence)
    return [entry.name for entry in run.files if blobs.find_sound(transaction, entry.digest) is None]


def _listing_keys(transaction: ReadTransaction, sequence: int) -> list[bytes]:
    run, row = records.load_run(transaction, sequence)
    keys = catalog.catalog_keys(sequence, run, row, None, indexes.maintained(transaction))
    return [key for key in keys if catalog.is_listing_key(key)]

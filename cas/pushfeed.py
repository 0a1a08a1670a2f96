"""The push feed: runs whose push is recorded and not yet announced, for whoever tells the world.

The feed begins when a listener asks for it, and from then on every transaction that records a push adds the runs to it,
whichever process does so. Invariant: a run is in the feed once; one that is pushed again, after a repository or a
remote was lost, is not announced again. Owner of the rows ``pushfeed`` and ``pushed:`` of the table ``meta``.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from cas.catalog import sequence_key, sequence_of
from cas.lmdbenv import Table

if TYPE_CHECKING:
    from cas.lmdbenv import Environment, ReadTransaction, WriteTransaction

_ON: Final = b"pushfeed"
_PUSHED: Final = b"pushed:"
_WAITING: Final = b""
_ANNOUNCED: Final = b"announced"  # set when an announced run is queued for another push, which takes it away


def begin(environment: Environment) -> None:
    """Begin the feed, durable on return; a second call does nothing.

    Raises:
        StorageError: The disk refused.
    """
    with environment.read() as transaction:
        if transaction.has(Table.META, _ON):
            return
    with environment.write() as transaction:
        transaction.put(Table.META, _ON, b"1")


def note_pushed(transaction: WriteTransaction, sequence: int) -> None:
    """Add a run to the feed, in the transaction that records its push."""
    if transaction.has(Table.META, _ON):
        key = _PUSHED + sequence_key(sequence)
        if transaction.get(Table.META, key) == _ANNOUNCED:
            transaction.delete(Table.META, key)
        else:
            transaction.put(Table.META, key, _WAITING)


def note_pushed_before(transaction: WriteTransaction, sequence: int) -> None:
    """Note that a run which is queued for another push was pushed before, so that it is announced only once."""
    if transaction.has(Table.META, _ON):
        key = _PUSHED + sequence_key(sequence)
        if transaction.get(Table.META, key) is None:
            transaction.put(Table.META, key, _ANNOUNCED)


def list_waiting(transaction: ReadTransaction, limit: int) -> list[int]:
    """Return the sequences of runs that wait to be announced, oldest first."""
    rows = transaction.scan(Table.META, _PUSHED)
    return list(itertools.islice((sequence_of(key) for key, value in rows if value == _WAITING), limit))


def note_announced(transaction: WriteTransaction, sequence: int, *, pushed_again: bool) -> None:
    """Take a run out of the feed.

    Args:
        transaction: The write transaction.
        sequence: The run.
        pushed_again: It was queued for another push meanwhile, which is not to be announced.
    """
    key = _PUSHED + sequence_key(sequence)
    if pushed_again:
        transaction.put(Table.META, key, _ANNOUNCED)
    else:
        transaction.delete(Table.META, key)

"""Marks: what retention says about a manifest, beside the manifest, which never changes.

A forgotten manifest keeps its row, its ids, its place in the branch and its receipt, so parents, tags and revision
numbers stay what git knows; readers just do not show it. A collected one has moreover given up its blobs. Invariant: a
manifest without a mark, or forgotten and not collected, holds its blobs; `revival_count` grows whenever a collected one
holds them again, which the garbage collector looks at in each of its transactions. Owner of the rows ``forgotten:``
and ``pinned:`` and ``revivals`` of the table ``meta``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from cas.catalog import sequence_key, sequence_of
from cas.errors import IntegrityError
from cas.lmdbenv import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cas.lmdbenv import ReadTransaction, WriteTransaction

_Mark = TypeVar("_Mark")
_FORGOTTEN: Final = b"forgotten:"
_PINNED: Final = b"pinned:"
_REVIVALS: Final = b"revivals"
_COUNT_BYTES: Final = 8
_ENCODER: Final = msgspec.msgpack.Encoder()


class Forgotten(msgspec.Struct, frozen=True, array_like=True):
    """When and why a manifest was forgotten, and when its blobs were given up (0: not yet)."""

    forgotten_at_us: int
    reason: str | None = None
    collected_at_us: int = 0

    @property
    def is_collected(self) -> bool:
        """True when the manifest holds its blobs no more."""
        return self.collected_at_us > 0


class Pin(msgspec.Struct, frozen=True, array_like=True):
    """Since when a manifest is pinned, and why."""

    pinned_at_us: int
    note: str | None = None


_FORGOTTEN_DECODER: Final = msgspec.msgpack.Decoder(Forgotten)
_PIN_DECODER: Final = msgspec.msgpack.Decoder(Pin)


class Hidden:
    """Answers whether manifests are forgotten, for one snapshot; costs nothing in a store that forgot none."""

    __slots__ = ("_any", "_transaction")

    def __init__(self, transaction: ReadTransaction) -> None:
        self._transaction = transaction
        self._any = any(True for _ in transaction.scan_keys(Table.META, _FORGOTTEN))

    def __contains__(self, sequence: int) -> bool:
        return self._any and is_hidden(self._transaction, sequence)


def is_hidden(transaction: ReadTransaction, sequence: int) -> bool:
    """Tell whether a manifest is forgotten."""
    return transaction.has(Table.META, _FORGOTTEN + sequence_key(sequence))


def find_forgotten(transaction: ReadTransaction, sequence: int) -> Forgotten | None:
    """Return the mark of a forgotten manifest, or None."""
    value = transaction.get(Table.META, _FORGOTTEN + sequence_key(sequence))
    return None if value is None else _decode(_FORGOTTEN_DECODER, value, sequence)


def is_collected(transaction: ReadTransaction, sequence: int) -> bool:
    """Tell whether a manifest has given up its blobs."""
    mark = find_forgotten(transaction, sequence)
    return mark is not None and mark.is_collected


def iter_forgotten(transaction: ReadTransaction, start: int = 0) -> Iterator[tuple[int, Forgotten]]:
    """Yield forgotten manifests from a sequence number on, oldest first."""
    for key, value in transaction.scan(Table.META, _FORGOTTEN, start=_FORGOTTEN + sequence_key(start)):
        yield sequence_of(key), _decode(_FORGOTTEN_DECODER, value, sequence_of(key))


def iter_hidden(transaction: ReadTransaction) -> Iterator[int]:
    """Yield the sequences of forgotten manifests, oldest first, without reading the marks."""
    for key in transaction.scan_keys(Table.META, _FORGOTTEN):
        yield sequence_of(key)


def put_forgotten(transaction: WriteTransaction, sequence: int, mark: Forgotten) -> None:
    """Set the mark of a forgotten manifest."""
    transaction.put(Table.META, _FORGOTTEN + sequence_key(sequence), _ENCODER.encode(mark))


def lift_forgotten(transaction: WriteTransaction, sequence: int) -> None:
    """Remove the mark; the caller has made sure that every blob is present, in this transaction."""
    if is_collected(transaction, sequence):
        count = revival_count(transaction) + 1
        transaction.put(Table.META, _REVIVALS, count.to_bytes(_COUNT_BYTES, "big"))
    transaction.delete(Table.META, _FORGOTTEN + sequence_key(sequence))


def revival_count(transaction: ReadTransaction) -> int:
    """Return how often a collected manifest came to hold its blobs again."""
    value = transaction.get(Table.META, _REVIVALS)
    return 0 if value is None else int.from_bytes(value, "big")


def find_pin(transaction: ReadTransaction, sequence: int) -> Pin | None:
    """Return the pin of a manifest, or None."""
    value = transaction.get(Table.META, _PINNED + sequence_key(sequence))
    return None if value is None else _decode(_PIN_DECODER, value, sequence)


def iter_pins(transaction: ReadTransaction) -> Iterator[tuple[int, Pin]]:
    """Yield pinned manifests, oldest first."""
    for key, value in transaction.scan(Table.META, _PINNED):
        yield sequence_of(key), _decode(_PIN_DECODER, value, sequence_of(key))


def put_pin(transaction: WriteTransaction, sequence: int, pin: Pin) -> None:
    """Pin a manifest; a second pin replaces the note."""
    transaction.put(Table.META, _PINNED + sequence_key(sequence), _ENCODER.encode(pin))


def lift_pin(transaction: WriteTransaction, sequence: int) -> bool:
    """Remove the pin of a manifest; tell whether there was one."""
    return transaction.delete(Table.META, _PINNED + sequence_key(sequence))


def _decode(decoder: msgspec.msgpack.Decoder[_Mark], value: bytes, sequence: int) -> _Mark:
    try:
        return decoder.decode(value)
    except msgspec.MsgspecError as error:
        raise IntegrityError(f"the retention mark of manifest {sequence} is damaged") from error

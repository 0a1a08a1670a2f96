"""Transactions: tables as byte keys and values, read from one snapshot or written all or nothing.

Invariant: LMDB does not notice a flipped bit in a value, so every value but a segment's ends in a seal, the CRC-32 of
its key and itself. A value that was changed, cut, or moved under another key is refused instead of being believed.
Segments are streams that are handed out without copying; their CRC-32 and digest stand in the blobs' rows.
"""

from __future__ import annotations

import enum
import itertools
from typing import TYPE_CHECKING, Any, Final

from cas.codec import crc32
from cas.errors import IntegrityError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import lmdb

Buffer = bytes | bytearray | memoryview

SEAL_BYTES: Final = 4


class Table(enum.Enum):
    """The tables of a store; each has one owner module."""

    META = b"meta"
    MANIFESTS = b"manifests"
    BLOBS = b"blobs"
    SEGMENTS = b"segments"
    CATALOG = b"catalog"
    OUTBOX = b"outbox"
    RECEIPTS = b"receipts"
    COUNTERS = b"counters"

    # Members are single objects; the inherited hash of their name is Python code, run for every row that is touched.
    __hash__ = object.__hash__


def sealed(table: Table, key: bytes, value: Buffer) -> Buffer:
    """Return a value as it is stored under ``key``."""
    if table is Table.SEGMENTS:
        return value
    return bytes(value) + crc32(value, crc32(key)).to_bytes(SEAL_BYTES, "big")


def unsealed(table: Table, key: bytes, stored: memoryview) -> memoryview:
    """Return the value of what is stored under ``key``.

    Raises:
        IntegrityError: The seal does not fit.
    """
    if table is Table.SEGMENTS:
        return stored
    value = stored[:-SEAL_BYTES]
    seal = stored[-SEAL_BYTES:]
    if len(seal) != SEAL_BYTES or crc32(value, crc32(key)) != int.from_bytes(seal, "big"):
        raise IntegrityError(
            f"a row of the table {table.value.decode()} is damaged",
            subject=f"{table.value.decode()}:{key.hex()}",
            hint="Run `cas verify --full` to see what is affected.",
        )
    return value


class ReadTransaction:
    """One snapshot of the store; owned by one thread, ended by its ``with`` block.

    Values come as bytes, except from `view`, whose memoryviews die with the transaction. Whatever returns a value may
    raise IntegrityError, when the row is damaged.
    """

    def __init__(self, raw: lmdb.Transaction[memoryview], tables: dict[Table, Any]) -> None:
        self._raw = raw
        self._tables = tables

    def end(self) -> None:
        """Give the snapshot back, and its slot in the reader table, which py-lmdb keeps as long as its object lives.

        Whoever holds on to this object, a suspended generator say, must not hold a slot when the process forks.
        """
        raw: lmdb.Transaction[memoryview] | None = getattr(self, "_raw", None)
        if raw is not None:  # not when this is repeated after an interrupt
            raw.abort()
            del self._raw

    def get(self, table: Table, key: bytes) -> bytes | None:
        """Return a copy of the value under ``key``, or None."""
        stored = self._raw.get(key, db=self._tables[table])
        return None if stored is None else bytes(unsealed(table, key, stored))

    def view(self, table: Table, key: bytes) -> memoryview | None:
        """Return the value under ``key`` without copying; dangling once the transaction ends."""
        stored = self._raw.get(key, db=self._tables[table])
        return None if stored is None else unsealed(table, key, stored)

    def has(self, table: Table, key: bytes) -> bool:
        """Tell whether ``key`` is present."""
        return self._raw.get(key, db=self._tables[table]) is not None

    def last_key(self, table: Table) -> bytes | None:
        """Return the greatest key of a table, or None when it is empty."""
        with self._raw.cursor(db=self._tables[table]) as cursor:
            return bytes(cursor.key()) if cursor.last() else None

    def count(self, table: Table) -> int:
        """Return the number of rows of a table."""
        return int(self._raw.stat(self._tables[table])["entries"])

    def bytes_used(self, table: Table, page_bytes: int = 4096) -> int:
        """Return the pages of a table in bytes."""
        stat = self._raw.stat(self._tables[table])
        return int(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) * page_bytes

    def scan(
        self, table: Table, prefix: bytes = b"", *, start: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows whose keys begin with ``prefix``, in key order or backwards.

        Args:
            table: The table to read.
            prefix: Bytes every yielded key begins with.
            start: First key to consider (greatest, when reversed); None means the end of the prefix's range.
            reverse: Walk from the greatest key down.
        """
        with self._raw.cursor(db=self._tables[table]) as cursor:
            found = (
                _seek_last(cursor, prefix, start)
                if reverse
                else cursor.set_range(prefix if start is None else start)
            )
            step = cursor.prev if reverse else cursor.next
            while found:
                key = bytes(cursor.key())
                if not key.startswith(prefix):
                    return
                yield key, bytes(unsealed(table, key, cursor.value()))
                found = step()

    def scan_keys(
        self, table: Table, prefix: bytes = b"", *, start: bytes = b"", reverse: bool = False
    ) -> Iterator[bytes]:
        """Yield the keys from ``start`` on that begin with ``prefix``, in order, without touching the values.

        Backwards with ``reverse``, from ``start`` down, or from the greatest one when there is no start.
        """
        with self._raw.cursor(db=self._tables[table]) as cursor:
            if reverse:
                found = _seek_last(cursor, prefix, start or None)
                keys = cursor.iterprev(keys=True, values=False)
            else:
                found = cursor.set_range(max(prefix, start)) if prefix or start else cursor.first()
                keys = cursor.iternext(keys=True, values=False)
            if not found:
                return
            for view in keys:
                key = bytes(view)
                if not key.startswith(prefix):
                    return
                yield key

    def keys_between(self, table: Table, start: bytes, last: bytes) -> list[bytes]:
        """Return the keys from ``start`` to ``last``, both included, in order; a quarter of a microsecond each."""
        with self._raw.cursor(db=self._tables[table]) as cursor:
            if not cursor.set_range(start):
                return []
            views = cursor.iternext(keys=True, values=False)
            return list(itertools.takewhile(last.__ge__, map(bytes, views)))

    def damaged_keys(self, table: Table, should_stop: Callable[[], bool] = lambda: False) -> Iterator[bytes]:
        """Yield the key of every row whose value does not fit its seal.

        Args:
            table: The table to read.
            should_stop: Asked before each row; when true, no further ones are looked at.
        """
        with self._raw.cursor(db=self._tables[table]) as cursor:
            for key, stored in cursor.iternext(keys=True, values=True):
                if should_stop():
                    return
                try:
                    unsealed(table, bytes(key), stored)
                except IntegrityError:
                    yield bytes(key)


def _seek_last(cursor: lmdb.Cursor[memoryview], prefix: bytes, start: bytes | None) -> bool:
    """Place the cursor on the greatest key at or below the wanted end."""
    if start is not None:
        if not cursor.set_range(start):
            return cursor.last()
        return True if bytes(cursor.key()) == start else cursor.prev()
    end = _after_prefix(prefix)
    if end is None or not cursor.set_range(end):
        return cursor.last()
    return cursor.prev()


def _after_prefix(prefix: bytes) -> bytes | None:
    """Return the least key greater than every key with the prefix; None when there is no such key."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes([stripped[-1] + 1])


class WriteTransaction(ReadTransaction):
    """The one write transaction of the store at this moment; all or nothing.

    Attributes:
        is_stored: None while it goes on; then whether what it wrote is stored, as far as the disk has told.
    """

    def __init__(
        self, raw: lmdb.Transaction[memoryview], tables: dict[Table, Any], reserve: Callable[[int], None]
    ) -> None:
        super().__init__(raw, tables)
        self._reserve = reserve
        self.is_stored: bool | None = None

    def reserve(self, size_bytes: int) -> None:
        """Extend the file ahead of need, for about so many bytes that are about to be put.

        Raises:
            StorageError: The disk is full or failed.
        """
        self._reserve(size_bytes)

    def put(self, table: Table, key: bytes, value: Buffer) -> None:
        """Set ``key`` to ``value``, replacing what was there."""
        self._raw.put(key, sealed(table, key, value), db=self._tables[table])

    def append(self, table: Table, key: bytes, value: Buffer) -> None:
        """Add a row whose key is greater than every key of the table; fills pages whole."""
        if not self._raw.put(key, sealed(table, key, value), db=self._tables[table], append=True):
            raise StorageError("a row was appended out of order", kind="storage_error")

    def delete(self, table: Table, key: bytes) -> bool:
        """Remove ``key``; tell whether it was there."""
        return self._raw.delete(key, db=self._tables[table])

"""Segments under the garbage collector: which bytes of them live, dropping dead ones, joining what is left.

Invariant: a stream is moved and its blob's row updated in one transaction, byte for byte, so its CRC-32 and digest stay
what they were; a segment goes only in a transaction that has seen that no row points into it. Works on the tables
``blobs`` and ``segments`` of `cas.blobs`, in steps that bound how long writers wait. It must not know manifests.
"""

from __future__ import annotations

import dataclasses
from array import array
from typing import TYPE_CHECKING, Final

import msgspec

from cas import blobs
from cas.errors import IntegrityError
from cas.lmdbenv import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Set as AbstractSet

    from cas.blobs import Blob
    from cas.lmdbenv import ReadTransaction, WriteTransaction

# Parts of a large blob dropped in one transaction; each frees about a thousand pages.
_PARTS_PER_TRANSACTION: Final = 16
_NUMBER_BYTES: Final = 8


@dataclasses.dataclass(slots=True)
class Usage:
    """How much of each segment lives, in one snapshot: bytes by segment number, counted from the first one there."""

    first: int
    total_bytes: array[int]
    live_bytes: array[int]
    uploads: frozenset[int]

    def dead(self) -> Iterator[int]:
        """Yield segments that hold no blob and are not being uploaded."""
        for index, total in enumerate(self.total_bytes):
            if total and not self.live_bytes[index] and self.first + index not in self.uploads:
                yield self.first + index

    def sparse(self, dead_share: float) -> Iterator[int]:
        """Yield segments that hold some blobs, and at least this share of dead bytes."""
        for index, live in enumerate(self.live_bytes):
            total = self.total_bytes[index]
            if live and total - live > 0 and total - live >= dead_share * total:
                yield self.first + index

    def size_of(self, segment: int) -> int:
        """Return the bytes of a segment."""
        return self.total_bytes[segment - self.first]

    def live_in(self, segment: int) -> int:
        """Return the bytes of a segment that belong to blobs."""
        return self.live_bytes[segment - self.first]


def usage(transaction: ReadTransaction, gone: AbstractSet[bytes] = frozenset()) -> Usage:
    """Return what lives, from one snapshot; about 1 µs a blob and 16 bytes a segment.

    Args:
        transaction: The snapshot.
        gone: Digests to leave out, as if their blobs had been removed.

    Raises:
        IntegrityError: The row of a blob is damaged; where its stream lies is not known, so nothing may be dropped.
    """
    first_key = next(transaction.scan_keys(Table.SEGMENTS), None)
    last_key = transaction.last_key(Table.SEGMENTS)
    if first_key is None or last_key is None:
        return Usage(0, array("Q"), array("Q"), frozenset())
    first = _number(first_key)
    count = _number(last_key) - first + 1
    total, live = (array("Q", bytes(8 * count)) for _ in range(2))
    for key in transaction.scan_keys(Table.SEGMENTS):
        # An empty part counts one byte, so that its segment can be told from one that is not there.
        total[_number(key) - first] += max(len(transaction.view(Table.SEGMENTS, key) or b""), 1)
    for blob in blobs.iter_blobs(transaction):
        if 0 <= blob.segment - first < count and blob.digest not in gone:
            live[blob.segment - first] += max(blob.stored_bytes, 1)
    return Usage(first, total, live, frozenset(blobs.iter_uploads(transaction)))


def _number(key: bytes) -> int:
    return int.from_bytes(key[:_NUMBER_BYTES], "big")


def drop_parts(transaction: WriteTransaction, segment: int) -> tuple[int, bool]:
    """Remove some parts of a dead segment, the last ones first.

    The caller is the only garbage collector, and found the segment dead in a snapshot: a segment that was written and
    holds no blob never gets one, as rows are only written together with a new segment or at the end of an upload.

    Returns:
        The bytes removed, and whether there are more.
    """
    keys = list(transaction.scan_keys(Table.SEGMENTS, segment.to_bytes(_NUMBER_BYTES, "big")))
    chosen = keys[-_PARTS_PER_TRANSACTION:]
    freed = sum(len(transaction.view(Table.SEGMENTS, key) or b"") for key in chosen)
    for key in chosen:
        transaction.delete(Table.SEGMENTS, key)
    return freed, len(chosen) < len(keys)


def drop_small(transaction: WriteTransaction, segments: Iterable[int]) -> int:
    """Remove dead segments of one part each; return the bytes."""
    freed = 0
    for segment in segments:
        key = blobs.segment_key(segment, 0)
        freed += len(transaction.view(Table.SEGMENTS, key) or b"")
        transaction.delete(Table.SEGMENTS, key)
    return freed


def digests_in(transaction: ReadTransaction, segments: set[int]) -> dict[int, list[bytes]]:
    """Return the digests of the blobs that lie in given segments."""
    found: dict[int, list[bytes]] = {segment: [] for segment in segments}
    for blob in blobs.iter_blobs(transaction):
        if blob.segment in found:
            found[blob.segment].append(blob.digest)
    return found


def join(transaction: WriteTransaction, old: dict[int, list[bytes]]) -> int:
    """Move the live streams of some segments into one new segment, and remove the old ones.

    A segment one of whose streams is cut short stays as it is: what is damaged is not made to look orderly.

    Returns:
        How many bytes fewer are stored.
    """
    new_segment = blobs.next_segment(transaction)
    streams: list[bytes] = []
    offset = freed = 0
    for segment, digests in old.items():
        moved = _live_streams(transaction, segment, digests)
        key = blobs.segment_key(segment, 0)
        old_value = transaction.view(Table.SEGMENTS, key)
        # With none of its blobs in place, the number may have been given to another segment meanwhile.
        if not moved or old_value is None:
            continue
        freed += len(old_value) - sum(len(stream) for _, stream in moved)
        for blob, stream in moved:
            row = msgspec.structs.replace(blob, segment=new_segment, offset=offset)
            transaction.put(Table.BLOBS, blob.digest, blobs.encode(row))
            streams.append(stream)
            offset += len(stream)
        transaction.delete(Table.SEGMENTS, key)
    if streams:
        transaction.append(Table.SEGMENTS, blobs.segment_key(new_segment, 0), b"".join(streams))
    return freed


def _live_streams(
    transaction: ReadTransaction, segment: int, digests: Iterable[bytes]
) -> list[tuple[Blob, bytes]] | None:
    moved: list[tuple[Blob, bytes]] = []
    for digest in digests:
        blob = blobs.find(transaction, digest)
        if blob is None or blob.segment != segment:
            continue
        try:
            moved.append((blob, b"".join(blobs.iter_stream(transaction, blob))))
        except IntegrityError:
            return None
    return moved

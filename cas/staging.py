"""Staging: a large stream on its way in, written part by part before the commit that it belongs to.

Invariant: what is staged is no blob until a commit places a row over it, in the transaction that ends the upload; what
a killed writer left is found through the rows ``upload:`` of the table ``meta``.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from cas import blobs
from cas.lmdbenv import Table

if TYPE_CHECKING:
    from cas.lmdbenv import Environment

_TOKEN_BYTES: Final = 8


class Stage:
    """A large stream going in over several transactions, under a segment number of its own.

    What is staged is invisible until a commit places a blob row over it; left-overs of a killed writer are found by
    the garbage collector through the rows ``upload:`` of the meta table. Owned by one thread.

    Attributes:
        mark: What the row ``upload:`` holds: the process, and a token, as a segment's number is given again.
    """

    def __init__(self, environment: Environment, owner: bytes) -> None:
        self._environment = environment
        self.mark = owner + blobs.TOKEN_SIGN + secrets.token_hex(_TOKEN_BYTES).encode()
        self._buffer: list[bytes] = []
        self._buffered_bytes = 0
        self.segment: int | None = None
        self.part_count = 0
        self.stored_bytes = 0

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the stream; whole parts are written at once, durably."""
        self._buffer.append(piece)
        self._buffered_bytes += len(piece)
        if self._buffered_bytes < blobs.PART_BYTES:
            return
        joined = memoryview(b"".join(self._buffer))
        end = len(joined) // blobs.PART_BYTES * blobs.PART_BYTES
        for start in range(0, end, blobs.PART_BYTES):
            self._write(joined[start : start + blobs.PART_BYTES])
        self._buffer = [bytes(joined[end:])]
        self._buffered_bytes = len(joined) - end

    def finish(self) -> None:
        """Write what is left of the stream."""
        if self._buffered_bytes or self.segment is None:
            self._write(memoryview(b"".join(self._buffer)))
        self._buffer = []
        self._buffered_bytes = 0

    def _write(self, part: memoryview) -> None:
        with self._environment.write(reserve_bytes=len(part)) as transaction:
            if self.segment is None:
                self.segment = blobs.next_segment(transaction)
                transaction.put(Table.META, blobs.upload_key(self.segment), self.mark)
            elif transaction.get(Table.META, blobs.upload_key(self.segment)) != self.mark:
                raise blobs.upload_lost(self.segment)
            transaction.put(Table.SEGMENTS, blobs.segment_key(self.segment, self.part_count), part)
        self.part_count += 1
        self.stored_bytes += len(part)

    def discard(self) -> None:
        """Remove what was staged; for a run that is refused after all."""
        if self.segment is None:
            return
        with self._environment.write() as transaction:
            blobs.settle_upload(transaction, self.segment, self.mark, keep=False)
        self.segment = None

"""Pack-ready streams: the zlib stream that a git pack holds, made once and copied ever after.

Invariant: what is stored inflates to exactly the recorded number of bytes, and nothing here holds more than one chunk
of a streamed blob. This module knows nothing of LMDB, files or git objects.

ISA-L level 1 is 3.5 times as fast as zlib level 1 and 7 % smaller on backtest data (docs/decisions.md, D3).
"""

from __future__ import annotations

# isal ships stubs that leave its buffers untyped; nothing of it leaves this module.
# pyright: reportUnknownMemberType=false
import struct
import sys
import zlib
from typing import TYPE_CHECKING, Final, Protocol, cast

from isal import isal_zlib

from cas.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Buffer = bytes | bytearray | memoryview

# The stub of isal calls its error an Exception object; it is the class.
_STREAM_ERRORS: Final = cast("tuple[type[Exception], ...]", (isal_zlib.error, zlib.error))
DEFLATE_LEVEL: Final = 1
STORED_BYTES: Final = 0xFFFF
_STORED_BLOCK: Final = struct.Struct("<3sHH")  # zlib, fastest; final stored block: length, and its complement
CHUNK_BYTES: Final = (
    1024 * 1024
)  # large enough to amortise calls, small enough to stay in the L2 cache's reach


class _Crc32(Protocol):
    def __call__(self, data: Buffer, value: int = 0, /) -> int:
        """Return the CRC-32 (ISO 3309, as git packs use) of ``data`` continued from ``value``."""
        ...


crc32 = cast("_Crc32", isal_zlib.crc32)  # not wrapped: a commit calls it some fifty times


def deflate(data: Buffer) -> bytes:
    """Return ``data`` as one zlib stream (RFC 1950)."""
    return isal_zlib.compress(data, DEFLATE_LEVEL)


def stored_head(size_bytes: int) -> bytes:
    """Return what stands before content in a zlib stream that does not compress: one stored block.

    Trees and tags are little more than ids, which do not compress; this takes a tenth of the time of `deflate`.

    Raises:
        ValueError: More than a stored block can hold.
    """
    if size_bytes > STORED_BYTES:
        raise ValueError(f"a stored block holds {STORED_BYTES} bytes, not {size_bytes}")
    return _STORED_BLOCK.pack(b"\x78\x01\x01", size_bytes, size_bytes ^ STORED_BYTES)


def stored_tail(data: bytes) -> bytes:
    """Return content as it stands in a zlib stream that does not compress, behind its `stored_head`."""
    return data + isal_zlib.adler32(data).to_bytes(4, "big")


def inflate(stream: Buffer, size_bytes: int) -> bytes:
    """Return the content of a whole zlib stream.

    Args:
        stream: One complete zlib stream and nothing else.
        size_bytes: The recorded size of the content; inflation stops one byte past it.

    Raises:
        IntegrityError: The stream is damaged or does not hold exactly ``size_bytes``.
    """
    # max_length 0 would mean "no limit", and one byte more than recorded is what proves a stream too long.
    engine = isal_zlib.decompressobj()
    try:
        data = engine.decompress(stream, min(size_bytes + 1, sys.maxsize))  # a damaged size may be any number
    except _STREAM_ERRORS as error:
        raise IntegrityError("a stored stream is not a valid zlib stream") from error
    if len(data) != size_bytes or not engine.eof or engine.unused_data:
        raise IntegrityError(f"a stored stream does not hold the recorded {size_bytes} bytes")
    return data


class Deflater:
    """One zlib stream made piece by piece; owned by one thread."""

    def __init__(self) -> None:
        self._engine = isal_zlib.compressobj(DEFLATE_LEVEL)

    def feed(self, data: Buffer) -> bytes:
        """Return the part of the stream that ``data`` completed; may be empty."""
        return self._engine.compress(data)

    def finish(self) -> bytes:
        """Return the rest of the stream; the object is used up."""
        return self._engine.flush()


def iter_inflated(parts: Iterable[Buffer], size_bytes: int) -> Iterator[bytes]:
    """Yield the content of a zlib stream given in parts, at most about one chunk at a time.

    Args:
        parts: The stream's bytes in order; each part is used before the next is asked for.
        size_bytes: The recorded size of the whole content.

    Raises:
        IntegrityError: As for `inflate`; everything yielded before it must be thrown away.
    """
    engine = isal_zlib.decompressobj()
    seen_bytes = 0
    for part in parts:
        pending: Buffer = part
        drained = False
        while not drained:
            if engine.eof:
                raise IntegrityError("a stored stream is followed by stray bytes")
            try:
                chunk = engine.decompress(pending, CHUNK_BYTES)
            except _STREAM_ERRORS as error:
                raise IntegrityError("a stored stream is not a valid zlib stream") from error
            pending = engine.unconsumed_tail
            # A full chunk may leave more output inside the engine although all input is consumed.
            drained = not pending and (engine.eof or len(chunk) < CHUNK_BYTES)
            seen_bytes += len(chunk)
            if seen_bytes > size_bytes:
                raise IntegrityError(f"a stored stream holds more than the recorded {size_bytes} bytes")
            if chunk:
                yield chunk
    if not engine.eof or engine.unused_data or seen_bytes != size_bytes:
        raise IntegrityError(f"a stored stream does not hold the recorded {size_bytes} bytes")

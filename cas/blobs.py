"""Blobs: content by digest, kept as the very stream a git pack holds.

Invariant: a blob row exists only together with all bytes of its stream, in the same transaction; content handed out
matches its digest. Owner of the tables ``blobs`` (digest → where and what) and ``segments`` (the streams). The new
streams of one commit are joined into one segment, or a few when they are long: one allocation per commit instead of one
per file (docs/decisions.md, D4). A large blob's stream is cut into the parts of a segment of its own.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from cas import tombstones
from cas.codec import crc32, inflate, iter_inflated
from cas.digest import Digester, digest_bytes
from cas.errors import IntegrityError, StorageError
from cas.lmdbenv import Table
from cas.objects import ObjectHasher, pack_entry_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cas.lmdbenv import Environment, ReadTransaction, WriteTransaction
    from cas.manifest import FileEntry

# A part is dirty in memory twice while it is written; a few MB keep that small.
PART_BYTES: Final = 4 * 1024 * 1024
# LMDB's values end at 4 GiB, and joining streams takes their size in memory once more.
MOST_JOINED_BYTES: Final = 64 * 1024 * 1024
RULESET_BYTES: Final = 8
SHA1_BYTES: Final = 20
NOT_SCANNED: Final = bytes(RULESET_BYTES)
# In place of a rule set: the bytes are known to be damaged, and the next identical content takes their place.
QUARANTINED: Final = b"\xff" * RULESET_BYTES
# segment, offset in it, parts (1 unless large), stored bytes, content bytes, CRC-32 of the pack entry, rule set
_ROW: Final = struct.Struct(">QIIQQI8s")
_SEGMENT_KEY: Final = struct.Struct(">QI")
_SEGMENT_NUMBER_BYTES: Final = 8


class Blob(msgspec.Struct, frozen=True, gc=False):
    """What the store knows of one blob; `digest` is BLAKE3, `oid` git's id in the store's object format."""

    digest: bytes
    oid: bytes
    size_bytes: int
    stored_bytes: int
    crc32: int
    segment: int
    offset: int
    part_count: int
    ruleset: bytes

    @property
    def is_quarantined(self) -> bool:
        """True when the stored bytes are known to be damaged."""
        return self.ruleset == QUARANTINED


class Stream(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a stream lies in its segment, its size in bytes, and the CRC-32 of its pack entry."""

    offset: int
    stored_bytes: int
    crc32: int


class Placed(NamedTuple):
    """The segment that one commit's new streams went into, its BLAKE3 digest, and the streams by digest of the blob."""

    segment: int
    segment_digest: bytes
    streams: dict[bytes, Stream]


class NewBlob(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A blob on its way in: its stream in memory, or staged as the parts of `staged_segment`."""

    digest: bytes
    oid: bytes
    size_bytes: int
    crc32: int
    ruleset: bytes
    stream: bytes
    staged_segment: int | None = None
    staged_bytes: int = 0
    part_count: int = 1
    staged_mark: bytes = b""


def find(transaction: ReadTransaction, digest: bytes) -> Blob | None:
    """Return the blob with that digest, or None."""
    row = transaction.view(Table.BLOBS, digest)
    return None if row is None else _decode(digest, row)


def find_sound(transaction: ReadTransaction, digest: bytes) -> Blob | None:
    """Return the blob with that digest; None when it is missing, quarantined, or its row is damaged."""
    try:
        blob = find(transaction, digest)
    except IntegrityError:
        return None
    return None if blob is None or blob.is_quarantined else blob


def require(transaction: ReadTransaction, digest: bytes) -> Blob:
    """Return the blob with that digest.

    Raises:
        IntegrityError: It is missing, which no manifest allows; of kind ``purged`` when it was purged.
    """
    blob = find(transaction, digest)
    if blob is None:
        if tombstones.exists(transaction, digest):
            raise tombstones.purged_error(digest)
        raise IntegrityError(
            f"blob {digest.hex()[:12]} is missing",
            subject=digest.hex(),
            hint="Run `cas verify --full` to see which runs are affected.",
        )
    return blob


def _decode(digest: bytes, row: memoryview | bytes) -> Blob:
    if len(row) <= _ROW.size:
        raise IntegrityError(f"the row of blob {digest.hex()[:12]} is damaged", subject=digest.hex())
    segment, offset, part_count, stored_bytes, size_bytes, crc, ruleset = _ROW.unpack_from(row)
    return Blob(
        digest=digest,
        oid=bytes(row[_ROW.size :]),
        size_bytes=size_bytes,
        stored_bytes=stored_bytes,
        crc32=crc,
        segment=segment,
        offset=offset,
        part_count=part_count,
        ruleset=ruleset,
    )


def encode(blob: Blob) -> bytes:
    """Return the row of a blob as stored under its digest."""
    return (
        _ROW.pack(
            blob.segment,
            blob.offset,
            blob.part_count,
            blob.stored_bytes,
            blob.size_bytes,
            blob.crc32,
            blob.ruleset,
        )
        + blob.oid
    )


def add(transaction: WriteTransaction, new_blobs: Sequence[NewBlob]) -> Placed | None:
    """Store the blobs that are not there yet; streams held in memory share a segment row, or a few when they are long.

    A quarantined blob counts as not there: the new bytes take its place.

    Returns:
        Where the streams held in memory lie; None when there were none, or too many for one segment.

    Raises:
        PurgedContentError: The content of one was purged before.
    """
    purged = tombstones.find_purged(transaction, (new.digest for new in new_blobs))
    if purged is not None:
        tombstones.refuse(transaction, purged, purged.hex())
    streams: list[bytes] = []
    placed: dict[bytes, Stream] = {}
    offset = 0
    first = segment = next_segment(transaction)
    for new in new_blobs:
        known = find_sound(transaction, new.digest) is not None
        if new.staged_segment is not None:
            going_on = settle_upload(transaction, new.staged_segment, new.staged_mark, keep=not known)
            if not going_on and not known:
                raise upload_lost(new.staged_segment)
        if known:
            continue
        if new.staged_segment is None:
            stored_bytes = len(new.stream)
            if streams and offset + stored_bytes > MOST_JOINED_BYTES:
                transaction.append(Table.SEGMENTS, segment_key(segment, 0), b"".join(streams))
                segment, offset, streams = segment + 1, 0, []
            place = (segment, offset, 1)
            streams.append(new.stream)
            placed[new.digest] = Stream(offset, stored_bytes, new.crc32)
            offset += stored_bytes
        else:
            stored_bytes = new.staged_bytes
            place = (new.staged_segment, 0, new.part_count)
        row = _ROW.pack(*place, stored_bytes, new.size_bytes, new.crc32, new.ruleset) + new.oid
        transaction.put(Table.BLOBS, new.digest, row)
    if not streams:
        return None
    joined = b"".join(streams)
    transaction.append(Table.SEGMENTS, segment_key(segment, 0), joined)
    return Placed(segment, digest_bytes(joined), placed) if segment == first else None


def at(segment: int, stream: Stream, file: FileEntry) -> Blob:
    """Return the blob of a file whose stream is known to lie there; what its row tells besides is left open."""
    return Blob(
        file.digest,
        file.oid,
        file.size_bytes,
        stream.stored_bytes,
        stream.crc32,
        segment,
        stream.offset,
        1,
        NOT_SCANNED,
    )


def has_segment(transaction: ReadTransaction, segment: int) -> bool:
    """Tell whether there is a segment of that number."""
    return transaction.has(Table.SEGMENTS, segment_key(segment, 0))


def next_segment(transaction: ReadTransaction) -> int:
    """Return the number of the segment to write next: one more than the greatest there is.

    A number comes back when the last segment is removed, so that whoever kept one from an earlier transaction must not
    take the segment there for its own.
    """
    last = transaction.last_key(Table.SEGMENTS)
    return 1 if last is None else int(_SEGMENT_KEY.unpack(last)[0]) + 1


def segment_key(segment: int, part: int) -> bytes:
    """Return the key of one part of a segment."""
    return _SEGMENT_KEY.pack(segment, part)


def iter_stream(transaction: ReadTransaction, blob: Blob) -> Iterator[memoryview]:
    """Yield the stored stream in order, without copying; the views die with the transaction.

    Raises:
        IntegrityError: A part is missing or shorter than recorded.
    """
    left_bytes = blob.stored_bytes
    for part in range(blob.part_count):
        row = transaction.view(Table.SEGMENTS, segment_key(blob.segment, part))
        start = blob.offset if part == 0 else 0
        view = None if row is None else row[start : start + left_bytes]
        if view is None or (part == blob.part_count - 1 and len(view) != left_bytes):
            raise IntegrityError(
                f"the stream of blob {blob.digest.hex()[:12]} is cut short", subject=blob.digest.hex()
            )
        left_bytes -= len(view)
        yield view


def view_segment(transaction: ReadTransaction, segment: int) -> memoryview | None:
    """Return the bytes of a segment, or None when there is none of that number; the view dies with the transaction."""
    return transaction.view(Table.SEGMENTS, segment_key(segment, 0))


def iter_whole_streams(
    transaction: ReadTransaction, wanted: Iterable[Blob]
) -> Iterator[tuple[Blob, memoryview]]:
    """Yield blobs of one part with their stored streams; a segment is looked up once for neighbours that share it.

    Rows read from an earlier snapshot are used as they are where the stream they lead to has its CRC-32, and looked up
    anew where not: the garbage collector may have moved it. The views die with the transaction.

    Raises:
        IntegrityError: A stream is missing or damaged, or the row that was looked up has another oid or size.
    """
    segment, row = -1, None
    for blob in wanted:
        if blob.segment != segment:
            segment = blob.segment
            row = transaction.view(Table.SEGMENTS, segment_key(segment, 0))
        view = None if row is None else row[blob.offset : blob.offset + blob.stored_bytes]
        if view is not None and crc32(view, crc32(pack_entry_header("blob", blob.size_bytes))) == blob.crc32:
            yield blob, view
            continue
        moved = require(transaction, blob.digest)
        if (moved.oid, moved.size_bytes) != (blob.oid, blob.size_bytes):
            raise damaged(moved)
        view = next(iter_stream(transaction, moved))
        if crc32(view, crc32(pack_entry_header("blob", moved.size_bytes))) != moved.crc32:
            raise damaged(moved)
        yield moved, view


def read(transaction: ReadTransaction, blob: Blob) -> bytes:
    """Return the whole content, checked against its digest.

    Raises:
        IntegrityError: The stored bytes are damaged; nothing is returned.
    """
    parts = list(iter_stream(transaction, blob))
    stream = parts[0] if len(parts) == 1 else b"".join(parts)
    data = _named_damage(blob, stream)
    if digest_bytes(data) != blob.digest:
        raise damaged(blob)
    return data


def _named_damage(blob: Blob, stream: memoryview | bytes) -> bytes:
    try:
        return inflate(stream, blob.size_bytes)
    except IntegrityError as error:
        raise damaged(blob) from error


def damaged(blob: Blob) -> IntegrityError:
    """Return the error for a blob whose bytes do not match its digest."""
    return IntegrityError(
        f"blob {blob.digest.hex()[:12]} does not match its digest",
        subject=blob.digest.hex(),
        hint="Run `cas verify --full` to see which runs are affected and how to heal them.",
    )


def iter_content(environment: Environment, blob: Blob) -> Iterator[bytes]:
    """Yield the content in chunks with one short read transaction per part; the last step checks the digest.

    What was yielded counts only once the iterator has ended without an error.

    Raises:
        IntegrityError: The stored bytes are damaged; of kind ``purged`` when they were purged meanwhile.
    """
    digester = Digester()
    try:
        for chunk in iter_inflated(iter_parts(environment, blob), blob.size_bytes):
            digester.update(chunk)
            yield chunk
    except IntegrityError as error:
        if error.kind == "purged":
            raise
        raise damaged(blob) from error
    if digester.digest() != blob.digest:
        raise damaged(blob)


def iter_parts(environment: Environment, blob: Blob) -> Iterator[bytes]:
    """Yield the stored stream part by part, each from a snapshot of its own: a large blob holds none for long.

    Raises:
        IntegrityError: A part is missing; of kind ``purged`` when the blob was purged meanwhile.
    """
    for part in range(blob.part_count):
        with environment.read() as transaction:
            # Looked up again: the garbage collector may have moved the stream since.
            placed = find(transaction, blob.digest) or blob
            row = transaction.view(Table.SEGMENTS, segment_key(placed.segment, part))
            if row is None or (part > 0 and placed.segment != blob.segment):
                gone = tombstones.exists(transaction, blob.digest)
                raise tombstones.purged_error(blob.digest) if gone else damaged(blob)
            end = placed.offset + placed.stored_bytes
            piece = bytes(row[placed.offset : end] if blob.part_count == 1 else row)
        if blob.part_count > 1:
            environment.release_pages()  # or every part read so far would count as this process's memory
        yield piece


def remember_scan(transaction: WriteTransaction, digest: bytes, ruleset: bytes) -> bool:
    """Note that a blob was scanned clean; one that is gone or damaged meanwhile is left alone, which is told."""
    blob = find_sound(transaction, digest)
    if blob is None:
        return False
    transaction.put(Table.BLOBS, digest, encode(msgspec.structs.replace(blob, ruleset=ruleset)))
    return True


def erase(transaction: WriteTransaction, blob: Blob) -> None:
    """Remove a blob and overwrite its stream, so that no live page holds it; what else is in its segment stays.

    A gap of zeroes is left where other blobs share the segment, for the garbage collector to close. Pages that the
    change frees keep their old bytes until they are used again or the file is compacted.
    """
    for part in range(blob.part_count):
        key = segment_key(blob.segment, part)
        row = transaction.view(Table.SEGMENTS, key)
        if row is None:
            continue
        size_bytes = len(row)
        if blob.part_count > 1 or (blob.offset == 0 and blob.stored_bytes >= size_bytes):
            transaction.delete(Table.SEGMENTS, key)
            continue
        transaction.reserve(size_bytes)
        end = blob.offset + blob.stored_bytes
        kept = b"".join((row[: blob.offset], bytes(blob.stored_bytes), row[end:]))
        transaction.put(Table.SEGMENTS, key, kept[:size_bytes])
    transaction.delete(Table.BLOBS, blob.digest)


def iter_blobs(transaction: ReadTransaction) -> Iterator[Blob]:
    """Yield every blob in digest order."""
    for digest, row in transaction.scan(Table.BLOBS):
        yield _decode(digest, row)


def entry_crc32(header: bytes, stream: bytes | memoryview) -> int:
    """Return the CRC-32 of a pack entry, header and stream, as a pack index holds it."""
    return crc32(stream, crc32(header))


_UPLOAD_PREFIX: Final = b"upload:"
TOKEN_SIGN: Final = b" #"


def upload_key(segment: int) -> bytes:
    """Return the meta key that marks a segment as being uploaded."""
    return _UPLOAD_PREFIX + segment.to_bytes(8, "big")


def settle_upload(transaction: WriteTransaction, segment: int, mark: bytes, *, keep: bool) -> bool:
    """End an upload: its parts belong to a blob from now on, or are removed.

    One that has ended is left alone, and so is another one that was given the number of its segment since.

    Returns:
        Whether it was going on until now.
    """
    if transaction.get(Table.META, upload_key(segment)) != mark:
        return False
    transaction.delete(Table.META, upload_key(segment))
    if keep:
        return True
    for key in list(transaction.scan_keys(Table.SEGMENTS, segment_key(segment, 0)[:_SEGMENT_NUMBER_BYTES])):
        transaction.delete(Table.SEGMENTS, key)
    return True


def upload_lost(segment: int) -> StorageError:
    """Return the error for an upload whose mark is gone: its parts may be gone, or another's by now."""
    return StorageError(
        f"the upload of segment {segment} was removed while it was going on",
        retryable=True,
        hint="Repeat the call; nothing of the run was stored.",
    )


def iter_uploads(transaction: ReadTransaction) -> Iterator[int]:
    """Return the segments that are being uploaded, or were when their writer died."""
    return (segment for segment, _ in iter_upload_marks(transaction))


def iter_upload_marks(transaction: ReadTransaction) -> Iterator[tuple[int, bytes]]:
    """Yield the segments that are being uploaded, or were, and the mark of each upload."""
    for key, mark in transaction.scan(Table.META, _UPLOAD_PREFIX):
        yield int.from_bytes(key[len(_UPLOAD_PREFIX) :], "big"), mark


def uploader(mark: bytes) -> bytes:
    """Return the process's part of an upload's mark (`cas.processmark`)."""
    return mark.partition(TOKEN_SIGN)[0]


def iter_segments(transaction: ReadTransaction) -> Iterator[int]:
    """Return every segment number once, in order."""
    numbers = (int(_SEGMENT_KEY.unpack(key)[0]) for key in transaction.scan_keys(Table.SEGMENTS))
    return (segment for segment, _ in itertools.groupby(numbers))


def object_hasher(blob: Blob) -> ObjectHasher:
    """Return the hasher that gives the blob's oid once all its content was fed."""
    return ObjectHasher("blob", blob.size_bytes, "sha1" if len(blob.oid) == SHA1_BYTES else "sha256")


def check_entry(transaction: ReadTransaction, blob: Blob) -> None:
    """Compare a blob's stored stream with the recorded CRC-32 of its pack entry, without inflating it.

    Raises:
        IntegrityError: It differs.
    """
    crc = crc32(pack_entry_header("blob", blob.size_bytes))
    for part in iter_stream(transaction, blob):
        crc = crc32(part, crc)
    if crc != blob.crc32:
        raise damaged(blob)

"""Copying stored blobs into a pack: streams as they are.

Invariant: a blob is in the pack only if its stream has the CRC-32 taken at ingest. One in a segment that has the digest
its commit noted needs no more (docs/decisions.md, D28); comparing the content of other small ones with their digests is
`blobcheck.py`'s work, that of large ones is done here, part by part. Snapshots of the store are
held for a few milliseconds at a time, so that writers can reuse pages; memory is bounded by one group of streams. This
module must not know of refs or plans.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, Literal

from cas import blobs
from cas.digest import digest_bytes
from cas.objects import pack_entry_header
from gitexport.blobcheck import grouped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cas.blobs import Blob
    from cas.lmdbenv import Environment, ReadTransaction
    from gitexport.pack import PackEntry, PackWriter

# How sure to be of a blob: always by its own digest (`full`); by the one that its deposit gives for the segment, and
# without a deposit by its own (`deposit`), or by CRC-32 alone (`crc`).
CheckLevel = Literal["full", "deposit", "crc"]

# One snapshot lives as long as this many stored bytes take to copy: about 10 ms.
_SNAPSHOT_BYTES: Final = 8 * 1024 * 1024
# Rows lie anywhere in the file, and the kernel maps 64 KiB around each one read: so many may count as 32 MB of this
# process's memory, in a store of any size, until the pages are given back.
ROWS_PER_RELEASE: Final = 500


def copy_blobs(
    environment: Environment,
    pack: PackWriter,
    wanted: Sequence[Blob],
    deposited: Mapping[str, bytes],
    *,
    check: CheckLevel,
) -> list[Blob]:
    """Append blobs to a pack.

    Args:
        environment: The open store.
        pack: Takes them; it is discarded when this raises.
        wanted: Rows of the blobs, whose oids the caller has compared with the manifests; best in stored order.
        deposited: By hex oid, the digest of the segment that a blob's commit put it into, where that is known.
        check: Unless it is ``crc``, the content of large ones is compared with their digests.

    Returns:
        The blobs of one part whose streams have shown their CRC-32 alone; the others lie in a segment that is, by its
        digest, the one that was committed.

    Raises:
        IntegrityError: A blob is missing or damaged; ``subject`` is its digest or its oid.
        StorageError: The disk refused.
    """
    unproved: list[Blob] = []
    small = (blob for blob in wanted if blob.part_count == 1)
    for group in grouped(small, _SNAPSHOT_BYTES, ROWS_PER_RELEASE):
        with environment.read() as transaction:
            pack.add_entries(_entries(transaction, group, deposited, unproved))
        environment.release_pages()  # content that does not compress would fill the memory with one batch
    for blob in wanted:
        if blob.part_count > 1:
            _copy_large(environment, pack, blob, check)
    return unproved


def _entries(
    transaction: ReadTransaction, wanted: Iterable[Blob], deposited: Mapping[str, bytes], unproved: list[Blob]
) -> Iterator[PackEntry]:
    """Yield the pack entries of blobs; those whose segment has not shown its digest go to ``unproved`` as well."""

    def place(blob: Blob) -> tuple[int, bytes | None]:
        return blob.segment, deposited.get(blob.oid.hex())

    for (segment, digest), members in itertools.groupby(wanted, place):
        left: list[Blob] = list(members)
        row = None if digest is None else blobs.view_segment(transaction, segment)
        if row is not None and digest_bytes(row) == digest:
            found, left = left, []
            for blob in found:
                header = pack_entry_header("blob", blob.size_bytes)
                stream = row[blob.offset : blob.offset + blob.stored_bytes]
                if blobs.entry_crc32(header, stream) == blob.crc32:
                    yield blob.oid, blob.crc32, header, stream
                else:  # it does not lie where the deposit says
                    left.append(blob)
        for blob, stream in blobs.iter_whole_streams(transaction, left):
            unproved.append(blob)
            yield blob.oid, blob.crc32, pack_entry_header("blob", blob.size_bytes), stream


def _copy_large(environment: Environment, pack: PackWriter, blob: Blob, check: CheckLevel) -> None:
    if check != "crc":
        for _ in blobs.iter_content(environment, blob):
            continue  # the iterator compares the digest as it ends
    pack.add("blob", blob.oid, blob.size_bytes, blobs.iter_parts(environment, blob), blob.crc32)

"""Copying stored blobs into a pack: streams as they are.

Invariant: a blob is in the pack only if its stream has the CRC-32 taken at ingest; comparing the content of small ones
with their digests is `blobcheck.py`'s work, that of large ones is done here, part by part. Snapshots of the store are
held for a few milliseconds at a time, so that writers can reuse pages; memory is bounded by one group of streams. This
module must not know of refs or plans.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from cas import blobs
from cas.objects import pack_entry_header
from gitexport.blobcheck import grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas.blobs import Blob
    from cas.lmdbenv import Environment
    from gitexport.pack import PackWriter

CheckLevel = Literal["full", "crc"]

# One snapshot lives as long as this many stored bytes take to copy: about 10 ms.
_SNAPSHOT_BYTES: Final = 8 * 1024 * 1024
# Rows lie anywhere in the file, and the kernel maps 64 KiB around each one read: so many may count as 32 MB of this
# process's memory, in a store of any size, until the pages are given back.
ROWS_PER_RELEASE: Final = 500


def copy_blobs(
    environment: Environment, pack: PackWriter, wanted: Sequence[Blob], *, check: CheckLevel
) -> None:
    """Append blobs to a pack.

    Args:
        environment: The open store.
        pack: Takes them; it is discarded when this raises.
        wanted: Rows of the blobs, whose oids the caller has compared with the manifests.
        check: ``full`` compares the content of large ones with their digests, ``crc`` all streams with their CRC-32
            alone.

    Raises:
        IntegrityError: A blob is missing or damaged; ``subject`` is its digest or its oid.
        StorageError: The disk refused.
    """
    small = (blob for blob in wanted if blob.part_count == 1)
    for group in grouped(small, _SNAPSHOT_BYTES, ROWS_PER_RELEASE):
        with environment.read() as transaction:
            for blob, stream in blobs.iter_whole_streams(transaction, group):
                pack.add_entry(blob.oid, blob.crc32, pack_entry_header("blob", blob.size_bytes), stream)
        environment.release_pages()  # content that does not compress would fill the memory with one batch
    for blob in wanted:
        if blob.part_count > 1:
            _copy_large(environment, pack, blob, check)


def _copy_large(environment: Environment, pack: PackWriter, blob: Blob, check: CheckLevel) -> None:
    if check == "full":
        for _ in blobs.iter_content(environment, blob):
            continue  # the iterator compares the digest as it ends
    pack.add("blob", blob.oid, blob.size_bytes, blobs.iter_parts(environment, blob), blob.crc32)

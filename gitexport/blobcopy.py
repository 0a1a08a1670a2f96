"""Copying stored blobs into a pack: streams as they are, their content compared with its digest on another thread.

Invariant: a blob is in the pack only if its stream has the CRC-32 taken at ingest and, unless that was lowered,
inflates to content with its digest. Snapshots of the store are held for a few milliseconds at a time, so that
writers can reuse pages; memory is bounded by one group of streams. This module must not know of refs or plans.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Literal

from cas import blobs
from cas.codec import inflate
from cas.digest import digest_bytes
from cas.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from cas.blobs import Blob
    from cas.lmdbenv import Environment, ReadTransaction
    from gitexport.pack import PackWriter

CheckLevel = Literal["full", "crc"]

# One snapshot lives as long as this many stored bytes take to check and copy: about 30 ms.
_SNAPSHOT_BYTES: Final = 8 * 1024 * 1024
# Rows lie anywhere in the file, and the kernel maps 64 KiB around each one read: so many may count as 32 MB of this
# process's memory, in a store of any size, until the pages are given back.
ROWS_PER_RELEASE: Final = 500
# Streams handed to a checking thread at once: enough that the hand-over, about 30 us, does not count.
_TASK_BYTES: Final = 256 * 1024
# Inflating and digesting run without the interpreter's lock, for about 40 us a blob: two threads get on while this one
# waits for them, and hardly while it works. More would take the processors from the programs whose runs these are.
_MAX_THREADS: Final = 2


def copy_blobs(
    environment: Environment, pack: PackWriter, wanted: Iterable[Blob], *, check: CheckLevel
) -> None:
    """Append blobs to a pack.

    Args:
        environment: The open store.
        pack: Takes them; it is discarded when this raises.
        wanted: Rows of the blobs, whose oids the caller has compared with the manifests.
        check: ``full`` compares content with digests, ``crc`` only streams with their CRC-32.

    Raises:
        IntegrityError: A blob is missing or damaged; ``subject`` is its digest or its oid.
        StorageError: The disk refused.
    """
    # Stored order is reading order.
    ordered = sorted(wanted, key=lambda blob: (blob.segment, blob.offset))
    small = [blob for blob in ordered if blob.part_count == 1]
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, "cas-check") as pool:
        for group in _grouped(small, _SNAPSHOT_BYTES):
            with environment.read() as transaction:
                _copy_group(transaction, pack, group, pool if check == "full" else None)
            environment.release_pages()  # content that does not compress would fill the memory with one batch
    for blob in ordered:
        if blob.part_count > 1:
            _copy_large(environment, pack, blob, check)


def _grouped(wanted: Sequence[Blob], limit_bytes: int) -> Iterator[list[Blob]]:
    group: list[Blob] = []
    size_bytes = 0
    for blob in wanted:
        group.append(blob)
        size_bytes += blob.stored_bytes
        if size_bytes >= limit_bytes or len(group) >= ROWS_PER_RELEASE:
            yield group
            group, size_bytes = [], 0
    if group:
        yield group


def _copy_group(
    transaction: ReadTransaction, pack: PackWriter, group: Sequence[Blob], pool: ThreadPoolExecutor | None
) -> None:
    # Found anew: the garbage collector may have moved a stream since its row was read.
    streams = [_stream(transaction, blob) for blob in group]
    checks: list[Future[None]] = []
    try:
        if pool is not None:
            checks = [pool.submit(_check_all, task) for task in _tasks(streams)]
        for blob, stream in streams:
            pack.add("blob", blob.oid, blob.size_bytes, [stream], blob.crc32)
        for check in checks:
            check.result()
    finally:
        # The streams are views into the store's memory, and die with the transaction.
        for check in checks:
            if not check.cancel():
                check.exception()


def _stream(transaction: ReadTransaction, blob: Blob) -> tuple[Blob, memoryview]:
    placed = blobs.placed(transaction, blob)
    return placed, next(blobs.iter_stream(transaction, placed))


def _tasks(streams: Sequence[tuple[Blob, memoryview]]) -> Iterator[list[tuple[Blob, memoryview]]]:
    task: list[tuple[Blob, memoryview]] = []
    size_bytes = 0
    for blob, stream in streams:
        task.append((blob, stream))
        size_bytes += blob.stored_bytes
        if size_bytes >= _TASK_BYTES:
            yield task
            task, size_bytes = [], 0
    if task:
        yield task


def _check_all(task: Sequence[tuple[Blob, memoryview]]) -> None:
    for blob, stream in task:
        try:
            content = inflate(stream, blob.size_bytes)
        except IntegrityError as error:
            raise blobs.damaged(blob) from error
        if digest_bytes(content) != blob.digest:
            raise blobs.damaged(blob)


def _copy_large(environment: Environment, pack: PackWriter, blob: Blob, check: CheckLevel) -> None:
    if check == "full":
        for _ in blobs.iter_content(environment, blob):
            continue  # the iterator compares the digest as it ends
    pack.add("blob", blob.oid, blob.size_bytes, blobs.iter_parts(environment, blob), blob.crc32)

"""Comparing stored blobs with their digests.

Invariant: when `check_blobs` returns, every blob inflated to content with its digest. Snapshots are short, so that
writers can reuse pages, and nothing of the content is kept. This module must not know of packs.

Inflating and digesting run without the interpreter's lock, for some 40 µs a blob. Two threads that do nothing else get
on well with each other. Beside a thread that runs Python code they hardly do: each blob asks for the lock twice, and
both sides lose more by waiting for it than is won (measured: 20 ms in an export of 1,000 runs). So this is a step of
its own, for which the caller leaves the processors alone (docs/decisions.md, D21).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from cas import blobs
from cas.codec import inflate
from cas.digest import digest_bytes
from cas.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cas.blobs import Blob
    from cas.lmdbenv import Environment

# One snapshot lives as long as this many stored bytes take: about 10 ms. Handing a task over costs about 30 µs.
_TASK_BYTES: Final = 1024 * 1024
_TASK_BLOBS: Final = 250
# More would take the processors from the programs whose runs these are.
_MAX_THREADS: Final = 2
# Until the pages are given back, what was read counts as this process's memory.
_TASKS_PER_RELEASE: Final = 8


def check_blobs(environment: Environment, wanted: Iterable[Blob]) -> None:
    """Compare the content of blobs of one part with their digests.

    Args:
        environment: The open store.
        wanted: Their rows, best in stored order.

    Raises:
        IntegrityError: A blob is missing or damaged; ``subject`` is its digest.
        StorageError: The disk refused.
    """
    tasks = list(grouped(wanted, _TASK_BYTES, _TASK_BLOBS))
    threads = min(_MAX_THREADS, os.cpu_count() or 1, len(tasks))
    if threads <= 1:
        for task in tasks:
            _check(environment, task)
        return
    with ThreadPoolExecutor(threads, "cas-check") as pool:
        running = [pool.submit(_check, environment, task) for task in tasks]
        try:
            for number, check in enumerate(running, 1):
                check.result()
                if number % _TASKS_PER_RELEASE == 0:
                    environment.release_pages()
        finally:
            pool.shutdown(cancel_futures=True)
    environment.release_pages()


def _check(environment: Environment, task: Sequence[Blob]) -> None:
    with environment.read() as transaction:
        for blob, stream in blobs.iter_whole_streams(transaction, task):
            try:
                content = inflate(stream, blob.size_bytes)
            except IntegrityError as error:
                raise blobs.damaged(blob) from error
            if digest_bytes(content) != blob.digest:
                raise blobs.damaged(blob)


def grouped(wanted: Iterable[Blob], limit_bytes: int, limit_count: int) -> Iterator[list[Blob]]:
    """Yield blobs in groups, each for one snapshot: of so many, or as many as reach so many stored bytes."""
    group: list[Blob] = []
    size_bytes = 0
    for blob in wanted:
        group.append(blob)
        size_bytes += blob.stored_bytes
        if size_bytes >= limit_bytes or len(group) >= limit_count:
            yield group
            group, size_bytes = [], 0
    if group:
        yield group

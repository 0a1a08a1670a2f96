"""Soundness: whether the stored bytes of blobs are what their rows say, looked at by several threads.

Invariant: a verdict rests on every byte: the CRC-32 of the pack entry, the digest and the oid of the content. Changes
nothing. A blob that goes or moves meanwhile gets no false verdict.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

from cas import blobs
from cas.errors import IntegrityError
from cas.lmdbenv import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from cas.lmdbenv import Environment

# Hashing and inflating let other threads run; beyond a few of them the rest of the interpreter is what is waited for.
MOST_THREADS: Final = 4
_DIGESTS_PER_SNAPSHOT: Final = 512
_DIGESTS_PER_TASK: Final = 16  # handing over a task costs about as much as judging a small blob
_TASKS_AHEAD: Final = 4


class Verdict(NamedTuple):
    """What was found of one blob: its digest, the bytes of content read, and what is wrong, None for nothing."""

    digest: bytes
    size_bytes: int
    fault: str | None


def default_threads() -> int:
    """Return how many threads judge blobs when nobody says."""
    return min(os.cpu_count() or 1, MOST_THREADS)


def judge(environment: Environment, digest: bytes) -> Verdict | None:
    """Read one blob against its row; None when it is not there any more.

    Raises:
        StorageError: The store could not be read, for one because too many were reading it.
    """
    try:
        with environment.read() as transaction:
            blob = blobs.find(transaction, digest)
            if blob is None:
                return None
            blobs.check_entry(transaction, blob)
        hasher = blobs.object_hasher(blob)
        for chunk in blobs.iter_content(environment, blob):
            hasher.update(chunk)
    except IntegrityError as error:  # any other says nothing of the blob
        with environment.read() as transaction:
            return Verdict(digest, 0, error.message) if transaction.has(Table.BLOBS, digest) else None
    fault = None if hasher.digest() == blob.oid else "the stored oid is not the content's"
    return Verdict(digest, blob.size_bytes, fault)


def judge_all(
    environment: Environment,
    *,
    picks: Callable[[], bool] = lambda: True,
    should_stop: Callable[[], bool] = lambda: False,
    threads: int | None = None,
) -> Iterator[Verdict]:
    """Yield a verdict on every blob, in digest order.

    Args:
        environment: The open store.
        picks: Asked for each blob whether it is to be looked at.
        should_stop: Asked between blobs, by any thread; when true, no further ones are looked at.
        threads: How many look at the same time.

    Raises:
        StorageError: The store could not be read; what was not looked at has no verdict.
    """
    count = threads or default_threads()
    digests = (digest for digest in _iter_digests(environment) if picks())
    if count == 1:
        yield from _judged(environment, itertools.takewhile(lambda _: not should_stop(), digests))
        return
    with ThreadPoolExecutor(count, thread_name_prefix="cas-verify") as pool:
        waiting: deque[Future[list[Verdict]]] = deque()
        try:
            while not should_stop() and (task := list(itertools.islice(digests, _DIGESTS_PER_TASK))):
                waiting.append(pool.submit(_judge_task, environment, task, should_stop))
                if len(waiting) >= count * _TASKS_AHEAD:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _judge_task(
    environment: Environment, digests: list[bytes], should_stop: Callable[[], bool]
) -> list[Verdict]:
    return list(_judged(environment, itertools.takewhile(lambda _: not should_stop(), digests)))


def _judged(environment: Environment, digests: Iterable[bytes]) -> Iterator[Verdict]:
    for digest in digests:
        verdict = judge(environment, digest)
        if verdict is not None:
            yield verdict


def _iter_digests(environment: Environment) -> Iterator[bytes]:
    """Yield every digest, with a snapshot for some at a time."""
    position = b""
    while True:
        with environment.read() as transaction:
            keys = transaction.scan_keys(Table.BLOBS, start=position)
            batch = list(itertools.islice(keys, _DIGESTS_PER_SNAPSHOT))
        yield from batch
        if len(batch) < _DIGESTS_PER_SNAPSHOT:
            return
        position = batch[-1] + b"\0"

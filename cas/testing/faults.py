"""Faults put around a store from outside: crashes, a full disk, a failing disk, damaged bytes.

Invariant: the product knows nothing of them. A fault is a wrapper around the one method through which all transactions
go, and is gone when its block ends. Nothing here may be used on a store that somebody needs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from typing import TYPE_CHECKING, Literal

from cas.lmdbenv import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from cas import ArtifactStore
    from cas.lmdbenv import WriteTransaction

When = Literal["before", "after"]


class SimulatedCrash(BaseException):
    """The process ended here. No handler of errors may catch it, so it is not an Exception."""


@dataclasses.dataclass(slots=True)
class Countdown:
    """How often a fault was passed by, and whether it struck."""

    left_count: int
    has_struck: bool = False

    def strikes(self) -> bool:
        """Count one more; true from the moment on at which the fault is due."""
        if self.left_count > 0:
            self.left_count -= 1
            return False
        self.has_struck = True
        return True


@contextlib.contextmanager
def crash_at_transaction(
    store: ArtifactStore, after_count: int = 0, *, when: When = "before"
) -> Generator[Countdown]:
    """Let the process "end" at a transaction; close the store and open a new one afterwards.

    Args:
        store: An open store; used by one thread meanwhile.
        after_count: How many transactions still go through before.
        when: ``before`` the flush, so that the transaction is lost, or ``after`` it, so that only its answer is.

    Yields:
        The countdown, which tells whether the crash came.
    """
    countdown = Countdown(after_count)

    def crash(moment: When) -> None:
        if countdown.has_struck or (moment == when and countdown.strikes()):
            raise SimulatedCrash

    with _wrapped_transactions(store, lambda: crash("before"), lambda: crash("after")):
        yield countdown


@contextlib.contextmanager
def failing_disk(
    store: ArtifactStore, after_count: int = 0, *, errno_value: int = errno.EIO
) -> Generator[Countdown]:
    """Let every transaction fail, after some that go through, as a disk makes it fail.

    Args:
        store: An open store.
        after_count: How many transactions still go through before.
        errno_value: What the disk says, such as ``errno.EIO`` or ``errno.ENOSPC``.
    """
    countdown = Countdown(after_count)

    def fail() -> None:
        if countdown.strikes():
            raise OSError(errno_value, os.strerror(errno_value))

    with _wrapped_transactions(store, fail, lambda: None):
        yield countdown


@contextlib.contextmanager
def full_disk(store: ArtifactStore, after_count: int = 0) -> Generator[Countdown]:
    """Let every transaction find the disk full, after some that go through."""
    with failing_disk(store, after_count, errno_value=errno.ENOSPC) as countdown:
        yield countdown


@contextlib.contextmanager
def _wrapped_transactions(
    store: ArtifactStore, before: Callable[[], None], after: Callable[[], None]
) -> Generator[None]:
    environment = store.environment
    real = environment.write

    @contextlib.contextmanager
    def write(reserve_bytes: int = 0) -> Generator[WriteTransaction]:
        with real(reserve_bytes) as transaction:
            yield transaction
            before()
        after()

    environment.write = write  # type: ignore[method-assign]
    try:
        yield
    finally:
        del environment.write


@contextlib.contextmanager
def damaged_stream(store: ArtifactStore, position: int = 0) -> Generator[bool]:
    """Flip one bit of one stored stream for the length of the block.

    Args:
        store: An open store.
        position: Which byte, counted over all streams and taken modulo their length.

    Yields:
        Whether there was a stream to damage.
    """
    with store.environment.write() as transaction:
        keys = list(transaction.scan_keys(Table.SEGMENTS))
        sizes = [len(transaction.get(Table.SEGMENTS, key) or b"") for key in keys]
        left = position % sum(sizes) if sum(sizes) else 0
        chosen = None
        for key, size_bytes in zip(keys, sizes, strict=True):
            if left < size_bytes:
                chosen = key
                break
            left -= size_bytes
        sound = None if chosen is None else transaction.get(Table.SEGMENTS, chosen)
        if chosen is not None and sound is not None:
            damaged = bytearray(sound)
            damaged[left] ^= 1 << position % 8
            transaction.put(Table.SEGMENTS, chosen, bytes(damaged))
    try:
        yield chosen is not None
    finally:
        if chosen is not None and sound is not None:
            with store.environment.write() as transaction:
                transaction.put(Table.SEGMENTS, chosen, sound)

"""Faults put around a store from outside: crashes, a full disk, a failing disk, damaged bytes.

Invariant: the product knows nothing of them. A fault is a wrapper around calls that exist anyway, such as the one
method through which all transactions go, or ``os.rename``; it is gone when its block ends. A simulated crash still lets
clean-up code of the product run, which a kill does not; the project's own suite kills real processes as well. Nothing
here may be used on a store that somebody needs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from cas import blobs
from cas.lmdbenv import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from cas import ArtifactStore
    from cas.lmdbenv import WriteTransaction

When = Literal["before", "after"]
_RENAMES: Final = ("rename", "replace", "link")
_FLUSHES: Final = ("fsync", "fdatasync")


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
    crash = crash_when(countdown, when)
    with _wrapped_transactions(store, lambda: crash("before"), lambda: crash("after")):
        yield countdown


def crash_when(countdown: Countdown, when: When) -> Callable[[When], None]:
    """Return what ends the "process" at the due moment, and at every later one as long as it is not restarted."""

    def crash(moment: When) -> None:
        if countdown.has_struck or (moment == when and countdown.strikes()):
            raise SimulatedCrash

    return crash


@contextlib.contextmanager
def wrapped_call(
    owner: object,
    name: str,
    *,
    before: Callable[[], None],
    after: Callable[[], None],
    applies: Callable[[tuple[Any, ...]], bool] = lambda _: True,
) -> Generator[None]:
    """Put something around each call of a function or method, for the length of the block.

    Args:
        owner: Module or class that has it.
        name: Its name there.
        before: Called before each call; what it raises takes the call's place.
        after: Called after each call that returned; what it raises takes the answer's place.
        applies: Tells by the arguments whether a call counts.
    """
    real: Any = getattr(owner, name)

    def call(*words: Any, **settings: Any) -> Any:  # noqa: ANN401  whatever the wrapped one takes and gives
        if not applies(words):
            return real(*words, **settings)
        before()
        answer = real(*words, **settings)
        after()
        return answer

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, real)


@contextlib.contextmanager
def crash_at_rename(folder: Path, after_count: int = 0, *, when: When = "before") -> Generator[Countdown]:
    """Let the process "end" where a file gets its name: at a rename or link to a path below a folder.

    Args:
        folder: Only names below it count, such as the store's or the repository's.
        after_count: How many still go through before.
        when: ``before`` the rename, or ``after`` it.
    """
    with _crash_at_files(_RENAMES, folder, after_count, when) as countdown:
        yield countdown


@contextlib.contextmanager
def crash_at_flush(folder: Path, after_count: int = 0, *, when: When = "before") -> Generator[Countdown]:
    """Let the process "end" where a file or folder below a folder is synced.

    The database syncs itself; its flushes are those of `crash_at_transaction`.

    Args:
        folder: Only files below it count.
        after_count: How many flushes still go through before.
        when: ``before`` the flush, or ``after`` it.
    """
    with _crash_at_files(_FLUSHES, folder, after_count, when) as countdown:
        yield countdown


@contextlib.contextmanager
def _crash_at_files(
    names: tuple[str, ...], folder: Path, after_count: int, when: When
) -> Generator[Countdown]:
    countdown = Countdown(after_count)
    crash = crash_when(countdown, when)
    with _wrapped_files(names, folder, lambda: crash("before"), lambda: crash("after")):
        yield countdown


@contextlib.contextmanager
def failing_files(
    folder: Path, after_count: int = 0, *, errno_value: int = errno.EIO
) -> Generator[Countdown]:
    """Let every rename and every flush below a folder fail, after some that go through.

    Args:
        folder: Only files below it count, such as the repository's.
        after_count: How many still go through before.
        errno_value: What the system says, such as ``errno.EIO``, ``errno.ENOSPC`` or ``errno.EROFS``.
    """
    countdown = Countdown(after_count)

    def fail() -> None:
        if countdown.strikes():
            raise OSError(errno_value, os.strerror(errno_value))

    with _wrapped_files((*_RENAMES, *_FLUSHES), folder, fail, lambda: None):
        yield countdown


@contextlib.contextmanager
def _wrapped_files(
    names: tuple[str, ...], folder: Path, before: Callable[[], None], after: Callable[[], None]
) -> Generator[None]:
    root = os.path.realpath(folder)

    def applies(words: tuple[Any, ...]) -> bool:
        path = os.path.realpath(_path_of(words[-1]))
        return path == root or path.startswith(root + os.sep)

    with contextlib.ExitStack() as stack:
        for name in names:
            if hasattr(os, name):  # not every system has fdatasync
                stack.enter_context(wrapped_call(os, name, before=before, after=after, applies=applies))
        yield


def _path_of(target: int | str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return the path of an open file, or the path that was given; a relative one counts from the current folder."""
    if not isinstance(target, int):
        return target
    link = Path(f"/proc/self/fd/{target}")
    return link.readlink() if link.is_symlink() else os.curdir


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
    """Flip one bit of one blob's stored stream for the length of the block.

    Args:
        store: An open store.
        position: Which byte, counted over the streams of all blobs and taken modulo their length.

    Yields:
        Whether there was a stream to damage.
    """
    damage = damage_stream(store, position)
    try:
        yield damage is not None
    finally:
        if damage is not None:
            with store.environment.write() as transaction:
                transaction.put(Table.SEGMENTS, *damage)


def damage_stream(store: ArtifactStore, position: int = 0) -> tuple[bytes, bytes] | None:
    """Flip one bit of one blob's stored stream for good; see `damaged_stream`.

    Bytes of a segment that belong to no blob any more are left alone: nothing reads them, and no check can miss them.

    Returns:
        The key of the damaged row and its sound value; None when there is no blob.
    """
    with store.environment.write() as transaction:
        held = list(blobs.iter_blobs(transaction))
        left = position % total if (total := sum(blob.stored_bytes for blob in held)) else 0
        for blob in held:
            if left >= blob.stored_bytes:
                left -= blob.stored_bytes
                continue
            left += blob.offset
            for part in range(blob.part_count):
                key = blobs.segment_key(blob.segment, part)
                sound = transaction.get(Table.SEGMENTS, key) or b""
                if left < len(sound):
                    damaged = bytearray(sound)
                    damaged[left] ^= 1 << position % 8
                    transaction.put(Table.SEGMENTS, key, bytes(damaged))
                    return key, sound
                left -= len(sound)
    return None

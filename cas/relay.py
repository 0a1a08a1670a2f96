"""One transaction for the commits of all processes that wait at the same moment.

LMDB lets one process write at a time, and each pays its own flush. So a process that finds another one committing posts
its work as a file and waits for its turn; whoever holds the turn commits the posted work together with its own and
posts the answers. Invariant: an answer exists only after the flush, and a turn that was cut short by a kill leaves no
answer, so the poster does its work itself; the work must be such that doing it twice stores it once.

The turn is a lock of the kernel (flock), as is the sign that a poster still lives: a kill leaves files, never a lock.
Posted files are not synced, for only LMDB's flush makes anything durable. This module knows nothing of what it carries.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import time
from typing import TYPE_CHECKING, Final

from cas.lmdbenv import mapped_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

TURN_FILE: Final = "commit.lock"
FOLDER: Final = "relay"
# Bound one turn: its dirty pages, and how long the first poster waits for the last one's work.
MAX_POSTS: Final = 64
MAX_POST_BYTES: Final = 8 * 1024 * 1024  # larger work waits for its own turn
# Waiting in the lock's queue would make a process whose answer is there wait for the next turn's flush as well. A fifth
# of a fast flush is little delay and, at two system calls each, little work.
_POLL_S: Final = 0.0002
_POSTED: Final = ".posted"
_ANSWER: Final = ".answer"
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700
_counter = itertools.count()


class Turn:
    """The right to commit, held until the ``with`` block of `Relay.turn` ends; or an answer, which needs none.

    Attributes:
        answer: What another process answered to the posted work; None when it is still to be done, by right.
    """

    def __init__(self, folder: Path, answer: bytes | None) -> None:
        self._folder = folder
        self.answer = answer

    def iter_posts(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of what living processes have posted, oldest first; dead ones' files are removed."""
        try:
            names = sorted(path.name for path in self._folder.iterdir() if path.suffix == _POSTED)
        except FileNotFoundError:
            return
        for name in names[:MAX_POSTS]:
            content = _read_if_alive(self._folder / name)
            if content is not None:
                yield name, content

    def reply(self, name: str, answer: bytes) -> None:
        """Post the answer to a post; only once its work is flushed."""
        path = self._folder / name
        temporary = path.with_suffix(".writing")
        temporary.write_bytes(answer)
        temporary.rename(path.with_suffix(_ANSWER))


class Relay:
    """The posts of one store; thread-safe, holds nothing open between turns."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._folder = directory / FOLDER

    @contextlib.contextmanager
    def turn(self, encode: Callable[[], bytes | None]) -> Generator[Turn, None, None]:
        """Wait for the right to commit.

        Args:
            encode: Gives what another process may do for this one meanwhile, or None when it cannot; called only when
                there is somebody to wait for.

        Raises:
            StorageError: The store's folder cannot be used.
        """
        with mapped_errors(self._directory):
            lock = os.open(self._directory / TURN_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            answer = None
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                answer = self._wait(lock, encode())
            yield Turn(self._folder, answer)
        finally:
            # Unlocked, not only closed: a child forked meanwhile shares the open file, and closing leaves it locked.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)

    def _wait(self, lock: int, work: bytes | None) -> bytes | None:
        """Wait for the lock with the work posted, and return the answer when somebody gave one."""
        if work is None or len(work) > MAX_POST_BYTES:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return None
        with mapped_errors(self._directory):
            post, descriptor = self._post(work)
        answer = post.with_suffix(_ANSWER)
        try:
            while not answer.exists():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(_POLL_S)
                else:
                    break
            with contextlib.suppress(FileNotFoundError):
                return answer.read_bytes()
            return None
        finally:
            post.unlink(missing_ok=True)
            answer.unlink(missing_ok=True)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _post(self, work: bytes) -> tuple[Path, int]:
        """Post work under a lock that shows this process lives, and return the file and the lock's descriptor."""
        self._folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(_counter)}"
        writing = self._folder / f"{name}.writing"
        descriptor = os.open(writing, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            view = memoryview(work)
            while view:
                view = view[os.write(descriptor, view) :]
            post = self._folder / f"{name}{_POSTED}"
            writing.rename(post)
        except BaseException:
            writing.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return post, descriptor


def _read_if_alive(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    else:
        path.unlink(missing_ok=True)
        return None
    finally:
        os.close(descriptor)

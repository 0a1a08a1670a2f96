"""One transaction for the commits of all processes that wait at the same moment.

LMDB lets one process write at a time, and each pays its own flush. Where a flush is slow, a process that finds another
one committing posts its work as a file and waits for its turn; whoever holds the turn commits the posted work together
with its own and answers. Invariant: an answer is given only after the flush, and a turn that was cut short by a kill
gives none, so the poster does its work itself; the work must be such that doing it twice stores it once.

The turn is a lock of the kernel (flock), and a poster listens at a named pipe, its bell: a kill leaves files, never a
lock, and a pipe that nobody has open tells a dead poster from a living one. Posted files are not synced, for only
LMDB's flush makes anything durable. This module knows nothing of what it carries.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import time
import uuid
from typing import TYPE_CHECKING, Final

from cas.lmdbenv import mapped_errors, owned

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

TURN_FILE: Final = "commit.lock"
FOLDER: Final = "relay"
# Bound one turn: its dirty pages, and how long the first poster waits for the last one's work.
MAX_POSTS: Final = 64
MAX_TURN_BYTES: Final = 32 * 1024 * 1024
MAX_POST_BYTES: Final = 8 * 1024 * 1024  # larger work waits for the write lock like everybody
# An answer goes through the pipe in one piece only up to PIPE_BUF, which POSIX puts at 512 bytes or more; its mark and
# its length, two bytes, go before it.
MAX_ANSWER_BYTES: Final = 509
# A bell rings when there is an answer, or when the turn is free. This is for the case that whoever should have rung was
# killed.
_PATIENCE_MS: Final = 20
# Between making its bell and opening it, a poster looks dead for some microseconds.
_BELL_GRACE_NS: Final = 60 * 10**9
_WRITING: Final = ".writing"
_POSTED: Final = ".posted"
_BELL: Final = ".bell"
_ANSWER_MARK: Final = b"a"
_FREE_MARK: Final = b"f"
_PIPE_BYTES: Final = 64 * 1024
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700


class Turn:
    """Leave to commit, until the ``with`` block of `Relay.turn` ends; or an answer, which needs none.

    Attributes:
        answer: What another process answered to the posted work; None when it is still to be done.
    """

    def __init__(self, relay: Relay, *, is_held: bool, answer: bytes | None = None) -> None:
        self._relay = relay
        self._bells: dict[str, int] = {}
        self.is_held = is_held
        self.answer = answer

    def iter_posts(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of what living processes have posted, oldest first; dead ones' files are removed."""
        if not self.is_held:
            return
        taken_bytes = 0
        for name in self._relay.posts()[:MAX_POSTS]:
            bell = self._relay.open_bell(name)
            if bell is None:
                continue
            self._bells[name] = bell
            with contextlib.suppress(FileNotFoundError):  # an interrupted poster took it back
                content = self._relay.read(name)
                taken_bytes += len(content)
                yield name, content
            if taken_bytes > MAX_TURN_BYTES:
                return

    def reply(self, name: str, answer: bytes) -> None:
        """Answer a post; only once its work is flushed."""
        self._relay.take_down(name)
        _ring(self._bells[name], _ANSWER_MARK + bytes([*divmod(len(answer), 256)]) + answer)

    def end(self) -> None:
        """Give the bells back."""
        for bell in self._bells.values():
            os.close(bell)
        self._bells.clear()


class Relay:
    """The posts of one store; thread-safe, holds nothing open between turns."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._folder = directory / FOLDER
        self._has_swept = False

    @contextlib.contextmanager
    def turn(self, encode: Callable[[], bytes | None]) -> Generator[Turn, None, None]:
        """Wait for the turn, or for an answer.

        Args:
            encode: Gives what another process may do for this one meanwhile, or None when none can: then the block
                begins at once, without the turn, and waits for the write lock itself. Called only when there is
                somebody to wait for.

        Raises:
            StorageError: The store's folder cannot be used.
        """
        with mapped_errors(self._directory):
            lock = os.open(self._directory / TURN_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        with owned(lock):
            if _try_lock(lock):
                turn = Turn(self, is_held=True)
                self._sweep()
            else:
                work = encode()
                can_post = work is not None and len(work) <= MAX_POST_BYTES
                turn = self._wait(lock, work) if work is not None and can_post else Turn(self, is_held=False)
            try:
                yield turn
            finally:
                turn.end()
        if turn.is_held:
            self._ring_next()

    def _wait(self, lock: int, work: bytes) -> Turn:
        """Post work, and wait for the turn or an answer, whichever comes first."""
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex}"
        try:
            bell = self._post(name, work)
        except OSError:  # a full disk, or no pipes here: the commit itself will tell, or go well
            return Turn(self, is_held=False)
        try:
            poll = select.poll()
            poll.register(bell, select.POLLIN)
            while True:
                answer = _listen(bell)
                if answer is None and _try_lock(lock):
                    answer = _listen(bell)  # who answers does so before it gives up the turn
                    if answer is None:
                        return Turn(self, is_held=True)
                    fcntl.flock(lock, fcntl.LOCK_UN)
                    self._ring_next()
                if answer is not None:
                    return Turn(self, is_held=False, answer=answer)
                poll.poll(_PATIENCE_MS)
        finally:
            os.close(bell)
            self._remove_all(name)

    def _post(self, name: str, work: bytes) -> int:
        """Make the bell, then the post, and return the bell's descriptor."""
        self._folder.mkdir(_FOLDER_MODE, exist_ok=True)
        bell = None
        try:
            os.mkfifo(self._folder / (name + _BELL), _FILE_MODE)
            bell = os.open(self._folder / (name + _BELL), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            writing = self._folder / (name + _WRITING)
            with writing.open("xb") as file:
                os.fchmod(file.fileno(), _FILE_MODE)
                file.write(work)
            writing.rename(self._folder / (name + _POSTED))
        except BaseException:
            if bell is not None:
                os.close(bell)
            self._remove_all(name)
            raise
        return bell

    def posts(self) -> list[str]:
        """Return the names of what is posted, oldest first."""
        return sorted(path.stem for path in self._files() if path.suffix == _POSTED)

    def _files(self) -> list[Path]:
        try:
            return list(self._folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def open_bell(self, name: str) -> int | None:
        """Return a descriptor of a poster's bell; None for a dead poster, whose files are removed."""
        try:
            return os.open(self._folder / (name + _BELL), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # ENXIO: nobody listens; ENOENT: taken back
            self._remove_all(name)
            return None

    def read(self, name: str) -> bytes:
        """Return the content of a post."""
        return (self._folder / (name + _POSTED)).read_bytes()

    def take_down(self, name: str) -> None:
        """Remove a post that was answered."""
        (self._folder / (name + _POSTED)).unlink(missing_ok=True)

    def _remove_all(self, name: str) -> None:
        for ending in (_WRITING, _POSTED, _BELL):
            (self._folder / (name + ending)).unlink(missing_ok=True)

    def _ring_next(self) -> None:
        """Tell the first who still waits that the turn is free; called after it was given up."""
        for name in self.posts():
            bell = self.open_bell(name)
            if bell is not None:
                _ring(bell, _FREE_MARK)
                os.close(bell)
                return

    def _sweep(self) -> None:
        """Remove what posters left that were killed in the middle of posting; once in the life of a process."""
        if self._has_swept:
            return
        self._has_swept = True
        oldest = f"{time.time_ns() - _BELL_GRACE_NS:020d}"
        for path in self._files():
            bell = self.open_bell(path.stem) if path.name < oldest else None
            if bell is not None:
                os.close(bell)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ring(bell: int, message: bytes) -> None:
    # A full pipe has rung often enough; a broken one is a poster that died.
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        os.write(bell, message)


def _listen(bell: int) -> bytes | None:
    """Return the answer when there is one; an announcement of a free turn is only heard."""
    try:
        heard = os.read(bell, _PIPE_BYTES)
    except BlockingIOError:
        return None
    told = heard.lstrip(_FREE_MARK)
    return told[3 : 3 + int.from_bytes(told[1:3], "big")] if told else None

"""Reading many objects from one ``git cat-file --batch`` in bounded memory.

Invariant: at most one chunk of one object is held at a time, and a git that falls silent is noticed. This
module reads a pipe it is given; it must not start git.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Final

from cas.errors import GitCommandFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_CHUNK_BYTES: Final = 256 * 1024


class ObjectStream:
    """One object of ``iter_object_bytes``: its header, and its content in chunks, read once.

    Attributes:
        oid: The id that was asked for, in hex.
        kind: ``blob``, ``tree``, ``commit``, ``tag``; or ``missing``.
        size_bytes: Size of the content.
    """

    def __init__(self, oid: str, kind: str, size_bytes: int, reader: PipeReader) -> None:
        self.oid = oid
        self.kind = kind
        self.size_bytes = size_bytes
        self._left_bytes = size_bytes
        self._reader = reader

    def __iter__(self) -> Iterator[bytes]:
        """Yield the content in chunks of at most 256 KiB; what is not read is skipped by the next object."""
        while self._left_bytes:
            chunk = self._reader.read_some(self._left_bytes)
            self._left_bytes -= len(chunk)
            yield chunk


class PipeReader:
    """Reads a pipe with a limit on silence, so that a hung git is noticed however much it has said before."""

    def __init__(self, descriptor: int, silence_s: float, ended: Callable[[], Exception]) -> None:
        self._descriptor = descriptor
        # select() takes no descriptor from 1024 on, and the program may have as many files open.
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._silence_s = silence_s
        self._ended = ended
        self._buffer = b""

    def _fill(self) -> None:
        if not self._poll.poll(self._silence_s * 1000):
            raise GitCommandFailedError(
                f"git cat-file said nothing for {self._silence_s:g} s and was killed", kind="git_timeout"
            )
        data = os.read(self._descriptor, _CHUNK_BYTES)
        if not data:
            raise self._ended()
        self._buffer = self._buffer + data if self._buffer else data

    def read_line(self) -> bytes:
        """Return the next line without its end."""
        while b"\n" not in self._buffer:
            self._fill()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def read_some(self, limit_bytes: int) -> bytes:
        """Return between 1 and ``limit_bytes`` bytes."""
        if not self._buffer:
            self._fill()
        data, self._buffer = self._buffer[:limit_bytes], self._buffer[limit_bytes:]
        return data


def iter_streams(oids: Sequence[str], reader: PipeReader) -> Iterator[ObjectStream]:
    """Yield an object for each oid in order, as ``cat-file --batch`` answers them.

    Raises:
        GitCommandFailedError: git was silent for too long, or ended before it had answered everything.
    """
    for oid in oids:
        words = reader.read_line().decode().split(" ")
        if words[-1] == "missing":
            yield ObjectStream(oid, "missing", 0, reader)
            continue
        stream = ObjectStream(oid, words[1], int(words[2]), reader)
        yield stream
        for _ in stream:  # what the caller left unread
            continue
        reader.read_line()

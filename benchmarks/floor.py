"""The floor: what one run's bytes cost when nothing but the necessary is done to them, in the same process.

Read, BLAKE3, SHA-1 with git's header, the secret gate, deflate, and one ``fdatasync`` of the stored bytes into a file
that was written with zeroes before, so that no flush has to change the file's size. No name, no manifest, no index:
this is not a store, it is what a store is measured against. Invariant: it uses the product's libraries and levels.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3

from cas.codec import deflate
from cas.secretscan import SecretScanner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from benchmarks.runs import StoredRun

CHUNK_BYTES: Final = 1024 * 1024
_ZEROES: Final = bytes(CHUNK_BYTES)


class Floor:
    """A preallocated file that stored bytes are appended to; owned by one thread.

    Args:
        folder: Where the file is made.
        room_bytes: How much may be appended in all.
    """

    def __init__(self, folder: Path, room_bytes: int) -> None:
        self._scanner = SecretScanner()
        self._scanner.warm()
        self._descriptor = os.open(folder / "floor", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        for _ in range(room_bytes // CHUNK_BYTES + 1):
            os.write(self._descriptor, _ZEROES)
        os.fsync(self._descriptor)
        self.stored_bytes = 0

    def commit(self, run: StoredRun) -> None:
        """Do the necessary for one run; its bytes are on the disk on return."""
        self.append([self.stream_of(path) for path in run.paths])

    def stream_of(self, path: Path) -> bytes:
        """Read, digest, scan and deflate one file."""
        data = read_whole(path)
        blake3(data).digest()
        git_oid(data)
        if self._scanner.scan(data, path.name):
            raise AssertionError(f"{path.name} holds a credential")
        return deflate(data)

    def append(self, streams: Iterable[bytes]) -> None:
        """Write the streams behind each other and flush once."""
        joined = b"".join(streams)
        os.pwrite(self._descriptor, joined, self.stored_bytes)
        os.fdatasync(self._descriptor)
        self.stored_bytes += len(joined)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_whole(path: Path) -> bytes:
    """Read a file with one open, one stat and one read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)


def git_oid(data: bytes) -> bytes:
    """Return git's SHA-1 of a blob, without copying it behind its header."""
    hasher = hashlib.sha1(b"blob %d\0" % len(data), usedforsecurity=False)
    hasher.update(data)
    return hasher.digest()


def stages_us(floor: Floor, runs: Sequence[StoredRun]) -> dict[str, float]:
    """Return microseconds per run of each stage, each stage timed on its own over all runs; means."""
    contents = [(path.name, read_whole(path)) for run in runs for path in run.paths]
    streams = [[deflate(read_whole(path)) for path in run.paths] for run in runs]
    scanner = SecretScanner()
    scanner.warm()
    stages: dict[str, tuple[Callable[..., Any], Iterable[tuple[Any, ...]]]] = {
        "read": (read_whole, [(path,) for run in runs for path in run.paths]),
        "blake3": (lambda data: blake3(data).digest(), [(data,) for _, data in contents]),
        "sha1": (git_oid, [(data,) for _, data in contents]),
        "secret_scan": (scanner.scan, [(data, name) for name, data in contents]),
        "deflate": (deflate, [(data,) for _, data in contents]),
        "write_and_fdatasync": (floor.append, [(parts,) for parts in streams]),
    }
    took: dict[str, float] = {}
    for name, (work, calls) in stages.items():
        started_s = time.perf_counter()
        for call in calls:
            work(*call)
        took[name] = round((time.perf_counter() - started_s) * 1_000_000 / len(runs), 1)
    return took


def copy_with_fsync(source: Path, target: Path) -> None:
    """Copy a file in chunks, then flush the copy and its folder."""
    with source.open("rb", buffering=0) as reading, target.open("xb", buffering=0) as writing:
        while chunk := reading.read(CHUNK_BYTES):
            writing.write(chunk)
        os.fsync(writing.fileno())
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""A run that grows: files are taken in as they are made, and committed together at the end.

Invariant: nothing is visible before `ArtifactWriter.commit` returns; leaving without it leaves nothing behind. Each
file is scanned, digested and compressed when it is added, so that the commit itself is one short transaction.
"""

from __future__ import annotations

import os
import tempfile
from typing import IO, TYPE_CHECKING, Final, Self

from cas import names
from cas.blobs import Blob, NewBlob
from cas.errors import InvalidFileError, SecretDetectedError, StateError
from cas.intake import LARGE_FILE_BYTES, RunIntake, name_of
from cas.lmdbenv import mapped_errors
from cas.silence import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType

    from cas.config import ArtifactStoreConfig
    from cas.intake import Content, Gate, Intake
    from cas.lmdbenv import Environment
    from cas.records import Record

_HINT: Final = "Open another run with store.open_run()."
Spool = tempfile.SpooledTemporaryFile[bytes]


class ArtifactWriter:
    """Takes the files of one run one by one; made by `ArtifactStore.open_run`. Owned by one thread.

    As a context manager it discards what was not committed.
    """

    def __init__(
        self,
        environment: Environment,
        gate: Gate,
        config: ArtifactStoreConfig,
        finish: Callable[[Callable[[bytes], Intake], Mapping[str, object] | None], Record],
    ) -> None:
        self.secret_scanner = gate.scanner
        self._environment = environment
        self._max_files = config.max_files
        self._finish = finish
        self._run = RunIntake(environment, gate)
        self._names = names.ArtifactNames()
        self._taken: dict[str, NewBlob | Blob] = {}
        self._sources: dict[str, Content | Spool] = {}
        self._state = "open"
        # Files that a commit had already: it may have failed, or met the garbage collector, and used them up.
        self._handed_out: set[str] = set()
        self._are_texts_scanned = False

    @silent
    def add_file(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        """Take in a file as it is now.

        Args:
            path: A regular file, read now (a large one twice); again only if the garbage collector takes its blob
                before the commit, or if the commit fails and is repeated.
            name: Its name in the run; None means the last part of the path.

        Raises:
            InvalidNameError: The name is unsafe, taken, or collides with another.
            InvalidFileError: The file is missing, unreadable, too large, changed while it was read, or one too many.
            SecretDetectedError: The gate found something; the run can only be discarded.
            StateError: The run was committed or discarded.
            StorageError: The disk refused a part of a large file.
        """
        self._add(name_of(path) if name is None else name, path)

    @silent
    def add_bytes(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Take in a file from memory.

        Raises:
            InvalidNameError: The name is unsafe, taken, or collides with another.
            InvalidFileError: It is not bytes, too large, or one too many.
            SecretDetectedError: The gate found something; the run can only be discarded.
            StateError: The run was committed or discarded.
            StorageError: The disk refused a part of a large file.
        """
        if not isinstance(data, bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidFileError(f"file {name!r}: content must be bytes, not {type(data).__name__}")
        self._add(name, bytes(data))

    @silent
    def open_file(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Return a context manager that yields a binary file to write; it is taken in when the block ends well.

        Up to 16 MiB are held in memory, more goes to an unnamed file in the store's folder.

        Raises:
            InvalidNameError: The name is unsafe, taken, or collides with another.
            InvalidFileError: It was closed inside the block, is too large, or one too many.
            SecretDetectedError: The gate found something; the run can only be discarded.
            StateError: The run was committed or discarded.
            StorageError: The disk refused a part of a large file.
        """
        self._check_new(name)
        return _Writing(self, lambda spool: self._add_spool(name, spool), self._environment.directory)

    @silent
    def commit(self, metadata: Mapping[str, object] | None = None) -> Record:
        """Store the run; on return it is durable.

        Returns:
            As `ArtifactStore.commit_artifacts`.

        Raises:
            InvalidInputError: No files, or metadata that is not JSON; the run stays open.
            SecretDetectedError: The metadata, an ID or a name holds a credential.
            InvalidFileError: A file has to be read once more, and is not there or not the same any more.
            StateError: The run was committed or discarded.
            StorageError: The disk refused; nothing of the run is stored, and the run stays open.
        """
        self._check_state()
        if not self._taken:
            raise InvalidFileError("a run needs at least one file")
        self._are_texts_scanned = False
        result = self._finish(self._complete, metadata)
        self._close("committed")
        return result

    def discard(self) -> None:
        """Give the run up; nothing of it stays. A second call does nothing."""
        if self._state == "open":
            self._run.discard()
            self._close("discarded")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _check_state(self) -> None:
        if self._state != "open":
            raise StateError(f"the run is {self._state}", hint=_HINT)

    @silent
    def _check_new(self, name: str) -> None:
        self._check_state()
        self._names.check(name)
        if len(self._taken) >= self._max_files:
            raise InvalidFileError(f"a run may have {self._max_files} files", hint="Raise max_files.")

    @silent
    def _add_spool(self, name: str, spool: Spool) -> None:
        if spool.closed:
            raise InvalidFileError(
                f"file {name!r} was closed before the end of its block",
                subject=name,
                hint="Let the block close it; take a wrapper such as io.TextIOWrapper off with detach().",
            )
        with mapped_errors(self._environment.directory):
            spool.flush()
        self._add(name, spool)

    def _add(self, name: str, source: Content | Spool) -> None:
        self._check_new(name)
        name = names.exact_text(name)
        blob = self._take(name, source)
        if self._run.findings:
            raise SecretDetectedError(self._run.findings)
        self._names.add(name)
        self._taken[name] = blob
        # Kept for the rare case that a blob found in the store is collected before the commit, or the commit fails.
        if isinstance(blob, Blob) or blob.staged_segment is not None:
            self._sources[name] = source
        elif isinstance(source, tempfile.SpooledTemporaryFile):
            source.close()  # up to 16 MiB of memory, which the compressed stream takes the place of

    def _take(self, name: str, source: Content | Spool) -> NewBlob | Blob:
        if not isinstance(source, tempfile.SpooledTemporaryFile):
            return self._run.take(name, source)
        size_bytes = source.seek(0, os.SEEK_END)
        if size_bytes <= LARGE_FILE_BYTES:
            source.seek(0)
            return self._run.take(name, source.read())
        return self._run.take_open(name, source.fileno(), size_bytes)

    def _complete(self, metadata_and_ids: bytes) -> Intake:
        """Return the intake; called again within one commit when a blob was collected meanwhile.

        What an earlier call handed out is then taken in anew, where it was in the store or was staged there.
        """
        for name in self._handed_out:
            blob = self._taken[name]
            if isinstance(blob, Blob) or blob.staged_segment is not None:
                self._taken[name] = self._take(name, self._sources[name])
        if not self._are_texts_scanned:
            self._run.scan(metadata_and_ids, "metadata and ids")
            self._run.scan("\n".join(self._taken).encode(), "file names")
            self._are_texts_scanned = True
        intake = self._run.complete(self._taken)
        self._handed_out = set(self._taken)
        return intake

    def _close(self, state: str) -> None:
        self._state = state
        for source in self._sources.values():
            if isinstance(source, tempfile.SpooledTemporaryFile):
                source.close()
        self._sources.clear()


class _Writing:
    """A file that is being written; its name is known to the function that takes it in, and to no frame."""

    def __init__(self, writer: ArtifactWriter, take_in: Callable[[Spool], None], directory: Path) -> None:
        self.secret_scanner = writer.secret_scanner
        self._take_in = take_in
        self._spool: Spool = tempfile.SpooledTemporaryFile(LARGE_FILE_BYTES, dir=str(directory))  # noqa: SIM115

    def __enter__(self) -> IO[bytes]:
        return self._spool

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._spool.close()
            return
        self._finish()

    @silent
    def _finish(self) -> None:
        try:
            self._take_in(self._spool)
        except BaseException:
            self._spool.close()
            raise

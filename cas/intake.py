"""Intake: what a caller hands in becomes checked names, digests and pack-ready streams, outside the write lock.

Invariant: each input file is opened once, and read once unless it is large (docs/decisions.md, D15); the very bytes
that are scanned are the ones digested and stored, and a file that changes meanwhile is refused. Nothing here writes to
a committed table: a run that is refused leaves no trace that a reader could see.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Required, TypedDict, cast

import msgspec

from cas import blobs, names, processmark, tombstones
from cas.blobs import NOT_SCANNED, RULESET_BYTES, Blob, NewBlob
from cas.codec import Deflater, crc32, deflate
from cas.digest import Digester, digest_bytes
from cas.errors import (
    ArtifactStoreError,
    InvalidFileError,
    InvalidInputError,
    InvalidNameError,
    SecretDetectedError,
)
from cas.inputfile import changed, iter_chunks, open_input, unreadable
from cas.manifest import FileEntry, WaiverEntry
from cas.objects import ObjectHasher, object_id, pack_entry_header
from cas.staging import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cas.config import ArtifactStoreConfig, ObjectFormat
    from cas.lmdbenv import Environment
    from cas.secretscan import Finding, SecretScanner, Waiver

# Above this a file is streamed: memory stays bounded, at the price of a transaction for every few MB of its stream.
LARGE_FILE_BYTES: Final = 16 * 1024 * 1024
# Smaller files are read until they are this much together, and then looked up in one snapshot; bounds the memory.
_BATCH_BYTES: Final = 16 * 1024 * 1024
# Runs of one kind bear the same few names; longer lists are checked each time, to keep what is remembered small.
_REMEMBERED_NAMES: Final = 32
# Compressed streams of a run's files that wait in memory for its transaction, which takes as much again; what comes on
# top is written at once, as the stream of a large file is, unless it is not worth a transaction of its own.
HELD_BYTES: Final = 64 * 1024 * 1024
LEAST_STAGED_BYTES: Final = 512 * 1024

Content = str | os.PathLike[str] | bytes | bytearray | memoryview
Files = Mapping[str, Content] | Iterable[str | os.PathLike[str]]


class RunArguments(TypedDict, total=False):
    """The arguments of one run in a batch; the first three are required."""

    workflow_id: Required[str]
    task_id: Required[str]
    files: Required[Files]
    metadata: Mapping[str, object] | None
    correlation_id: str | None
    prompt_hash: str | None


RUN_ARGUMENTS: Final = frozenset(RunArguments.__annotations__)


@dataclasses.dataclass(slots=True)
class Intake:
    """The files of one run, ready for the write transaction."""

    entries: tuple[FileEntry, ...]
    new_blobs: list[NewBlob]
    waivers: tuple[WaiverEntry, ...]
    raw_bytes: int
    # Blobs the store had, scanned again under the present rules and found clean: digest and rule set.
    rescanned: tuple[tuple[bytes, bytes], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Gate:
    """What every file passes: the scanner (None when scanning is off), limits, and the id format."""

    scanner: SecretScanner | None
    object_format: ObjectFormat
    max_file_bytes: int
    max_files: int

    @classmethod
    def build(
        cls, config: ArtifactStoreConfig, scanner: SecretScanner | None, object_format: ObjectFormat
    ) -> Gate:
        """Return the gate of a configuration."""
        return cls(
            scanner=scanner,
            object_format=object_format,
            max_file_bytes=config.max_file_bytes,
            max_files=config.max_files,
        )

    def ruleset(self, name: str) -> bytes:
        """Return what a clean scan of a file of this name is remembered by; see `scan_mark`."""
        return NOT_SCANNED if self.scanner is None else scan_mark(self.scanner, name)


def scan_mark(scanner: SecretScanner, name: str) -> bytes:
    """Return eight bytes for all that findings depend on besides the content.

    The kind of the name counts as well: what is clean as source code need not be so as a settings file.
    """
    return _mark_of(scanner.variant(name))


@functools.lru_cache(maxsize=1024)
def _mark_of(variant: str) -> bytes:
    return digest_bytes(variant.encode())[:RULESET_BYTES]


def build_scanner(config: ArtifactStoreConfig) -> SecretScanner | None:
    """Return the scanner of a configuration, None when scanning is off."""
    if not config.scan_for_secrets:
        return None
    from cas.secretscan import SecretScanner

    return SecretScanner(config)


def named_sources(files: Files, max_files: int) -> dict[str, Content]:
    """Return name → source for either form of ``files``, names checked.

    A list gives each file its last path part as name; a mapping names them itself.

    Raises:
        InvalidInputError: Not a list or mapping, empty, or too long.
        InvalidNameError: A name is unsafe, doubled, or collides with another on some file system.
    """
    if isinstance(files, str | bytes | os.PathLike):
        raise InvalidInputError("files must be a list of paths or a mapping of name to path or bytes")
    if isinstance(files, Mapping):
        pairs: list[tuple[str, Content]] = list(cast("Mapping[str, Content]", files).items())
    else:
        if not isinstance(files, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"files must be a list or a mapping, not {type(files).__name__}")
        # One more than allowed tells that it is too many, also of an iterator that has no end.
        pairs = [(name_of(path), path) for path in itertools.islice(files, max_files + 1)]
    if not pairs:
        raise InvalidInputError("a run needs at least one file", hint="Pass the files of the run in `files`.")
    if len(pairs) > max_files:
        raise InvalidInputError(
            f"a run may have {max_files} files, and more were given", hint="Raise max_files."
        )
    given = tuple([name for name, _ in pairs])
    if len(given) <= _REMEMBERED_NAMES and all(type(name) is str for name in given):
        _check_common_names(given)
    else:
        names.check_artifact_names(given)
    return {names.exact_text(name): source for name, source in pairs}


@functools.lru_cache(maxsize=64)
def _check_common_names(given: tuple[str, ...]) -> None:
    names.check_artifact_names(given)  # names that are refused raise, and are not remembered


def name_of(path: object) -> str:
    """Return the name a file gets when only its path is given: the last part.

    Raises:
        InvalidInputError: It is not a path.
        InvalidNameError: It is empty.
    """
    if isinstance(path, str) and not path:
        raise InvalidNameError("an input path is empty", subject="")
    if not isinstance(path, str | os.PathLike):
        raise InvalidInputError(f"an input file must be a path, not {type(path).__name__}")
    text = os.fspath(path)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not isinstance(text, str):
        raise InvalidInputError("an input path must be text, not bytes")
    last = text.rpartition("/")[2]
    return last if last and last != "." else PurePosixPath(text).name or text


def take_in(
    environment: Environment,
    gate: Gate,
    sources: Mapping[str, Content],
    texts: Mapping[str, bytes],
    on_read: Callable[[int], None] | None = None,
) -> Intake:
    """Read, scan, digest and compress the files of a run.

    Args:
        environment: The open store; read for blobs it already has, written only for large files.
        gate: Scanner and limits.
        sources: Checked name → path or bytes.
        texts: More bytes to scan before anything is stored, such as the metadata, by the name to report.
        on_read: Called with the size of each piece that was read, in bytes.

    Raises:
        SecretDetectedError: The gate found something, in any of them; nothing was stored.
        PurgedContentError: A file's content was purged from the store before.
        InvalidFileError: A file is missing, unreadable, too large, not a regular file, or changed while read.
        StorageError: The disk refused a part of a large file.
    """
    run = RunIntake(environment, gate, on_read)
    try:
        run.scan_texts({**texts, "file names": "\n".join(sources).encode()})
        return run.complete(run.take_all(sources))
    except BaseException:
        run.discard()
        raise


class RunIntake:
    """The files of one run on their way in: what was found, waived and staged so far. Owned by one thread."""

    def __init__(
        self, environment: Environment, gate: Gate, on_read: Callable[[int], None] | None = None
    ) -> None:
        self.findings: list[Finding] = []
        self.waivers: list[WaiverEntry] = []
        self._environment = environment
        self._gate = gate
        self._on_read = on_read
        self._stages: list[Stage] = []
        self._held_bytes = 0
        self._rescanned: dict[bytes, bytes] = {}

    def scan(self, data: bytes, name: str) -> bool:
        """Scan one piece; tell whether it is clean without any waiver."""
        if self._gate.scanner is None:
            return False
        found, waived = self._gate.scanner.scan_waived(data, name)
        return self._note(found, waived)

    def scan_texts(self, texts: Mapping[str, bytes]) -> None:
        """Scan short texts by the names to report, which takes one look where none holds anything."""
        scanner = self._gate.scanner
        if scanner is not None and not scanner.has_nothing(b"\n\n".join(texts.values())):
            for name, data in texts.items():
                self.scan(data, name)

    def _note(self, found: Sequence[Finding], waived: Sequence[Waiver]) -> bool:
        self.findings.extend(found)
        self.waivers.extend(WaiverEntry(w.name, w.line, w.rule, w.source) for w in waived)
        return not found and not waived

    def complete(self, taken: Mapping[str, NewBlob | Blob]) -> Intake:
        """Return the files taken in, in their order; what is staged for them is the caller's from now on.

        Raises:
            SecretDetectedError: The gate found something.
        """
        if self.findings:
            raise SecretDetectedError(self.findings)
        intake = Intake(
            entries=tuple(
                FileEntry(name, blob.size_bytes, blob.digest, blob.oid) for name, blob in taken.items()
            ),
            new_blobs=[blob for blob in taken.values() if isinstance(blob, NewBlob)],
            waivers=tuple(self.waivers),
            raw_bytes=sum(blob.size_bytes for blob in taken.values()),
            rescanned=tuple(self._rescanned.items()),
        )
        # What a file left that was refused while the others went on is nobody's.
        handed_out = {blob.staged_mark for blob in intake.new_blobs}
        self._stages = [stage for stage in self._stages if stage.mark not in handed_out]
        self.discard()
        return intake

    def discard(self) -> None:
        """Remove what files have left in the store so far, and were not handed out by `complete`."""
        for stage in self._stages:
            # A disk that refuses this too must not hide why the run was refused; the garbage collector finds the rest.
            with contextlib.suppress(ArtifactStoreError):
                stage.discard()
        self._stages = []

    def take(self, name: str, source: Content) -> NewBlob | Blob:
        """Take in one file, from memory or from a path."""
        return self.take_all({name: source})[name]

    def take_all(self, sources: Mapping[str, Content]) -> dict[str, NewBlob | Blob]:
        """Take in files, in their order; those that are held in memory are looked up together."""
        taken: dict[str, NewBlob | Blob] = {}
        batch: dict[str, bytes] = {}
        batch_bytes = 0
        for name, source in sources.items():
            found = self._read(name, source)
            if isinstance(found, bytes):
                batch[name] = found
                batch_bytes += len(found)
                if batch_bytes > _BATCH_BYTES:
                    taken |= self._take_small(batch, sources)
                    batch, batch_bytes = {}, 0
            else:
                taken[name] = found
            if self._on_read is not None and isinstance(found, bytes):
                self._on_read(len(found))
        if len(batch) == len(sources):
            return self._take_small(batch, sources)
        taken |= self._take_small(batch, sources)
        return {name: taken[name] for name in sources}

    def take_open(self, name: str, descriptor: int, size_bytes: int) -> NewBlob | Blob:
        """Take in an open file of ``size_bytes``; the descriptor stays the caller's and its position unmoved."""
        found = self._read_open(name, descriptor, size_bytes)
        return self._take_small({name: found}, {name: found})[name] if isinstance(found, bytes) else found

    def _read(self, name: str, source: Content) -> bytes | NewBlob | Blob:
        """Return the content of a file that fits into memory; a large one is taken in."""
        if isinstance(source, bytes | bytearray | memoryview):
            _check_size(self._gate, name, memoryview(source).nbytes)
            return bytes(source)
        if not isinstance(source, str | os.PathLike):
            kind = type(source).__name__
            raise InvalidFileError(
                f"file {name!r}: content must be a path or bytes, not {kind}", subject=name
            )
        path = os.fsdecode(source)
        descriptor = open_input(name, path)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise InvalidFileError(f"file {name!r}: {path!r} is not a regular file", subject=name)
            try:
                found = self._read_open(name, descriptor, before.st_size)
            except OSError as error:
                raise unreadable(name, path, error) from error
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
            after.st_size,
            after.st_mtime_ns,
            after.st_ctime_ns,
        ):
            raise changed(name)
        return found

    def _read_open(self, name: str, descriptor: int, size_bytes: int) -> bytes | NewBlob | Blob:
        _check_size(self._gate, name, size_bytes)
        if size_bytes > LARGE_FILE_BYTES:
            return self._take_large(name, descriptor, size_bytes)
        data = os.pread(descriptor, size_bytes + 1, 0)
        if len(data) != size_bytes:
            raise changed(name)
        return data

    def _take_small(
        self, batch: Mapping[str, bytes], sources: Mapping[str, Content]
    ) -> dict[str, NewBlob | Blob]:
        digests = [digest_bytes(data) for data in batch.values()]
        with self._environment.read() as transaction:
            known = [blobs.find_sound(transaction, digest) for digest in digests]
            purged = tombstones.find_purged(transaction, digests)
            if purged is not None:
                tombstones.refuse(transaction, purged, list(batch)[digests.index(purged)])
        return {
            name: self._bounded(self._judge(name, data, digest, blob), sources[name])
            for (name, data), digest, blob in zip(batch.items(), digests, known, strict=True)
        }

    def _bounded(self, blob: NewBlob | Blob, source: Content) -> NewBlob | Blob:
        """Return a file taken in, its stream written at once when memory holds enough of the run's others.

        Only of a file that can be read again; what was given as bytes is in memory anyhow.
        """
        if isinstance(blob, Blob) or blob.staged_segment is not None:
            return blob
        self._held_bytes += len(blob.stream)
        if self._held_bytes <= HELD_BYTES or len(blob.stream) < LEAST_STAGED_BYTES:
            return blob
        if self.findings or not isinstance(source, str | os.PathLike):
            return blob
        self._held_bytes -= len(blob.stream)
        stage = Stage(self._environment, processmark.own_mark())
        self._stages.append(stage)
        stage.feed(blob.stream)
        stage.finish()
        return msgspec.structs.replace(
            blob,
            stream=b"",
            staged_segment=stage.segment,
            staged_mark=stage.mark,
            staged_bytes=stage.stored_bytes,
            part_count=stage.part_count,
        )

    def _judge(self, name: str, data: bytes, digest: bytes, known: Blob | None) -> NewBlob | Blob:
        """Return what the store has of this content already, or scan and compress it."""
        gate = self._gate
        ruleset = gate.ruleset(name)
        if known is not None and (gate.scanner is None or known.ruleset == ruleset):
            return known
        # A scan that needed a waiver is not remembered: the waiver belongs to this run, the blob may serve others.
        clean = self.scan(data, name)
        if known is not None:
            return self._known(known, ruleset, clean=clean)
        if self.findings:  # the run is refused already: nothing to compress
            return NewBlob(digest, b"", len(data), 0, NOT_SCANNED, b"")
        stream = deflate(data)
        return NewBlob(
            digest=digest,
            oid=object_id("blob", data, gate.object_format),
            size_bytes=len(data),
            crc32=blobs.entry_crc32(pack_entry_header("blob", len(data)), stream),
            ruleset=ruleset if clean else NOT_SCANNED,
            stream=stream,
        )

    def _known(self, blob: Blob, ruleset: bytes, *, clean: bool) -> Blob:
        if clean and blob.ruleset != ruleset:
            self._rescanned[blob.digest] = ruleset
        return blob

    def _take_large(self, name: str, descriptor: int, size_bytes: int) -> NewBlob | Blob:
        """Take in a file too large for memory: read once to judge it, and once more to store it.

        What is staged is written to the disk at once, and a page that is freed again keeps its bytes; so nothing of a
        file is staged before all of it was scanned. The digest shows that both readings saw the same bytes.
        """
        gate = self._gate
        digest, clean = self._inspect_large(name, descriptor, size_bytes)
        with self._environment.read() as transaction:
            known = blobs.find_sound(transaction, digest)
            if known is None:
                tombstones.refuse(transaction, digest, name)
        if self._on_read is not None and (known is not None or self.findings):
            self._on_read(size_bytes)  # it need not be read again
        if known is not None:
            return self._known(known, gate.ruleset(name), clean=clean)
        if self.findings:
            return NewBlob(digest, b"", size_bytes, 0, NOT_SCANNED, b"")
        digester, deflater = Digester(), Deflater()
        hasher = ObjectHasher("blob", size_bytes, gate.object_format)
        stage = Stage(self._environment, processmark.own_mark())
        self._stages.append(stage)
        crc = crc32(pack_entry_header("blob", size_bytes))
        for chunk in iter_chunks(name, descriptor, size_bytes, self._on_read):
            digester.update(chunk)
            hasher.update(chunk)
            piece = deflater.feed(chunk)
            crc = crc32(piece, crc)
            stage.feed(piece)
        if digester.digest() != digest:
            raise changed(name)
        piece = deflater.finish()
        stage.feed(piece)
        stage.finish()
        return NewBlob(
            digest=digest,
            oid=hasher.digest(),
            size_bytes=size_bytes,
            crc32=crc32(piece, crc),
            ruleset=gate.ruleset(name) if clean else NOT_SCANNED,
            stream=b"",
            staged_segment=stage.segment,
            staged_bytes=stage.stored_bytes,
            part_count=stage.part_count,
            staged_mark=stage.mark,
        )

    def _inspect_large(self, name: str, descriptor: int, size_bytes: int) -> tuple[bytes, bool]:
        """Return the digest of a large file, and whether its scan was clean without any waiver."""
        scan = None if self._gate.scanner is None else self._gate.scanner.stream(name)
        digester = Digester()
        for chunk in iter_chunks(name, descriptor, size_bytes, self._on_read):
            digester.update(chunk)
            if scan is not None:
                scan.feed(chunk)
        return digester.digest(), scan is not None and self._note(*scan.finish_waived())


def _check_size(gate: Gate, name: str, size_bytes: int) -> None:
    if size_bytes > gate.max_file_bytes:
        raise InvalidFileError(
            f"file {name!r} is {size_bytes} bytes, more than the {gate.max_file_bytes} allowed",
            subject=name,
            hint="Raise max_file_bytes, or split the file.",
        )

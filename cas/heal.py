"""Healing: damaged and missing blobs get their bytes back, from wherever the same content is found.

A blob whose bytes do not match is quarantined first: from then on the next identical put takes its place, whoever
makes it, and no export takes its segment for what a commit left there. Then each source is asked: another store, the
git repository (`gitexport.healing`), anything that gives content for a digest. Invariant: bytes enter only when they
match digest, size and oid, so a wrong source changes nothing; what cannot be healed stays quarantined, and its runs are
named. It must not know git.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Final

import msgspec

from cas import blobs, catalog, manifest, marks, outbox, processmark, soundness, tombstones
from cas.blobs import NOT_SCANNED, QUARANTINED, SHA1_BYTES, Blob, NewBlob
from cas.codec import Deflater, crc32
from cas.digest import Digester
from cas.errors import ArtifactStoreError, IntegrityError, StorageError
from cas.intake import LARGE_FILE_BYTES
from cas.lmdbenv import Table
from cas.manifest import RunManifest
from cas.objects import ObjectHasher, pack_entry_header
from cas.staging import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cas.config import ObjectFormat
    from cas.lmdbenv import Environment, ReadTransaction, WriteTransaction

_ROWS_PER_SNAPSHOT: Final = 1000
_NAMED_RUNS: Final = 20  # runs named for one blob; a blob that all share would name thousands


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """A blob that is damaged or missing: BLAKE3 digest, git oid and size of its content, and runs that hold it."""

    digest: bytes
    oid: bytes
    size_bytes: int
    runs: tuple[str, ...] = ()


@dataclasses.dataclass(slots=True)
class Healing:
    """What a healing found and did.

    Attributes:
        damaged: Digests of blobs that do not match or are missing, in hexadecimal.
        healed: Those of them that are whole again.
        lifted: Blobs that were quarantined and read well now.
        lost: What is still damaged: ``digest, oid, size_bytes, runs``.
        repaired: Rows of the catalog that were written or removed.
    """

    damaged: list[str] = dataclasses.field(default_factory=list[str])
    healed: list[str] = dataclasses.field(default_factory=list[str])
    lifted: list[str] = dataclasses.field(default_factory=list[str])
    lost: list[dict[str, object]] = dataclasses.field(default_factory=list[dict[str, object]])
    repaired: int = 0

    @property
    def ok(self) -> bool:
        """True when nothing is damaged any more."""
        return not self.lost

    def as_dict(self) -> dict[str, object]:
        """Return what was found and done as JSON-able data."""
        return {"ok": self.ok, **dataclasses.asdict(self)}


def heal(
    environment: Environment,
    sources: Sequence[Callable[[Wanted], Iterable[bytes] | None]] = (),
    *,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Healing:
    """Find damaged and missing blobs, quarantine them, and bring back what the sources have.

    Args:
        environment: The open store; writers go on meanwhile.
        sources: Each gives the content of a blob in chunks, or None when it has none. Asked in this order; a typed
            error of one or an OSError means it has nothing, and what it gives is checked.
        threads: How many read blobs at the same time.
        progress: Called with phase, items done, items in all.

    Raises:
        StorageError: The disk refused; what was healed stays so.
    """
    report = Healing()
    bad = _look(environment, report, threads, progress)
    wanted = _wanted(environment, bad)
    wanted += _unclaimed(environment, bad.difference(item.digest for item in wanted))
    _quarantine(environment, wanted, bad)
    for done, item in enumerate(wanted, start=1):
        report.damaged.append(item.digest.hex())
        if any(_heal_from(environment, source, item) for source in sources):
            report.healed.append(item.digest.hex())
        else:
            lost = {"digest": item.digest.hex(), "oid": item.oid.hex(), "size_bytes": item.size_bytes}
            report.lost.append({**lost, "runs": list(item.runs)})
        if progress is not None:
            progress("heal", done, len(wanted))
    return report


def _look(
    environment: Environment,
    report: Healing,
    threads: int | None,
    progress: Callable[[str, int, int], None] | None,
) -> set[bytes]:
    """Return the digests of blobs that do not match; a quarantined one that does is lifted."""
    with environment.read() as transaction:
        total = transaction.count(Table.BLOBS)
    bad: set[bytes] = set()
    for done, verdict in enumerate(soundness.judge_all(environment, threads=threads), start=1):
        if verdict.fault is not None:
            bad.add(verdict.digest)
        elif _lift(environment, verdict.digest):
            report.lifted.append(verdict.digest.hex())
        if progress is not None:
            progress("blobs", done, total)
    return bad


def _lift(environment: Environment, digest: bytes) -> bool:
    with environment.read() as transaction:
        blob = blobs.find(transaction, digest)
    if blob is None or not blob.is_quarantined:
        return False
    with environment.write() as transaction:
        current = blobs.find(transaction, digest)
        if current == blob:
            row = blobs.encode(msgspec.structs.replace(blob, ruleset=NOT_SCANNED))
            transaction.put(Table.BLOBS, digest, row)
    return current == blob


def _wanted(environment: Environment, bad: set[bytes]) -> list[Wanted]:
    """Return what is known of bad and missing blobs from the manifests that hold them."""
    found: dict[bytes, Wanted] = {}
    position = 0
    while True:
        with environment.read() as transaction:
            last = _want_from(transaction, position, bad, found)
        if last is None:
            return list(found.values())
        position = last


def _want_from(
    transaction: ReadTransaction, position: int, bad: set[bytes], found: dict[bytes, Wanted]
) -> int | None:
    """Look through some manifests after a position; return the last one, None when there are no more."""
    last = None
    for count, (sequence, row) in enumerate(catalog.iter_rows(transaction, start=position + 1), start=1):
        last = sequence
        loaded = manifest.decode(row.manifest)
        for entry in loaded.files if isinstance(loaded, RunManifest) else ():
            is_missing = not transaction.has(Table.BLOBS, entry.digest)
            if is_missing and (
                marks.is_collected(transaction, sequence) or tombstones.exists(transaction, entry.digest)
            ):
                continue
            if is_missing or entry.digest in bad:
                name = f"{loaded.correlation_id}@{loaded.revision}" if isinstance(loaded, RunManifest) else ""
                known = found.get(entry.digest)
                runs = () if known is None else known.runs
                if name not in runs:
                    runs = (*runs, name)[:_NAMED_RUNS]
                found[entry.digest] = Wanted(entry.digest, entry.oid, entry.size_bytes, runs)
        if count == _ROWS_PER_SNAPSHOT:
            break
    return last


def _unclaimed(environment: Environment, bad: set[bytes]) -> list[Wanted]:
    """Return what their own rows say of bad blobs that no manifest holds, and that the next commit may count on."""
    found: list[Wanted] = []
    for digest in sorted(bad):
        with (
            environment.read() as transaction,
            contextlib.suppress(IntegrityError),
        ):  # then nobody counts on it
            blob = blobs.find(transaction, digest)
            if blob is not None:
                found.append(Wanted(digest, blob.oid, blob.size_bytes))
    return found


def _quarantine(environment: Environment, wanted: Sequence[Wanted], bad: set[bytes]) -> None:
    for start in range(0, len(wanted), _ROWS_PER_SNAPSHOT):
        with environment.write() as transaction:
            chosen = [item for item in wanted[start : start + _ROWS_PER_SNAPSHOT] if item.digest in bad]
            places = [_put_quarantined(transaction, item) for item in chosen]
            segments = {segment for segment in places if segment is not None}
            if segments:
                outbox.drop_deposits(transaction, segments)


def _put_quarantined(transaction: WriteTransaction, item: Wanted) -> int | None:
    """Mark the row of a bad blob and return its segment; one that cannot be read is written anew, without a place."""
    try:
        blob = blobs.find(transaction, item.digest)
        if blob is None:
            return None
        row, segment = msgspec.structs.replace(blob, ruleset=QUARANTINED), blob.segment
    except IntegrityError:
        row = Blob(item.digest, item.oid, item.size_bytes, 0, 0, 0, 0, 0, QUARANTINED)
        segment = None
    transaction.put(Table.BLOBS, item.digest, blobs.encode(row))
    return segment


def _heal_from(
    environment: Environment, source: Callable[[Wanted], Iterable[bytes] | None], item: Wanted
) -> bool:
    """Take a blob's content from one source, if it has it and it is the right one."""
    stage = Stage(environment, processmark.own_mark())
    try:
        new = _taken(item, _iter_given(source, item), stage)
    except _SourceFailedError:
        new = None
    except BaseException:
        with contextlib.suppress(StorageError):  # must not hide what went wrong first
            stage.discard()
        raise
    if new is None:
        stage.discard()
        return False
    with environment.write(len(new.stream)) as transaction:
        is_welcome = not tombstones.exists(transaction, item.digest)
        if is_welcome:
            blobs.add(transaction, [new])
    if not is_welcome:
        stage.discard()
    return is_welcome


class _SourceFailedError(Exception):
    """A source failed or has nothing; the store itself is well."""


def _iter_given(source: Callable[[Wanted], Iterable[bytes] | None], item: Wanted) -> Iterator[bytes]:
    """Yield what a source gives, its errors told apart from those of the store that is healed."""
    try:
        chunks = source(item)
        if chunks is not None:
            yield from chunks
    except (ArtifactStoreError, OSError) as error:
        raise _SourceFailedError from error
    if chunks is None:
        raise _SourceFailedError


def _taken(item: Wanted, chunks: Iterable[bytes], stage: Stage) -> NewBlob | None:
    """Return the content as a blob on its way in; None when it is not the one that is wanted."""
    object_format: ObjectFormat = "sha1" if len(item.oid) == SHA1_BYTES else "sha256"
    digester, deflater = Digester(), Deflater()
    hasher = ObjectHasher("blob", item.size_bytes, object_format)
    is_large = item.size_bytes > LARGE_FILE_BYTES
    pieces: list[bytes] = []
    crc = crc32(pack_entry_header("blob", item.size_bytes))
    left_bytes = item.size_bytes
    for chunk in chunks:
        left_bytes -= len(chunk)
        if left_bytes < 0:
            return None
        digester.update(chunk)
        hasher.update(chunk)
        pieces.append(deflater.feed(chunk))
        crc = crc32(pieces[-1], crc)
        if is_large:
            stage.feed(pieces.pop())
    if left_bytes or digester.digest() != item.digest or hasher.digest() != item.oid:
        return None
    pieces.append(deflater.finish())
    crc = crc32(pieces[-1], crc)
    if is_large:
        stage.feed(pieces.pop())
        stage.finish()
    return NewBlob(
        digest=item.digest,
        oid=item.oid,
        size_bytes=item.size_bytes,
        crc32=crc,
        ruleset=NOT_SCANNED,
        stream=b"".join(pieces),
        staged_segment=stage.segment,
        staged_bytes=stage.stored_bytes,
        part_count=max(stage.part_count, 1),
        staged_mark=stage.mark,
    )


def store_source(environment: Environment) -> Callable[[Wanted], Iterable[bytes] | None]:
    """Return a source that reads another store, such as a restored backup."""

    def content(item: Wanted) -> Iterable[bytes] | None:
        with environment.read() as transaction:
            blob = blobs.find_sound(transaction, item.digest)
        return None if blob is None else blobs.iter_content(environment, blob)

    return content

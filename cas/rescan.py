"""Rescan: every blob and manifest of the store under the present secret rules, and who holds what is found.

Invariant: a finding names file, line and rule, never the value; a blob is noted as clean only after a scan of all its
bytes that needed no waiver. Nothing else is written. What cannot be read is reported, never taken for clean.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Final

from cas import blobs, catalog, marks, outbox, records, tombstones
from cas.errors import IntegrityError, InvalidFileError
from cas.intake import LARGE_FILE_BYTES, scan_mark
from cas.lmdbenv import Table
from cas.manifest import ImportedManifest, RunManifest
from cas.objects import parse_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cas.blobs import Blob
    from cas.lmdbenv import Environment, ReadTransaction
    from cas.manifest import Manifest, ManifestRow
    from cas.records import Record
    from cas.secretscan import Finding, SecretScanner, Waiver

_ROWS_PER_SNAPSHOT: Final = 256
# Rows noted as clean in one short write transaction.
_NOTES_PER_TRANSACTION: Final = 256
# Scans remembered at a time, so that a file of many runs is read once; about 100 bytes each.
_REMEMBERED_COUNT: Final = 500_000


@dataclasses.dataclass(slots=True)
class Located:
    """One finding and the manifests that hold it; ``digest`` is None for what stands in the manifest itself."""

    finding: Finding
    digest: bytes | None
    runs: list[Record] = dataclasses.field(default_factory=list["Record"])


@dataclasses.dataclass(slots=True)
class RescanReport:
    """What a rescan looked at and found; ``waived`` counts findings that inline marks or the baseline let through.

    Blobs are counted once, however many runs hold them; one whose names are of several kinds once for each.
    """

    ruleset_version: str
    run_count: int = 0
    blob_count: int = 0
    known_count: int = 0
    byte_count: int = 0
    waived_count: int = 0
    purged_count: int = 0
    located: list[Located] = dataclasses.field(default_factory=list[Located])
    unreadable: list[str] = dataclasses.field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        """True when nothing was found and everything could be read."""
        return not self.located and not self.unreadable

    def as_dict(self) -> Record:
        """Return the report as JSON-able data; no value of a credential is in it."""
        runs = [run for item in self.located for run in item.runs]
        return {
            "ok": self.ok,
            "ruleset_version": self.ruleset_version,
            "runs": self.run_count,
            "blobs_scanned": self.blob_count,
            "blobs_known_clean": self.known_count,
            "bytes_scanned": self.byte_count,
            "waived": self.waived_count,
            "purged": self.purged_count,
            "unreadable": self.unreadable,
            "branches": sorted({str(run["branch"]) for run in runs}),
            "tags": sorted({str(tag) for run in runs for tag in _texts(run["tags"])}),
            "commits": sorted({str(run["commit_sha"]) for run in runs}),
            "findings": [
                {
                    **item.finding.as_dict(),
                    "digest": None if item.digest is None else item.digest.hex(),
                    "runs": item.runs,
                }
                for item in self.located
            ],
        }


def _texts(value: object) -> list[object]:
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def scan_all(
    environment: Environment,
    scanner: SecretScanner,
    *,
    fresh: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> RescanReport:
    """Scan the whole store; writers may go on meanwhile.

    Args:
        environment: The open store. If it is open for writing, clean blobs are noted as such, so that the next rescan
            and the next commit of the same content need not read them.
        scanner: The rules to apply.
        fresh: Scan also what is noted as clean under these very rules.
        progress: Called with ``scan``, manifests done, manifests in all.
    """
    scan = _Rescan(environment, scanner, fresh=fresh)
    with environment.read() as transaction:
        last = catalog.next_sequence(transaction) - 1
    for sequence, loaded, row in iter_manifests(environment):
        scan.take(sequence, loaded, row)
        if progress is not None and (sequence % _ROWS_PER_SNAPSHOT == 0 or sequence >= last):
            progress("scan", min(sequence, last), last)
    return scan.finish()


def iter_manifests(
    environment: Environment, start: int = 0
) -> Iterator[tuple[int, Manifest | None, ManifestRow | None]]:
    """Yield every manifest from a sequence number on, oldest first, with a new snapshot every few hundred.

    One that cannot be decoded is yielded as None.
    """
    while True:
        batch: list[tuple[int, Manifest | None, ManifestRow | None]] = []
        with environment.read() as transaction:
            for key in transaction.scan_keys(Table.MANIFESTS, start=catalog.sequence_key(start)):
                sequence = catalog.sequence_of(key)
                try:
                    batch.append((sequence, *records.load(transaction, sequence)))
                except IntegrityError:
                    batch.append((sequence, None, None))
                if len(batch) == _ROWS_PER_SNAPSHOT:
                    break
        yield from batch
        if len(batch) < _ROWS_PER_SNAPSHOT:
            return
        start = batch[-1][0] + 1


def run_record(transaction: ReadTransaction, sequence: int, loaded: Manifest, row: ManifestRow) -> Record:
    """Return what identifies a manifest to people and in git, and how far its export is."""
    record: Record = {
        "kind": "commit" if isinstance(loaded, RunManifest) else "rollback",
        "branch": loaded.branch,
        "commit_sha": row.commit_oid.hex(),
        "tags": [tag for tag, _ in row.tags],
        "export_state": outbox.status(transaction, sequence).state,
    }
    if isinstance(loaded, RunManifest):
        return record | {"correlation_id": loaded.correlation_id, "revision": loaded.revision}
    return record | {"reverted_to": loaded.tag}


def scan_blob(
    environment: Environment, scanner: SecretScanner, blob: Blob, name: str
) -> tuple[list[Finding], list[Waiver]]:
    """Scan one stored blob as a file of the given name; memory stays bounded.

    Raises:
        IntegrityError: Its bytes are damaged.
        InvalidFileError: A configured pattern takes too long in it.
    """
    content = blobs.iter_content(environment, blob)
    if blob.size_bytes <= LARGE_FILE_BYTES:
        return scanner.scan_waived(b"".join(content), name)
    stream = scanner.stream(name)
    for chunk in content:
        stream.feed(chunk)
    return stream.finish_waived()


class _Rescan:
    """One rescan at work."""

    def __init__(self, environment: Environment, scanner: SecretScanner, *, fresh: bool) -> None:
        self._environment = environment
        self._scanner = scanner
        self._fresh = fresh
        self._report = RescanReport(scanner.ruleset_version)
        self._clean: set[bytes] = set()
        self._gone: set[bytes] = set()
        self._dirty: dict[tuple[bytes, bytes, str], list[Located]] = {}
        self._notes: list[tuple[bytes, bytes]] = []
        # Commits with a finding in a file; a rollback to one of them holds the same files.
        self._tainted: dict[bytes, list[Located]] = {}

    def take(self, sequence: int, loaded: Manifest | None, row: ManifestRow | None) -> None:
        """Scan what one manifest holds and refers to."""
        if loaded is None or row is None:
            self._report.unreadable.append(f"manifest {sequence}")
            return
        self._report.run_count += 1
        with self._environment.read() as transaction:
            texts = [*texts_of(loaded), *notes_of(transaction, sequence)]
        found = self._scan_texts(sequence, texts)
        if isinstance(loaded, RunManifest):
            with self._environment.read() as transaction:
                given_up = marks.is_collected(transaction, sequence)
            for entry in () if given_up else loaded.files:
                held = self._scan_file(entry.digest, entry.name)
                found += held
                if held:
                    self._tainted.setdefault(row.commit_oid, []).extend(held)
        else:
            found += self._tainted.get(loaded.source, [])
        if not found:
            return
        with self._environment.read() as transaction:
            record = run_record(transaction, sequence, loaded, row)
        for item in found:
            item.runs.append(record)

    def _scan_texts(self, sequence: int, texts: Iterable[tuple[str, bytes]]) -> list[Located]:
        """Scan what the manifest itself carries, and what was said of it: IDs, names, metadata, messages, notes."""
        found: list[Located] = []
        for name, data in texts:
            try:
                findings, waivers = self._scanner.scan_waived(data, name)
            except InvalidFileError:  # a configured pattern that takes too long
                self._report.unreadable.append(f"{name} of manifest {sequence}")
                continue
            self._report.waived_count += len(waivers)
            found += [Located(finding, None) for finding in findings]
        self._report.located += found
        return found

    def _scan_file(self, digest: bytes, name: str) -> list[Located]:
        mark = scan_mark(self._scanner, name)
        key = (digest, mark, name)
        if key in self._dirty:
            return self._dirty[key]
        if digest + mark in self._clean or digest in self._gone:
            return []
        with self._environment.read() as transaction:
            blob = blobs.find_sound(transaction, digest)
            is_purged = blob is None and tombstones.exists(transaction, digest)
        if blob is None:
            if is_purged:
                self._report.purged_count += 1
            else:
                self._report.unreadable.append(digest.hex())
            self._gone.add(digest)
            return []
        if blob.ruleset == mark and not self._fresh:
            self._report.known_count += 1
            self._remember(digest, mark)
            return []
        return self._scan_unknown(blob, mark, name)

    def _scan_unknown(self, blob: Blob, mark: bytes, name: str) -> list[Located]:
        try:
            findings, waivers = scan_blob(self._environment, self._scanner, blob, name)
        except (IntegrityError, InvalidFileError):
            self._report.unreadable.append(blob.digest.hex())
            self._remember(blob.digest, mark)
            return []
        self._report.blob_count += 1
        self._report.byte_count += blob.size_bytes
        self._report.waived_count += len(waivers)
        if findings:
            found = [Located(finding, blob.digest) for finding in findings]
            self._dirty[blob.digest, mark, name] = found
            self._report.located += found
            return found
        self._remember(blob.digest, mark)
        if not waivers and blob.ruleset != mark:
            self._note(blob.digest, mark)
        return []

    def _remember(self, digest: bytes, mark: bytes) -> None:
        if len(self._clean) >= _REMEMBERED_COUNT:
            self._clean.clear()
        self._clean.add(digest + mark)

    def _note(self, digest: bytes, mark: bytes) -> None:
        self._notes.append((digest, mark))
        if len(self._notes) >= _NOTES_PER_TRANSACTION:
            self._write_notes()

    def _write_notes(self) -> None:
        if self._notes and not self._environment.read_only:
            with self._environment.write() as transaction:
                for digest, mark in self._notes:
                    blobs.remember_scan(transaction, digest, mark)
        self._notes.clear()
        self._environment.release_pages()

    def finish(self) -> RescanReport:
        """Write what is left to note, and return the report."""
        self._write_notes()
        return self._report


def texts_of(loaded: Manifest) -> Iterator[tuple[str, bytes]]:
    """Yield the texts a manifest itself carries, with the name each is reported by."""
    if not isinstance(loaded, RunManifest):
        yield "reason", "\n".join(filter(None, (loaded.branch, loaded.tag, loaded.reason))).encode()
        return
    ids = [loaded.workflow_id, loaded.task_id, loaded.correlation_id, loaded.prompt_hash]
    if isinstance(loaded, ImportedManifest):
        tags = (name for name, _ in loaded.tag_objects)
        ids += [loaded.branch, loaded.author_name, loaded.author_email, *tags]
    yield "metadata", loaded.metadata
    yield "ids", "\n".join(filter(None, ids)).encode("utf-8", "surrogateescape")
    yield "file names", "\n".join(entry.name for entry in loaded.files).encode()
    if isinstance(loaded, ImportedManifest):
        yield "metadata.json", loaded.metadata_file
        yield "names in trees", b"\n".join(_names_in(loaded))
        yield (
            "message",
            b"\n".join(_message(data) for data in (loaded.commit, *dict(loaded.tag_objects).values())),
        )


def notes_of(transaction: ReadTransaction, sequence: int) -> Iterator[tuple[str, bytes]]:
    """Yield what people noted about a manifest, with the name each is reported by."""
    pin = marks.find_pin(transaction, sequence)
    if pin is not None and pin.note is not None:
        yield "pin's note", pin.note.encode()
    forgotten = marks.find_forgotten(transaction, sequence)
    if forgotten is not None and forgotten.reason is not None:
        yield "reason of forgetting", forgotten.reason.encode()


def _names_in(loaded: ImportedManifest) -> Iterator[bytes]:
    for tree in loaded.trees:
        with contextlib.suppress(IntegrityError):  # `cas verify` names it
            yield from (entry.name for entry in parse_tree(tree, loaded.object_format))


def _message(data: bytes) -> bytes:
    """Return the text of a commit or tag object, which follows its headers."""
    return data.partition(b"\n\n")[2]

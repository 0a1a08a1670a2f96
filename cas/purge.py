"""Purge: take content out of the store for good, and tell what has to follow in git and elsewhere.

Invariant: the bytes, their row and the queue entries that would send them out change in one transaction, together with
the tombstone that keeps the content away. Manifests stay as they are, so ids and history stay true; what refers to the
content refuses to be read. git is not touched: what was exported can only be rewritten there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from typing import TYPE_CHECKING, Final

from cas import blobs, catalog, names, outbox, records, tombstones
from cas.errors import IntegrityError, InvalidFileError, InvalidInputError, NotFoundError
from cas.manifest import RunManifest
from cas.rescan import iter_manifests, notes_of, run_record, scan_blob, texts_of
from cas.tombstones import Tombstone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cas.blobs import Blob
    from cas.lmdbenv import Environment, ReadTransaction, WriteTransaction
    from cas.manifest import Manifest, ManifestRow
    from cas.records import Record
    from cas.secretscan import Finding, SecretScanner, Waiver

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{32}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_REASON: Final = "a file of it was purged from the store, so it must not go out"
_GONE_REASON: Final = (
    "it stands on a commit of its branch whose file was purged, and which the remote does not have any more, so it "
    "must not go out"
)
_FOLLOWER_REASON: Final = "it stands on a commit of its branch whose file was purged, so it must not go out"


@dataclasses.dataclass(slots=True)
class _Affected:
    """What refers to the content: manifests by sequence, the files in them, and branches from a sequence on."""

    records: dict[int, Record] = dataclasses.field(default_factory=dict[int, "Record"])
    files: dict[int, list[str]] = dataclasses.field(default_factory=dict[int, list[str]])
    sources: dict[bytes, list[str]] = dataclasses.field(default_factory=dict[bytes, list[str]])
    names: dict[bytes, list[str]] = dataclasses.field(default_factory=dict[bytes, list[str]])
    branches: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    next_sequence: int = 1

    def note(self, transaction: ReadTransaction, sequence: int, loaded: Manifest, row: ManifestRow) -> None:
        self.records[sequence] = run_record(transaction, sequence, loaded, row)
        self.branches.setdefault(loaded.branch, sequence)


def purge(
    environment: Environment,
    scanner: SecretScanner,
    target: str,
    *,
    now_us: int,
    dry_run: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Record:
    """Remove content from the store and keep it away.

    Args:
        environment: The open store, not read-only.
        scanner: Finds what a fingerprint stands for, and what there is to rotate.
        target: Fingerprint of a finding (32 hexadecimal characters), or digest of a stored file (64).
        now_us: Microseconds since the epoch.
        dry_run: Change nothing.
        progress: Called with ``scan`` or ``look``, manifests done, manifests in all.

    Returns:
        ``target, dry_run, blobs, runs, held, rotate, remaining`` and ``git``, which says what to rewrite there:
        ``branches, tags, commits, later_commits, paths``. All JSON-able; no value of a credential is in it.

    Raises:
        InvalidInputError: The target has neither form.
        NotFoundError: The store holds no such content.
        InvalidFileError: A configured pattern takes too long in a file, so that its fingerprints are not known.
        StorageError: The disk refused; nothing was changed.
    """
    if not isinstance(target, str) or not (_FINGERPRINT.fullmatch(target) or _DIGEST.fullmatch(target)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(
            "a purge needs a fingerprint (32 hexadecimal characters) or a digest (64)", subject=str(target)
        )
    sought = bytes.fromhex(target) if _DIGEST.fullmatch(target) else None
    search = _Search(environment, scanner, None if sought else target, progress)
    affected = search.run({sought} if sought else set())
    digests = search.digests
    with environment.read() as transaction:
        stored = {digest: blobs.find(transaction, digest) for digest in digests}
        buried = {digest: tombstones.find(transaction, digest) for digest in digests}
    present = {digest for digest in digests if stored[digest] or buried[digest]}
    if not present and not search.remaining:
        raise NotFoundError(
            "the store holds no such content",
            subject=target,
            hint="`cas scan --all --json` lists digests and fingerprints.",
        )
    rotate = {item["fingerprint"]: item for item in search.findings}
    for digest in present:
        rotate |= _findings_of(environment, scanner, stored[digest], affected.names.get(digest, []))
    held = 0
    if present and not dry_run:
        with environment.write() as transaction:
            for digest in search.catch_up(transaction, affected):
                present.add(digest)
                stored[digest], buried[digest] = blobs.find(transaction, digest), None
                rotate |= _findings_of(environment, scanner, stored[digest], affected.names.get(digest, []))
            rotate |= {item["fingerprint"]: item for item in search.findings}
            doomed = {digest: blob for digest, blob in stored.items() if blob is not None}
            fingerprints = tuple(sorted(map(str, rotate)))
            held = _apply(transaction, affected, doomed, fingerprints, now_us)
    records_of_blobs = [
        _blob_record(digest, stored[digest], buried[digest], affected) for digest in sorted(present)
    ]
    found: Record = {
        "rotate": list(rotate.values()),
        "remaining": search.remaining,
        "blobs": records_of_blobs,
    }
    return {"target": target, "dry_run": dry_run, "held": held, **found, **_referring(environment, affected)}


def _referring(environment: Environment, affected: _Affected) -> Record:
    with environment.read() as transaction:
        return {
            "runs": [
                {**record, "files": affected.files.get(sequence, [])}
                for sequence, record in sorted(affected.records.items())
            ],
            "git": _to_rewrite(transaction, affected),
        }


def first_held(transaction: ReadTransaction) -> dict[str, int]:
    """Return the branches with commits that must not go out, each with the sequence of the first.

    Raises:
        IntegrityError: A manifest is damaged.
    """
    branches: dict[str, int] = {}
    for sequence, _ in outbox.iter_held(transaction):
        branch = records.load(transaction, sequence)[0].branch
        branches[branch] = min(branches.get(branch, sequence), sequence)
    return branches


def hold_followers(environment: Environment, now_us: int) -> int:
    """Set aside what stands on held commits of its branch; called before a push, which would send those along.

    Returns:
        How many entries were set aside.
    """
    with environment.read() as transaction:
        branches = first_held(transaction)
        if not branches or not any(_waiting(transaction, branches)):
            return 0
    with environment.write() as transaction:
        return _hold(transaction, _waiting(transaction, branches), _FOLLOWER_REASON, now_us)


def hold_returned(transaction: WriteTransaction, sequences: Iterable[int], now_us: int) -> int:
    """Set aside what was queued again although a file of it was purged, and what stands on that.

    Called where runs that had gone out are queued again because git or the remote has them no more: somebody may have
    rewritten history there just for the sake of that file, while another repository still has it.

    Returns:
        How many entries were set aside.
    """
    digests = set(tombstones.iter_digests(transaction))
    if not digests:
        return 0
    returned: list[int] = []
    for sequence in sequences:
        with contextlib.suppress(IntegrityError):  # damaged: the export sets it aside and says why
            if _has_purged(transaction, sequence, digests):
                returned.append(sequence)
    if not returned:
        return 0
    held = _hold(transaction, returned, _REASON, now_us)
    return held + _hold(transaction, _waiting(transaction, first_held(transaction)), _FOLLOWER_REASON, now_us)


def find_purged(transaction: ReadTransaction, branches: Mapping[str, int]) -> dict[str, tuple[int, bytes]]:
    """Return the newest commit with a purged file of each branch that has one: sequence and raw oid.

    Args:
        transaction: Sees the store.
        branches: Branch -> sequence up to which its commits count.
    """
    digests = set(tombstones.iter_digests(transaction))
    found: dict[str, tuple[int, bytes]] = {}
    for branch, last in branches.items() if digests else ():
        for sequence in catalog.branch_sequences(transaction, branch):
            with contextlib.suppress(IntegrityError):  # damaged: `cas verify` names it
                if sequence <= last and _has_purged(transaction, sequence, digests):
                    found[branch] = sequence, records.load(transaction, sequence)[1].commit_oid
                    break
    return found


def hold_above(environment: Environment, sequences: Iterable[int], now_us: int) -> int:
    """Set aside what stands on a commit with a purged file that the remote has no more; return how many entries."""
    with environment.write() as transaction:
        return _hold(transaction, sequences, _GONE_REASON, now_us)


def _has_purged(transaction: ReadTransaction, sequence: int, digests: set[bytes]) -> bool:
    loaded = records.load(transaction, sequence)[0]
    if not isinstance(loaded, RunManifest):
        source = records.find_commit(transaction, loaded.source)
        return source is not None and _has_purged(transaction, source, digests)
    return any(entry.digest in digests for entry in loaded.files)


class _Search:
    """Goes through all manifests once, for what holds a fingerprint or a digest."""

    def __init__(
        self,
        environment: Environment,
        scanner: SecretScanner,
        fingerprint: str | None,
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        self._environment = environment
        self._scanner = scanner
        self._fingerprint = fingerprint
        self._progress = progress
        self._judged: dict[tuple[bytes, str], bool] = {}
        self.digests: set[bytes] = set()
        self.findings: list[Record] = []
        self.remaining: list[Record] = []

    def run(self, digests: set[bytes]) -> _Affected:
        """Return what refers to the digests, after finding those that hold the fingerprint."""
        self.digests = digests
        if self._fingerprint is not None:
            self._find_digests()
        affected = _Affected()
        for sequence, loaded, row in self._manifests("look"):
            affected.next_sequence = sequence + 1
            if loaded is not None and row is not None:
                with self._environment.read() as transaction:
                    _refer(transaction, affected, self.digests, sequence, loaded, row)
        return affected

    def catch_up(self, transaction: WriteTransaction, affected: _Affected) -> set[bytes]:
        """Look at the manifests written since the search, under the lock that keeps further ones out.

        Returns:
            Digests of content in them that holds the fingerprint, and was not known of before.
        """
        known = set(self.digests)
        for sequence in range(affected.next_sequence, catalog.next_sequence(transaction)):
            if catalog.get_row(transaction, sequence) is None:
                continue
            loaded, row = records.load(transaction, sequence)
            if self._fingerprint is not None:
                self._look_at_texts(sequence, loaded, row)
                self._add_digests(loaded)
            _refer(transaction, affected, self.digests, sequence, loaded, row)
        return self.digests - known

    def _manifests(self, phase: str) -> Iterable[tuple[int, Manifest | None, ManifestRow | None]]:
        with self._environment.read() as transaction:
            last = catalog.next_sequence(transaction) - 1
        for item in iter_manifests(self._environment):
            yield item
            if self._progress is not None and (item[0] % 256 == 0 or item[0] >= last):
                self._progress(phase, min(item[0], last), last)

    def _find_digests(self) -> None:
        with self._environment.read() as transaction:
            for digest, tombstone in tombstones.iter_all(transaction):
                if self._fingerprint in tombstone.fingerprints:
                    self.digests.add(digest)
        for sequence, loaded, row in self._manifests("scan"):
            if loaded is None or row is None:
                continue
            self._look_at_texts(sequence, loaded, row)
            self._add_digests(loaded)

    def _add_digests(self, loaded: Manifest) -> None:
        for entry in loaded.files if isinstance(loaded, RunManifest) else ():
            if entry.digest not in self.digests and self._holds(entry.digest, entry.name):
                self.digests.add(entry.digest)

    def _look_at_texts(self, sequence: int, loaded: Manifest, row: ManifestRow) -> None:
        """Note where a manifest itself carries the value: that cannot be purged, as ids depend on it."""
        with self._environment.read() as transaction:
            texts = [*texts_of(loaded), *notes_of(transaction, sequence)]
        for name, data in texts:
            for rule, fingerprint in _all_findings(self._scanner, data, name):
                if fingerprint == self._fingerprint:
                    with self._environment.read() as transaction:
                        record = run_record(transaction, sequence, loaded, row)
                    self.remaining.append({"where": name, "rule": rule, **record})
                    self.findings.append({"rule": rule, "fingerprint": fingerprint})

    def _holds(self, digest: bytes, name: str) -> bool:
        key = (digest, self._scanner.variant(name))
        if key not in self._judged:
            with self._environment.read() as transaction:
                blob = blobs.find(transaction, digest)
            found = _findings_of(self._environment, self._scanner, blob, [name], must_scan=True)
            self._judged[key] = self._fingerprint in found
        return self._judged[key]


def _all_findings(scanner: SecretScanner, data: bytes, name: str) -> list[tuple[str, str]]:
    findings, waivers = scanner.scan_waived(data, name)
    return _marks_of(findings, waivers)


def _marks_of(findings: Sequence[Finding], waivers: Sequence[Waiver]) -> list[tuple[str, str]]:
    return [(item.rule, item.fingerprint) for item in findings] + [
        (item.rule, item.fingerprint) for item in waivers
    ]


def _findings_of(
    environment: Environment,
    scanner: SecretScanner,
    blob: Blob | None,
    file_names: Iterable[str],
    *,
    must_scan: bool = False,
) -> dict[object, Record]:
    """Return rule and fingerprint of what a blob holds, waived or not; nothing for bytes that cannot be read."""
    found: dict[object, Record] = {}
    for name in {scanner.variant(name): name for name in file_names}.values():
        try:
            findings, waivers = scan_blob(environment, scanner, blob, name) if blob is not None else ([], [])
        except IntegrityError:
            continue
        except InvalidFileError:  # a configured pattern takes too long: what it would find is not known
            if must_scan:
                raise
            continue
        for rule, fingerprint in _marks_of(findings, waivers):
            found[fingerprint] = {"rule": rule, "fingerprint": fingerprint}
    return found


def _refer(
    transaction: ReadTransaction,
    affected: _Affected,
    digests: set[bytes],
    sequence: int,
    loaded: Manifest,
    row: ManifestRow,
) -> None:
    """Note a manifest if it refers to one of the digests, by itself or through the run it goes back to."""
    if not isinstance(loaded, RunManifest):
        if loaded.source in affected.sources:
            affected.note(transaction, sequence, loaded, row)
            affected.files[sequence] = affected.sources[loaded.source]
        return
    held = [entry for entry in loaded.files if entry.digest in digests]
    if not held:
        return
    affected.note(transaction, sequence, loaded, row)
    folder = names.task_directory(loaded.task_id)
    affected.files[sequence] = [f"{names.ARTIFACT_ROOT}/{folder}/{entry.name}" for entry in held]
    affected.sources[row.commit_oid] = affected.files[sequence]
    for entry in held:
        affected.names.setdefault(entry.digest, []).append(entry.name)


def _apply(
    transaction: WriteTransaction,
    affected: _Affected,
    doomed: dict[bytes, Blob],
    fingerprints: tuple[str, ...],
    now_us: int,
) -> int:
    for digest, seen in doomed.items():
        blob = blobs.find(transaction, digest)  # again: the garbage collector may have moved or removed it
        if blob is not None:
            blobs.erase(transaction, blob)
        blob = blob or seen
        tombstones.put(transaction, digest, Tombstone(now_us, blob.oid, blob.size_bytes, fingerprints))
    held = _hold(transaction, sorted(affected.records), _REASON, now_us)
    return held + _hold(transaction, _waiting(transaction, affected.branches), _FOLLOWER_REASON, now_us)


def _hold(transaction: WriteTransaction, sequences: Iterable[int], reason: str, now_us: int) -> int:
    return sum(
        outbox.hold(transaction, sequence, reason=reason, now_us=now_us)
        for sequence in list(sequences)
        if not _is_held(transaction, sequence)
    )


def _is_held(transaction: ReadTransaction, sequence: int) -> bool:
    entry = outbox.find_entry(transaction, sequence)
    return entry is not None and entry[1].held


def _waiting(transaction: ReadTransaction, branches: dict[str, int]) -> Iterable[int]:
    """Yield what waits on a branch above a sequence and is not held; only branches with a held entry count."""
    for branch, first in branches.items():
        above = [number for number in catalog.branch_sequences(transaction, branch) if number >= first]
        first_held = min((number for number in above if _is_held(transaction, number)), default=None)
        if first_held is None:
            continue
        for number in above:
            entry = outbox.find_entry(transaction, number) if number > first_held else None
            if entry is not None and not entry[1].held:
                yield number


def _blob_record(
    digest: bytes, blob: Blob | None, tombstone: Tombstone | None, affected: _Affected
) -> Record:
    known = blob or tombstone
    return {
        "digest": digest.hex(),
        "oid": "" if known is None else known.oid.hex(),
        "size_bytes": 0 if known is None else known.size_bytes,
        "names": sorted(set(affected.names.get(digest, []))),
        "purged_before": blob is None,
    }


def _to_rewrite(transaction: ReadTransaction, affected: _Affected) -> Record:
    """Return what git holds of it: the commits with the file, and the later ones whose ids a rewrite changes."""
    exported = {
        sequence: record
        for sequence, record in sorted(affected.records.items())
        if outbox.get_receipt(transaction, sequence) is not None
    }
    later: list[str] = []
    branches = dict.fromkeys(str(record["branch"]) for record in exported.values())
    for branch in branches:
        first = min(number for number, record in exported.items() if record["branch"] == branch)
        later += [
            records.load(transaction, number)[1].commit_oid.hex()
            for number in catalog.branch_sequences(transaction, branch, reverse=False)
            if number > first
            and number not in exported
            and outbox.get_receipt(transaction, number) is not None
        ]
    tags = [tag for record in exported.values() for tag in _tags(record)]
    return {
        "branches": list(branches),
        "tags": tags,
        "commits": [record["commit_sha"] for record in exported.values()],
        "later_commits": later,
        "paths": sorted({path for number in exported for path in affected.files.get(number, [])}),
    }


def _tags(record: Record) -> list[str]:
    tags = record["tags"]
    return [str(tag) for tag in tags] if isinstance(tags, list) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]

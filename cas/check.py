"""The invariants of the format, one function each, and the verify run that goes through them.

MUST (breaking one loses data): `rows_intact`, `blobs_match`, `manifests_complete`, `names_resolve`, `outbox_refers`,
`entries_or_receipts`, `ids_reproduce`, `purged_stay_away`, `marks_refer`. SHOULD (repairable): `catalog_matches`,
`segments_referenced`. Each function yields faults and changes nothing; docs/format.md lists them under the same names.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import time
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from cas import (
    blobs,
    catalog,
    gitform,
    indexes,
    manifest,
    marks,
    metrics,
    outbox,
    records,
    soundness,
    tombstones,
)
from cas.errors import ArtifactStoreError, IntegrityError
from cas.lmdbenv import Table
from cas.manifest import RunManifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cas.lmdbenv import Environment, ReadTransaction

Level = Literal["must", "should"]
_T = TypeVar("_T")
# One snapshot is not held longer than about this many rows, so that a long verify does not stop pages being reused.
_ROWS_PER_SNAPSHOT: Final = 512
_MOST_RUNS: Final = 20  # named for one blob; one that all runs share would name thousands


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One broken invariant: which, where, and up to twenty runs that hold the blob it is about."""

    check: str
    level: Level
    subject: str
    detail: str
    runs: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return the fault as JSON-able data."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(slots=True)
class Report:
    """What a verify looked at and found."""

    faults: list[Fault] = dataclasses.field(default_factory=list[Fault])
    manifest_count: int = 0
    blob_count: int = 0
    byte_count: int = 0
    complete: bool = True
    mark_lifted: bool = False
    purged: list[str] = dataclasses.field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        """True when no invariant was found broken."""
        return not self.faults

    def as_dict(self) -> dict[str, object]:
        """Return the report as JSON-able data."""
        return {
            "ok": self.ok,
            "complete": self.complete,
            "mark_lifted": self.mark_lifted,
            "manifests": self.manifest_count,
            "blobs": self.blob_count,
            "bytes": self.byte_count,
            "purged": self.purged,
            "faults": [fault.as_dict() for fault in self.faults],
        }


class Budget:
    """How much of a verify is done: a share of the blobs, and a time box."""

    def __init__(self, sample: float, max_duration_s: float | None, seed: int) -> None:
        self._sample = sample
        self._random = random.Random(seed)  # noqa: S311  sampling, no secret
        self._deadline = None if max_duration_s is None else time.monotonic() + max_duration_s

    def picks(self) -> bool:
        """Tell whether the next item belongs to the sample."""
        return self._sample >= 1 or self._random.random() < self._sample

    @property
    def spent(self) -> bool:
        """True when the time box is used up."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def within(self, rows: Iterable[_T]) -> Iterator[_T]:
        """Yield rows as long as there is time."""
        return itertools.takewhile(lambda _: not self.spent, rows)


_ALL: Final = Budget(1.0, None, 0)


def verify(
    environment: Environment,
    *,
    sample: float = 1.0,
    max_duration_s: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Go through every invariant; readers and writers go on meanwhile.

    Args:
        environment: The open store.
        sample: Share of blobs and manifests to read, above 0 up to 1.
        max_duration_s: Stop after this many seconds, as soon as the blobs at hand are read, and say that the report is
            not complete; naming the runs of damaged blobs comes on top.
        seed: Seed of the sample.
        threads: How many read blobs at the same time; None for as many as there are processors, up to four.
        progress: Called with phase, items done and items in all.
    """
    report = Report(complete=sample >= 1)
    budget = Budget(sample, max_duration_s, seed)
    with environment.read() as transaction:
        blob_total, manifest_total = transaction.count(Table.BLOBS), transaction.count(Table.MANIFESTS)
        # First, as they cost little: a time box that is too small for all content still sees to every row.
        report.faults.extend(rows_intact(transaction, budget))
        report.purged = [digest.hex() for digest in tombstones.iter_digests(transaction)]
        for check, level in _WHOLE_STORE_CHECKS:
            report.faults.extend(_guarded(check.__name__, level, "the store", check(transaction, budget)))
        report.complete = report.complete and not budget.spent
    for fault in blobs_match(environment, report, budget, threads):
        report.faults.append(fault)
        _tell(progress, "blobs", report.blob_count, blob_total)
    _tell(progress, "blobs", report.blob_count, blob_total)
    for index, faults in enumerate(_manifest_faults(environment, report, budget)):
        report.faults.extend(faults)
        if index % _ROWS_PER_SNAPSHOT == 0:
            _tell(progress, "manifests", report.manifest_count, manifest_total)
    report.faults = _with_runs(environment, report.faults)
    _tell(progress, "manifests", report.manifest_count, manifest_total)
    return report


def _with_runs(environment: Environment, faults: list[Fault]) -> list[Fault]:
    """Name the runs of damaged blobs; whatever the time box says, as that is what the damage means."""
    held: dict[str, list[str]] = {fault.subject: [] for fault in faults if fault.check == "blobs_match"}
    start = 0 if held else None
    while start is not None:
        with environment.read() as transaction:
            start = _add_runs(transaction, start, held)
    return [
        dataclasses.replace(fault, runs=tuple(held[fault.subject])) if fault.check == "blobs_match" else fault
        for fault in faults
    ]


def _add_runs(transaction: ReadTransaction, start: int, held: dict[str, list[str]]) -> int | None:
    """Look at some manifests for blobs; return where the next ones begin, None at the end."""
    sequences = catalog.sequences_from(transaction, start, _ROWS_PER_SNAPSHOT)
    for sequence in sequences:
        try:
            loaded, _ = records.load(transaction, sequence)
        except ArtifactStoreError:
            continue  # a fault of its own, which names the manifest
        for entry in loaded.files if isinstance(loaded, RunManifest) else ():
            runs = held.get(entry.digest.hex())
            if runs is not None and len(runs) < _MOST_RUNS and _named(loaded) not in runs:
                runs.append(_named(loaded))
    return sequences[-1] + 1 if len(sequences) == _ROWS_PER_SNAPSHOT else None


def _tell(progress: Callable[[str, int, int], None] | None, phase: str, done: int, total: int) -> None:
    if progress is not None:
        progress(phase, done, total)


def blobs_match(
    environment: Environment, report: Report, budget: Budget, threads: int | None = None
) -> Iterator[Fault]:
    """MUST: the bytes of every blob match its digest, its size, its oid's row and the CRC-32 of its pack entry."""
    for verdict in soundness.judge_all(
        environment, picks=budget.picks, should_stop=lambda: budget.spent, threads=threads
    ):
        report.blob_count += 1
        report.byte_count += verdict.size_bytes
        if verdict.fault is not None:
            yield Fault("blobs_match", "must", verdict.digest.hex(), verdict.fault)
    report.complete = report.complete and not budget.spent


def _manifest_faults(environment: Environment, report: Report, budget: Budget) -> Iterator[list[Fault]]:
    start = 0
    while True:
        with environment.read() as transaction:
            count = 0
            for key in transaction.scan_keys(Table.MANIFESTS, start=catalog.sequence_key(start)):
                if budget.spent:
                    report.complete = False
                    return
                start = catalog.sequence_of(key) + 1
                count += 1
                if budget.picks():
                    report.manifest_count += 1
                    yield list(_row_faults(transaction, start - 1))
                if count == _ROWS_PER_SNAPSHOT:
                    break
        if count < _ROWS_PER_SNAPSHOT:
            return


def _row_faults(transaction: ReadTransaction, sequence: int) -> Iterator[Fault]:
    try:
        loaded, row = records.load(transaction, sequence)
    except ArtifactStoreError as error:
        yield Fault("ids_reproduce", "must", f"manifest {sequence}", error.message)
        return
    checks: tuple[tuple[str, Level, Iterator[Fault]], ...] = (
        ("ids_reproduce", "must", ids_reproduce(loaded, row)),
        ("manifests_complete", "must", manifests_complete(transaction, loaded, sequence)),
        ("entries_or_receipts", "must", entries_or_receipts(transaction, sequence, loaded)),
        ("catalog_matches", "should", catalog_matches(transaction, sequence, loaded, row)),
    )
    for name, level, faults in checks:
        yield from _guarded(name, level, _named(loaded), faults)


def _guarded(name: str, level: Level, subject: str, faults: Iterator[Fault]) -> Iterator[Fault]:
    """Yield what a check finds; a damaged row that stops it is one of its findings."""
    try:
        yield from faults
    except ArtifactStoreError as error:
        yield Fault(name, level, subject, f"could not be completed: {error.message}")


def rows_intact(transaction: ReadTransaction, budget: Budget = _ALL) -> Iterator[Fault]:
    """MUST: every stored value fits its seal; SHOULD in the catalog, which can be rebuilt."""
    for table in set(Table) - {Table.SEGMENTS}:  # streams have no seal; blobs_match reads them
        level: Level = "should" if table is Table.CATALOG else "must"
        for key in transaction.damaged_keys(table, lambda: budget.spent):
            yield Fault("rows_intact", level, f"{table.value.decode()} {key.hex()}", "the row is damaged")


def _named(loaded: manifest.Manifest) -> str:
    if isinstance(loaded, RunManifest):
        return f"{loaded.correlation_id}@{loaded.revision}"
    return f"rollback of {loaded.branch} to {loaded.tag}"


def ids_reproduce(loaded: manifest.Manifest, row: manifest.ManifestRow) -> Iterator[Fault]:
    """MUST: tree, commit and tag ids of a row are what its manifest gives."""
    try:
        gitform.check_row(loaded, row)
    except ArtifactStoreError as error:
        yield Fault("ids_reproduce", "must", _named(loaded), error.message)


def manifests_complete(
    transaction: ReadTransaction, loaded: manifest.Manifest, sequence: int | None = None
) -> Iterator[Fault]:
    """MUST: a manifest refers to blobs that are present, with the size and oid it says, or were purged.

    A forgotten run whose files the garbage collector has taken may lack any of them.
    """
    if not isinstance(loaded, RunManifest):
        return
    collected = sequence is not None and marks.is_collected(transaction, sequence)
    for entry in loaded.files:
        blob = blobs.find(transaction, entry.digest)
        if blob is None and tombstones.exists(transaction, entry.digest):
            continue  # removed on purpose, which the report tells
        if blob is None and collected:
            continue
        if blob is None:
            yield Fault("manifests_complete", "must", _named(loaded), f"blob of {entry.name!r} is missing")
        elif (blob.oid, blob.size_bytes) != (entry.oid, entry.size_bytes):
            yield Fault(
                "manifests_complete", "must", _named(loaded), f"blob of {entry.name!r} is another one"
            )


def entries_or_receipts(
    transaction: ReadTransaction, sequence: int, loaded: manifest.Manifest
) -> Iterator[Fault]:
    """MUST: every manifest waits in the outbox or has a receipt, both only between its export and its push."""
    receipt, entry = outbox.get_receipt(transaction, sequence), outbox.find_entry(transaction, sequence)
    awaits_push = entry is not None and entry[0] in {outbox.Stage.PUSH, outbox.Stage.PARKED_PUSH}
    if receipt is None and entry is None:
        detail = "neither queued nor exported"
    elif receipt is None and awaits_push:
        detail = "queued for the push, but without a receipt of its export"
    elif receipt is not None and entry is None and not receipt.pushed_at_us:
        detail = "exported, but neither pushed nor queued for it"
    elif receipt is not None and entry is not None and not awaits_push:
        detail = "queued for the export, but with a receipt of it"
    else:
        return
    yield Fault("entries_or_receipts", "must", _named(loaded), detail)


def names_resolve(transaction: ReadTransaction, budget: Budget = _ALL) -> Iterator[Fault]:
    """MUST: every tag and branch points at a present manifest, a branch at its newest."""
    for kind, rows in (
        ("tag", catalog.iter_tags(transaction)),
        ("branch", catalog.iter_branches(transaction)),
    ):
        for name, sequence in budget.within(rows):
            if not transaction.has(Table.MANIFESTS, catalog.sequence_key(sequence)):
                yield Fault("names_resolve", "must", f"{kind} {name}", f"manifest {sequence} is missing")
            elif kind == "branch" and next(catalog.branch_sequences(transaction, name), None) != sequence:
                yield Fault(
                    "names_resolve", "must", f"branch {name}", f"manifest {sequence} is not its newest"
                )


def outbox_refers(transaction: ReadTransaction, budget: Budget = _ALL) -> Iterator[Fault]:
    """MUST: every outbox entry and receipt belongs to a present manifest."""
    for table in (Table.OUTBOX, Table.RECEIPTS):
        for key in budget.within(transaction.scan_keys(table)):
            if table is Table.OUTBOX and key == metrics.NEWEST_HOUR:
                continue
            sequence = catalog.sequence_of(key)
            if not transaction.has(Table.MANIFESTS, catalog.sequence_key(sequence)):
                yield Fault("outbox_refers", "must", table.value.decode(), f"manifest {sequence} is missing")


def purged_stay_away(transaction: ReadTransaction, budget: Budget = _ALL) -> Iterator[Fault]:
    """MUST: no blob has the digest of purged content."""
    for digest in budget.within(tombstones.iter_digests(transaction)):
        if transaction.has(Table.BLOBS, digest):
            yield Fault("purged_stay_away", "must", digest.hex(), "purged content is in the store")


def catalog_matches(
    transaction: ReadTransaction, sequence: int, loaded: manifest.Manifest, row: manifest.ManifestRow
) -> Iterator[Fault]:
    """SHOULD: every catalog key of a manifest is there and points at it, a branch's at it or a newer one.

    A commit's as well: two new branches rolled back to one tag in the same second begin with the same commit. And a
    content's: commits of an imported branch may hold the same files under one ID.
    """
    content = _content_of(loaded)
    hidden = marks.is_hidden(transaction, sequence)
    for key in catalog.catalog_keys(sequence, loaded, row, content, indexes.complete(transaction)):
        if hidden and catalog.is_listing_key(key):
            continue  # a forgotten run is not listed
        value = transaction.get(Table.CATALOG, key)
        found = 0 if value is None else catalog.sequence_of(value)
        if found < sequence or (found > sequence and not _is_shared(transaction, key, found, content)):
            said = "is missing" if value is None else f"points at manifest {found}"
            yield Fault(
                "catalog_matches", "should", _named(loaded), f"catalog row {key[:1].decode()!r} {said}"
            )


def _is_shared(transaction: ReadTransaction, key: bytes, newer: int, content: bytes | None) -> bool:
    """Tell whether a newer manifest may stand in the place of one that gives the same key."""
    if not catalog.is_content_key(key):
        return catalog.is_shared_key(key)
    try:
        other = records.load(transaction, newer)[0]
    except IntegrityError:
        return False
    return _content_of(other) == content


def _content_of(loaded: manifest.Manifest) -> bytes | None:
    if not isinstance(loaded, RunManifest):
        return None
    return manifest.content_digest(
        loaded.workflow_id, loaded.task_id, loaded.prompt_hash, loaded.metadata, loaded.files
    )


def marks_refer(transaction: ReadTransaction, budget: Budget = _ALL) -> Iterator[Fault]:
    """MUST: every pin and every mark of a forgotten run belongs to a present manifest."""
    pinned = (number for number, _ in marks.iter_pins(transaction))
    for sequence in budget.within(itertools.chain(marks.iter_hidden(transaction), pinned)):
        if not transaction.has(Table.MANIFESTS, catalog.sequence_key(sequence)):
            yield Fault("marks_refer", "must", "meta", f"manifest {sequence} is missing")


def segments_referenced(transaction: ReadTransaction, budget: Budget = _ALL) -> Iterator[Fault]:
    """SHOULD: every segment holds a blob or belongs to an upload that is going on."""
    used = {blob.segment for blob in budget.within(blobs.iter_blobs(transaction))}
    used |= set(blobs.iter_uploads(transaction))
    segments = budget.within(blobs.iter_segments(transaction))
    stray = sum(1 for segment in segments if segment not in used)
    if stray and not budget.spent:  # or a segment's blob may be among those not looked at
        yield Fault(
            "segments_referenced", "should", "segments", f"{stray} hold no blob; `cas gc` removes them"
        )


_WHOLE_STORE_CHECKS: Final[tuple[tuple[Callable[[ReadTransaction, Budget], Iterator[Fault]], Level], ...]] = (
    (names_resolve, "must"),
    (outbox_refers, "must"),
    (purged_stay_away, "must"),
    (marks_refer, "must"),
    (segments_referenced, "should"),
)

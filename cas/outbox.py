"""The outbox: what the exporter still has to do, and the receipts of what it has proved.

Invariant: a manifest is either waiting here or has a receipt that says it is in git; the entry is written in the
manifest's own transaction, the receipt in the one that removes the entry. Owner of the tables ``outbox`` and
``receipts``. States: queued → exported → pushed, or parked with a reason.
"""

from __future__ import annotations

import enum
import math
import time
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from cas import metrics, pushfeed
from cas.blobs import Stream
from cas.catalog import sequence_key, sequence_of
from cas.errors import IntegrityError, InvalidInputError, WaitTimeoutError
from cas.lmdbenv import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from cas.blobs import Placed
    from cas.lmdbenv import ReadTransaction, WriteTransaction
    from cas.manifest import FileEntry

ExportState = Literal["queued", "exported", "pushed", "parked"]


class Stage(enum.Enum):
    """What is to be done with an entry; the byte sorts waiting entries last, so that new ones are appended."""

    PARKED_WRITE = b"1"
    PARKED_PUSH = b"2"
    PUSH = b"3"
    WRITE = b"4"


class Deposit(msgspec.Struct, frozen=True, array_like=True):
    """Where a commit put the new streams of its run, for the export: it need not look them up, nor inflate them.

    A segment with that BLAKE3 digest holds the very streams of the commit. One that was moved, closed up, purged or
    damaged since has another, or is gone; then the blobs' rows and digests tell. They do as well once a stream of it is
    known to be damaged, see `drop_deposits`.

    Attributes:
        segment: The segment's number.
        segment_digest: BLAKE3 of its bytes.
        streams: For each file of the manifest its stream there; None where an earlier run has brought the blob.
    """

    segment: int
    segment_digest: bytes
    streams: tuple[Stream | None, ...]

    @staticmethod
    def of(placed: Placed, files: Iterable[FileEntry]) -> Deposit:
        """Return the deposit of a run with these files."""
        streams = tuple([placed.streams.get(file.digest) for file in files])
        return Deposit(placed.segment, placed.segment_digest, streams)


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """How often an entry failed, when last, and why; the reason holds no credential.

    ``pushed_at_us`` is set on entries that were queued again for a lost repository: when the remote had them (0:
    never).
    ``held`` is set on parked entries that must not go out, whoever asks: content of theirs, or below them, was purged.
    ``deposit`` is there for runs that were committed here and never exported.
    """

    attempt_count: int = 0
    last_at_us: int = 0
    reason: str | None = None
    pushed_at_us: int = 0
    held: bool = False
    deposit: Deposit | None = None


class Receipt(msgspec.Struct, frozen=True, array_like=True):
    """Proof of export: when the commit was seen in git, and when on the remote (0: not yet)."""

    exported_at_us: int
    pushed_at_us: int = 0


class Status(msgspec.Struct, frozen=True):
    """Export state of one manifest, as told to callers."""

    state: ExportState
    exported_at_us: int | None = None
    pushed_at_us: int | None = None
    attempt_count: int = 0
    reason: str | None = None


_LIKELY_FIRST: Final = (Stage.WRITE, Stage.PUSH, Stage.PARKED_WRITE, Stage.PARKED_PUSH)
_PARKED_STAGES: Final = (Stage.PARKED_WRITE, Stage.PARKED_PUSH)
_LAST_EXPORT: Final = b"last_export"
_LAST_PUSH: Final = b"last_push"
_EXPORTED_SEGMENT: Final = b"exported_segment"
_WAITED_FOR: Final = ("exported", "pushed")
_FIRST_POLL_S: Final = 0.005  # a local export of one run takes about this long
_LONGEST_POLL_S: Final = 0.25
_ENCODER: Final = msgspec.msgpack.Encoder()
_ATTEMPT_DECODER: Final = msgspec.msgpack.Decoder(Attempt)
_RECEIPT_DECODER: Final = msgspec.msgpack.Decoder(Receipt)
# Behind the stages, and behind the counts that share a page with the newest entry.
_OBJECTS: Final = b"o"
# Several nights' runs, and less than a gigabyte.
MOST_WITH_OBJECTS: Final = 200_000
_NEW: Final = Attempt()
_FRESH: Final = _ENCODER.encode(_NEW)


def enqueue(
    transaction: WriteTransaction, sequence: int, attempt: Attempt = _NEW, objects: bytes = b""
) -> None:
    """Queue a new manifest for export; called in the manifest's own transaction.

    Args:
        transaction: The write transaction.
        sequence: The manifest.
        attempt: What is known from the first.
        objects: Its git objects, as `cas.gitform.encode_objects` gives them: an export need not make them again. They
            have a row of their own, as LMDB's binding reads a value whole even where only its key is asked for. They
            are left out where the queue is so long that nobody seems to export.
    """
    transaction.put(Table.OUTBOX, Stage.WRITE.value + sequence_key(sequence), _ENCODER.encode(attempt))
    before = sequence - MOST_WITH_OBJECTS
    if not objects or (
        before > 0 and transaction.has(Table.OUTBOX, Stage.WRITE.value + sequence_key(before))
    ):
        return
    transaction.put(Table.OUTBOX, _OBJECTS + sequence_key(sequence), objects)


def get_objects(transaction: ReadTransaction, sequence: int) -> bytes:
    """Return the git objects that a run's commit left for its export; empty where there are none, or damaged ones."""
    try:
        return transaction.get(Table.OUTBOX, _OBJECTS + sequence_key(sequence)) or b""
    except IntegrityError:  # `cas verify` names the row; the export makes them anew
        return b""


def iter_entries(
    transaction: ReadTransaction, stage: Stage, *, after: int | None = None
) -> Iterator[tuple[int, Attempt]]:
    """Yield the entries of a stage, oldest first; one whose row is damaged as its key tells, see `_read`.

    Args:
        transaction: The snapshot.
        stage: Which entries.
        after: Only sequences greater than this one.
    """
    start = b"" if after is None else stage.value + sequence_key(after + 1)
    for key in transaction.scan_keys(Table.OUTBOX, stage.value, start=start):
        attempt = _read(transaction, stage, key)
        if attempt is not None:
            yield sequence_of(key), attempt


def count_entries(transaction: ReadTransaction, stage: Stage) -> int:
    """Return how many entries are in a stage, without decoding them."""
    return sum(1 for _ in transaction.scan_keys(Table.OUTBOX, stage.value))


def find_entry(transaction: ReadTransaction, sequence: int) -> tuple[Stage, Attempt] | None:
    """Return where a manifest waits, or None when nothing is left to do for it."""
    for stage in _LIKELY_FIRST:
        attempt = _read(transaction, stage, stage.value + sequence_key(sequence))
        if attempt is not None:
            return stage, attempt
    return None


def get_receipt(transaction: ReadTransaction, sequence: int) -> Receipt | None:
    """Return the receipt of a manifest, or None."""
    value = transaction.get(Table.RECEIPTS, sequence_key(sequence))
    if value is None:
        return None
    try:
        return _RECEIPT_DECODER.decode(value)
    except msgspec.MsgspecError as error:
        raise IntegrityError(f"the receipt of manifest {sequence} is damaged") from error


def iter_receipts(transaction: ReadTransaction, *, after: int = 0) -> Iterator[int]:
    """Yield the sequences greater than ``after`` that have a receipt, oldest first."""
    for key in transaction.scan_keys(Table.RECEIPTS, start=sequence_key(after + 1)):
        yield sequence_of(key)


def newest_receipt(transaction: ReadTransaction) -> int | None:
    """Return the greatest sequence that has a receipt, or None."""
    key = transaction.last_key(Table.RECEIPTS)
    return None if key is None else sequence_of(key)


def last_times(transaction: ReadTransaction) -> tuple[int | None, int | None]:
    """Return when the last export and the last push were recorded, in microseconds since the epoch."""
    found = [transaction.get(Table.META, key) for key in (_LAST_EXPORT, _LAST_PUSH)]
    exported, pushed = (None if value is None else sequence_of(value) for value in found)
    return exported, pushed


def status(transaction: ReadTransaction, sequence: int) -> Status:
    """Return the export state of a manifest."""
    receipt = get_receipt(transaction, sequence)
    entry = find_entry(transaction, sequence)
    attempt = Attempt() if entry is None else entry[1]
    return Status(
        state=States(transaction)[sequence],
        exported_at_us=None if receipt is None else receipt.exported_at_us,
        pushed_at_us=None if receipt is None or not receipt.pushed_at_us else receipt.pushed_at_us,
        attempt_count=attempt.attempt_count,
        reason=attempt.reason,
    )


class States:
    """Answers how far runs' exports have come, for one snapshot; looks for parked ones only where there are some."""

    __slots__ = ("_parked_stages", "_transaction")

    def __init__(self, transaction: ReadTransaction) -> None:
        self._transaction = transaction
        self._parked_stages = [
            stage
            for stage in _PARKED_STAGES
            if any(True for _ in transaction.scan_keys(Table.OUTBOX, stage.value))
        ]

    def __getitem__(self, sequence: int) -> ExportState:
        key = sequence_key(sequence)
        for stage in self._parked_stages:
            if self._transaction.has(Table.OUTBOX, stage.value + key):
                return "parked"
        try:
            receipt = get_receipt(self._transaction, sequence)
        except IntegrityError:  # `cas verify` names it; that there is one says that git has the run
            return "exported"
        if receipt is None:
            return "queued"
        return "pushed" if receipt.pushed_at_us else "exported"


def wait(
    read_status: Callable[[], Status],
    wanted: Literal["exported", "pushed"],
    timeout_s: float | None,
    subject: str,
) -> Status:
    """Poll until a manifest's export has come as far as wanted, or is parked; another process does the work.

    Raises:
        InvalidInputError: The time is no number, or nothing that can be waited for is wanted.
        WaitTimeoutError: Not in time.
    """
    if wanted not in _WAITED_FOR:
        raise InvalidInputError(f"state must be one of {', '.join(_WAITED_FOR)}", subject="state")
    if timeout_s is not None and (not isinstance(timeout_s, int | float) or math.isnan(timeout_s)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError("timeout must be a number of seconds", subject="timeout")
    enough = {"pushed", "parked"} if wanted == "pushed" else {"exported", "pushed", "parked"}
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = _FIRST_POLL_S
    while True:
        found = read_status()
        if found.state in enough:
            return found
        left_s = pause_s if deadline is None else deadline - time.monotonic()
        if left_s <= 0:
            raise WaitTimeoutError(
                f"{subject} is still {found.state}, not {wanted}",
                subject=subject,
                hint="`cas export status` shows the queue; `cas export` runs one export.",
            )
        time.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, _LONGEST_POLL_S)


def record_exported(
    transaction: WriteTransaction, sequences: Iterable[int], now_us: int, newest_segment: int = 0
) -> None:
    """Replace entries of manifests seen in git by receipts, and queue them for the push.

    Args:
        transaction: The write transaction.
        sequences: The manifests.
        now_us: Microseconds since the epoch.
        newest_segment: The greatest segment that any of their blobs lies in; see `exported_segment`.
    """
    transaction.put(Table.META, _LAST_EXPORT, sequence_key(now_us))
    if newest_segment > exported_segment(transaction):
        transaction.put(Table.META, _EXPORTED_SEGMENT, sequence_key(newest_segment))
    count = 0
    for sequence in sequences:
        found = find_entry(transaction, sequence)
        receipt = Receipt(exported_at_us=now_us, pushed_at_us=0 if found is None else found[1].pushed_at_us)
        if found is not None:
            transaction.delete(Table.OUTBOX, found[0].value + sequence_key(sequence))
            transaction.delete(Table.OUTBOX, _OBJECTS + sequence_key(sequence))
        transaction.put(Table.RECEIPTS, sequence_key(sequence), _ENCODER.encode(receipt))
        if found is not None and found[1].held:  # purged while it was being exported: it goes no further
            key = Stage.PARKED_PUSH.value + sequence_key(sequence)
            transaction.put(Table.OUTBOX, key, _ENCODER.encode(found[1]))
        else:
            transaction.put(Table.OUTBOX, Stage.PUSH.value + sequence_key(sequence), _FRESH)
        count += 1
    metrics.add(transaction, now_us, {"exported": count} if count else {})


def record_imported(transaction: WriteTransaction, sequence: int, now_us: int, *, pushed: bool) -> None:
    """Write the receipt of a manifest that was found in git; queue it for the push unless the remote has it."""
    receipt = Receipt(exported_at_us=now_us, pushed_at_us=now_us if pushed else 0)
    transaction.put(Table.RECEIPTS, sequence_key(sequence), _ENCODER.encode(receipt))
    if not pushed:
        transaction.put(Table.OUTBOX, Stage.PUSH.value + sequence_key(sequence), _FRESH)


def exported_segment(transaction: ReadTransaction) -> int:
    """Return the greatest segment that any exported blob lay in; a later one holds only what was never exported.

    A hint that saves questions to git, and nothing more: what git is not asked about is written.
    """
    value = transaction.get(Table.META, _EXPORTED_SEGMENT)
    return 0 if value is None else sequence_of(value)


def record_pushed(transaction: WriteTransaction, sequences: Iterable[int], now_us: int) -> None:
    """Complete the receipts of manifests seen on the remote; nothing is left to do for them."""
    transaction.put(Table.META, _LAST_PUSH, sequence_key(now_us))
    count = 0
    for sequence in sequences:
        receipt = get_receipt(transaction, sequence) or Receipt(exported_at_us=now_us)
        _remove(transaction, sequence)
        done = Receipt(exported_at_us=receipt.exported_at_us, pushed_at_us=now_us)
        transaction.put(Table.RECEIPTS, sequence_key(sequence), _ENCODER.encode(done))
        pushfeed.note_pushed(transaction, sequence)
        count += 1
    metrics.add(transaction, now_us, {"pushed": count} if count else {})


def record_failure(
    transaction: WriteTransaction, sequence: int, *, reason: str, now_us: int, park: bool
) -> None:
    """Note a failed attempt, and set the entry aside when trying again by itself is of no use."""
    found = find_entry(transaction, sequence)
    if found is None:
        return
    stage, attempt = found
    target = _PARKED.get(stage, stage) if park else stage
    _remove(transaction, sequence)
    noted = msgspec.structs.replace(
        attempt, attempt_count=attempt.attempt_count + 1, last_at_us=now_us, reason=reason
    )
    transaction.put(Table.OUTBOX, target.value + sequence_key(sequence), _ENCODER.encode(noted))
    pushing = stage in {Stage.PUSH, Stage.PARKED_PUSH}
    metrics.add(transaction, now_us, {"push_failures" if pushing else "export_failures": 1})


def hold(transaction: WriteTransaction, sequence: int, *, reason: str, now_us: int) -> bool:
    """Set an entry aside for good, so that no retry exports or pushes it; tell whether there was one to set aside."""
    found = find_entry(transaction, sequence)
    if found is None:
        return False
    stage, attempt = found
    _remove(transaction, sequence)
    transaction.delete(Table.OUTBOX, _OBJECTS + sequence_key(sequence))
    held = msgspec.structs.replace(attempt, last_at_us=now_us, reason=reason, held=True, deposit=None)
    key = _PARKED.get(stage, stage).value + sequence_key(sequence)
    transaction.put(Table.OUTBOX, key, _ENCODER.encode(held))
    return True


def drop_deposits(transaction: WriteTransaction, segments: Collection[int]) -> int:
    """Forget the deposits in segments that hold a stream known to be damaged; return how many entries had one.

    Such a segment may have the digest of its deposit: then its stream was wrong from the first. An export goes by the
    rows and digests of the blobs instead, and finds those that were healed.
    """
    dropped = 0
    for stage in (Stage.WRITE, Stage.PARKED_WRITE):
        for key in list(transaction.scan_keys(Table.OUTBOX, stage.value)):
            attempt = _read(transaction, stage, key)
            if attempt is None or attempt.deposit is None or attempt.deposit.segment not in segments:
                continue
            without = msgspec.structs.replace(attempt, deposit=None)
            transaction.put(Table.OUTBOX, key, _ENCODER.encode(without))
            dropped += 1
    return dropped


def iter_held(transaction: ReadTransaction) -> Iterator[tuple[int, Attempt]]:
    """Yield what `hold` has set aside."""
    for stage in (Stage.PARKED_WRITE, Stage.PARKED_PUSH):
        yield from (item for item in iter_entries(transaction, stage) if item[1].held)


def unpark(transaction: WriteTransaction, sequences: Iterable[int] | None = None) -> int:
    """Queue parked entries again, all or the given ones; return how many."""
    wanted = None if sequences is None else set(sequences)
    moved = 0
    for parked, stage in ((Stage.PARKED_WRITE, Stage.WRITE), (Stage.PARKED_PUSH, Stage.PUSH)):
        for sequence, attempt in list(iter_entries(transaction, parked)):
            if not attempt.held and (wanted is None or sequence in wanted):
                transaction.delete(Table.OUTBOX, parked.value + sequence_key(sequence))
                transaction.put(Table.OUTBOX, stage.value + sequence_key(sequence), _ENCODER.encode(attempt))
                moved += 1
    return moved


def requeue(transaction: WriteTransaction, sequence: int) -> None:
    """Forget that a manifest is in git and queue it again, for a repository that lost it; the remote may have it."""
    receipt = get_receipt(transaction, sequence)
    found = find_entry(transaction, sequence)
    if found is not None and found[1].held:
        return
    pushed_at_us = 0 if found is None else found[1].pushed_at_us
    if receipt is not None:
        pushed_at_us = receipt.pushed_at_us
    if pushed_at_us:
        pushfeed.note_pushed_before(transaction, sequence)
    _remove(transaction, sequence)
    transaction.delete(Table.RECEIPTS, sequence_key(sequence))
    again = Attempt(pushed_at_us=pushed_at_us)
    transaction.put(Table.OUTBOX, Stage.WRITE.value + sequence_key(sequence), _ENCODER.encode(again))


def requeue_push(transaction: WriteTransaction, sequence: int) -> None:
    """Forget that the remote has an exported manifest and queue it for the push again; for a remote that lost it."""
    receipt = get_receipt(transaction, sequence)
    found = find_entry(transaction, sequence)
    if receipt is None or (found is not None and found[1].held):
        return
    if receipt.pushed_at_us:
        pushfeed.note_pushed_before(transaction, sequence)
    _remove(transaction, sequence)
    known = Receipt(exported_at_us=receipt.exported_at_us)
    transaction.put(Table.RECEIPTS, sequence_key(sequence), _ENCODER.encode(known))
    transaction.put(Table.OUTBOX, Stage.PUSH.value + sequence_key(sequence), _FRESH)


_PARKED: Final = {Stage.WRITE: Stage.PARKED_WRITE, Stage.PUSH: Stage.PARKED_PUSH}


def _remove(transaction: WriteTransaction, sequence: int) -> None:
    for stage in Stage:
        transaction.delete(Table.OUTBOX, stage.value + sequence_key(sequence))


def _read(transaction: ReadTransaction, stage: Stage, key: bytes) -> Attempt | None:
    """Return an entry, or None when there is none.

    Of one whose row is damaged the key still tells the manifest and the stage, so it goes on as if nothing was noted;
    but one that was set aside stays so for good, as it may have been purged.
    """
    try:
        value = transaction.get(Table.OUTBOX, key)
        return None if value is None else _ATTEMPT_DECODER.decode(value)
    except (IntegrityError, msgspec.MsgspecError):  # `cas verify` names it
        return Attempt(reason="its row in the outbox is damaged", held=stage in _PARKED_STAGES)

"""The garbage collector: exact mark and sweep beside running writers.

Marking reads all manifests in short snapshots up to sequence S. Sweeping removes blobs in short write transactions,
each of which first marks what manifests newer than S reference, and what collected runs that were shown again hold.
Invariant: a blob goes only in a transaction in which no manifest that holds blobs references it. No clock takes part
in that, and a commit pays nothing for it: one that counted on a blob which went sees so under the write lock and reads
its file again (`cas.commit.BlobCollectedError`). Killed anywhere, the next collection goes on from there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from array import array
from typing import TYPE_CHECKING, Final

import msgspec

from cas import blobs, catalog, manifest, marks, outbox, processmark, segments
from cas.blobs import PART_BYTES
from cas.errors import StateError
from cas.lmdbenv import Table, hold_alone, mapped_errors
from cas.manifest import RunManifest
from cas.marks import Forgotten
from cas.outbox import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from collections.abc import Set as AbstractSet

    from cas.lmdbenv import Environment, ReadTransaction, WriteTransaction

LOCK_FILE: Final = "gc.lock"
# Manifests marked, or rows looked at, in one snapshot; it is not held longer, as it keeps pages from being reused.
_ROWS_PER_SNAPSHOT: Final = 2000
# Rows removed in one write transaction: each may dirty a page of its own, and writers wait for it.
_ROWS_PER_TRANSACTION: Final = 100
# Bytes of streams moved in one write transaction, for the same reason.
_MOVED_BYTES: Final = 1024 * 1024
# Segments joined after one walk over all blobs, which tells what they hold; bounds what of it is in memory.
_SPARSE_PER_SCAN: Final = 20_000
# Digests marked in memory at once, at about 110 bytes each; a larger store is collected in several passes.
_MARKS_PER_PASS: Final = 1_000_000
_FIRST_BYTES: Final = 2  # of a digest, by which passes are told apart: enough for 65,536 of them
DEFAULT_DEAD_SHARE: Final = 0.5


@dataclasses.dataclass(slots=True)
class Collection:
    """What a collection did, or with ``dry_run`` would do; bytes are those of compressed streams.

    Attributes:
        collected_runs: Forgotten runs whose files can be brought back no more.
        waiting_runs: Forgotten runs that keep their files until they are in git.
        blobs: Blobs removed.
        segments: Segments removed whole.
        joined_segments: Segments of which only what lives was kept.
        uploads: Uploads of dead processes ended.
        freed_bytes: Bytes given back inside the store file, which only shrinks by compaction.
    """

    dry_run: bool = False
    collected_runs: int = 0
    waiting_runs: int = 0
    blobs: int = 0
    segments: int = 0
    joined_segments: int = 0
    uploads: int = 0
    freed_bytes: int = 0

    def as_dict(self) -> dict[str, object]:
        """Return the figures as JSON-able data."""
        return dataclasses.asdict(self)


def collect(
    environment: Environment,
    *,
    now_us: int,
    dry_run: bool = False,
    as_if_forgotten: AbstractSet[int] = frozenset(),
    dead_share: float = DEFAULT_DEAD_SHARE,
    pause: Callable[[float], None] = time.sleep,
    progress: Callable[[str, int, int], None] | None = None,
) -> Collection:
    """Give up the files of forgotten runs, and remove what nothing references; writers go on meanwhile.

    Args:
        environment: The open store.
        now_us: The present time, noted with the runs that are given up.
        dry_run: Only count.
        as_if_forgotten: With ``dry_run``, sequences to count as forgotten.
        dead_share: Segments with at least this share of dead bytes are rewritten without them.
        pause: Called with the seconds a write transaction took, so that writers get as much time again.
        progress: Called with phase, items done, items in all.

    Raises:
        StateError: Another collection is at work on this store.
        IntegrityError: A row is damaged, so that what it references is not known; verify and heal first.
        StorageError: The disk refused; what was done stays done.
    """
    worker = _Collector(environment, Collection(dry_run), now_us, pause, progress)
    if dry_run:
        worker.measure(dead_share, as_if_forgotten)
        return worker.report
    with _alone(environment):
        worker.run(dead_share)
    return worker.report


@contextlib.contextmanager
def _alone(environment: Environment) -> Generator[None]:
    directory = environment.directory
    with mapped_errors(directory), hold_alone(directory / LOCK_FILE) as is_alone:
        if not is_alone:
            raise StateError(
                "another garbage collection is at work on this store",
                kind="gc_running",
                retryable=True,
                hint="Wait for it; a dead one's lock is free at once.",
                subject=str(directory),
            )
        yield


class _Marker:
    """The digests of one range that manifests hold, as of the sequence and the revivals it has seen."""

    def __init__(
        self, low: bytes, high: bytes | None, revival_count: int, as_if_forgotten: AbstractSet[int] | None
    ) -> None:
        self.low = low
        self.high = high
        self._live: set[bytes] = set()
        self._position = 0
        self._collected = array("Q")
        self._revival_count = revival_count
        self._as_if_forgotten = as_if_forgotten

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._live

    def advance(self, transaction: ReadTransaction) -> bool:
        """Mark what some more manifests hold; tell whether there may be further ones."""
        hidden = marks.Hidden(transaction)
        rows = catalog.iter_rows(transaction, start=self._position + 1)
        count = 0
        for sequence, row in itertools.islice(rows, _ROWS_PER_SNAPSHOT):
            count += 1
            self._position = sequence
            if self._is_gone(transaction, hidden, sequence):
                self._collected.append(sequence)
            else:
                self._mark(row)
        return count == _ROWS_PER_SNAPSHOT

    def settle(self, transaction: WriteTransaction) -> None:
        """Take in all that was committed or shown again up to this very transaction."""
        while self.advance(transaction):
            continue
        revival_count = marks.revival_count(transaction)
        if revival_count == self._revival_count:
            return
        self._revival_count = revival_count
        for sequence in self._collected:
            row = (
                None if marks.is_collected(transaction, sequence) else catalog.get_row(transaction, sequence)
            )
            if row is not None:
                self._mark(row)

    def _is_gone(self, transaction: ReadTransaction, hidden: marks.Hidden, sequence: int) -> bool:
        pretended = self._as_if_forgotten
        if sequence not in hidden:
            return pretended is not None and sequence in pretended and may_collect(transaction, sequence)
        if pretended is not None and may_collect(transaction, sequence):
            return True
        return marks.is_collected(transaction, sequence)

    def _mark(self, row: manifest.ManifestRow) -> None:
        loaded = manifest.decode(row.manifest)
        if isinstance(loaded, RunManifest):
            for entry in loaded.files:
                if self.low <= entry.digest and (self.high is None or entry.digest < self.high):
                    self._live.add(entry.digest)


def may_collect(transaction: ReadTransaction, sequence: int) -> bool:
    """Tell whether a forgotten run may give up its blobs: it is in git, and not queued to be brought there again."""
    if outbox.get_receipt(transaction, sequence) is None:
        return False
    found = outbox.find_entry(transaction, sequence)
    return found is None or found[0] not in {Stage.WRITE, Stage.PARKED_WRITE}


class _Collector:
    """One collection; owned by one thread."""

    def __init__(
        self,
        environment: Environment,
        report: Collection,
        now_us: int,
        pause: Callable[[float], None],
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        self.report = report
        self._environment = environment
        self._now_us = now_us
        self._pause = pause
        self._progress = progress

    def run(self, dead_share: float) -> None:
        """Collect; the lock is the caller's."""
        self._give_up()
        self._end_uploads()
        for marker in self._markers():
            for batch in self._dead_blobs(marker):
                self._remove_blobs(marker, batch)
        with self._environment.read() as transaction:
            usage = segments.usage(transaction)
        self._drop_segments(usage)
        self._join_segments(usage, dead_share)

    def measure(self, dead_share: float, as_if_forgotten: AbstractSet[int]) -> None:
        """Count what `run` would do; reads only."""
        with self._environment.read() as transaction:
            for sequence in as_if_forgotten:
                self._count_run(transaction, sequence, Forgotten(0))
            for sequence, mark in marks.iter_forgotten(transaction):
                self._count_run(transaction, sequence, mark)
            uploads = [segment for segment, mark in blobs.iter_upload_marks(transaction) if _is_left(mark)]
        gone: set[bytes] = set()
        for marker in self._markers(as_if_forgotten):
            for batch in self._dead_blobs(marker):
                gone.update(batch)
        with self._environment.read() as transaction:
            usage = segments.usage(transaction, gone)
        usage = dataclasses.replace(usage, uploads=usage.uploads - frozenset(uploads))
        dead, sparse = list(usage.dead()), list(usage.sparse(dead_share))
        self.report.blobs = len(gone)
        self.report.uploads = len(uploads)
        self.report.segments = len(dead)
        self.report.joined_segments = len(sparse)
        self.report.freed_bytes = sum(usage.size_of(segment) for segment in dead)
        self.report.freed_bytes += sum(usage.size_of(number) - usage.live_in(number) for number in sparse)

    @contextlib.contextmanager
    def _write(self, reserve_bytes: int = 0) -> Generator[WriteTransaction]:
        started_s = time.perf_counter()
        with self._environment.write(reserve_bytes) as transaction:
            yield transaction
        # LMDB's lock is not fair: whoever gives it back and asks again at once usually gets it before those who wait.
        self._pause(time.perf_counter() - started_s)

    def _tell(self, phase: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(phase, done, total)

    def _give_up(self) -> None:
        position = 0
        while True:
            with self._write() as transaction:
                rows = marks.iter_forgotten(transaction, position)
                batch = list(itertools.islice(rows, _ROWS_PER_TRANSACTION))
                for sequence, mark in batch:
                    if self._count_run(transaction, sequence, mark):
                        given_up = msgspec.structs.replace(mark, collected_at_us=max(self._now_us, 1))
                        marks.put_forgotten(transaction, sequence, given_up)
            if len(batch) < _ROWS_PER_TRANSACTION:
                return
            position = batch[-1][0] + 1

    def _count_run(self, transaction: ReadTransaction, sequence: int, mark: Forgotten) -> bool:
        if mark.is_collected:
            return False
        allowed = may_collect(transaction, sequence)
        self.report.collected_runs += allowed
        self.report.waiting_runs += not allowed
        return allowed

    def _end_uploads(self) -> None:
        """Take the mark off uploads whose process is gone; their segments then hold nothing and go with the others."""
        with self._environment.read() as transaction:
            left = [found for found in blobs.iter_upload_marks(transaction) if _is_left(found[1])]
        for segment, mark in left:
            with self._write() as transaction:
                self.report.uploads += blobs.settle_upload(transaction, segment, mark, keep=True)

    def _markers(self, as_if_forgotten: AbstractSet[int] | None = None) -> Iterator[_Marker]:
        """Yield a complete marker for each range of digests, one after the other.

        Args:
            as_if_forgotten: For counting: take these, and all that may be collected, for collected already.
        """
        with self._environment.read() as transaction:
            blob_count = transaction.count(Table.BLOBS)
        pass_count = 1 + blob_count // _MARKS_PER_PASS
        edges = [number * 256**_FIRST_BYTES // pass_count for number in range(pass_count)]
        lows = [b"", *(edge.to_bytes(_FIRST_BYTES, "big") for edge in edges[1:])]
        for low, high in zip(lows, [*lows[1:], None], strict=True):
            with self._environment.read() as transaction:
                revival_count = marks.revival_count(transaction)
            marker = _Marker(low, high, revival_count, as_if_forgotten)
            going_on = True
            while going_on:
                with self._environment.read() as transaction:
                    going_on = marker.advance(transaction)
            yield marker

    def _dead_blobs(self, marker: _Marker) -> Iterator[list[bytes]]:
        """Yield digests of a marker's range that nothing seems to hold, in batches."""
        position: bytes | None = marker.low
        batch: list[bytes] = []
        while position is not None:
            with self._environment.read() as transaction:
                marker.advance(transaction)  # keeps short what the write transaction has to catch up with
                keys = transaction.scan_keys(Table.BLOBS, start=position)
                chunk = list(itertools.islice(keys, _ROWS_PER_SNAPSHOT))
            position = chunk[-1] + b"\0" if len(chunk) == _ROWS_PER_SNAPSHOT else None
            for digest in chunk:
                if marker.high is not None and digest >= marker.high:
                    position = None
                    break
                if digest not in marker:
                    batch.append(digest)
                    if len(batch) == _ROWS_PER_TRANSACTION:
                        yield batch
                        batch = []
        if batch:
            yield batch

    def _remove_blobs(self, marker: _Marker, batch: list[bytes]) -> None:
        with self._write() as transaction:
            marker.settle(transaction)
            for digest in batch:
                if digest not in marker:
                    self.report.blobs += transaction.delete(Table.BLOBS, digest)
        self._tell("blobs", self.report.blobs, self.report.blobs)

    def _drop_segments(self, usage: segments.Usage) -> None:
        dead = list(usage.dead())
        small = [number for number in dead if usage.size_of(number) < PART_BYTES]
        for start in range(0, len(small), _ROWS_PER_TRANSACTION):
            chosen = small[start : start + _ROWS_PER_TRANSACTION]
            with self._write() as transaction:
                self.report.freed_bytes += segments.drop_small(transaction, chosen)
            self.report.segments += len(chosen)
            self._tell("segments", self.report.segments, len(dead))
        for number in dead:
            if usage.size_of(number) >= PART_BYTES:
                self._drop_large(number)

    def _drop_large(self, segment: int) -> None:
        left = True
        while left:
            with self._write() as transaction:
                freed_bytes, left = segments.drop_parts(transaction, segment)
            self.report.freed_bytes += freed_bytes
        self.report.segments += 1

    def _join_segments(self, usage: segments.Usage, dead_share: float) -> None:
        sparse = list(usage.sparse(dead_share))
        for start in range(0, len(sparse), _SPARSE_PER_SCAN):
            chosen = sparse[start : start + _SPARSE_PER_SCAN]
            with self._environment.read() as transaction:
                placed = segments.digests_in(transaction, set(chosen))
            for group in _groups(chosen, usage):
                reserve_bytes = sum(usage.live_in(number) for number in group)
                with self._write(reserve_bytes) as transaction:
                    old = {number: placed[number] for number in group}
                    self.report.freed_bytes += segments.join(transaction, old)
                self.report.joined_segments += len(group)
                self._tell("join", self.report.joined_segments, len(sparse))


def _groups(chosen: list[int], usage: segments.Usage) -> Iterator[list[int]]:
    """Yield segments in groups of bounded live bytes and number."""
    group: list[int] = []
    group_bytes = 0
    for number in chosen:
        if group and (
            len(group) == _ROWS_PER_TRANSACTION or group_bytes + usage.live_in(number) > _MOVED_BYTES
        ):
            yield group
            group, group_bytes = [], 0
        group.append(number)
        group_bytes += usage.live_in(number)
    if group:
        yield group


def _is_left(mark: bytes) -> bool:
    return not processmark.may_be_alive(blobs.uploader(mark))

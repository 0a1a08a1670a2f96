"""The exporter: lease, claim, write, receipts, push; a pure function of the outbox that can be killed anywhere.

Invariant: an entry leaves the outbox only in the transaction that writes its receipt, and a receipt is written only
after git showed the id the store promised. Nothing is trusted from an earlier run: refs are read again each time, so
a run after a crash, a lost repository or a restored backup either ends in the same place or says what is in the way.
"""

from __future__ import annotations

import heapq
import time
from operator import itemgetter
from typing import TYPE_CHECKING, Final, get_args

from cas import ArtifactStore, catalog, outbox, records
from cas.arguments import check_callable, check_instance, check_list, check_progress, check_whole
from cas.errors import (
    ArtifactStoreError,
    ConfigError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from cas.outbox import Attempt, Stage
from gitexport import lease
from gitexport.batch import BatchWriter
from gitexport.blobcopy import ROWS_PER_RELEASE, CheckLevel
from gitexport.delivery import deliver
from gitexport.entries import load_entry
from gitexport.hooks import ExportHooks
from gitexport.options import git_options
from gitexport.pack import sweep_temporaries
from gitexport.rebuild import find_lost, note_loss, rebuild_repository
from gitexport.refs import sweep_ref_leftovers
from gitexport.remoteurl import is_address
from gitexport.repository import GitRepository
from gitexport.summary import ExportSummary
from gitexport.transfer import sweep_views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from cas.lmdbenv import ReadTransaction
    from gitexport.entries import Entry

# A batch holds its trees, metadata files, commits and tags in memory (about 5 KB a run) and its refs move together; a
# thousand runs amortise git's start-up and the rewrite of packed-refs to well under a millisecond each.
BATCH_RUNS: Final = 1000
# Of those objects and files: a run's metadata may be a megabyte, and is in memory twice.
MADE_BYTES: Final = 32 * 1024 * 1024
BATCH_BYTES: Final = 128 * 1024 * 1024  # raw; bounds what a kill throws away and how long a pack stays unseen


class Exporter:
    """Exports a store's outbox into a git repository and pushes it; owned by one thread.

    Args:
        store: An open store.
        repository: The target, bare or with a work tree; None means the store's ``repo_path``.
        remote: Remote to push to; None means the store's ``remote_name``.
        check: How sure to be of stored bytes before git sees them. ``deposit``: a segment has the BLAKE3 digest that
            its commit took of it, so its streams are those of the commit; blobs of which that is not known (of large
            files and imports, or moved by the garbage collector) are inflated and compared with their digests.
            ``full``: all are inflated and compared. ``crc``: where ``deposit`` would inflate a blob, its stream is
            compared with its CRC-32 alone.

    Raises:
        InvalidInputError: ``store`` is no store, or there is no such ``check``.
    """

    def __init__(
        self,
        store: ArtifactStore,
        *,
        repository: Path | None = None,
        remote: str | None = None,
        check: CheckLevel = "deposit",
    ) -> None:
        check_instance(store, ArtifactStore, "store")
        if check not in get_args(CheckLevel):
            raise InvalidInputError(
                f"check must be one of {', '.join(get_args(CheckLevel))}", subject="check"
            )
        self._store = store
        self._environment = store.environment
        self._path = repository or store.config.repo_path
        self._remote = remote or store.config.remote_name
        self._check: CheckLevel = check

    def run(
        self,
        *,
        limit: int | None = None,
        only: Sequence[str] | None = None,
        push: bool | None = None,
        retry_parked: bool = False,
        rebuild: bool = False,
        dry_run: bool = False,
        wait_s: float | None = 0,
        progress: Callable[[str, int, int], None] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        pause: Callable[[float], object] = time.sleep,
    ) -> ExportSummary:
        """Export what is queued, then push what is exported.

        Args:
            limit: Most entries to write to git; None means all.
            only: Correlation IDs; their runs and what those stand on are exported and pushed, others stay queued.
            push: Whether to push; None means the store's ``auto_push``.
            retry_parked: Queue parked entries again first; with ``only``, those it names.
            rebuild: Compare every receipt with the repository first, and queue again what it has lost; ids stay the
                same. What is there is left as it is.
            dry_run: Only say what would be done.
            wait_s: Seconds to wait for another exporter; None waits without a limit.
            progress: Called with phase (``compare``, ``export`` or ``push``), items done, items in all.
            should_stop: Asked between batches and pushes; when true, what is left stays queued.
            pause: Waits so many seconds between tries of a push; may return early.

        Raises:
            InvalidInputError: An argument is of another kind, or ``limit`` negative; ``subject`` names it.
            LeaseHeldError: Another exporter works on this store.
            NotFoundError: ``only`` names an unknown correlation ID.
            ConfigError: The remote has several push URLs, or a transport that is not allowed.
            GitCommandFailedError: git is missing or too old, there is no repository, or somebody holds a lock in it.
            ConflictError: The repository uses another object format.
            ExportError: Another program was in the way again and again.
            StorageError: A disk refused.
        """
        _check_wishes(limit, only)
        check_calls(progress, should_stop, pause)
        started_s = time.monotonic()
        export: _Export | None = None
        try:
            with lease.hold(self._environment.directory, wait_s):
                export = _Export(self, progress, should_stop, dry_run=dry_run)
                selection = None if only is None else self._select(only)
                export.prepare(selection, retry_parked=retry_parked, rebuild=rebuild)
                export.write(limit, selection)
                wanted = (self._store.config.auto_push if push is None else push) and not dry_run
                export.push(selection, pause, wanted=wanted, recheck=rebuild)
        except ArtifactStoreError:
            if export is not None:  # what has arrived in git is told, whatever came after it
                export.finish_hooks()
            raise
        export.summary.duration_s = time.monotonic() - started_s
        export.finish_hooks()
        return export.summary

    def open_repository(self) -> GitRepository:
        """Open the target.

        Raises:
            GitCommandFailedError: There is no repository, or git is missing or too old.
            ConflictError: It uses another object format than the store.
        """
        repository = GitRepository.open(self._path, git_options(self._store.config))
        if repository.object_format != self._store.object_format:
            raise ConflictError(
                f"{self._path} uses {repository.object_format} ids, the store {self._store.object_format}",
                hint="Export to a repository of the store's format, or make another store for this one: "
                f"`cas init --store DIR -o object_format={repository.object_format}`.",
                subject=str(self._path),
            )
        return repository

    def _select(self, only: Sequence[str]) -> set[int]:
        """Return the sequences that the given correlation IDs need: their runs, and all below on a branch."""
        selected: set[int] = set()
        with self._environment.read() as transaction:
            for correlation_id in only:
                latest = catalog.latest_revision(transaction, correlation_id)
                if latest is None:
                    raise NotFoundError(f"there is no run {correlation_id!r}", subject=correlation_id)
                for revision in range(1, latest[0] + 1):
                    sequence = catalog.find_revision(transaction, correlation_id, revision)
                    if sequence is not None:
                        selected.add(sequence)
                        selected.update(_below(transaction, sequence))
        return selected

    @property
    def store(self) -> ArtifactStore:
        """The store that is exported."""
        return self._store

    @property
    def remote(self) -> str:
        """Name or URL of the remote."""
        return self._remote

    @property
    def check(self) -> CheckLevel:
        """How closely blobs are checked."""
        return self._check


def _check_wishes(limit: int | None, only: Sequence[str] | None) -> None:
    if limit is not None:
        check_whole(limit, "limit")
        if limit < 0:
            raise InvalidInputError("limit must not be negative", subject="limit")
    if only is not None:
        check_list(only, "only", "correlation IDs")


def check_calls(progress: object, should_stop: object, pause: object) -> None:
    """Refuse what an export, or a roll-up, could not call while it works.

    Raises:
        InvalidInputError: One of them cannot be called; ``subject`` names it.
    """
    check_progress(progress)
    check_callable(should_stop, "should_stop")
    check_callable(pause, "pause")


def _below(transaction: ReadTransaction, sequence: int) -> list[int]:
    """Return what a manifest stands on, and itself; nothing where it is damaged, so that it is set aside by itself."""
    try:
        branch = records.load(transaction, sequence)[0].branch
    except IntegrityError:
        return []
    return [number for number in catalog.branch_sequences(transaction, branch) if number <= sequence]


class _Export:
    """One run of an exporter, which holds the lease."""

    def __init__(
        self,
        exporter: Exporter,
        progress: Callable[[str, int, int], None] | None,
        should_stop: Callable[[], bool],
        *,
        dry_run: bool,
    ) -> None:
        self.summary = ExportSummary(dry_run=dry_run)
        self._store = exporter.store
        self._environment = exporter.store.environment
        self._remote = exporter.remote
        self._repository = exporter.open_repository()
        self._progress = progress
        self._should_stop = should_stop
        self._check: CheckLevel = exporter.check
        self._hooks = self._open_hooks()
        self._writer = BatchWriter(
            exporter.store, self._repository, self.summary, check=exporter.check, hooks=self._hooks
        )
        self._dry_run = dry_run
        self._also: list[int] = []  # in a dry run: what would be queued again
        with self._environment.read() as transaction:
            # Writers may be faster than the exporter, and an export has to end.
            self._last = catalog.next_sequence(transaction) - 1

    def _open_hooks(self) -> ExportHooks | None:
        """Return the hooks; unusable settings of theirs are told and keep no run back."""
        try:
            return ExportHooks.of(self._store)
        except ConfigError as error:
            self.summary.warn(f"hook: {error.message}")
            return None

    def finish_hooks(self) -> None:
        """Give the hooks a bounded time to end, and tell what went wrong."""
        for warning in [] if self._hooks is None else self._hooks.finish():
            self.summary.warn(warning)

    def prepare(self, selection: set[int] | None, *, retry_parked: bool, rebuild: bool) -> None:
        """Sweep what killed exporters left, and queue again what is asked for."""
        if self._dry_run:
            self._also = self._would_queue(selection, retry_parked=retry_parked, rebuild=rebuild)
            if retry_parked or rebuild:
                self._writer.forget_parked()
            return
        sweep_temporaries(self._repository.common_dir / "objects")
        sweep_ref_leftovers(self._repository)
        sweep_views(self._repository)
        if rebuild:
            rebuild_repository(self._store, self._repository, self.summary, self._check, self._progress)
        else:
            note_loss(self._store, self._repository, self.summary)
        if retry_parked or rebuild:
            with self._environment.write() as transaction:
                outbox.unpark(transaction, selection)

    def _would_queue(self, selection: set[int] | None, *, retry_parked: bool, rebuild: bool) -> list[int]:
        found: set[int] = set()
        if rebuild:
            found.update(find_lost(self._store, self._repository, self._progress))
        if retry_parked or rebuild:
            with self._environment.read() as transaction:
                parked = outbox.iter_entries(transaction, Stage.PARKED_WRITE)
                found.update(sequence for sequence, attempt in parked if not attempt.held)
        return sorted(found if selection is None else found & selection)

    def write(self, limit: int | None, selection: set[int] | None) -> None:
        """Bring what is queued into git, batch by batch; what is committed meanwhile is left to the next export."""
        total = self._total(limit, selection)
        done = after = 0
        while limit is None or done < limit:
            if self._should_stop():
                self.summary.stopped = True
                return
            room = BATCH_RUNS if limit is None else min(BATCH_RUNS, limit - done)
            entries, after, count = self._claim(after, room, selection)
            if not count:
                return
            if entries:
                self._writer.write(entries)
            done += count
            self._environment.release_pages()
            if self._progress is not None:
                self._progress("export", done, max(done, total))

    def _total(self, limit: int | None, selection: set[int] | None) -> int:
        with self._environment.read() as transaction:
            if selection is None:
                total = outbox.count_entries(transaction, Stage.WRITE) + len(self._also)
            else:
                total = sum(1 for sequence, _ in self._queue(transaction, 0) if sequence in selection)
        return total if limit is None else min(total, limit)

    def _queue(self, transaction: ReadTransaction, after: int) -> Iterator[tuple[int, Attempt]]:
        """Yield what is to be written, or would be."""
        queued = outbox.iter_entries(transaction, Stage.WRITE, after=after)
        again = ((sequence, Attempt()) for sequence in self._also if sequence > after)
        return heapq.merge(queued, again, key=itemgetter(0)) if self._also else queued

    def _claim(self, after: int, room: int, selection: set[int] | None) -> tuple[list[Entry], int, int]:
        """Return the next entries of the queue, the sequence to go on from, and how many there were.

        Bounded in count and bytes. Damaged manifests count too, and are set aside at once.
        """
        entries: list[Entry] = []
        damaged: dict[int, str] = {}
        raw_bytes = made_bytes = 0
        with self._environment.read() as transaction:
            for sequence, attempt in self._queue(transaction, after):
                if sequence > self._last:
                    break
                after = sequence
                if selection is not None and sequence not in selection:
                    continue
                try:
                    entry = load_entry(transaction, sequence, attempt)
                except IntegrityError as error:
                    damaged[sequence] = error.message
                else:
                    entries.append(entry)
                    raw_bytes += sum([file.size_bytes for file in entry.files])
                    made_bytes += sum([len(item.data) for item in entry.objects])
                if (len(entries) + len(damaged)) % ROWS_PER_RELEASE == 0:
                    self._environment.release_pages()
                if len(entries) + len(damaged) >= room:
                    break
                if raw_bytes >= BATCH_BYTES or made_bytes >= MADE_BYTES:
                    break
        self._writer.park(damaged)
        return entries, after, len(entries) + len(damaged)

    def push(
        self, selection: set[int] | None, pause: Callable[[float], object], *, wanted: bool, recheck: bool
    ) -> None:
        """Push what is exported, if that is wanted and there is a remote, and count what is left."""
        remotes = self._repository.remotes() if wanted else {}
        pushing = wanted and (self._remote in remotes or is_address(self._remote))
        if wanted and not pushing:
            self.summary.warn(
                f"nothing was pushed: {self._repository.path} has no remote {self._remote!r}; `git remote add` makes "
                "one, and with auto_push = false none is looked for"
            )
        if pushing and not self._should_stop():
            deliver(
                self._store,
                self._repository,
                self._remote,
                self.summary,
                selection=selection,
                recheck=recheck,
                progress=self._progress,
                should_stop=self._should_stop,
                pause=pause,
            )
        with self._environment.read() as transaction:
            counts = {stage: outbox.count_entries(transaction, stage) for stage in Stage}
        self.summary.parked = counts[Stage.PARKED_WRITE] + counts[Stage.PARKED_PUSH]
        self.summary.pending = counts[Stage.WRITE] + (counts[Stage.PUSH] if pushing else 0)
        self.summary.stopped |= bool(self.summary.pending) and self._should_stop()

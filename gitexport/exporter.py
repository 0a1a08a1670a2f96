"""The exporter: lease, claim, write, receipts, push; a pure function of the outbox that can be killed anywhere.

Invariant: an entry leaves the outbox only in the transaction that writes its receipt, and a receipt is written only
after git showed the id the store promised. Nothing is trusted from an earlier run: refs are read again each time, so
a run after a crash, a lost repository or a restored backup either ends in the same place or says what is in the way.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Final, Literal

from cas import catalog, outbox, records
from cas.errors import (
    ArtifactStoreError,
    ConflictError,
    IntegrityError,
    NotFoundError,
)
from cas.outbox import Stage
from gitexport import lease
from gitexport.delivery import deliver
from gitexport.options import git_options
from gitexport.pack import sweep_temporaries
from gitexport.plan import Plan, build_entry, make_plan
from gitexport.refs import read_refs, sweep_ref_leftovers
from gitexport.repository import GitRepository
from gitexport.writer import write_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from cas import ArtifactStore
    from cas.lmdbenv import ReadTransaction
    from gitexport.plan import Entry, Refusal
    from gitexport.writer import CheckLevel, Written


# A batch holds its trees, commits and tags in memory (about 5 KB a run) and its refs move together; a thousand runs
# amortise git's start-up and the rewrite of packed-refs to well under a millisecond each.
BATCH_RUNS: Final = 1000
BATCH_BYTES: Final = 128 * 1024 * 1024  # raw; bounds what a kill throws away and how long a pack stays unseen
_CONFLICT_ATTEMPTS: Final = 3  # refs that moved between plan and transaction are planned again this often


@dataclasses.dataclass(slots=True)
class ExportSummary:
    """What one export did and what is left.

    Attributes:
        exported: Runs and rollbacks now proved in git.
        pushed: Runs and rollbacks now proved on the remote.
        pending: Entries still queued for git, or for the push when pushing was asked for.
        parked: Entries set aside with a reason; `cas export status` shows them.
        refs: Refs written.
        objects: Objects written.
        pack_bytes: Bytes of packs written.
        duration_s: Seconds from lease to end.
        dry_run: True when nothing was written.
        warnings: Things a person should look at.
        failures: One dictionary per entry refused in this export: ``label, branch, reason``.
    """

    exported: int = 0
    pushed: int = 0
    pending: int = 0
    parked: int = 0
    refs: int = 0
    objects: int = 0
    pack_bytes: int = 0
    duration_s: float = 0.0
    dry_run: bool = False
    warnings: list[str] = dataclasses.field(default_factory=list[str])
    failures: list[dict[str, str]] = dataclasses.field(default_factory=list[dict[str, str]])

    @property
    def state(self) -> Literal["done", "pending", "parked"]:
        """``parked`` when something needs a person, ``pending`` when another run will go on, else ``done``."""
        if self.parked:
            return "parked"
        return "pending" if self.pending else "done"

    def as_dict(self) -> dict[str, object]:
        """Return the summary as JSON-able data."""
        return {"state": self.state, **dataclasses.asdict(self)}


class Exporter:
    """Exports a store's outbox into a git repository and pushes it; owned by one thread.

    Args:
        store: An open store.
        repository: The target, bare or with a work tree; None means the store's ``repo_path``.
        remote: Remote to push to; None means the store's ``remote_name``.
        check: ``full`` compares every blob with its digest while copying, ``crc`` only with its CRC-32.
    """

    def __init__(
        self,
        store: ArtifactStore,
        *,
        repository: Path | None = None,
        remote: str | None = None,
        check: CheckLevel = "full",
    ) -> None:
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
    ) -> ExportSummary:
        """Export what is queued, then push what is exported.

        Args:
            limit: Most entries to write to git; None means all.
            only: Correlation IDs; their runs and what those stand on are exported, others stay queued.
            push: Whether to push; None means the store's ``auto_push``.
            retry_parked: Queue parked entries again first.
            rebuild: Queue every manifest again, for a repository that was lost or restored; ids stay the same.
            dry_run: Only say what would be done.
            wait_s: Seconds to wait for another exporter; None waits without a limit.
            progress: Called with phase (``export`` or ``push``), items done, items in all.

        Raises:
            LeaseHeldError: Another exporter works on this store.
            GitCommandFailedError: git is missing or too old, or there is no repository.
            ConflictError: The repository uses another object format.
            StorageError: A disk refused.
        """
        started_s = time.monotonic()
        with lease.hold(self._environment.directory, wait_s):
            repository = self._open()
            summary = ExportSummary(dry_run=dry_run)
            if not dry_run:
                self._prepare(repository, retry_parked=retry_parked, rebuild=rebuild)
            self._export(repository, summary, limit, only, progress)
            wanted = self._store.config.auto_push if push is None else push
            pushing = wanted and not dry_run and self._push(repository, summary, progress)
            self._count_rest(summary, pushing=pushing)
        summary.duration_s = time.monotonic() - started_s
        return summary

    def _open(self) -> GitRepository:
        repository = GitRepository.open(self._path, git_options(self._store.config))
        if repository.object_format != self._store.object_format:
            raise ConflictError(
                f"{self._path} uses {repository.object_format} ids, the store {self._store.object_format}",
                hint="Export to a repository of the store's format, or create a store of the repository's.",
                subject=str(self._path),
            )
        return repository

    def _prepare(self, repository: GitRepository, *, retry_parked: bool, rebuild: bool) -> None:
        sweep_temporaries(repository.common_dir / "objects")
        sweep_ref_leftovers(repository)
        if rebuild:
            self._requeue_all()
        if retry_parked or rebuild:
            with self._environment.write() as transaction:
                outbox.unpark(transaction)

    def _requeue_all(self) -> None:
        """Queue every manifest again, in steps short enough not to keep writers waiting."""
        start = 0
        while True:
            with self._environment.write() as transaction:
                batch: list[int] = []
                for sequence, _ in catalog.iter_rows(transaction, start=start):
                    batch.append(sequence)
                    if len(batch) == BATCH_RUNS:
                        break
                for sequence in batch:
                    outbox.requeue(transaction, sequence)
            if len(batch) < BATCH_RUNS:
                return
            start = batch[-1] + 1

    def _export(
        self,
        repository: GitRepository,
        summary: ExportSummary,
        limit: int | None,
        only: Sequence[str] | None,
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        selection = None if only is None else self._select(only)
        with self._environment.read() as transaction:
            total = sum(1 for _ in outbox.iter_entries(transaction, Stage.WRITE))
        bounds = (limit, None if selection is None else len(selection))
        total = min([total, *(bound for bound in bounds if bound is not None)])
        done = 0
        after = 0
        while limit is None or done < limit:
            room = BATCH_RUNS if limit is None else min(BATCH_RUNS, limit - done)
            entries, after = self._claim(after, room, selection, summary)
            if not entries:
                return
            self._write(repository, entries, summary)
            done += len(entries)
            self._environment.release_pages()
            if progress is not None:
                progress("export", done, max(done, total))

    def _select(self, only: Sequence[str]) -> set[int]:
        """Return the queued sequences that the given correlation IDs need: their runs, and all below on a branch."""
        selected: set[int] = set()
        with self._environment.read() as transaction:
            for correlation_id in only:
                latest = catalog.latest_revision(transaction, correlation_id)
                if latest is None:
                    raise NotFoundError(f"there is no run {correlation_id!r}", subject=correlation_id)
                for revision in range(1, latest[0] + 1):
                    sequence = catalog.find_revision(transaction, correlation_id, revision)
                    if sequence is not None:
                        branch = records.load(transaction, sequence)[0].branch
                        below = catalog.branch_sequences(transaction, branch)
                        selected.update(number for number in below if number <= sequence)
        return selected

    def _claim(
        self, after: int, room: int, selection: set[int] | None, summary: ExportSummary
    ) -> tuple[list[Entry], int]:
        """Return the next entries of the queue, bounded in count and bytes, and the sequence to go on from."""
        entries: list[Entry] = []
        damaged: list[tuple[int, str]] = []
        raw_bytes = 0
        with self._environment.read() as transaction:
            for sequence, _ in outbox.iter_entries(transaction, Stage.WRITE, after=after):
                after = sequence
                if selection is not None and sequence not in selection:
                    continue
                try:
                    entry = build_entry(sequence, *records.load(transaction, sequence))
                except IntegrityError as error:
                    damaged.append((sequence, error.message))
                    continue
                entries.append(entry)
                raw_bytes += sum(file.size_bytes for file in entry.files)
                if len(entries) >= room or raw_bytes >= BATCH_BYTES:
                    break
        for sequence, reason in damaged:
            self._note(summary, sequence, reason, park=True)
        return entries, after

    def _write(self, repository: GitRepository, entries: list[Entry], summary: ExportSummary) -> None:
        """Write one batch; an entry that cannot go is set aside with its reason, the others go on."""
        plan = self._plan(repository, entries, summary)
        if summary.dry_run:
            summary.exported += len(plan.write) + len(plan.present)
            summary.refs += len(plan.branch_moves) + len(plan.new_tags)
            self._tell_refused(summary, plan)
            return
        for attempt in range(_CONFLICT_ATTEMPTS):
            try:
                written = write_batch(self._environment, repository, plan, check=self._check)
            except ConflictError:
                if attempt + 1 == _CONFLICT_ATTEMPTS:
                    raise
                plan = self._plan(repository, entries, summary)
            except IntegrityError:
                if len(entries) == 1:
                    raise
                self._write_one_by_one(repository, entries, summary)
                return
            else:
                self._record(plan, written, summary)
                return

    def _record(self, plan: Plan, written: Written, summary: ExportSummary) -> None:
        """Write the receipts of a batch, and set its refused entries aside."""
        summary.refs += written.ref_count
        summary.objects += written.object_count
        summary.pack_bytes += written.pack_bytes
        done = [entry.sequence for entry in (*plan.present, *plan.write)]
        with self._environment.write() as transaction:
            outbox.record_exported(transaction, done, self._store.now_us())
        summary.exported += len(done)
        for refusal in plan.refused:
            self._note(summary, refusal.sequence, refusal.reason, park=True, refusal=refusal)

    def _write_one_by_one(
        self, repository: GitRepository, entries: list[Entry], summary: ExportSummary
    ) -> None:
        """After damage in a batch, let each entry go or stay alone: a bad blob holds back its own branch only."""
        for entry in entries:
            try:
                self._write(repository, [entry], summary)
            except IntegrityError as error:
                self._note(summary, entry.sequence, error.message, park=True)

    def _plan(self, repository: GitRepository, entries: list[Entry], summary: ExportSummary) -> Plan:
        names = {entry.branch for entry in entries} | {name for entry in entries for name, _ in entry.tags}
        refs = read_refs(repository, names)
        return make_plan(
            entries, refs, self._blocked(repository, entries, summary), _Tips(self._store, repository)
        )

    def _blocked(
        self, repository: GitRepository, entries: list[Entry], summary: ExportSummary
    ) -> dict[str, str]:
        branches = {entry.branch for entry in entries}
        reasons: dict[str, str] = {}
        first = entries[0].sequence
        with self._environment.read() as transaction:
            for sequence, attempt in outbox.iter_entries(transaction, Stage.PARKED_WRITE):
                loaded, _ = records.load(transaction, sequence)
                branch = f"refs/heads/{loaded.branch}"
                if branch in branches and sequence < max(first, entries[-1].sequence):
                    reasons.setdefault(branch, f"waits for a parked entry of the branch: {attempt.reason}")
        for branch, tree in repository.checked_out_branches().items():
            if branch in branches:
                self._tell_checked_out(branch, tree, reasons, summary)
        return reasons

    def _tell_checked_out(
        self, branch: str, tree: Path, reasons: dict[str, str], summary: ExportSummary
    ) -> None:
        short = branch.removeprefix("refs/heads/")
        if self._store.config.checked_out == "refuse":
            reasons.setdefault(branch, f"branch {short} is checked out in {tree}")
            return
        warning = (
            f"branch {short} is checked out in {tree}; its files and index there were left as they are, so git shows "
            f"them as changed: `git -C {tree} restore --source=HEAD --staged --worktree -- Backtest/codes` takes over "
            "the new state"
        )
        if warning not in summary.warnings:
            summary.warnings.append(warning)

    def _tell_refused(self, summary: ExportSummary, plan: Plan) -> None:
        for refusal in plan.refused:
            summary.failures.append(
                {"label": refusal.label, "branch": refusal.branch, "reason": refusal.reason}
            )

    def _note(
        self,
        summary: ExportSummary,
        sequence: int,
        reason: str,
        *,
        park: bool,
        refusal: Refusal | None = None,
    ) -> None:
        with self._environment.write() as transaction:
            outbox.record_failure(
                transaction, sequence, reason=reason, now_us=self._store.now_us(), park=park
            )
        summary.failures.append(
            {
                "label": refusal.label if refusal else f"manifest {sequence}",
                "branch": refusal.branch if refusal else "",
                "reason": reason,
            }
        )

    def _push(
        self,
        repository: GitRepository,
        summary: ExportSummary,
        progress: Callable[[str, int, int], None] | None,
    ) -> bool:
        """Push what is exported; tell whether there was a remote to push to."""
        if self._remote not in repository.remotes() and "/" not in self._remote:
            summary.warnings.append(f"nothing was pushed: {self._path} has no remote {self._remote!r}")
            return False
        deliver(self._store, repository, self._remote, summary, progress)
        return True

    def _count_rest(self, summary: ExportSummary, *, pushing: bool) -> None:
        with self._environment.read() as transaction:
            counts = {stage: sum(1 for _ in outbox.iter_entries(transaction, stage)) for stage in Stage}
        summary.parked = counts[Stage.PARKED_WRITE] + counts[Stage.PARKED_PUSH]
        summary.pending = counts[Stage.WRITE] + (counts[Stage.PUSH] if pushing else 0)


class _Tips:
    """Answers the plan's questions about unexpected tips, from the store first and from git when that is not enough."""

    def __init__(self, store: ArtifactStore, repository: GitRepository) -> None:
        self._store = store
        self._repository = repository

    def holds(self, entry: Entry, tip: str) -> bool:
        position = self._position(entry, tip)
        if position is not None:
            return position >= entry.sequence
        try:
            return self._repository.is_ancestor(entry.commit, tip)
        except ArtifactStoreError:
            return False  # git does not have the commit, so the tip cannot stand on it

    def is_older(self, entry: Entry, tip: str) -> bool:
        position = self._position(entry, tip)
        return position is not None and position < entry.sequence

    def _position(self, entry: Entry, tip: str) -> int | None:
        with self._store.environment.read() as transaction:
            sequence = records.find_commit(transaction, bytes.fromhex(tip))
            if (
                sequence is None
                or f"refs/heads/{records.load(transaction, sequence)[0].branch}" != entry.branch
            ):
                return None
            return sequence


def export_status(store: ArtifactStore) -> dict[str, object]:
    """Return the queue in runs and seconds, what is parked and why, the last export and push, and who exports now."""
    with store.environment.read() as transaction:
        queued = [sequence for sequence, _ in outbox.iter_entries(transaction, Stage.WRITE)]
        awaiting = sum(1 for _ in outbox.iter_entries(transaction, Stage.PUSH))
        oldest = records.load(transaction, queued[0])[0].created_at_us if queued else None
        parked = [dict(item) for item in _parked(transaction)]
        last_exported, last_pushed = outbox.last_times(transaction)
    return {
        "queued": len(queued),
        "queued_age_s": None if oldest is None else max(0.0, (store.now_us() - oldest) / 1_000_000),
        "awaiting_push": awaiting,
        "parked": parked,
        "last_export_at": last_exported,
        "last_push_at": last_pushed,
        "lease_holder": lease.holder(store.environment.directory),
    }


def _parked(transaction: ReadTransaction) -> Iterator[dict[str, object]]:
    for stage, what in ((Stage.PARKED_WRITE, "export"), (Stage.PARKED_PUSH, "push")):
        for sequence, attempt in outbox.iter_entries(transaction, stage):
            record = records.history_record(transaction, sequence)
            yield {
                "stage": what,
                "correlation_id": record.get("correlation_id"),
                "branch": record["branch"],
                "commit_sha": record["commit_sha"],
                "reason": attempt.reason,
                "attempts": attempt.attempt_count,
            }

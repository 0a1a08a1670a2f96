"""One batch of entries: planned, written, received; and what to do about those that cannot go.

Invariant: an entry is either exported whole, with a receipt, or set aside with its reason, or still queued; one that
cannot go holds back later ones of its branch and nobody else.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from typing import TYPE_CHECKING, Final

from cas import outbox, records
from cas.errors import ConflictError, ExportError, IntegrityError
from cas.outbox import Stage
from gitexport.archive import Archive
from gitexport.history import BranchHistory
from gitexport.plan import Obstacles, Plan, make_plan, ref_names
from gitexport.prompttags import PromptTags
from gitexport.refs import read_refs
from gitexport.writer import Written, write_batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cas import ArtifactStore
    from gitexport.blobcopy import CheckLevel
    from gitexport.entries import Entry
    from gitexport.hooks import ExportHooks
    from gitexport.repository import GitRepository
    from gitexport.summary import ExportSummary

_TRIES: Final = 3  # what another program did in the same moment is planned around this often


class BatchWriter:
    """Writes batches of one export; owned by the thread that exports.

    Args:
        store: The store, whose lease the caller holds.
        repository: The target.
        summary: Takes counts, warnings and refusals; a dry run's writes nothing else.
        check: How closely blobs are checked.
        hooks: Who is told of each batch, if anybody.
    """

    def __init__(
        self,
        store: ArtifactStore,
        repository: GitRepository,
        summary: ExportSummary,
        *,
        check: CheckLevel,
        hooks: ExportHooks | None = None,
    ) -> None:
        self._store = store
        self._repository = repository
        self._summary = summary
        self._check: CheckLevel = check
        self._hooks = hooks
        self._history = BranchHistory(store, repository)
        self._archive = Archive(store, repository)
        self._prompts = PromptTags(store, repository)
        self._pretended: dict[str, str] = {}  # refs that a dry run would have moved
        # Only the holder of the lease parks entries, so what is parked is read once and kept up to date.
        self._standing: dict[str, tuple[int, str]] | None = None

    def write(self, entries: Sequence[Entry]) -> None:
        """Export a batch; what cannot go is set aside with its reason, the others go on.

        Raises:
            GitCommandFailedError: git failed.
            ExportError: Another program was in the way again and again.
            StorageError: A disk refused.
        """
        refused: dict[int, str] = {}
        tries: Counter[str | None] = Counter()
        while True:
            plan = self._plan(entries, refused)
            if self._summary.dry_run:
                self._pretend(plan)
                return
            try:
                written = self._write(plan)
            except (ConflictError, IntegrityError) as error:
                self._judge(error, entries, refused, tries)
            except ExportError as error:
                tries[error.kind] += 1
                if error.kind != "file_vanished" or tries[error.kind] >= _TRIES:
                    raise
            else:
                break
        self._receive(plan, written)

    def _judge(
        self,
        error: ConflictError | IntegrityError,
        entries: Sequence[Entry],
        refused: dict[int, str],
        tries: Counter[str | None],
    ) -> None:
        """After a failed write: try again, without the culprits where trying again is of no use or did not help."""
        tries[error.subject] += 1
        culprits = _culprits(error.subject or "", entries)
        fresh = {entry.sequence: error.message for entry in culprits if entry.sequence not in refused}
        if fresh and (_is_damage(error, culprits) or tries[error.subject] >= _TRIES):
            refused.update(fresh)
        elif tries[error.subject] >= _TRIES:
            raise error

    def _plan(self, entries: Sequence[Entry], refused: Mapping[int, str]) -> Plan:
        refs = read_refs(self._repository, ref_names(entries)) | self._pretended
        entries = self._without_prompts(entries, refs)
        # Rolled-up refs count as standing where they stood.
        archived = self._archive.lacking(_not_following(entries, refs), refs)
        if self._archive.trouble is not None:
            self._summary.warn(self._archive.trouble)
        branches = {entry.branch for entry in entries}
        trees = {  # reasons are stored, and texts are UTF-8
            name: os.fsencode(path).decode("utf-8", "backslashreplace")
            for name, path in self._repository.checked_out_branches(branches).items()
        }
        fixed = trees if self._store.config.checked_out == "refuse" else {}
        obstacles = Obstacles(
            branches=self._parked_branches(),
            entries=refused,
            fixed={
                name: f"branch {name.removeprefix('refs/heads/')} is checked out in {path}"
                for name, path in fixed.items()
            },
            absent=self._absent(entries),
        )
        plan = make_plan(entries, refs | archived, obstacles, self._history)
        for name in plan.branch_moves.keys() & archived.keys():  # it is made again, on top of where it stood
            plan.branch_moves[name] = (None, plan.branch_moves[name][1])
        for branch in sorted(plan.branch_moves.keys() & trees.keys()):
            self._summary.warn(_checked_out(branch, trees[branch]))
        return plan

    def _without_prompts(self, entries: Sequence[Entry], refs: Mapping[str, str]) -> list[Entry]:
        """Return the entries without the prompt tags that another store has made before, and tell of those."""
        found = self._prompts.leave(entries, refs)
        left = [
            (new.label, name.removeprefix("refs/tags/"))
            for old, new in zip(entries, found, strict=True)
            for name, _ in old.tags
            if new is not old and name not in dict(new.tags)
        ]
        if left:
            label, tag = left[0]
            more = f"; so do {len(left) - 1:,} more with tags of theirs" if len(left) > 1 else ""
            self._summary.warn(
                f"tag {tag} is another store's, which used the prompt first, and stays: {label} goes without it{more}"
            )
        return found

    def _parked_branches(self) -> dict[str, tuple[int, str]]:
        """Return the branches on which an entry is parked: the first one's sequence and reason."""
        if self._standing is None:
            self._standing = {}
            with self._store.environment.read() as transaction:
                for sequence, attempt in outbox.iter_entries(transaction, Stage.PARKED_WRITE):
                    try:
                        branch = f"refs/heads/{records.load(transaction, sequence)[0].branch}"
                    except IntegrityError:  # parked for that very reason; its branch cannot be told
                        continue
                    reason = f"waits for a parked entry of the branch: {attempt.reason}"
                    self._standing.setdefault(branch, (sequence, reason))
        return self._standing

    def forget_parked(self) -> None:
        """Take all parked entries for queued again; for a dry run that pretends to retry them."""
        self._standing = {}

    def _absent(self, entries: Sequence[Entry]) -> set[str]:
        """Return the objects of other programs that entries stand on and git lacks."""
        needs = {oid for entry in entries for oid in entry.needs}
        if not needs:
            return set()
        for entry in entries:
            needs.difference_update(item.oid.hex() for item in entry.objects)
            needs.difference_update(file.oid.hex() for file in entry.files)
        return self._repository.missing_objects(sorted(needs))

    def _write(self, plan: Plan) -> Written:
        environment = self._store.environment
        with environment.read() as transaction:
            known_segment = outbox.exported_segment(transaction)
        return write_batch(
            environment, self._repository, plan, check=self._check, known_segment=known_segment
        )

    def _receive(self, plan: Plan, written: Written) -> None:
        """Write the receipts of what git holds now, and set aside what cannot go, in one transaction."""
        done = [entry.sequence for entry in (*plan.present, *plan.write)]
        now_us = self._store.now_us()
        with self._store.environment.write() as transaction:
            if done:
                outbox.record_exported(transaction, done, now_us, written.newest_segment)
            for refusal in plan.refused:
                outbox.record_failure(
                    transaction, refusal.sequence, reason=refusal.reason, now_us=now_us, park=True
                )
        if self._hooks is not None:
            self._hooks.batch(done)
        self._summary.exported += len(done)
        self._summary.refs += written.ref_count
        self._summary.objects += written.object_count
        self._summary.pack_bytes += written.pack_bytes
        self._tell_refused(plan)

    def _tell_refused(self, plan: Plan) -> None:
        standing = self._parked_branches()
        for refusal in plan.refused:
            self._summary.fail(refusal.label, refusal.branch, refusal.reason)
            why = f"waits for {refusal.label}: {refusal.reason}"
            standing.setdefault(f"refs/heads/{refusal.branch}", (refusal.sequence, why))

    def _pretend(self, plan: Plan) -> None:
        """Count what a dry run would have done, and go on as if it had."""
        self._summary.exported += len(plan.write) + len(plan.present)
        self._summary.refs += len(plan.branch_moves) + len(plan.new_tags)
        self._pretended |= {name: new for name, (_, new) in plan.branch_moves.items()} | plan.new_tags
        self._tell_refused(plan)

    def park(self, damaged: Mapping[int, str]) -> None:
        """Set aside manifests that cannot be read; a dry run only tells of them."""
        for sequence, reason in damaged.items():
            self._summary.fail(f"manifest {sequence}", "", reason)
        if not damaged or self._summary.dry_run:
            return
        now_us = self._store.now_us()
        with self._store.environment.write() as transaction:
            for sequence, reason in damaged.items():
                outbox.record_failure(transaction, sequence, reason=reason, now_us=now_us, park=True)


def _not_following(entries: Iterable[Entry], refs: Mapping[str, str]) -> Iterator[Entry]:
    """Yield the entries that do not stand on what their branch shows; only those may have to do with the archive.

    A branch that begins here cannot have been rolled up.
    """
    tips: dict[str, str] = {}
    for entry in entries:
        if entry.parent is None or tips.get(entry.branch, refs.get(entry.branch)) == entry.parent:
            tips[entry.branch] = entry.commit
        else:
            yield entry


def _culprits(subject: str, entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that an error is about: by a ref, a ref in the way of one, a blob's digest or its oid."""
    found: list[Entry] = []
    for entry in entries:
        names = {entry.branch, *(name for name, _ in entry.tags)}
        beside = subject.startswith(f"{entry.branch}/") or entry.branch.startswith(f"{subject}/")
        if subject in names or beside or _holds(entry, subject):
            found.append(entry)
    return found


def _holds(entry: Entry, subject: str) -> bool:
    return any(subject in {file.digest.hex(), file.oid.hex()} for file in entry.files)


def _is_damage(error: ConflictError | IntegrityError, culprits: Sequence[Entry]) -> bool:
    """Tell whether an error is about stored bytes, which will be no better the next time."""
    return isinstance(error, IntegrityError) and any(_holds(entry, error.subject or "") for entry in culprits)


def _checked_out(branch: str, tree: str) -> str:
    short = branch.removeprefix("refs/heads/")
    return (
        f"branch {short} is checked out in {tree}; its files and index there were left as they are, so git shows them "
        f"as changed: `git -C {shlex.quote(tree)} restore --source=HEAD --staged --worktree -- Backtest/codes` takes "
        "over the new state"
    )

"""Rolling up old branches: many refs become parents of one, and every commit stays reachable under its id.

Invariant: the archive ref moves and the rolled-up refs go in one transaction, each only from the value it was expected
to have; what somebody moved meanwhile stays. At the remote the archive arrives first, and a ref is deleted there only
after the remote has shown that it holds the archive of it. Killed anywhere and run again it ends the same: what is
archived is read from the repository, never from a note.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from cas import ArtifactStore, catalog, records
from cas.arguments import check_instance, check_seconds, check_whole
from cas.errors import ConflictError, GitCommandFailedError, IntegrityError, InvalidInputError
from cas.meta import read_meta
from cas.objects import Person
from gitexport import lease
from gitexport.archivable import BranchJudge, LeftBranch, old_branches
from gitexport.archive import Archive
from gitexport.archivelist import PARENTS_PER_COMMIT, build_archive
from gitexport.archivesummary import ArchiveSummary
from gitexport.exporter import Exporter, check_calls
from gitexport.heldfile import mapped_os_errors
from gitexport.pack import sweep_temporaries
from gitexport.push import PushState, RefGroup, push
from gitexport.refs import read_refs, sweep_ref_leftovers, update_refs
from gitexport.refvalues import RefChange
from gitexport.remotedeletion import delete_remote_refs
from gitexport.remoteurl import checked_remote, is_address
from gitexport.transfer import sweep_views
from gitexport.writer import gc_is_running, write_made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gitexport.archive import ArchiveCommit
    from gitexport.archivelist import ArchiveForm, RolledBranch
    from gitexport.repository import GitRepository

# Branches of one transaction: their names are in memory with those of their tags, about 1 KB for each.
BATCH_BRANCHES: Final = 10_000
_TRIES: Final = 5  # branches that others moved in the same moment are left out one by one, this often
_COMPARED_COUNT: Final = 5000


def archive_branches(  # noqa: PLR0913  # what to roll up, where, and how it is told are all the caller's to choose
    store: ArtifactStore,
    *,
    repository: Path | None = None,
    remote: str | None = None,
    older_than_s: float | None = None,
    keep_newest: int | None = None,
    push: bool | None = None,
    delete_remote: bool = False,
    dry_run: bool = False,
    wait_s: float | None = 0,
    progress: Callable[[str, int, int], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    pause: Callable[[float], object] = time.sleep,
) -> ArchiveSummary:
    """Roll old branches and their tags up into the store's archive ref, and push that.

    Every commit stays reachable under its id: a rolled-up branch is a parent of a commit under ``refs/archive/cas``.
    What is new on a rolled-up branch brings it back, on top of its old commit. Branches stay that wait for anything,
    that are checked out, or that somebody moved.

    Args:
        store: An open store.
        repository: Where the branches are; None means the store's ``repo_path``.
        remote: Remote to push to; None means the store's ``remote_name``.
        older_than_s: Only branches whose newest commit is older than so many seconds; None means any age.
        keep_newest: Never the so many branches that were committed to last; None keeps none.
        push: Whether to push the archive; None means the store's ``auto_push``.
        delete_remote: Whether rolled-up refs are deleted at the remote as well, those of earlier calls included; only
            where it has exactly the oid that was put there. Needs the archive to be pushed.
        dry_run: Only say what would be rolled up.
        wait_s: Seconds to wait for an exporter of this store; None waits without a limit.
        progress: Called with phase (``archive``, ``push`` or ``delete``), items done, items in all.
        should_stop: Asked between batches and pushes; when true, what is left stays.
        pause: Waits so many seconds between tries of a push; may return early.

    Returns:
        What was done, durable when this returns, and what is left.

    Raises:
        InvalidInputError: A negative age or number, a deletion without a push, or an argument of another kind.
        LeaseHeldError: An exporter works on this store.
        ConflictError: The archive ref is no archive of this store, or another program moved refs again and again.
        ConfigError: The remote has several push URLs, or a transport that is not allowed.
        GitCommandFailedError: git is missing or too old, there is no repository, or somebody holds a lock in it.
        StorageError: A disk refused.
    """
    check_instance(store, ArtifactStore, "store")
    wanted = store.config.auto_push if push is None else push
    _check_wishes(older_than_s, keep_newest, deletes=delete_remote, pushes=wanted)
    check_calls(progress, should_stop, pause)
    started_s = time.monotonic()
    with lease.hold(store.environment.directory, wait_s):
        git = Exporter(store, repository=repository).open_repository()
        if not dry_run:
            sweep_temporaries(git.common_dir / "objects")
            sweep_ref_leftovers(git)
            sweep_views(git)
        archiving = _Archiving(store, git, remote or store.config.remote_name, progress, should_stop)
        archiving.summary.dry_run = dry_run
        archiving.roll_up(
            old_branches(store, older_than_s=older_than_s, keep_newest=keep_newest),
            must_be_pushed=archiving.has_remote and (wanted or store.config.auto_push),
        )
        if wanted and not dry_run:
            archiving.push(pause)
            if delete_remote:
                archiving.delete_remote()
    archiving.summary.duration_s = time.monotonic() - started_s
    return archiving.summary


def _check_wishes(
    older_than_s: float | None, keep_newest: int | None, *, deletes: bool, pushes: bool
) -> None:
    check_seconds(older_than_s, "older_than_s")
    if keep_newest is not None:
        check_whole(keep_newest, "keep_newest")
    if (older_than_s or 0) < 0 or (keep_newest or 0) < 0:
        raise InvalidInputError("an age or a number of branches cannot be negative")
    if deletes and not pushes:
        raise InvalidInputError(
            "refs are deleted at the remote only when the archive is pushed", hint="Push it as well: --push."
        )


class _Archiving:
    """One call, which holds the lease."""

    def __init__(
        self,
        store: ArtifactStore,
        repository: GitRepository,
        remote: str,
        progress: Callable[[str, int, int], None] | None,
        should_stop: Callable[[], bool],
    ) -> None:
        self.summary = ArchiveSummary()
        self._remote = checked_remote(remote)
        self.has_remote = remote in repository.remotes() or is_address(remote)
        self._store = store
        self._repository = repository
        self._progress = progress or _unheard
        self._should_stop = should_stop
        self._use(Archive(store, repository))
        self._archive.require_own()

    def _use(self, archive: Archive) -> None:
        self._archive = archive
        self.summary.archive = archive.ref
        self.summary.commit_sha = archive.tip

    def roll_up(self, old: Sequence[tuple[int, str]], *, must_be_pushed: bool) -> None:
        """Roll up what may be of some branches, batch by batch, oldest first."""
        if not self.summary.dry_run:
            self._finish_last()
        for first in range(0, len(old), BATCH_BRANCHES):
            if self._should_stop():
                self.summary.stopped = True
                return
            batch = old[first : first + BATCH_BRANCHES]
            judge = BranchJudge(self._store, self._repository, self._archive, must_be_pushed=must_be_pushed)
            ready, left = judge.judge(batch)
            for stays in left:
                self.summary.leave(stays)
            if self.summary.dry_run:
                for branch in ready:
                    self.summary.take(branch)
            elif ready and not self._write(ready):
                return
            self._store.environment.release_pages()
            self._progress("archive", min(first + BATCH_BRANCHES, len(old)), len(old))

    def _finish_last(self) -> None:
        """Let the tags go that a git left when it was killed in the last roll-up: refs that are files go one by one."""
        commits = self._archive.chain[
            -BATCH_BRANCHES // PARENTS_PER_COMMIT :
        ]  # at least those of one transaction
        rolled_up = list(self._rolled_up(commits))
        standing = read_refs(self._repository, (name for refs in rolled_up for name in refs))
        left = [
            RefChange(name, oid, None)
            for refs in rolled_up
            if standing.keys().isdisjoint(name for name in refs if name.startswith("refs/heads/"))
            for name, oid in refs.items()
            if standing.get(name) == oid
        ]
        if left:
            with contextlib.suppress(
                ConflictError
            ):  # somebody moves one of them; the next roll-up looks again
                update_refs(self._repository, left)
                self.summary.refs += len(left)

    def _write(self, ready: Sequence[RolledBranch]) -> bool:
        """Roll up some branches in one transaction; False when that has to wait for another time."""
        left = list(ready)
        for _ in range(_TRIES):
            if not left:
                return True
            # git reads refs one after the other. A gc that saw no archive yet, and no branch any more, would prune.
            if gc_is_running(self._repository):
                self.summary.pending = f"a git gc is at work in {self._repository.path}"
                return False
            form = self._build(left)
            try:
                self._move(form, left)
            except ConflictError as error:
                moved = [branch for branch in left if _concerns(branch, error.subject or "")]
                for branch in moved:
                    self.summary.leave(
                        LeftBranch(branch.short_name, f"was moved by someone else: {error.message}")
                    )
                left = [branch for branch in left if branch not in moved]
                # Moved after the transaction: the others are rolled up, and the culprit stands where it was put.
                if (
                    moved
                    and read_refs(self._repository, [self._archive.ref]).get(self._archive.ref)
                    == form.commits[-1]
                ):
                    self._count(form, left)
                    return True
                if not moved:
                    raise
            else:
                self._count(form, left)
                return True
        raise ConflictError(
            f"other programs moved branches in {self._repository.path} again and again",
            subject=str(self._repository.path),
        )

    def _build(self, branches: Sequence[RolledBranch]) -> ArchiveForm:
        config = self._store.config
        with self._store.environment.read() as transaction:
            meta = read_meta(transaction)
        return build_archive(
            branches,
            self._archive.tip,
            Person(config.commit_author_name, config.commit_author_email),
            meta.store_id,
            meta.created_at_ns // 1_000_000_000,
            self._repository.object_format,
        )

    def _move(self, form: ArchiveForm, branches: Sequence[RolledBranch]) -> None:
        tip = form.commits[-1]
        changes = [RefChange(self._archive.ref, self._archive.tip, tip)]
        for branch in branches:
            changes.append(RefChange(branch.name, branch.commit, None))
            changes += [RefChange(name, oid, None) for name, oid, _ in branch.tags]
        receipt = write_made(self._repository, form.objects)
        try:
            update_refs(self._repository, changes, known={tip: None})
        finally:
            receipt.release_keep()
        shown = read_refs(self._repository, [change.name for change in changes])
        for change in changes:
            if shown.get(change.name) != change.new_oid:
                raise ConflictError(
                    f"{change.name} is at {shown.get(change.name)} right after it was moved",
                    subject=change.name,
                )

    def _count(self, form: ArchiveForm, branches: Sequence[RolledBranch]) -> None:
        for branch in branches:
            self.summary.take(branch)
        self.summary.commits += len(form.commits)
        self._use(Archive(self._store, self._repository))

    def push(self, pause: Callable[[float], object]) -> None:
        """Push the archive, if there is one and somewhere to push it to."""
        tip = self._archive.tip
        if tip is None:
            return
        if not self.has_remote:
            self.summary.warnings.append(
                f"nothing was pushed: {self._repository.path} has no remote {self._remote!r}"
            )
            return
        if self._should_stop():
            self.summary.stopped = True
            return
        self.summary.refused = self._archive.not_to_be_pushed()
        if self.summary.refused is not None:
            return
        self._progress("push", 0, 1)
        with mapped_os_errors(self._repository.path):
            report = push(
                self._repository,
                self._remote,
                [RefGroup("archive", ((self._archive.ref, tip),))],
                timeout_s=self._store.config.push_timeout,
                should_stop=self._should_stop,
                sleep=pause,
            )
        outcome = report.outcomes["archive"]
        self.summary.pushed = outcome.state is PushState.PUSHED
        if outcome.permanent:
            self.summary.refused = f"the remote refuses {self._archive.ref}: {outcome.reason}"
        elif not self.summary.pushed:
            self.summary.pending = f"{self._archive.ref} was not pushed: {outcome.reason}"
        self._progress("push", 1, 1)

    def delete_remote(self) -> None:
        """Delete at the remote what its archive holds, and the repository does not have any more."""
        if not self.summary.pushed:
            return
        timeout_s = self._store.config.push_timeout
        url = self._repository.push_url(self._remote)
        try:
            shown = self._repository.list_remote_refs(url, timeout_s=timeout_s)
        except GitCommandFailedError as error:
            self.summary.pending = f"the remote could not be asked: {error.message}"
            return
        at = self._archive.position(shown.get(self._archive.ref))
        if at is None:
            self.summary.pending = f"the remote does not show {self._archive.ref} as it was pushed"
            return
        doomed: dict[str, str] = {}
        for refs in self._archived_refs(at):
            there = {name: oid for name, oid in refs.items() if name in shown}
            here = read_refs(self._repository, there)
            for name in there.keys() - here.keys():
                if shown[name] == there[name]:
                    doomed[name] = there[name]
                else:
                    self.summary.keep(name, f"it is at {shown[name]}, not where it was pushed to")
        with mapped_os_errors(self._repository.path):
            report = delete_remote_refs(
                self._repository,
                url,
                doomed,
                timeout_s=timeout_s,
                ref_count=len(shown),
                should_stop=self._should_stop,
                progress=self._progress,
            )
        self.summary.remote_refs = report.deleted_count
        for name, reason in report.kept.items():
            self.summary.keep(name, reason)
        if report.refuses_all:
            self.summary.refused = f"refs are left at the remote: {report.error}"
        elif report.error is not None:
            self.summary.pending = f"refs are left at the remote: {report.error}"

    def _archived_refs(self, at: int) -> Iterator[Mapping[str, str]]:
        """Yield all refs that the archive holds up to a position, by the store's word, some thousand at a time."""
        found: dict[str, str] = {}
        for refs in self._rolled_up(self._archive.chain[: at + 1]):
            found |= refs
            if len(found) >= _COMPARED_COUNT:
                yield found
                found = {}
        yield found

    def _rolled_up(self, commits: Sequence[ArchiveCommit]) -> Iterator[dict[str, str]]:
        """Yield the refs of each branch that some commits of the archive hold, the newest commit's first."""
        seen: set[str] = set()  # a branch that was rolled up twice counts as it stood last
        for commit in reversed(commits):
            for head in commit.heads:
                refs: dict[str, str] = {}
                with contextlib.suppress(IntegrityError):  # damaged in the store, so not to be told; it stays
                    refs = self._refs_of(head, seen)
                if refs:
                    yield refs

    def _refs_of(self, head: str, seen: set[str]) -> dict[str, str]:
        with self._store.environment.read() as transaction:
            sequence = records.find_commit(transaction, bytes.fromhex(head))
            if sequence is None:
                return {}
            branch = records.load(transaction, sequence)[0].branch
            if branch in seen:
                return {}
            seen.add(branch)
            refs = {f"refs/heads/{branch}": head}
            for number in catalog.branch_sequences(transaction, branch):
                if number <= sequence:
                    tags = records.load(transaction, number)[1].tags
                    refs.update((f"refs/tags/{name}", oid.hex()) for name, oid in tags)
        return refs


def _concerns(branch: RolledBranch, subject: str) -> bool:
    return subject == branch.name or any(subject == name for name, *_ in branch.tags)


def _unheard(_phase: str, _done: int, _total: int) -> None:
    """Take progress that nobody asked for."""

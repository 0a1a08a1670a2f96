"""Which branches may be rolled up, and why others may not.

Invariant: a branch is rolled up only when the repository shows it and its tags exactly where the store put them last,
nothing of it waits for anything, and nobody has it checked out. Reads only.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Final

from cas import catalog, outbox, records
from cas.errors import IntegrityError
from cas.manifest import ImportedManifest
from cas.outbox import Stage
from gitexport.archivelist import RolledBranch
from gitexport.git import run_git
from gitexport.prompttags import PromptTags
from gitexport.purgeguard import find_guarded
from gitexport.refs import read_refs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cas import ArtifactStore
    from cas.lmdbenv import ReadTransaction
    from cas.manifest import Manifest, ManifestRow
    from gitexport.archive import Archive
    from gitexport.repository import GitRepository

_WAITING: Final = {
    Stage.WRITE: "is not exported yet",
    Stage.PUSH: "is not pushed yet",
    Stage.PARKED_WRITE: "is parked",
    Stage.PARKED_PUSH: "is parked",
}


@dataclasses.dataclass(frozen=True, slots=True)
class LeftBranch:
    """A branch that is old enough and stays, and why."""

    branch: str
    reason: str


def old_branches(
    store: ArtifactStore, *, older_than_s: float | None, keep_newest: int | None
) -> list[tuple[int, str]]:
    """Return the branches of the store that are old enough, as sequence of their newest commit and name, oldest first.

    Args:
        store: An open store.
        older_than_s: Only branches whose newest commit is older than so many seconds; None means any age.
        keep_newest: Not the so many branches that were committed to last; None means none of them is kept.
    """
    prefix = f"{store.config.branch_prefix}/"
    latest_us = None if older_than_s is None else store.now_us() - int(older_than_s * 1_000_000)
    with store.environment.read() as transaction:
        found = sorted((sequence, branch) for branch, sequence in catalog.iter_branches(transaction, prefix))
        if keep_newest:
            found = found[:-keep_newest]
        if latest_us is None:
            return found
        return [item for item in found if _created_at_us(transaction, item[0]) < latest_us]


def _created_at_us(transaction: ReadTransaction, sequence: int) -> int:
    try:
        head = catalog.get_head(transaction, sequence)
        return records.load(transaction, sequence)[0].created_at_us if head is None else head.created_at_us
    except IntegrityError:  # of unknown age; it is named when the branch is looked at
        return 0


def head_branch(repository: GitRepository) -> str | None:
    """Return the ref that HEAD names, in a bare repository too; None when it names a commit."""
    result = run_git(
        ["symbolic-ref", "--quiet", "HEAD"],
        cwd=repository.git_dir,
        options=repository.options,
        accepted=(0, 1),
        extra_env={"GIT_DIR": str(repository.git_dir)},
    )
    return os.fsdecode(result.stdout).removesuffix("\n") or None


class BranchJudge:
    """Judges branches in batches; for one thread, under the export lease.

    Args:
        store: The store.
        repository: Where the refs are.
        archive: What is archived already.
        must_be_pushed: Whether a run has to be at the remote before its branch goes.
    """

    def __init__(
        self, store: ArtifactStore, repository: GitRepository, archive: Archive, *, must_be_pushed: bool
    ) -> None:
        self._store = store
        self._repository = repository
        self._archive = archive
        self._must_be_pushed = must_be_pushed

    def judge(self, batch: Sequence[tuple[int, str]]) -> tuple[list[RolledBranch], list[LeftBranch]]:
        """Return which of some branches may be rolled up, and which stay though they are old enough.

        Branches whose newest commit is archived already are in neither list.

        Args:
            batch: Sequence of the newest commit and name of each.

        Raises:
            GitCommandFailedError: git failed.
            StorageError: The repository cannot be read.
        """
        names = [f"refs/heads/{branch}" for _, branch in batch]
        tips = read_refs(self._repository, names)
        held = {name: str(path) for name, path in self._repository.checked_out_branches(names).items()}
        own_head = head_branch(self._repository)
        if own_head is not None:
            held.setdefault(own_head, str(self._repository.path))
        purged = find_guarded(self._store, {branch: sequence for sequence, branch in batch})
        rolled: list[RolledBranch] = []
        left: list[LeftBranch] = []
        for sequence, branch in batch:
            name = f"refs/heads/{branch}"
            tip = tips.get(name)
            archived = self._archive.head_of(branch) if tip is None else None
            if archived is not None and archived[0] == sequence:
                continue
            reason = f"is checked out in {held[name]}" if name in held else None
            if branch in purged:  # whoever has the archive would have it, and it is hard to take out of there
                reason = f"has a purged file in commit {purged[branch][1][:12]}"
            found = reason or self._look(branch, tip)
            if isinstance(found, str):
                left.append(LeftBranch(branch, found))
            else:
                rolled.append(found)
        return self._with_tags(rolled, left)

    def _look(self, branch: str, tip: str | None) -> RolledBranch | str:
        """Return a branch with all tags of its runs, or why it stays."""
        tags: list[tuple[str, str, str | None]] = []
        newest: tuple[Manifest, ManifestRow] | None = None
        try:
            with self._store.environment.read() as transaction:
                for sequence in catalog.branch_sequences(transaction, branch):
                    reason = self._waits(transaction, sequence)
                    if reason is not None:
                        return reason
                    loaded, row = records.load(transaction, sequence)
                    newest = newest or (loaded, row)
                    tags += _tags(loaded, row)
        except IntegrityError as error:
            return f"is damaged in the store: {error.message}"
        if newest is None:
            return "is damaged in the store: it has no commits"
        commit = newest[1].commit_oid.hex()
        if tip is None:
            return "is gone from the repository; `cas export --rebuild` writes it again"
        if tip != commit:
            return f"was moved by someone else: it is at {tip[:12]}, the store's newest is {commit[:12]}"
        return RolledBranch(f"refs/heads/{branch}", commit, newest[0].created_at_us, tuple(tags))

    def _waits(self, transaction: ReadTransaction, sequence: int) -> str | None:
        entry = outbox.find_entry(transaction, sequence)
        receipt = outbox.get_receipt(transaction, sequence)
        if entry is not None and (entry[0] is not Stage.PUSH or self._must_be_pushed):
            why = f": {entry[1].reason}" if entry[1].reason else ""
            return f"has a commit that {_WAITING[entry[0]]}{why}"
        if receipt is None:
            return "has a commit that is not exported yet"
        if self._must_be_pushed and not receipt.pushed_at_us:
            return "has a commit that is not pushed yet"
        return None

    def _with_tags(
        self, rolled: Iterable[RolledBranch], left: list[LeftBranch]
    ) -> tuple[list[RolledBranch], list[LeftBranch]]:
        """Leave out tags that are gone already, and branches one of whose tags was moved by someone else."""
        ready: list[RolledBranch] = []
        branches = list(rolled)
        shown = read_refs(self._repository, (name for branch in branches for name, *_ in branch.tags))
        tags = ((name, oid) for branch in branches for name, oid, _ in branch.tags)
        others = PromptTags(self._store, self._repository).others(tags, shown)
        for found in branches:
            branch = dataclasses.replace(found, tags=tuple(tag for tag in found.tags if tag[0] not in others))
            moved = _moved_tag(branch, shown)
            if moved is not None:
                left.append(LeftBranch(branch.short_name, f"has a tag that someone else moved: {moved}"))
            else:
                present = tuple(tag for tag in branch.tags if tag[0] in shown)
                ready.append(dataclasses.replace(branch, tags=present))
        return ready, left


def _moved_tag(branch: RolledBranch, shown: Mapping[str, str]) -> str | None:
    moved = (name for name, oid, _ in branch.tags if shown.get(name, oid) != oid)
    return next((name.removeprefix("refs/tags/") for name in moved), None)


def _tags(loaded: Manifest, row: ManifestRow) -> Iterator[tuple[str, str, str | None]]:
    """Yield the tags of one manifest: full name, oid, and the commit behind it unless the tag is that commit."""
    annotated = dict(loaded.tag_objects) if isinstance(loaded, ImportedManifest) else None
    for name, oid in row.tags:
        lightweight = annotated is not None and annotated.get(name) is None
        yield f"refs/tags/{name}", oid.hex(), None if lightweight else row.commit_oid.hex()

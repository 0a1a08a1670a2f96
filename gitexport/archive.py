"""The archive of a store: which of its refs are rolled up, as the repository itself shows it.

A store has one archive in a repository, a ref to a chain of commits. Each commit of it but the first has as parents
the one before, and the branches that it rolled up.

Invariant: a ref counts as archived only if the commit it stood on is such a parent, by git's own word, or lies below
one on its branch, by the store's. Nothing that a file in the archive says is believed. Reads only; for one thread.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import msgspec

from cas import catalog, purge
from cas.errors import ConflictError, GitCommandFailedError, IntegrityError
from cas.meta import read_meta
from gitexport.archivelist import root_tree
from gitexport.git import run_git
from gitexport.refs import read_refs
from gitexport.refvalues import check_oid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cas import ArtifactStore
    from gitexport.entries import Entry
    from gitexport.repository import GitRepository

# One for each store, whatever its branch prefix is now: stores that share a repository never move the same ref, and
# their number does not grow with what is rolled up.
ARCHIVE_FOLDER: Final = "refs/archive/cas"


@dataclasses.dataclass(frozen=True, slots=True)
class ArchiveCommit:
    """One commit of the chain; oids in hex."""

    oid: str
    tree: str
    parents: tuple[str, ...]

    @property
    def heads(self) -> tuple[str, ...]:
        """The branches that it rolled up, as their commits."""
        return self.parents[1:]


class Archive:
    """What the archive of a store holds, as of the first question that is asked.

    The chain is read once, by one git process, and only when a ref is asked for that the repository does not have; it
    takes about 150 bytes of memory for each branch that was rolled up.

    Attributes:
        ref: Full name of its ref.
        trouble: Why its chain could not be read, once that was tried; None when it could, or there is none. Nothing
            counts as archived then.
    """

    def __init__(self, store: ArtifactStore, repository: GitRepository) -> None:
        self._store = store
        self._repository = repository
        with store.environment.read() as transaction:
            self.ref = f"{ARCHIVE_FOLDER}/{read_meta(transaction).store_id}"
        self.trouble: str | None = None
        self._tip: list[str | None] = []
        self._chain: list[ArchiveCommit] | None = None
        self._heads: dict[bytes, int] = {}
        self._found: dict[tuple[str, int], tuple[int, str] | None] = {}

    @property
    def tip(self) -> str | None:
        """The newest commit of the archive in this repository, or None when there is no archive."""
        if not self._tip:
            self._tip = [read_refs(self._repository, [self.ref]).get(self.ref)]
        return self._tip[0]

    @property
    def chain(self) -> list[ArchiveCommit]:
        """Its commits, oldest first; none when there is no archive, or it cannot be read."""
        if self._chain is None:
            self._chain = []
            if self.tip is not None:
                try:
                    self._chain = _read_chain(self._repository, self.tip)
                except GitCommandFailedError as error:
                    if error.kind != GitCommandFailedError.kind:
                        raise
                    self.trouble = f"{self.ref} cannot be read: {error.message}"
            for position, commit in enumerate(self._chain):
                for head in commit.heads:
                    self._heads.setdefault(bytes.fromhex(head), position)
        return self._chain

    def position(self, commit: str | None) -> int | None:
        """Return where a commit stands in the chain, or None; the remote's archive may be behind this one."""
        if commit is None:
            return None
        return next((place for place, each in enumerate(self.chain) if each.oid == commit), None)

    def require_own(self) -> None:
        """Make sure that the ref, if there is one, is an archive that can be gone on with.

        Raises:
            ConflictError: It is something else, or cannot be read.
        """
        if self.tip is None:
            return
        root = self.chain[0] if self.chain else None
        if root is None or root.parents or root.tree != root_tree(self._repository.object_format).hex():
            raise ConflictError(
                self.trouble or f"{self.ref} is at {self.tip}, which is no archive that was made here",
                subject=self.ref,
                hint="Set it to where it was (a clone or the remote may know), or delete it; then run "
                "`cas export --rebuild`, which brings back as branches what is not archived.",
            )

    def head_of(self, branch: str, at: int | None = None) -> tuple[int, str] | None:
        """Return sequence and commit of the newest step of a branch that is archived, or None.

        Args:
            branch: As the store names it, without ``refs/heads/``.
            at: Only by the chain up to this position; None means all of it.
        """
        if self.tip is None or not self.chain:
            return None
        last = len(self.chain) - 1 if at is None else at
        key = (branch, last)
        if key not in self._found:
            self._found[key] = self._search(branch, last)
        return self._found[key]

    def not_to_be_pushed(self) -> str | None:
        """Return why the archive must not go out, or None: it holds a commit that a purge has set aside."""
        with self._store.environment.read() as transaction:
            purged = purge.first_held(transaction)
        for branch, first in purged.items():
            head = self.head_of(branch)
            if head is not None and head[0] >= first:
                return (
                    f"{self.ref} holds a run of {branch} whose file was purged, so it must not go out: delete it, "
                    "then `cas export --rebuild` brings the other branches back"
                )
        return None

    def _search(self, branch: str, last: int) -> tuple[int, str] | None:
        with self._store.environment.read() as transaction:
            for sequence in catalog.branch_sequences(transaction, branch):
                try:
                    row = catalog.get_row(transaction, sequence)
                except IntegrityError:  # `cas verify` names it; those below it may be archived all the same
                    continue
                if row is not None and self._heads.get(row.commit_oid, last + 1) <= last:
                    return sequence, row.commit_oid.hex()
        return None

    def lacking(
        self, entries: Iterable[Entry], refs: Mapping[str, str], at: int | None = None
    ) -> dict[str, str]:
        """Return those refs of some entries that are not among the given ones and are archived, name to hex oid.

        A branch counts as standing at the newest commit that was archived of it.

        Args:
            entries: Whose refs.
            refs: What there is, by full name.
            at: As for `head_of`.
        """
        found: dict[str, str] = {}
        for entry in entries:
            if entry.branch in refs and all(name in refs for name, _ in entry.tags):
                continue
            head = self.head_of(entry.short_branch, at)
            if head is None:
                continue
            if entry.branch not in refs:
                found[entry.branch] = head[1]
            if entry.sequence <= head[0]:
                found.update((name, oid) for name, oid in entry.tags if name not in refs)
        return found


def without_archived_tags(entry: Entry, archived: Mapping[str, str]) -> Entry:
    """Return an entry without the tag objects that no ref holds any more, and that git may have pruned."""
    gone = {oid for name, oid in entry.tags if name in archived}
    objects = tuple(item for item in entry.objects if item.kind != "tag" or item.oid.hex() not in gone)
    return msgspec.structs.replace(entry, objects=objects)


def _read_chain(repository: GitRepository, tip: str) -> list[ArchiveCommit]:
    """Return the commits from a root to ``tip``, along first parents.

    Raises:
        GitCommandFailedError: One of them is missing or no commit, or git failed.
    """
    words = ["rev-list", "--first-parent", "--reverse", "--no-commit-header", "--format=%H %T %P"]
    listed = run_git(
        [*words, "--end-of-options", check_oid(tip)],
        cwd=repository.git_dir,
        options=repository.options,
        extra_env={"GIT_DIR": str(repository.git_dir)},
    ).stdout
    lines = (line.split(" ") for line in listed.decode().splitlines())
    return [
        ArchiveCommit(oid, tree, tuple(parent for parent in parents if parent))
        for oid, tree, *parents in lines
    ]

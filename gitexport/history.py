"""What store and git together know of the commits of a branch.

Invariant: the store is asked first, as it costs no process; it answers for branches that only it moves, where every
commit stands on the one before. For branches that people move as well, git itself is asked what contains what; so it is
where a manifest is damaged, which holds nothing up: `cas verify` names it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cas import records
from cas.errors import IntegrityError

if TYPE_CHECKING:
    from cas import ArtifactStore
    from gitexport.entries import Entry
    from gitexport.repository import GitRepository


class BranchHistory:
    """Answers questions about tips that are not where an entry expects them; keeps nothing between calls."""

    def __init__(self, store: ArtifactStore, repository: GitRepository) -> None:
        self._store = store
        self._repository = repository

    def holds(self, entry: Entry, tip: str) -> bool:
        """Tell whether the tip has the entry's commit in its history."""
        if tip == entry.commit:
            return True
        position = self.position(entry.branch, tip)
        if position is not None and not entry.is_rollback:
            return position >= entry.sequence
        return self._repository.stands_on(tip, entry.commit)  # it cannot stand on what git does not have

    def stands_on(self, commit: str, other: str) -> bool:
        """Tell whether a commit has another in its history; git need not have those that the store made."""
        with contextlib.suppress(IntegrityError), self._store.environment.read() as transaction:
            below: str | None = commit
            while below is not None and below != other:
                commit = below
                sequence = records.find_commit(transaction, bytes.fromhex(commit))
                parent = None if sequence is None else records.load(transaction, sequence)[0].parent
                below = None if parent is None else parent.hex()
            if below == other:
                return True
        return self._repository.stands_on(commit, other)

    def is_older(self, entry: Entry, tip: str) -> bool:
        """Tell whether the tip is a commit that the store made on this branch before the entry."""
        position = self.position(entry.branch, tip)
        return position is not None and position < entry.sequence

    def is_own(self, commit: str) -> bool:
        """Tell whether the store can make a commit again."""
        with contextlib.suppress(IntegrityError), self._store.environment.read() as transaction:
            return records.find_commit(transaction, bytes.fromhex(commit)) is not None
        return False

    def position(self, branch: str, commit: str) -> int | None:
        """Return the sequence of a commit that the store made on a branch (full ref name), or None."""
        with contextlib.suppress(IntegrityError), self._store.environment.read() as transaction:
            sequence = records.find_commit(transaction, bytes.fromhex(commit))
            if (
                sequence is not None
                and f"refs/heads/{records.load(transaction, sequence)[0].branch}" == branch
            ):
                return sequence
        return None

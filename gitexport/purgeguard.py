"""The guard before a push: what was purged is not sent again to a remote that has got rid of it.

Invariant: a branch is pushed on top of a purged commit only where the remote shows that it has that commit. One that
was purged before it was pushed is held in the outbox already; this is about those that had gone out, and that somebody
may have taken out of the remote since. Costs nothing in a store that purged nothing, else one question to the remote
where a branch has such a commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cas import purge
from gitexport.history import BranchHistory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cas import ArtifactStore
    from gitexport.archive import Archive
    from gitexport.repository import GitRepository


def find_guarded(store: ArtifactStore, branches: Mapping[str, int]) -> dict[str, tuple[int, str]]:
    """Return the branches that hold purged content: sequence and hex id of the newest such commit.

    Args:
        store: An open store.
        branches: Branches that are to be pushed -> the sequence of the commit that each is pushed at.
    """
    with store.environment.read() as transaction:
        found = purge.find_purged(transaction, branches)
    return {branch: (sequence, oid.hex()) for branch, (sequence, oid) in found.items()}


def lacking(
    store: ArtifactStore,
    repository: GitRepository,
    archive: Archive,
    url: str,
    guarded: Mapping[str, tuple[int, str]],
) -> set[str]:
    """Return those guarded branches whose purged commit a remote does not show, as a branch or in the archive.

    Raises:
        GitCommandFailedError: The remote did not answer.
    """
    shown = repository.list_remote_refs(url, timeout_s=store.config.push_timeout)
    at = archive.position(shown.get(archive.ref))
    history = BranchHistory(store, repository)
    found: set[str] = set()
    for branch, (sequence, commit) in guarded.items():
        tip = shown.get(f"refs/heads/{branch}")
        if tip is not None and history.stands_on(tip, commit):
            continue
        head = None if at is None else archive.head_of(branch, at)
        if head is None or head[0] < sequence:
            found.add(branch)
    return found

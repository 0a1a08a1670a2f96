"""What a roll-up of branches did, or would do: figures for people, exit codes and monitors."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Literal

from cas.manifest import timestamp_text

if TYPE_CHECKING:
    from gitexport.archivable import LeftBranch
    from gitexport.archivelist import RolledBranch


_LISTED: Final = (
    10_000  # the rest is counted: the first roll-up of a million branches must not fill the memory
)


@dataclasses.dataclass(slots=True)
class ArchiveSummary:
    """What was rolled up, and what is left to do; a list names ten thousand at most.

    Attributes:
        archive: Full name of the store's archive ref.
        commit_sha: Where it is now, in hex; None when there is no archive.
        branches: What was rolled up, or would be in a dry run: ``branch, commit_sha, committed_at, tags``.
        branch_count: How many those are.
        left: Branches that are old enough and stay: ``branch, reason``.
        left_count: How many those are.
        refs: How many refs went from the repository, tags included.
        commits: How many commits the archive grew by.
        pushed: Whether the remote has the archive as it is now; None when no push of it was tried.
        remote_refs: How many refs were deleted at the remote.
        kept_at_remote: Rolled-up refs that were to be deleted and the remote still has: ``ref, reason``.
        kept_count: How many those are.
        pending: Why something is left for another run, or None.
        refused: Why the remote refused the archive, or all deletions, for good; or None.
        dry_run: Whether nothing was written.
        stopped: Whether it was told to stop before it was done.
        warnings: What deserves a look.
        duration_s: Seconds it took.
    """

    archive: str = ""
    commit_sha: str | None = None
    branches: list[dict[str, object]] = dataclasses.field(default_factory=list[dict[str, object]])
    branch_count: int = 0
    left: list[dict[str, str]] = dataclasses.field(default_factory=list[dict[str, str]])
    left_count: int = 0
    refs: int = 0
    commits: int = 0
    pushed: bool | None = None
    remote_refs: int = 0
    kept_at_remote: list[dict[str, str]] = dataclasses.field(default_factory=list[dict[str, str]])
    kept_count: int = 0
    pending: str | None = None
    refused: str | None = None
    dry_run: bool = False
    stopped: bool = False
    warnings: list[str] = dataclasses.field(default_factory=list[str])
    duration_s: float = 0.0

    @property
    def state(self) -> Literal["done", "pending", "parked"]:
        """``parked`` when a person has to look, ``pending`` when another run goes on, else ``done``."""
        if self.refused is not None:
            return "parked"
        return "pending" if self.pending is not None or self.stopped else "done"

    def as_dict(self) -> dict[str, object]:
        """Return the summary as JSON-able data."""
        return {"state": self.state, **dataclasses.asdict(self)}

    def take(self, branch: RolledBranch) -> None:
        """Count a branch as rolled up."""
        self.branch_count += 1
        self.refs += 1 + len(branch.tags)
        if len(self.branches) < _LISTED:
            self.branches.append(
                {
                    "branch": branch.short_name,
                    "commit_sha": branch.commit,
                    "committed_at": timestamp_text(branch.created_at_us),
                    "tags": [name.removeprefix("refs/tags/") for name, *_ in branch.tags],
                }
            )

    def leave(self, branch: LeftBranch) -> None:
        """Note a branch that stays."""
        self.left_count += 1
        if len(self.left) < _LISTED:
            self.left.append({"branch": branch.branch, "reason": branch.reason})

    def keep(self, name: str, reason: str) -> None:
        """Note a rolled-up ref, by its full name, that stays at the remote."""
        self.kept_count += 1
        if len(self.kept_at_remote) < _LISTED:
            self.kept_at_remote.append({"ref": name, "reason": reason})

"""Plans: which commits and refs a batch of outbox entries becomes. Pure: no git, no file, no clock.

Invariant: a run is in the plan whole (its commit, its branch step and all its tags) or not at all, and a branch only
ever moves from the value the store expects to a descendant of it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from gitexport.refvalues import ref_folders

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from gitexport.entries import Entry


class History(Protocol):
    """What store and git know of a branch tip that is not where an entry expects it."""

    def holds(self, entry: Entry, tip: str) -> bool:
        """Tell whether the tip has the entry's commit in its history: it was exported before."""
        ...

    def is_older(self, entry: Entry, tip: str) -> bool:
        """Tell whether the tip is a commit that the store made on this branch before the entry."""
        ...

    def is_own(self, commit: str) -> bool:
        """Tell whether the store can make a commit again."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """An entry that cannot be exported as things are, and why; no credential is in the reason."""

    sequence: int
    label: str
    branch: str
    reason: str


@dataclasses.dataclass(slots=True)
class Plan:
    """What a batch does: entries to write, entries found in git already, entries refused, and the refs to move."""

    write: list[Entry] = dataclasses.field(default_factory=list["Entry"])
    present: list[Entry] = dataclasses.field(default_factory=list["Entry"])
    refused: list[Refusal] = dataclasses.field(default_factory=list[Refusal])
    branch_moves: dict[str, tuple[str | None, str]] = dataclasses.field(
        default_factory=dict[str, tuple[str | None, str]]
    )
    new_tags: dict[str, str] = dataclasses.field(default_factory=dict[str, str])

    def refuse(self, entry: Entry, reason: str) -> None:
        """Set an entry aside."""
        self.refused.append(Refusal(entry.sequence, entry.label, entry.short_branch, reason))


@dataclasses.dataclass(frozen=True, slots=True)
class Obstacles:
    """What keeps entries from being exported, besides the refs themselves.

    Attributes:
        branches: Branches that stand still from a sequence on, with the reason.
        entries: Sequences that git or the store refused a moment ago, with the reason.
        fixed: Branches that must not be moved, with the reason.
        absent: Hex ids that entries need, and that neither git nor the store has.
    """

    branches: Mapping[str, tuple[int, str]] = dataclasses.field(default_factory=dict[str, tuple[int, str]])
    entries: Mapping[int, str] = dataclasses.field(default_factory=dict[int, str])
    fixed: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    absent: Collection[str] = frozenset()


def ref_names(entries: Iterable[Entry]) -> set[str]:
    """Return the refs a plan for these entries has to know: their own, and those that would be in the way."""
    wanted: set[str] = set()
    for entry in entries:
        wanted.add(entry.branch)
        wanted.update(name for name, _ in entry.tags)
        wanted.update(ref_folders(entry.branch))
    return wanted


def make_plan(
    entries: Iterable[Entry], refs: Mapping[str, str], obstacles: Obstacles, history: History
) -> Plan:
    """Decide what is to be done for a batch.

    Args:
        entries: In sequence order.
        refs: What git has now under `ref_names`, full name to hex id; others absent.
        obstacles: What else is in the way.
        history: Answers about tips that are not where they were expected.

    Returns:
        The plan; entries of one branch after a refused one are refused as well.
    """
    plan = Plan()
    tips = dict(refs)
    stopped = dict(obstacles.branches)
    for entry in entries:
        since, reason = stopped.get(entry.branch, (0, None))
        if reason is None or entry.sequence <= since:
            reason = obstacles.entries.get(entry.sequence) or _place(plan, entry, tips, obstacles, history)
            if reason is not None:
                stopped[entry.branch] = (entry.sequence, f"waits for {entry.label}: {reason}")
        if reason is not None:
            plan.refuse(entry, reason)
    return plan


def _place(
    plan: Plan, entry: Entry, tips: dict[str, str], obstacles: Obstacles, history: History
) -> str | None:
    """Put an entry into the plan, or return why it cannot be."""
    for name, oid in entry.tags:
        if tips.get(name, oid) != oid:
            return f"tag {name.removeprefix('refs/tags/')} exists already and points elsewhere"
    tip = tips.get(entry.branch)
    moved = tip == entry.parent
    if not moved and tip != entry.commit and (tip is None or not history.holds(entry, tip)):
        return _moved_reason(entry, tip, history)
    missing = {name: oid for name, oid in entry.tags if name not in tips}
    if not moved and not missing:
        plan.present.append(entry)
        return None
    reason = _obstacle(entry, tips, obstacles, moved=moved)
    if reason is not None:
        return reason
    plan.write.append(entry)
    plan.new_tags.update(missing)
    tips.update(missing)
    if moved:
        first_old = plan.branch_moves.get(entry.branch, (entry.parent, ""))[0]
        plan.branch_moves[entry.branch] = (first_old, entry.commit)
        tips[entry.branch] = entry.commit
    return None


def _obstacle(entry: Entry, tips: Mapping[str, str], obstacles: Obstacles, *, moved: bool) -> str | None:
    if moved and entry.branch in obstacles.fixed:
        return obstacles.fixed[entry.branch]
    for folder in ref_folders(entry.branch):
        if folder in tips:
            blocker = folder.removeprefix("refs/heads/")
            return (
                f"a branch named {blocker} exists, so {entry.short_branch} cannot be created beside it: rename or "
                "delete it, or choose another branch_prefix"
            )
    absent = [oid for oid in entry.needs if oid in obstacles.absent]
    if absent:
        return (
            f"it stands on {len(absent)} objects that other programs made and this repository has lost "
            f"({absent[0][:12]} is one): fetch them from another clone first"
        )
    return None


def _moved_reason(entry: Entry, tip: str | None, history: History) -> str:
    branch = entry.short_branch
    if tip is None and entry.parent is not None and not history.is_own(entry.parent):
        return (
            f"branch {branch} is gone from the repository, and so is its commit {entry.parent[:12]}, which the store "
            "did not make: fetch the branch from another clone first"
        )
    if tip is None:
        return (
            f"branch {branch} is gone from the repository; if the repository was replaced or restored, "
            "run `cas export --rebuild`"
        )
    if history.is_older(entry, tip):
        return (
            f"branch {branch} is at an older commit of the store ({tip[:12]}); if the repository was restored from a "
            "backup, run `cas export --rebuild`"
        )
    if entry.parent is None:
        return (
            f"branch {branch} exists already with commits the store does not know ({tip[:12]}): take them over with "
            "`cas import` before the first run of a branch, or rename the branch"
        )
    return f"branch {branch} was moved by someone else: it is at {tip[:12]}, expected {entry.parent[:12]}"

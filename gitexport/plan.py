"""Plans: which commits and refs a batch of outbox entries becomes. Pure: no git, no file, no clock.

Invariant: a run is in the plan whole (its commit, its branch step and all its tags) or not at all, every id was
rebuilt from the manifest, and a branch only ever moves from the value the store expects to a descendant of it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from cas import gitform
from cas.manifest import RunManifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cas.manifest import FileEntry, Manifest, ManifestRow
    from cas.objects import GitObject


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One manifest waiting for its export, every id rebuilt.

    Attributes:
        sequence: Its number in the store.
        branch: Full ref name of its branch.
        parent: Hex id the branch is expected to have before, None for a new branch.
        commit: Hex id of its commit.
        tags: Full ref name and hex id of each tag object.
        objects: Trees, metadata blob, commit and tags, as bytes.
        files: The run's own blobs, which the store holds as streams; none for a rollback.
        needs: Hex ids that must be in git before: the artifact root a rollback goes back to.
        label: How to name it to people.
    """

    sequence: int
    branch: str
    parent: str | None
    commit: str
    tags: tuple[tuple[str, str], ...]
    objects: tuple[GitObject, ...]
    files: tuple[FileEntry, ...]
    needs: tuple[str, ...]
    label: str

    @property
    def ref_count(self) -> int:
        """Refs the entry writes."""
        return 1 + len(self.tags)


class History(Protocol):
    """What store and git know of a branch tip that is not where an entry expects it."""

    def holds(self, entry: Entry, tip: str) -> bool:
        """Tell whether the tip has the entry's commit in its history: it was exported before."""
        ...

    def is_older(self, entry: Entry, tip: str) -> bool:
        """Tell whether the tip is a commit that the store made on this branch before the entry."""
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
    """What a batch does: entries to write, entries found in git already, entries refused."""

    write: list[Entry] = dataclasses.field(default_factory=list[Entry])
    present: list[Entry] = dataclasses.field(default_factory=list[Entry])
    refused: list[Refusal] = dataclasses.field(default_factory=list[Refusal])
    branch_moves: dict[str, tuple[str | None, str]] = dataclasses.field(
        default_factory=dict[str, tuple[str | None, str]]
    )
    new_tags: dict[str, str] = dataclasses.field(default_factory=dict[str, str])


def build_entry(sequence: int, loaded: Manifest, row: ManifestRow) -> Entry:
    """Return the entry of a stored manifest.

    Raises:
        IntegrityError: The stored ids are not what the manifest gives.
    """
    tree, commit, tags = gitform.check_row(loaded, row)
    is_run = isinstance(loaded, RunManifest)
    return Entry(
        sequence=sequence,
        branch=f"refs/heads/{loaded.branch}",
        parent=None if loaded.parent is None else loaded.parent.hex(),
        commit=commit.oid.hex(),
        tags=tuple((f"refs/tags/{tag.name}", tag.object.oid.hex()) for tag in tags),
        objects=(*tree.objects, commit, *(tag.object for tag in tags)),
        files=loaded.files if isinstance(loaded, RunManifest) else (),
        needs=() if is_run else (tree.artifact_root.hex(),),
        label=f"{loaded.correlation_id}@{loaded.revision}"
        if isinstance(loaded, RunManifest)
        else f"rollback of {loaded.branch} to {loaded.tag}",
    )


def make_plan(
    entries: Iterable[Entry],
    refs: Mapping[str, str],
    blocked: Mapping[str, str],
    history: History,
) -> Plan:
    """Decide what is to be done for a batch.

    Args:
        entries: In sequence order.
        refs: What git has now for the branches and tags of the batch, full name to hex id; others absent.
        blocked: Branches on which an earlier entry is parked, with the reason.
        history: Answers about tips that are not where they were expected.

    Returns:
        The plan; entries of one branch after a refused one are refused as well.
    """
    plan = Plan()
    tips = dict(refs)
    stopped = dict(blocked)
    for entry in entries:
        reason = stopped.get(entry.branch)
        if reason is None:
            reason = _place(plan, entry, tips, history)
        if reason is not None:
            stopped.setdefault(entry.branch, f"waits for {entry.label}: {reason}")
            plan.refused.append(
                Refusal(entry.sequence, entry.label, entry.branch.removeprefix("refs/heads/"), reason)
            )
    return plan


def _place(plan: Plan, entry: Entry, tips: dict[str, str], history: History) -> str | None:
    """Put an entry into the plan, or return why it cannot be."""
    for name, oid in entry.tags:
        if tips.get(name, oid) != oid:
            return f"tag {name.removeprefix('refs/tags/')} exists already and points elsewhere"
    tip = tips.get(entry.branch)
    moved = tip == entry.parent
    if not moved and tip != entry.commit and (tip is None or not history.holds(entry, tip)):
        return _moved_reason(entry, tip, behind=tip is not None and history.is_older(entry, tip))
    missing = [(name, oid) for name, oid in entry.tags if name not in tips]
    if not moved and not missing:
        plan.present.append(entry)
        return None
    plan.write.append(entry)
    plan.new_tags.update(missing)
    tips.update(missing)
    if moved:
        first_old = plan.branch_moves.get(entry.branch, (entry.parent, ""))[0]
        plan.branch_moves[entry.branch] = (first_old, entry.commit)
        tips[entry.branch] = entry.commit
    return None


def _moved_reason(entry: Entry, tip: str | None, *, behind: bool) -> str:
    branch = entry.branch.removeprefix("refs/heads/")
    if tip is None:
        return (
            f"branch {branch} is gone from the repository; if the repository was replaced or restored, "
            "run `cas export --rebuild`"
        )
    if behind:
        return (
            f"branch {branch} is at an older commit of the store ({tip[:12]}); if the repository was restored from a "
            "backup, run `cas export --rebuild`"
        )
    if entry.parent is None:
        return f"branch {branch} exists already with commits the store does not know ({tip[:12]})"
    return f"branch {branch} was moved by someone else: it is at {tip[:12]}, expected {entry.parent[:12]}"

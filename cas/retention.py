"""Retention: which runs to keep, and why; forgetting the others, and taking that back.

Invariant: nothing is forgotten that is pinned, that waits for its way into git, or that a branch stands on through a
rollback, whatever a policy says; each of these is looked at again in the transaction that forgets. A plan gives a
reason for every run it looks at.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import heapq
from collections import defaultdict
from typing import TYPE_CHECKING, Final, Literal, get_args

from cas import catalog, manifest, marks, outbox, predicate, records, visibility
from cas.errors import InvalidInputError, NotFoundError
from cas.manifest import RollbackManifest
from cas.marks import Pin
from cas.outbox import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cas.lmdbenv import Environment, ReadTransaction, WriteTransaction
    from cas.manifest import RunHead
    from cas.records import Record

Per = Literal["workflow", "task", "store"]
_RUNS_PER_TRANSACTION: Final = 100
_MICROSECONDS: Final = 1_000_000
_DAY_S: Final = 86_400
_BEFORE_GIT: Final = (Stage.WRITE, Stage.PARKED_WRITE)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """Rules of what to keep; a run that none of them keeps is forgotten.

    Attributes:
        keep_last: Newest runs to keep in each group.
        keep_within_s: Keep runs committed within so many seconds.
        keep_best: Best runs by ``by`` to keep in each group.
        by: Name of the metric, as in ``where``.
        lowest: Whether the lowest value is the best.
        per: What forms a group: a workflow, a task of a workflow, or the whole store.
        keep_tags: Keep runs with a tag that matches one of these patterns (``*``, ``?``, ``[...]``).
    """

    keep_last: int | None = None
    keep_within_s: float | None = None
    keep_best: int | None = None
    by: str | None = None
    lowest: bool = False
    per: Per = "workflow"
    keep_tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("keep_last", "keep_within_s", "keep_best"):
            value: object = getattr(self, name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float) or not value > 0
            ):
                raise InvalidInputError(f"{name} must be above 0", subject=name)
        for name in ("keep_last", "keep_best"):
            if isinstance(getattr(self, name), float):
                raise InvalidInputError(f"{name} must be a whole number", subject=name)
        if self.by is not None and not isinstance(self.by, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError("by must be the name of a metric", subject="by")
        _check_patterns(self.keep_tags)
        if (self.keep_best is None) != (self.by is None):
            raise InvalidInputError("keep_best and by belong together", subject="by")
        if self.per not in get_args(Per):
            raise InvalidInputError("per must be workflow, task or store", subject="per")
        if not (self.keep_last or self.keep_within_s or self.keep_best or self.keep_tags):
            raise InvalidInputError(
                "a policy needs a rule that keeps something",
                hint="Such as keep_last=10; single runs are forgotten by name.",
            )


def _check_patterns(patterns: object) -> None:
    """Refuse what is no list of texts; a single text would be taken letter by letter, and keep nothing."""
    items: list[object] = list(patterns) if isinstance(patterns, list | tuple) else [None]  # pyright: ignore[reportUnknownArgumentType]
    if not all(isinstance(item, str) for item in items):
        raise InvalidInputError("keep_tags must be a list of texts", subject="keep_tags")


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """What is to become of one run, and why."""

    sequence: int
    correlation_id: str
    revision: int
    keep: bool
    reason: str

    def as_dict(self) -> Record:
        """Return the decision as JSON-able data."""
        return {
            "correlation_id": self.correlation_id,
            "revision": self.revision,
            "action": "keep" if self.keep else "forget",
            "reason": self.reason,
        }


class Guard:
    """What may not be forgotten, as of the transaction it was last shown; owned by one thread."""

    def __init__(self, transaction: ReadTransaction) -> None:
        self._transaction = transaction
        self._position = catalog.next_sequence(transaction)
        self._stood_on: dict[bytes, str] = {}
        for _, head in catalog.iter_branches(transaction):
            self._note(head)
        for stage in _BEFORE_GIT:
            for sequence, _ in outbox.iter_entries(transaction, stage):
                self._note(sequence)

    def follow(self, transaction: ReadTransaction) -> None:
        """Go on with a newer transaction; costs as much as there was committed in between."""
        self._transaction = transaction
        end = catalog.next_sequence(transaction)
        for sequence in range(self._position, end):
            self._note(sequence)
        self._position = end

    def _note(self, sequence: int) -> None:
        """Take in a commit if it is a rollback: what it went back to has to stay."""
        if catalog.get_head(self._transaction, sequence) is None:
            loaded, _ = records.load(self._transaction, sequence)
            if isinstance(loaded, RollbackManifest):
                self._stood_on[loaded.source] = f"branch {loaded.branch} was taken back to it"

    def reason(self, sequence: int, commit_oid: bytes) -> str | None:
        """Return why a run has to stay, or None."""
        pin = marks.find_pin(self._transaction, sequence)
        if pin is not None:
            return f"pinned: {pin.note}" if pin.note else "pinned"
        entry = outbox.find_entry(self._transaction, sequence)
        if entry is not None and entry[0] in _BEFORE_GIT:
            return "waits for its export to git"
        return self._stood_on.get(commit_oid)


def plan(
    transaction: ReadTransaction, guard: Guard, policy: RetentionPolicy, sequences: Iterable[int], now_us: int
) -> list[Decision]:
    """Decide on runs, newest first; changes nothing.

    Args:
        transaction: The snapshot.
        guard: Made of the same snapshot.
        policy: What to keep.
        sequences: The runs to decide on, newest first.
        now_us: The present time.
    """
    numbers = list(sequences)
    best = _best(transaction, policy, numbers)
    counts: defaultdict[tuple[str, ...], int] = defaultdict(int)
    decisions: list[Decision] = []
    for sequence in numbers:
        head, row = _head(transaction, sequence), catalog.get_row(transaction, sequence)
        group = _group(policy, head)
        counts[group] += 1
        tags = () if row is None else tuple(tag for tag, _ in row.tags)
        reason = best.get(sequence) or _kept_by_rule(policy, head, counts[group], tags, now_us)
        if reason is None and row is not None:
            reason = guard.reason(sequence, row.commit_oid)
        keep = reason is not None
        decisions.append(
            Decision(sequence, head.correlation_id, head.revision, keep, reason or "no rule keeps it")
        )
    return decisions


def _head(transaction: ReadTransaction, sequence: int) -> RunHead:
    head = catalog.get_head(transaction, sequence)
    if head is None:
        raise InvalidInputError(f"manifest {sequence} is no run; only runs are forgotten")
    return head


def _group(policy: RetentionPolicy, head: RunHead) -> tuple[str, ...]:
    if policy.per == "store":
        return ()
    return (head.workflow_id,) if policy.per == "workflow" else (head.workflow_id, head.task_id)


def _group_text(policy: RetentionPolicy, group: tuple[str, ...]) -> str:
    return "" if policy.per == "store" else f" of {'/'.join(group)}"


def _best(transaction: ReadTransaction, policy: RetentionPolicy, numbers: Sequence[int]) -> dict[int, str]:
    """Return the best runs of each group, by sequence, with their rank; a run without the metric has none."""
    if policy.keep_best is None or policy.by is None:
        return {}
    ranked: defaultdict[tuple[str, ...], list[tuple[float, int]]] = defaultdict(list)
    for sequence in numbers:
        head = _head(transaction, sequence)
        _, value = predicate.look_up(manifest.scan_metadata(head.metadata), policy.by)
        if isinstance(value, int | float) and not isinstance(value, bool):
            heap = ranked[_group(policy, head)]
            heapq.heappush(heap, (-value if policy.lowest else value, sequence))
            if len(heap) > policy.keep_best:
                heapq.heappop(heap)
    return {
        sequence: f"number {rank} by {policy.by}{_group_text(policy, group)}: {-value if policy.lowest else value:g}"
        for group, heap in ranked.items()
        for rank, (value, sequence) in enumerate(sorted(heap, reverse=True), start=1)
    }


def _kept_by_rule(
    policy: RetentionPolicy, head: RunHead, position: int, tags: tuple[str, ...], now_us: int
) -> str | None:
    if policy.keep_last is not None and position <= policy.keep_last:
        return f"among the last {policy.keep_last}{_group_text(policy, _group(policy, head))}"
    age_s = (now_us - head.created_at_us) / _MICROSECONDS
    if policy.keep_within_s is not None and age_s <= policy.keep_within_s:
        return f"committed within {policy.keep_within_s / _DAY_S:g} days"
    for pattern in policy.keep_tags:
        for tag in tags:
            if fnmatch.fnmatchcase(tag, pattern):
                return f"has the tag {tag}"
    return None


def plan_named(transaction: ReadTransaction, guard: Guard, sequences: Iterable[int]) -> list[Decision]:
    """Decide on runs that were named one by one: all are forgotten but those that may not be."""
    decisions: list[Decision] = []
    for sequence in dict.fromkeys(sequences):
        head = _head(transaction, sequence)
        reason = guard.reason(sequence, records.load(transaction, sequence)[1].commit_oid)
        text = reason or "named"
        decisions.append(Decision(sequence, head.correlation_id, head.revision, reason is not None, text))
    return decisions


def carry_out(
    environment: Environment,
    guard: Guard,
    decisions: Sequence[Decision],
    *,
    now_us: int,
    reason: str | None,
) -> list[Decision]:
    """Forget what a plan says, in short transactions.

    Returns:
        The decisions as they were carried out: what got a pin or an export meanwhile is kept.
    """
    done = [decision for decision in decisions if decision.keep]
    for batch in _batches([decision for decision in decisions if not decision.keep]):
        with environment.write() as transaction:
            guard.follow(transaction)
            for decision in batch:
                _, row = records.load(transaction, decision.sequence)
                why = guard.reason(decision.sequence, row.commit_oid)
                if why is None and not marks.is_hidden(transaction, decision.sequence):
                    visibility.hide(
                        transaction, decision.sequence, now_us=now_us, reason=reason or decision.reason
                    )
                done.append(decision if why is None else dataclasses.replace(decision, keep=True, reason=why))
    return sorted(done, key=lambda decision: decision.sequence, reverse=True)


def _batches(decisions: list[Decision]) -> Iterator[list[Decision]]:
    for start in range(0, len(decisions), _RUNS_PER_TRANSACTION):
        yield decisions[start : start + _RUNS_PER_TRANSACTION]


def undelete(transaction: WriteTransaction, sequence: int, text: str) -> None:
    """Show a forgotten run again.

    Raises:
        NotFoundError: Its files are not in the store any more.
    """
    missing = visibility.missing_files(transaction, sequence)
    if missing:
        raise NotFoundError(
            f"{text!r} cannot be shown again: {len(missing)} of its files were removed from the store",
            subject=text,
            hint="Commit the same files again under the same correlation ID; that gives the same run. git has them.",
        )
    visibility.show(transaction, sequence)


def pin(transaction: WriteTransaction, sequence: int, *, now_us: int, note: str | None) -> None:
    """Keep a run from being forgotten; a second pin replaces the note."""
    _head(transaction, sequence)
    marks.put_pin(transaction, sequence, Pin(now_us, note))


def pinned_record(transaction: ReadTransaction, sequence: int, pin: Pin) -> Record:
    """Return a pinned run, with since when and why it is pinned."""
    return records.run_record(transaction, sequence) | {
        "pinned_at": manifest.timestamp_text(pin.pinned_at_us),
        "note": pin.note,
    }


def forgotten_record(transaction: ReadTransaction, sequence: int) -> Record:
    """Return a forgotten run as it was, with when and why it was forgotten."""
    mark = marks.find_forgotten(transaction, sequence)
    record = records.run_record(transaction, sequence)
    if mark is None:
        return record
    return record | {
        "forgotten_at": manifest.timestamp_text(mark.forgotten_at_us),
        "forgotten_because": mark.reason,
        "can_undelete": not visibility.missing_files(transaction, sequence),
    }

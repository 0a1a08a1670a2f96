"""Queries: runs by name, order and predicate; and the words by which people point at one run.

Invariant: a query reads one snapshot and touches about as many rows as it returns, except a predicate without an
index, which looks at each candidate. Nothing here writes.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import re
from typing import TYPE_CHECKING, Final

from cas import catalog, indexes, manifest, marks, names, predicate, records, rollback
from cas.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cas.lmdbenv import ReadTransaction
    from cas.manifest import RunHead
    from cas.predicate import Predicate

Moment = datetime.datetime | str | float
_MICROSECONDS: Final = 1_000_000
_EPOCH: Final = datetime.datetime.fromtimestamp(0, datetime.UTC)
_LAST_MOMENT_S: Final = 253_402_300_800  # the year 10000, where datetime ends
# Runs looked at before an index is asked: enough to fill a page when a fair share of all runs matches.
_LOOKED_AT_FIRST: Final = 500
_HEX_PREFIX: Final = re.compile(r"[0-9a-f]{4,64}")
_LATEST: Final = re.compile(r"latest(?:~([0-9]{1,9}))?")
_STEP_BACK: Final = re.compile(r"(.+)~([0-9]{1,9})", re.DOTALL)


def moment_us(moment: Moment) -> int:
    """Return a time as microseconds since the epoch.

    Args:
        moment: An aware datetime, seconds since the epoch, or ISO 8601 text; text without a zone is UTC.

    Raises:
        InvalidInputError: It is none of these.
    """
    if isinstance(moment, str):
        try:
            moment = datetime.datetime.fromisoformat(moment)
        except ValueError as error:
            raise InvalidInputError(
                f"{moment!r} is not an ISO 8601 time", hint="Such as 2026-01-31T18:00:00Z."
            ) from error
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
    if isinstance(moment, datetime.datetime):
        if moment.tzinfo is None:
            raise InvalidInputError("a time needs a zone", hint="Use datetime.datetime.now(datetime.UTC).")
        return (moment - _EPOCH) // datetime.timedelta(microseconds=1)
    if not isinstance(moment, int | float) or isinstance(moment, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"a time must be a datetime, text or seconds, not {type(moment).__name__}")
    if not abs(moment) <= _LAST_MOMENT_S:  # NaN is not either
        raise InvalidInputError(f"{moment} s is not a time")
    return round(moment * _MICROSECONDS)


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """Which runs are asked for; None leaves a part out."""

    workflow_id: str | None = None
    task_id: str | None = None
    prompt_hash: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    where: Predicate | None = None

    @property
    def admits_all(self) -> bool:
        """True when every run is among those asked for."""
        return self.where is None and not self.names_a_group

    @property
    def names_a_group(self) -> bool:
        """True when only runs under some name, or of some time, can be among those asked for."""
        bounds = (self.workflow_id, self.task_id, self.prompt_hash, self.since_us, self.until_us)
        return any(bound is not None for bound in bounds)

    def admits_names(self, run: RunHead) -> bool:
        """Tell whether a run is among those asked for as far as names and time tell."""
        return (
            self.workflow_id in (None, run.workflow_id)
            and self.task_id in (None, run.task_id)
            and self.prompt_hash in (None, run.prompt_hash)
            and (self.since_us is None or run.created_at_us >= self.since_us)
            and (self.until_us is None or run.created_at_us < self.until_us)
        )

    def admits(self, run: RunHead) -> bool:
        """Tell whether a run is among those asked for."""
        return self.admits_names(run) and (
            self.where is None or self.where.matches(manifest.scan_metadata(run.metadata))
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Walk:
    """In which direction runs are walked through, and behind which run the walk goes on.

    Attributes:
        ascending: Oldest first.
        after: Sequence of the last run seen; None begins at the end.
        after_us: Its time, in microseconds since the epoch.
    """

    ascending: bool = False
    after: int | None = None
    after_us: int = 0

    def is_behind(self, sequence: int) -> bool:
        """Tell whether a walk in the order of sequences has not come by there yet."""
        return self.after is None or (sequence > self.after if self.ascending else sequence < self.after)


NEWEST_FIRST: Final = Walk()


def select(transaction: ReadTransaction, selection: Selection, walk: Walk = NEWEST_FIRST) -> Iterator[int]:
    """Yield the sequences of the runs asked for in the order of their commits, forgotten ones left out.

    Runs of a range of times come in the order of these, which differs after a clock was set back.
    """
    for sequence, head in heads(transaction, candidates(transaction, selection, walk)):
        if selection.admits(head):
            yield sequence


def heads(transaction: ReadTransaction, sequences: Iterable[int]) -> Iterator[tuple[int, RunHead]]:
    """Yield what a query looks at of each run; forgotten runs and rollbacks are left out."""
    for sequence in shown(transaction, sequences):
        head = catalog.get_head(transaction, sequence)
        if head is not None:
            yield sequence, head


def shown(transaction: ReadTransaction, sequences: Iterable[int]) -> Iterator[int]:
    """Yield those of some sequences that are not forgotten."""
    hidden = marks.Hidden(transaction)
    return (sequence for sequence in sequences if sequence not in hidden)


def candidates(transaction: ReadTransaction, selection: Selection, walk: Walk) -> Iterator[int]:
    """Yield sequences from the narrowest index that holds every possible match."""
    after, newest = walk.after, not walk.ascending
    if selection.task_id is not None:
        # Not by branch: runs committed under an earlier branch_prefix are the same task's.
        return catalog.task_sequences(
            transaction, selection.task_id, selection.workflow_id, reverse=newest, after=after
        )
    if selection.prompt_hash is not None:
        return catalog.prompt_sequences(transaction, selection.prompt_hash, reverse=newest, after=after)
    ranges = indexed_ranges(transaction, selection)
    if ranges:
        return _by_metric(transaction, ranges, walk)
    if selection.workflow_id is not None:
        return catalog.workflow_sequences(transaction, selection.workflow_id, reverse=newest, after=after)
    if selection.since_us is not None or selection.until_us is not None:
        return catalog.time_sequences(
            transaction,
            since_us=selection.since_us,
            until_us=selection.until_us,
            reverse=newest,
            after=None if after is None else (walk.after_us, after),
        )
    return catalog.iter_sequences(transaction, reverse=newest, after=after)


def indexed_ranges(
    transaction: ReadTransaction, selection: Selection
) -> dict[str, tuple[float | None, float | None]]:
    """Return the ranges of metrics that every match keeps, of those metrics that have a complete index."""
    ranges = {} if selection.where is None else predicate.bounds(selection.where)
    complete = indexes.complete(transaction) if ranges else ()
    return {metric: ranges[metric] for metric in complete if metric in ranges}


def keys_in(transaction: ReadTransaction, ranges: dict[str, tuple[float | None, float | None]]) -> set[bytes]:
    """Return the keys (`catalog.sequence_key`) of runs that lie in every one of some ranges; at least one is given."""
    found: set[bytes] | None = None
    for metric, (low, high) in ranges.items():
        keys = catalog.metric_sequences(transaction, metric, low=low, high=high)
        found = set(keys) if found is None else found.intersection(keys)
    return found or set()


def _by_metric(
    transaction: ReadTransaction, ranges: dict[str, tuple[float | None, float | None]], walk: Walk
) -> Iterator[int]:
    """Yield the next runs as they come, as many of them may match; then those that lie in every range."""
    newest = not walk.ascending
    first = catalog.iter_sequences(transaction, reverse=newest, after=walk.after)
    for sequence in itertools.islice(first, _LOOKED_AT_FIRST):
        yield sequence
        walk = dataclasses.replace(walk, after=sequence)
    for key in sorted(keys_in(transaction, ranges), reverse=newest):
        sequence = catalog.sequence_of(key)
        if walk.is_behind(sequence):
            yield sequence


def resolve(transaction: ReadTransaction, text: str, *, with_forgotten: bool = False) -> int:
    """Return the sequence of the manifest that a word points at.

    Understood, in this order: ``latest``, ``latest~N``, a tag, a branch, a correlation ID with or without its prefix,
    and the unique beginning (4 characters or more) of a commit id or manifest id; ``<branch>~N`` and ``<tag>~N`` go
    back N commits on the branch.

    Args:
        transaction: The snapshot.
        text: The word.
        with_forgotten: Whether it may point at a forgotten run.

    Raises:
        NotFoundError: Nothing is called that, or the run was forgotten.
        InvalidInputError: More than one manifest begins so.
    """
    names.check_id(text, "ref")
    sequence = _resolve(transaction, text)
    if sequence is not None:
        if not with_forgotten:
            rollback.check_shown(transaction, sequence, text)
        return sequence
    step = _STEP_BACK.fullmatch(text)
    if step is not None:
        start = _resolve(transaction, step.group(1))
        if start is not None:
            return _back(transaction, start, int(step.group(2)), text)
    near = rollback.near_tags(transaction, text)
    hint = f"Did you mean {', '.join(near)}?" if near else "`cas list` shows the runs."
    raise NotFoundError(f"there is no run, tag or branch {text!r}", subject=text, hint=hint)


def _resolve(transaction: ReadTransaction, text: str) -> int | None:
    latest = _LATEST.fullmatch(text)
    if latest is not None:
        return _latest(transaction, int(latest.group(1) or 0))
    sequence = catalog.find_tag(transaction, text)
    if sequence is None:
        sequence = catalog.branch_head(transaction, text)
    if sequence is None and text.isprintable():
        sequence = newest_revision(transaction, text)
    if sequence is None and _HEX_PREFIX.fullmatch(text):
        found = catalog.find_by_oid_prefix(transaction, text)
        if len(found) > 1:
            raise InvalidInputError(
                f"more than one id begins with {text!r}", subject=text, hint="Give more characters."
            )
        sequence = found[0] if found else None
    return sequence


def resolve_forgotten(transaction: ReadTransaction, text: str) -> int:
    """Return the sequence of the forgotten run that a word points at.

    A correlation ID means its newest forgotten revision, otherwise words are read as by `resolve`.

    Raises:
        NotFoundError: Nothing is called that.
        InvalidInputError: More than one manifest begins so, or it was not forgotten.
    """
    sequence = resolve(transaction, text, with_forgotten=True)
    if not marks.is_hidden(transaction, sequence):
        for _, number in catalog.revisions(transaction, text):
            if marks.is_hidden(transaction, number):
                return number
        raise InvalidInputError(f"{text!r} was not forgotten", subject=text)
    return sequence


def newest_revision(transaction: ReadTransaction, correlation_id: str) -> int | None:
    """Return the newest revision of a correlation ID that is not forgotten; a forgotten one when all are, or None."""
    newest = None
    for _, sequence in catalog.revisions(transaction, correlation_id):
        if not marks.is_hidden(transaction, sequence):
            return sequence
        newest = sequence if newest is None else newest
    return newest


def _latest(transaction: ReadTransaction, back: int) -> int | None:
    hidden = marks.Hidden(transaction)
    for sequence in catalog.iter_sequences(transaction):
        if sequence not in hidden and catalog.get_head(transaction, sequence) is not None:
            if back == 0:
                return sequence
            back -= 1
    return None


def _back(transaction: ReadTransaction, start: int, count: int, text: str) -> int:
    rollback.check_shown(transaction, start, text)
    loaded, _ = records.load(transaction, start)
    hidden = marks.Hidden(transaction)
    numbers = catalog.branch_sequences(transaction, loaded.branch)
    shown = (number for number in numbers if number <= start and number not in hidden)
    for index, sequence in enumerate(shown):
        if index == count:
            return sequence
    raise NotFoundError(
        f"{text!r} goes back further than the branch", subject=text, hint="`cas log` shows its commits."
    )

"""Rankings: which runs a question asks for, in order, kept so that a page costs no more than its rows.

A question's first page looks at every candidate once (about 8 µs a run that has to be looked at, 1.5 µs where an index
answers); later pages, and the same question again, look only at runs committed since, and at the keys of forgotten
ones. Invariant: a page shows what its
snapshot holds: new runs are put in their place, and when a run was forgotten or brought back, everything is looked at
anew. Thread-safe. Kept: numbers only, at most `MAX_KEPT_ENTRIES` of them over all questions, and the newest question.
"""

from __future__ import annotations

import bisect
import dataclasses
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeVar

from cas import catalog, manifest, marks, predicate, query

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cas.lmdbenv import ReadTransaction
    from cas.query import Selection

MAX_KEPT_ENTRIES: Final = 2_000_000  # some 200 MB
_Entry = TypeVar("_Entry", int, tuple[float, int])
_EVERYTHING: Final = query.Selection()
# Runs of a store that appeared since a question was last asked and are put in one by one; more are sorted anew.
_MANY_NEW: Final = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: which runs, and their order.

    Attributes:
        selection: Which runs.
        where: The predicate of ``selection`` as it was typed: ``x = 1`` and ``x = true`` parse to equal ones.
        metric: Name of the metric to order by; None for the order of commits.
    """

    selection: Selection
    where: str = ""
    metric: str | None = None


@dataclasses.dataclass(slots=True)
class _Ranking:
    """The answer to a question as of some snapshot; both lists in rising order."""

    valued: list[tuple[float, int]]  # sequences with the metric's value; with 0 when ordered by commits
    missing: list[int]  # sequences of runs that have no such number
    last_sequence: int
    hidden: int  # changes with the set of forgotten runs


class Rankings:
    """The rankings of a store that are kept.

    Attributes:
        looked_at_count: How many runs have been looked at so far, for tests that count instead of timing.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Question, _Ranking] = OrderedDict()
        self._lock = threading.Lock()
        self.looked_at_count = 0

    def page(
        self,
        transaction: ReadTransaction,
        question: Question,
        *,
        offset: int,
        limit: int,
        descending: bool = True,
    ) -> tuple[list[int], int]:
        """Return the sequences of some runs that a question asks for, and how many it asks for in all.

        Args:
            transaction: The snapshot.
            question: Which runs, and by what they are ordered.
            offset: Runs to skip.
            limit: Most runs to return.
            descending: The greatest, or the newest, first; runs without the metric come last in either order.

        Raises:
            IntegrityError: A run that has to be looked at is damaged.
        """
        with self._lock:
            ranking = self._current(transaction, question)
            found = _slice(ranking, offset, limit, descending=descending)
            return found, len(ranking.valued) + len(ranking.missing)

    def _current(self, transaction: ReadTransaction, question: Question) -> _Ranking:
        hidden = hash(tuple(marks.iter_hidden(transaction)))
        last_sequence = catalog.next_sequence(transaction) - 1
        ranking = self._kept.get(question)
        if ranking is None or ranking.hidden != hidden or last_sequence < ranking.last_sequence:
            ranking = _Ranking([], [], last_sequence, hidden)
            self._add(transaction, question, ranking, self._candidates(transaction, question))
            self._kept[question] = ranking
            self._drop_oldest()
        elif last_sequence > ranking.last_sequence:
            count = last_sequence - ranking.last_sequence
            new = catalog.sequences_from(transaction, ranking.last_sequence + 1, count)
            self._add(transaction, question, ranking, self._admitted(transaction, question, new))
            ranking.last_sequence = last_sequence
        self._kept.move_to_end(question)
        return ranking

    def _candidates(self, transaction: ReadTransaction, question: Question) -> Iterable[int]:
        if question.selection == _EVERYTHING:
            return catalog.time_sequences(
                transaction
            )  # from keys alone; in order of time, sorted by the caller
        return query.select(transaction, question.selection)

    def _admitted(
        self, transaction: ReadTransaction, question: Question, sequences: Iterable[int]
    ) -> Iterable[int]:
        hidden = marks.Hidden(transaction)
        for sequence in sequences:
            head = catalog.get_head(transaction, sequence)
            if head is not None and sequence not in hidden and question.selection.admits(head):
                yield sequence

    def _add(
        self, transaction: ReadTransaction, question: Question, ranking: _Ranking, sequences: Iterable[int]
    ) -> None:
        valued: list[tuple[float, int]] = []
        missing: list[int] = []
        for sequence in sequences:
            self.looked_at_count += 1
            value = 0.0 if question.metric is None else _value(transaction, sequence, question.metric)
            if value is None:
                missing.append(sequence)
            else:
                valued.append((value, sequence))
        _merge(ranking.valued, valued)
        _merge(ranking.missing, missing)

    def _drop_oldest(self) -> None:
        counts = {question: len(each.valued) + len(each.missing) for question, each in self._kept.items()}
        total = sum(counts.values())
        while total > MAX_KEPT_ENTRIES and len(self._kept) > 1:
            question, _ = self._kept.popitem(last=False)
            total -= counts[question]


def _value(transaction: ReadTransaction, sequence: int, metric: str) -> float | None:
    head = catalog.get_head(transaction, sequence)
    if head is None:
        return None
    _, value = predicate.look_up(manifest.scan_metadata(head.metadata), metric)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number beyond every double
        return float("inf") if value > 0 else float("-inf")


def _merge(kept: list[_Entry], new: list[_Entry]) -> None:
    """Put entries into a sorted list."""
    if len(new) > _MANY_NEW:
        kept += new
        kept.sort()
    else:
        for entry in new:
            bisect.insort(kept, entry)


def _slice(ranking: _Ranking, offset: int, limit: int, *, descending: bool) -> list[int]:
    valued, missing = ranking.valued, ranking.missing
    count = len(valued)
    stop = min(offset + limit, count)
    if descending:
        found = [valued[count - 1 - place][1] for place in range(offset, stop)]
    else:
        found = [valued[place][1] for place in range(offset, stop)]
    rest = range(max(offset - count, 0), min(offset + limit - count, len(missing)))
    return found + [missing[len(missing) - 1 - place] for place in rest]

"""Lists in an order: by commit or by any value, page after page, also while runs are added.

The order is total: numbers first, in their order, then texts, then runs that have neither; equal ones by commit. A page
begins behind the last run of the one before, wherever that run stands now, so that runs committed meanwhile neither
repeat a run nor push one off the pages. Invariant: an index changes the cost of a list, never its order; with one on
the value a page costs as much as it returns, without one each candidate is looked at. Nothing here writes.
"""

from __future__ import annotations

import dataclasses
import enum
import heapq
import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

from cas import catalog, indexes, manifest, predicate, query, records
from cas.errors import InvalidInputError
from cas.query import Walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cas.lmdbenv import ReadTransaction
    from cas.manifest import RunHead
    from cas.query import Selection
    from cas.records import Record

BY_COMMIT: Final = "time"


class Kind(enum.IntEnum):
    """What a run has under the name it is ordered by; the lesser kind comes first in either direction."""

    NUMBER = 0
    TEXT = 1
    NEITHER = 2


class Place(NamedTuple):
    """Where a run stands in the order; greater is nearer to the end of an ascending list of one kind."""

    kind: Kind
    value: bytes
    sequence: int


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """An order of runs, and where in it a page begins.

    Attributes:
        by: Name of a metric or metadata value, as in ``where``; None for the order of commits.
        ascending: Least or oldest first.
        after: Any word for the last run of the page before; None for the first page.
    """

    by: str | None = None
    ascending: bool = False
    after: str | None = None


def list_runs(
    transaction: ReadTransaction, selection: Selection, order: Order, *, offset: int, limit: int
) -> list[Record]:
    """Return the records of one page.

    Raises:
        NotFoundError: ``order.after`` points at nothing.
        InvalidInputError: It points at a rollback.
    """
    count = offset + limit
    if order.by is not None:
        after = None if order.after is None else _placed(*_last_seen(transaction, order.after), order.by)
        chosen = _ByValue(transaction, selection, order.by, order.ascending, after).first(count)
    elif selection.admits_all and not offset:
        # Nothing is asked of a run before it is in the list, so each is decoded once.
        walked = query.candidates(transaction, selection, _walk(transaction, order))
        found = records.iter_run_records(transaction, query.shown(transaction, walked))
        return list(itertools.islice(found, limit))
    else:
        chosen = query.select(transaction, selection, _walk(transaction, order))
    return list(records.iter_run_records(transaction, itertools.islice(chosen, offset, count)))


def _walk(transaction: ReadTransaction, order: Order) -> Walk:
    if order.after is None:
        return Walk(order.ascending)
    head, sequence = _last_seen(transaction, order.after)
    return Walk(order.ascending, sequence, head.created_at_us)


def _last_seen(transaction: ReadTransaction, after: str) -> tuple[RunHead, int]:
    sequence = query.resolve(transaction, after, with_forgotten=True)
    head = catalog.get_head(transaction, sequence)
    if head is None:
        raise InvalidInputError(f"{after!r} is a rollback; a page begins behind a run", subject="after")
    return head, sequence


def _placed(head: RunHead, sequence: int, by: str) -> Place:
    return _place(manifest.scan_metadata(head.metadata), sequence, by)


def _place(metadata: dict[str, object], sequence: int, by: str) -> Place:
    _, value = predicate.look_up(metadata, by)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Place(Kind.NUMBER, catalog.sortable(value), sequence)
    if isinstance(value, str):
        return Place(Kind.TEXT, value.encode("utf-8", "surrogatepass"), sequence)
    return Place(Kind.NEITHER, b"", sequence)


@dataclasses.dataclass(frozen=True, slots=True)
class _ByValue:
    """One list in the order of a value, in one snapshot."""

    transaction: ReadTransaction
    selection: Selection
    by: str
    ascending: bool
    after: Place | None

    def first(self, count: int) -> Iterator[int]:
        """Yield the first sequences; no more than ``count`` of them are asked for."""
        candidates = query.candidates(self.transaction, self.selection, query.NEWEST_FIRST)
        if self.by not in indexes.complete(self.transaction) or self.selection.names_a_group:
            yield from self._sorted(candidates, count)
            return
        ranges = query.indexed_ranges(self.transaction, self.selection)
        yielded_count = 0
        if self.after is None or self.after.kind is Kind.NUMBER:
            for sequence in self._indexed(ranges):
                yield sequence
                yielded_count += 1
        if self.by in ranges or yielded_count >= count:
            return  # whatever has no number under that name cannot match
        numbers = set(catalog.metric_sequences(self.transaction, self.by))
        others = (sequence for sequence in candidates if catalog.sequence_key(sequence) not in numbers)
        yield from self._sorted(others, count - yielded_count)

    def _indexed(self, ranges: Mapping[str, tuple[float | None, float | None]]) -> Iterator[int]:
        """Walk the value's own index; ranges of other indexed metrics narrow it before a run is looked at."""
        low, high = ranges.get(self.by, (None, None))
        others = {metric: ends for metric, ends in ranges.items() if metric != self.by}
        allowed = query.keys_in(self.transaction, others) if others else None
        after = None if self.after is None else (self.after.value, self.after.sequence)
        newest = not self.ascending
        walk = catalog.metric_walk(self.transaction, self.by, low=low, high=high, reverse=newest, after=after)
        narrowed = (number for number in walk if allowed is None or catalog.sequence_key(number) in allowed)
        for sequence, head in query.heads(self.transaction, narrowed):
            if self.selection.admits(head):
                yield sequence

    def _sorted(self, sequences: Iterator[int], count: int) -> list[int]:
        """Return the first of some runs, holding no more of them than are asked for."""
        places = self._places(sequences)
        if self.ascending:
            return [place.sequence for place in heapq.nsmallest(count, places)]
        greatest = heapq.nlargest(count, places, key=lambda place: (-place.kind, *place[1:]))
        return [place.sequence for place in greatest]

    def _places(self, sequences: Iterator[int]) -> Iterator[Place]:
        where = self.selection.where
        for sequence, head in query.heads(self.transaction, sequences):
            if self.selection.admits_names(head):
                metadata = manifest.scan_metadata(head.metadata)
                place = _place(metadata, sequence, self.by)
                if self._is_behind(place) and (where is None or where.matches(metadata)):
                    yield place

    def _is_behind(self, place: Place) -> bool:
        if self.after is None:
            return True
        if place.kind != self.after.kind:
            return place.kind > self.after.kind
        return place > self.after if self.ascending else place < self.after

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
    from collections.abc import Iterator

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
    after = None if order.after is None else _after(transaction, order)
    if order.by is None:
        chosen = query.select(transaction, selection, _walk(transaction, order.ascending, after))
    else:
        chosen = _by_value(transaction, selection, order.by, order.ascending, after, count)
    return [
        records.run_record(transaction, sequence) for sequence in itertools.islice(chosen, offset, count)
    ]


def _after(transaction: ReadTransaction, order: Order) -> Place:
    sequence = query.resolve(transaction, order.after or "", with_forgotten=True)
    head = catalog.get_head(transaction, sequence)
    if head is None:
        raise InvalidInputError(f"{order.after!r} is a rollback; a page begins behind a run", subject="after")
    return _place(head, sequence, order.by)


def _walk(transaction: ReadTransaction, ascending: bool, after: Place | None) -> Walk:
    head = None if after is None else catalog.get_head(transaction, after.sequence)
    if after is None or head is None:
        return Walk(ascending)
    return Walk(ascending, after.sequence, head.created_at_us)


def _place(head: RunHead, sequence: int, by: str | None) -> Place:
    return _placed(manifest.scan_metadata(head.metadata), sequence, by)


def _placed(metadata: dict[str, object], sequence: int, by: str | None) -> Place:
    _, value = (False, None) if by is None else predicate.look_up(metadata, by)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Place(Kind.NUMBER, catalog.sortable(value), sequence)
    if isinstance(value, str):
        return Place(Kind.TEXT, value.encode("utf-8", "surrogatepass"), sequence)
    return Place(Kind.NEITHER, b"", sequence)


def _by_value(
    transaction: ReadTransaction,
    selection: Selection,
    by: str,
    ascending: bool,
    after: Place | None,
    count: int,
) -> Iterator[int]:
    """Yield sequences in the order of a value; at most ``count`` of them are asked for."""
    if by not in indexes.complete(transaction) or selection.names_a_group:
        found = query.candidates(transaction, selection, query.NEWEST_FIRST)
        yield from _first_of(transaction, selection, by, ascending, after, found, count)
        return
    ranges = query.indexed_ranges(transaction, selection)
    yielded_count = 0
    if after is None or after.kind is Kind.NUMBER:
        for sequence in _indexed(transaction, selection, ranges, by, ascending, after):
            yield sequence
            yielded_count += 1
    if by in ranges or yielded_count >= count:
        return  # whatever has no number under that name cannot match
    with_number = set(catalog.metric_sequences(transaction, by))
    others = (
        sequence
        for sequence in query.candidates(transaction, selection, query.NEWEST_FIRST)
        if catalog.sequence_key(sequence) not in with_number
    )
    yield from _first_of(transaction, selection, by, ascending, after, others, count - yielded_count)


def _indexed(
    transaction: ReadTransaction,
    selection: Selection,
    ranges: dict[str, tuple[float | None, float | None]],
    by: str,
    ascending: bool,
    after: Place | None,
) -> Iterator[int]:
    """Walk the index of the value itself; ranges of other indexed metrics narrow it before a run is looked at."""
    low, high = ranges.get(by, (None, None))
    others = {metric: ends for metric, ends in ranges.items() if metric != by}
    allowed = query.keys_in(transaction, others) if others else None
    behind = None if after is None else (after.value, after.sequence)
    walk = catalog.metric_walk(transaction, by, low=low, high=high, reverse=not ascending, after=behind)
    narrowed = (n for n in walk if allowed is None or catalog.sequence_key(n) in allowed)
    for sequence, head in query.heads(transaction, narrowed):
        if selection.admits(head):
            yield sequence


def _first_of(
    transaction: ReadTransaction,
    selection: Selection,
    by: str,
    ascending: bool,
    after: Place | None,
    sequences: Iterator[int],
    count: int,
) -> list[int]:
    """Return the first of some runs in the order of a value, holding no more of them than are asked for."""

    def places() -> Iterator[Place]:
        for sequence, head in query.heads(transaction, sequences):
            if not selection.admits_names(head):
                continue
            metadata = manifest.scan_metadata(head.metadata)
            if selection.where is None or selection.where.matches(metadata):
                place = _placed(metadata, sequence, by)
                if after is None or _is_behind(place, after, ascending=ascending):
                    yield place

    if ascending:
        return [place.sequence for place in heapq.nsmallest(count, places())]
    greatest = heapq.nlargest(count, places(), key=lambda place: (-place.kind, *place[1:]))
    return [place.sequence for place in greatest]


def _is_behind(place: Place, after: Place, *, ascending: bool) -> bool:
    if place.kind != after.kind:
        return place.kind > after.kind
    return place > after if ascending else place < after

"""Durable counters: what the store did, by the hour, written in the transactions that did it.

A row holds one hour's counts as a map of names to whole numbers; adding two rows gives the counts of both, so
processes, restarts and hours add up. Invariant: a commit and its count are one transaction, so no kill loses one
without the other. What has no transaction of its own (latencies, failures) waits in the process, see `cas.meter`.
Counting never makes a commit fail: a damaged row is begun anew, and the loss is counted.

Owner of the table ``counters``: a row key is ``h`` and the hour's number since the epoch in 4 bytes, most significant
first; ``t`` holds the sum of hours that were folded. The newest hour, which every commit writes to, is not there but in
the outbox (after a clock that was far ahead, the hour of the last commit), under ``h`` with its number before the
counts: it sorts behind the newest entry, into the page that the commit writes anyway, where a row of its own table
would be up to three pages more to flush.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final

import msgspec

from cas.errors import IntegrityError
from cas.lmdbenv import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cas.lmdbenv import ReadTransaction, WriteTransaction

Counts = dict[str, int]
MICROSECONDS: Final = 1_000_000
HOUR_US: Final = 3600 * MICROSECONDS
# Upper bounds of the latency buckets in µs: a factor of about 1.4 around a fast disk's flush, coarser above. The last
# bucket has no bound. New bounds would make old rows mean something else, so they stay.
LATENCY_BOUNDS_US: Final = (
    *(500, 700, 1_000, 1_400, 2_000, 2_800, 4_000, 5_600, 8_000, 11_000, 16_000, 23_000, 32_000),
    *(64_000, 128_000, 256_000, 512_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000),
)
# Counted in transactions: commits, commit_raw_bytes, commit_stored_bytes, commit_files, rollbacks, exported, pushed,
# export_failures, push_failures, rows_lost. Counted in the process first: commit_failures.<why>, secret_refusals,
# secret_detections, commit_us and commit_us.<bucket>; these two also for a commit that found its run there already.
LAST_COMMIT: Final = "last_commit_at_us"
FILE_BYTES: Final = "file_bytes"
USED_BYTES: Final = "used_bytes"
# Not sums but the greatest value seen.
_GREATEST: Final = frozenset({LAST_COMMIT, FILE_BYTES, USED_BYTES})
_ROWS_LOST: Final = "rows_lost"
_HOUR: Final = b"h"
_TOTAL: Final = b"t"
NEWEST_HOUR: Final = b"h"  # in the outbox
_HOUR_BYTES: Final = 4
# An hour further ahead than this comes from a clock that was wrong; it makes room, or every commit until then would
# write a page more.
_AHEAD_HOURS: Final = 24
_LAST_HOUR: Final = 256**_HOUR_BYTES - 1
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Counts)


def merge(into: Counts, counts: Mapping[str, int]) -> None:
    """Add counts to others."""
    for name, value in counts.items():
        if name in _GREATEST:
            into[name] = max(into.get(name, 0), value)
        else:
            into[name] = into.get(name, 0) + value


def merged(rows: Iterable[Mapping[str, int]]) -> Counts:
    """Return the sum of counts."""
    result: Counts = {}
    for row in rows:
        merge(result, row)
    return result


def hour_of(at_us: int) -> int:
    """Return the number of the hour that a time lies in, in whole hours since the epoch."""
    return min(max(at_us // HOUR_US, 0), _LAST_HOUR)


def latency_counts(duration_s: float, count: int = 1) -> Counts:
    """Return the counts of so many commits that took so long each."""
    duration_us = max(0, round(duration_s * MICROSECONDS))
    bucket = bisect.bisect_left(LATENCY_BOUNDS_US, duration_us)
    return {"commit_us": duration_us * count, f"commit_us.{bucket}": count}


def latency_buckets(counts: Mapping[str, int]) -> list[int]:
    """Return how many commits fell into each latency bucket; one more than there are bounds."""
    return [counts.get(f"commit_us.{bucket}", 0) for bucket in range(len(LATENCY_BOUNDS_US) + 1)]


def add(transaction: WriteTransaction, at_us: int, *counts: Mapping[str, int]) -> None:
    """Add counts to the hour of a time, durable with the transaction; costs about 5 µs and no page of its own.

    Args:
        transaction: The transaction whose work is counted.
        at_us: When, in microseconds since the epoch.
        counts: Names and numbers.
    """
    if not any(counts):
        return
    hour = hour_of(at_us)
    newest, row = _newest(transaction, hour) or (hour, {})
    if hour < newest <= hour + _AHEAD_HOURS:  # of a process whose clock is behind, or one that was slow
        _add_to(transaction, _hour_key(hour), *counts)
        return
    if newest != hour:
        _add_to(transaction, _hour_key(newest), row)
        row = {}
    for part in counts:
        merge(row, part)
    transaction.put(Table.OUTBOX, NEWEST_HOUR, hour.to_bytes(_HOUR_BYTES, "big") + _ENCODER.encode(row))


def fold(transaction: WriteTransaction, now_us: int, keep_hours: int) -> int:
    """Add hours older than the kept ones to the total and remove them; return how many. Costs little when none is."""
    end = _hour_key(hour_of(now_us - keep_hours * HOUR_US))
    old: list[bytes] = []
    for key in transaction.scan_keys(Table.COUNTERS, _HOUR):
        if key >= end:
            break
        old.append(key)
    if old:
        _add_to(transaction, _TOTAL, merged(_read(transaction, key) for key in old))
        for key in old:
            transaction.delete(Table.COUNTERS, key)
    return len(old)


def totals(transaction: ReadTransaction) -> Counts:
    """Return the counts since the store was made; they only ever grow."""
    return merged([_read(transaction, _TOTAL), *(counts for _, counts in hours(transaction, 0))])


def hours(transaction: ReadTransaction, since_us: int) -> list[tuple[int, Counts]]:
    """Return the hours that have counts, from the one of a time on: when each began (µs), and its counts."""
    first = hour_of(since_us)
    keys = transaction.scan_keys(Table.COUNTERS, _HOUR, start=_hour_key(first))
    found = {int.from_bytes(key[1:], "big"): _read(transaction, key) for key in keys if _is_hour(key)}
    newest = _newest(transaction, first)
    if newest is not None and newest[0] >= first:
        merge(found.setdefault(newest[0], {}), newest[1])
    return [(hour * HOUR_US, found[hour]) for hour in sorted(found)]


def quantile_s(buckets: Sequence[int], share: float) -> float | None:
    """Return the latency in seconds below which a share of the commits lie, within its bucket's width; None for none.

    Interpolates on the geometric scale of the bounds; what lies above the last bound is given as that bound.
    """
    total = sum(buckets)
    if not total:
        return None
    wanted, seen = share * total, 0
    for bucket, count in enumerate(buckets):
        if count and seen + count >= wanted:
            high = LATENCY_BOUNDS_US[min(bucket, len(LATENCY_BOUNDS_US) - 1)]
            low = LATENCY_BOUNDS_US[bucket - 1] if bucket else high / 2
            inside = max(0.0, (wanted - seen) / count)
            return float(low * (high / low) ** inside / MICROSECONDS)
        seen += count
    return LATENCY_BOUNDS_US[-1] / MICROSECONDS


def _hour_key(hour: int) -> bytes:
    return _HOUR + hour.to_bytes(_HOUR_BYTES, "big")


def _is_hour(key: bytes) -> bool:
    return len(key) == len(_HOUR) + _HOUR_BYTES


def _add_to(transaction: WriteTransaction, key: bytes, *counts: Mapping[str, int]) -> None:
    row = _read(transaction, key)
    for part in counts:
        merge(row, part)
    transaction.put(Table.COUNTERS, key, _ENCODER.encode(row))


def _newest(transaction: ReadTransaction, if_damaged: int) -> tuple[int, Counts] | None:
    """Return the newest hour and its counts, None before the first; of a damaged row, the hour given and the loss."""
    try:
        value = transaction.view(Table.OUTBOX, NEWEST_HOUR)
        if value is None:
            return None
        return int.from_bytes(value[:_HOUR_BYTES], "big"), _DECODER.decode(value[_HOUR_BYTES:])
    except (IntegrityError, msgspec.MsgspecError):
        return if_damaged, {_ROWS_LOST: 1}


def _read(transaction: ReadTransaction, key: bytes) -> Counts:
    """Return a row's counts; those of a damaged one are gone, which is counted instead of failing a commit."""
    try:
        value = transaction.view(Table.COUNTERS, key)
        return {} if value is None else _DECODER.decode(value)
    except (IntegrityError, msgspec.MsgspecError):
        return {_ROWS_LOST: 1}

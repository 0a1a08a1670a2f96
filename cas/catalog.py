"""The catalog: manifests in sequence, and every name and order they are found by.

Invariant: each catalog row is derived from a manifest row and written in the same transaction; rebuilding it from the
manifests gives the same rows. Owner of the tables ``manifests`` (sequence → row) and ``catalog``. The key families of
``catalog`` begin with one byte each; docs/format.md is their specification.
"""

from __future__ import annotations

import itertools
import math
import struct
from typing import TYPE_CHECKING, Final

from cas import manifest as manifests
from cas import names, predicate
from cas.errors import IntegrityError
from cas.lmdbenv import Table
from cas.manifest import RunManifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cas.lmdbenv import ReadTransaction, WriteTransaction
    from cas.manifest import Manifest, ManifestRow, RunHead

SEQUENCE_BYTES: Final = 8
_SEPARATOR: Final = b"\0"  # never part of an escaped name, so one name's range cannot run into another's
_CORRELATION: Final = b"c"
_CONTENT_MARK: Final = b"\1"
_BRANCH: Final = b"b"
_BRANCH_HISTORY: Final = b"h"
_WORKFLOW: Final = b"w"
_PROMPT: Final = b"p"
_PROMPT_TAG: Final = b"t"
_TASK: Final = b"k"
_TIME: Final = b"d"
_METRIC: Final = b"m"
_COMMIT: Final = b"o"
_MANIFEST_ID: Final = b"i"
_SHARED: Final = frozenset({_BRANCH, _COMMIT})  # several manifests may have one key; the newest is in it
# Families by which runs are listed; a forgotten run has none of these rows.
_LISTING: Final = frozenset({_WORKFLOW, _TASK, _PROMPT, _TIME, _METRIC})
_CONTENT_BYTES: Final = (
    16  # within one correlation ID's few revisions, 128 bits of the digest tell contents apart
)
_REVISION: Final = struct.Struct(">I")
MAX_REVISION: Final = 2**32 - 1
_SEQUENCE: Final = struct.Struct(">Q")
_DOUBLE: Final = struct.Struct(">d")
_DOUBLE_BITS: Final = struct.Struct(">Q")
_SIGN_BIT: Final = 1 << 63
_ALL_BITS: Final = (1 << 64) - 1
_GREATEST: Final = b"\xff" * 8


def sequence_key(sequence: int) -> bytes:
    """Return the key of a manifest: its sequence number, eight bytes, big-endian."""
    return _SEQUENCE.pack(sequence)


def sequence_of(key: bytes) -> int:
    """Return the sequence number in the last eight bytes of a key or value.

    Raises:
        IntegrityError: It is shorter than that.
    """
    if len(key) < SEQUENCE_BYTES:
        raise IntegrityError(f"a stored sequence number has {len(key)} bytes, not {SEQUENCE_BYTES}")
    return int(_SEQUENCE.unpack(key[-SEQUENCE_BYTES:])[0])


def next_sequence(transaction: ReadTransaction) -> int:
    """Return the number of the manifest to write next; numbers only grow."""
    last = transaction.last_key(Table.MANIFESTS)
    counted = transaction.get(Table.META, b"sequence")
    return max(0 if last is None else sequence_of(last), 0 if counted is None else sequence_of(counted)) + 1


def get_row(transaction: ReadTransaction, sequence: int) -> ManifestRow | None:
    """Return the manifest row of a sequence number, or None."""
    encoded = transaction.view(Table.MANIFESTS, sequence_key(sequence))
    return None if encoded is None else manifests.decode_row(encoded)


def iter_rows(
    transaction: ReadTransaction, *, start: int | None = None, reverse: bool = False
) -> Iterator[tuple[int, ManifestRow]]:
    """Yield manifest rows in sequence order, or newest first."""
    first = None if start is None else sequence_key(start)
    for key, value in transaction.scan(Table.MANIFESTS, start=first, reverse=reverse):
        yield sequence_of(key), manifests.decode_row(value)


def sequences_from(transaction: ReadTransaction, start: int, limit: int) -> list[int]:
    """Return up to ``limit`` sequences from ``start`` on, oldest first, without reading the manifests."""
    keys = transaction.scan_keys(Table.MANIFESTS, start=sequence_key(start))
    return [sequence_of(key) for key in itertools.islice(keys, limit)]


def iter_sequences(
    transaction: ReadTransaction, *, reverse: bool = True, after: int | None = None
) -> Iterator[int]:
    """Yield the sequence of every manifest, newest first unless told otherwise, without touching the rows.

    Args:
        transaction: The snapshot.
        reverse: Newest first.
        after: Go on behind this sequence, in the direction of the walk.
    """
    start = _start_behind(b"", after, reverse=reverse)
    if start is not None:
        for key in transaction.scan_keys(Table.MANIFESTS, start=start, reverse=reverse):
            yield sequence_of(key)


def get_head(transaction: ReadTransaction, sequence: int) -> RunHead | None:
    """Return what a query looks at of a run; None for a manifest that is missing or is no run."""
    encoded = transaction.view(Table.MANIFESTS, sequence_key(sequence))
    return None if encoded is None else manifests.decode_head(encoded)


def latest_revision(transaction: ReadTransaction, correlation_id: str) -> tuple[int, int] | None:
    """Return revision and sequence of the newest manifest of a correlation ID, or None."""
    return next(revisions(transaction, correlation_id), None)


def revisions(transaction: ReadTransaction, correlation_id: str) -> Iterator[tuple[int, int]]:
    """Yield revision and sequence of every manifest of a correlation ID, newest first."""
    prefix = _correlation_prefix(correlation_id) + _SEPARATOR
    for key, value in transaction.scan(Table.CATALOG, prefix, reverse=True):
        yield int(_REVISION.unpack(key[len(prefix) :])[0]), sequence_of(value)


def find_revision(transaction: ReadTransaction, correlation_id: str, revision: int) -> int | None:
    """Return the sequence of one revision of a correlation ID, or None."""
    if not 0 < revision <= MAX_REVISION:
        return None
    key = _correlation_prefix(correlation_id) + _SEPARATOR + _REVISION.pack(revision)
    return _optional(transaction.get(Table.CATALOG, key))


def find_content(transaction: ReadTransaction, correlation_id: str, content_digest: bytes) -> int | None:
    """Return the sequence of the revision that holds this content already, or None."""
    return _optional(transaction.get(Table.CATALOG, _content_key(correlation_id, content_digest)))


def branch_head(transaction: ReadTransaction, branch: str) -> int | None:
    """Return the sequence of a branch's newest manifest, or None."""
    return _optional(transaction.get(Table.CATALOG, _BRANCH + branch.encode()))


def sound_head(transaction: ReadTransaction, branch: str) -> int | None:
    """Return the sequence of a branch's newest manifest for something to be built on it, None for a new branch.

    Raises:
        IntegrityError: The branch has commits, but no row that says which is the newest.
    """
    head = branch_head(transaction, branch)
    if head is None and next(branch_sequences(transaction, branch), None) is not None:
        raise damaged_branch(branch, "which commit is its newest is not known")
    return head


def damaged_branch(branch: str, why: str) -> IntegrityError:
    """Return the error for a branch that nothing can be built on."""
    return IntegrityError(
        f"branch {branch!r} is damaged: {why}",
        subject=branch,
        hint="Run `cas verify --full`, and `cas verify --heal` for what can be derived.",
    )


def branch_sequences(transaction: ReadTransaction, branch: str, *, reverse: bool = True) -> Iterator[int]:
    """Yield the sequences of a branch's manifests, newest first unless told otherwise."""
    return _sequences(transaction, _BRANCH_HISTORY + branch.encode() + _SEPARATOR, reverse=reverse)


def workflow_sequences(
    transaction: ReadTransaction, workflow_id: str, *, reverse: bool = True, after: int | None = None
) -> Iterator[int]:
    """Yield the sequences of a workflow's runs, newest first unless told otherwise; see `iter_sequences`."""
    prefix = _WORKFLOW + names.escape_id(workflow_id).encode() + _SEPARATOR
    return _sequences(transaction, prefix, reverse=reverse, after=after)


def task_sequences(
    transaction: ReadTransaction,
    task_id: str,
    workflow_id: str | None = None,
    *,
    reverse: bool = True,
    after: int | None = None,
) -> Iterator[int]:
    """Yield the sequences of a task's runs, of all workflows together or of one; see `iter_sequences`."""
    prefix = _TASK + names.escape_id(task_id).encode() + _SEPARATOR
    if workflow_id is not None:
        prefix += names.escape_id(workflow_id).encode() + _SEPARATOR
        yield from _sequences(transaction, prefix, reverse=reverse, after=after)
        return
    for sequence in sorted(map(sequence_of, transaction.scan_keys(Table.CATALOG, prefix)), reverse=reverse):
        if after is None or (sequence < after if reverse else sequence > after):
            yield sequence


def prompt_sequences(
    transaction: ReadTransaction, prompt_hash: str, *, reverse: bool = True, after: int | None = None
) -> Iterator[int]:
    """Yield the sequences of the runs made from a prompt; see `iter_sequences`."""
    prefix = _PROMPT + names.escape_id(prompt_hash).encode() + _SEPARATOR
    return _sequences(transaction, prefix, reverse=reverse, after=after)


def time_sequences(
    transaction: ReadTransaction,
    *,
    since_us: int | None = None,
    until_us: int | None = None,
    reverse: bool = True,
    after: tuple[int, int] | None = None,
) -> Iterator[int]:
    """Yield the sequences of runs committed in a time range, in the order of these times.

    Args:
        transaction: The snapshot.
        since_us: First microsecond since the epoch that counts; None for no bound.
        until_us: First microsecond that counts no more; None for no bound.
        reverse: Newest time first.
        after: Go on behind the run of this time and sequence, in the direction of the walk.
    """
    low = _TIME + _SEQUENCE.pack(max(since_us or 0, 0))
    high = _TIME + (_GREATEST if until_us is None else _SEQUENCE.pack(max(until_us, 0)))
    behind = None if after is None else _TIME + _SEQUENCE.pack(after[0]) + sequence_key(after[1])
    if behind is not None and reverse:
        high = min(high, behind)
    start = high if reverse else max(low, behind or low)
    for key in transaction.scan_keys(Table.CATALOG, _TIME, start=start, reverse=reverse):
        if key < low or (key >= high and not reverse):
            return
        if key != behind and key < high:
            yield sequence_of(key)


def metric_walk(
    transaction: ReadTransaction,
    metric: str,
    *,
    low: float | None = None,
    high: float | None = None,
    reverse: bool = True,
    after: tuple[bytes, int] | None = None,
) -> Iterator[int]:
    """Yield the sequences of runs by an indexed metric, greatest first unless told otherwise.

    Args:
        transaction: The snapshot.
        metric: The metric; runs that have no number under it are not met.
        low: Least value; None for no bound.
        high: Greatest value; None for no bound.
        reverse: Greatest first, and of equal ones the newest.
        after: Go on behind the run with this value (`sortable`) and sequence, in the direction of the walk.
    """
    prefix = _metric_prefix(metric)
    first = prefix if low is None else prefix + sortable(low)
    last = prefix + (_GREATEST if high is None else sortable(high)) + _GREATEST
    behind = None if after is None else prefix + after[0] + sequence_key(after[1])
    start = last if reverse else first
    if behind is not None:
        start = min(start, behind) if reverse else max(start, behind)
    for key in transaction.scan_keys(Table.CATALOG, prefix, start=start, reverse=reverse):
        if not first <= key <= last:
            return
        if key != behind:
            yield sequence_of(key)


def metric_sequences(
    transaction: ReadTransaction, metric: str, *, low: float | None = None, high: float | None = None
) -> list[bytes]:
    """Return the keys (`sequence_key`) of runs whose indexed metric lies between two bounds, both included.

    In no order that counts; as keys, since a hundred thousand of them are sorted in a few milliseconds.
    """
    prefix = _metric_prefix(metric)
    start = prefix if low is None else prefix + sortable(low)
    last = prefix + (_GREATEST if high is None else sortable(high)) + _GREATEST
    return [key[-SEQUENCE_BYTES:] for key in transaction.keys_between(Table.CATALOG, start, last)]


def prompt_tag_owner(transaction: ReadTransaction, tag: str) -> int | None:
    """Return the sequence of the run that owns a prompt tag, or None."""
    return _optional(transaction.get(Table.CATALOG, _PROMPT_TAG + tag.encode()))


def find_tag(transaction: ReadTransaction, tag: str) -> int | None:
    """Return the sequence of the manifest a tag points at, or None."""
    if tag.startswith(names.PROMPT_PREFIX):
        return prompt_tag_owner(transaction, tag)
    base, mark, number = tag.rpartition("@")
    if mark and number.isascii() and number.isdecimal() and len(number) <= len(str(MAX_REVISION)):
        revision = int(number)
        if 1 < revision <= MAX_REVISION and str(revision) == number:
            found = _tagged(transaction, base, revision)
            if found is not None:
                return found
    return _tagged(transaction, tag, 1)  # whole, as an imported tag may hold an "@" that is no revision's


def _tagged(transaction: ReadTransaction, base: str, revision: int) -> int | None:
    key = _CORRELATION + base.encode() + _SEPARATOR + _REVISION.pack(revision)
    return _optional(transaction.get(Table.CATALOG, key))


def iter_tags(transaction: ReadTransaction, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield tag names that begin with ``prefix``, and the sequence each points at: correlation tags, then prompt tags.

    In the order of names and, for one ID, of revisions.
    """
    text = prefix.encode()
    base, mark, digits = prefix.rpartition("@")
    if mark:  # a revision's is not in its key
        yield from _tags_at(transaction, base.encode() + _SEPARATOR, f"@{digits}")
    yield from _tags_at(transaction, text, "")
    for key, value in transaction.scan(Table.CATALOG, _PROMPT_TAG + text):
        yield key[1:].decode(), sequence_of(value)


def _tags_at(transaction: ReadTransaction, prefix: bytes, revision_prefix: str) -> Iterator[tuple[str, int]]:
    """Yield correlation tags whose key begins with some bytes, and the part from a revision's ``@`` on with a text."""
    for key, value in transaction.scan(Table.CATALOG, _CORRELATION + prefix):
        base, mark, revision = key[1:].partition(_SEPARATOR)
        if (
            mark and _CONTENT_MARK not in base
        ):  # a content key's digest may hold a separator, but after its mark
            number = int(_REVISION.unpack(revision)[0])
            end = "" if number == 1 else f"@{number}"
            if end.startswith(revision_prefix):
                yield base.decode() + end, sequence_of(value)


def iter_branches(transaction: ReadTransaction, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield branch names that begin with ``prefix``, and the sequence of each one's head, in name order."""
    for key, value in transaction.scan(Table.CATALOG, _BRANCH + prefix.encode()):
        yield key[1:].decode(), sequence_of(value)


def find_by_oid_prefix(transaction: ReadTransaction, hex_prefix: str, limit: int = 2) -> list[int]:
    """Return up to ``limit`` sequences whose commit id or manifest id, in hexadecimal, begins so."""
    found: list[int] = []
    whole = bytes.fromhex(hex_prefix[: len(hex_prefix) // 2 * 2])
    for family in (_COMMIT, _MANIFEST_ID):
        for key, value in transaction.scan(Table.CATALOG, family + whole):
            sequence = sequence_of(value)
            if key[1:].hex().startswith(hex_prefix) and sequence not in found:
                found.append(sequence)
                if len(found) >= limit:
                    return found
    return found


def add(
    transaction: WriteTransaction,
    sequence: int,
    manifest: Manifest,
    row: ManifestRow,
    content_digest: bytes | None,
    indexed_metrics: tuple[str, ...],
) -> None:
    """Write a manifest and every catalog row it gives."""
    value = sequence_key(sequence)
    transaction.append(Table.MANIFESTS, value, manifests.encode_row(row))
    for key in catalog_keys(sequence, manifest, row, content_digest, indexed_metrics):
        transaction.put(Table.CATALOG, key, value)


def catalog_keys(
    sequence: int,
    manifest: Manifest,
    row: ManifestRow,
    content_digest: bytes | None,
    indexed_metrics: tuple[str, ...],
) -> Iterable[bytes]:
    """Yield the catalog keys of a manifest; the value of each is the sequence number.

    The branch key is among them: manifests are added in sequence, so the last one written is the head.
    """
    number = sequence_key(sequence)
    branch = manifest.branch.encode()
    yield _BRANCH + branch
    yield _BRANCH_HISTORY + branch + _SEPARATOR + number
    yield _COMMIT + row.commit_oid
    yield _MANIFEST_ID + manifests.manifest_id(row.manifest)
    if not isinstance(manifest, RunManifest):
        return
    correlation = _correlation_prefix(manifest.correlation_id)
    yield correlation + _SEPARATOR + _REVISION.pack(manifest.revision)
    if content_digest is not None:
        yield _content_key(manifest.correlation_id, content_digest)
    workflow = names.escape_id(manifest.workflow_id).encode()
    yield _WORKFLOW + workflow + _SEPARATOR + number
    yield _TASK + names.escape_id(manifest.task_id).encode() + _SEPARATOR + workflow + _SEPARATOR + number
    yield _TIME + _SEQUENCE.pack(manifest.created_at_us) + number
    if manifest.prompt_hash is not None:
        yield _PROMPT + names.escape_id(manifest.prompt_hash).encode() + _SEPARATOR + number
    own_tag = names.correlation_tag(manifest.correlation_id, manifest.revision)
    for tag, _ in row.tags:
        if tag.startswith(names.PROMPT_PREFIX):
            yield _PROMPT_TAG + tag.encode()
        elif tag != own_tag:  # an imported commit may bear several, each of which must lead to it
            yield _CORRELATION + tag.encode() + _SEPARATOR + _REVISION.pack(1)
    if indexed_metrics:
        yield from metric_keys(manifest, sequence, indexed_metrics)


def is_shared_key(key: bytes) -> bool:
    """Tell whether several manifests may give a catalog key, of which the newest is in it.

    One of content is among them: an imported branch may come back to what an earlier commit of the same ID holds.
    """
    return key[:1] in _SHARED or is_content_key(key)


def is_content_key(key: bytes) -> bool:
    """Tell whether a catalog key leads from an ID and a content to the revision that has it."""
    return key[:1] == _CORRELATION and _CONTENT_MARK in key.partition(_SEPARATOR)[0]


def is_listing_key(key: bytes) -> bool:
    """Tell whether a catalog key belongs to the families by which runs are listed."""
    return key[:1] in _LISTING


def metric_keys(manifest: RunManifest, sequence: int, indexed_metrics: Iterable[str]) -> Iterable[bytes]:
    """Yield the keys of the indexed metrics that a run has as numbers; names are looked up as `where` does."""
    metadata = manifests.load_metadata(manifest.metadata)
    for metric in indexed_metrics:
        _, value = predicate.look_up(metadata, metric)
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield _metric_prefix(metric) + sortable(value) + sequence_key(sequence)


def sortable(number: float) -> bytes:
    """Return eight bytes that sort as the numbers do: the sign bit flipped, all bits of negatives turned.

    A whole number counts as the double that is nearest to it.
    """
    try:
        value = float(number) + 0.0  # which makes one zero of the two
    except OverflowError:  # a whole number beyond every double sorts with the infinities
        value = math.inf if number > 0 else -math.inf
    bits = int(_DOUBLE_BITS.unpack(_DOUBLE.pack(value))[0])
    return _DOUBLE_BITS.pack(bits ^ _ALL_BITS if bits & _SIGN_BIT else bits | _SIGN_BIT)


def _metric_prefix(metric: str) -> bytes:
    return _METRIC + names.escape_id(metric).encode() + _SEPARATOR


def _correlation_prefix(correlation_id: str) -> bytes:
    return _CORRELATION + names.correlation_tag(correlation_id).encode()


def _content_key(correlation_id: str, content_digest: bytes) -> bytes:
    return _correlation_prefix(correlation_id) + _CONTENT_MARK + content_digest[:_CONTENT_BYTES]


def _sequences(
    transaction: ReadTransaction, prefix: bytes, *, reverse: bool = True, after: int | None = None
) -> Iterator[int]:
    start = _start_behind(prefix, after, reverse=reverse)
    if start is not None:
        for key, _ in transaction.scan(Table.CATALOG, prefix, start=start or None, reverse=reverse):
            yield sequence_of(key)


def _start_behind(prefix: bytes, after: int | None, *, reverse: bool) -> bytes | None:
    """Return where a walk over ``prefix`` and sequences begins; empty for its very end, None for nowhere."""
    if after is None:
        return b""
    first = after - 1 if reverse else after + 1
    return prefix + sequence_key(first) if first >= 0 else None


def _optional(value: bytes | None) -> int | None:
    return None if value is None else sequence_of(value)

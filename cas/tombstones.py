"""Tombstones: content that was taken out of the store on purpose, and must not come back.

Invariant: a digest has a blob or a tombstone, never both; a tombstone is never removed. It holds digest, oid, size and
fingerprints, nothing of the content. Owner of the rows ``purged:`` of the table ``meta``. This module neither reads
content nor removes any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from cas.errors import IntegrityError, PurgedContentError
from cas.lmdbenv import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cas.lmdbenv import ReadTransaction, WriteTransaction

RULE: Final = "purged-content"
_PREFIX: Final = b"purged:"
_SHORT_CHARS: Final = 12
_FINGERPRINT_CHARS: Final = 32  # as a finding's; of a digest the first ones say as much


class Tombstone(msgspec.Struct, frozen=True, array_like=True):
    """When content was purged, its git oid and size in bytes, and the fingerprints of the findings in it."""

    purged_at_us: int
    oid: bytes
    size_bytes: int
    fingerprints: tuple[str, ...] = ()


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Tombstone)


def find(transaction: ReadTransaction, digest: bytes) -> Tombstone | None:
    """Return the tombstone of a digest, or None.

    Raises:
        IntegrityError: The row is damaged.
    """
    value = transaction.get(Table.META, _PREFIX + digest)
    return None if value is None else _decode(digest, value)


def exists(transaction: ReadTransaction, digest: bytes) -> bool:
    """Tell whether content was purged, without reading the row."""
    return transaction.has(Table.META, _PREFIX + digest)


def find_purged(transaction: ReadTransaction, digests: Iterable[bytes]) -> bytes | None:
    """Return the first of some digests whose content was purged, or None; one look in a store that purged nothing."""
    if not any(True for _ in transaction.scan_keys(Table.META, _PREFIX)):
        return None
    return next((digest for digest in digests if exists(transaction, digest)), None)


def iter_all(transaction: ReadTransaction) -> Iterator[tuple[bytes, Tombstone]]:
    """Yield every purged digest with its tombstone, in digest order."""
    for key, value in transaction.scan(Table.META, _PREFIX):
        digest = key[len(_PREFIX) :]
        yield digest, _decode(digest, value)


def iter_digests(transaction: ReadTransaction) -> Iterator[bytes]:
    """Yield every purged digest, in order, without reading the rows."""
    for key in transaction.scan_keys(Table.META, _PREFIX):
        yield key[len(_PREFIX) :]


def put(transaction: WriteTransaction, digest: bytes, tombstone: Tombstone) -> None:
    """Set a tombstone; the caller removes the blob in the same transaction."""
    transaction.put(Table.META, _PREFIX + digest, _ENCODER.encode(tombstone))


def refuse(transaction: ReadTransaction, digest: bytes, name: str) -> None:
    """Let content pass that was never purged.

    Raises:
        PurgedContentError: It was; neither a waiver nor switched-off scanning lets it in again.
    """
    if not exists(transaction, digest):
        return
    from cas.secretscan.findings import Finding

    found = Finding(name, 1, 1, RULE, "content purged from this store", digest.hex()[:_FINGERPRINT_CHARS])
    raise PurgedContentError([found])


def purged_error(digest: bytes) -> IntegrityError:
    """Return the error for a read of content that was purged."""
    return IntegrityError(
        f"the content {digest.hex()[:_SHORT_CHARS]} was purged from this store",
        subject=digest.hex(),
        kind="purged",
        hint="It held a credential or was removed on purpose, and cannot be had from here again.",
    )


def _decode(digest: bytes, value: bytes) -> Tombstone:
    try:
        return _DECODER.decode(value)
    except msgspec.MsgspecError as error:
        raise IntegrityError(f"the tombstone of {digest.hex()[:_SHORT_CHARS]} is damaged") from error

"""The store's own row: format number, identity, id format.

Invariant: written once, when the store is made; a store of an unknown format is refused before anything else is read.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

import msgspec

from cas.config import ObjectFormat
from cas.errors import IntegrityError, StorageError
from cas.lmdbenv import Table

if TYPE_CHECKING:
    from cas.lmdbenv import ReadTransaction

STORE_FORMAT: Final = 1
_KEY: Final = b"store"


class StoreMeta(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """What is fixed for the life of a store."""

    format: int
    store_id: str
    object_format: ObjectFormat
    created_at_ns: int


def new_meta(object_format: ObjectFormat, now_ns: int) -> dict[bytes, bytes]:
    """Return the meta rows of a store to be made."""
    meta = StoreMeta(
        format=STORE_FORMAT, store_id=uuid.uuid4().hex, object_format=object_format, created_at_ns=now_ns
    )
    return {_KEY: msgspec.msgpack.encode(meta)}


def read_meta(transaction: ReadTransaction) -> StoreMeta:
    """Return the store's meta row.

    Raises:
        StorageError: The store has a format that this version does not read.
        IntegrityError: The row is missing or damaged.
    """
    encoded = transaction.get(Table.META, _KEY)
    if encoded is None:
        raise IntegrityError("the store has no meta row", hint="Restore it from a backup.")
    try:
        meta = msgspec.msgpack.decode(encoded, type=StoreMeta)
    except msgspec.MsgspecError as error:
        raise IntegrityError("the store's meta row is damaged", hint="Restore it from a backup.") from error
    if meta.format != STORE_FORMAT:
        raise StorageError(
            f"the store has format {meta.format}, this version reads {STORE_FORMAT}",
            kind="unknown_format",
            hint="Install a version of cas-gitexport that reads it.",
        )
    return meta

"""How lmdb opens a store's file: with which of its switches, and its tables.

Invariant: py-lmdb opens a table in a write transaction, so whoever may write holds the store's file meanwhile.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import lmdb

from cas.lmdbenv.creation import FILE_MODE, MAX_TABLES
from cas.lmdbenv.faults import MAX_READERS
from cas.lmdbenv.transaction import Table

if TYPE_CHECKING:
    from pathlib import Path

    from cas.config import Durability


def open_database(
    directory: Path, map_size_bytes: int, *, durability: Durability, read_only: bool
) -> lmdb.Environment:
    """Open the database in a store's folder.

    Raises:
        lmdb.Error: It cannot be opened, or mapped with this size.
    """
    return lmdb.open(
        str(directory),
        map_size=map_size_bytes,
        max_dbs=MAX_TABLES,
        max_readers=MAX_READERS,
        metasync=durability != "relaxed",
        readonly=read_only,
        lock=not (read_only and not os.access(directory, os.W_OK)),
        create=False,
        readahead=False,
        meminit=True,  # else slack in pages takes what memory held to the disk, refused secrets among it
        mode=FILE_MODE,
    )


def open_tables(raw: lmdb.Environment) -> dict[Table, Any]:
    """Return the table handles; py-lmdb keeps only those that a write transaction opened, when it may write.

    Raises:
        lmdb.Error: A table is missing.
    """
    return {table: raw.open_db(table.value, create=False) for table in Table}

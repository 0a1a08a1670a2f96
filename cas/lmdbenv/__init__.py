"""The only importer of lmdb: environment, transactions, tables, headroom and error mapping.

Invariant: a write transaction that returns is on the disk as the durability level promises, and one that raises left
nothing behind. One LMDB environment per process and file is open, shared by all stores on that path; after a fork the
child opens its own. This package knows tables as byte keys and values only, and must not know what they mean.

Measured pitfalls it guards against are listed in docs/reliability.md, with the fault that shows each.
"""

from cas.lmdbenv.compaction import compact_environment
from cas.lmdbenv.creation import (
    DATA_FILE,
    LOCK_FILE,
    create_environment,
    file_system_type,
    is_store,
    refuse_network_file_system,
)
from cas.lmdbenv.environment import Environment
from cas.lmdbenv.faults import SUSPECT_FILE, mapped_errors, storage_error, suspect_mark, sync_directory
from cas.lmdbenv.locks import hold_alone, owned
from cas.lmdbenv.mending import mending
from cas.lmdbenv.registry import close_environment, open_environment
from cas.lmdbenv.transaction import ReadTransaction, Table, WriteTransaction

__all__ = [
    "DATA_FILE",
    "LOCK_FILE",
    "SUSPECT_FILE",
    "Environment",
    "ReadTransaction",
    "Table",
    "WriteTransaction",
    "close_environment",
    "compact_environment",
    "create_environment",
    "file_system_type",
    "hold_alone",
    "is_store",
    "mapped_errors",
    "mending",
    "open_environment",
    "owned",
    "refuse_network_file_system",
    "storage_error",
    "suspect_mark",
    "sync_directory",
]

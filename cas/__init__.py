"""Content-addressed store for backtest runs, whose git commit ids are known before git sees them.

    from cas import ArtifactStore, ArtifactStoreConfig

This package never starts a process, never prints and never reads the environment; it opens no socket, but for the Redis
buses of `cas.events` where a program uses them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cas._version import __version__
from cas.config import ArtifactStoreConfig
from cas.errors import (
    ArtifactStoreError,
    ConfigError,
    ConflictError,
    ExportError,
    GitCommandFailedError,
    IntegrityError,
    InvalidFileError,
    InvalidIdError,
    InvalidInputError,
    InvalidMetadataError,
    InvalidNameError,
    LeaseHeldError,
    NotFoundError,
    PurgedContentError,
    QueryError,
    ReadOnlyStoreError,
    SecretDetectedError,
    StateError,
    StorageError,
    StoreSuspectError,
    WaitTimeoutError,
)
from cas.offline import compact_store, restore_store
from cas.retention import RetentionPolicy
from cas.store import ArtifactStore

if TYPE_CHECKING:
    from cas.secretscan import Finding, SecretScanner

__all__ = [
    "ArtifactStore",
    "ArtifactStoreConfig",
    "ArtifactStoreError",
    "ConfigError",
    "ConflictError",
    "ExportError",
    "Finding",
    "GitCommandFailedError",
    "IntegrityError",
    "InvalidFileError",
    "InvalidIdError",
    "InvalidInputError",
    "InvalidMetadataError",
    "InvalidNameError",
    "LeaseHeldError",
    "NotFoundError",
    "PurgedContentError",
    "QueryError",
    "ReadOnlyStoreError",
    "RetentionPolicy",
    "SecretDetectedError",
    "SecretScanner",
    "StateError",
    "StorageError",
    "StoreSuspectError",
    "WaitTimeoutError",
    "__version__",
    "compact_store",
    "restore_store",
]


def __getattr__(name: str) -> object:
    """Load the secret scanner on first use: its engine takes longer to import than all the rest."""
    if name in {"Finding", "SecretScanner"}:
        from cas import secretscan

        return getattr(secretscan, name)
    raise AttributeError(f"module 'cas' has no attribute {name!r}")

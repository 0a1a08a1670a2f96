"""Stores filled with runs, for benchmarks that begin where the commits end.

Invariant: what is returned is closed and may be copied; its outbox holds every run. This module must not measure
anything.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from benchmarks.orders import orders_of
from cas import ArtifactStore, ArtifactStoreConfig
from cas.lmdbenv import DATA_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.orders import Order
    from benchmarks.runs import StoredRun


def filled_store(folder: Path, runs: Sequence[StoredRun], **settings: Any) -> tuple[Path, list[Order]]:
    """Commit runs to a new store in ``folder``; return its directory, and the runs as orders for other tools.

    Args:
        folder: An empty folder.
        runs: What to commit.
        settings: Further settings of the store.
    """
    with ArtifactStore(ArtifactStoreConfig(repo_path=folder, **settings)) as store:
        for run in runs:
            store.commit_artifacts(**run.as_call())
        paths = {run.correlation_id: {path.name: path for path in run.paths} for run in runs}
        return folder / ".cas", orders_of(store, paths)


def copy_store(store_dir: Path, target: Path) -> None:
    """Copy a closed store, and sync the copy: or its first transaction would pay for writing all of it."""
    shutil.copytree(store_dir, target)
    descriptor = os.open(target / DATA_FILE, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

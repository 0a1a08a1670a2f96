"""Engines without git: files beside a SQLite table, and diskcache. Both keep raw bytes."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from typing import TYPE_CHECKING, Final

from benchmarks.floor import read_whole

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.runs import StoredRun

_NO_LIMIT_BYTES: Final = 1 << 50


class FilesAndSqlite:
    """The store one writes in an afternoon: SHA-256, a copy by its digest, fsync, a row."""

    def __init__(self, folder: Path, _room_bytes: int) -> None:
        self._folder = folder
        self._rows = sqlite3.connect(folder / "runs.sqlite", isolation_level=None)
        self._rows.execute("PRAGMA journal_mode=WAL")
        self._rows.execute("PRAGMA synchronous=FULL")
        self._rows.execute(
            "CREATE TABLE runs (correlation_id TEXT PRIMARY KEY, workflow_id TEXT, task_id TEXT, prompt_hash TEXT, "
            "metadata TEXT, files TEXT)"
        )

    def commit(self, run: StoredRun) -> None:
        """Copy what is new, flush it, then insert the row in a transaction of its own."""
        files = {path.name: self._copy(read_whole(path)) for path in run.paths}
        row = (run.correlation_id, run.workflow_id, run.task_id, run.prompt_hash)
        self._rows.execute(
            "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)", (*row, json.dumps(run.metadata), json.dumps(files))
        )

    def _copy(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        target = self._folder / name[:2] / name[2:]
        target.parent.mkdir(exist_ok=True)
        if not target.exists():
            with target.open("xb", buffering=0) as file:
                file.write(data)
                os.fsync(file.fileno())
        return name

    def close(self) -> None:
        """Close the table."""
        self._rows.close()


class DiskCache:
    """diskcache as it comes, with eviction and its size limit turned off; one transaction for each run."""

    def __init__(self, folder: Path, _room_bytes: int) -> None:
        import diskcache

        self._cache = diskcache.Cache(str(folder), eviction_policy="none", size_limit=_NO_LIMIT_BYTES)

    def commit(self, run: StoredRun) -> None:
        """Set one key for each file and one for the run."""
        with self._cache.transact():
            for path in run.paths:
                self._cache.set((run.correlation_id, path.name), read_whole(path))
            self._cache.set(run.correlation_id, {"metadata": run.metadata, "task_id": run.task_id})

    def close(self) -> None:
        """Close the cache."""
        self._cache.close()

"""Engines without git: files beside a SQLite table, and diskcache. Both keep raw bytes."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sqlite3
from typing import TYPE_CHECKING, Final

from benchmarks.floor import read_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
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
            "CREATE TABLE IF NOT EXISTS runs (correlation_id TEXT PRIMARY KEY, workflow_id TEXT, task_id TEXT, "
            "prompt_hash TEXT, metadata TEXT, files TEXT)"
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
            made = target.with_name(f"{name[2:]}.{os.getpid()}")
            with made.open("xb", buffering=0) as file:
                file.write(data)
                os.fsync(file.fileno())
            made.rename(target)  # another process may have copied the same content in the meantime
        return name

    def newest(self, count: int) -> list[str]:
        """Return the correlation IDs of the rows inserted last."""
        rows = self._rows.execute("SELECT * FROM runs ORDER BY rowid DESC LIMIT ?", (count,))
        return [row[0] for row in rows]

    def restore(self, run: StoredRun, target: Path) -> Path:
        """Copy the files of a run's row."""
        select = "SELECT files FROM runs WHERE correlation_id = ?"
        (files,) = self._rows.execute(select, (run.correlation_id,)).fetchone()
        target.mkdir(parents=True)
        for name, digest in json.loads(files).items():
            (target / name).write_bytes(read_whole(self._folder / digest[:2] / digest[2:]))
        return target

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

    def commit_all(self, runs: Sequence[StoredRun]) -> None:
        """Set the keys of all runs in one transaction."""
        with self._cache.transact():
            for run in runs:
                self.commit(run)

    def newest(self, count: int) -> list[str]:
        """Walk back from the key set last: the cache keeps the order in which keys were set."""
        runs = (key for key in reversed(self._cache) if isinstance(key, str))
        found = list(itertools.islice(runs, count))
        for key in found:
            self._cache.get(key)
        return found

    def restore(self, run: StoredRun, target: Path) -> Path:
        """Get each file and write it."""
        target.mkdir(parents=True)
        for path in run.paths:
            (target / path.name).write_bytes(self._cache[run.correlation_id, path.name])
        return target

    def close(self) -> None:
        """Close the cache."""
        self._cache.close()

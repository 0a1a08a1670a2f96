"""The input: real backtest runs, made once by the example sweep and kept on disk as an agent would leave them.

Invariant: a cached run is whole (its folder appears by one rename) and is the run that the sweep makes today: the cache
is named after the seed and the versions that decide its bytes. This module must not measure anything.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final

from examples.backtest_runs import RunSpec, make_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SEED: Final = 1
REAL_COUNT: Final = 1000
_DIGITS: Final = b"0123456789"
_ABOUT: Final = "run.json"
_RUNS_PER_TASK: Final = 8  # a task outweighs its dispatch, and both workers end at about the same time
_WORKERS_COUNT: Final = 2


@dataclasses.dataclass(frozen=True, slots=True)
class StoredRun:
    """One run whose files lie on disk, in the words of ``commit_artifacts``."""

    workflow_id: str
    task_id: str
    correlation_id: str
    prompt_hash: str
    metadata: dict[str, Any]
    paths: tuple[Path, ...]
    raw_bytes: int

    @property
    def branch(self) -> str:
        """The branch name that the replaced system gives the run."""
        return f"ai/generated/{self.workflow_id}/{self.task_id}"

    @property
    def tags(self) -> tuple[str, str]:
        """The names of its correlation tag and prompt tag."""
        return self.correlation_id, f"prompt_{self.prompt_hash[:12]}"

    @property
    def folder(self) -> str:
        """Where its files lie in the tree."""
        return f"Backtest/codes/{self.task_id}"

    def metadata_file(self) -> bytes:
        """Return a ``metadata.json`` for engines that do not make one of their own."""
        about = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)[:4]}
        names = [path.name for path in self.paths]
        return json.dumps({**about, **self.metadata, "files": names}, indent=2).encode()

    def as_call(self) -> dict[str, Any]:
        """Return the run as keyword arguments of ``commit_artifacts``."""
        about = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)[:5]}
        return {**about, "files": list(self.paths)}


def can_make_runs() -> bool:
    """Tell whether the package that makes the runs is installed."""
    return importlib.util.find_spec("backtesting") is not None


def real_runs(count: int, data_dir: Path) -> list[StoredRun]:
    """Return the first ``count`` runs of the sweep; those that are not cached are made, at about 10 a second and core.

    Every file is read once, so that the page cache holds it.

    Args:
        count: How many runs.
        data_dir: Folder of the cache; made when missing.
    """
    versions = "-".join(importlib.metadata.version(name) for name in ("backtesting", "pandas"))
    folder = data_dir / f"runs-{SEED}-{versions}"
    missing = [index for index in range(count) if not _place(folder, index).exists()]
    if len(missing) > _RUNS_PER_TASK:
        tasks = [missing[start : start + _RUNS_PER_TASK] for start in range(0, len(missing), _RUNS_PER_TASK)]
        # Spawned, so that nothing of the caller, such as an open database, is copied into the workers.
        with ProcessPoolExecutor(_WORKERS_COUNT, mp_context=get_context("spawn")) as pool:
            list(pool.map(_make, [folder] * len(tasks), tasks))
    elif missing:
        _make(folder, missing)
    return [_load(_place(folder, index)) for index in range(count)]


def many_runs(count: int, data_dir: Path) -> list[StoredRun]:
    """Return ``count`` runs, of which at most REAL_COUNT are made by the sweep and the others are written from those.

    A written run has every digit of its files replaced, each by another one: the same lines, of the same length, that
    compress alike, and no file equal to one of another run. Making all of 10,000 runs takes a quarter of an hour.

    Args:
        count: How many runs, up to ten times REAL_COUNT.
        data_dir: Folder of the cache; made when missing.
    """
    real = real_runs(min(count, REAL_COUNT), data_dir)
    copies = [
        _rewritten(run, turn, data_dir / f"runs-{SEED}-rewritten")
        for turn in range(1, -(-count // REAL_COUNT))
        for run in real[: count - turn * REAL_COUNT]
    ]
    return real + copies


def _rewritten(run: StoredRun, turn: int, folder: Path) -> StoredRun:
    table = bytes.maketrans(_DIGITS, _DIGITS[turn:] + _DIGITS[:turn])
    name = f"{run.correlation_id}_{turn}"
    target = folder / f"{turn}" / run.paths[0].parent.name
    if not target.exists():
        made = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        for path in run.paths:
            (made / path.name).write_bytes(path.read_bytes().translate(table))
        made.rename(target)
    return dataclasses.replace(
        run,
        task_id=f"{run.task_id}_{turn}",
        correlation_id=name,
        prompt_hash=hashlib.sha256(name.encode()).hexdigest(),
        paths=tuple(target / path.name for path in run.paths),
    )


def _place(folder: Path, index: int) -> Path:
    return folder / f"{index // 1000:03d}" / f"{index:06d}"


def _make(folder: Path, indexes: Sequence[int]) -> None:
    for index in indexes:
        target = _place(folder, index)
        made = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        run = make_run(RunSpec(index, SEED))
        for name, content in run.files.items():
            (made / name).write_bytes(content)
        about = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
        about["files"] = list(run.files)
        (made / _ABOUT).write_text(json.dumps(about))
        made.rename(target)


def _load(folder: Path) -> StoredRun:
    about = json.loads((folder / _ABOUT).read_text())
    # The sweep has a handful of prompts, and a prompt is tagged once. With one of its own, a run has both its tags.
    about["prompt_hash"] = hashlib.sha256(about["correlation_id"].encode()).hexdigest()
    paths = tuple(folder / name for name in about.pop("files"))
    return StoredRun(**about, paths=paths, raw_bytes=sum(len(path.read_bytes()) for path in paths))

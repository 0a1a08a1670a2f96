"""Ways to commit one run, all with one face: this store, its floor, and the peers.

Each git engine makes what an export of this store makes: blobs, trees, one commit without parent on a branch of its
own, two annotated tags. None of the peers scans for secrets. Invariant: what an engine promises about the disk when
`commit` returns is written beside it. This module must not time anything.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Final, Protocol

from benchmarks import engines_git, engines_plain, engines_tools, tools
from benchmarks.floor import Floor
from benchmarks.machine import missing_git, missing_package
from cas import ArtifactStore, ArtifactStoreConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.runs import StoredRun

PRODUCT: Final = "this_store"
FLOOR: Final = "floor"


class Engine(Protocol):
    """An open store of some kind; owned by one thread."""

    def commit(self, run: StoredRun) -> object:
        """Store one run."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class EngineKind:
    """How to open an engine, and what is to be known of it.

    Attributes:
        name: Key in the results.
        title: Words for a table.
        durability: What is on the disk when a commit returns.
        open: Called with an existing folder and the bytes of all runs to come; makes the store in an empty one.
        missing: Returns why it cannot be opened here and how to install it, or None.
        share: Part of the runs it is given: the slow ones get few.
        flushed: Content is on the disk when a commit returns, and so is what finds it again.
        alone: Its work tree bears one process at a time, so users of several hold a lock around each commit.
    """

    name: str
    title: str
    durability: str
    open: Callable[[Path, int], Engine]
    missing: Callable[[], dict[str, str] | None] = lambda: None
    share: float = 1.0
    flushed: bool = False
    alone: bool = False


class ThisStore:
    """The product with its default settings."""

    def __init__(self, folder: Path, _room_bytes: int) -> None:
        self._store = ArtifactStore(ArtifactStoreConfig(repo_path=folder, durability="full"))

    def commit(self, run: StoredRun) -> object:
        """Commit from the files' paths, as a worker does."""
        return self._store.commit_artifacts(**run.as_call())

    def newest(self, count: int) -> list[str]:
        """Return the correlation IDs of the newest runs."""
        return [str(record["correlation_id"]) for record in self._store.list_artifacts(limit=count)]

    def close(self) -> None:
        """Close the store."""
        self._store.close()


_UNSAFE: Final = "none: objects and refs are left to the page cache"
_SYNCED: Final = "every object file synced; refs are not, and folders are not"
_git_python = functools.partial(missing_package, "git", "GitPython")
_dulwich = functools.partial(missing_package, "dulwich", "dulwich")
_pygit2 = functools.partial(missing_package, "pygit2", "pygit2")
_diskcache = functools.partial(missing_package, "diskcache", "diskcache")
FEW: Final = 1 / 60  # a process or more for each run: one run where this store gets sixty

KINDS: Final = (
    EngineKind(
        PRODUCT, "this store", "full: content, manifest, ids and export entry on the disk", ThisStore,
        flushed=True,
    ),
    EngineKind(FLOOR, "floor", "the stored bytes on the disk, and nothing that finds them again", Floor),
    EngineKind(
        "replaced_system",
        "replaced system (git commands, work tree)",
        "git's default: objects, index and refs are left to the page cache",
        engines_git.CommandLine,
        missing_git,
        share=0.2,
        alone=True,
    ),
    EngineKind(
        "replaced_system_fsync",
        "replaced system, core.fsync=all",
        "objects, index and refs synced",
        functools.partial(engines_git.CommandLine, fsync=True),
        missing_git,
        share=0.2,
        flushed=True,
        alone=True,
    ),
    EngineKind("gitpython", "GitPython", _UNSAFE, engines_git.GitPython, _git_python, share=0.2),
    EngineKind("dulwich", "dulwich", _UNSAFE, engines_git.Dulwich, _dulwich),
    EngineKind(
        "dulwich_fsync", "dulwich, objects synced", _SYNCED,
        functools.partial(engines_git.Dulwich, fsync=True), _dulwich,
    ),
    EngineKind("pygit2", "pygit2", _UNSAFE, engines_git.Pygit2, _pygit2),
    EngineKind(
        "pygit2_fsync", "pygit2, objects synced", _SYNCED,
        functools.partial(engines_git.Pygit2, fsync=True), _pygit2,
    ),
    EngineKind(
        "file_and_sqlite",
        "hash, copy, fsync, SQLite row",
        "each file synced, then the row (WAL, synchronous=FULL); folders are not",
        engines_plain.FilesAndSqlite,
        flushed=True,
    ),
    EngineKind(
        "diskcache",
        "diskcache",
        "none: its default is WAL with synchronous=NORMAL, and its value files are not synced",
        engines_plain.DiskCache,
        _diskcache,
    ),
    EngineKind(
        "restic",
        "restic backup",
        "data, index and snapshot files and their folders synced",
        engines_tools.Restic,
        functools.partial(tools.missing, "restic"),
        share=FEW,
        flushed=True,
    ),
    EngineKind(
        "borg",
        "borg create",
        "segments, index and their folders synced",
        engines_tools.Borg,
        functools.partial(tools.missing, "borg"),
        share=FEW,
        flushed=True,
    ),
    EngineKind(
        "dvc",
        "dvc add, git commit and tag",
        "its own database synced; content, git's objects and refs are left to the page cache",
        engines_tools.Dvc,
        functools.partial(tools.missing, "dvc"),
        share=FEW,
        alone=True,
    ),
)  # fmt: skip


def available() -> tuple[list[EngineKind], list[dict[str, str]]]:
    """Return the engines that can be opened here, and for the others why not and how to install them."""
    kinds, skipped = [], []
    for kind in KINDS:
        why = kind.missing()
        if why is None:
            kinds.append(kind)
        else:
            skipped.append({"name": kind.name, **why})
    return kinds, skipped

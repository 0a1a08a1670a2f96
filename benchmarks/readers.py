"""Filled stores to read from, all with one face: list the newest runs, bring one back to a folder.

The four ways to read git share one repository: the one this store's exporter made of the same runs, packed, with a
branch and two tags for each. Runs lie a second apart, so that git, whose times are whole seconds, knows their order.
Invariant: a reader gives back what was stored; the benchmarks compare. This module must not time anything.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import tarfile
from typing import TYPE_CHECKING, Any, Final, Protocol

from benchmarks import tools
from benchmarks.engines import PRODUCT
from benchmarks.engines_git import create_repository, git, tagged_runs
from benchmarks.engines_plain import DiskCache, FilesAndSqlite
from benchmarks.engines_tools import Borg, Dvc, Restic
from benchmarks.machine import missing_git, missing_package
from cas import ArtifactStore, ArtifactStoreConfig
from gitexport import Exporter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.runs import StoredRun

_START_S: Final = 1_700_000_000
_TAGS: Final = "refs/tags/corr_"


class Reader(Protocol):
    """An open store that holds runs; owned by one thread."""

    def newest(self, count: int) -> list[str]:
        """Return the correlation IDs of the newest runs, the newest first."""
        ...

    def restore(self, run: StoredRun, target: Path) -> Path:
        """Bring a run's files back and return their folder; ``target`` does not exist yet."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class Source:
    """The runs of a benchmark, in this store and in the repository its exporter made; `few` are the last of them."""

    def __init__(self, folder: Path, runs: Sequence[StoredRun], few_count: int) -> None:
        self.runs = runs
        self.few = runs[-few_count:]
        self.repository = folder / "repository.git"
        self.repository.mkdir()
        create_repository(self.repository, bare=True)
        seconds = iter(range(_START_S, _START_S + 10 * len(runs) + 1000))
        self.store = ArtifactStore(
            ArtifactStoreConfig(repo_path=self.repository, store_path=folder / "store"),
            clock=lambda: next(seconds) * 1_000_000_000,
        )
        for run in runs:
            self.store.commit_artifacts(**run.as_call())
        summary = Exporter(self.store).run(push=False)
        if summary.exported != len(runs):
            raise RuntimeError(f"the export is {summary.state}: {summary.failures[:3]}")


class ThisStore:
    """The product."""

    def __init__(self, source: Source, _folder: Path) -> None:
        self._store = source.store

    def newest(self, count: int) -> list[str]:
        """List as a caller does, metadata and files included."""
        return [str(record["correlation_id"]) for record in self._store.list_artifacts(limit=count)]

    def restore(self, run: StoredRun, target: Path) -> Path:
        """Check the run out; every byte is compared with its digest. No other kind waits for the disk either."""
        self._store.checkout(run.correlation_id, target, sync=False)
        return target

    def close(self) -> None:
        """The source keeps the store open."""


class CommandLine:
    """git commands, as the replaced system uses them: tags listed by date, a tag's folder by `git archive`."""

    def __init__(self, source: Source, _folder: Path) -> None:
        self._repository = source.repository

    def newest(self, count: int) -> list[str]:
        """List the newest correlation tags."""
        return tagged_runs(self._repository, count)

    def restore(self, run: StoredRun, target: Path) -> Path:
        """Unpack the archive of the tag's folder."""
        data = git(self._repository, "archive", "--format=tar", run.tags[0], run.folder)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(target, filter="data")
        return target / run.folder

    def close(self) -> None:
        """Nothing is held."""


class GitPython:
    """GitPython: its tag objects, its tree, its streams."""

    def __init__(self, source: Source, _folder: Path) -> None:
        import git as gitpython

        self._repository = gitpython.Repo(source.repository)

    def newest(self, count: int) -> list[str]:
        """Sort all correlation tags by the date in their objects."""
        tags = [tag for tag in self._repository.tags if tag.name.startswith("corr_")]
        tags.sort(key=lambda tag: tag.tag.tagged_date if tag.tag else 0, reverse=True)
        return [tag.name for tag in tags[:count]]

    def restore(self, run: StoredRun, target: Path) -> Path:
        """Stream each blob of the tag's folder into a file."""
        target.mkdir(parents=True)
        for blob in (self._repository.tags[run.tags[0]].commit.tree / run.folder).blobs:
            with (target / blob.name).open("xb") as file:
                blob.stream_data(file)
        return target

    def close(self) -> None:
        """End the processes it keeps."""
        self._repository.close()


class Dulwich:
    """dulwich: pure Python."""

    def __init__(self, source: Source, _folder: Path) -> None:
        from dulwich.repo import Repo

        self._repository = Repo(str(source.repository))

    def newest(self, count: int) -> list[str]:
        """Sort all correlation tags by the time in their objects."""
        refs = self._repository.refs.as_dict(b"refs/tags/")
        tags = [
            (self._repository[oid].tag_time, name) for name, oid in refs.items() if name.startswith(b"corr_")
        ]
        return [name.decode() for _, name in sorted(tags, reverse=True)[:count]]

    def restore(self, run: StoredRun, target: Path) -> Path:
        """Walk to the tag's folder and write its blobs."""
        store = self._repository.object_store
        item = self._repository[b"refs/tags/" + run.tags[0].encode()]
        tree = store[store[item.object[1]].tree]
        for part in run.folder.split("/"):
            tree = store[tree[part.encode()][1]]
        target.mkdir(parents=True)
        for entry in tree.iteritems():
            (target / entry.path.decode()).write_bytes(store[entry.sha].as_raw_string())
        return target

    def close(self) -> None:
        """Close the repository."""
        self._repository.close()


class Pygit2:
    """pygit2: libgit2."""

    def __init__(self, source: Source, _folder: Path) -> None:
        import pygit2

        self._repository = pygit2.Repository(str(source.repository))

    def newest(self, count: int) -> list[str]:
        """Sort all correlation tags by the time in their objects."""
        names = [name for name in self._repository.references if name.startswith(_TAGS)]
        tags = [(self._tag(name).tagger.time, name) for name in names]
        return [name.removeprefix("refs/tags/") for _, name in sorted(tags, reverse=True)[:count]]

    def _tag(self, name: str) -> Any:
        return self._repository[self._repository.references[name].target]

    def restore(self, run: StoredRun, target: Path) -> Path:
        """Write the blobs of the tag's folder."""
        tree = self._repository.revparse_single(f"refs/tags/{run.tags[0]}^{{tree}}")[run.folder]
        target.mkdir(parents=True)
        for blob in tree:
            (target / blob.name).write_bytes(blob.data)
        return target

    def close(self) -> None:
        """Free the repository."""
        self._repository.free()


def _filled(engine: Callable[[Path, int], Any], source: Source, folder: Path, *, few: bool = False) -> Any:
    """Open an engine and commit the runs to it; the last ones only, where each takes a process."""
    opened = engine(folder, 0)
    for run in source.few if few else source.runs:
        opened.commit(run)
    return opened


@dataclasses.dataclass(frozen=True, slots=True)
class ReaderKind:
    """How to open a filled store.

    Attributes:
        name: Key in the results.
        title: Words for a table.
        open: Called with the source and an existing empty folder.
        missing: Returns why it cannot be opened here and how to install it, or None.
        few: It holds only the last few runs, as filling it takes a process or more for each.
    """

    name: str
    title: str
    open: Callable[[Source, Path], Reader]
    missing: Callable[[], dict[str, str] | None] = lambda: None
    few: bool = False

    def runs_of(self, source: Source) -> Sequence[StoredRun]:
        """Return the runs that it holds."""
        return source.few if self.few else source.runs


def _tool(name: str, title: str, engine: Callable[[Path, int], Any]) -> ReaderKind:
    opened = functools.partial(_filled, engine, few=True)
    return ReaderKind(name, title, opened, functools.partial(tools.missing, name), few=True)


KINDS: Final = (
    ReaderKind(PRODUCT, "this store", ThisStore),
    ReaderKind("replaced_system", "git commands, as the replaced system", CommandLine, missing_git),
    ReaderKind("gitpython", "GitPython", GitPython, functools.partial(missing_package, "git", "GitPython")),
    ReaderKind("dulwich", "dulwich", Dulwich, functools.partial(missing_package, "dulwich", "dulwich")),
    ReaderKind("pygit2", "pygit2", Pygit2, functools.partial(missing_package, "pygit2", "pygit2")),
    ReaderKind("file_and_sqlite", "files and SQLite rows", functools.partial(_filled, FilesAndSqlite)),
    ReaderKind(
        "diskcache",
        "diskcache",
        functools.partial(_filled, DiskCache),
        functools.partial(missing_package, "diskcache", "diskcache"),
    ),
    _tool("restic", "restic", Restic),
    _tool("borg", "borg", Borg),
    _tool("dvc", "DVC", Dvc),
)


def available() -> tuple[list[ReaderKind], list[dict[str, str]]]:
    """Return the kinds that can be opened here, and for the others why not and how to install them."""
    skipped = [{"name": kind.name, **why} for kind in KINDS if (why := kind.missing())]
    return [kind for kind in KINDS if kind.missing() is None], skipped


def same_files(run: StoredRun, folder: Path) -> bool:
    """Tell whether a folder holds a run's files, byte for byte."""
    return all((folder / path.name).read_bytes() == path.read_bytes() for path in run.paths)

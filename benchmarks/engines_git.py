"""Engines that commit into a git repository: by commands in a work tree, and by three libraries without one.

The libraries write loose objects, which is what they do for a commit that must be there when the call returns.
Automatic garbage collection is off for all.
"""

from __future__ import annotations

import io
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.floor import read_whole
from benchmarks.machine import missing_git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.runs import StoredRun

_PERSON: Final = ("algo-agent-bot", "algo-agent@example.com")
_FILE_MODE: Final = 0o100644
_TREE_MODE: Final = 0o040000


def clean_environment() -> dict[str, str]:
    """Return an environment in which git sees no configuration but the repository's, and knows its author."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    people = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in zip(("NAME", "EMAIL"), _PERSON, strict=True)
    }
    quiet = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}
    return kept | people | quiet


def git(folder: Path, *arguments: str, data: bytes | None = None) -> bytes:
    """Run git in a folder and return its output."""
    command = ("git", "-C", str(folder), *arguments)
    return subprocess.run(
        command, check=True, input=data, capture_output=True, env=clean_environment()
    ).stdout


def require_git() -> None:
    """Make sure that git is installed.

    Raises:
        RuntimeError: It is not.
    """
    missing = missing_git()
    if missing is not None:
        raise RuntimeError(missing["reason"])


def create_repository(folder: Path, *, bare: bool, fsync: bool = False, ref_format: str = "files") -> None:
    """Make an empty repository that never collects garbage by itself, in a folder that is made when missing.

    A repository that is there already is left as it is.
    """
    if (folder / "HEAD" if bare else folder / ".git").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    # Gits before 2.45 know no such option, and only files.
    words = [
        *(["--bare"] if bare else []),
        *([] if ref_format == "files" else [f"--ref-format={ref_format}"]),
    ]
    git(folder, "init", "--quiet", "--initial-branch=main", *words)
    git(folder, "config", "gc.auto", "0")
    git(folder, "config", "maintenance.auto", "false")
    if fsync:
        git(folder, "config", "core.fsync", "all")  # git
        git(folder, "config", "core.fsyncObjectFiles", "true")  # libgit2 and dulwich


def message_of(run: StoredRun) -> str:
    """Return the commit message's subject."""
    return f"Add artifacts for {run.workflow_id}/{run.task_id}"


def tagged_runs(folder: Path, count: int) -> list[str]:
    """Return the correlation IDs of the newest tags of a repository, the newest first."""
    order = ("--sort=-creatordate", f"--count={count}", "--format=%(refname:lstrip=2)")
    return git(folder, "for-each-ref", *order, "refs/tags/corr_*").decode().split()


class CommandLine:
    """The replaced system: a new branch in the work tree, copies, add, commit and two tags, each a git process."""

    def __init__(self, folder: Path, _room_bytes: int, *, fsync: bool = False) -> None:
        self._folder = folder
        if (folder / ".git").exists():
            return
        create_repository(folder, bare=False, fsync=fsync)
        git(folder, "commit", "--quiet", "--allow-empty", "--message=Begin")

    def commit(self, run: StoredRun) -> None:
        """Commit one run on a branch of its own that starts at ``main``."""
        git(self._folder, "checkout", "--quiet", "-b", run.branch, "main")
        target = self._folder / run.folder
        target.mkdir(parents=True, exist_ok=True)
        for path in run.paths:
            (target / path.name).write_bytes(read_whole(path))
        (target / "metadata.json").write_bytes(run.metadata_file())
        git(self._folder, "add", "--", run.folder)
        git(self._folder, "commit", "--quiet", f"--message={message_of(run)}")
        for tag in run.tags:
            git(self._folder, "tag", "--annotate", f"--message={message_of(run)}", tag)

    def newest(self, count: int) -> list[str]:
        """Return the runs of the newest tags."""
        return tagged_runs(self._folder, count)

    def close(self) -> None:
        """Nothing is held."""


def _contents(run: StoredRun) -> Iterator[tuple[str, bytes]]:
    for path in run.paths:
        yield path.name, read_whole(path)
    yield "metadata.json", run.metadata_file()


class GitPython:
    """GitPython without a work tree: its object database, and git commands where it has nothing else for tags."""

    def __init__(self, folder: Path, _room_bytes: int) -> None:
        import git as gitpython

        self._folder = folder
        create_repository(folder, bare=True)
        self._git = gitpython
        self._repository = gitpython.Repo(folder)
        self._actor = gitpython.Actor(*_PERSON)

    def commit(self, run: StoredRun) -> None:
        """Store blobs, trees and commit, then the three refs."""
        files = [(name, self._store("blob", data)) for name, data in _contents(run)]
        entries = [(_FILE_MODE, name, oid) for name, oid in sorted(files)]
        root = self._tree(entries)
        for name in reversed(run.folder.split("/")):
            root = self._tree([(_TREE_MODE, name, root)])
        tree = self._git.Tree(self._repository, root)
        commit = self._git.Commit.create_from_tree(
            self._repository, tree, message_of(run), parent_commits=[], author=self._actor, committer=self._actor
        )  # fmt: skip
        self._git.Head.create(self._repository, run.branch, commit)
        with self._repository.git.custom_environment(**clean_environment()):
            for tag in run.tags:
                self._repository.create_tag(tag, ref=commit.hexsha, message=message_of(run))

    def _store(self, kind: str, data: bytes) -> bytes:
        from gitdb import IStream

        oid: bytes = self._repository.odb.store(IStream(kind.encode(), len(data), io.BytesIO(data))).binsha
        return oid

    def _tree(self, entries: list[tuple[int, str, bytes]]) -> bytes:
        lines = [b"%o %s\0%s" % (mode, name.encode(), oid) for mode, name, oid in entries]
        return self._store("tree", b"".join(lines))

    def newest(self, count: int) -> list[str]:
        """Return the runs of the newest tags."""
        return tagged_runs(self._folder, count)

    def close(self) -> None:
        """End the processes it keeps."""
        self._repository.close()


class Dulwich:
    """dulwich: pure Python, loose objects."""

    def __init__(self, folder: Path, _room_bytes: int, *, fsync: bool = False) -> None:
        from dulwich import objects
        from dulwich.repo import Repo

        self._folder = folder
        create_repository(folder, bare=True, fsync=fsync)
        self._objects = objects
        self._repository = Repo(str(folder))
        self._person = "{} <{}>".format(*_PERSON).encode()

    def commit(self, run: StoredRun) -> None:
        """Store blobs, trees, commit and tags, then the three refs."""
        made = self._objects
        tree = made.Tree()
        for name, data in _contents(run):
            tree.add(name.encode(), _FILE_MODE, self._add(made.Blob.from_string(data)))
        root = self._add(tree)
        for name in reversed(run.folder.split("/")):
            outer = made.Tree()
            outer.add(name.encode(), _TREE_MODE, root)
            root = self._add(outer)
        commit = made.Commit()
        commit.tree = root
        commit.author = commit.committer = self._person
        commit.author_time = commit.commit_time = int(time.time())
        commit.author_timezone = commit.commit_timezone = 0
        commit.message = message_of(run).encode()
        commit_id = self._add(commit)
        refs = self._repository.refs
        refs.set_if_equals(f"refs/heads/{run.branch}".encode(), None, commit_id)
        for name in run.tags:
            tag = made.Tag()
            tag.name, tag.tagger = name.encode(), self._person
            tag.object = (made.Commit, commit_id)
            tag.tag_time, tag.tag_timezone = int(time.time()), 0
            tag.message = message_of(run).encode()
            refs.set_if_equals(f"refs/tags/{name}".encode(), None, self._add(tag))

    def _add(self, item: Any) -> bytes:
        self._repository.object_store.add_object(item)
        oid: bytes = item.id
        return oid

    def newest(self, count: int) -> list[str]:
        """Return the runs of the newest tags."""
        return tagged_runs(self._folder, count)

    def close(self) -> None:
        """Close the repository."""
        self._repository.close()


class Pygit2:
    """pygit2: libgit2, loose objects."""

    def __init__(self, folder: Path, _room_bytes: int, *, fsync: bool = False) -> None:
        import pygit2

        self._folder = folder
        create_repository(folder, bare=True, fsync=fsync)
        self._git = pygit2
        self._repository = pygit2.Repository(str(folder))
        self._person = pygit2.Signature(*_PERSON)

    def commit(self, run: StoredRun) -> None:
        """Store blobs, trees, commit and tags, then the three refs."""
        repository = self._repository
        builder = repository.TreeBuilder()
        for name, data in _contents(run):
            builder.insert(name, repository.create_blob(data), _FILE_MODE)
        root = builder.write()
        for name in reversed(run.folder.split("/")):
            outer = repository.TreeBuilder()
            outer.insert(name, root, _TREE_MODE)
            root = outer.write()
        message = message_of(run)
        commit = repository.create_commit(
            f"refs/heads/{run.branch}", self._person, self._person, message, root, []
        )
        for tag in run.tags:
            repository.create_tag(tag, commit, self._git.enums.ObjectType.COMMIT, self._person, message)

    def newest(self, count: int) -> list[str]:
        """Return the runs of the newest tags."""
        return tagged_runs(self._folder, count)

    def close(self) -> None:
        """Free the repository."""
        self._repository.free()

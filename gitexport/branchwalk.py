"""Which commits of a repository's branches are runs: the history that another program made, read in bulk.

A branch of the replaced system begins wherever HEAD was, so most of what it reaches is not its own: the history of
``main``, or of the branch made before it. Its own are the commits along first parents from the tip down to the oldest
that changed its task's folder. Invariant: reads only, a handful of git processes whatever the number of branches.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from typing import TYPE_CHECKING, Final

from cas.errors import InvalidInputError
from cas.names import ARTIFACT_ROOT
from cas.objects import MODE_TREE, parse_tree
from gitexport.git import run_git
from gitexport.heldfile import mapped_os_errors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from gitexport.repository import GitRepository

_READ_AHEAD_COUNT: Final = 2000  # objects asked for at once
ROOT_PARTS: Final = tuple(part.encode() for part in ARTIFACT_ROOT.split("/"))


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """The first-parent history of some tips.

    Attributes:
        parents: Each commit's first parent, None for one without; newest commits first.
        changed: The task folders that a commit changed, added or removed; commits that changed none are absent.
        depth: How many commits that changed some task's folder lie at or below a commit.
        cut: Commits whose parents a shallow clone hides.
    """

    parents: dict[str, str | None]
    changed: dict[str, set[bytes]]
    depth: dict[str, int]
    cut: frozenset[str] = frozenset()

    def own_commits(self, tip: str, folder: bytes) -> list[str]:
        """Return the commits of a branch that belong to a task, oldest first; none when it never had the folder."""
        walked: list[str] = []
        end = 0
        commit: str | None = tip
        while commit is not None and self.depth.get(commit, 0):
            walked.append(commit)
            if folder in self.changed.get(commit, ()):
                end = len(walked)
            commit = self.parents.get(commit)
        return walked[:end][::-1]

    def flaw(self, chain: Sequence[str], folder: bytes) -> str | None:
        """Return why `own_commits` is not a branch's whole history, None when it is."""
        if not chain:
            return f"it never held {ARTIFACT_ROOT}/{folder.decode('utf-8', 'replace')}"
        if chain[0] in self.cut:
            return f"a shallow clone hides what lies below {chain[0][:12]}: `git fetch --unshallow` first"
        return None


def branches_below(repository: GitRepository, prefix: str) -> dict[str, str]:
    """Return the branches below a prefix with their tips.

    Raises:
        GitCommandFailedError: git failed.
        InvalidInputError: There is none, but one that is only known of a remote, as in an ordinary clone.
    """
    heads, remotes = "refs/heads/", "refs/remotes/"
    found = {
        name.removeprefix(heads): value.oid
        for name, value in repository.list_refs([f"{heads}{prefix}"]).items()
    }
    if not found:
        known = (name.removeprefix(remotes).partition("/") for name in repository.list_refs([remotes]))
        owners = [remote for remote, _, branch in known if branch.startswith(f"{prefix}/")]
        if owners:
            raise InvalidInputError(
                f"{repository.path} itself has no branch below {prefix}; {len(owners)} are only known of a remote",
                subject=prefix,
                hint=f"Fetch them as branches, or import a mirror: git -C {shlex.quote(str(repository.path))} fetch "
                f"{owners[0]} 'refs/heads/{prefix}/*:refs/heads/{prefix}/*'",
            )
    return found


def read_history(repository: GitRepository, tips: Collection[str]) -> History:
    """Read the first-parent history below some commits.

    Raises:
        GitCommandFailedError: git failed; a tip is not a commit, or history is missing.
        IntegrityError: A tree is not one.
        StorageError: The repository cannot be read.
    """
    if not tips:
        return History({}, {}, {})
    parents: dict[str, str | None] = {}
    for line in _rev_list(repository, ["--first-parent", "--parents", "--topo-order"], tips):
        commit, *above = line.split(" ")
        parents[commit] = above[0] if above else None
    touching = _rev_list(repository, ["--first-parent"], [*tips, "--", ARTIFACT_ROOT])
    changed = _changed_folders(repository, touching, parents)
    depth: dict[str, int] = {}
    for commit in reversed(parents):
        below = parents[commit]
        depth[commit] = (0 if below is None else depth.get(below, 0)) + (commit in changed)
    return History(parents, changed, depth, _cut_off(repository))


def _cut_off(repository: GitRepository) -> frozenset[str]:
    with mapped_os_errors(repository.common_dir), contextlib.suppress(FileNotFoundError):
        return frozenset((repository.common_dir / "shallow").read_text("ascii", "replace").split())
    return frozenset()


def _rev_list(repository: GitRepository, words: Sequence[str], lines: Iterable[str]) -> list[str]:
    listed = run_git(
        ["rev-list", *words, "--stdin"],
        cwd=repository.git_dir,
        options=repository.options,
        stdin="".join(f"{line}\n" for line in lines).encode(),
        extra_env={"GIT_DIR": str(repository.git_dir)},
    ).stdout
    return listed.decode("ascii").splitlines()


def _changed_folders(
    repository: GitRepository, touching: Sequence[str], parents: Mapping[str, str | None]
) -> dict[str, set[bytes]]:
    commits = [*touching, *(parent for commit in touching if (parent := parents.get(commit)) is not None)]
    roots = artifact_roots(repository, commits)
    folders = {
        oid: {entry.name: entry.oid for entry in parse_tree(data, repository.object_format)}
        for oid, data in read_trees(repository, {oid for oid in roots.values() if oid is not None}).items()
    }
    changed: dict[str, set[bytes]] = {}
    for commit in touching:
        parent = parents.get(commit)
        now = folders.get(roots[commit] or "", {})
        before = {} if parent is None else folders.get(roots[parent] or "", {})
        changed[commit] = {name for name, _ in now.items() ^ before.items()}
    return changed


def artifact_roots(repository: GitRepository, commits: Iterable[str]) -> dict[str, str | None]:
    """Return the oid of each commit's folder ``Backtest/codes``; None where there is none."""
    wanted = list(dict.fromkeys(commits))
    answer = run_git(
        ["cat-file", "--buffer", "--batch-check=%(objectname) %(objecttype)"],
        cwd=repository.git_dir,
        options=repository.options,
        stdin="".join(f"{commit}:{ARTIFACT_ROOT}\n" for commit in wanted).encode(),
        extra_env={"GIT_DIR": str(repository.git_dir)},
    ).stdout.decode("ascii")
    found = [line.rpartition(" ") for line in answer.splitlines()]
    return {
        commit: oid if kind == "tree" else None for commit, (oid, _, kind) in zip(wanted, found, strict=True)
    }


def read_objects(repository: GitRepository, oids: Iterable[str]) -> Iterator[tuple[str, str, bytes]]:
    """Yield id, kind and content of objects, each wholly in memory; those that are missing as kind ``missing``."""
    wanted = list(dict.fromkeys(oids))
    for first in range(0, len(wanted), _READ_AHEAD_COUNT):
        for stream in repository.iter_object_bytes(wanted[first : first + _READ_AHEAD_COUNT]):
            yield stream.oid, stream.kind, b"".join(stream)


def read_trees(repository: GitRepository, oids: Iterable[str]) -> dict[str, bytes]:
    """Return the content of tree objects by id; what is missing or no tree is left out."""
    return {oid: data for oid, kind, data in read_objects(repository, oids) if kind == "tree"}


def path_trees(
    repository: GitRepository, roots: Collection[str], folder_of: Mapping[str, Collection[bytes]]
) -> dict[str, bytes]:
    """Return the trees from each root down to its tasks' folders, and all below those.

    Args:
        repository: Where they are.
        roots: Ids of root trees.
        folder_of: Root -> names of the task folders wanted of it.
    """
    found = read_trees(repository, roots)
    level = {root: set(folder_of[root]) for root in roots if root in found}
    for part in ROOT_PARTS:
        below: dict[str, set[bytes]] = {}
        for oid, folders in level.items():
            for child in _subtrees(repository, found.get(oid, b""), {part}):
                below.setdefault(child, set()).update(folders)
        found |= read_trees(repository, below.keys() - found.keys())
        level = below
    tasks = {
        child
        for oid, folders in level.items()
        for child in _subtrees(repository, found.get(oid, b""), folders)
    }
    while tasks:
        fresh = read_trees(repository, tasks - found.keys())
        found |= fresh
        tasks = {
            child for data in fresh.values() for child in _subtrees(repository, data, None)
        } - found.keys()
    return found


def _subtrees(repository: GitRepository, data: bytes, names: Collection[bytes] | None) -> list[str]:
    return [
        entry.oid.hex()
        for entry in parse_tree(data, repository.object_format)
        if entry.mode == MODE_TREE and (names is None or entry.name in names)
    ]

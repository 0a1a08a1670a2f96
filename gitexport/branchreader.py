"""Reads branch tips for the store: what a rollback onto a branch that only git knows has to build on.

Registered under the entry point group ``cas.git_reader``. Invariant: reads only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cas import names
from cas.errors import ConflictError, GitCommandFailedError, IntegrityError
from cas.gitreader import BranchTip
from cas.objects import MODE_TREE, parse_tree
from gitexport.options import git_options
from gitexport.refs import read_refs
from gitexport.repository import GitRepository

if TYPE_CHECKING:
    from pathlib import Path

    from cas.config import ArtifactStoreConfig
    from cas.objects import TreeEntry

_ROOT_FOLDER, _CODES_FOLDER = (part.encode() for part in names.ARTIFACT_ROOT.split("/"))
_TREE_HEADER: Final = "tree "


class BranchReader:
    """Reads tips through the git gateway; thread-safe, keeps nothing between calls."""

    def __init__(self, config: ArtifactStoreConfig) -> None:
        self._config = config

    def branch_tip(self, repo_path: Path, branch: str) -> BranchTip | None:
        """Return the tip of a branch, or None when there is no such branch or no repository.

        Raises:
            ConflictError: The branch has a file where the artifact root has to be.
            GitCommandFailedError: git is missing or failed.
            IntegrityError: The tip is no commit, or a tree of it is not one.
            NotFoundError: The repository has lost one of them.
            StorageError: The repository cannot be read.
        """
        try:
            repository = GitRepository.open(repo_path, git_options(self._config))
        except GitCommandFailedError as error:
            if error.kind == "not_a_repository":
                return None
            raise
        name = f"refs/heads/{branch}"
        oid = read_refs(repository, [name]).get(name)
        if oid is None:
            return None
        root = self._entries(repository, _tree_of(repository, oid))
        outer, folder = _split(root, _ROOT_FOLDER)
        _refuse_file(branch, names.ARTIFACT_ROOT.split("/")[0], folder)
        inner: list[TreeEntry] = []
        codes: TreeEntry | None = None
        if folder is not None:
            inner, codes = _split(self._entries(repository, folder.oid.hex()), _CODES_FOLDER)
            _refuse_file(branch, names.ARTIFACT_ROOT, codes)
        return BranchTip(
            commit_oid=bytes.fromhex(oid),
            object_format=repository.object_format,
            root_entries=tuple(outer),
            backtest_entries=tuple(inner),
            artifact_root=None if codes is None else codes.oid,
        )

    @staticmethod
    def _entries(repository: GitRepository, oid: str) -> list[TreeEntry]:
        return parse_tree(repository.read_object(oid)[1], repository.object_format)


def _tree_of(repository: GitRepository, commit_oid: str) -> str:
    kind, data = repository.read_object(commit_oid)
    first = data.split(b"\n", 1)[0].decode("ascii", "replace")
    if kind != "commit" or not first.startswith(_TREE_HEADER):
        raise IntegrityError(f"git object {commit_oid} is not a commit", subject=commit_oid)
    return first.removeprefix(_TREE_HEADER)


def _refuse_file(branch: str, path: str, entry: TreeEntry | None) -> None:
    """A file in the place of a folder would vanish without a word."""
    if entry is not None and entry.mode != MODE_TREE:
        raise ConflictError(
            f"branch {branch} has a file {path}, where the artifacts' folder has to be", subject=branch
        )


def _split(entries: list[TreeEntry], name: bytes) -> tuple[list[TreeEntry], TreeEntry | None]:
    """Return the entries without the named one, and that one."""
    named = [entry for entry in entries if entry.name == name]
    return [entry for entry in entries if entry.name != name], named[0] if named else None

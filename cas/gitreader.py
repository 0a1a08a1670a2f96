"""The seam through which the store learns what a git repository already holds, without starting git itself.

A rollback onto a branch that only git knows needs that branch's tip once. Whoever can read git registers under the
entry point group ``cas.git_reader``; the distribution's own exporter does. Invariant: nothing is loaded before it is
needed, so the commit path never touches git.
"""

from __future__ import annotations

import dataclasses
import errno
import importlib.metadata
import stat
from typing import TYPE_CHECKING, Final, Protocol, cast

from cas.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from cas.config import ArtifactStoreConfig
    from cas.objects import TreeEntry

ENTRY_POINT_GROUP: Final = "cas.git_reader"
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


@dataclasses.dataclass(frozen=True, slots=True)
class BranchTip:
    """A branch's tip in git: its commit, what stands beside the artifact root, and the artifact root's tree.

    Attributes:
        commit_oid: Raw id of the tip.
        object_format: Id format of the repository.
        root_entries: The root tree without ``Backtest``.
        backtest_entries: The tree ``Backtest`` without ``codes``; empty when there is none.
        artifact_root: Raw id of the tree ``Backtest/codes``, None when there is none.
    """

    commit_oid: bytes
    object_format: str
    root_entries: tuple[TreeEntry, ...]
    backtest_entries: tuple[TreeEntry, ...]
    artifact_root: bytes | None


class GitReader(Protocol):
    """Reads branch tips; must not change the repository."""

    def branch_tip(self, repo_path: Path, branch: str) -> BranchTip | None:
        """Return the tip of a branch, or None when there is no such branch or no repository.

        Raises:
            GitCommandFailedError: git is missing or failed.
        """
        ...


def find_git_reader(config: ArtifactStoreConfig) -> GitReader | None:
    """Return the registered reader, or None when none is installed or there is no repository to read.

    Raises:
        StorageError: One may not look whether there is a repository, or its disk failed.
    """
    try:
        mode = config.repo_path.stat().st_mode  # Path.is_dir hides that one may not look, from Python 3.14 on
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        is_denied = isinstance(error, PermissionError)
        raise StorageError(
            f"{'no permission' if is_denied else 'it was not possible'} to look at {config.repo_path}",
            subject=str(config.repo_path),
            kind="permission_denied" if is_denied else "io_error",
        ) from error
    if not stat.S_ISDIR(mode):
        return None
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        return cast("GitReader", entry_point.load()(config))
    return None

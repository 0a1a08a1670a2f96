"""The test kit's other half: the rules of export and push, on top of `cas.testing`.

    from cas.testing import rollback_test_case
    from gitexport.testing import ExportMachine

Invariant: whatever was promised at commit is what git shows, after any order of exports, crashes and lost answers.
Needs git and the extra ``testing``. Nothing outside of tests imports this module.
"""

# ruff: noqa: S101  a kit for tests asserts

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from cas.testing import RollbackMachine, SimulatedCrash, crash_at_transaction
from gitexport.exporter import Exporter
from gitexport.repository import GitRepository
from gitexport.verify import verify_export

if TYPE_CHECKING:
    from cas import ArtifactStore
    from cas.testing import StoreModel

__all__ = ["ExportMachine", "assert_git_holds_what_was_promised"]

_REMOTE = "remote.git"


def assert_git_holds_what_was_promised(
    store: ArtifactStore, model: StoreModel, repository: GitRepository, *, namespace: str = "refs/heads/"
) -> None:
    """Every branch of the model ends in git in the id that was promised, every tag leads to its commit, fsck is clean.

    Raises:
        AssertionError: git shows something else.
    """
    refs = repository.list_refs(("refs",), peeled=True)
    for branch, steps in model.branches.items():
        shown = refs.get(namespace + branch)
        assert shown is not None, f"git has no branch {branch}"
        assert shown.oid == steps[-1].commit_sha, f"{branch} is not where it was promised to be"
    for stored in model.runs:
        shown = refs.get(f"refs/tags/{stored.tag}")
        assert shown is not None, f"git has no tag {stored.tag}"
        assert stored.commit_sha in {shown.oid, shown.peeled}, f"{stored.tag} leads elsewhere"
    assert repository.fsck_strict() == (), "git finds fault with the repository"
    assert store.object_format == repository.object_format


class ExportMachine(RollbackMachine):
    """Adds exports, pushes to a repository beside, and crashes of both."""

    def prepare(self) -> None:
        """Make the repository to export to, and the one to push to."""
        object_format = self.config.object_format
        self.repository = GitRepository.create_bare(self.own_config().repo_path, object_format)
        self.remote = GitRepository.create_bare(self.directory / _REMOTE, object_format)

    def _export(self, *, push: bool) -> None:
        exporter = Exporter(self.store, remote=str(self.directory / _REMOTE))
        summary = exporter.run(push=push, pause=lambda _: None)
        assert summary.state == "done", summary

    @rule(push=st.booleans())
    def export(self, *, push: bool) -> None:
        """Export what is queued, and push it or not."""
        self._export(push=push)

    @precondition(lambda self: self.model.runs)
    @rule(transactions=st.integers(0, 2), when=st.sampled_from(["before", "after"]), push=st.booleans())
    def crash_during_export(self, transactions: int, when: str, *, push: bool) -> None:
        """End at a receipt; the next export ends in the same repository."""
        try:
            with crash_at_transaction(
                self.store, transactions, when="after" if when == "after" else "before"
            ):
                self._export(push=push)
        except SimulatedCrash:
            self.reopen()

    @rule()
    def verify_export(self) -> None:
        """Compare store and git, wherever both hold a run."""
        report = verify_export(self.store)
        assert report.ok, report.faults

    def teardown(self) -> None:
        """Export and push all that is left, and find every promise in both repositories."""
        try:
            self._export(push=True)
            for repository in (self.repository, self.remote):
                assert_git_holds_what_was_promised(self.store, self.model, repository)
        finally:
            super().teardown()

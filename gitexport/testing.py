"""The test kit's other half: the rules and faults of export and push, on top of `cas.testing`.

    from cas.testing import rollback_test_case
    from gitexport.testing import ExportMachine

Invariant: whatever was promised at commit is what git shows, after any order of exports, crashes and lost answers. The
faults are wrappers around the exporter's two doors, the move of a batch's refs and the call that talks to a remote; the
product has no switch for them. Needs git and the extra ``testing``. Nothing outside of tests imports this module.
"""

# ruff: noqa: S101  a kit for tests asserts

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from cas.errors import ArtifactStoreError, GitCommandFailedError
from cas.testing import (
    RollbackMachine,
    SimulatedCrash,
    crash_at_flush,
    crash_at_rename,
    crash_at_transaction,
    failing_files,
)
from cas.testing.faults import Countdown, crash_when, wrapped_call
from gitexport import archiving, writer
from gitexport.archive import Archive
from gitexport.exporter import Exporter
from gitexport.repository import GitRepository
from gitexport.verify import verify_export

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Literal

    from cas import ArtifactStore
    from cas.testing import StoreModel
    from cas.testing.faults import When

    Step = Literal["transaction", "flush", "rename", "ref update", "push"]

__all__ = [
    "ExportMachine",
    "assert_git_holds_what_was_promised",
    "crash_at_push",
    "crash_at_ref_update",
    "lost_push_answer",
]

_REMOTE: Final = "remote.git"
_STEPS: Final = ("transaction", "flush", "rename", "ref update", "push")


@contextlib.contextmanager
def crash_at_ref_update(after_count: int = 0, *, when: When = "before") -> Generator[Countdown]:
    """Let an export or roll-up of this process "end" where the refs of a batch move.

    Args:
        after_count: How many batches still go through before.
        when: ``before`` the refs move, or ``after``, when git shows the runs and the store has no receipt yet.

    Yields:
        The countdown, which tells whether the crash came.
    """
    countdown = Countdown(after_count)
    crash = crash_when(countdown, when)

    def before() -> None:
        crash("before")

    def after() -> None:
        crash("after")

    with (
        wrapped_call(writer, "update_refs", before=before, after=after),
        wrapped_call(archiving, "update_refs", before=before, after=after),
    ):
        yield countdown


@contextlib.contextmanager
def crash_at_push(after_count: int = 0, *, when: When = "before") -> Generator[Countdown]:
    """Let an export of this process "end" at a push.

    Args:
        after_count: How many pushes still go through before.
        when: ``before`` the remote hears of it, or ``after`` it took the refs.
    """
    countdown = Countdown(after_count)
    crash = crash_when(countdown, when)
    with _wrapped_pushes(lambda: crash("before"), lambda: crash("after")):
        yield countdown


@contextlib.contextmanager
def lost_push_answer(count: int = 1, *, arrives: bool = True) -> Generator[Countdown]:
    """Let the answers to some pushes get lost, as when a connection breaks.

    Args:
        count: To how many pushes, from the first one on.
        arrives: Whether the remote gets these pushes; the exporter cannot tell.

    Yields:
        A countdown of the answers that are still to be lost.
    """
    countdown = Countdown(count)

    def lose() -> None:
        if not countdown.strikes():
            raise GitCommandFailedError("git push did not end: the connection broke", kind="git_timeout")

    def nothing() -> None:
        pass

    with _wrapped_pushes(nothing if arrives else lose, lose if arrives else nothing):
        yield countdown


@contextlib.contextmanager
def _wrapped_pushes(before: Callable[[], None], after: Callable[[], None]) -> Generator[None]:
    def is_push(words: tuple[Any, ...]) -> bool:
        _, arguments = words[:2]
        return bool(arguments[0] == "push")

    with wrapped_call(GitRepository, "run_remote", before=before, after=after, applies=is_push):
        yield


def assert_git_holds_what_was_promised(
    store: ArtifactStore, model: StoreModel, repository: GitRepository, *, namespace: str = "refs/heads/"
) -> None:
    """Every branch of the model ends in git in the id that was promised, every tag leads to its commit, fsck is clean.

    A branch or tag that was rolled up is not there, and its commit is reachable from the archive.

    Raises:
        AssertionError: git shows something else.
    """
    refs = repository.list_refs(("refs",), peeled=True)
    for branch, steps in model.branches.items():
        shown = refs.get(namespace + branch)
        if shown is None and _is_archived(store, repository, steps[-1].commit_sha):
            continue
        assert shown is not None, f"git has no branch {branch}"
        assert shown.oid == steps[-1].commit_sha, f"{branch} is not where it was promised to be"
    for stored in model.runs:
        shown = refs.get(f"refs/tags/{stored.tag}")
        if shown is None and _is_archived(store, repository, stored.commit_sha):
            continue
        assert shown is not None, f"git has no tag {stored.tag}"
        assert stored.commit_sha in {shown.oid, shown.peeled}, f"{stored.tag} leads elsewhere"
    assert repository.fsck_strict() == (), "git finds fault with the repository"
    assert store.object_format == repository.object_format


def _is_archived(store: ArtifactStore, repository: GitRepository, commit_sha: str) -> bool:
    tip = Archive(store, repository).tip
    return tip is not None and repository.stands_on(tip, commit_sha)


class ExportMachine(RollbackMachine):
    """Adds exports, pushes to a repository beside, roll-ups, crashes at each of their steps, and lost answers."""

    has_exporter = True

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
    @rule(
        step=st.sampled_from(_STEPS),
        after_count=st.integers(0, 2),
        when=st.sampled_from(["before", "after"]),
        push=st.booleans(),
    )
    def crash_during_export(self, step: Step, after_count: int, when: When, *, push: bool) -> None:
        """End at a step; the next export ends in the same repository."""
        try:
            with self._crash(step, after_count, when):
                self._export(push=push or step == "push")
        except SimulatedCrash:
            self.reopen()

    def _crash(
        self, step: Step, after_count: int, when: When
    ) -> contextlib.AbstractContextManager[Countdown]:
        if step == "transaction":
            return crash_at_transaction(self.store, after_count, when=when)
        if step == "ref update":
            return crash_at_ref_update(when=when)
        if step == "push":
            return crash_at_push(when=when)
        at = crash_at_flush if step == "flush" else crash_at_rename
        return at(self.repository.common_dir, after_count, when=when)

    @precondition(lambda self: self.model.runs)
    @rule(count=st.integers(1, 2), arrives=st.booleans())
    def lose_push_answers(self, count: int, *, arrives: bool) -> None:
        """Push over a line that breaks: the remote is asked, and what it lacks is pushed again."""
        with lost_push_answer(count, arrives=arrives):
            self._export(push=True)
        self._assert_remote_has_what_is_noted()

    @precondition(lambda self: self.model.runs)
    @rule(after_count=st.integers(0, 4))
    def export_to_a_failing_disk(self, after_count: int) -> None:
        """Export while the repository's disk fails: the receipts of what is not there are not written."""
        with failing_files(self.repository.common_dir, after_count), contextlib.suppress(ArtifactStoreError):
            self._export(push=False)
        refs = self.repository.list_refs(("refs/tags",))
        for stored in self.model.runs:
            state = self.store.export_status(stored.run.correlation_id, revision=stored.revision)
            if state["export_state"] != "queued" and f"refs/tags/{stored.tag}" not in refs:
                assert _is_archived(self.store, self.repository, stored.commit_sha), (
                    f"{stored.tag} counts as exported, and is not in git"
                )

    def _roll_up(self, keep_newest: int, *, delete_remote: bool) -> None:
        summary = archiving.archive_branches(
            self.store,
            remote=str(self.directory / _REMOTE),
            keep_newest=keep_newest,
            push=True,
            delete_remote=delete_remote,
            pause=lambda _: None,
        )
        assert summary.state == "done", summary

    @precondition(lambda self: self.model.runs)
    @rule(keep_newest=st.integers(0, 2), delete_remote=st.booleans())
    def roll_up(self, keep_newest: int, *, delete_remote: bool) -> None:
        """Roll up all branches but the newest, here, and at the remote or not."""
        self._roll_up(keep_newest, delete_remote=delete_remote)
        self._assert_remote_has_what_is_noted()

    @precondition(lambda self: self.model.runs)
    @rule(
        step=st.sampled_from(_STEPS[1:]),
        after_count=st.integers(0, 2),
        when=st.sampled_from(["before", "after"]),
    )
    def crash_during_roll_up(self, step: Step, after_count: int, when: When) -> None:
        """End at a step of a roll-up; nothing is out of reach, and the next one ends the same."""
        try:
            with self._crash(step, after_count, when):
                self._roll_up(0, delete_remote=True)
        except SimulatedCrash:
            self.reopen()
        self._assert_remote_has_what_is_noted()

    def _assert_remote_has_what_is_noted(self) -> None:
        refs = self.remote.list_refs(("refs",))
        for stored in self.model.runs:
            if f"refs/tags/{stored.tag}" in refs:
                continue
            if self.store.export_status(stored.run.correlation_id, revision=stored.revision)["pushed"]:
                assert _is_archived(self.store, self.remote, stored.commit_sha), (
                    f"{stored.tag} counts as pushed, and is not there"
                )

    @rule()
    def verify_export(self) -> None:
        """Compare store and git, wherever both hold a run; what counts as pushed is on the remote."""
        report = verify_export(self.store)
        assert report.ok, report.faults
        self._assert_remote_has_what_is_noted()

    def teardown(self) -> None:
        """Export and push all that is left, and find every promise in both repositories."""
        try:
            self._export(push=True)
            for repository in (self.repository, self.remote):
                assert_git_holds_what_was_promised(self.store, self.model, repository)
        finally:
            super().teardown()

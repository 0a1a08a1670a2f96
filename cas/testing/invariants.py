"""What must hold of a store at any moment, compared with a model of what it was told; one function each.

Invariant: they read and change nothing. Each raises AssertionError with the run or branch that breaks it.
"""

# ruff: noqa: S101  a kit for tests asserts

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas import ArtifactStore
    from cas.testing.model import StoreModel

_ALL: Final = 100_000


def assert_runs_found(store: ArtifactStore, model: StoreModel) -> None:
    """Every acknowledged run is found by correlation ID and revision, under the id that was promised."""
    for stored in model.runs:
        found = store.get_artifact_by_correlation_id(stored.run.correlation_id, revision=stored.revision)
        if stored.is_forgotten:
            assert found is None, f"{stored.tag} was forgotten and is still shown"
        else:
            assert found is not None, f"{stored.tag} is lost"
            assert found["commit_sha"] == stored.commit_sha, f"{stored.tag} has another id than promised"


def assert_files_kept(store: ArtifactStore, model: StoreModel) -> None:
    """Every file of every run reads back byte for byte."""
    for stored in model.shown:
        for name, content in stored.run.files.items():
            assert store.read_file(stored.commit_sha, name) == content, f"{stored.tag}: {name} has changed"


def assert_listed_newest_first(store: ArtifactStore, model: StoreModel) -> None:
    """The list shows every run that is not forgotten, and no other, newest first."""
    listed = [run["commit_sha"] for run in store.list_artifacts(limit=_ALL)]
    assert listed == [stored.commit_sha for stored in reversed(model.shown)], (
        "the list differs from what was committed"
    )


def assert_branches_grow_only(store: ArtifactStore, model: StoreModel) -> None:
    """Every branch holds every commit it ever had, newest first, rollbacks included."""
    for branch, steps in model.branches.items():
        expected = [
            step.commit_sha for step in reversed(steps) if step.is_rollback or not step.shows.is_forgotten
        ]
        history = store.history(branch, limit=_ALL)
        found = [step["commit_sha"] for step in history]
        assert found == expected, f"the history of {branch} has changed"
        before = {step.commit_sha: older.commit_sha for older, step in itertools.pairwise(steps)}
        for step in history:
            assert step["parent"] == before.get(str(step["commit_sha"])), (
                f"{branch}: a commit stands on another one"
            )


def assert_branches_show_what_they_should(store: ArtifactStore, model: StoreModel) -> None:
    """The newest commit of every branch shows exactly the files of the run it stands for."""
    for branch, steps in model.branches.items():
        tip = steps[-1]
        if tip.shows.is_forgotten:
            continue
        shown = {file["name"] for file in store.list_files(tip.commit_sha)}
        assert shown == set(tip.shows.run.files), f"{branch} does not show the files of {tip.shows.tag}"
        for name, content in tip.shows.run.files.items():
            assert store.read_file(tip.commit_sha, name) == content, (
                f"{branch}: {name} is not {tip.shows.tag}'s"
            )


def assert_rollbacks_certified(store: ArtifactStore, model: StoreModel) -> None:
    """The certificate of every branch that ends in a rollback is good, all files hashed again."""
    for branch, steps in model.branches.items():
        tip = steps[-1]
        if tip.is_rollback and not tip.shows.is_forgotten:
            proof = store.verify_rollback(tip.shows.tag, branch)
            assert proof.ok, f"{branch} does not hold {tip.shows.tag}: {proof.as_dict()}"


def assert_pages_cover_the_list(store: ArtifactStore, model: StoreModel, size: int = 3) -> None:
    """Page after page, in any order, gives each run once.

    Args:
        store: An open store.
        model: What it was told.
        size: Runs of a page.
    """
    for sort, ascending in ((None, False), (None, True), ("net_pnl", False), ("note", True)):
        order = f"by {sort or 'commit'}{', ascending' if ascending else ''}"
        after, seen = None, list[str]()
        while page := store.list_artifacts(limit=size, after=after, sort=sort, ascending=ascending):
            seen += [str(run["commit_sha"]) for run in page]
            after = seen[-1]
            assert len(seen) <= len(model.shown), f"a page {order} repeats a run"
        assert sorted(seen) == sorted(stored.commit_sha for stored in model.shown), (
            f"pages {order} miss a run"
        )


def assert_tags_never_move(store: ArtifactStore, model: StoreModel) -> None:
    """Every correlation tag names the commit it named first."""
    for stored in model.shown:
        assert store.show(stored.tag)["commit_sha"] == stored.commit_sha, f"tag {stored.tag} has moved"


def assert_verifies(store: ArtifactStore, tolerated: Sequence[str] = ("segments_referenced",)) -> None:
    """A full verify finds nothing.

    Args:
        store: An open store.
        tolerated: Checks whose findings do not count; by default what a crash amid a large file leaves for `gc`.
    """
    faults = [fault.as_dict() for fault in store.verify().faults if fault.check not in tolerated]
    assert not faults, f"verify finds {faults}"


def assert_unknown_is_not_found(store: ArtifactStore, correlation_id: str) -> None:
    """What was never acknowledged is not there."""
    assert store.get_artifact_by_correlation_id(correlation_id) is None, (
        f"{correlation_id} is there, half-visible"
    )


def assert_all(store: ArtifactStore, model: StoreModel) -> None:
    """Everything above that holds at any moment."""
    assert_runs_found(store, model)
    assert_listed_newest_first(store, model)
    assert_tags_never_move(store, model)
    assert_branches_grow_only(store, model)
    assert_branches_show_what_they_should(store, model)
    assert_rollbacks_certified(store, model)
    assert_pages_cover_the_list(store, model)
    assert_files_kept(store, model)
    assert_verifies(store)

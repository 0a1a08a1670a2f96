"""A store as plain dictionaries: what was promised, and so what must be there.

Invariant: the model knows only what the public calls were given and what they answered; it never looks into a store.
"""

# ruff: noqa: S101  a kit for tests asserts

from __future__ import annotations

import copy
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from cas import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cas.testing.strategies import Run


@dataclasses.dataclass
class StoredRun:
    """One revision that was acknowledged.

    Attributes:
        run: Its arguments.
        key: Its correlation ID in the form the store keeps.
        revision: Counted from 1.
        commit_sha: The id that was promised.
        branch: Where it stands.
        tag: The correlation tag of the revision.
        is_forgotten: True while it is not shown.
        is_collected: True once its files may be gone.
    """

    run: Run
    key: str
    revision: int
    commit_sha: str
    branch: str
    tag: str
    is_forgotten: bool = False
    is_collected: bool = False


@dataclasses.dataclass
class Step:
    """One commit of a branch: a run, or a rollback to one."""

    commit_sha: str
    shows: StoredRun
    is_rollback: bool


class StoreModel:
    """What a store was told, in order."""

    def __init__(self) -> None:
        self.runs: list[StoredRun] = []
        self.branches: dict[str, list[Step]] = {}

    def find(self, run: Run) -> StoredRun | None:
        """Return the revision with exactly this content, or None."""
        for stored in self.runs:
            if stored.key == key_of(run.correlation_id) and _content(stored.run) == _content(run):
                return stored
        return None

    def revisions(self, correlation_id: str) -> list[StoredRun]:
        """Return the revisions of a correlation ID, oldest first."""
        return [stored for stored in self.runs if stored.key == key_of(correlation_id)]

    def committed(self, run: Run, answer: Mapping[str, Any]) -> StoredRun:
        """Take in the answer to a commit, and check it against what the model expected.

        Raises:
            AssertionError: The answer is not what it had to be.
        """
        known = self.find(run)
        if known is not None:
            assert (answer["revision"], answer["commit_sha"]) == (known.revision, known.commit_sha), (
                "the same run again must give the same answer"
            )
            known.is_forgotten = known.is_collected = False
            return known
        earlier = self.revisions(run.correlation_id)
        assert answer["revision"] == len(earlier) + 1, "other content must be the next revision"
        stored = StoredRun(
            run=run,
            key=key_of(run.correlation_id),
            revision=answer["revision"],
            commit_sha=answer["commit_sha"],
            branch=answer["branch"],
            tag=answer["tags"][0],
        )
        assert all(stored.commit_sha != other.commit_sha for other in self.runs), "two runs have one id"
        self.runs.append(stored)
        self._step(stored.branch, Step(stored.commit_sha, stored, is_rollback=False))
        return stored

    def reverted(self, stored: StoredRun, branch: str, answer: Mapping[str, Any]) -> None:
        """Take in the answer to a rollback.

        Raises:
            AssertionError: The answer is not what it had to be.
        """
        assert answer["certificate"]["ok"], f"the certificate finds {answer['certificate']}"
        steps = self.branches.get(branch, [])
        tip = steps[-1] if steps else None
        if answer["created"]:
            assert tip is None or answer["commit_sha"] != tip.commit_sha
            self._step(branch, Step(answer["commit_sha"], stored, is_rollback=True))
        else:
            assert tip is not None, "a new branch needs a commit"
            assert answer["commit_sha"] == tip.commit_sha, "nothing to do, but the branch has moved"

    def _step(self, branch: str, step: Step) -> None:
        self.branches.setdefault(branch, []).append(step)

    @property
    def shown(self) -> list[StoredRun]:
        """The runs that are not forgotten, oldest first."""
        return [stored for stored in self.runs if not stored.is_forgotten]


def copy_of(model: StoreModel) -> StoreModel:
    """Return a model of the same past, whose future is its own."""
    return copy.deepcopy(model)


def key_of(correlation_id: str) -> str:
    """Return the form under which the store keeps a correlation ID."""
    return names.canonical_correlation_id(correlation_id)


def _content(run: Run) -> tuple[object, ...]:
    return (
        run.workflow_id,
        run.task_id,
        run.prompt_hash,
        run.files,
        json.dumps(run.metadata, sort_keys=True),
    )

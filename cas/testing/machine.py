"""The rule-based state machine: any order of what a store can be told, and what must hold after each of it.

Invariant: the store under test is only ever told things through its public calls; what is put around it comes from
`cas.testing.faults`. Runs in a folder of its own, which it removes.
"""

# ruff: noqa: S101  a kit for tests asserts

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cas import ArtifactStore, ArtifactStoreConfig, RetentionPolicy, compact_store, outbox, restore_store
from cas.errors import IntegrityError, NotFoundError, StorageError
from cas.heal import store_source
from cas.testing import faults, invariants
from cas.testing.clock import SimulatedClock
from cas.testing.model import StoredRun, StoreModel, copy_of, key_of
from cas.testing.strategies import Run, ids, runs

# Few, so that revisions, shared branches and repeated rollbacks come about within some tens of steps.
_IDS = st.sampled_from(["a", "b", "c/d", "corr_e"]) | ids()
_RUNS = runs(_IDS, st.sampled_from(["wf", "wf/2"]), st.sampled_from(["t", "u v"]))
_BRANCHES = st.sampled_from(["main", "release/1"])
_REPOSITORY = "repo"
_BACKUP = "backup"


class NoGitBranches:
    """Says that git knows no branch, so that the store is tested without git."""

    def branch_tip(self, repo_path: Path, branch: str) -> None:
        """Return None."""


class RollbackMachine(RuleBasedStateMachine):
    """Commits, revisions, batches, rollbacks, crashes, faults and reopening, in any order.

    Subclass it, or use `rollback_test_case`, to run it against a configuration of your own; paths in it are replaced.
    """

    config: ClassVar[ArtifactStoreConfig] = ArtifactStoreConfig(scan_for_secrets=False)
    # Without an exporter: nothing is forgotten before it is in git, so that receipts have to come from somewhere; and a
    # backup older than the last of them can be gone back to, as no git knows of later runs.
    has_exporter: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="cas-rollback-"))
        self.store_path = self.directory / "store"
        self.kept: StoreModel | None = None
        self.clock = SimulatedClock()
        self.model = StoreModel()
        self.prepare()
        self.store = self.open_store()

    def prepare(self) -> None:
        """Make what has to be there before the store is opened; for subclasses."""

    def open_store(self) -> ArtifactStore:
        """Open the store under test; a subclass may open another one."""
        return ArtifactStore(self.own_config(), clock=self.clock, git_reader=NoGitBranches())

    def own_config(self) -> ArtifactStoreConfig:
        """Return the configuration under test, with the folders of this example."""
        return self.config.replace(repo_path=self.directory / _REPOSITORY, store_path=self.store_path)

    def teardown(self) -> None:
        """Check everything once more, and remove the folder."""
        try:
            invariants.assert_all(self.store, self.model)
        finally:
            self.store.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    # Writing

    @rule(run=_RUNS)
    def commit(self, run: Run) -> None:
        """Commit a run; a known one gives its old answer."""
        self.model.committed(run, self.store.commit_artifacts(**run.arguments()))

    @precondition(lambda self: self.model.runs)
    @rule(data=st.data())
    def commit_again(self, data: st.DataObject) -> None:
        """Commit a run that is there, as an at-least-once bus does."""
        run = self.pick(data, self.model.runs).run
        self.model.committed(run, self.store.commit_artifacts(**run.arguments()))

    @precondition(lambda self: self.model.runs)
    @rule(data=st.data(), content=st.binary(max_size=50))
    def commit_revision(self, data: st.DataObject, content: bytes) -> None:
        """Commit other content under a known correlation ID."""
        known = self.pick(data, self.model.runs).run
        run = dataclasses.replace(known, files={**known.files, "revised.bin": content})
        self.model.committed(run, self.store.commit_artifacts(**run.arguments()))

    @rule(batch=st.lists(_RUNS, min_size=1, max_size=4))
    def commit_many(self, batch: list[Run]) -> None:
        """Commit a batch in one transaction."""
        answers = self.store.commit_many([run.arguments() for run in batch])  # type: ignore[misc]
        for run, answer in zip(batch, answers, strict=True):
            assert answer["success"], answer["error"]
            self.model.committed(run, answer)

    @rule(run=_RUNS)
    def write_run(self, run: Run) -> None:
        """Commit a run whose files came one by one."""
        words = run.workflow_id, run.task_id, run.correlation_id, run.prompt_hash
        with self.store.open_run(*words) as writer:
            for name, content in run.files.items():
                writer.add_bytes(name, content)
            self.model.committed(run, writer.commit(run.metadata))

    @rule(run=_RUNS)
    def discard_run(self, run: Run) -> None:
        """Begin a run and give it up."""
        with self.store.open_run(run.workflow_id, run.task_id, run.correlation_id) as writer:
            for name, content in run.files.items():
                writer.add_bytes(name, content)

    # Going back

    @precondition(lambda self: self.model.shown)
    @rule(data=st.data(), branch=_BRANCHES)
    def revert(self, data: st.DataObject, branch: str) -> None:
        """Roll a branch back to any tag."""
        stored = self.pick(data, self.model.shown)
        self.model.reverted(stored, branch, self.store.revert_to_tag(stored.tag, branch))

    @precondition(lambda self: self.model.shown)
    @rule(data=st.data())
    def revert_own_branch(self, data: st.DataObject) -> None:
        """Roll a run's own branch back, and once more, which changes nothing."""
        stored = self.pick(data, self.model.shown)
        branch = self.pick(data, self.model.shown).branch
        first = self.store.revert_to_tag(stored.tag, branch)
        self.model.reverted(stored, branch, first)
        again = self.store.revert_to_tag(stored.tag, branch)
        assert not again["created"], "rolling back twice is not safe"
        assert again["commit_sha"] == first["commit_sha"]

    @rule(tag=_IDS.map(lambda text: f"corr_never {text}"))
    def revert_to_nothing(self, tag: str) -> None:
        """Ask for a tag that was never made."""
        try:
            self.store.revert_to_tag(tag)
        except NotFoundError:
            return
        raise AssertionError(f"a rollback to {tag!r} was accepted")

    # Keeping

    @precondition(lambda self: not self.has_exporter)
    @rule()
    def receive_exports(self) -> None:
        """Write the receipts that an exporter writes for all that is queued."""
        with self.store.environment.write() as transaction:
            queued = [number for number, _ in outbox.iter_entries(transaction, outbox.Stage.WRITE)]
            outbox.record_exported(transaction, queued, self.store.now_us())

    @precondition(lambda self: self.model.shown)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """Ask for a run to be forgotten; the store says whether it may be."""
        stored = self.pick(data, self.model.shown)
        for decision in self.store.forget([stored.tag]):
            stored.is_forgotten = decision["action"] == "forget"

    @precondition(lambda self: any(stored.is_forgotten for stored in self.model.runs))
    @rule(data=st.data())
    def undelete(self, data: st.DataObject) -> None:
        """Bring a forgotten run back, which works until its files were collected."""
        stored = self.pick(data, [stored for stored in self.model.runs if stored.is_forgotten])
        try:
            back = self.store.undelete(stored.tag)
        except NotFoundError:
            assert stored.is_collected, f"{stored.tag} cannot be brought back"
            return
        assert back["commit_sha"] == stored.commit_sha
        stored.is_forgotten = False

    @precondition(lambda self: self.model.shown)
    @rule(data=st.data())
    def forget_and_undelete(self, data: st.DataObject) -> None:
        """Forget a run that is in git, if it may be, and bring it back at once: everything is as it was."""
        if not self.has_exporter:
            self.receive_exports()
        stored = self.pick(data, self.model.shown)
        before = self.store.show(stored.tag)
        if [decision["action"] for decision in self.store.forget([stored.tag])] == ["forget"]:
            assert self.store.undelete(stored.tag) == before, f"{stored.tag} came back as another"

    @rule()
    def collect_garbage(self) -> None:
        """Remove what nothing references."""
        self.store.gc()
        for stored in self.model.runs:
            stored.is_collected = stored.is_collected or stored.is_forgotten

    @precondition(lambda self: self.model.shown)
    @rule(keep_last=st.integers(1, 3))
    def forget_by_policy(self, keep_last: int) -> None:
        """Forget all but the newest runs of each workflow, as far as the store allows."""
        policy = RetentionPolicy(keep_last=keep_last)
        planned = self.store.forget(policy=policy, dry_run=True)
        assert self.store.forget(policy=policy) == planned, "a dry run told of something else"
        gone = {
            (key_of(str(decision["correlation_id"])), decision["revision"])
            for decision in planned
            if decision["action"] == "forget"
        }
        for stored in self.model.shown:
            shown = self.store.get_artifact_by_correlation_id(
                stored.run.correlation_id, revision=stored.revision
            )
            stored.is_forgotten = shown is None
        forgotten = {(s.key, s.revision) for s in self.model.runs if s.is_forgotten}
        assert gone <= forgotten, "what was to go is still shown"

    @precondition(lambda self: self.model.shown)
    @rule(data=st.data())
    def forget_a_pinned_run(self, data: st.DataObject) -> None:
        """Ask for a pinned run to be forgotten, which is refused."""
        stored = self.pick(data, self.model.shown)
        self.store.pin(stored.tag)
        decisions = self.store.forget([stored.tag])
        assert [decision["action"] for decision in decisions] == ["keep"], f"{stored.tag} was pinned"
        assert self.store.unpin(stored.tag)

    @rule()
    def back_up(self) -> None:
        """Copy the store, find the same in the copy, and keep it."""
        place = self.directory / _BACKUP
        shutil.rmtree(place, ignore_errors=True)
        self.store.backup(place)
        config = self.own_config().replace(store_path=place)
        with ArtifactStore(config, git_reader=NoGitBranches(), read_only=True) as copy:
            invariants.assert_runs_found(copy, self.model)
            invariants.assert_branches_grow_only(copy, self.model)
        self.kept = copy_of(self.model)

    @rule()
    def restore(self) -> None:
        """Lose the store, and go on with the last backup, which may be older."""
        if self.kept is None or self.has_exporter:
            self.back_up()
        assert self.kept is not None
        self.store.close()
        shutil.rmtree(self.store_path)
        self.store_path = self.store_path.with_name(f"{self.store_path.name}+")
        restore_store(self.directory / _BACKUP, self.own_config())
        self.model = copy_of(self.kept)
        self.store = self.open_store()

    @rule()
    def compact(self) -> None:
        """Make the file of the closed store smaller."""
        self.store.close()
        compact_store(self.own_config())
        self.store = self.open_store()

    # Misfortune

    @rule()
    def reopen(self) -> None:
        """Close the store and open it anew."""
        self.store.close()
        self.store = self.open_store()

    @rule(run=_RUNS, when=st.sampled_from(["before", "after"]))
    def crash_during_commit(self, run: Run, when: faults.When) -> None:
        """End at the flush: before it nothing is stored, after it everything but the answer."""
        was_known = self.model.find(run) is not None
        has_crashed = False
        try:
            with faults.crash_at_transaction(self.store, when=when):
                self.store.commit_artifacts(**run.arguments())
        except faults.SimulatedCrash:
            has_crashed = True
            self.reopen()
        if has_crashed and when == "before" and not was_known:
            invariants.assert_runs_found(self.store, self.model)
            return
        self.model.committed(run, self.store.commit_artifacts(**run.arguments()))

    @precondition(lambda self: self.model.shown)
    @rule(data=st.data(), branch=_BRANCHES, when=st.sampled_from(["before", "after"]))
    def crash_during_revert(self, data: st.DataObject, branch: str, when: faults.When) -> None:
        """End at the flush of a rollback; asking again ends in the same place."""
        stored = self.pick(data, self.model.shown)
        before = len(self.model.branches.get(branch, []))
        try:
            with faults.crash_at_transaction(self.store, when=when):
                self.model.reverted(stored, branch, self.store.revert_to_tag(stored.tag, branch))
        except faults.SimulatedCrash:
            self.reopen()
            again = self.store.revert_to_tag(stored.tag, branch)
            self.model.reverted(stored, branch, {**again, "created": again["created"] or when == "after"})
            assert len(self.model.branches[branch]) == before + 1

    @rule(run=_RUNS)
    def fill_disk(self, run: Run) -> None:
        """Commit on a full disk: refused by name, nothing stored, and the next try succeeds."""
        if self.model.find(run) is None:
            kind = None
            try:
                with faults.full_disk(self.store):
                    self.store.commit_artifacts(**run.arguments())
            except StorageError as error:
                kind = error.kind
            assert kind == "disk_full", f"a full disk was answered by {kind or 'a result'}"
        self.model.committed(run, self.store.commit_artifacts(**run.arguments()))

    @precondition(lambda self: self.model.shown)
    @rule(position=st.integers(0, 1 << 20))
    def damage(self, position: int) -> None:
        """Flip a bit of a stored stream: a verify names it."""
        with faults.damaged_stream(self.store, position) as is_damaged:
            if is_damaged:
                assert not self.store.verify().ok, "a flipped bit was not noticed"
        invariants.assert_verifies(self.store)

    @precondition(lambda self: self.model.shown)
    @rule(position=st.integers(0, 1 << 20))
    def damage_and_heal(self, position: int) -> None:
        """Flip a bit for good: a rollback to what it touches is refused, and a copy of the store heals it."""
        self.back_up()
        if faults.damage_stream(self.store, position) is None:
            return
        for stored in self.model.shown:
            steps = len(self.model.branches.get("damaged", []))
            try:
                answer = self.store.revert_to_tag(stored.tag, "damaged")
            except IntegrityError:
                assert self.steps_of("damaged") == steps, "a refused rollback has moved the branch"
            else:
                self.model.reverted(stored, "damaged", answer)
        config = self.own_config().replace(store_path=self.directory / _BACKUP)
        with ArtifactStore(config, git_reader=NoGitBranches(), read_only=True) as copy:
            assert self.store.heal([store_source(copy.environment)]).ok, "the copy did not heal the store"
        invariants.assert_verifies(self.store)

    def steps_of(self, branch: str) -> int:
        """Return how many commits a branch has; none when there is no such branch."""
        try:
            return len(self.store.history(branch, limit=100_000))
        except NotFoundError:
            return 0

    @rule(seconds=st.integers(-(10**6), 10**6))
    def move_clock(self, seconds: int) -> None:
        """Let the clock jump, also backwards."""
        self.clock.jump(seconds)

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every acknowledged run and every step of every branch is there."""
        invariants.assert_runs_found(self.store, self.model)
        invariants.assert_listed_newest_first(self.store, self.model)
        invariants.assert_branches_grow_only(self.store, self.model)

    @staticmethod
    def pick(data: st.DataObject, choices: list[StoredRun]) -> StoredRun:
        """Draw one of the runs."""
        return data.draw(st.sampled_from(choices))


def rollback_test_case(
    config: ArtifactStoreConfig, machine: type[RollbackMachine] = RollbackMachine
) -> type[Any]:
    """Return a test class, for pytest and unittest, that runs a machine against a configuration.

    Args:
        config: The settings under test; ``repo_path`` and ``store_path`` are replaced by folders of each example's own.
        machine: The machine to run, such as ``gitexport.testing.ExportMachine``.
    """
    configured: type[RollbackMachine] = type(machine.__name__, (machine,), {"config": config})
    return configured.TestCase

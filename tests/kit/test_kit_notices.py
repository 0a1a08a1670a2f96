"""The kit shown to fail: stores that were broken on purpose, each in one way, and the machine that must notice."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import Phase, settings

from cas import ArtifactStore, ArtifactStoreConfig, catalog, commit, gc, heal, retention, rollback
from cas.keeper import StoreKeeper
from cas.testing import RollbackMachine, machine, rollback_test_case
from gitexport import batch, push, writer
from gitexport.testing import ExportMachine
from gitexport.transfer import PushAnswer

CONFIG = ArtifactStoreConfig(scan_for_secrets=False)


def run_against(config=CONFIG, kind=RollbackMachine, max_examples=100):
    case = rollback_test_case(config, kind)
    case.settings = settings(
        max_examples=max_examples,
        stateful_step_count=25,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
    )
    case("runTest").runTest()


def break_idempotence(patch):
    patch.setattr(commit.PreparedRun, "_find_content", lambda self, transaction: None)


def break_outbox(patch):
    patch.setattr(commit.outbox, "enqueue", lambda *_: None)


def break_rollback(patch):
    real = ArtifactStore.revert_to_tag

    def moved(self, tag, target_branch="main", *, reason=None):
        newest = self.list_artifacts(limit=1)[0]["tags"][0]
        return real(self, newest, target_branch, reason=reason)

    patch.setattr(ArtifactStore, "revert_to_tag", moved)


def break_list(patch):
    real = ArtifactStore.list_artifacts
    patch.setattr(ArtifactStore, "list_artifacts", lambda self, **words: sorted(real(self, **words), key=str))


def break_parent(patch):
    patch.setattr(commit, "branch_tip", lambda transaction, branch: None)


def break_verify(patch):
    patch.setattr(ArtifactStore, "verify", lambda self, **_: type("Report", (), {"ok": True, "faults": []})())


def break_revisions(patch):
    patch.setattr(catalog, "latest_revision", lambda transaction, correlation_id: None)


def break_backup(patch):
    def backup(self, directory):
        ArtifactStore(CONFIG.replace(repo_path=directory, store_path=directory)).close()

    patch.setattr(StoreKeeper, "backup", backup)


def break_garbage_collection(patch):
    patch.setattr(gc._Marker, "__contains__", lambda self, digest: False)


def break_pins(patch):
    patch.setattr(retention.marks, "find_pin", lambda *_: None)


def break_undelete(patch):
    patch.setattr(retention.visibility, "show", lambda *_: None)


def break_forget(patch):
    patch.setattr(retention.Guard, "reason", lambda self, sequence, commit_oid: None)


def break_restore(patch):
    def restore(source, config):
        ArtifactStore(config).close()

    patch.setattr(machine, "restore_store", restore)


def break_heal(patch):
    patch.setattr(heal, "_heal_from", lambda environment, source, item: True)


def break_pages(patch):
    real = ArtifactStore.list_artifacts

    def inclusive(self, *words, after=None, limit=50, **order):
        """The last run of the page before is the first of the next one."""
        page = real(self, *words, after=after, limit=limit, **order)
        return ([self.show(after), *page] if after else page)[:limit]

    patch.setattr(ArtifactStore, "list_artifacts", inclusive)


def break_other_revision(patch):
    """A rollback to the run before the one that was named."""
    real = rollback.find_tag
    patch.setattr(rollback, "find_tag", lambda transaction, tag: max(real(transaction, tag) - 1, 1))


@pytest.mark.parametrize(("kind", "max_examples"), [(RollbackMachine, 100), (ExportMachine, 25)])
def test_machine_finds_nothing_in_a_store_that_is_not_broken(kind, max_examples):
    """Under the very settings of the tests below, so that what these find is what was broken."""
    if kind is ExportMachine and shutil.which("git") is None:
        pytest.skip("git is not installed")
    run_against(kind=kind, max_examples=max_examples)


BREAKS = [
    break_idempotence,
    break_outbox,
    break_rollback,
    break_list,
    break_parent,
    break_verify,
    break_revisions,
    break_backup,
    break_garbage_collection,
    break_pins,
    break_undelete,
    break_forget,
    break_restore,
    break_heal,
    break_pages,
    break_other_revision,
]


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_machine_notices_a_store_broken_on_purpose(monkeypatch, broken):
    broken(monkeypatch)
    with pytest.raises(BaseException) as caught:  # noqa: PT011  of whatever kind: it must not pass
        run_against()
    assert not isinstance(caught.value, KeyboardInterrupt)


def break_receipts(patch):
    """Receipts of runs whose refs did not move."""
    patch.setattr(writer, "update_refs", lambda repository, changes: None)
    patch.setattr(writer, "_prove", lambda repository, changes: None)


def break_tags(patch):
    """Exports without the runs' tags."""
    real = batch.make_plan

    def without_tags(*words):
        plan = real(*words)
        plan.new_tags.clear()
        return plan

    patch.setattr(batch, "make_plan", without_tags)


def break_lost_answer(patch):
    """A push without an answer counts as one that arrived."""

    def believe(self, groups, reason, *, halve):
        self._settle(groups, push.PushState.PUSHED)
        return []

    patch.setattr(push._Pushing, "_after_silence", believe)


def break_push_receipts(patch):
    """A push that was refused counts as one that was taken."""
    patch.setattr(push, "push_once", lambda *words, **settings: PushAnswer(_All(), ""))


class _All(dict):
    """Says of every ref that the remote took it."""

    def __bool__(self):
        return True

    def get(self, name, default=None):
        return push.RefAnswer(accepted=True, reason="")


EXPORT_BREAKS = [break_receipts, break_tags, break_lost_answer, break_push_receipts]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("broken", EXPORT_BREAKS, ids=lambda broken: broken.__name__)
def test_machine_notices_an_exporter_broken_on_purpose(monkeypatch, broken):
    broken(monkeypatch)
    with pytest.raises(BaseException) as caught:  # noqa: PT011  of whatever kind: it must not pass
        run_against(kind=ExportMachine, max_examples=60)
    assert not isinstance(caught.value, KeyboardInterrupt)

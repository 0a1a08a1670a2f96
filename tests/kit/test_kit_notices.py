"""The kit shown to fail: stores that were broken on purpose, each in one way, and the machine that must notice."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings

from cas import ArtifactStore, ArtifactStoreConfig, catalog, commit
from cas.keeper import StoreKeeper
from cas.testing import RollbackMachine, rollback_test_case

CONFIG = ArtifactStoreConfig(scan_for_secrets=False)


def run_against(config=CONFIG, machine=RollbackMachine):
    case = rollback_test_case(config, machine)
    case.settings = settings(
        max_examples=40, stateful_step_count=15, phases=[Phase.generate], database=None, derandomize=True
    )
    case("runTest").runTest()


def break_idempotence(patch):
    patch.setattr(commit.PreparedRun, "_find_content", lambda self, transaction: None)


def break_outbox(patch):
    patch.setattr(commit.outbox, "enqueue", lambda transaction, sequence: None)


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


BREAKS = [
    break_idempotence,
    break_outbox,
    break_rollback,
    break_list,
    break_parent,
    break_verify,
    break_revisions,
    break_backup,
]


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_machine_notices_a_store_broken_on_purpose(monkeypatch, broken):
    broken(monkeypatch)
    with pytest.raises(BaseException) as caught:  # noqa: PT011  of whatever kind: it must not pass
        run_against()
    assert not isinstance(caught.value, KeyboardInterrupt)

"""What an export tells: its state, its refusals, and where the exports of a store stand."""

import os
import socket

import pytest

from cas import catalog, manifest, outbox
from cas.errors import LeaseHeldError, StorageError
from cas.lmdbenv import Table
from gitexport import lease
from gitexport.summary import ExportSummary, export_status
from tests.store.stores import commit, open_store


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("pending", "parked", "state"), [(0, 0, "done"), (3, 0, "pending"), (0, 2, "parked"), (3, 2, "parked")]
)
def test_state_says_whether_a_person_or_another_run_is_needed(pending, parked, state):
    summary = ExportSummary(pending=pending, parked=parked)
    assert summary.state == summary.as_dict()["state"] == state
    assert summary.as_dict()["pending"] == pending


def test_warning_is_told_once_and_a_refusal_each_time():
    summary = ExportSummary()
    for text in ("a", "b", "a"):
        summary.warn(text)
    assert summary.warnings == ["a", "b"]
    for number in range(1002):
        summary.fail(f"c{number}", "main", "refused")
    assert summary.failure_count == 1002
    assert len(summary.failures) == 1000
    assert summary.failures[-1] == {"label": "c999", "branch": "main", "reason": "refused"}


def test_status_of_a_new_store_is_empty(store):
    assert export_status(store) == {
        "queued": 0, "queued_age_s": None, "awaiting_push": 0, "parked": [], "last_export_at_us": None,
        "last_push_at_us": None, "lease_holder": None,
    }  # fmt: skip


def test_status_tells_the_queue_its_age_and_what_is_parked_and_why(store):
    for number in range(5):
        commit(store, f"c{number}", task_id=f"t{number}")
    with store.environment.write() as transaction:
        outbox.record_exported(transaction, [1, 2], now_us=70)
        outbox.record_pushed(transaction, [1], now_us=80)
        for _ in range(2):
            outbox.record_failure(transaction, 2, reason="push refused", now_us=5, park=True)
        outbox.record_failure(transaction, 4, reason="git refused", now_us=5, park=True)
        created_us = manifest.decode(catalog.get_row(transaction, 3).manifest).created_at_us
        shas = [row.commit_oid.hex() for _, row in catalog.iter_rows(transaction)]
    store._clock = lambda: (created_us + 2_500_000) * 1000
    found = export_status(store)
    assert (found["queued"], found["queued_age_s"], found["awaiting_push"]) == (2, 2.5, 0)
    assert (found["last_export_at_us"], found["last_push_at_us"]) == (70, 80)
    assert found["parked"] == [
        {
            "stage": "export", "correlation_id": "c3", "branch": "ai/generated/wf/t3", "commit_sha": shas[3],
            "reason": "git refused", "attempts": 1,
        },
        {
            "stage": "push", "correlation_id": "c1", "branch": "ai/generated/wf/t1", "commit_sha": shas[1],
            "reason": "push refused", "attempts": 2,
        },
    ]  # fmt: skip
    store._clock = lambda: 0
    assert export_status(store)["queued_age_s"] == 0.0


def test_status_of_damaged_manifests_has_their_reasons(store):
    commit(store, "a", task_id="t1")
    commit(store, "b", task_id="t2")
    with store.environment.write() as transaction:
        outbox.record_failure(transaction, 1, reason="damaged", now_us=5, park=True)
        for sequence in (1, 2):
            transaction.put(Table.MANIFESTS, catalog.sequence_key(sequence), b"damaged")
    found = export_status(store)
    assert (found["queued"], found["queued_age_s"]) == (1, None)
    assert found["parked"] == [
        {
            "stage": "export", "correlation_id": None, "branch": "", "commit_sha": "", "reason": "damaged",
            "attempts": 1,
        }
    ]  # fmt: skip


def test_lease_is_held_by_one_who_is_named(tmp_path):
    me = f"process {os.getpid()} on {socket.gethostname()}"
    assert lease.holder(tmp_path) is None
    (tmp_path / lease.LEASE_FILE).write_text("x" * 300)
    with lease.hold(tmp_path, 0):
        assert lease.holder(tmp_path) == me
        assert (tmp_path / lease.LEASE_FILE).read_text() == f"{me}\n"
        with pytest.raises(LeaseHeldError) as caught, lease.hold(tmp_path, 0):
            pass
        assert f"({me})" in caught.value.message
        assert caught.value.retryable
        (tmp_path / lease.LEASE_FILE).write_text("")
        assert lease.holder(tmp_path) == "unknown process"
        with pytest.raises(LeaseHeldError, match=r"\(unknown process\)"), lease.hold(tmp_path, 0.01):
            pass
    assert lease.holder(tmp_path) is None
    with lease.hold(tmp_path, None):
        assert lease.holder(tmp_path) == me
    (tmp_path / "other").mkdir()
    with lease.hold(tmp_path / "other", 0):
        assert (tmp_path / "other" / lease.LEASE_FILE).stat().st_mode & 0o777 == 0o600


def test_lease_of_a_folder_that_is_not_there_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError) as caught, lease.hold(tmp_path / "missing", 0):
        pass
    assert caught.value.kind == "not_a_store"
    assert lease.holder(tmp_path / "missing") is None

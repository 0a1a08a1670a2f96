"""Records: exactly the keys and values that the public calls promise, for runs, rollbacks and their export state."""

import pytest

from cas import catalog, outbox, records
from cas.digest import digest_bytes
from cas.errors import IntegrityError, StateError
from cas.manifest import RollbackManifest, RunManifest
from tests.store.stores import FILES, FIRST_SECOND, commit, open_store, undone_transaction

AT = FIRST_SECOND * 1_000_000
METADATA = {
    "agent_version": "a1", "test_metrics": {"pnl": 1.5}, "note": "mine", "branch": "my own branch", "kind": "momentum",
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("records")) as opened:
        yield opened


@pytest.fixture(scope="module")
def committed(store):
    result = commit(store, "corr_1", metadata=METADATA, prompt_hash="p" * 20)
    commit(store, "corr_1", metadata=METADATA, files={"strategy.py": FILES["strategy.py"], "new.txt": b"n"})
    store.revert_to_tag("corr_1", target_branch=result["branch"], reason="worse")
    return result


@pytest.fixture
def transaction(store, committed):
    with store.environment.read() as opened:
        yield opened


BRANCH = "ai/generated/wf/task"
TAGS = ["corr_1", "prompt_pppppppppppp"]


def test_commit_result_is_what_the_commit_returned(transaction, committed):
    found = records.commit_result(transaction, 1)
    assert found == {key: committed[key] for key in found}
    assert found == {
        "success": True, "branch": BRANCH, "commit_sha": committed["commit_sha"], "tags": TAGS, "pushed": False,
        "error": None, "files": ["strategy.py", "trades.csv"], "workflow_id": "wf", "task_id": "task",
        "correlation_id": "corr_1", "prompt_hash": "p" * 20, "revision": 1, "manifest_id": committed["manifest_id"],
        "export_state": "queued",
    }  # fmt: skip
    assert len(found["commit_sha"]) == 40
    assert len(found["manifest_id"]) == 64


def test_run_record_has_the_stores_keys_and_the_callers_where_they_do_not_meet(transaction, committed):
    found = records.run_record(transaction, 1)
    assert found == {
        "workflow_id": "wf", "task_id": "task", "correlation_id": "corr_1", "prompt_hash": "p" * 20,
        "commit_timestamp": found["commit_timestamp"], "agent_version": "a1", "llm_version": None,
        "test_metrics": {"pnl": 1.5}, "files": ["strategy.py", "trades.csv"], "branch": BRANCH,
        "commit_sha": committed["commit_sha"], "tags": TAGS, "revision": 1, "manifest_id": committed["manifest_id"],
        "export_state": "queued", "pushed": False, "created_at_us": found["created_at_us"],
        "size_bytes": sum(map(len, FILES.values())), "metadata": METADATA, "note": "mine", "kind": "momentum",
    }  # fmt: skip
    assert found["created_at_us"] >= AT
    assert found["commit_timestamp"].startswith("2025-11-07T14:30:")


def test_history_record_tells_a_commit_from_a_rollback(store, transaction, committed):
    first, second, rollback = (records.history_record(transaction, sequence) for sequence in (1, 2, 3))
    author = f"{store.config.commit_author_name} <{store.config.commit_author_email}>"
    common = {"branch": BRANCH, "author": author, "export_state": "queued"}
    for step in (first, second, rollback):
        assert common.items() <= step.items()
        assert step["commit_timestamp"].startswith("2025-11-07T14:30:")
        assert len(step["manifest_id"]) == 64
    assert first == first | {
        "kind": "commit", "commit_sha": committed["commit_sha"], "parent": None, "tags": TAGS, "workflow_id": "wf",
        "task_id": "task", "correlation_id": "corr_1", "revision": 1, "files": ["strategy.py", "trades.csv"],
    }  # fmt: skip
    assert (second["revision"], second["parent"]) == (2, committed["commit_sha"])
    assert rollback == rollback | {
        "kind": "rollback", "parent": second["commit_sha"], "tags": [], "reverted_to": "corr_1",
        "source_commit": committed["commit_sha"], "reason": "worse",
    }  # fmt: skip
    assert rollback.keys() == {
        "kind", "branch", "commit_sha", "parent", "author", "commit_timestamp", "manifest_id", "tags", "export_state",
        "reverted_to", "source_commit", "reason",
    }  # fmt: skip


def test_state_is_pushed_once_the_remote_has_it(store, committed):
    with undone_transaction(store) as transaction:
        outbox.record_pushed(transaction, [1], AT)
        commit_result, run = records.commit_result(transaction, 1), records.run_record(transaction, 1)
        step = records.history_record(transaction, 1)
    assert (commit_result["pushed"], run["pushed"], step["export_state"]) == (True, True, "pushed")


def test_records_of_several_manifests_are_those_of_the_runs_among_them_in_order(store, committed):
    with undone_transaction(store) as transaction:
        outbox.record_exported(transaction, [1, 2], AT)
        outbox.record_failure(transaction, 2, reason="no", now_us=AT, park=True)
        found = list(records.iter_run_records(transaction, [3, 2, 1]))
        assert found == [records.run_record(transaction, 2), records.run_record(transaction, 1)]
        assert [record["export_state"] for record in found] == ["parked", "exported"]
        assert [records.commit_result(transaction, number)["export_state"] for number in (1, 2)] == [
            "exported",
            "parked",
        ]
        assert records.history_record(transaction, 2)["export_state"] == "parked"
        assert list(records.iter_run_records(transaction, [])) == []
        with pytest.raises(IntegrityError, match="manifest 4 is missing"):
            list(records.iter_run_records(transaction, [4]))


def test_run_record_without_metadata_of_the_callers_own_has_the_stores_keys_alone(tmp_path):
    with open_store(tmp_path) as other:
        commit(other, "corr_plain", task_id="plain", metadata={"agent_version": "a", "branch": "mine"})
        record = other.get_artifact_by_correlation_id("corr_plain")
    assert list(record)[:4] == ["workflow_id", "task_id", "correlation_id", "prompt_hash"]
    assert record["metadata"] == {"agent_version": "a", "branch": "mine"}
    assert record["branch"] == "ai/generated/wf/plain"
    assert record["size_bytes"] == sum(map(len, FILES.values()))


def test_manifest_id_is_the_digest_of_the_stored_manifest(transaction):
    for sequence, record in (
        (1, records.commit_result),
        (2, records.run_record),
        (3, records.history_record),
    ):
        stored = catalog.get_row(transaction, sequence).manifest
        assert record(transaction, sequence)["manifest_id"] == digest_bytes(stored).hex()


def test_find_commit_asks_for_the_whole_id(transaction, committed):
    oid = bytes.fromhex(committed["commit_sha"])
    assert records.find_commit(transaction, oid) == 1
    assert records.find_commit(transaction, oid[:10]) is None
    assert records.find_commit(transaction, oid[:-1] + bytes([oid[-1] ^ 1])) is None


def test_load_tells_runs_from_rollbacks(transaction):
    assert isinstance(records.load(transaction, 3)[0], RollbackManifest)
    assert isinstance(records.load_run(transaction, 2)[0], RunManifest)
    with pytest.raises(IntegrityError, match="manifest 3 is not a run"):
        records.load_run(transaction, 3)
    with pytest.raises(IntegrityError, match="manifest 4 is missing"):
        records.load(transaction, 4)


def test_stored_bytes_are_those_of_a_runs_own_blobs(transaction):
    run, _ = records.load(transaction, 1)
    total = records.stored_bytes(transaction, run)
    with_lost = RunManifest(
        **{name: getattr(run, name) for name in run.__struct_fields__} | {"files": run.files[:1]}
    )
    assert 0 < records.stored_bytes(transaction, with_lost) < total
    assert total < sum(map(len, FILES.values())) + 100
    assert records.stored_bytes(transaction, records.load(transaction, 3)[0]) == 0


@pytest.mark.parametrize(("given", "kept"), [("corr_9", "corr_9"), (7, None), (None, None)])
def test_failed_commit_is_the_graceful_form(given, kept):
    assert records.failed_commit(StateError("no", hint="Go on."), given) == {
        "success": False, "branch": None, "commit_sha": None, "tags": [], "pushed": False, "error": "no", "files": [],
        "correlation_id": kept, "revision": None, "manifest_id": None, "export_state": None, "kind": "invalid_state",
        "hint": "Go on.", "retryable": False,
    }  # fmt: skip


def test_status_record_gives_times_as_text():
    assert records.status_record(outbox.Status("queued")) == {
        "export_state": "queued", "pushed": False, "exported_at": None, "pushed_at": None, "attempts": 0,
        "reason": None,
    }  # fmt: skip
    assert records.status_record(outbox.Status("pushed", AT, AT + 60_000_000, 2, "late")) == {
        "export_state": "pushed", "pushed": True, "exported_at": "2025-11-07T14:30:00Z",
        "pushed_at": "2025-11-07T14:31:00Z", "attempts": 2, "reason": "late",
    }  # fmt: skip

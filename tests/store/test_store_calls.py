"""The calls of a store, each for itself: what they take, what they hand on, and how they refuse."""

from __future__ import annotations

import pytest

from cas import (
    IntegrityError,
    InvalidIdError,
    InvalidInputError,
    NotFoundError,
    QueryError,
    RetentionPolicy,
    SecretDetectedError,
    StateError,
    StorageError,
    WaitTimeoutError,
    blobs,
    gc,
    outbox,
)
from cas.digest import digest_bytes
from cas.lmdbenv import SUSPECT_FILE, Table
from tests.gc.keeping import pretend_export
from tests.secrets.corpus import B62, Maker
from tests.store.stores import FILES, FIRST_SECOND, METADATA, commit, open_store

LEAK = f'api_key = "{Maker("store calls").of(B62, 36)}"'


def refusal(call, *arguments, kind=InvalidInputError, **options):
    with pytest.raises(kind) as caught:
        call(*arguments, **options)
    return caught.value


def test_store_shows_its_folder_and_its_state(tmp_path):
    store = open_store(tmp_path)
    folder = str(tmp_path / ".cas")
    assert repr(store) == f"<ArtifactStore {folder!r} open>"
    store.close()
    store.close()
    assert repr(store) == f"<ArtifactStore {folder!r} closed>"
    for call in (
        store.list_artifacts,
        store.stats,
        lambda: store.commit_many([]),
        lambda: store.open_run("w", "t", "c"),
        lambda: store.revert_to_tag("corr_1"),
        lambda: store.get_artifact_by_correlation_id("1"),
    ):
        assert "the store is closed" in refusal(call, kind=StateError).message


def test_clock_of_a_store_is_never_before_the_epoch(tmp_path):
    with open_store(tmp_path, clock=lambda: 1_999_999) as store:
        assert store.now_us() == 1_999
        assert commit(store)["success"]
    with open_store(tmp_path / "b", clock=lambda: -5) as store:
        assert store.now_us() == 0


def test_store_that_cannot_be_understood_is_closed_again(tmp_path):
    with open_store(tmp_path) as store, store.environment.write() as transaction:
        transaction.delete(Table.META, b"store")
    for _ in range(2):
        refusal(open_store, tmp_path, kind=StorageError)


def test_index_is_made_when_the_store_is_opened_for_writing(tmp_path):
    with open_store(tmp_path) as store:
        commit(store)
    with open_store(tmp_path, read_only=True, indexed_metrics=["net_pnl"]) as store:
        assert len(store.list_artifacts(where="net_pnl > 100")) == 1
    with open_store(tmp_path, indexed_metrics=["net_pnl"]) as store, store.environment.read() as transaction:
        assert any(key.startswith(b"mnet_pnl") for key in transaction.scan_keys(Table.CATALOG, b"m"))


def test_unusable_secret_settings_are_told_when_the_store_is_opened(tmp_path):
    for settings in ({"secret_ignore": ["no-such-rule"]}, {"secret_baseline": tmp_path / "missing"}):
        with pytest.raises(InvalidInputError):
            open_store(tmp_path / "s", scan_for_secrets=True, **settings)
    assert not (tmp_path / "s").exists()


def test_rules_are_compiled_ahead_of_the_first_commit_where_there_is_a_gate(tmp_path):
    with open_store(tmp_path) as store:
        store.warm_up()
        assert store.secret_scanner is None
    with open_store(tmp_path, scan_for_secrets=True) as store:
        store.warm_up()
        assert store.secret_scanner is store.secret_scanner is not None


@pytest.mark.parametrize("name", ["workflow_id", "task_id", "correlation_id", "prompt_hash"])
def test_id_that_is_refused_is_named_in_every_way_to_commit(store, name):
    ids = {"workflow_id": "w", "task_id": "t", "correlation_id": "c", "prompt_hash": "p"} | {name: ""}
    assert refusal(store.commit_artifacts, files=FILES, kind=InvalidIdError, **ids).subject == name
    assert refusal(store.open_run, kind=InvalidIdError, **ids).subject == name
    (told,) = store.commit_many([{**ids, "files": FILES}])
    assert (told["success"], told["subject"], told["kind"]) == (False, name, "invalid_id")


def test_missing_correlation_id_is_refused_or_made(tmp_path, store):
    error = refusal(store.commit_artifacts, "w", "t", FILES, kind=InvalidIdError)
    assert error.subject == "correlation_id"
    with open_store(tmp_path / "b", require_correlation_id=False) as other:
        made = {other.commit_artifacts("w", "t", FILES)["correlation_id"] for _ in range(2)}
        assert {len(correlation_id.removeprefix("corr_")) for correlation_id in made} == {32}
        assert len(made) == 2


def test_many_runs_are_answered_in_order_and_a_refused_one_holds_back_no_other(store):
    def made(correlation_id, **changes):
        arguments = {"workflow_id": "w", "task_id": "t", "files": {"a": correlation_id.encode()}}
        return arguments | {"correlation_id": correlation_id, "prompt_hash": "0123456789abcdef"} | changes

    before = store.commit_queue.transaction_count
    found = store.commit_many([
        made("a", metadata=METADATA), made("b", files={"../x": b""}), made("c"), made("d", metadata={"x": 1j}),
        made("a"),
    ])  # fmt: skip
    assert store.commit_queue.transaction_count == before + 1
    assert [(run["success"], run["correlation_id"]) for run in found[:4]] == [
        (True, "a"), (False, "b"), (True, "c"), (False, "d"),
    ]  # fmt: skip
    assert [run["kind"] for run in (found[1], found[3])] == ["invalid_name", "invalid_metadata"]
    assert found[4]["revision"] == 2, "without the metadata it is another content"
    assert found[0]["tags"] == ["corr_a", "prompt_0123456789ab"]
    assert [run["correlation_id"] for run in store.list_artifacts()] == ["a", "c", "a"]
    assert store.get_artifact_by_correlation_id("a", revision=1)["test_metrics"] == METADATA["test_metrics"]
    again = store.commit_many([made("c"), made("c")])
    assert [run["commit_sha"] for run in again] == [found[2]["commit_sha"]] * 2
    assert store.commit_many([]) == []


def test_batch_in_which_a_file_cannot_be_taken_in_counts_its_refusal(store):
    store.commit_many([{"workflow_id": "w", "task_id": "t", "files": {}, "correlation_id": "c"}])
    commit(store)
    store.flush_metrics()
    assert store.stats()["commit_success_rate"] == 0.5


@pytest.mark.parametrize("name", ["limit", "offset"])
def test_number_of_a_list_is_named_when_it_is_none(store, name):
    for value in (-1, 1.0, True, "5", 10**9 + 1):
        assert refusal(store.list_artifacts, **{name: value}).subject == name
    assert store.list_artifacts(**{name: 10**6}) == []


def test_list_takes_a_page_in_any_order(store):
    for number in range(4):
        commit(store, f"c{number}", metadata={"test_metrics": {"net": number % 3}})

    def listed(**how):
        return [run["correlation_id"] for run in store.list_artifacts(**how)]

    assert listed() == listed(sort="time") == ["c3", "c2", "c1", "c0"]
    assert listed(ascending=True) == ["c0", "c1", "c2", "c3"]
    assert listed(sort="net") == ["c2", "c1", "c3", "c0"]
    assert listed(sort="net", ascending=True) == ["c0", "c3", "c1", "c2"]
    assert listed(sort="net", ascending=True, limit=2) == ["c0", "c3"]
    assert listed(limit=0) == []
    assert listed(offset=1, limit=2) == ["c2", "c1"]
    assert listed(where=" ") == listed(where=None) == listed()
    assert listed(where="net >= 1") == ["c2", "c1"]
    assert listed(after="c2") == ["c1", "c0"]
    assert listed(since=FIRST_SECOND + 10**6) == []
    assert listed(until=FIRST_SECOND) == []
    assert refusal(store.list_artifacts, sort="", kind=InvalidIdError).subject == "sort"
    assert "not int" in refusal(store.list_artifacts, where=5, kind=QueryError).message


def test_files_of_a_run_and_of_a_rollback_are_told_with_their_ids(store):
    commit(store)
    store.revert_to_tag("corr_1", "main")
    found = store.list_files("corr_1")
    assert found == store.list_files("main")
    assert [(entry["name"], entry["size_bytes"]) for entry in found] == [
        (name, len(content)) for name, content in sorted(FILES.items())
    ]
    for entry in found:
        assert entry["digest"] == digest_bytes(FILES[entry["name"]]).hex()
        assert len(entry["oid"]) == 40
    assert store.show("main")["kind"] == "rollback"


def test_generated_metadata_is_read_like_a_file_where_the_run_has_it(tmp_path):
    for with_file in (True, False):
        with open_store(tmp_path / str(with_file), include_metadata=with_file) as store:
            commit(store)
            if with_file:
                assert b'"workflow_id"' in store.read_file("corr_1", "metadata.json")
            else:
                assert refusal(store.read_file, "corr_1", "metadata.json", kind=NotFoundError)
            error = refusal(store.read_file, "corr_1", "other", kind=NotFoundError)
            assert error.subject == "other"
            assert "strategy.py, trades.csv" in error.hint


def test_history_is_limited_and_of_an_unknown_branch_refused(store):
    for number in range(3):
        commit(store, f"c{number}")
    branch = "ai/generated/wf/task"
    assert [step["correlation_id"] for step in store.history(branch)] == ["c2", "c1", "c0"]
    assert [step["correlation_id"] for step in store.history(branch, limit=2)] == ["c2", "c1"]
    assert store.history(branch, limit=-1) == []
    assert refusal(store.history, "other", kind=NotFoundError).subject == "other"
    assert refusal(store.history, "", kind=InvalidIdError).subject == "branch"


def test_export_is_waited_for_up_to_the_state_that_the_configuration_ends_in(tmp_path):
    for auto_push in (True, False):
        with open_store(tmp_path / str(auto_push), auto_push=auto_push) as store:
            commit(store)
            commit(store, files={"a": b"other"})
            assert store.export_status("1")["export_state"] == "queued"
            pretend_export(store)
            assert store.export_status("1", revision=1)["export_state"] == "exported"
            assert store.wait_for_export("1", 0, state="exported")["export_state"] == "exported"
            if auto_push:
                refusal(store.wait_for_export, "1", 0, kind=WaitTimeoutError)
                with store.environment.write() as transaction:
                    outbox.record_pushed(transaction, [2], store.now_us())
            assert store.wait_for_export("1", 0)["pushed"] is auto_push
            assert store.export_status("1", revision=1)["pushed"] is False
            assert refusal(store.export_status, "other", kind=NotFoundError).subject == "other"
            assert refusal(store.wait_for_export, "other", 0, kind=NotFoundError).subject == "other"


@pytest.mark.parametrize("sample", [0, -0.1, 1.01])
def test_share_to_verify_is_above_nothing_and_at_most_all(store, sample):
    assert refusal(store.verify, sample=sample).subject == "sample"


def test_suspect_mark_is_lifted_by_a_whole_verify_alone(store):
    commit(store)
    mark = store.environment.directory / SUSPECT_FILE
    assert not store.verify().mark_lifted
    mark.touch()
    assert not store.verify(sample=0.5).mark_lifted
    assert mark.exists()
    assert store.verify().mark_lifted
    assert not mark.exists()


def test_suspect_mark_stays_while_a_must_is_broken(store):
    commit(store)
    with store.environment.write() as transaction:
        row = transaction.get(Table.SEGMENTS, blobs.segment_key(1, 0))
        transaction.put(Table.SEGMENTS, blobs.segment_key(1, 0), bytes(len(row)))
    mark = store.environment.directory / SUSPECT_FILE
    mark.touch()
    report = store.verify()
    assert not report.ok
    assert not report.mark_lifted
    assert mark.exists()


@pytest.mark.parametrize("dead_share", [0, -1, 1.01])
def test_share_of_dead_bytes_is_above_nothing_and_at_most_all(store, dead_share):
    assert refusal(store.gc, dead_share=dead_share).subject == "dead_share"


def test_collection_hands_on_what_it_was_told(store, monkeypatch):
    for number in range(3):
        commit(store, f"c{number}", files={"a": b"%d" % number})
    pretend_export(store)
    told, shares, collect = [], [], gc.collect

    def watched(environment, **how):
        shares.append(how["dead_share"])
        return collect(environment, **how, pause=lambda _: None)

    monkeypatch.setattr(gc, "collect", watched)
    policy = RetentionPolicy(keep_last=1)
    counted = store.gc(policy=policy, dry_run=True)
    assert (counted["dry_run"], counted["blobs"], len(counted["runs"])) == (True, 2, 3)
    assert len(store.list_artifacts()) == 3
    done = store.gc(policy=policy, dead_share=1, progress=lambda *step: told.append(step))
    assert (done["dry_run"], done["blobs"], done["collected_runs"]) == (False, 2, 2)
    assert [run["action"] for run in done["runs"]] == ["keep", "forget", "forget"]
    assert "runs" not in store.gc()
    assert shares == [0.5, 1, 0.5]
    assert ("blobs", 2, 2) in told


def test_healing_tells_what_was_mended_in_the_catalog(store):
    commit(store)
    with store.environment.write() as transaction:
        keys = list(transaction.scan_keys(Table.CATALOG, b"w"))
        transaction.delete(Table.CATALOG, keys[0])
        transaction.put(Table.CATALOG, b"wstray\0" + bytes(8), bytes(8))
    steps = []
    assert store.heal(progress=lambda *step: steps.append(step)).repaired == 2
    assert steps
    assert store.heal(threads=1).repaired == 0
    assert store.verify().ok


def test_notes_of_people_pass_the_gate_and_must_be_text(tmp_path):
    with open_store(tmp_path, scan_for_secrets=True) as store:
        commit(store)
        pretend_export(store)
        for call, name in (
            (lambda note: store.pin("corr_1", note=note), "note"),
            (lambda note: store.forget(["corr_1"], reason=note), "note"),
            (lambda note: store.revert_to_tag("corr_1", "main", reason=note), "reason"),
        ):
            error = refusal(call, LEAK, kind=SecretDetectedError)
            assert [found.name for found in error.findings] == [name]
            assert refusal(call, "a\ud800").subject == "reason"
        assert store.list_pins() == []
        assert store.pin("corr_1", note="a word")["correlation_id"] == "corr_1"


def test_branch_and_tag_of_a_rollback_are_named_when_they_are_refused(store):
    commit(store)
    for call in (store.revert_to_tag, store.verify_rollback):
        assert refusal(call, "", kind=InvalidIdError).subject == "tag"
        assert refusal(call, "corr_1", "a..b").subject == "a..b"
        assert refusal(call, "corr_2", kind=NotFoundError).subject == "corr_2"


def test_rollback_that_fails_without_raise_errors_tells_why(tmp_path):
    with open_store(tmp_path, raise_errors=False) as store:
        commit(store)
        assert store.revert_to_tag("corr_2", "main") == {
            "success": False,
            "commit_sha": None,
            "reverted_to": None,
            "branch": "main",
            "kind": "not_found",
            "error": "there is no tag 'corr_2'",
            "subject": "corr_2",
            "hint": "Did you mean corr_1?",
            "retryable": False,
        }
        with store.environment.write() as transaction:
            transaction.delete(Table.SEGMENTS, blobs.segment_key(1, 0))
        assert "is damaged" in store.revert_to_tag("corr_1", "main")["error"]
        assert refusal(store.read_file, "corr_1", "trades.csv", kind=IntegrityError).kind == "damaged"


def test_counts_of_a_store_opened_for_reading_are_not_written(tmp_path):
    with open_store(tmp_path) as store:
        commit(store)
        assert store.flush_metrics() is True
        assert store.flush_metrics() is False
    with open_store(tmp_path, read_only=True) as store:
        assert store.flush_metrics() is False


def test_commit_tells_how_far_the_reading_is(store, tmp_path):
    (tmp_path / "a.csv").write_bytes(bytes(300))
    told = []
    files = {"a.csv": tmp_path / "a.csv", "b.csv": b"12345"}
    store.commit_artifacts("w", "t", files, correlation_id="c", progress=lambda *step: told.append(step))
    assert {step[0] for step in told} == {"read"}
    assert told[-1][1:] == (305, 305)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_rescan_and_purge_work_also_in_a_store_without_a_gate(store):
    commit(store, files={"a.py": LEAK.encode(), "b.py": b"FAST = 1\n"})
    told = []
    report = store.scan_all(progress=lambda *step: told.append(step))
    (item,) = report.located
    assert (report.blob_count, report.known_count) == (2, 0)
    assert told[-1][1] == told[-1][2]
    assert store.scan_all().known_count == 1
    assert store.scan_all(fresh=True).known_count == 0
    target = item.digest.hex()
    told.clear()
    counted = store.purge(target, dry_run=True, progress=lambda *step: told.append(step))
    assert (counted["target"], counted["dry_run"], len(counted["blobs"])) == (target, True, 1)
    assert told
    assert store.read_file("1", "a.py") == LEAK.encode()
    assert store.purge(target)["dry_run"] is False
    assert refusal(store.read_file, "1", "a.py", kind=IntegrityError).kind == "purged"


@pytest.mark.parametrize(
    ("call", "arguments", "subject"),
    [
        ("verify", {"sample": "all"}, "sample"),
        ("verify", {"sample": True}, "sample"),
        ("gc", {"dead_share": "half"}, "dead_share"),
        ("gc", {"policy": {"keep_last": 1}}, "policy"),
        ("forget", {"policy": 5}, "policy"),
        ("list_forgotten", {"limit": "x"}, "limit"),
        ("list_forgotten", {"limit": True}, "limit"),
        ("purge", {"target": None}, "None"),
    ],
    ids=str,
)
def test_argument_of_another_type_is_an_error_that_names_it(store, call, arguments, subject):
    assert refusal(getattr(store, call), kind=InvalidInputError, **arguments).subject == subject

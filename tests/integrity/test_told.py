"""What long calls tell while they work and when they end: phases, counts, sizes and names, exactly."""

import pytest

from cas import InvalidInputError, NotFoundError, QueryError, RetentionPolicy
from cas.errors import ArtifactStoreError
from tests.gc.keeping import commit, pretend_export
from tests.store.stores import open_store

FILES = {"a.txt": b"first " * 20, "b.txt": b"second " * 20, "c.txt": b"third " * 20}


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "store") as opened:
        commit(opened, "c1", files=FILES)
        yield opened


def test_checkout_tells_each_file_and_the_end(store, tmp_path):
    told = []
    store.checkout("c1", tmp_path / "out", progress=lambda *now: told.append(now))
    assert {phase for phase, _, _ in told} == {"files"}
    assert [done for _, done, _ in told] == [0, 1, 2, 3]
    assert {total for _, _, total in told} == {3}


def test_backup_tells_where_it_is_and_what_it_holds(store, tmp_path):
    target = tmp_path / "copy"
    told = store.backup(target)
    assert told == {
        "directory": str(target), "runs": 1, "blobs": 3, "bytes": (target / "data.mdb").stat().st_size,
    }  # fmt: skip


def test_diff_names_both_runs_and_their_branches(store):
    commit(store, "c2", files={**FILES, "a.txt": b"changed"})
    told = store.diff("c1", "c2")
    named = [told[side] for side in ("left", "right")]
    assert [one["correlation_id"] for one in named] == ["c1", "c2"]
    assert [one["branch"] for one in named] == ["ai/generated/wf/c1", "ai/generated/wf/c2"]
    assert [one["revision"] for one in named] == [1, 1]
    for ref, one in zip(("c1", "c2"), named, strict=True):
        assert one["commit_timestamp"] == store.show(ref)["commit_timestamp"]


def test_file_that_is_not_in_the_run_is_answered_with_those_that_are(store):
    with pytest.raises(NotFoundError) as caught:
        store.read_file("c1", "d.txt")
    assert "a.txt, b.txt, c.txt" in f"{caught.value} {caught.value.hint}"


def test_ref_beyond_the_beginning_of_a_branch_is_named_in_the_error(store):
    with pytest.raises(NotFoundError) as caught:
        store.show("c1~9")
    assert caught.value.subject == "c1~9"


def test_undelete_of_a_run_that_was_not_forgotten_names_it(store):
    with pytest.raises(InvalidInputError) as caught:
        store.undelete("c1")
    assert caught.value.subject == "c1"


def test_error_as_a_record_has_all_its_fields():
    told = ArtifactStoreError("why", hint="what to do", subject="what", kind="kind").as_dict()
    assert {name: told[name] for name in ("kind", "error", "subject", "hint", "retryable")} == {
        "kind": "kind", "error": "why", "subject": "what", "hint": "what to do", "retryable": False,
    }  # fmt: skip


def test_query_error_keeps_message_position_and_hint():
    error = QueryError("expected a name", position=4, hint="see the usage")
    assert (error.message, error.position, error.hint) == ("expected a name", 4, "see the usage")


def test_best_by_the_lowest_metric_tells_the_metric_as_it_is(store):
    for number, value in enumerate((2.5, -1.5, 7.0)):
        commit(store, f"m{number}", metrics={"drawdown": value})
    pretend_export(store)
    decisions = store.forget(policy=RetentionPolicy(keep_best=2, by="drawdown", lowest=True), dry_run=True)
    reasons = {one["correlation_id"]: one["reason"] for one in decisions if one["action"] == "keep"}
    assert reasons["m1"] == "number 1 by drawdown of wf: -1.5"
    assert reasons["m0"] == "number 2 by drawdown of wf: 2.5"

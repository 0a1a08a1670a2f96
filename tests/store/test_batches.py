"""Batches of runs: each is stored whole or refused by itself, whatever the batch was handed over as."""

from __future__ import annotations

import pytest

from cas import InvalidInputError
from cas import commit as commits
from tests.store.stores import dump, open_store

FIRST_CALL = 1


def run(number, **changes):
    arguments = {"workflow_id": "wf", "task_id": "t", "files": {"a.txt": b"%d" % number}}
    return {**arguments, "correlation_id": f"run-{number}", **changes}


def test_batch_of_an_iterator_is_stored_and_told(store):
    results = store.commit_many(run(number) for number in range(3))
    assert [result["correlation_id"] for result in results] == ["run-0", "run-1", "run-2"]
    assert all(result["success"] for result in results)


@pytest.mark.parametrize("runs", [run(0), "ab", b"ab", None, 7], ids=lambda value: type(value).__name__)
def test_batch_that_is_no_list_is_refused_and_nothing_stored(store, runs):
    before = dump(store)
    with pytest.raises(InvalidInputError, match="list of mappings"):
        store.commit_many(runs)
    assert dump(store) == before


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (None, "not NoneType"),
        ([1], "not list"),
        (run(1, metdata={"net_pnl": 1}), "'metdata'"),
        (run(1, file="x"), "'file'"),
        ({**run(1), 5: 6}, "5"),
        ({}, "correlation_id is missing"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_run_of_a_batch_of_another_form_is_refused_beside_the_others(store, wrong, says):
    first, refused, last = store.commit_many([run(0), wrong, run(2)])
    assert first["success"]
    assert last["success"]
    assert not refused["success"]
    assert says in refused["error"]
    assert refused["kind"].startswith("invalid")
    assert len(store.list_artifacts()) == 2


def test_batch_prepared_again_has_the_files_of_its_iterators(store, monkeypatch):
    apply_all, calls = commits.apply_all, []

    def collected_once(*arguments):
        calls.append(arguments)
        if len(calls) == FIRST_CALL:
            raise commits.BlobCollectedError
        return apply_all(*arguments)

    monkeypatch.setattr(commits, "apply_all", collected_once)
    (done,) = store.commit_many([run(0, files=iter([__file__]))])
    assert done["success"], done["error"]
    assert len(calls) == FIRST_CALL + 1


def test_batch_without_required_ids_gives_each_run_one(tmp_path):
    with open_store(tmp_path, require_correlation_id=False) as store:
        results = store.commit_many([run(number, correlation_id=None) for number in range(2)])
        assert len({result["correlation_id"] for result in results}) == 2

"""What the kit draws: everything is accepted that should be, refused that should be, and the model agrees."""

from __future__ import annotations

import errno

import pytest
from hypothesis import HealthCheck, given, settings

from cas import InvalidNameError, StorageError, StoreSuspectError
from cas.lmdbenv import faults as lower_faults
from cas.testing import (
    SimulatedClock,
    SimulatedCrash,
    StoreModel,
    crash_at_transaction,
    damaged_stream,
    failing_disk,
    invariants,
    strategies,
)
from tests.store.stores import commit, open_store

ONE_STORE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path) as opened:
        yield opened


@ONE_STORE
@given(run=strategies.runs())
def test_runs_drawn_are_accepted_and_read_back(store, run):
    model = StoreModel()
    answer = store.commit_artifacts(**run.arguments())
    again = store.commit_artifacts(**run.arguments())
    assert answer == again
    for name, content in run.files.items():
        assert store.read_file(answer["commit_sha"], name) == content
    assert model.find(run) is None


@ONE_STORE
@given(name=strategies.refused_names())
def test_refused_names_are_refused(store, name):
    with pytest.raises(InvalidNameError):
        commit(store, "refused", files={name: b"x"})


@settings(max_examples=10)
@given(history=strategies.histories())
def test_histories_drawn_satisfy_every_invariant(tmp_path_factory, history):
    model = StoreModel()
    with open_store(tmp_path_factory.mktemp("history")) as store:
        for run in history:
            model.committed(run, store.commit_artifacts(**run.arguments()))
        invariants.assert_all(store, model)
        invariants.assert_unknown_is_not_found(store, "never committed")


def test_clock_moves_on_and_jumps_back():
    clock = SimulatedClock(step_ns=5)
    first = clock()
    assert clock() == first + 5
    clock.jump(-1)
    assert clock() < first


@pytest.mark.parametrize(("when", "is_there"), [("before", False), ("after", True)])
def test_crash_at_a_transaction_stores_all_or_nothing(tmp_path, when, is_there):
    store = open_store(tmp_path)
    with crash_at_transaction(store, when=when) as countdown, pytest.raises(SimulatedCrash):
        commit(store)
    assert countdown.has_struck
    store.close()
    with open_store(tmp_path) as store:
        assert (store.get_artifact_by_correlation_id("1") is not None) is is_there
        assert store.verify().ok


def test_failing_disk_marks_the_store(store, monkeypatch):
    monkeypatch.setattr(lower_faults, "_is_full", lambda _: False)
    with failing_disk(store, errno_value=errno.EIO), pytest.raises(StorageError) as caught:
        commit(store)
    assert caught.value.kind == "io_error"
    with pytest.raises(StoreSuspectError):
        commit(store)


def test_damaged_stream_is_whole_again_afterwards(store):
    commit(store)
    with damaged_stream(store, 3) as is_damaged:
        assert is_damaged
        assert not store.verify().ok
    assert store.verify().ok

"""Durable counters: with their commits, additive, over kills and restarts."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas import ArtifactStoreConfig, metrics
from cas.errors import InvalidInputError
from cas.lmdbenv import Table
from tests.store.stores import FIRST_SECOND, commit, dump, make_clock, open_store

counts = st.dictionaries(
    st.sampled_from(["commits", "pushed", "file_bytes", "commit_us.3"]), st.integers(0, 2**40)
)


def totals(store):
    with store.environment.read() as transaction:
        return metrics.totals(transaction)


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path) as opened:
        yield opened


def test_commit_and_its_count_are_one_transaction(store):
    commit(store, "a")
    found = totals(store)
    assert (found["commits"], found["commit_files"]) == (1, 2)
    assert found["commit_raw_bytes"] == sum(map(len, (b"FAST, SLOW = 10, 30\n", b"time,pnl\n1,2.5\n2,-1\n")))
    assert "commit_us" not in found, "how long it took is known after its flush"


def test_latency_is_written_with_the_next_commit(store):
    commit(store, "a")
    before = store.commit_queue.transaction_count
    commit(store, "b")
    assert store.commit_queue.transaction_count == before + 1
    assert sum(metrics.latency_buckets(totals(store))) == 1
    store.flush_metrics()
    assert sum(metrics.latency_buckets(totals(store))) == 2
    assert not store.flush_metrics()


def interrupted_loan(store, ended):
    """Lend what waits to a transaction, and be interrupted before, after or amid it; return its end, if it goes on."""
    going_on = contextlib.ExitStack()
    with contextlib.suppress(KeyboardInterrupt), store._meter.lent(store.now_us(), 90) as write:
        transaction = going_on.enter_context(store.environment.write())
        write(transaction, {})
        if ended == "committed":
            going_on.close()
        elif ended == "aborted":
            with pytest.raises(ZeroDivisionError), going_on:
                raise ZeroDivisionError
        raise KeyboardInterrupt
    return going_on


def test_counts_lent_to_a_transaction_that_was_interrupted_wait_again(store):
    store._meter.note(store.now_us(), {"commit_failures.other": 1})
    interrupted_loan(store, "aborted")
    assert store.flush_metrics()
    assert totals(store)["commit_failures.other"] == 1


def test_counts_lent_to_a_transaction_that_committed_before_the_interrupt_are_written_once(store):
    store._meter.note(store.now_us(), {"commit_failures.other": 1})
    interrupted_loan(store, "committed")
    assert not store.flush_metrics()
    assert totals(store)["commit_failures.other"] == 1


@pytest.mark.parametrize("commits", [True, False])
def test_counts_lent_to_a_transaction_that_outlives_the_interrupt_are_written_once(store, commits):
    store._meter.note(store.now_us(), {"commit_failures.other": 1})
    going_on = interrupted_loan(store, "going on")
    assert not store.flush_metrics(), "whose they are is not known yet"
    if commits:
        going_on.close()
    else:
        with pytest.raises(ZeroDivisionError), going_on:
            raise ZeroDivisionError
    assert store.flush_metrics() == (not commits)
    assert totals(store)["commit_failures.other"] == 1


def test_counts_given_back_are_not_written_by_work_that_is_repeated_late(store):
    store._meter.note(store.now_us(), {"commit_failures.other": 1})
    with pytest.raises(KeyboardInterrupt), store._meter.lent(store.now_us(), 90) as write:
        raise KeyboardInterrupt
    with store.environment.write() as transaction:
        write(transaction, {})
    store.flush_metrics()
    assert totals(store)["commit_failures.other"] == 1


def test_repeated_commit_writes_nothing(store):
    commit(store, "a")
    before = dump(store)
    commit(store, "a")
    assert dump(store) == before


def test_close_writes_what_waits(tmp_path):
    with open_store(tmp_path) as store:
        commit(store, "a")
        with pytest.raises(InvalidInputError):
            commit(store, "b", files={"../x": b""})
    with open_store(tmp_path) as store:
        found = totals(store)
    assert found["commit_failures.invalid_input"] == 1
    assert sum(metrics.latency_buckets(found)) == 1
    assert found["file_bytes"] > 0


def test_batch_counts_each_run_and_each_refusal(store):
    runs = [
        {"workflow_id": "w", "task_id": "t", "files": {"a.txt": b"x"}, "correlation_id": "one"},
        {"workflow_id": "w", "task_id": "t", "files": {"../a": b"x"}, "correlation_id": "two"},
    ]
    store.commit_many(runs)
    store.flush_metrics()
    found = totals(store)
    assert (found["commits"], found["commit_failures.invalid_input"]) == (1, 1)
    assert sum(metrics.latency_buckets(found)) == 1


def test_refused_form_without_errors_counts_as_well(tmp_path):
    with open_store(tmp_path, raise_errors=False) as store:
        assert not commit(store, "a", files={"../x": b""})["success"]
        store.flush_metrics()
        assert totals(store)["commit_failures.invalid_input"] == 1


def test_rollback_counts(store):
    commit(store, "a")
    store.revert_to_tag("corr_a", "live")
    store.revert_to_tag("corr_a", "live")
    assert totals(store)["rollbacks"] == 1


def test_failed_transaction_gives_back_what_waited(store, monkeypatch):
    commit(store, "a")
    with monkeypatch.context() as patch:
        patch.setattr("cas.outbox.enqueue", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            commit(store, "b")
    store.flush_metrics()
    found = totals(store)
    assert found["commits"] == 1
    assert sum(metrics.latency_buckets(found)) == 1
    assert found["commit_failures.unexpected"] == 1


@given(st.lists(counts), st.lists(counts))
def test_counts_add_up_in_any_order(first, second):
    whole = metrics.merged([*first, *second])
    assert metrics.merged([metrics.merged(second), metrics.merged(first)]) == whole


def test_hours_are_folded_and_totals_stay(tmp_path):
    with open_store(tmp_path, clock=make_clock(FIRST_SECOND), metrics_keep_days=1) as store:
        commit(store, "a")
    with open_store(tmp_path, clock=make_clock(FIRST_SECOND + 3 * 86400), metrics_keep_days=1) as store:
        commit(store, "b")
        with store.environment.read() as transaction:
            assert len(metrics.hours(transaction, 0)) == 1
            assert transaction.has(Table.COUNTERS, b"t")
        assert totals(store)["commits"] == 2


def add(store, hour, **counts):
    with store.environment.write() as transaction:
        metrics.add(transaction, hour * metrics.HOUR_US, counts)


def test_newest_hour_alone_is_kept_in_the_outbox(store):
    before = dump(store)["COUNTERS"]
    add(store, 10, commits=1)
    add(store, 10, commits=2)
    assert dump(store)["COUNTERS"] == before
    add(store, 12, commits=4)
    add(store, 11, commits=8)
    add(store, 10, commits=16)
    assert len(dump(store)["COUNTERS"]) == len(before) + 2
    with store.environment.read() as transaction:
        found = metrics.hours(transaction, 10 * metrics.HOUR_US)
        assert [(at_us // metrics.HOUR_US, row["commits"]) for at_us, row in found] == [
            (10, 19),
            (11, 8),
            (12, 4),
        ]
        assert [row["commits"] for _, row in metrics.hours(transaction, 12 * metrics.HOUR_US)] == [4]
        assert metrics.hours(transaction, 13 * metrics.HOUR_US) == []


def test_hour_far_ahead_makes_room_for_the_hour_that_is_counted(store):
    add(store, 10_000, commits=1)
    add(store, 10, commits=2)
    before = dump(store)["COUNTERS"]
    add(store, 10, commits=4)
    assert dump(store)["COUNTERS"] == before, "no further page is written"
    add(store, 11, commits=8)
    with store.environment.read() as transaction:
        found = metrics.hours(transaction, 0)
        assert [(at_us // metrics.HOUR_US, row["commits"]) for at_us, row in found] == [
            (10, 6),
            (11, 8),
            (10_000, 1),
        ]


@given(st.lists(st.tuples(st.sampled_from([0, 1, 24, 25, 26, 300]), counts)))
def test_counts_added_to_any_hours_in_any_order_are_all_there(tmp_path_factory, added):
    with open_store(tmp_path_factory.mktemp("store")) as store:
        for hour, part in added:
            add(store, hour, **part)
        with store.environment.read() as transaction:
            found = metrics.hours(transaction, 0)
            assert metrics.totals(transaction) == metrics.merged(part for _, part in added)
        for at_us, row in found:
            assert row == metrics.merged(part for hour, part in added if hour == at_us // metrics.HOUR_US)


def test_damaged_row_fails_no_commit_and_is_counted(store):
    commit(store, "a")
    with store.environment.write() as transaction:
        assert transaction.has(Table.OUTBOX, metrics.NEWEST_HOUR)
        transaction._raw.put(metrics.NEWEST_HOUR, b"damaged!", db=transaction._tables[Table.OUTBOX])
    commit(store, "b")
    found = totals(store)
    assert (found["commits"], found["rows_lost"]) == (1, 1)


CHILD = """
import os, signal, sys
from tests.store.stores import commit, open_store
from pathlib import Path

with open_store(Path(sys.argv[1])) as store:
    for number in range(20):
        commit(store, f"{sys.argv[2]}-{number}", files={"a.txt": f"{sys.argv[2]} {number}".encode()})
    if sys.argv[3] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_counts_of_processes_add_up_and_a_kill_loses_no_commit(tmp_path):
    with open_store(tmp_path):
        pass
    words = [
        [sys.executable, "-c", CHILD, str(tmp_path), str(number), "kill" if number else "end"]
        for number in range(3)
    ]
    children = [subprocess.Popen(each, env={**os.environ, "PYTHONPATH": "."}) for each in words]
    assert sorted(child.wait() for child in children) == [-signal.SIGKILL, -signal.SIGKILL, 0]
    with open_store(tmp_path) as store:
        found = totals(store)
        assert found["commits"] == store.stats()["manifests"] == 60
        assert sum(metrics.latency_buckets(found)) <= 60


def test_forked_child_does_not_count_for_its_parent(store):
    commit(store, "a")
    child = os.fork()
    if child == 0:
        os._exit(0 if not store.flush_metrics() else 1)
    assert os.waitpid(child, 0)[1] == 0
    store.flush_metrics()
    assert sum(metrics.latency_buckets(totals(store))) == 1


def test_who_waits_for_a_fork_keeps_no_transaction_from_counting(store):
    opened, meter, now_us = store.environment, store._meter, store.now_us()

    def borrow():
        with meter.lent(now_us, 90):
            return

    borrower = threading.Thread(target=borrow, daemon=True)
    counting = threading.Thread(target=meter.note, args=(now_us, {"commits": 1}), daemon=True)
    opened.before_fork()
    try:
        borrower.start()
        while borrower.is_alive() and not opened._passed._waiters:
            borrower.join(0.01)
        counting.start()
        counting.join(60)
        assert not counting.is_alive()
    finally:
        opened.after_fork_in_parent()
    borrower.join(60)
    assert not borrower.is_alive()


@pytest.mark.parametrize("duration_s", [0.0, 0.0004, 0.0013, 0.9, 3, 100])
def test_latency_falls_into_the_bucket_of_its_bound(duration_s):
    buckets = metrics.latency_buckets(metrics.latency_counts(duration_s))
    place = buckets.index(1)
    bounds = [0, *metrics.LATENCY_BOUNDS_US, float("inf")]
    assert bounds[place] <= duration_s * 1e6 <= bounds[place + 1]


@given(st.lists(st.floats(0.0001, 9), min_size=1), st.sampled_from([0.5, 0.9, 0.99]))
def test_quantile_lies_within_a_bucket_of_the_true_one(durations, share):
    found = metrics.quantile_s(
        metrics.latency_buckets(metrics.merged(map(metrics.latency_counts, durations))), share
    )
    true = sorted(durations)[max(0, -(-len(durations) * share // 1).__int__() - 1)]
    bounds = [bound / 1e6 for bound in metrics.LATENCY_BOUNDS_US]
    below = max((bound for bound in bounds if bound < true), default=0)
    above = min((bound for bound in bounds if bound >= true), default=10)
    assert below * 0.999 <= found <= above * 1.001


def test_quantile_of_nothing_is_none():
    assert metrics.quantile_s(metrics.latency_buckets({}), 0.5) is None


def test_keep_days_must_be_positive():
    with pytest.raises(InvalidInputError):
        ArtifactStoreConfig(metrics_keep_days=0)

"""Threads share transactions; each learns its own outcome, and an interrupted one takes nobody with it."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cas import StorageError, StoreSuspectError, groupcommit
from cas.groupcommit import GroupCommit, _Ticket
from cas.lmdbenv import SUSPECT_FILE, Table
from tests.store.stores import commit, dump, open_store

WAIT_S = 60  # a test that waits this long has found a deadlock


class Gate:
    """Holds the write lock in a thread, so that callers pile up in the queue until it is let go."""

    def __init__(self, environment):
        self._environment = environment
        self._held, self._free = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold)

    def _hold(self):
        with self._environment.write():
            self._held.set()
            assert self._free.wait(WAIT_S)

    def __enter__(self):
        self._thread.start()
        assert self._held.wait(WAIT_S)
        return self

    def __exit__(self, *_):
        self._free.set()
        self._thread.join(WAIT_S)


def wait_for(is_so):
    for _ in range(WAIT_S * 1000):
        if is_so():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not come to that")


def wait_until(queue, count):
    """Wait until ``count`` callers stand in the queue or lead it."""
    wait_for(lambda: len(queue._waiting) >= count)


def put(key, value=b"x"):
    return lambda transaction: transaction.put(Table.COUNTERS, key, value)


def fail(transaction):
    transaction.put(Table.COUNTERS, b"never", b"x")
    raise KeyError("mine")


def run_all(queue, works, come_count=None, meanwhile=None):
    """Run each work in a thread of its own, queued while the write lock is taken; return results or errors."""

    def run(work):
        try:
            return queue.run(work)
        except BaseException as error:  # noqa: BLE001  it is what the test looks at
            return error

    results = {}
    # Daemons: threads that wait for ever, which is what some of these tests look for, must not keep the runner.
    threads = [
        threading.Thread(target=lambda n=n, w=work: results.update({n: run(w)}), daemon=True)
        for n, work in enumerate(works)
    ]
    with Gate(queue._environment):
        for thread in threads:
            thread.start()
        wait_until(queue, len(works) if come_count is None else come_count)
        if meanwhile is not None:
            meanwhile()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive(), "a deadlock"
    return [results[n] for n in range(len(works))]


@pytest.mark.parametrize("durability", ["full", "group", "relaxed"])
def test_eight_threads_share_transactions(tmp_path, durability):
    with open_store(tmp_path, durability=durability) as store:
        with ThreadPoolExecutor(8) as pool:
            with Gate(store.environment):
                futures = [
                    pool.submit(commit, store, f"c{number}", task_id=f"t{number % 8}", metadata={"n": number})
                    for number in range(40)
                ]
                wait_until(store.commit_queue, 8)
            results = [future.result(WAIT_S) for future in futures]
        assert len({result["commit_sha"] for result in results}) == 40
        assert store.commit_queue.transaction_count < 40
        assert store.verify().ok
        for task in range(8):
            history = store.history(f"ai/generated/wf/t{task}")
            assert [step["parent"] for step in history] == [*(s["commit_sha"] for s in history[1:]), None]


def test_same_run_from_eight_threads_is_stored_once(store):
    with ThreadPoolExecutor(8) as pool:
        with Gate(store.environment):
            futures = [pool.submit(commit, store) for _ in range(8)]
            wait_until(store.commit_queue, 8)
        results = [future.result(WAIT_S) for future in futures]
    assert all(result == results[0] for result in results)
    assert len(dump(store)["MANIFESTS"]) == 1


def test_waiting_callers_are_one_transaction(store):
    queue = GroupCommit(store.environment)
    assert run_all(queue, [put(b"%d" % n) for n in range(20)]) == [None] * 20
    assert queue.transaction_count == 1
    assert len(dump(store)["COUNTERS"]) == 20


def test_more_callers_than_a_group_takes_are_several_transactions(store):
    queue = GroupCommit(store.environment)
    run_all(queue, [put(b"%d" % n) for n in range(70)])
    assert queue.transaction_count == 2
    assert len(dump(store)["COUNTERS"]) == 70


@pytest.mark.parametrize("position", [0, 3, 7])
def test_one_failing_member_fails_alone(store, position):
    queue = GroupCommit(store.environment)
    works = [put(b"%d" % n) for n in range(8)]
    works[position] = fail
    results = run_all(queue, works)
    assert [type(result) for result in results] == [
        KeyError if n == position else type(None) for n in range(8)
    ]
    assert len(dump(store)["COUNTERS"]) == 7


def test_all_members_failing_each_get_their_own_error(store):
    queue = GroupCommit(store.environment)

    def failing(number):
        def work(transaction):
            raise ValueError(number)

        return work

    assert [error.args for error in run_all(queue, [failing(n) for n in range(5)])] == [
        (n,) for n in range(5)
    ]
    assert dump(store)["COUNTERS"] == {}
    queue.run(put(b"after"))


class Interrupt(BaseException):
    """Stands for a KeyboardInterrupt, which pytest itself would take."""


def test_interrupted_leader_gives_its_group_back(store):
    queue = GroupCommit(store.environment)
    calls = []

    def interrupted(transaction):
        calls.append(1)
        raise Interrupt

    results = run_all(queue, [put(b"a"), interrupted, put(b"b"), put(b"c")])
    # Whoever led when it struck was interrupted; the work itself goes on to strike the next leader, and so on.
    assert any(isinstance(result, Interrupt) for result in results)
    queue.run(put(b"after"))
    assert b"after" in dump(store)["COUNTERS"]
    assert queue._waiting == queue._group == []
    assert queue._leader is None


@pytest.mark.parametrize("step", ["_take", "_settle", "_hand_over", "_gather"])
def test_interrupt_at_any_step_leaves_nobody_waiting(store, monkeypatch, step):
    queue = GroupCommit(store.environment)
    real, strikes = getattr(queue, step), []

    def strike(*arguments, **named):
        if not strikes:
            strikes.append(1)
            raise Interrupt
        return real(*arguments, **named)

    monkeypatch.setattr(queue, step, strike)
    works = [put(b"%d" % n) for n in range(6)]
    works[2] = fail  # so that `_settle` is among the steps
    # An interrupt before the write lock strikes at once, and that caller is gone before the others have come.
    results = run_all(queue, works, come_count=5 if step == "_gather" else 6)
    assert sum(isinstance(result, Interrupt) for result in results) == 1
    lost = [
        n for n, result in enumerate(results) if result is None and b"%d" % n not in dump(store)["COUNTERS"]
    ]
    assert lost == []
    assert sum(result is None for result in results) >= 4
    assert queue._leader is None


class InterruptedLock:
    """The lock a caller sleeps on, whose sleep an interrupt ends."""

    def __init__(self):
        self.struck, self._lock = threading.Event(), threading.Lock()
        self._lock.acquire()
        self.locked, self.release = self._lock.locked, self._lock.release

    def acquire(self):
        assert self.struck.wait(WAIT_S)
        raise Interrupt


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_interrupted_waiter_leaves_the_queue(store, victim):
    queue = GroupCommit(store.environment)
    tickets = []
    enter = queue._enter

    def entering(ticket):
        tickets.append(ticket)
        if len(tickets) == victim + 1:
            ticket.wake = InterruptedLock()
        enter(ticket)

    queue._enter = entering
    outcomes = {}

    def run(number):
        try:
            outcomes[number] = queue.run(put(b"%d" % number))
        except Interrupt as error:
            outcomes[number] = error

    threads = []
    with Gate(store.environment):
        for number in range(4):
            threads.append(threading.Thread(target=run, args=(number,), daemon=True))
            threads[-1].start()
            wait_until(queue, number + 1)
        tickets[victim].wake.struck.set()
        threads[victim].join(WAIT_S)
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert isinstance(outcomes.pop(victim), Interrupt)
    assert set(outcomes.values()) == {None}
    assert {b"%d" % number for number in outcomes} == set(dump(store)["COUNTERS"])


def test_suspect_store_refuses_every_waiting_commit(store):
    queue = GroupCommit(store.environment)
    before = dump(store)
    mark = store.environment.directory / SUSPECT_FILE
    # Set while all of them wait for the lock: a look before that would have come too early.
    results = run_all(queue, [put(b"%d" % n) for n in range(3)], meanwhile=mark.touch)
    assert {type(result) for result in results} == {StoreSuspectError}
    assert all(isinstance(result, StorageError) for result in results)
    assert dump(store) == before
    store.environment.clear_suspect()
    commit(store)


def test_group_extends_the_file_for_all_its_members(tmp_path):
    with open_store(tmp_path) as store:
        commit(store)
        data = store.environment.directory / "data.mdb"
        size_bytes = data.stat().st_size
        queue, part = GroupCommit(store.environment), bytes(1024 * 1024)
        seen = []

        def work(number):
            def put_part(transaction):
                transaction.put(Table.COUNTERS, b"%d" % number, part)
                seen.append(data.stat().st_size)

            return put_part

        with ThreadPoolExecutor(30) as pool:
            with Gate(store.environment):
                futures = [pool.submit(queue.run, work(n), len(part)) for n in range(30)]
                wait_until(queue, 30)
            for future in futures:
                future.result(WAIT_S)
        assert set(seen) == {data.stat().st_size}, "the commit itself must not change the size of the file"
        assert data.stat().st_size >= size_bytes + 30 * len(part)


def test_queue_does_not_keep_a_closed_store_alive(tmp_path):
    from cas import groupcommit

    gc.collect()  # stores of other tests that wait for it in a cycle would be counted, and go in the middle
    before = len(groupcommit._queues._made)
    for number in range(3):
        with open_store(tmp_path / str(number)) as store:
            commit(store)
        del store
    assert len(groupcommit._queues._made) == before


@pytest.fixture
def interrupt():
    """Interrupts the main thread, as Ctrl-C does, and waits until it has heard it."""
    sent, heard = [], []

    def hear(*_):
        if len(heard) < len(sent):
            heard.append(1)
            raise Interrupt

    def is_heard():
        # A signal that comes in the instant before a thread falls asleep does not wake it: it is sent again.
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        return len(heard) >= len(sent)

    def strike():
        sent.append(1)
        wait_for(is_heard)

    before = signal.signal(signal.SIGUSR1, hear)
    yield strike
    signal.signal(signal.SIGUSR1, before)


def lead_interrupted(queue, work):
    """Lead in this thread, with a caller behind, and be interrupted; return once the one behind is through."""
    behind = threading.Thread(target=lambda: queue.run(put(b"behind")), daemon=True)

    def followed(transaction):
        behind.start()
        wait_until(queue, 1)
        work(transaction)

    with contextlib.suppress(Interrupt):
        queue.run(followed)
    behind.join(WAIT_S / 4)
    assert not behind.is_alive(), "a deadlock"
    queue.run(put(b"after"))
    assert (queue._waiting, queue._group, queue._leader) == ([], [], None)


@pytest.mark.parametrize("step", ["_leave", "_hand_over"])
def test_leader_interrupted_again_as_it_leaves_strands_nobody(store, monkeypatch, interrupt, step):
    queue = GroupCommit(store.environment)
    real, strikes = getattr(queue, step), []

    def struck(ticket):
        if not strikes:
            strikes.append(1)
            interrupt()
        real(ticket)

    def work(_):
        monkeypatch.setattr(queue, step, struck)
        interrupt()

    lead_interrupted(queue, work)
    assert strikes == [1]
    assert b"behind" in dump(store)["COUNTERS"]


def test_leader_interrupted_before_the_next_one_is_told_strands_nobody(store, monkeypatch):
    queue = GroupCommit(store.environment)
    real, strikes = _Ticket.wake_up, []

    def struck(ticket):
        if not strikes and threading.current_thread() is threading.main_thread() and queue._group == []:
            strikes.append(queue._leader is ticket)
            raise Interrupt
        real(ticket)

    def work(_):
        monkeypatch.setattr(_Ticket, "wake_up", struck)

    lead_interrupted(queue, work)
    assert strikes == [True]


@pytest.mark.parametrize("step", ["begin_preparing", "end_preparing"])
def test_commit_interrupted_around_its_preparation_slows_no_later_one(tmp_path, monkeypatch, step):
    """A leader of durability `group` waits for who prepares, and would wait each time for one who never ends."""
    with open_store(tmp_path, durability="group") as store:
        queue = store.commit_queue
        real, strikes = getattr(queue, step), []

        def struck():
            if step == "begin_preparing":
                real()
            if not strikes:
                strikes.append(1)
                raise Interrupt
            real()

        monkeypatch.setattr(queue, step, struck)
        with pytest.raises(Interrupt):
            commit(store, "first")
        commit(store, "second")
        assert queue._preparing == set()


def test_leader_interrupted_where_no_thread_can_be_made_leaves_by_itself(store, monkeypatch):
    queue = GroupCommit(store.environment)

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    def work(_):
        monkeypatch.setattr(groupcommit, "start_new_thread", refuse)
        raise Interrupt

    lead_interrupted(queue, work)


def test_waiter_that_has_left_is_not_made_the_next_leader(store):
    queue = GroupCommit(store.environment)
    own, gone, other = (_Ticket(put(key), 0, None) for key in (b"a", b"b", b"c"))
    for one in (own, gone, other):
        queue._enter(one)
    assert queue._take(own) == [own, gone, other]
    queue._leave(gone)
    queue._leave(own)
    assert (queue._waiting, queue._leader) == ([other], other)
    assert not other.wake.locked()

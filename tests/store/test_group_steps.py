"""The steps of a group commit by themselves: who is in a group, what is asked for it, and whose error is whose."""

from __future__ import annotations

import threading

import msgspec
import pytest

from cas import StateError, groupcommit
from cas.groupcommit import GATHER_S, RELAY_FLUSH_S, GroupCommit, RelayRefusedError, _Ticket, group_commit_of
from cas.lmdbenv import Environment, Table, WriteTransaction
from cas.relay import TURN_FILE, Relay, Turn
from tests.store.stores import dump, open_store

WAIT_S = 15


@pytest.fixture
def queue(store):
    return GroupCommit(store.environment)


def put(key, result=None):
    def work(transaction):
        transaction.put(Table.COUNTERS, key, b"x")
        return result

    return work


def ticket(work=None, reserve_bytes=0):
    return _Ticket(work or put(b"k"), reserve_bytes, None)


def failing(error):
    def work(transaction):
        transaction.put(Table.COUNTERS, b"never", b"x")
        raise error

    return work


@pytest.fixture
def asked(monkeypatch):
    """Bytes that write transactions were begun with, and that were reserved inside them."""
    begun, reserved = [], []
    write, reserve = Environment.write, WriteTransaction.reserve

    def beginning(self, reserve_bytes=0):
        begun.append(reserve_bytes)
        return write(self, reserve_bytes)

    def reserving(self, size_bytes):
        reserved.append(size_bytes)
        reserve(self, size_bytes)

    monkeypatch.setattr(Environment, "write", beginning)
    monkeypatch.setattr(WriteTransaction, "reserve", reserving)
    return begun, reserved


def keys(store):
    return sorted(dump(store)["COUNTERS"])


def test_ticket_begins_undone_and_is_woken_once():
    made = ticket(reserve_bytes=7)
    assert (made.done, made.result, made.error, made.reserve_bytes, made.encode) == (
        False,
        None,
        None,
        7,
        None,
    )
    assert made.wake.locked()
    made.wake_up()
    made.wake_up()
    assert made.wake.acquire(blocking=False)


def test_work_alone_is_one_transaction_with_what_it_reserves(store, queue, asked):
    assert queue.run(put(b"a", "told"), 1234) == "told"
    assert queue.run(put(b"b")) is None
    assert asked == ([1234, 0], [])
    assert (queue.transaction_count, queue.relayed_count) == (2, 0)
    assert (queue._waiting, queue._group, queue._leader) == ([], [], None)
    assert keys(store) == [b"a", b"b"]


def test_work_alone_that_fails_raises_its_own_error_and_is_not_tried_twice(store, queue, asked):
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        queue.run(failing(error))
    assert caught.value is error
    assert asked[0] == [0]
    assert keys(store) == []
    assert queue._leader is None


def test_group_reserves_for_all_its_members_together(store, queue, asked):
    own, other, third = ticket(put(b"a"), 5), ticket(put(b"b"), 70), ticket(put(b"c"), 900)
    for one in (other, own, third):
        queue._enter(one)
    queue._lead(own)
    assert asked == ([5], [975])
    assert all(one.done and one.error is None for one in (own, other, third))
    assert keys(store) == [b"a", b"b", b"c"]
    assert queue.transaction_count == 1


def test_first_who_enters_leads_and_the_others_sleep(queue):
    first, second = ticket(), ticket()
    queue._enter(first)
    queue._enter(second)
    assert queue._leader is first
    assert queue._waiting == [first, second]
    assert (first.wake.locked(), second.wake.locked()) == (False, True)


def test_group_has_its_leader_at_the_head_and_so_many_of_the_others(queue, monkeypatch):
    monkeypatch.setattr(groupcommit, "_MAX_GROUP_COUNT", 3)
    own, *others = (ticket() for _ in range(5))
    queue._waiting = [others[0], own, *others[1:]]
    group = queue._take(own)
    assert group == [own, others[0], others[1]]
    assert queue._waiting == others[2:]
    queue._waiting.append(ticket())
    assert queue._take(own) is group


def test_handing_over_wakes_who_is_done_and_puts_the_others_first(queue):
    own, done, undone, late = (ticket() for _ in range(4))
    own.done = done.done = True
    queue._leader, queue._group, queue._waiting = own, [own, done, undone], [late, undone]
    queue._hand_over(own)
    assert (queue._group, queue._waiting, queue._leader) == ([], [undone, late], undone)
    assert [one.wake.locked() for one in (own, done, undone, late)] == [False, False, False, True]
    queue._waiting = []
    queue._hand_over(own)
    assert queue._leader is None


def test_interrupted_leader_is_not_put_back(queue):
    own, other = ticket(), ticket()
    queue._leader, queue._group = own, [own, other]
    queue._leave(own)
    assert (queue._waiting, queue._leader) == ([other], other)


def test_interrupted_waiter_leaves_the_leader_alone(queue):
    leader, waiter = ticket(), ticket()
    for one in (leader, waiter):
        queue._enter(one)
    queue._leave(waiter)
    assert (queue._waiting, queue._leader) == ([leader], leader)


def test_failed_group_is_done_again_one_by_one(store, queue, asked):
    error = ValueError("mine")
    good, bad, before = ticket(put(b"a", 1), 11), ticket(failing(error), 22), ticket()
    before.done = True
    queue._settle([good, bad, before], RuntimeError("the group's"), shared=False)
    assert asked[0] == [11, 22]
    assert (good.done, good.result, good.error) == (True, 1, None)
    assert (bad.done, bad.error) == (True, error)
    assert (before.result, before.error) == (None, None)
    assert queue.transaction_count == 2
    assert keys(store) == [b"a"]


@pytest.mark.parametrize("shared", [True, False])
def test_single_member_is_done_again_only_when_others_work_may_be_to_blame(store, queue, asked, shared):
    error, one = RuntimeError("the transaction's"), ticket(put(b"a", 1))
    queue._settle([one], error, shared=shared)
    assert one.done
    assert one.error is (None if shared else error)
    assert asked[0] == ([0] if shared else [])
    assert keys(store) == ([b"a"] if shared else [])


def test_nothing_is_settled_where_all_are_done(queue, asked):
    one = ticket()
    one.done = True
    queue._settle([one], RuntimeError("late"), shared=True)
    assert one.error is None
    assert asked[0] == []


def test_answer_of_another_process_settles_the_leader(queue):
    own = ticket()
    queue._waiting = [own]
    turn = Turn(queue._relay, is_held=False)
    assert queue._take_answer(own, turn) is False
    assert (own.done, queue._waiting, queue.relayed_count) == (False, [own], 0)
    turn.answer = msgspec.msgpack.encode([4, 5])
    assert queue._take_answer(own, turn) is True
    assert (own.done, own.result, queue._waiting, queue.relayed_count) == (True, [4, 5], [], 1)
    assert queue._take_answer(own, turn) is True
    assert queue.relayed_count == 2
    turn.answer = msgspec.msgpack.encode(["no number"])
    with pytest.raises(msgspec.ValidationError):
        queue._take_answer(own, turn)


class Posts:
    """Posts of other processes, as a turn tells of them."""

    def __init__(self, *contents):
        self.contents = contents

    def iter_posts(self):
        return ((f"post{number}", content) for number, content in enumerate(self.contents))


def test_posts_are_done_and_answered_but_those_that_cannot_be(store, asked):
    def decode(content):
        if content == b"refused":
            raise RelayRefusedError
        if content == b"no message":
            raise msgspec.DecodeError
        return put(content, [len(content)])

    queue = GroupCommit(store.environment, decode=decode)
    with store.environment.write() as transaction:
        answers = queue._do_posts(Posts(b"refused", b"one", b"no message", b"three"), transaction)
    assert answers == [("post1", msgspec.msgpack.encode([3])), ("post3", msgspec.msgpack.encode([5]))]
    assert asked[1] == [3, 5]
    assert keys(store) == [b"one", b"three"]


def test_queue_that_cannot_read_posts_answers_none(store, queue):
    with store.environment.write() as transaction:
        assert queue._do_posts(Posts(b"one"), transaction) == []


@pytest.mark.parametrize(
    ("flush_s", "can_encode", "can_decode", "shares"),
    [
        (RELAY_FLUSH_S, True, True, True),
        (RELAY_FLUSH_S - 1e-6, True, True, False),
        (1.0, False, True, False),
        (1.0, True, False, False),
    ],
)
def test_turn_is_asked_for_on_slow_disks_by_who_can_share(store, flush_s, can_encode, can_decode, shares):
    store.environment._flushes_s.extend([flush_s] * 8)
    queue = GroupCommit(store.environment, decode=put if can_decode else None)
    assert queue.run(put(b"a", [1]), encode=(lambda: b"a") if can_encode else None) == [1]
    assert (store.environment.directory / TURN_FILE).exists() == shares


def test_leader_posts_its_work_where_another_process_has_the_turn(store):
    store.environment._flushes_s.extend([1.0] * 8)
    queue, results = GroupCommit(store.environment, decode=put), []
    relay = Relay(store.environment.directory)

    def run():
        results.append(queue.run(put(b"a", [1]), encode=lambda: b"posted"))

    caller = threading.Thread(target=run, daemon=True)
    with relay.turn(lambda: None) as turn:
        caller.start()
        for _ in range(WAIT_S * 100):
            if relay.posts() or results:
                break
            caller.join(0.01)
        ((name, content),) = turn.iter_posts()
        assert content == b"posted"
        turn.reply(name, msgspec.msgpack.encode([7]))
    caller.join(WAIT_S)
    assert results == [[7]]
    assert (queue.relayed_count, queue.transaction_count, keys(store)) == (1, 0, [])


def test_leader_waits_for_who_is_still_preparing(store):
    queue, done, ready = GroupCommit(store.environment, gather_s=WAIT_S), threading.Event(), threading.Event()
    queue.begin_preparing()
    other = threading.Thread(
        target=lambda: (queue.begin_preparing(), ready.wait(WAIT_S), queue.end_preparing()), daemon=True
    )
    other.start()
    while len(queue._preparing) < 2:
        assert other.is_alive()
    leader = threading.Thread(target=lambda: (queue.run(put(b"a")), done.set()), daemon=True)
    leader.start()
    queue.end_preparing()
    assert not done.wait(0.05)
    ready.set()
    assert done.wait(WAIT_S)
    assert queue.run(put(b"b")) is None, "nobody prepares any more"


@pytest.mark.parametrize("gather_s", [0.0, 0.01])
def test_leader_waits_no_longer_than_it_was_told(store, gather_s):
    queue = GroupCommit(store.environment, gather_s=gather_s)
    queue.begin_preparing()
    done = threading.Event()
    threading.Thread(target=lambda: (queue.run(put(b"a")), done.set()), daemon=True).start()
    assert done.wait(WAIT_S)


def test_queue_of_a_store_that_is_gone_says_so(queue, monkeypatch):
    monkeypatch.setattr(queue, "_find_environment", lambda: None)
    with pytest.raises(StateError, match="closed") as caught:
        queue.run(put(b"a"))
    assert "Open a new ArtifactStore" in caught.value.hint
    assert queue._leader is None


@pytest.mark.parametrize(("durability", "gather_s"), [("full", 0.0), ("relaxed", 0.0), ("group", GATHER_S)])
def test_stores_of_one_file_share_a_queue_that_gathers_by_durability(tmp_path, durability, gather_s):
    with (
        open_store(tmp_path, durability=durability) as one,
        open_store(tmp_path, durability=durability) as two,
    ):
        queue = group_commit_of(one.environment, put)
        assert queue is group_commit_of(two.environment)
        assert queue is one.commit_queue is two.commit_queue
        assert queue._gather_s == gather_s


def test_first_who_asks_for_a_queue_says_how_posts_are_read(tmp_path):
    from cas.lmdbenv import close_environment, create_environment, open_environment

    create_environment(tmp_path / "store", {})
    environment = open_environment(tmp_path / "store", map_size_bytes=1 << 30, durability="full")
    try:
        queue = group_commit_of(environment, put)
        assert queue._decode is put
        assert group_commit_of(environment, failing)._decode is put
    finally:
        close_environment(environment)

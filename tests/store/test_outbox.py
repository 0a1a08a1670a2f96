"""The outbox by itself: where an entry waits, which receipts it leaves, and what holds it back."""

import itertools

import msgspec
import pytest

from cas import marks, metrics, outbox, pushfeed
from cas.blobs import Stream
from cas.catalog import sequence_key
from cas.errors import IntegrityError, InvalidInputError, WaitTimeoutError
from cas.lmdbenv import Table
from cas.marks import Forgotten, Pin
from cas.outbox import Attempt, Deposit, Receipt, Stage, Status
from tests.store.stores import open_store, undone_transaction

NOW = 1_762_525_800_000_000


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("outbox")) as opened:
        yield opened


@pytest.fixture
def transaction(store):
    """A write transaction on empty tables that is undone at the end."""
    with undone_transaction(store) as opened:
        yield opened


def stages(transaction):
    """Sequences by stage; a sequence stands in one stage at most."""
    found = {stage: [number for number, _ in outbox.iter_entries(transaction, stage)] for stage in Stage}
    numbers = list(itertools.chain.from_iterable(found.values()))
    assert len(numbers) == len(set(numbers))
    return {stage.name: numbers for stage, numbers in found.items() if numbers}


def counted(transaction):
    return metrics.totals(transaction)


def queued(transaction, *sequences):
    for sequence in sequences:
        outbox.enqueue(transaction, sequence)


def test_new_entry_waits_to_be_written(transaction):
    queued(transaction, 3, 1, 2)
    assert stages(transaction) == {"WRITE": [1, 2, 3]}
    assert outbox.find_entry(transaction, 2) == (Stage.WRITE, Attempt(0, 0, None, 0, held=False))
    assert outbox.find_entry(transaction, 4) is None
    assert outbox.status(transaction, 2) == Status("queued")
    assert [outbox.count_entries(transaction, stage) for stage in Stage] == [0, 0, 0, 3]
    assert [number for number, _ in outbox.iter_entries(transaction, Stage.WRITE, after=1)] == [2, 3]
    assert list(outbox.iter_entries(transaction, Stage.WRITE, after=3)) == []
    assert list(outbox.iter_entries(transaction, Stage.PUSH)) == []


def states(transaction, *sequences):
    found = outbox.States(transaction)
    assert [outbox.status(transaction, number).state for number in sequences] == [found[n] for n in sequences]
    return [found[number] for number in sequences]


def test_states_tell_each_manifests_own(transaction):
    queued(transaction, 1, 2, 3, 4, 5)
    assert states(transaction, 1, 5, 6) == ["queued", "queued", "queued"]
    outbox.record_exported(transaction, [2, 3, 5], NOW)
    outbox.record_pushed(transaction, [3], NOW)
    assert states(transaction, 1, 2, 3) == ["queued", "exported", "pushed"]
    outbox.record_failure(transaction, 1, reason="no", now_us=NOW, park=True)
    assert states(transaction, 1, 2, 3, 4, 5) == ["parked", "exported", "pushed", "queued", "exported"]
    outbox.record_failure(transaction, 5, reason="no", now_us=NOW, park=True)
    assert states(transaction, 1, 2, 3, 4, 5) == ["parked", "exported", "pushed", "queued", "parked"]
    outbox.unpark(transaction, [1])
    assert states(transaction, 1, 2, 3, 4, 5) == ["queued", "exported", "pushed", "queued", "parked"]


def test_states_of_failures_that_are_tried_again_are_as_before(transaction):
    queued(transaction, 1, 2)
    outbox.record_exported(transaction, [2], NOW)
    for sequence in (1, 2):
        outbox.record_failure(transaction, sequence, reason="no", now_us=NOW, park=False)
    assert states(transaction, 1, 2) == ["queued", "exported"]


def test_exported_entry_gets_a_receipt_and_waits_for_the_push(transaction):
    queued(transaction, 1, 2, 3)
    outbox.record_exported(transaction, [1, 3], NOW)
    assert stages(transaction) == {"PUSH": [1, 3], "WRITE": [2]}
    assert outbox.get_receipt(transaction, 1) == Receipt(NOW, 0)
    assert outbox.get_receipt(transaction, 2) is None
    assert outbox.status(transaction, 1) == Status("exported", NOW)
    assert outbox.find_entry(transaction, 1) == (Stage.PUSH, Attempt())
    assert outbox.last_times(transaction) == (NOW, None)
    assert list(outbox.iter_receipts(transaction)) == [1, 3]
    assert list(outbox.iter_receipts(transaction, after=1)) == [3]
    assert outbox.newest_receipt(transaction) == 3
    assert counted(transaction)["exported"] == 2


def test_no_receipt_and_no_time_in_the_beginning(transaction):
    assert outbox.newest_receipt(transaction) is None
    assert outbox.last_times(transaction) == (None, None)
    assert outbox.exported_segment(transaction) == 0
    assert outbox.get_receipt(transaction, 1) is None


def test_exported_segment_only_grows(transaction):
    outbox.record_exported(transaction, [], NOW)
    assert outbox.exported_segment(transaction) == 0
    for given, kept in ((5, 5), (3, 5), (5, 5), (6, 6), (0, 6)):
        outbox.record_exported(transaction, [], NOW, given)
        assert outbox.exported_segment(transaction) == kept


def test_empty_export_or_push_counts_nothing_but_its_time(transaction):
    before = counted(transaction)
    outbox.record_exported(transaction, [], NOW)
    outbox.record_pushed(transaction, [], NOW + 1)
    assert counted(transaction) == before
    assert outbox.last_times(transaction) == (NOW, NOW + 1)


def test_pushed_entry_is_done_and_told(transaction):
    queued(transaction, 1, 2)
    outbox.record_exported(transaction, [1, 2], NOW)
    outbox.record_pushed(transaction, [1, 2], NOW + 5)
    assert stages(transaction) == {}
    assert outbox.get_receipt(transaction, 1) == Receipt(NOW, NOW + 5)
    assert outbox.status(transaction, 2) == Status("pushed", NOW, NOW + 5)
    assert outbox.last_times(transaction) == (NOW, NOW + 5)
    assert counted(transaction)["pushed"] == 2


def test_push_seen_before_the_export_was_noted_counts_as_both(transaction):
    queued(transaction, 1)
    outbox.record_pushed(transaction, [1], NOW)
    assert outbox.get_receipt(transaction, 1) == Receipt(NOW, NOW)
    assert stages(transaction) == {}


@pytest.mark.parametrize("pushed", [False, True])
def test_imported_manifest_has_a_receipt_at_once(transaction, pushed):
    outbox.record_imported(transaction, 4, NOW, pushed=pushed)
    assert outbox.get_receipt(transaction, 4) == Receipt(NOW, NOW if pushed else 0)
    assert stages(transaction) == ({} if pushed else {"PUSH": [4]})
    assert outbox.status(transaction, 4).state == ("pushed" if pushed else "exported")
    if not pushed:
        assert outbox.find_entry(transaction, 4)[1] == Attempt()


@pytest.mark.parametrize("park", [False, True])
def test_failed_export_is_noted_and_parked_when_asked(transaction, park):
    queued(transaction, 1)
    outbox.record_failure(transaction, 1, reason="first", now_us=NOW, park=False)
    outbox.record_failure(transaction, 1, reason="second", now_us=NOW + 1, park=park)
    assert stages(transaction) == {"PARKED_WRITE" if park else "WRITE": [1]}
    assert outbox.find_entry(transaction, 1)[1] == Attempt(2, NOW + 1, "second")
    assert outbox.status(transaction, 1) == Status("parked" if park else "queued", None, None, 2, "second")
    assert counted(transaction)["export_failures"] == 2
    assert "push_failures" not in {name for name, count in counted(transaction).items() if count}


@pytest.mark.parametrize("park", [False, True])
def test_failed_push_is_noted_and_parked_when_asked(transaction, park):
    queued(transaction, 1)
    outbox.record_exported(transaction, [1], NOW)
    outbox.record_failure(transaction, 1, reason="refused", now_us=NOW + 1, park=park)
    assert stages(transaction) == {"PARKED_PUSH" if park else "PUSH": [1]}
    assert outbox.status(transaction, 1) == Status("parked" if park else "exported", NOW, None, 1, "refused")
    outbox.record_failure(transaction, 1, reason="again", now_us=NOW + 2, park=park)
    assert stages(transaction) == {"PARKED_PUSH" if park else "PUSH": [1]}
    assert counted(transaction)["push_failures"] == 2


def test_failure_of_nothing_is_not_noted(transaction):
    before = counted(transaction)
    outbox.record_failure(transaction, 9, reason="no", now_us=NOW, park=True)
    assert stages(transaction) == {}
    assert counted(transaction) == before


def parked_in_both(transaction):
    queued(transaction, 1, 2, 3, 4)
    outbox.record_exported(transaction, [3, 4], NOW)
    for sequence in (1, 2, 3, 4):
        outbox.record_failure(transaction, sequence, reason=f"r{sequence}", now_us=NOW, park=True)
    assert stages(transaction) == {"PARKED_WRITE": [1, 2], "PARKED_PUSH": [3, 4]}


def test_unpark_queues_all_again_with_what_was_noted(transaction):
    parked_in_both(transaction)
    assert outbox.unpark(transaction) == 4
    assert stages(transaction) == {"WRITE": [1, 2], "PUSH": [3, 4]}
    assert outbox.find_entry(transaction, 3) == (Stage.PUSH, Attempt(1, NOW, "r3"))
    assert outbox.unpark(transaction) == 0


def test_unpark_of_some_leaves_the_others(transaction):
    parked_in_both(transaction)
    assert outbox.unpark(transaction, iter([2, 4, 77])) == 2
    assert stages(transaction) == {"PARKED_WRITE": [1], "PARKED_PUSH": [3], "WRITE": [2], "PUSH": [4]}
    assert outbox.unpark(transaction, []) == 0


def test_held_entry_is_parked_and_no_retry_moves_it(transaction):
    queued(transaction, 1, 2, 3)
    outbox.record_exported(transaction, [2], NOW)
    for sequence in (1, 2):
        assert outbox.hold(transaction, sequence, reason="purged", now_us=NOW + 1) is True
    assert outbox.hold(transaction, 9, reason="purged", now_us=NOW) is False
    assert stages(transaction) == {"PARKED_WRITE": [1], "PARKED_PUSH": [2], "WRITE": [3]}
    held = Attempt(0, NOW + 1, "purged", 0, held=True)
    assert list(outbox.iter_held(transaction)) == [(1, held), (2, held)]
    assert outbox.unpark(transaction) == 0
    assert outbox.unpark(transaction, [1, 2]) == 0
    outbox.requeue(transaction, 1)
    outbox.requeue(transaction, 2)
    outbox.requeue_push(transaction, 2)
    assert stages(transaction) == {"PARKED_WRITE": [1], "PARKED_PUSH": [2], "WRITE": [3]}
    assert outbox.get_receipt(transaction, 2) == Receipt(NOW)
    assert outbox.hold(transaction, 1, reason="again", now_us=NOW + 2) is True
    assert stages(transaction)["PARKED_WRITE"] == [1]


def test_iter_held_leaves_out_what_is_only_parked(transaction):
    parked_in_both(transaction)
    outbox.hold(transaction, 2, reason="purged", now_us=NOW)
    assert [number for number, _ in outbox.iter_held(transaction)] == [2]


def test_entry_held_while_it_was_exported_is_not_pushed(transaction):
    queued(transaction, 1)
    outbox.hold(transaction, 1, reason="purged", now_us=NOW)
    outbox.record_exported(transaction, [1], NOW + 1)
    assert stages(transaction) == {"PARKED_PUSH": [1]}
    assert outbox.get_receipt(transaction, 1) == Receipt(NOW + 1)
    assert [number for number, _ in outbox.iter_held(transaction)] == [1]


def test_requeue_forgets_the_receipt_and_remembers_the_push(transaction):
    queued(transaction, 1, 2)
    outbox.record_exported(transaction, [1, 2], NOW)
    outbox.record_pushed(transaction, [1], NOW + 1)
    for sequence in (1, 2, 1):  # a second time loses nothing
        outbox.requeue(transaction, sequence)
    assert stages(transaction) == {"WRITE": [1, 2]}
    assert outbox.get_receipt(transaction, 1) is None
    assert outbox.find_entry(transaction, 1)[1] == Attempt(pushed_at_us=NOW + 1)
    assert outbox.find_entry(transaction, 2)[1] == Attempt()
    outbox.record_exported(transaction, [1, 2], NOW + 2)
    assert outbox.get_receipt(transaction, 1) == Receipt(NOW + 2, NOW + 1)
    assert outbox.get_receipt(transaction, 2) == Receipt(NOW + 2)
    assert outbox.status(transaction, 1).state == "pushed"


def test_requeue_of_a_manifest_that_was_never_queued_queues_it(transaction):
    outbox.requeue(transaction, 8)
    assert stages(transaction) == {"WRITE": [8]}
    assert outbox.find_entry(transaction, 8)[1] == Attempt()


def test_requeue_push_forgets_the_push_and_keeps_the_export(transaction):
    queued(transaction, 1, 2)
    outbox.record_exported(transaction, [1], NOW)
    outbox.record_pushed(transaction, [1], NOW + 1)
    outbox.requeue_push(transaction, 1)
    outbox.requeue_push(transaction, 2)
    outbox.requeue_push(transaction, 9)
    assert stages(transaction) == {"PUSH": [1], "WRITE": [2]}
    assert outbox.get_receipt(transaction, 1) == Receipt(NOW)
    assert outbox.find_entry(transaction, 1)[1] == Attempt()


def test_feed_tells_of_pushed_runs_once_however_often_they_are_pushed(transaction):
    transaction.put(Table.META, b"pushfeed", b"1")
    outbox.record_exported(transaction, [1, 2, 3], NOW)
    outbox.record_pushed(transaction, [3, 1, 2], NOW)
    assert pushfeed.list_waiting(transaction, 10) == [1, 2, 3]
    assert pushfeed.list_waiting(transaction, 2) == [1, 2]
    transaction.put(Table.META, b"other:" + sequence_key(7), b"")
    assert pushfeed.list_waiting(transaction, 10) == [1, 2, 3]
    pushfeed.note_announced(transaction, 1, pushed_again=False)
    assert pushfeed.list_waiting(transaction, 10) == [2, 3]
    outbox.requeue(transaction, 1)
    outbox.requeue_push(transaction, 2)
    assert pushfeed.list_waiting(transaction, 10) == [2, 3]
    outbox.record_exported(transaction, [1], NOW)
    outbox.record_pushed(transaction, [1, 2], NOW)
    assert pushfeed.list_waiting(transaction, 10) == [2, 3]
    outbox.requeue_push(transaction, 3)
    pushfeed.note_announced(transaction, 3, pushed_again=True)
    assert pushfeed.list_waiting(transaction, 10) == [2]
    outbox.record_pushed(transaction, [3], NOW)
    assert pushfeed.list_waiting(transaction, 10) == [2]


def test_run_that_was_never_pushed_is_told_after_it_was_queued_again(transaction):
    transaction.put(Table.META, b"pushfeed", b"1")
    outbox.record_exported(transaction, [1, 2], NOW)
    outbox.requeue(transaction, 1)
    outbox.requeue_push(transaction, 2)
    outbox.record_pushed(transaction, [1, 2], NOW)
    assert pushfeed.list_waiting(transaction, 10) == [1, 2]


def test_feed_that_was_never_begun_keeps_nothing(transaction):
    outbox.record_exported(transaction, [1], NOW)
    outbox.record_pushed(transaction, [1], NOW)
    outbox.requeue(transaction, 1)
    assert pushfeed.list_waiting(transaction, 10) == []
    assert [key for key, _ in transaction.scan(Table.META, b"pushed:")] == []


def test_feed_is_begun_once(tmp_path):
    with open_store(tmp_path) as store:
        for _ in range(2):
            pushfeed.begin(store.environment)
        with store.environment.write() as transaction:
            outbox.record_pushed(transaction, [5], NOW)
        pushfeed.begin(store.environment)
        with store.environment.read() as transaction:
            assert pushfeed.list_waiting(transaction, 10) == [5]


# ---- marks ----------------------------------------------------------------------------------------------------------


def test_forgotten_manifest_is_hidden_until_the_mark_is_lifted(transaction):
    assert 2 not in marks.Hidden(transaction)
    for sequence in (5, 2):
        marks.put_forgotten(transaction, sequence, Forgotten(NOW, "old"))
    hidden = marks.Hidden(transaction)
    assert [sequence in hidden for sequence in (1, 2, 3, 5)] == [False, True, False, True]
    assert list(marks.iter_hidden(transaction)) == [2, 5]
    assert list(marks.iter_forgotten(transaction)) == [(2, Forgotten(NOW, "old")), (5, Forgotten(NOW, "old"))]
    assert [sequence for sequence, _ in marks.iter_forgotten(transaction, 3)] == [5]
    assert [sequence for sequence, _ in marks.iter_forgotten(transaction, 5)] == [5]
    marks.put_forgotten(transaction, 0, Forgotten(NOW))
    assert [sequence for sequence, _ in marks.iter_forgotten(transaction)] == [0, 2, 5]
    assert marks.is_collected(transaction, 2) is False
    marks.lift_forgotten(transaction, 2)
    assert (marks.is_hidden(transaction, 2), marks.is_hidden(transaction, 5)) == (False, True)
    assert marks.find_forgotten(transaction, 2) is None
    assert marks.revival_count(transaction) == 0


def test_revivals_of_collected_manifests_are_counted(transaction):
    for count in (1, 2):
        marks.put_forgotten(transaction, 7, Forgotten(NOW, None, NOW + 1))
        assert marks.is_collected(transaction, 7) is True
        marks.lift_forgotten(transaction, 7)
        assert marks.revival_count(transaction) == count
    assert marks.is_collected(transaction, 7) is False


def test_mark_collected_at_the_first_microsecond_is_collected():
    assert [Forgotten(0, None, at_us).is_collected for at_us in (0, 1)] == [False, True]


def test_pin_is_kept_replaced_and_lifted(transaction):
    assert marks.find_pin(transaction, 1) is None
    marks.put_pin(transaction, 1, Pin(NOW, "good"))
    marks.put_pin(transaction, 1, Pin(NOW + 1, "better"))
    marks.put_pin(transaction, 0, Pin(NOW))
    assert marks.find_pin(transaction, 1) == Pin(NOW + 1, "better")
    assert marks.find_pin(transaction, 2) is None
    assert list(marks.iter_pins(transaction)) == [(0, Pin(NOW)), (1, Pin(NOW + 1, "better"))]
    assert [marks.lift_pin(transaction, 1) for _ in range(2)] == [True, False]
    assert marks.find_pin(transaction, 1) is None


@pytest.mark.parametrize(
    ("prefix", "find", "walk"),
    [
        (b"forgotten:", marks.find_forgotten, marks.iter_forgotten),
        (b"pinned:", marks.find_pin, marks.iter_pins),
    ],
)
def test_damaged_mark_is_refused_and_names_the_manifest(transaction, prefix, find, walk):
    transaction.put(Table.META, prefix + sequence_key(6), b"\xc1")
    with pytest.raises(IntegrityError, match="mark of manifest 6 is damaged"):
        find(transaction, 6)
    with pytest.raises(IntegrityError, match="mark of manifest 6 is damaged"):
        list(walk(transaction))


def test_damaged_receipt_is_refused(transaction):
    transaction.put(Table.RECEIPTS, sequence_key(1), b"\xc1")
    with pytest.raises(IntegrityError, match="is damaged"):
        outbox.status(transaction, 1)


@pytest.mark.parametrize("stage", list(Stage))
def test_damaged_entry_is_what_its_key_tells_and_what_was_set_aside_stays_so(transaction, stage):
    transaction.put(Table.OUTBOX, stage.value + sequence_key(1), b"\xc1")
    held = stage in {Stage.PARKED_WRITE, Stage.PARKED_PUSH}
    told = Attempt(reason="its row in the outbox is damaged", held=held)
    assert outbox.find_entry(transaction, 1) == (stage, told)
    assert list(outbox.iter_entries(transaction, stage)) == [(1, told)]
    assert list(outbox.iter_held(transaction)) == ([(1, told)] if held else [])
    assert outbox.status(transaction, 1).reason == told.reason


class Answers:
    """Gives one status after the other, the last for ever, and counts how often it was asked."""

    def __init__(self, *states):
        self.states = [Status(state) for state in states]
        self.asked = 0

    def __call__(self):
        self.asked += 1
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


@pytest.mark.parametrize(
    ("wanted", "states", "asked"),
    [
        ("exported", ("queued", "exported"), 2),
        ("exported", ("pushed",), 1),
        ("exported", ("queued", "queued", "parked"), 3),
        ("pushed", ("queued", "exported", "pushed"), 3),
        ("pushed", ("parked",), 1),
    ],
)
@pytest.mark.parametrize("timeout_s", [None, 30])
def test_wait_ends_as_soon_as_it_has_come_as_far_as_wanted(wanted, states, asked, timeout_s):
    answers = Answers(*states)
    assert outbox.wait(answers, wanted, timeout_s, "corr_1").state == states[-1]
    assert answers.asked == asked


@pytest.mark.parametrize("timeout_s", [0, 0.02])
def test_wait_in_vain_says_what_it_waited_for(timeout_s):
    answers = Answers("exported")
    with pytest.raises(WaitTimeoutError, match="corr_1 is still exported, not pushed") as caught:
        outbox.wait(answers, "pushed", timeout_s, "corr_1")
    assert caught.value.subject == "corr_1"
    assert answers.asked == 1 if timeout_s == 0 else answers.asked >= 2


@pytest.mark.parametrize(
    ("wanted", "timeout_s", "subject"),
    [
        ("pushed", float("nan"), "timeout"),
        ("pushed", "1", "timeout"),
        ("parked", 0, "state"),
        (None, 0, "state"),
    ],
)
def test_wait_for_what_never_comes_is_refused_before_asking(wanted, timeout_s, subject):
    answers = Answers("queued")
    with pytest.raises(InvalidInputError) as caught:
        outbox.wait(answers, wanted, timeout_s, "corr_1")
    assert (caught.value.subject, answers.asked) == (subject, 0)


def deposited(segment):
    return Attempt(1, 2, "why", 3, deposit=Deposit(segment, b"d" * 32, (Stream(0, 9, 7), None)))


def test_deposits_of_damaged_segments_are_dropped_and_nothing_else(transaction):
    for sequence, segment in enumerate((7, 8, 7, 9), start=1):
        outbox.enqueue(transaction, sequence, deposited(segment))
    queued(transaction, 5)
    outbox.record_failure(transaction, 3, reason="why", now_us=2, park=True)
    assert outbox.drop_deposits(transaction, {7, 9, 10}) == 3
    assert stages(transaction) == {"WRITE": [1, 2, 4, 5], "PARKED_WRITE": [3]}
    without = msgspec.structs.replace(deposited(0), deposit=None)
    found = {sequence: outbox.find_entry(transaction, sequence)[1] for sequence in range(1, 6)}
    parked = msgspec.structs.replace(without, attempt_count=2)
    assert found == {1: without, 2: deposited(8), 3: parked, 4: without, 5: Attempt()}
    assert outbox.drop_deposits(transaction, {7, 9, 10}) == 0


def test_held_entry_keeps_neither_objects_nor_deposit(transaction):
    outbox.enqueue(transaction, 1, deposited(7), b"objects")
    assert outbox.get_objects(transaction, 1) == b"objects"
    assert outbox.hold(transaction, 1, reason="purged", now_us=5)
    assert outbox.get_objects(transaction, 1) == b""
    assert outbox.find_entry(transaction, 1) == (Stage.PARKED_WRITE, Attempt(1, 5, "purged", 3, held=True))

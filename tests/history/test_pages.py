"""Pages of the newest and oldest runs: the way that decodes each run once gives what the longer way gives."""

from __future__ import annotations

import pytest

from cas import InvalidInputError, NotFoundError, ordering, query
from cas.ordering import Order
from cas.query import Selection, Walk
from tests.gc.keeping import commit, pretend_export
from tests.store.stores import open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Runs c0 to c6, of which c2 is forgotten, and a rollback after c3."""
    with open_store(tmp_path_factory.mktemp("pages")) as opened:
        for number in range(7):
            commit(opened, f"c{number}", workflow=f"w{number % 2}", metrics={"m": number})
            if number == 3:
                opened.revert_to_tag("corr_c1", "main")
        pretend_export(opened)
        opened.forget(["c2"])
        yield opened


def listed(store, order, selection=None, *, offset=0, limit=50):
    with store.environment.read() as transaction:
        found = ordering.list_runs(transaction, selection or Selection(), order, offset=offset, limit=limit)
    return "".join(str(record["correlation_id"])[1:] for record in found)


@pytest.mark.parametrize(
    ("order", "window", "expected"),
    [
        (Order(), {}, "654310"),
        (Order(ascending=True), {}, "013456"),
        (Order(), {"limit": 2}, "65"),
        (Order(), {"limit": 0}, ""),
        (Order(ascending=True), {"limit": 3}, "013"),
        (Order(), {"offset": 1, "limit": 2}, "54"),
        (Order(), {"offset": 5, "limit": 2}, "0"),
        (Order(), {"offset": 9, "limit": 2}, ""),
        (Order(ascending=True), {"offset": 2, "limit": 2}, "34"),
        (Order(after="c4"), {}, "310"),
        (Order(after="c4"), {"offset": 1, "limit": 1}, "1"),
        (Order(ascending=True, after="c3"), {"limit": 2}, "45"),
        (Order(after="corr_c2"), {}, "10"),
        (Order(by="m"), {"limit": 3}, "654"),
        (Order(by="m"), {"offset": 2, "limit": 2}, "43"),
        (Order(by="m", ascending=True), {"offset": 1, "limit": 3}, "134"),
        (Order(by="m", after="c4"), {"limit": 2}, "31"),
        (Order(by="m", ascending=True, after="c2"), {"limit": 2}, "34"),
        (Order(by="none"), {"limit": 2}, "65"),
    ],
    ids=str,
)
def test_page_holds_the_runs_of_its_window(store, order, window, expected):
    assert listed(store, order, **window) == expected


@pytest.mark.parametrize("offset", [0, 1])
def test_page_of_a_selection_holds_what_it_admits(store, offset):
    assert listed(store, Order(), Selection(workflow_id="w1"), offset=offset) == "531"[offset:]
    assert listed(store, Order(ascending=True), Selection(workflow_id="w0"), offset=offset) == "046"[offset:]


def test_page_behind_what_is_no_run_is_refused_by_name(store):
    rollback = store.history("main")[0]["commit_sha"]
    with store.environment.read() as transaction:
        for order in (Order(after=rollback), Order(by="m", after=rollback)):
            with pytest.raises(InvalidInputError) as caught:
                ordering.list_runs(transaction, Selection(), order, offset=0, limit=5)
            assert caught.value.subject == "after"
            assert rollback in caught.value.message
        with pytest.raises(NotFoundError):
            ordering.list_runs(transaction, Selection(), Order(after="nothing"), offset=0, limit=5)


def test_page_reads_no_more_manifests_than_it_returns(store, monkeypatch):
    loaded, load = [], ordering.records.load

    def counted(transaction, sequence):
        loaded.append(sequence)
        return load(transaction, sequence)

    monkeypatch.setattr(ordering.records, "load", counted)
    assert listed(store, Order(), limit=2) == "65"
    assert len(loaded) == 2


def test_selection_that_asks_nothing_admits_all():
    assert Selection().admits_all
    fields = {"workflow_id": "w", "task_id": "t", "prompt_hash": "p", "since_us": 0, "until_us": 0}
    for name, value in fields.items():
        assert not Selection(**{name: value}).admits_all


def test_walk_knows_what_it_has_not_come_by():
    assert all(Walk(ascending).is_behind(5) for ascending in (False, True))
    assert [Walk(False, 5).is_behind(number) for number in (4, 5, 6)] == [True, False, False]
    assert [Walk(True, 5).is_behind(number) for number in (4, 5, 6)] == [False, False, True]


def test_shown_leaves_out_forgotten_runs_and_heads_rollbacks_as_well(store):
    with store.environment.read() as transaction:
        assert list(query.shown(transaction, [8, 3, 5, 1, 99])) == [8, 5, 1, 99]
        assert [sequence for sequence, _ in query.heads(transaction, [8, 3, 5, 1])] == [8, 1]
        assert list(query.select(transaction, Selection())) == [8, 7, 6, 4, 2, 1]

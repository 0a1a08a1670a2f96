"""Sorted lists and pages: the same order with and without an index, and pages that stay apart while runs are added."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas import InvalidIdError, InvalidInputError, NotFoundError, predicate
from tests.gc.keeping import commit, pretend_export
from tests.store.stores import open_store

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, -0.0, 0.5, -1.5, 1e300, 10**400, -(10**400), 2**53, 2**53 + 1]),
    st.sampled_from(["", "a", "b", "é"]),
)
METADATA = st.fixed_dictionaries(
    {}, optional={"test_metrics": st.dictionaries(st.sampled_from(["m", "n"]), VALUES), "note": VALUES}
)
SELECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "where": st.sampled_from(["m > 0", "m <= 0.5", "n >= 0 and m < 3", "not n = 1", 'note = "a"']),
        "workflow_id": st.sampled_from(["w0", "w1"]),
        "task_id": st.sampled_from(["t0", "t1"]),
        "since": st.just("2025-11-07T14:30:00Z"),
        "prompt_hash": st.just("p0"),
    },
)


def as_double(number):
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def expected(runs, by, ascending):
    """Order plain records as the product promises to: numbers, texts, others; equal ones by commit."""
    numbers, texts, others = [], [], []
    for index, run in enumerate(runs):
        _, value = predicate.look_up(run["metadata"], by)
        if isinstance(value, int | float) and not isinstance(value, bool):
            numbers.append((as_double(value), index))
        elif isinstance(value, str):
            texts.append((value.encode(), index))
        else:
            others.append((0, index))
    ordered = [sorted(part, reverse=not ascending) for part in (numbers, texts, others)]
    return [runs[index]["correlation_id"] for part in ordered for _, index in part]


def ids(runs):
    return [run["correlation_id"] for run in runs]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two stores that get the same runs, one with indexes."""
    plain, indexed = (tmp_path_factory.mktemp(name) for name in ("plain", "indexed"))
    with open_store(plain) as left, open_store(indexed, indexed_metrics=("m", "note")) as right:
        yield left, right


def add(pair, metadata):
    for store in pair:
        number = len(store.list_artifacts(limit=10_000))
        words = {"workflow": f"w{number % 2}", "task": f"t{number % 3 // 2}", "files": {"a": b"same"}}
        prompt = f"p{number % 4 // 3}"
        commit(store, f"r{number}", metadata=metadata, prompt_hash=prompt, **words)


@given(
    metadata=st.lists(METADATA, min_size=1, max_size=4),
    selection=SELECTIONS,
    by=st.sampled_from(["m", "n", "note", "missing"]),
    ascending=st.booleans(),
    size=st.integers(1, 5),
    offset=st.integers(0, 3),
)
def test_sorted_list_is_the_plain_order_whole_and_in_pages(
    pair, metadata, selection, by, ascending, size, offset
):
    for item in metadata:
        add(pair, item)
    for store in pair:
        oldest_first = store.list_artifacts(limit=10_000, **selection)[::-1]
        order = {"sort": by, "ascending": ascending, **selection}
        wanted = expected(oldest_first, by, ascending)
        assert ids(store.list_artifacts(limit=10_000, **order)) == wanted
        assert ids(store.list_artifacts(limit=size, offset=offset, **order)) == wanted[offset : offset + size]
        seen, after = [], None
        for _ in range(4):
            page = store.list_artifacts(limit=size, after=after, **order)
            seen += ids(page)
            after = page[-1]["commit_sha"] if page else after
        assert seen == wanted[: 4 * size]


@given(
    selection=SELECTIONS,
    ascending=st.booleans(),
    size=st.integers(1, 4),
    sort=st.sampled_from([None, "time"]),
)
def test_list_by_commit_in_either_direction_and_in_pages(pair, selection, ascending, size, sort):
    add(pair, {"test_metrics": {"m": 1}})
    for store in pair:
        newest_first = ids(store.list_artifacts(limit=10_000, **selection))
        wanted = newest_first[::-1] if ascending else newest_first
        order = {"sort": sort, "ascending": ascending, **selection}
        assert ids(store.list_artifacts(limit=10_000, **order)) == wanted
        seen, after = [], None
        while page := store.list_artifacts(limit=size, after=after, **order):
            seen += ids(page)
            after = page[-1]["correlation_id"]
        assert seen == wanted


@pytest.mark.parametrize("indexed", [(), ("net_pnl",)], ids=["plain", "indexed"])
@pytest.mark.parametrize("order", [{}, {"sort": "net_pnl"}, {"sort": "net_pnl", "ascending": True}])
def test_pages_neither_repeat_nor_miss_a_run_while_runs_come_and_go(tmp_path, indexed, order):
    with open_store(tmp_path, indexed_metrics=indexed) as store:
        for number in range(12):
            commit(store, f"r{number}", metrics={"net_pnl": float(number * 7 % 12)})
        pretend_export(store)
        before = ids(store.list_artifacts(**order))
        seen, after = [], None
        while page := store.list_artifacts(limit=5, after=after, **order):
            seen += ids(page)
            after = page[-1]["commit_sha"]
            for value in (-1.0, 5.5, 99.0):
                commit(store, f"new{len(seen)}{value}", metrics={"net_pnl": value})
            store.forget([str(page[-1]["correlation_id"])])  # a page begins where its mark stood
            if len(seen) > 100:
                break
        assert [name for name in seen if not name.startswith("new")] == before
        assert len(seen) == len(set(seen))


def test_list_of_a_time_range_goes_on_behind_a_run_after_the_clock_was_set_back(tmp_path):
    times = iter([100, 300, 200, 200, 50, 400] * 20)
    with open_store(tmp_path, clock=lambda: next(times) * 1_000_000_000) as store:
        for number in range(12):
            commit(store, f"r{number}", files={"a": b"same"})
        whole = store.list_artifacts(since=60, until=399)
        by_time = sorted(whole, key=lambda run: run["created_at_us"], reverse=True)
        assert [run["created_at_us"] for run in whole] == [run["created_at_us"] for run in by_time]
        for ascending in (False, True):
            order = {"since": 60, "until": 399, "ascending": ascending}
            seen, after = [], None
            while page := store.list_artifacts(limit=2, after=after, **order):
                seen += ids(page)
                after = page[-1]["commit_sha"]
            assert seen == ids(whole)[:: -1 if ascending else 1]


def test_order_by_an_index_touches_only_what_it_returns(tmp_path, monkeypatch):
    from cas import catalog

    looked_at = []
    get_head = catalog.get_head
    with open_store(tmp_path, indexed_metrics=("net_pnl",)) as store:
        for number in range(60):
            commit(store, f"r{number}", files={"a": b"same"}, metrics={"net_pnl": float(number)})
        monkeypatch.setattr(catalog, "get_head", lambda t, n: looked_at.append(n) or get_head(t, n))
        assert ids(store.list_artifacts(limit=3, sort="net_pnl")) == ["r59", "r58", "r57"]
        assert len(looked_at) <= 4


@pytest.mark.parametrize("wrong", ["", 7, "\ud800"], ids=ascii)
def test_sort_that_is_no_name_is_refused(store, wrong):
    with pytest.raises(InvalidIdError):
        store.list_artifacts(sort=wrong)


def test_page_behind_nothing_or_a_rollback_is_refused(store):
    commit(store, "a")
    store.revert_to_tag("corr_a", "main")
    with pytest.raises(NotFoundError):
        store.list_artifacts(after="nothing")
    with pytest.raises(InvalidInputError, match="rollback"):
        store.list_artifacts(after="main")

"""Indexes: the same answer with and without, kept true by every writer, and used only when complete."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas import catalog, indexes, query
from tests.gc.keeping import commit, pretend_export
from tests.store.stores import open_store

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, -0.0, 0.5, -1.5, 1e300, 10**400, -(10**400)]),
    st.text(max_size=2),
)
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "test_metrics": st.one_of(
            st.dictionaries(st.sampled_from(["m", "n"]), VALUES),
            st.just({"deep": {"m": 2}}),
            VALUES,
        ),
        "m": VALUES,
        "deep": st.just({"m": 1}),
    },
)
COMPARISON = st.builds(
    "{} {} {}".format,
    st.sampled_from(["m", "n", "deep.m"]),
    st.sampled_from(["<", "<=", ">", ">=", "=", "!="]),
    st.sampled_from(["0", "-0.0", "1", "-2", "0.5", "1e300"]),
)
WHERE = st.recursive(
    COMPARISON,
    lambda part: st.one_of(
        st.builds("({} and {})".format, part, part),
        st.builds("({} or {})".format, part, part),
        st.builds("not {}".format, part),
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two stores that get the same runs, one with indexes."""
    plain, indexed = (tmp_path_factory.mktemp(name) for name in ("plain", "indexed"))
    with open_store(plain) as left, open_store(indexed, indexed_metrics=("m", "deep.m")) as right:
        yield left, right


@given(metadata=st.lists(METADATA, min_size=1, max_size=4), where=WHERE, looked=st.sampled_from([0, 1, 500]))
def test_query_with_an_index_gives_what_it_gives_without(pair, metadata, where, looked):
    number = len(pair[0].list_artifacts(limit=10_000))
    for store in pair:
        for offset, item in enumerate(metadata):
            commit(store, f"r{number + offset}", files={"a": b"same"}, metadata=item)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query, "_LOOKED_AT_FIRST", looked)
        left, right = (
            [run["correlation_id"] for run in s.list_artifacts(where=where, limit=10_000)] for s in pair
        )
    assert left == right


def index_keys(store):
    with store.environment.read() as transaction:
        return list(transaction.scan_keys(catalog.Table.CATALOG, b"m"))


def test_index_that_is_asked_for_later_holds_earlier_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(indexes, "_RUNS_PER_TRANSACTION", 3)
    with open_store(tmp_path) as store:
        for number in range(10):
            commit(store, f"r{number}", metrics={"net_pnl": number})
        pretend_export(store)
        store.forget(["r9"])
        assert index_keys(store) == []
    with open_store(tmp_path, indexed_metrics=("net_pnl",)) as store:
        assert len(index_keys(store)) == 9
        monkeypatch.setattr(query, "_LOOKED_AT_FIRST", 0)
        found = [run["correlation_id"] for run in store.list_artifacts(where="net_pnl >= 7")]
        assert found == ["r8", "r7"]
        store.undelete("r9")
        assert len(index_keys(store)) == 10
        assert store.verify().ok


def test_index_is_kept_by_writers_that_do_not_ask_for_it(tmp_path):
    with open_store(tmp_path, indexed_metrics=("net_pnl",)) as store:
        commit(store, "a", metrics={"net_pnl": 1})
    with open_store(tmp_path) as store:
        commit(store, "b", metrics={"net_pnl": 2})
        assert len(index_keys(store)) == 2
        assert store.verify().ok


def test_index_cut_short_is_not_used_and_is_finished_by_the_next_opening(tmp_path, monkeypatch):
    with open_store(tmp_path) as store:
        for number in range(4):
            commit(store, f"r{number}", metrics={"net_pnl": number})
    monkeypatch.setattr(query, "_LOOKED_AT_FIRST", 0)
    with monkeypatch.context() as patch:

        def fail(*_):
            raise KeyboardInterrupt

        patch.setattr(indexes, "_fill", fail)
        with pytest.raises(KeyboardInterrupt):
            open_store(tmp_path, indexed_metrics=("net_pnl",))
    with open_store(tmp_path) as store:
        with store.environment.read() as transaction:
            assert (indexes.maintained(transaction), indexes.complete(transaction)) == (("net_pnl",), ())
        assert len(store.list_artifacts(where="net_pnl >= 2")) == 2
    with open_store(tmp_path, indexed_metrics=("net_pnl",)) as store:
        with store.environment.read() as transaction:
            assert indexes.complete(transaction) == ("net_pnl",)
        assert len(store.list_artifacts(where="net_pnl >= 2")) == 2


def test_store_with_an_index_opens_on_a_suspect_store(tmp_path):
    from cas.lmdbenv import SUSPECT_FILE

    with open_store(tmp_path) as store:
        commit(store, "a")
        mark = store.environment.directory / SUSPECT_FILE
    mark.write_text("a write failed\n")
    with open_store(tmp_path, indexed_metrics=("net_pnl",)) as store:
        assert len(store.list_artifacts(where="net_pnl >= 1")) == 1
        assert store.verify().mark_lifted

"""Repair of the catalog: whatever is wrong with it, it becomes what the manifests give."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas import repair
from cas.lmdbenv import Table
from tests.gc.keeping import commit, flip_byte, pretend_export
from tests.store.stores import open_store


def catalog_rows(store):
    with store.environment.read() as transaction:
        return dict(transaction.scan(Table.CATALOG))


def fill(store):
    for number in range(4):
        commit(store, f"r{number}", workflow=f"w{number % 2}", prompt_hash="abc", metrics={"net_pnl": number})
    commit(store, "r0", files={"x": b"second"})
    pretend_export(store)
    store.revert_to_tag("corr_r1", "main")
    store.forget(["r2"])


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("filled"), indexed_metrics=("net_pnl",)) as store:
        fill(store)
        yield store, catalog_rows(store)


def test_repair_of_a_right_catalog_writes_nothing(filled):
    store, rows = filled
    assert repair.repair_catalog(store.environment).as_dict() == {"written": 0, "removed": 0}
    assert catalog_rows(store) == rows


@given(data=st.data())
def test_repair_gives_the_same_rows_whatever_was_done_to_them(filled, data):
    store, rows = filled
    keys = sorted(rows)
    chosen = data.draw(st.lists(st.sampled_from(range(len(keys))), min_size=1, unique=True))
    for number in chosen:
        deed = data.draw(st.sampled_from(["drop", "flip", "swap", "add"]))
        key = keys[number]
        if deed == "flip":
            flip_byte(store, Table.CATALOG, key, 2)
            continue
        with store.environment.write() as transaction:
            if deed == "drop":
                transaction.delete(Table.CATALOG, key)
            elif deed == "swap":
                transaction.put(Table.CATALOG, key, (1).to_bytes(8, "big"))
            else:
                transaction.put(Table.CATALOG, key[:1] + b"stray" + key[1:], (99).to_bytes(8, "big"))
    repair.repair_catalog(store.environment)
    assert catalog_rows(store) == rows
    assert store.verify().ok

"""Repair of the catalog: whatever is wrong with it, it becomes what the manifests give."""

import contextlib

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


def put_back(store, rows):
    """Make the catalog what it was: an example that failed before must not be the cause of this one's failure."""
    with store.environment.write() as transaction:
        for key in set(transaction.scan_keys(Table.CATALOG)) - set(rows):
            transaction.delete(Table.CATALOG, key)
        for key, value in rows.items():
            transaction.put(Table.CATALOG, key, value)


def put(key_of, value):
    """Return a deed that writes a sound row, under a key or one like it."""

    def deed(store, key):
        with store.environment.write() as transaction:
            transaction.put(Table.CATALOG, key_of(key), value)

    return deed


def drop(store, key):
    with store.environment.write() as transaction:
        transaction.delete(Table.CATALOG, key)


def own(key):
    return key


def stray(key):
    return key[:1] + b"stray" + key[1:]


DEEDS = {
    "drop": drop,
    "flip": lambda store, key: flip_byte(store, Table.CATALOG, key, 2),
    "flip the seal": lambda store, key: flip_byte(store, Table.CATALOG, key, -1),
    "the first run": put(own, (1).to_bytes(8, "big")),
    "the newest manifest": put(own, (6).to_bytes(8, "big")),
    "no manifest": put(own, (99).to_bytes(8, "big")),
    "cut": put(own, b"\0\0\1"),
    "stray of a run": put(stray, (2).to_bytes(8, "big")),
    "stray of nothing": put(stray, (99).to_bytes(8, "big")),
    "of no family": put(lambda key: b"?" + key, (1).to_bytes(8, "big")),
}


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
    # All is drawn before a row is touched: Hypothesis may give up an example amid a draw, and what was done by then
    # would be left to the next one.
    deeds = data.draw(st.dictionaries(st.sampled_from(keys), st.sampled_from(sorted(DEEDS)), min_size=1))
    put_back(store, rows)
    for key, deed in deeds.items():
        DEEDS[deed](store, key)
    repair.repair_catalog(store.environment)
    assert catalog_rows(store) == rows
    assert store.verify().ok


@pytest.mark.parametrize("value", [99, 6, 1], ids=["no manifest", "another branch's", "an older one"])
def test_repair_of_a_branch_sets_its_newest_commit_at_once(store, monkeypatch, value):
    """A writer that comes between two of its transactions must find the newest commit as its parent."""
    for number in range(5):
        commit(store, "one branch", task="t", files={"f": b"%d" % number})
    commit(store, "elsewhere")
    head = store.show("ai/generated/wf/t")["commit_sha"]
    put(own, value.to_bytes(8, "big"))(store, b"bai/generated/wf/t")
    monkeypatch.setattr(repair, "_RUNS_PER_TRANSACTION", 2)
    seen = []
    environment = store.environment
    write = environment.write

    @contextlib.contextmanager
    def watched(*words):
        with write(*words) as transaction:
            yield transaction
        seen.append(catalog_rows(store).get(b"bai/generated/wf/t"))

    monkeypatch.setattr(environment, "write", watched)
    repair.repair_catalog(environment)
    wrong = value.to_bytes(8, "big")
    assert {row for row in seen if row != wrong} == {(5).to_bytes(8, "big")}
    assert store.show("ai/generated/wf/t")["commit_sha"] == head
    assert store.verify().ok

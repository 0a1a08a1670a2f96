"""A branch whose newest commit is not known any more: nothing is built on it, as that would fork its history."""

import pytest

from cas import IntegrityError, catalog
from cas.lmdbenv import Table
from tests.gc.keeping import commit, flip_byte
from tests.store.stores import open_store

BRANCH = "ai/generated/wf/task"


def lose_manifest(store):
    with store.environment.write() as transaction:
        transaction.delete(Table.MANIFESTS, catalog.sequence_key(2))


def damage_manifest(store):
    flip_byte(store, Table.MANIFESTS, catalog.sequence_key(2))


def lose_row(store):
    with store.environment.write() as transaction:
        transaction.delete(Table.CATALOG, b"b" + BRANCH.encode())


DAMAGES = {"lost manifest": lose_manifest, "damaged manifest": damage_manifest, "lost row": lose_row}


def keys_of(store):
    with store.environment.read() as transaction:
        tables = set(Table) - {Table.COUNTERS}
        return {table: list(transaction.scan_keys(table)) for table in tables}


@pytest.fixture(params=DAMAGES)
def damaged(tmp_path, request):
    """A store whose branch has two commits, the newest of which is damaged."""
    with open_store(tmp_path) as store:
        commit(store, "one", task="task")
        commit(store, "two", task="task")
        DAMAGES[request.param](store)
        yield store


def test_commit_onto_a_damaged_branch_is_refused_and_nothing_stored(damaged):
    before = keys_of(damaged)
    with pytest.raises(IntegrityError):
        commit(damaged, "three", task="task")
    assert keys_of(damaged) == before
    assert commit(damaged, "elsewhere", task="other")["success"]


def test_rollback_of_a_damaged_branch_is_refused_and_nothing_stored(damaged):
    before = keys_of(damaged)
    with pytest.raises(IntegrityError):
        damaged.revert_to_tag("corr_one", BRANCH)
    assert keys_of(damaged) == before


def test_damaged_branch_is_named_by_the_error(tmp_path):
    with open_store(tmp_path) as store:
        commit(store, "one", task="task")
        lose_row(store)
        with pytest.raises(IntegrityError, match="is damaged") as caught:
            commit(store, "two", task="task")
        assert caught.value.subject == BRANCH


def test_branch_whose_row_is_lost_goes_on_from_its_newest_commit_once_healed(tmp_path):
    with open_store(tmp_path) as store:
        first = commit(store, "one", task="task")
        lose_row(store)
        store.heal()
        commit(store, "two", task="task")
        assert store.history(BRANCH)[0]["parent"] == first["commit_sha"]
        assert store.verify().ok

"""`cas undelete`."""

from tests.cli.kept import export


def test_undelete_brings_a_run_back(store, commit, git):
    commit("a1")
    export(store, git)
    before = store.ok("show", "a1", "--json").json
    store.ok("forget", "a1")
    assert "a1, revision 1, is back" in store.ok("undelete", "a1").out
    assert store.ok("show", "a1", "--json").json == before


def test_undelete_alone_lists_what_was_forgotten(store, commit, git):
    assert "Nothing was forgotten" in store.ok("undelete").err
    commit("a1")
    export(store, git)
    store.ok("forget", "a1", "--reason", "noise")
    assert "noise" in store.ok("undelete").out
    assert "possible" in store.ok("undelete").out
    store.ok("gc")
    assert "files gone" in store.ok("undelete").out
    assert store.ok("undelete", "--json").json["runs"][0]["can_undelete"] is False
    assert store("undelete", "a1").code == 3


def test_undelete_of_a_run_that_is_there_is_refused(store, commit):
    commit("a1")
    assert store("undelete", "a1").code == 4

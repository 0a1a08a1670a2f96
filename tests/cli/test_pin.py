"""`cas pin`."""

from tests.cli.kept import export


def test_pin_keeps_a_run_and_lists_it_with_its_note(store, commit, git):
    assert "Nothing is pinned" in store.ok("pin").err
    commit("a1")
    export(store, git)
    assert "a1, revision 1, is pinned" in store.ok("pin", "a1", "--note", "live since March").out
    assert "live since March" in store.ok("pin").out
    assert store.ok("pin", "--json").json["runs"][0]["note"] == "live since March"
    assert store("forget", "a1").code == 4


def test_pin_of_an_unknown_run_is_not_found(store):
    assert store("pin", "nothing").code == 3

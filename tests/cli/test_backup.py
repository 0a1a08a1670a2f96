"""`cas backup`."""


def test_backup_is_a_store_of_its_own(store, commit):
    commit("a1")
    assert "copied 1 commit and 2 stored files" in store.ok("backup", "copies/monday").out
    assert "a1" in store.ok("list", "--store", "copies/monday").out


def test_backup_over_something_is_refused(store, commit, place):
    commit("a1")
    (place / "taken").mkdir()
    (place / "taken" / "file").write_text("mine")
    ended = store("backup", "taken")
    assert ended.code == 4
    assert "nothing is ever overwritten" in ended.err

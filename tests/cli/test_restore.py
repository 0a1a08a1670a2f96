"""`cas restore`."""


def test_restore_makes_a_store_from_a_backup(store, commit):
    commit("a1")
    store.ok("backup", "copy")
    ended = store.ok("restore", "copy", "--store", "again")
    assert "restored 1 commit and 2 stored files" in ended.out
    assert "a1" in store.ok("list", "--store", "again").out


def test_restore_over_the_store_is_refused(store, commit):
    commit("a1")
    store.ok("backup", "copy")
    assert store("restore", "copy").code == 4
    ended = store("restore", "nothing", "--store", "again")
    assert (ended.code, ended.err.splitlines()[0]) == (3, "error: there is no backup at nothing")

"""`cas unpin`."""


def test_unpin_takes_the_pin_off_and_says_when_there_was_none(store, commit):
    commit("a1")
    store.ok("pin", "a1")
    assert "not pinned any more" in store.ok("unpin", "a1").out
    assert "was not pinned" in store.ok("unpin", "a1").out
    assert store.ok("unpin", "a1", "--json").json == {"unpinned": {"a1": False}}

"""`cas stats`."""


def test_stats_counts_commits_and_backlog(store, commit):
    commit("one")
    commit("two", content="2\n")
    figures = store.ok("stats", "--json").json
    assert (figures["manifests"], figures["blobs"], figures["queued"]) == (2, 3, 2)
    out = store.ok("stats").out
    assert "queued for git  2, the oldest for 60 s" in out


def test_stats_without_a_store_ends_with_not_found(cas):
    assert cas("stats").code == 3

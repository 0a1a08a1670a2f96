"""`cas revert`."""


def test_revert_tag_makes_a_commit_and_a_certificate(store, commit):
    commit("one")
    result = store.ok("revert", "corr_one", "--json").json
    assert (result["branch"], result["reverted_to"], result["created"]) == ("main", "corr_one", True)
    assert result["certificate"]["files"] == 2
    ended = store.ok("log", "main")
    assert result["commit_sha"][:12] in ended.out


def test_revert_twice_makes_no_second_commit(store, commit):
    commit("one")
    store.ok("revert", "corr_one")
    ended = store.ok("revert", "corr_one")
    assert "already" in ended.out
    assert len(store.ok("log", "main", "--json").json["steps"]) == 1


def test_revert_unknown_tag_lists_near_ones(store, commit):
    commit("one")
    ended = store("revert", "corr_on")
    assert ended.code == 3
    assert "corr_one" in ended.err


def test_revert_secret_in_the_reason_is_refused(store, commit, credential):
    commit("one")
    ended = store("revert", "corr_one", "--reason", f'password = "{credential}"')
    assert ended.code == 5
    assert credential not in ended.err

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


def test_revert_goes_by_any_word_that_points_at_a_run(store, commit):
    first = commit("one")
    second = commit("one", content="2\n")
    for word, tag in (
        ("corr_one", "corr_one"),  # a tag stands for itself, the first revision
        ("one", "corr_one@2"),
        ("latest", "corr_one@2"),
        (first["commit_sha"][:8], "corr_one"),
        (second["branch"], "corr_one@2"),
    ):
        result = store.ok("revert", word, "--branch", f"b/{tag}", "--json").json
        assert (word, result["reverted_to"]) == (word, tag)
        assert f"b/{tag} holds exactly {tag}" in store.ok("verify", "--rollback", word, "-b", f"b/{tag}").out


def test_revert_to_an_earlier_rollback_is_one_to_its_tag(store, commit):
    commit("one")
    commit("two", content="2\n")
    store.ok("revert", "corr_one")
    store.ok("revert", "corr_two")
    assert store.ok("revert", "main~1", "--json").json["reverted_to"] == "corr_one"
    assert len(store.ok("log", "main", "--json").json["steps"]) == 3


def test_revert_unknown_tag_lists_near_ones(store, commit):
    commit("one")
    before = store.ok("log", "--json").json
    ended = store("revert", "corr_on")
    assert ended.code == 3
    assert "corr_one" in ended.err
    assert store.ok("log", "--json").json == before


def test_revert_secret_in_the_reason_is_refused(store, commit, credential):
    commit("one")
    ended = store("revert", "corr_one", "--reason", f'password = "{credential}"')
    assert ended.code == 5
    assert credential not in ended.err

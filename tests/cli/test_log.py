"""`cas log`."""


def test_log_branch_shows_commits_newest_first(store, commit):
    commit("one")
    commit("two", content="2\n")
    steps = store.ok("log", "ai/generated/wf_rsi/t1", "--json").json["steps"]
    assert [step["correlation_id"] for step in steps] == ["two", "one"]
    assert steps[0]["parent"] == steps[1]["commit_sha"]


def test_log_alone_shows_the_branch_of_the_newest_run(store, commit):
    commit("one")
    commit("two", workflow="wf_other")
    assert store.ok("log", "--json").json["branch"] == "ai/generated/wf_other/t1"


def test_log_run_shows_its_branch(store, commit):
    commit("one")
    ended = store.ok("log", "one")
    assert "branch ai/generated/wf_rsi/t1" in ended.err
    assert "one, revision 1" in ended.out


def test_log_rollback_shows_the_reason(store, commit):
    commit("one")
    store.ok("revert", "corr_one", "--reason", "live loss")
    assert "rollback to corr_one: live loss" in store.ok("log", "main").out


def test_log_tells_who_committed_where_there_is_room(store, commit, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    commit("one")
    store.ok("-o", "commit_author_name=Night Desk", "revert", "corr_one")
    heads, step = store.ok("log", "main").out.splitlines()
    assert step[heads.index("WHO") :].startswith("Night Desk  ")


def test_log_limit_keeps_the_newest(store, commit):
    commit("one")
    commit("two", content="2\n")
    assert len(store.ok("log", "two", "--limit", "1", "--json").json["steps"]) == 1


def test_log_unknown_branch_ends_with_not_found(store):
    assert store("log", "nothing").code == 3

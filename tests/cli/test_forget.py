"""`cas forget`."""

from tests.cli.kept import export


def test_forget_by_name_hides_the_run(store, commit, git):
    commit("a1")
    commit("b2", content="other\n")
    export(store, git)
    ended = store.ok("forget", "a1", "--reason", "noise")
    assert "forgot 1 run, kept 0" in ended.out
    assert [run["correlation_id"] for run in store.ok("list", "--json").json["runs"]] == ["b2"]
    refused = store("show", "a1")
    assert refused.code == 3
    assert "cas undelete" in refused.err


def test_forget_policy_dry_run_gives_every_run_a_reason(store, commit, git):
    for number in range(3):
        commit(f"r{number}", content=f"{number}\n")
    export(store, git)
    ended = store.ok("forget", "--keep-last", "1", "--dry-run")
    assert "would forget 2 runs, keep 1" in ended.out
    assert "among the last 1 of wf_rsi" in ended.out
    found = store.ok("forget", "--keep-last", "1", "--dry-run", "--json").json
    assert (found["dry_run"], found["forgotten"], len(found["runs"])) == (True, 2, 3)
    assert len(store.ok("list", "--json").json["runs"]) == 3


def test_forget_of_a_run_that_has_to_stay_ends_with_its_code(store, commit):
    commit("a1")
    ended = store("forget", "a1")
    assert ended.code == 4
    assert "waits for its export" in ended.out


def test_forget_needs_names_or_a_policy_and_not_both(store, commit):
    commit("a1")
    assert store("forget").code == 2
    assert store("forget", "a1", "--keep-last", "1").code == 2
    assert store("forget", "--keep-last", "0").code == 2
    assert store("forget", "--keep-best", "3").code == 4
    assert store("forget", "--keep-last", "3", "--per", "month").code == 4

"""`cas` alone."""

import pytest

from cas.lmdbenv import SUSPECT_FILE


def test_overview_without_a_store_offers_two_ways_in(cas, place):
    ended = cas.ok()
    assert f"There is no store at {place / '.cas'}." in ended.out
    assert "cas init" in ended.out
    assert "cas demo" in ended.out
    assert cas.ok("--json").json == {
        "store_path": str(place / ".cas"),
        "repo_path": str(place),
        "exists": False,
        "next": "cas init",
    }


def test_overview_tells_last_commit_and_backlog(store, commit, clock):
    commit("one")
    clock.advance(300)
    ended = store.ok()
    assert "last commit  one (wf_rsi/t1), 5 min ago" in ended.out
    assert "backlog      1 queued for 5 min" in ended.out
    assert "free" in ended.out
    assert ended.err.startswith("\nnext: ")


def test_overview_next_command_follows_the_state(store, commit, git, place):
    assert store.ok("--json").json["next"].startswith("cas commit")
    commit("one")
    assert store.ok("--json").json["next"] == f"git init {place}"
    bare = ("--repo", "r.git", "--store", ".cas")
    git("init", "--quiet", "--bare", "r.git")
    assert store.ok("--json", *bare).json["next"] == "cas export"
    store.ok("export", *bare, "--no-push")
    assert store.ok("--json", *bare, "-o", "auto_push=false").json["next"] == "cas list"
    assert store.ok("--json", *bare).json["next"] == "cas doctor", "there is no remote to push to"
    git("remote", "add", "origin", "elsewhere.git", folder="r.git")
    assert store.ok("--json", *bare).json["next"] == "cas export"
    (place / ".cas" / SUSPECT_FILE).write_text("x")
    assert store.ok("--json").json["next"] == "cas verify --full"


def test_overview_from_a_folder_below_finds_the_store(store, commit, place, monkeypatch):
    commit("one")
    (place / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(place / "a" / "b")
    assert store.ok("--json").json["store_path"] == str(place / ".cas")


@pytest.mark.parametrize("words", [(), ("list",), ("stats",), ("export", "status")])
def test_overview_and_queries_write_nothing(store, commit, place, words):
    commit("one")
    before = (place / ".cas" / "data.mdb").read_bytes()
    store.ok(*words)
    assert (place / ".cas" / "data.mdb").read_bytes() == before

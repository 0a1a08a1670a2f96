"""`cas show`."""

import pytest


def test_show_run_has_ids_metrics_and_files(store, commit):
    made = commit("abc123", "--set", "test_metrics.net_pnl=1.5", "--set", "note=hello")
    out = store.ok("show", "latest").out
    for text in ("abc123, revision 1", made["commit_sha"], "net_pnl 1.5", "strategy.py", '"note": "hello"'):
        assert text in out


@pytest.mark.parametrize("ref", ["latest", "abc123", "corr_abc123", "ai/generated/wf_rsi/t1"])
def test_show_every_kind_of_name_finds_the_run(store, commit, ref):
    commit()
    assert store.ok("show", ref, "--json").json["correlation_id"] == "abc123"


def test_show_beginning_of_an_id_finds_the_run(store, commit):
    made = commit()
    assert store.ok("show", made["commit_sha"][:8], "--json").json["commit_sha"] == made["commit_sha"]
    assert store.ok("show", made["manifest_id"][:8], "--json").json["commit_sha"] == made["commit_sha"]


def test_show_files_adds_digest_and_git_id(store, commit, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    commit()
    entry = store.ok("show", "latest", "--json").json["file_entries"][0]
    out = store.ok("show", "latest", "--files").out
    assert entry["digest"] in out
    assert entry["oid"] in out


def test_show_unknown_run_ends_with_not_found_and_near_names(store, commit):
    commit("abc123")
    ended = store("show", "abc124")
    assert ended.code == 3
    assert "Did you mean corr_abc123?" in ended.err
    assert "Did you mean corr_abc123?" in store("show", "a-long-word-that-begins-alike").err
    assert "`cas list` shows the runs" in store("show", "zzz").err


def test_show_rollback_tells_what_and_why(store, commit):
    commit()
    store.ok("revert", "corr_abc123", "--reason", "drawdown")
    out = store.ok("show", "main").out
    assert "to corr_abc123" in out
    assert "drawdown" in out


def test_show_error_with_json_is_one_document_on_stderr(store):
    ended = store("show", "nothing", "--json")
    assert ended.out == ""
    assert ended.error["kind"] == "not_found"
    assert ended.error["subject"] == "nothing"
    assert ended.error["exit_code"] == ended.code == 3

"""`cas stats`."""

import os


def test_stats_counts_commits_and_backlog(store, commit):
    commit("one")
    commit("two", content="2\n")
    figures = store.ok("stats", "--json").json
    assert (figures["manifests"], figures["blobs"], figures["queued"]) == (2, 3, 2)
    out = store.ok("stats").out
    assert "queued for git  2, the oldest for 60 s" in out


def test_stats_shows_rates_and_times(store, commit):
    commit("one")
    assert store("commit", "-w", "w", "-t", "t", "-c", "bad", "missing.csv").code == 4
    figures = store.ok("stats", "--json").json
    assert figures["commit_success_rate"] == 0.5
    assert 0 < figures["commit_time_p50"] <= figures["commit_time_p99"]
    assert sum(figures["charts"]["latency_counts"]) == 1
    assert figures["charts"]["commits_by_day"] == [0] * 29 + [1]
    assert "commits ok      50.0% in a day" in store.ok("stats").out


def test_stats_charts_are_drawn_when_asked_for(store, commit):
    assert "nothing counted yet" in store.ok("stats", "--charts").out
    commit("one")
    out = store.ok("stats", "--charts").out
    assert "commit time, a day" in out
    assert "commits by day" in out
    assert "commit time, a day" not in store.ok("stats").out


def test_stats_charts_are_drawn_in_ascii_where_the_encoding_has_no_blocks(store, place, spawn):
    (place / "a.csv").write_text("1\n")
    spawn("commit", "-w", "wf", "-t", "t", "-c", "now", "a.csv").communicate()
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    out, err = spawn("stats", "--charts", env=environment).communicate()
    assert err == b""
    assert b"#####" in out
    assert b"\\u" not in out
    out.decode("ascii")


def test_stats_without_a_store_ends_with_not_found(cas):
    assert cas("stats").code == 3

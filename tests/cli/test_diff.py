"""`cas diff`."""


def test_diff_shows_metrics_tables_and_text(store, commit, place):
    commit("a1", "--set", "test_metrics.net_pnl=10", content="time,pnl\n1,2\n2,3\n")
    commit("b2", "--set", "test_metrics.net_pnl=15.5", content="time,pnl\n1,2\n2,4\n")
    text = store.ok("diff", "a1", "b2").out
    assert "net_pnl" in text
    assert "5.5" in text
    assert "~ trades.csv (17 B to 17 B)" in text
    assert "first differs in row 3: pnl" in text
    assert "strategy.py" not in text
    found = store.ok("diff", "a1", "b2", "--json").json
    assert found["metrics"]["net_pnl"] == {"left": 10, "right": 15.5, "change": 5.5}
    assert found["changed"][0]["table"]["left"] == ["2", "3"]


def test_diff_of_a_run_with_itself_is_empty(store, commit):
    commit("a1")
    assert store.ok("diff", "a1", "corr_a1").out == "the same files, metrics and metadata\n"
    assert store.ok("diff", "a1", "a1", "--json").json["identical"] is True


def test_diff_unknown_run_is_not_found(store, commit):
    commit("a1")
    assert store("diff", "a1", "nothing").code == 3

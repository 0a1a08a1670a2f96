"""`cas list`."""

import pytest


@pytest.fixture
def runs(commit):
    for number in range(5):
        commit(
            f"run{number}",
            *("--set", f"test_metrics.net_pnl={number * 10}", "--prompt-hash", f"{number:012x}"),
            workflow=f"wf{number % 2}",
            content=f"{number}\n",
        )


def ids(ended):
    return [run["correlation_id"] for run in ended.json["runs"]]


def test_list_shows_newest_first_with_metrics_and_state(store, runs):
    lines = store.ok("list").out.splitlines()
    assert lines[0].split() == [
        "WHEN",
        "(UTC)",
        "CORRELATION",
        "ID",
        "WORKFLOW/TASK",
        "REV",
        "net_pnl",
        "EXPORT",
    ]
    assert [line.split()[2] for line in lines[1:]] == ["run4", "run3", "run2", "run1", "run0"]
    assert lines[1].split() == ["2026-01-01", "00:05", "run4", "wf0/t1", "1", "40", "queued"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--workflow", "wf1"), ["run3", "run1"]),
        (("--task", "t2"), []),
        (("--prompt", f"{2:012x}"), ["run2"]),
        (("--where", "net_pnl >= 30"), ["run4", "run3"]),
        (("--since", "2026-01-01T00:04:00Z"), ["run4", "run3"]),
        (("--until", "2026-01-01T00:02:00Z"), ["run0"]),
        (("--limit", "2", "--offset", "1"), ["run3", "run2"]),
        (("--limit", "0"), []),
        (("--sort", "net_pnl", "--limit", "2"), ["run4", "run3"]),
        (("--sort", "net_pnl", "--ascending", "--where", "net_pnl > 0", "--limit", "2"), ["run1", "run2"]),
        (("--sort", "time", "--ascending", "--after", "run2"), ["run3", "run4"]),
        (("--sort", "net_pnl", "--after", "run2"), ["run1", "run0"]),
    ],
)
def test_list_filter_keeps_what_fits(store, runs, words, expected):
    assert ids(store.ok("list", *words, "--json")) == expected


def test_list_json_says_whether_there_are_more(store, runs):
    assert store.ok("list", "--limit", "5", "--json").json["more"] is False
    document = store.ok("list", "--limit", "2", "--json").json
    assert (document["more"], document["count"], document["limit"], document["offset"]) == (True, 2, 2, 0)


def test_list_json_gives_the_beginning_of_the_next_page(store, runs):
    seen, words = [], ()
    while True:
        ended = store.ok("list", "--sort", "net_pnl", "--limit", "2", "--json", *words)
        seen += ids(ended)
        if ended.json["next"] is None:
            break
        words = ("--after", ended.json["next"])
    assert seen == ["run4", "run3", "run2", "run1", "run0"]


def test_list_shows_the_metric_it_is_sorted_by(store, commit, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    common = [word for name in "abcd" for word in ("--set", f"test_metrics.{name}=1")]
    commit("one", *common, content="1\n")
    commit("two", *common, "--set", "test_metrics.rare=7", content="2\n")
    assert "rare" not in store.ok("list").out
    heading, first, second = store.ok("list", "--sort", "rare").out.splitlines()
    assert heading.split()[6] == "rare"
    assert first.split()[2] == "two"
    assert second.split()[2] == "one"


def test_list_more_than_the_limit_says_how_to_go_on(store, runs):
    assert "--offset 2" in store.ok("list", "--limit", "2").err


def test_list_empty_store_says_what_to_do(store):
    ended = store.ok("list")
    assert ended.out == ""
    assert "cas commit" in ended.err


def test_list_bad_expression_points_at_the_place(store):
    ended = store("list", "--where", "net_pnl >")
    assert ended.code == 4
    assert ended.err.splitlines()[1] == "hint: net_pnl >"
    assert ended.err.splitlines()[2].rstrip().endswith("^")


def test_list_bad_time_shows_the_form(store):
    ended = store("list", "--since", "yesterday")
    assert ended.code == 4
    assert "2026-01-31T18:00:00Z" in ended.err


def test_list_hostile_id_reaches_the_terminal_escaped(store, commit):
    commit("a\x1b[31mred\u202e")
    out = store.ok("list").out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "a\\x1b[31mred\\u202e" in out


def test_list_without_a_terminal_width_cuts_nothing(store, commit, monkeypatch):
    long_id = "r" * 90
    commit(long_id, workflow="w" * 90)
    monkeypatch.delenv("COLUMNS")
    assert f"{long_id}  {'w' * 90}/t1" in store.ok("list").out


def test_list_on_a_narrow_terminal_keeps_id_and_state(store, runs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    lines = store.ok("list").out.splitlines()
    assert all(len(line) <= 30 for line in lines)
    assert "run4" in lines[1]
    assert lines[1].endswith("queued")

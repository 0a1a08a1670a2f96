"""`cas commit`."""

import json

import pytest

IDS = ("-w", "wf", "-t", "t1", "-c", "abc")


@pytest.fixture
def file(store, place):
    (place / "a.csv").write_text("1,2\n")
    return place / "a.csv"


def test_commit_files_prints_branch_commit_and_tags(store, file):
    ended = store.ok("commit", *IDS, "a.csv")
    lines = dict(line.split(None, 1) for line in ended.out.splitlines())
    assert lines["branch"] == "ai/generated/wf/t1"
    assert len(lines["commit"]) == 40
    assert lines["tags"] == "corr_abc"
    assert lines["export"] == "queued"


def test_commit_same_call_again_gives_the_same_commit(store, file):
    first = store.ok("commit", *IDS, "a.csv", "--json").json
    assert store.ok("commit", *IDS, "a.csv", "--json").json == first


def test_commit_other_content_is_the_next_revision(store, file):
    store.ok("commit", *IDS, "a.csv")
    file.write_text("3,4\n")
    assert store.ok("commit", *IDS, "a.csv", "--json").json["revision"] == 2


def test_commit_metadata_from_file_stdin_and_text_is_the_same(store, file, place):
    text = '{"agent_version": "v1", "test_metrics": {"net_pnl": 1.5}}'
    (place / "m.json").write_text(text)
    results = [
        store.ok("commit", *IDS, "-m", source, "a.csv", "--json", stdin=text.encode()).json
        for source in ("m.json", "-", text)
    ]
    assert results[0] == results[1] == results[2]
    assert store.ok("show", "abc", "--json").json["test_metrics"] == {"net_pnl": 1.5}


def test_commit_set_values_are_json_or_words_and_dots_nest(store, file):
    pairs = ("test_metrics.net_pnl=120.5", "test_metrics.ok=true", "agent_version=coder-v1", "note=two words")
    store.ok("commit", *IDS, *(word for pair in pairs for word in ("--set", pair)), "a.csv")
    assert store.ok("show", "abc", "--json").json["metadata"] == {
        "test_metrics": {"net_pnl": 120.5, "ok": True},
        "agent_version": "coder-v1",
        "note": "two words",
    }


def test_commit_name_stores_a_file_under_another_name(store, file):
    result = store.ok("commit", *IDS, "--name", "report/equity.csv=a.csv", "--json").json
    assert result["files"] == ["report/equity.csv"]


def test_commit_folder_is_refused_with_a_way_out(store, file, place):
    (place / "out").mkdir()
    ended = store("commit", *IDS, "out")
    assert ended.code == 4
    assert "error: 'out' is a folder" in ended.err
    assert "hint: Name its files, such as out/*" in ended.err


def test_commit_two_files_of_one_name_are_refused_by_name(store, file, place):
    (place / "sub").mkdir()
    (place / "sub" / "a.csv").write_text("x")
    ended = store("commit", *IDS, "a.csv", "sub/a.csv")
    assert ended.code == 4
    assert "'a.csv' and 'sub/a.csv'" in ended.err


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (("missing.csv",), "missing.csv"),
        (("--set", "novalue", "a.csv"), "novalue"),
        (("--set", "a=1", "--set", "a.b=2", "a.csv"), "a.b"),
        (
            (
                "--name",
                "only-a-name",
            ),
            "only-a-name",
        ),
        (("-m", "[1]", "a.csv"), "[1]"),
        (("-m", "{broken", "a.csv"), "--metadata"),
        (
            (
                "--name",
                "../x=a.csv",
            ),
            "../x",
        ),
        (
            (
                "--name",
                ".git/config=a.csv",
            ),
            ".git",
        ),
    ],
)
def test_commit_bad_input_names_the_culprit_and_stores_nothing(store, file, words, culprit):
    ended = store("commit", *IDS, *words)
    assert ended.code == 4
    assert culprit in ended.err.splitlines()[0]
    assert store.ok("list", "--json").json["runs"] == []


@pytest.mark.parametrize(
    ("words", "stdin", "culprit"),
    [
        (("x" * 300,), b"", "x" * 300),
        (("--name", f"a={'x' * 300}"), b"", "File name too long"),
        (("-m", "-", "a.csv"), b"\xff", "not UTF-8"),
        (("-m", "-", "a.csv"), b"[" * 200_000, "not JSON"),
    ],
    ids=["long path", "long path of a name", "stdin in latin", "stdin nested deeply"],
)
def test_commit_input_that_cannot_be_read_is_refused_and_no_defect(store, file, words, stdin, culprit):
    ended = store("commit", *IDS, *words, stdin=stdin)
    assert (ended.code, culprit in ended.err) == (4, True), ended.err


def test_commit_value_nested_deeply_is_a_word(store, file):
    text = "[" * 50_000
    made = store.ok("commit", *IDS, "--set", f"note={text}", "a.csv", "--json").json
    assert store.ok("show", made["tags"][0], "--json").json["metadata"]["note"] == text


def test_commit_secret_is_refused_without_its_value(store, place, credential):
    (place / "s.py").write_text(f'x = 1\npassword = "{credential}"\n')
    ended = store("commit", *IDS, "s.py", "--json")
    assert ended.code == 5
    assert ended.error["exit_code"] == 5
    assert (ended.error["findings"][0]["name"], ended.error["findings"][0]["line"]) == ("s.py", 2)
    assert credential not in ended.err
    assert ended.out == ""


def test_commit_without_a_store_says_how_to_make_one(cas, place):
    (place / "a.csv").write_text("1")
    ended = cas("commit", *IDS, "a.csv")
    assert ended.code == 3
    assert "cas init" in ended.err


def test_commit_without_correlation_id_names_the_setting(store, file):
    ended = store("commit", "-w", "wf", "-t", "t", "a.csv")
    assert ended.code == 4
    assert "correlation_id" in ended.err
    made = store.ok(
        "commit", "-w", "wf", "-t", "t", "a.csv", "-o", "require_correlation_id=false", "--json"
    ).json
    assert made["correlation_id"]


def test_commit_configured_for_graceful_errors_still_ends_with_a_code(store, file):
    assert store("commit", *IDS, "missing", "-o", "raise_errors=false").code == 4


def test_commit_from_a_folder_below_finds_the_store_above(store, file, place, monkeypatch):
    (place / "deep").mkdir()
    monkeypatch.chdir(place / "deep")
    store.ok("commit", *IDS, "../a.csv")
    assert json.loads(store.ok("list", "--json").out)["count"] == 1


def test_commit_that_takes_long_tells_how_far_the_reading_is(store, file, monkeypatch):
    monkeypatch.setattr("cli.progress.LINE_PATIENCE_S", 0.0)
    assert store.ok("commit", *IDS, "a.csv").err == "read: 4 B of 4 B\n"
    assert store.ok("commit", *IDS, "a.csv", "--quiet").err == ""
    assert store.ok("commit", *IDS, "a.csv", "--json").json["success"]  # one document, and nothing beside it

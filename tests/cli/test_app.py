"""The root: version, usage errors, interruption, pipes, terminals."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cas import __version__


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_stream_that_is_closed_changes_no_exit_code_and_no_store(store, commit, place, redirection):
    commit()
    command = f'exec "$0" -m cli "$@" {redirection}'
    for words, code in (
        (["list"], 0),
        (["list", "--json"], 0),
        (["show", "nothing"], 3),
        (["verify", "--full"], 0),
    ):
        done = subprocess.run(["sh", "-c", command, sys.executable, *words], cwd=place, check=False)
        assert done.returncode == code, words
    assert store.ok("verify", "--full").code == 0


def test_current_folder_that_was_removed_is_told_and_not_needed_for_what_lies_elsewhere(
    cas, tmp_path, monkeypatch
):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for words in (["list"], ["init"], ["scan", str(tmp_path)], ["--repo", str(tmp_path), "list"]):
        ended = cas(*words)
        assert ended.code == 3, words
        assert ended.err == "error: the present folder was removed\nhint: Go to one that exists: cd /\n"
    assert cas("help").code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_output_that_cannot_be_written_is_told_and_talk_that_cannot_is_dropped(store, commit, place):
    commit()
    for words in (["list"], ["list", "--json"], ["cat", "latest", "trades.csv"], ["export", "status"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "cli", *words],
                cwd=place,
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
            )
        assert (done.returncode, b"the output cannot be written: No space left" in done.stderr) == (6, True)
        assert done.stderr.count(b"\n") == 1, done.stderr
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cli", "show", "nothing"], cwd=place, stderr=full, check=False
        )
    assert done.returncode == 3


def test_version_is_the_package_s(cas):
    assert cas.ok("--version").out == f"cas {__version__}\n"
    assert cas.ok("--json", "--version").json == {"version": __version__}


def test_unknown_verb_names_near_ones(cas):
    ended = cas("comit")
    assert ended.code == 2
    assert ended.err.splitlines()[0] == "error: There is no command 'comit'. Did you mean commit?"


@pytest.mark.parametrize(
    "words", [("list", "--nothing"), ("commit",), ("show",), ("list", "--limit", "x"), ("-o", "x", "list")]
)
def test_usage_error_ends_with_its_code_and_the_way_to_help(cas, words):
    ended = cas(*words)
    assert ended.code == 2
    assert ended.out == ""
    assert "--help` shows how it is used." in ended.err


def test_usage_error_with_json_is_one_document_on_stderr(cas):
    ended = cas("list", "--nothing", "--json")
    assert (ended.code, ended.error["kind"], ended.error["exit_code"]) == (2, "usage", 2)


def test_quiet_leaves_out_remarks_but_not_errors(store, commit):
    commit()
    assert store.ok("verify", "--quiet").err == ""
    assert store("show", "nothing", "-q").err.startswith("error: ")


def test_interrupt_ends_with_130_and_leaves_the_store_usable(store, commit, monkeypatch):
    from cas import ArtifactStore

    commit()

    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ArtifactStore, "verify", interrupted)
        ended = store("verify")
    assert (ended.code, ended.err) == (130, "error: interrupted\n")
    store.ok("verify")


def test_interrupt_signal_ends_a_process_with_130(spawn):
    process = spawn("scan", "/dev/stdin", stdin=subprocess.PIPE)
    process.stdin.write(b"x" * 200_000)  # more than a pipe holds: it is being read when this returns
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == b"error: interrupted\n"


def test_reader_that_goes_away_ends_quietly(store, commit, spawn):
    commit(content="line\n" * 400_000)
    process = spawn("cat", "latest", "trades.csv")
    process.stdout.read(10)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 141
    assert err == b""


def on_terminal(words, place, environ):
    """Run `cas` with stdout and stderr on one pseudo terminal; return what it showed."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *words],
        stdout=slave,
        stderr=slave,
        cwd=place,
        env={**os.environ, **environ},
    )
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:
        shown += b""  # Linux tells the end of a terminal by an error
    os.close(master)
    return process.wait(timeout=60), shown.decode()


def test_terminal_gets_color_and_a_bar_and_no_color_takes_both_colors_away(store, commit, place):
    commit()
    code, shown = on_terminal(["verify"], place, {"TERM": "xterm", "COLUMNS": "100"})
    assert code == 0
    assert "\x1b[32mok: " in shown
    assert "blobs" in shown
    assert "2/2" in shown
    _, shown = on_terminal(["list"], place, {"TERM": "xterm", "NO_COLOR": "1"})
    assert "\x1b" not in shown
    assert "abc123" in shown


def test_dumb_terminal_gets_lines_instead_of_bars(store, commit, place):
    commit()
    code, shown = on_terminal(["verify"], place, {"TERM": "dumb"})
    assert code == 0
    assert "\x1b" not in shown
    assert "blobs: 2 of 2" in shown


def test_json_keys_of_numbers_tell_their_unit(store, commit, git):
    """A moment is text, or a number of microseconds under a name that says so; so it is wherever JSON is written."""
    commit("one", "--set", "test_metrics.net_pnl=1.5")
    store.ok("pin", "one")
    store.ok("revert", "one")
    git("init", "--quiet")
    store.ok("export", "--no-push", "--json")
    documents = [
        store.ok(*words, "--json").json
        for words in (
            (),
            ("list",),
            ("show", "one"),
            ("log",),
            ("log", "main"),
            ("stats",),
            ("pin",),
            ("export", "status"),
        )
    ]
    numbers, texts = set(), set()

    def look(value, key):
        if isinstance(value, dict):
            for name, inner in value.items():
                look(inner, name)
        elif isinstance(value, list):
            for inner in value:
                look(inner, key)
        elif isinstance(value, int) and value > 10**15:
            numbers.add(key)
        elif key.endswith("_at"):
            assert value is None or isinstance(value, str), key
            texts.add(key)

    for document in documents:
        look(document, "")
    assert {"created_at_us", "last_export_at_us"} <= numbers
    assert all(key.endswith("_us") for key in numbers)
    assert "pinned_at" in texts

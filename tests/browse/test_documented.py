"""docs/browse.md: every example runs as it stands there, every option is in it, and what it says of limits is so."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra `browse` is not installed")
pytest.importorskip("jinja2", reason="the extra `browse` is not installed")

from cli.browse import contents, curves, listing
from cli.browse.guard import TOKEN_BYTES
from cli.verbs import load_verb
from tests.browse.conftest import commit_run
from tests.store.stores import open_store

PAGE = (Path(__file__).parents[2] / "docs" / "browse.md").read_text()
EXAMPLES = re.findall(r"^\$ cas (browse.*)$", PAGE, re.MULTILINE)


def test_page_has_examples():
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("words", EXAMPLES)
def test_example_runs_as_documented(tmp_path, words):
    with open_store(tmp_path) as store:
        commit_run(store, "first")
    command = [sys.executable, "-m", "cli", *words.replace("8765", "0").split()]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    with subprocess.Popen(command, **options) as process:
        try:
            line = process.stdout.readline().strip()
            url = json.loads(line)["url"] if "--json" in words else line
            with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310  http, of our own server
                assert b"first" in answer.read()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
            said = process.stderr.read()
        finally:
            process.kill()
    shown = re.search(rf"\$ cas {re.escape(words)}\n((?:(?!\$|```).*\n)*)", PAGE)[1]
    assert all(part in shown for part in said.splitlines()) or not shown
    if "--json" in words:
        assert set(json.loads(shown)) == set(json.loads(line))


def test_every_option_is_documented():
    own = [param for param in load_verb("browse").params if param.name in {"port", "host", "open_"}]
    options = [option for param in own for option in (*param.opts, *param.secondary_opts)]
    assert sorted(options) == ["--host", "--no-open", "--open", "--port"]
    table = PAGE.partition("## Options")[2].partition("## Who")[0]
    assert [option for option in options if f"`{option}" not in table] == []


def test_limits_are_as_documented():
    assert f"Files above {contents.MAX_READ_BYTES >> 20} MiB" in PAGE
    assert contents.MAX_SHOWN_BYTES == 1 << 20
    assert listing.PAGE_RUNS == 50
    assert f"{TOKEN_BYTES * 8} random bits" in PAGE
    assert all(f"*{word}*" in PAGE for word in curves._FILE_WORDS)

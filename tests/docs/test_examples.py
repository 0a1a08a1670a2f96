"""Every example of the README and of docs/ does what it says; a page's examples run in order, in one folder.

A test per page, not per example: later examples build on earlier ones.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import traceback

import pytest

from cli import settings
from cli.app import main
from cli.verbs import load_verb
from tests.docs.pages import PAGES, ROOT, blocks_of, commands_of

PROSE = {"", "text"}
UNITS = {"ini", "cron"}  # their commands are parsed, not run
FILES = {
    "strategy.py": "FAST, SLOW = 10, 30\n",
    "trades.csv": "time,side,price,pnl\n2025-01-02,buy,101.5,2.5\n",
    "equity_curve.csv": "time,equity\n2025-01-02,10002.5\n",
    "events.log": "2025-01-02 FILL buy 1 @ 101.5\n",
    "test_report.json": '{"metrics": {"net_pnl": 120.5}}\n',
    "Backtest/codes/task_coder_001.py": "PERIOD, LOW, HIGH = 14, 30, 70\n",
}
# Where a terminal draws a bar and takes it away again, a pipe gets such lines.
PROGRESS = re.compile(r"^[a-z]+: \d+( of \d+)?(, .*)?\n", re.MULTILINE)
SERVICES = re.compile(r"^cas (listen|browse|.*--serve|.*--follow)\b")  # they would run for ever
SHELL_SIGNS = re.compile(r"[|<>&;$*`]")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A project folder with the files of a run, and `cas` on the path."""
    folder = tmp_path / "project"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    program = tmp_path / "bin" / "cas"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLUMNS", "80")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A person")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "person@example.com")
    monkeypatch.chdir(folder)
    return folder


def run_command(command):
    """Return the exit code of a command line, and what it wrote; plain calls of `cas` run in this process."""
    assert not SERVICES.search(command), (
        f"$ {command}\nis a service; say in a comment before it that it is not run"
    )
    words = shlex.split(command, comments=True)
    if words[0] != "cas" or SHELL_SIGNS.search(re.sub(r"'[^']*'|\"[^\"]*\"", "", command)):
        done = subprocess.run(
            ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return done.returncode, done.stdout
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        code = main(words[1:])
    return code, written.getvalue().decode()


def is_like(shown, expected):
    """Tell whether output is what a page shows, where ``...`` stands for anything."""
    pattern = re.escape("\n".join(expected).strip()).replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, PROGRESS.sub("", shown).strip(), re.DOTALL) is not None


def run_console(block):
    commands = commands_of(block.text)
    assert commands, "a console block has lines that begin with `$ `"
    for number, (command, expected) in enumerate(commands, 1):
        code, shown = run_command(command)
        wanted = block.code if number == len(commands) else 0
        assert code == wanted, f"$ {command}\nended with {code}, not {wanted}:\n{shown}"
        assert not expected or is_like(shown, expected), f"$ {command}\nwrote:\n{shown}"


def run_python(block, names, page):
    # Blank lines first, so that a traceback names the line of the page.
    source = "\n" * (block.line - 1) + block.text
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(source, page.name, "exec"), names)  # noqa: S102  our own text


def check_settings(block, place):
    (place / "cas.toml").write_text(block.text)
    table = tomllib.loads(block.text)
    found = settings.load(directory=place)
    assert {item.key for item in found.settings if item.origin != "default"} >= set(table)


def check_unit(block):
    """Every call of `cas` in a unit file or crontab is one that the command line accepts."""
    calls = re.findall(r"/cas ([^|&\n]+)", block.text)
    for call in calls:
        words = shlex.split(call)
        load_verb(words[0]).make_context(words[0], words[1:])
    assert calls or "[Timer]" in block.text


def run_block(block, names, page, place):
    if block.language == "python":
        run_python(block, names, page)
    elif block.language in {"console", "set-up"}:
        run_console(block)
    elif block.language == "toml":
        check_settings(block, place)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language in UNITS:
        check_unit(block)
    else:
        pytest.fail(f"nothing runs {block.language!r}; say why, in a comment before it")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_of_page_do_what_they_say(page, place):
    names = {"__name__": "example"}
    for block in blocks_of(page.read_text()):
        if block.reason or block.language in PROSE:
            continue
        try:
            run_block(block, names, page, place)
        except Exception as error:  # noqa: BLE001  told with its place
            pytest.fail(
                f"{page.name}:{block.line}: {''.join(traceback.format_exception(error)[-3:])}", pytrace=False
            )


def test_runner_notices_a_wrong_code_a_wrong_output_and_a_wrong_result(place):
    wrong = (
        "```console\n$ cas show nothing\n```\n",
        "```console\n$ echo one\ntwo\n```\n",
        "```console\n$ cas metrics --serve :9464\n```\n",
        "<!-- exit code: 3 -->\n```console\n$ cas --version\n```\n",
        "```python\nassert 1 == 2\n```\n",
        '```toml\n# cas.toml\nnothing = "x"\n```\n',
        "```ini\nExecStart=/bin/cas export --nothing\n```\n",
        "```ruby\nputs 1\n```\n",
    )
    for text in wrong:
        (block,) = blocks_of(text)
        with pytest.raises((Exception, pytest.fail.Exception)):
            run_block(block, {}, PAGES[0], place)


def test_every_block_that_is_not_run_says_why():
    reasons = [block.reason for page in PAGES for block in blocks_of(page.read_text()) if block.reason]
    assert all(len(reason.split()) >= 3 for reason in reasons)
    fences = sum(page.read_text().count("\n```") for page in PAGES)
    blocks = [block for page in PAGES for block in blocks_of(page.read_text()) if block.language != "set-up"]
    assert fences == 2 * len(blocks), "every fence belongs to a block that the runner sees"

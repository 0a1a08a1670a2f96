"""What the tests of the terminal share: `cas` run in this process, a still clock, and a place with a store."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import random
import shutil
import string
import subprocess
import sys

import pytest

from cli.app import main
from cli.session import Session

NOW_NS = 1_767_225_600_000_000_000  # 2026-01-01 00:00:00 UTC


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out_bytes: bytes
    err: str

    @property
    def out(self):
        return self.out_bytes.decode()

    @property
    def events(self):
        """The lines of long work."""
        return [json.loads(line) for line in self.out_bytes.splitlines()]

    @property
    def json(self):
        """The one document, or the result of long work."""
        if not self.out_bytes.startswith(b'{"event": '):
            return json.loads(self.out_bytes)
        return {key: value for key, value in self.events[-1].items() if key != "event"}

    @property
    def error(self):
        return json.loads(self.err)


class Clock:
    """A clock that moves only when it is told to."""

    def __init__(self):
        self.now_ns = NOW_NS

    def __call__(self):
        return self.now_ns

    def advance(self, seconds):
        self.now_ns += seconds * 1_000_000_000


class Terminal:
    """Runs `cas` in this process, with its streams caught."""

    def __init__(self, clock):
        self.clock = clock

    def __call__(self, *words, stdin=b""):
        out, err = io.BytesIO(), io.BytesIO()
        streams = [io.TextIOWrapper(each, encoding="utf-8", write_through=True) for each in (out, err)]
        before = sys.stdin
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        try:
            with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
                code = main([str(word) for word in words], Session(clock=self.clock))
        finally:
            sys.stdin = before
        return Ended(code, out.getvalue(), err.getvalue().decode())

    def ok(self, *words, stdin=b""):
        ended = self(*words, stdin=stdin)
        assert ended.code == 0, ended.err
        return ended


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder that is the current one, 80 columns wide."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # each store takes some 20 MB, and pytest keeps what is left


@pytest.fixture
def cas(place, clock):
    return Terminal(clock)


@pytest.fixture
def store(cas):
    """`cas` in a place with an empty store."""
    cas.ok("init")
    return cas


@pytest.fixture
def commit(store, place, clock):
    """Commits a run of two small files a minute after the last one; returns its JSON."""

    def commit_run(correlation_id="abc123", *words, content="x,y\n1,2\n", workflow="wf_rsi", task="t1"):
        clock.advance(60)
        (place / "strategy.py").write_text("FAST = 5\n")
        (place / "trades.csv").write_text(content)
        ids = ("--workflow", workflow, "--task", task, "--correlation-id", correlation_id)
        return store.ok("commit", *ids, *words, "strategy.py", "trades.csv", "--json").json

    return commit_run


@pytest.fixture
def credential():
    """A made-up credential, different from every real one."""
    return "".join(random.Random(5).choices(string.ascii_letters + string.digits, k=20))


@pytest.fixture
def git(place):
    """Runs git; used to look at what an export made."""

    def run_git(*words, folder="."):
        done = subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    return run_git


@pytest.fixture
def spawn(place):
    """Starts `cas` as a process of its own."""

    def spawn_cas(*words, **options):
        return subprocess.Popen(
            [sys.executable, "-m", "cli", *words],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": place, **options},
        )

    return spawn_cas

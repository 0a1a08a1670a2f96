"""The demonstration, smaller: real backtests through store, export, push, rollback and proof."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUNS = 12


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    command = [
        sys.executable,
        ROOT / "examples" / "backtest_sweep.py",
        "--runs",
        str(RUNS),
        "--dir",
        folder / "demo",
    ]
    first = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    second = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return folder / "demo", first, second


def git(folder, *arguments):
    command = ["git", "-C", folder, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_demo_exports_and_pushes_every_run(demo):
    folder, _, _ = demo
    local = git(
        folder / "repository",
        "for-each-ref",
        "--format=%(objectname) %(refname)",
        "refs/heads/ai",
        "refs/tags",
    )
    remote = git(
        folder / "remote.git",
        "for-each-ref",
        "--format=%(objectname) %(refname)",
        "refs/heads/ai",
        "refs/tags",
    )
    assert local == remote
    assert local.count(" refs/heads/ai/generated/") == RUNS
    assert local.count(" refs/tags/corr_") == RUNS


def test_demo_rolls_main_back_and_keeps_its_readme(demo):
    folder, _, _ = demo
    names = git(folder / "remote.git", "ls-tree", "-r", "--name-only", "main").splitlines()
    assert "README.md" in names
    assert sum(name.startswith("Backtest/codes/") for name in names) == 6


def test_demo_leaves_repositories_that_fsck_finds_clean(demo):
    folder, _, _ = demo
    for name in ("repository", "remote.git"):
        git(folder / name, "fsck", "--strict", "--full")


def test_demo_ends_with_a_table_and_three_commands_a_second_time_too(demo):
    _, first, second = demo
    for shown in (first, second):
        assert "store, repository and remote agree" in shown
        commands = shown.split("Look around:\n")[1].splitlines()
        assert len(commands) == 3
        for command in commands:
            subprocess.run(command, shell=True, check=True, capture_output=True)  # noqa: S602  our own text

"""The house: packaging, locked packages, targets, the rules every source file keeps, and the sweep of backtests."""

import ast
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from examples.backtest_runs import FILE_NAMES, RunSpec, iter_runs, make_run, write_run

ROOT = Path(__file__).parent.parent
PACKAGES = ("cas", "gitexport", "cli")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {name: (ROOT / "requirements" / f"{name}.txt").read_text() for name in ("dev", "release")}
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def requirements():
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    lists = [project["dependencies"], *project["optional-dependencies"].values(), *groups.values()]
    return [item for items in lists for item in items if isinstance(item, str)]


def project_name(requirement):
    return re.split(r"[\[<>=;, ]", requirement)[0].lower().replace("_", "-")


@pytest.mark.parametrize("requirement", requirements())
def test_requirement_has_lower_bound_and_is_locked(requirement):
    assert ">=" in requirement
    entry = re.compile(rf"^{re.escape(project_name(requirement))}==", re.MULTILINE)
    assert any(entry.search(lock) for lock in LOCKS.values())


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_every_package_is_pinned_with_digests(lock):
    entries = re.split(r"\n(?=[a-z0-9])", re.sub(r"^#.*\n", "", LOCKS[lock], flags=re.MULTILINE))
    assert len(entries) > 40
    for entry in entries:
        assert re.match(r"[a-z0-9][a-z0-9.-]*==\S+", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]


@pytest.mark.parametrize(
    "name", ["requirements/dev.txt", "requirements/release.txt", "Makefile", "pyproject.toml", ".ci/run"]
)
def test_house_file_names_no_host(name):
    assert "://" not in (ROOT / name).read_text()


def test_gate_calls_make_test():
    gate = ROOT / ".ci" / "run"
    assert os.access(gate, os.X_OK)
    assert gate.read_text().splitlines()[-1].endswith("make --no-print-directory test")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_lists_every_target():
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    phony = " ".join(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE))
    shown = subprocess.run(["make", "-C", ROOT, "help"], check=True, capture_output=True, text=True).stdout
    assert set(phony.split()) == set(re.findall(r"^make ([a-z-]+) ", shown, re.MULTILINE))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_source_keeps_the_house_rules(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module says what it is for"
    assert len(text.splitlines()) <= 500
    assert path.stem not in {"utils", "util", "helpers", "common", "misc"}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 70, f"{node.name} does not fit a screen"
        if isinstance(node, ast.ExceptHandler):
            assert not isinstance(node.body[0], ast.Pass), f"line {node.lineno} swallows an error"


def test_sweep_run_has_the_five_files_and_is_repeatable():
    pytest.importorskip("backtesting", reason="the demo extra is not installed")
    first, again = make_run(RunSpec(4)), make_run(RunSpec(4))
    assert first == again
    assert tuple(first.files) == FILE_NAMES
    assert 8_000 < sum(map(len, first.files.values())) < 250_000
    report = json.loads(first.files["test_report.json"], parse_constant=pytest.fail)
    assert report["metrics"] == first.metadata["test_metrics"]
    assert json.loads(json.dumps(first.metadata)) == first.metadata


def test_sweep_source_carries_the_parameters_it_ran_with():
    pytest.importorskip("backtesting", reason="the demo extra is not installed")
    run = make_run(RunSpec(2))
    strategy = next(
        node for node in ast.parse(run.files["strategy.py"]).body if isinstance(node, ast.ClassDef)
    )
    values = [node for node in strategy.body if isinstance(node, ast.Assign)]
    assert {node.targets[0].id: ast.literal_eval(node.value) for node in values} == run.metadata["parameters"]


def test_sweep_event_log_agrees_with_the_trades():
    pytest.importorskip("backtesting", reason="the demo extra is not installed")
    run = make_run(RunSpec(0))
    events = [line.split()[1] for line in run.files["events.log"].decode().splitlines()]
    trade_count = len(run.files["trades.csv"].splitlines()) - 1
    assert events.count("EXIT") == trade_count == run.metadata["test_metrics"]["total_trades"] > 0
    assert events.count("FILL") >= trade_count
    assert events[-1] == "END"


def test_sweep_workers_make_the_same_runs_in_order(tmp_path):
    pytest.importorskip("backtesting", reason="the demo extra is not installed")
    runs = list(iter_runs(5, workers=2, seed=7))
    assert runs == [make_run(RunSpec(index, seed=7)) for index in range(5)]
    for run in runs:
        assert write_run(run, tmp_path) == sum(map(len, run.files.values()))
    assert len({run.correlation_id for run in runs}) == len(list(tmp_path.glob("wf_*/task_*"))) == 5

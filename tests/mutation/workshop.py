"""A copy of the project in which mutmut tries mutants, one process at a time, below `build/mutation`.

Invariant: nothing outside the copy is written, and the copy is made anew for every run, so no verdict outlives the code
or the tests that gave it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TextIO

from .groups import ROOT, Group
from .mutants import Mutant

COPIED = (
    "cas", "gitexport", "cli", "tests", "benchmarks", "docs", "examples", "requirements",
    "pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", "LICENSE",
)  # fmt: skip
NICENESS = 19
KILLED = frozenset({"killed", "timeout", "crashed"})
# How the process of a mutant ended, as mutmut keeps it: pytest's exit code (2: a test module could not be imported), a
# signal, or a number of its own. mutmut takes 255 for a time-out, but it is a run that pytest could not begin, for
# instance for a test's id with two colons; so it does not count as killed here.
_VERDICTS = {
    0: "survived", 1: "killed", 2: "killed", 3: "killed", 5: "no tests", 33: "no tests",
    -24: "timeout", 24: "timeout", 36: "timeout", 152: "timeout", -11: "crashed", -6: "crashed", -9: "crashed",
}  # fmt: skip


def try_mutants(group: Group, mutants: list[Mutant], build: Path) -> dict[str, str]:
    """Run mutmut over some mutants of a group's modules.

    Returns:
        The verdict by the mutant's name: "killed", "timeout", "crashed", "survived", "no tests", "not run".

    Raises:
        RuntimeError: mutmut did not come to its end, for instance because a test fails without any mutant.
    """
    copy = build / group.name
    shutil.rmtree(copy, ignore_errors=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        else:
            shutil.copy2(source, copy / name)
    # Python remembers that a folder of its path does not exist; this one is on it before mutmut fills it.
    (copy / "mutants").mkdir()
    modules = sorted({mutant.module for mutant in mutants})
    text = (copy / "pyproject.toml").read_text()
    header = "[tool.mutmut]\n"
    chosen = f"only_mutate = {modules}\npytest_add_cli_args_test_selection = {list(group.tests)}\n"
    (copy / "pyproject.toml").write_text(text.replace(header, header + chosen))
    log = build / f"{group.name}.log"
    with log.open("w") as output:
        run = _mutmut(copy, output, "run", "--max-children", "1", *(mutant.name for mutant in mutants))
    if run.returncode != 0 or "mutations/second" not in log.read_text():
        raise RuntimeError(f"mutmut stopped early in group {group.name}; see {log}")
    codes: dict[str, int | None] = {}
    for module in modules:
        codes |= json.loads((copy / "mutants" / f"{module}.meta").read_text())["exit_code_by_key"]
    if any(codes[mutant.name] is None for mutant in mutants):
        raise RuntimeError(f"mutmut left out some mutants of group {group.name}; see {log}")
    return {mutant.name: _VERDICTS.get(codes[mutant.name], "not run") for mutant in mutants}


def _mutmut(copy: Path, output: TextIO, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = dict(os.environ, PYTHONPATH=str(copy / "mutants"))  # for the processes that tests start
    return subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=copy, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False,
        preexec_fn=lambda: os.nice(NICENESS),
    )  # fmt: skip

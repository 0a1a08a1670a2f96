"""A copy of the project in which mutmut tries mutants, one process at a time, below `build/mutation`.

Invariant: nothing outside the copy is written, and the copy is made anew for every run, so no verdict outlives the code
or the tests that gave it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from .groups import ROOT, Group
from .mutants import Mutant

COPIED = (
    "cas", "gitexport", "cli", "tests", "benchmarks", "docs", "examples", "requirements",
    "pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", "LICENSE",
)  # fmt: skip
NICENESS = 19
LOOK_EVERY_S = 1.0
KILLED = frozenset({"killed", "timeout", "crashed"})
# How the process of a mutant ended, as mutmut keeps it: pytest's exit code (2: a test module could not be imported), a
# signal, or a number of its own. mutmut takes 255 for a time-out, but it is a run that pytest could not begin: as the
# same tests began without a mutant, the mutant kept a conftest from being imported.
_VERDICTS = {
    0: "survived", 1: "killed", 2: "killed", 3: "killed", 255: "killed", 5: "no tests", 33: "no tests",
    -24: "timeout", 24: "timeout", 36: "timeout", 152: "timeout", -11: "crashed", -6: "crashed", -9: "crashed",
}  # fmt: skip


def try_mutants(
    group: Group, mutants: list[Mutant], build: Path, deadline: float | None = None
) -> Iterator[tuple[Mutant, str]]:
    """Run mutmut over some mutants of a group's modules, and yield each verdict soon after it is found.

    When the iterator is closed, or the monotonic clock has reached `deadline`, mutmut and what it started are ended.

    Yields:
        The mutant and "killed", "timeout", "crashed", "survived" or "no tests".

    Raises:
        RuntimeError: mutmut did not come to its end: the deadline, or a test that fails without any mutant.
    """
    if deadline is not None and time.monotonic() > deadline:
        raise RuntimeError(f"no time was left for group {group.name}")
    copy = _prepared_copy(group, mutants, build)
    log = build / f"{group.name}.log"
    waiting = {mutant.name: mutant for mutant in mutants}
    refused: list[str] = []
    with log.open("w") as output:
        run = subprocess.Popen(
            [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *waiting],
            cwd=copy, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env=dict(os.environ, PYTHONPATH=str(copy / "mutants")),  # for the processes that tests start
            preexec_fn=lambda: os.nice(NICENESS),  # noqa: PLW1509  no other thread runs here
        )  # fmt: skip
        try:
            ended = False
            while not ended:
                ended = run.poll() is not None or (deadline is not None and time.monotonic() > deadline)
                for name, code in _codes(copy, waiting.values()).items():
                    mutant = waiting.pop(name)
                    if code in _VERDICTS:
                        yield mutant, _VERDICTS[code]
                    else:
                        refused.append(f"{name} ({code})")
                if not ended:
                    time.sleep(LOOK_EVERY_S)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
    if waiting:
        raise RuntimeError(f"mutmut stopped early in group {group.name}; see {log}")
    if refused:
        raise RuntimeError(f"pytest could not begin with {', '.join(refused)}; see {log}")


def _prepared_copy(group: Group, mutants: list[Mutant], build: Path) -> Path:
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
    return copy


def _codes(copy: Path, waiting: Iterable[Mutant]) -> dict[str, int]:
    """How the mutants ended that have come to their end, by name."""
    codes: dict[str, int] = {}
    waiting = list(waiting)
    for module in {mutant.module for mutant in waiting}:
        path = copy / "mutants" / f"{module}.meta"
        try:
            found = json.loads(path.read_text())["exit_code_by_key"]
        except (FileNotFoundError, json.JSONDecodeError):
            continue  # not there yet, or just being written: the next look finds it
        for mutant in waiting:
            if mutant.module == module and found.get(mutant.name) is not None:
                codes[mutant.name] = found[mutant.name]
    return codes

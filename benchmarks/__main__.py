"""The command: measure, keep, render.

    python -m benchmarks [--quick | --tiny] [--only NAME ...] [--out DIR] [--export-runs N] [--scale-runs N]
    python -m benchmarks render [--out DIR]

Results go to benchmarks/results, those of `--quick` and `--tiny` to build/bench-quick, so that rough figures never
replace good ones. Several benchmarks run one after the other, each in a process of its own and within a time limit:
one that fails, crashes or hangs leaves its earlier result as it was, and the others go on. Scratch files go to
build/bench-scratch and are removed at the very end.

Exit codes: 0 everything was measured; 1 something failed, and the last lines say what; 2 a wrong command line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import machine, render, results
from benchmarks.plan import PROJECT, QUICK_RESULTS_DIR, RESULTS_DIR, SCRATCH_DIR, Plan
from benchmarks.registry import APART, NAMES, STANDARD, module_of, parts_of, question_of
from benchmarks.runs import can_make_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIMIT_S: Final = 600  # of one benchmark among several; the longest takes a quarter of it
_SIZE_OPTIONS: Final = ("export_runs", "scale_runs")


def run(name: str, plan: Plan, command: str) -> dict[str, Any]:
    """Measure one benchmark and return its document.

    Args:
        name: One of `registry.NAMES`.
        plan: How much, and where.
        command: What a reader types to repeat it.
    """
    question, method = question_of(name)
    load_before = machine.processes_waiting()
    started_s = time.perf_counter()
    measured = module_of(name).measure(plan)
    return {
        "format": results.FORMAT,
        "name": name,
        "question": question,
        "method": method,
        "command": command,
        "size": plan.size,
        **machine.circumstances(plan.scratch),
        "load_before": load_before,
        "took_s": round(time.perf_counter() - started_s, 1),
        **measured,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do what it says."""
    options = _parser().parse_args(arguments)
    out = options.out or (RESULTS_DIR if options.size == "full" else QUICK_RESULTS_DIR)
    if options.action == "render":
        return _render(out)
    if not can_make_runs():
        print("the runs come from real backtests: python -m pip install '.[demo]'", file=sys.stderr)
        return 1
    names = options.only or STANDARD
    scratch = options.scratch or SCRATCH_DIR / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    try:
        if len(names) > 1:
            return _measure_apart(names, options, scratch)
        command = " ".join(["python -m benchmarks", *_chosen(options), "--only", names[0]])
        place = scratch / names[0]
        place.mkdir(parents=True)
        plan = Plan(options.size, place, export_runs=options.export_runs, scale_runs=options.scale_runs)
        _measure_and_tell(names[0], plan, command, out)
    finally:
        if options.scratch is None:  # otherwise whoever chose the folder removes it
            shutil.rmtree(scratch, ignore_errors=True)
    return 0


def _render(out: Path) -> int:
    try:
        pages = render.write_pages(out, PROJECT)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for page in pages:
        print(page.relative_to(PROJECT))
    return 0


def _measure_apart(names: Sequence[str], options: argparse.Namespace, scratch: Path) -> int:
    """Measure each benchmark by a command of its own, then tell which failed; nothing is deleted in between."""
    ends: list[tuple[str, float, str]] = []
    for name in names:
        command = [
            sys.executable,
            "-m",
            "benchmarks",
            *_chosen(options),
            "--only",
            name,
            "--scratch",
            str(scratch),
        ]
        if options.out:
            command += ["--out", str(options.out)]
        started_s = time.perf_counter()
        state = _run_limited(command)
        ends.append((name, time.perf_counter() - started_s, state))
    print("\n".join(f"{name:<16} {took_s:7.1f} s  {state}" for name, took_s, state in ends))
    print(f"{'in all':<16} {sum(took_s for _, took_s, _ in ends):7.1f} s")
    failed = [name for name, _, state in ends if state != "measured"]
    if failed:
        print(f"failed, their earlier results stay: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run_limited(command: Sequence[str]) -> str:
    """Run a command to its end or to the limit, and end everything it started; return how it ended."""
    process = subprocess.Popen(command, cwd=PROJECT, start_new_session=True)
    try:
        code = process.wait(_LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"stopped after {_LIMIT_S} s"
    finally:
        with contextlib.suppress(ProcessLookupError):  # nothing of it is left, as it should be
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return "measured" if code == 0 else f"failed with exit code {code}"


def _chosen(options: argparse.Namespace) -> list[str]:
    """Return the options that decide how much is measured, as a reader types them."""
    chosen = [] if options.size == "full" else [f"--{options.size}"]
    for key in _SIZE_OPTIONS:
        if (value := getattr(options, key)) is not None:
            chosen += [f"--{key.replace('_', '-')}", str(value)]
    return chosen


def _measure_and_tell(name: str, plan: Plan, command: str, out: Path) -> None:
    print(f"{name}: {question_of(name)[0]}", flush=True)
    document = run(name, plan, command)
    kept = results.save(out, name, document)
    for table in parts_of(name, "tables", document):
        print(f"\n{table.title}\n{table.markdown()}")
    for left_out in document["skipped"]:
        print(f"left out {left_out['name']}: {left_out['reason']}; {left_out['install']}")
    print(f"\n{document['took_s']} s, kept in {kept}\n", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the store against its peers."
    )
    parser.add_argument("action", nargs="?", choices=("measure", "render"), default="measure")
    parser.set_defaults(size="full")
    for size, words in (("quick", "small and rough"), ("tiny", "a check that all of it runs, no figures")):
        parser.add_argument(f"--{size}", action="store_const", const=size, dest="size", help=words)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=NAMES,
        metavar="NAME",
        help=f"{', '.join(STANDARD)}; only when named: {', '.join(APART)}",
    )
    parser.add_argument("--out", type=Path, help="folder of the result files")
    parser.add_argument("--scratch", type=Path, help="folder for stores and repositories, which then stays")
    parser.add_argument("--export-runs", type=int, help="runs of the export benchmark")
    parser.add_argument("--scale-runs", type=int, help="runs of the scale benchmark")
    return parser


if __name__ == "__main__":
    sys.exit(main())

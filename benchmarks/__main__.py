"""The command: measure, keep, render.

    python -m benchmarks [--quick] [--only NAME ...] [--out DIR] [--export-runs N] [--scale-runs N]
    python -m benchmarks render [--out DIR]

Without `--quick`, results go to benchmarks/results; with it, to build/bench-quick, so that rough figures never replace
good ones. Scratch files go to build/bench-scratch and are removed at the very end.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine, render, results
from benchmarks.plan import PROJECT, QUICK_RESULTS_DIR, RESULTS_DIR, SCRATCH_DIR, Plan, Size
from benchmarks.runs import can_make_runs

if TYPE_CHECKING:
    from collections.abc import Sequence


def question_of(name: str) -> tuple[str, str]:
    """Return a benchmark's question and how it is asked: the first paragraph of its module's text, and the rest."""
    text = inspect.getdoc(importlib.import_module(f"benchmarks.{name}")) or ""
    question, _, method = text.partition("\n\n")
    return " ".join(question.split()), " ".join(method.split())


def run(name: str, plan: Plan, command: str) -> dict[str, Any]:
    """Measure one benchmark and return its document.

    Args:
        name: One of `render.NAMES`.
        plan: How much, and where.
        command: What a reader types to repeat it.
    """
    question, method = question_of(name)
    load_before = machine.processes_waiting()
    started_s = time.perf_counter()
    measured = importlib.import_module(f"benchmarks.{name}").measure(plan)
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
    size: Size = "quick" if options.quick else "full"
    out = options.out or (QUICK_RESULTS_DIR if options.quick else RESULTS_DIR)
    if options.action == "render":
        try:
            pages = render.write_pages(out, PROJECT)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
        for page in pages:
            print(page.relative_to(PROJECT))
        return 0
    if not can_make_runs():
        print("the runs come from real backtests: python -m pip install '.[demo]'", file=sys.stderr)
        return 1
    scratch = SCRATCH_DIR / time.strftime("%Y%m%d-%H%M%S")
    try:
        for name in options.only or render.NAMES:
            place = scratch / name
            place.mkdir(parents=True)
            plan = Plan(size, place, export_runs=options.export_runs, scale_runs=options.scale_runs)
            _measure_and_tell(name, plan, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def _measure_and_tell(name: str, plan: Plan, out: Path) -> None:
    command = f"python -m benchmarks{' --quick' if plan.size == 'quick' else ''} --only {name}"
    for key in ("export_runs", "scale_runs"):
        value = getattr(plan, key)
        if value is not None:
            command += f" --{key.replace('_', '-')} {value}"
    print(f"{name}: {question_of(name)[0]}", flush=True)
    document = run(name, plan, command)
    for table in importlib.import_module(f"benchmarks.{name}").tables(document):
        print(f"\n{table.title}\n{table.markdown()}")
    for left_out in document["skipped"]:
        print(f"left out {left_out['name']}: {left_out['reason']}; {left_out['install']}")
    print(f"\n{document['took_s']} s, kept in {results.save(out, name, document)}\n", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the store against its peers."
    )
    parser.add_argument("action", nargs="?", choices=("measure", "render"), default="measure")
    parser.add_argument("--quick", action="store_true", help="small and rough: a check that all of it runs")
    parser.add_argument(
        "--only", nargs="+", choices=render.NAMES, metavar="NAME", help=", ".join(render.NAMES)
    )
    parser.add_argument("--out", type=Path, help="folder of the result files")
    parser.add_argument("--export-runs", type=int, help="runs of the export benchmark (default: 1000)")
    parser.add_argument("--scale-runs", type=int, help="runs of the scale benchmark (default: 100000)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

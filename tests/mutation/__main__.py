"""Try mutants of the core: `python -m tests.mutation [--size N] [--seed N] [--minutes N] [--survivors] [MODULE ...]`.

Without modules, a random sample is tried that holds some mutants of every module; with modules, all their mutants, or a
sample of them when a size is given. Mutants of an unchanged module that were tried before are not tried again, so a run
that ended early goes on where it stood. After tests were added, `--survivors` tries those again that survived. The
verdicts are kept in `tests/mutation/verdicts.json`, from which `--report` writes `docs/mutation.md`.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

from .draw import draw
from .groups import PACKAGES, ROOT, core_modules, load_groups
from .mutants import Mutant, mutants_of
from .report import write_report
from .verdicts import Verdicts
from .workshop import KILLED, try_mutants

BUILD = ROOT / "build" / "mutation"
VERDICTS = ROOT / "tests" / "mutation" / "verdicts.json"
SAMPLE_SIZE = 1000


def main() -> int:
    options = _options()
    verdicts = Verdicts(VERDICTS)
    if options.report:
        write_report(verdicts, ROOT / "docs" / "mutation.md")
        return 0
    populations = {
        module: [mutant for mutant in mutants_of(module, ROOT) if not mutant.rule]
        for module in options.modules or core_modules()
    }
    if options.survivors:
        chosen = list(filter(verdicts.survives, itertools.chain(*populations.values())))
    elif options.modules and options.size is None:
        chosen = list(itertools.chain(*populations.values()))
    else:
        chosen = draw(populations, options.size or SAMPLE_SIZE, options.seed)
    todo = chosen if options.survivors else list(filter(verdicts.lacks, chosen))
    print(f"{len(todo)} to try, {len(chosen) - len(todo)} tried before", flush=True)
    deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    return _try_all(
        todo, {module: len(mutants) for module, mutants in populations.items()}, verdicts, deadline
    )


def _try_all(
    todo: list[Mutant], population_counts: dict[str, int], verdicts: Verdicts, deadline: float | None
) -> int:
    """Try mutants group by group, keeping each verdict; return 1 when a group could not be tried or time ran out."""
    BUILD.mkdir(parents=True, exist_ok=True)
    failed = False
    for group in load_groups():
        mine = [mutant for mutant in todo if mutant.module in group.modules]
        if not mine:
            continue
        killed_count = 0
        print(f"{group.name}: {len(mine)} mutants", flush=True)
        try:
            for mutant, verdict in try_mutants(group, mine, BUILD, deadline):
                verdicts.take(mutant, verdict, population_counts[mutant.module])
                verdicts.save()
                killed_count += verdict in KILLED
                if verdict not in KILLED:
                    print(
                        f"  {verdict} {mutant.name}\n    - {mutant.was}\n    + {mutant.becomes}", flush=True
                    )
        except RuntimeError as error:
            failed = True
            print(error, file=sys.stderr, flush=True)
        print(f"{group.name}: {killed_count} of {len(mine)} killed", flush=True)
    return int(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument(
        "modules", nargs="*", type=_module, metavar="MODULE", help="for instance cas/names.py"
    )
    parser.add_argument("--size", type=int, help=f"mutants to draw; {SAMPLE_SIZE} unless modules are named")
    parser.add_argument("--seed", type=int, default=1, help="of the draw; 1 unless given")
    parser.add_argument("--minutes", type=float, help="stop after this time; the next run goes on from there")
    parser.add_argument("--survivors", action="store_true", help="try only those again that survived")
    parser.add_argument(
        "--report", action="store_true", help="write docs/mutation.md from the verdicts, try nothing"
    )
    return parser.parse_args()


def _module(text: str) -> str:
    path = Path(text)
    if str(path) not in core_modules():
        raise argparse.ArgumentTypeError(f"{text} is not a module of {' or '.join(PACKAGES)}")
    return str(path)


if __name__ == "__main__":
    sys.exit(main())

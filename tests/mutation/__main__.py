"""Try mutants of the core: `python -m tests.mutation [--size N] [--seed N] [--survivors] [MODULE ...]`.

Without modules, a random sample over all modules of the core is tried; with modules, all their mutants, or a sample of
them when a size is given. After tests were added, `--survivors` tries only those again that survived. The verdicts are
merged into `build/mutation/verdicts.json`, from which `--report` writes `docs/mutation.md`.
"""

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

from .groups import PACKAGES, ROOT, core_modules, load_groups
from .mutants import Mutant, mutants_of
from .report import Verdicts, write_report
from .workshop import KILLED, try_mutants

BUILD = ROOT / "build" / "mutation"
SAMPLE_SIZE = 200


def main() -> int:
    options = _options()
    verdicts = Verdicts.load(BUILD / "verdicts.json")
    if options.report:
        write_report(verdicts, ROOT / "docs" / "mutation.md")
        return 0
    kind = "whole" if options.modules and options.size is None else "sample"
    population = [
        mutant
        for module in options.modules or core_modules()
        for mutant in mutants_of(module, ROOT)
        if not mutant.rule
    ]
    drawn = population
    if options.survivors:
        drawn = [mutant for mutant in population if mutant.name in verdicts.survivors(kind, mutant.module)]
    elif kind == "sample":
        size = min(options.size or SAMPLE_SIZE, len(population))
        drawn = random.Random(options.seed).sample(population, size)
    print(f"{len(drawn)} of {len(population)} mutants", flush=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    populations = Counter(mutant.module for mutant in population)
    for group in load_groups():
        mine = [mutant for mutant in drawn if mutant.module in group.modules]
        if not mine:
            continue
        found = try_mutants(group, mine, BUILD)
        for module in sorted({mutant.module for mutant in mine}):
            tried = [mutant for mutant in mine if mutant.module == module]
            if options.survivors:
                verdicts.revise(kind, module, found)
            else:
                verdicts.keep(kind, module, populations[module], tried, found, options.seed)
        verdicts.save()
        _tell(group.name, mine, found)
    return 0


def _tell(group: str, tried: list[Mutant], found: dict[str, str]) -> None:
    survivors = [mutant for mutant in tried if found[mutant.name] not in KILLED]
    print(f"{group}: {len(tried) - len(survivors)} of {len(tried)} killed", flush=True)
    for mutant in survivors:
        print(f"  {found[mutant.name]} {mutant.name}\n    - {mutant.was}\n    + {mutant.becomes}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument(
        "modules", nargs="*", type=_module, metavar="MODULE", help="for instance cas/names.py"
    )
    parser.add_argument("--size", type=int, help=f"mutants to draw; {SAMPLE_SIZE} unless modules are named")
    parser.add_argument("--seed", type=int, default=1, help="of the draw; 1 unless given")
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

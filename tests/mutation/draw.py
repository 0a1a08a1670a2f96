"""Which mutants are drawn: a share of every module, at least a few of each, by a seed.

Invariant: a larger draw with the same seed holds the smaller one, so that a sample can be made larger later.
"""

import random

from .mutants import Mutant

LEAST_OF_A_MODULE = 5


def draw(populations: dict[str, list[Mutant]], size: int, seed: int) -> list[Mutant]:
    """Draw about `size` mutants in all, of each module in proportion, but five at least.

    Each module's mutants are put into an order of its own by the seed and the module's name, and the first are taken;
    so what is drawn of a module does not depend on the others.
    """
    share = size / max(1, sum(map(len, populations.values())))
    drawn: list[Mutant] = []
    for module, mutants in sorted(populations.items()):
        order = random.Random(f"{seed} {module}").sample(mutants, len(mutants))
        drawn += order[: max(LEAST_OF_A_MODULE, round(share * len(mutants)))]
    return drawn

"""The draw: some of every module, the same by the same seed, and a larger one holds the smaller."""

from collections import Counter

from tests.mutation.draw import LEAST_OF_A_MODULE, draw
from tests.mutation.mutants import Mutant

SIZES = {"cas/few.py": 3, "cas/small.py": 20, "gitexport/large.py": 977}
POPULATIONS = {
    module: [Mutant(f"{module}.x_f__mutmut_{number}", module, "f", "", "", "") for number in range(size)]
    for module, size in SIZES.items()
}


def test_draw_takes_a_share_of_every_module_and_five_at_least():
    counted = Counter(mutant.module for mutant in draw(POPULATIONS, 100, seed=1))
    assert counted == {"cas/few.py": 3, "cas/small.py": LEAST_OF_A_MODULE, "gitexport/large.py": 98}


def test_draw_by_the_same_seed_is_the_same_and_by_another_is_not():
    assert draw(POPULATIONS, 100, seed=1) == draw(POPULATIONS, 100, seed=1)
    assert draw(POPULATIONS, 100, seed=1) != draw(POPULATIONS, 100, seed=2)


def test_larger_draw_holds_the_smaller_one_and_none_twice():
    names = [{mutant.name for mutant in draw(POPULATIONS, size, seed=7)} for size in (50, 100, 1000)]
    assert names[0] < names[1] < names[2]
    assert len(names[2]) == len(draw(POPULATIONS, 1000, seed=7)) == sum(SIZES.values())


def test_draw_of_one_module_does_not_depend_on_the_others():
    alone = draw({"cas/few.py": POPULATIONS["cas/few.py"]}, 3, seed=1)
    together = [mutant for mutant in draw(POPULATIONS, 1000, seed=1) if mutant.module == "cas/few.py"]
    assert alone == together

"""The table of groups: complete, without doubles, and true to the files that exist."""

from collections import Counter

from tests.mutation.groups import ROOT, core_modules, load_groups


def test_groups_hold_every_module_of_the_core_once():
    counted = Counter(module for group in load_groups() for module in group.modules)
    assert [module for module, count in counted.items() if count > 1] == []
    assert sorted(counted) == core_modules()


def test_groups_name_tests_that_exist():
    for group in load_groups():
        assert group.tests
        for name in group.tests:
            path = ROOT / name
            assert path.is_file() or list(path.glob("test_*.py")), name

"""Which mutants are made, and which ones the rules leave out."""

import pytest

from tests.mutation.groups import ROOT
from tests.mutation.mutants import mutants_of

pytest.importorskip("mutmut", reason="the dependency group `mutation` is not installed")

SOURCE = '''
def checked(value, limit):
    """Return the value."""
    if value > limit:
        raise ValueError(f"{value} is more than {limit}", hint="give less", kind="limit")
    return value


def refused(value):
    raise TypeError("not a number")


def typed(value):
    return cast("int", value)


def named(value):
    return value.encode("utf-8")


class Counter:
    def add(self, step):
        self.total += step
'''


@pytest.fixture(scope="module")
def mutants(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutants")
    (folder / "cas").mkdir()
    (folder / "cas" / "sample.py").write_text(SOURCE)
    # mutmut reads its settings from the working folder, once per process.
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return mutants_of("cas/sample.py", folder)


def changes(mutants, function, rule=""):
    return {
        (mutant.was, mutant.becomes)
        for mutant in mutants
        if (mutant.function, mutant.rule) == (function, rule)
    }


def test_mutants_of_show_what_changes(mutants):
    assert ("if value > limit:", "if value >= limit:") in changes(mutants, "checked")
    assert ("self.total += step", "self.total -= step") in changes(mutants, "Counter.add")


def test_mutants_of_carry_the_names_of_the_tool(mutants):
    names = [mutant.name for mutant in mutants]
    assert "cas.sample.x_checked__mutmut_1" in names
    assert "cas.sample.xǁCounterǁadd__mutmut_1" in names
    assert len(set(names)) == len(names)


def test_text_of_an_error_is_left_out_but_not_its_fields(mutants):
    left_out = {becomes for _, becomes in changes(mutants, "checked", "text of an error")}
    assert "raise ValueError(None, hint='give less', kind='limit')" in left_out
    assert "raise ValueError(f'{value} is more than {limit}', hint='GIVE LESS', kind='limit')" in left_out
    assert "raise ValueError(f'{value} is more than {limit}', kind='limit')" in left_out
    tried = {becomes for _, becomes in changes(mutants, "checked")}
    assert "raise ValueError(f'{value} is more than {limit}', hint='give less', kind='LIMIT')" in tried
    assert "raise ValueError(f'{value} is more than {limit}', hint='give less')" in tried
    assert changes(mutants, "refused") == set()


def test_type_of_a_cast_is_left_out_but_not_its_value(mutants):
    assert {becomes for _, becomes in changes(mutants, "typed", "type of a cast")} >= {
        "return cast('INT', value)"
    }
    assert "return cast('int', None)" in {becomes for _, becomes in changes(mutants, "typed")}


def test_case_of_an_encoding_is_left_out_but_not_its_name(mutants):
    left_out = changes(mutants, "named", "case of an encoding")
    assert left_out == {("return value.encode('utf-8')", "return value.encode('UTF-8')")}
    assert "return value.encode('XXutf-8XX')" in {becomes for _, becomes in changes(mutants, "named")}

"""The `where` language by itself: what is parsed, what matches, which ranges follow, and where a mistake stands."""

import time

import pytest

from cas.errors import QueryError
from cas.predicate import Comparison, Joined, bounds, look_up, parse

RUN = {
    "test_metrics": {
        "pnl": 10,
        "ratio": 0.5,
        "name": "metric",
        "nested": {"deep": 3},
        "a.b": 1,
        "none": None,
    },
    "name": "metadata",
    "note": "Straße",
    "flag": True,
    "count": 0,
    "missing_value": None,
    "outer": {"inner": {"leaf": 7}, "a.b": 8},
    "list": [1],
}
A, B, C = (Comparison(name, "=", 1) for name in "abc")


@pytest.mark.parametrize(
    ("expression", "parsed"),
    [
        ("a = 1", A),
        ("  a=1  ", A),
        ("(a = 1)", A),
        ("((a = 1))", A),
        ("a = 1 and b = 1", Joined("and", (A, B))),
        ("a = 1 AND b = 1 and c = 1", Joined("and", (A, B, C))),
        ("a = 1 Or b = 1", Joined("or", (A, B))),
        ("a = 1 or b = 1 and c = 1", Joined("or", (A, Joined("and", (B, C))))),
        ("(a = 1 or b = 1) and c = 1", Joined("and", (Joined("or", (A, B)), C))),
        ("not a = 1 and b = 1", Joined("and", (Joined("not", (A,)), B))),
        ("NOT not a = 1", Joined("not", (Joined("not", (A,)),))),
        ("not (a = 1 and b = 1)", Joined("not", (Joined("and", (A, B)),))),
        ("'a' = 1", A),
        ('"two words" = 1', Comparison("two words", "=", 1)),
        (r"'it\'s' = 1", Comparison("it's", "=", 1)),
        ("win.rate-% >= .5", Comparison("win.rate-%", ">=", 0.5)),
        ("a == 1", Comparison("a", "==", 1)),
        ("a <> 1", Comparison("a", "<>", 1)),
        ("a != 1", Comparison("a", "!=", 1)),
        ("a<=1", Comparison("a", "<=", 1)),
        ("a ~ 'x'", Comparison("a", "~", "x")),
        ("a = 'x'", Comparison("a", "=", "x")),
        (r'a = "x\"y\\z"', Comparison("a", "=", 'x"y\\z')),
        ("a = ''", Comparison("a", "=", "")),
        ("a = True", Comparison("a", "=", True)),
        ("a = false", Comparison("a", "=", False)),
        ("a = NULL", Comparison("a", "=", None)),
        ("a = none", Comparison("a", "=", None)),
    ],
)
def test_parse_reads_names_joins_and_literals(expression, parsed):
    assert parse(expression) == parsed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1", -1),
        ("+1", 1),
        ("1.", 1.0),
        ("1.5", 1.5),
        ("-.5", -0.5),
        ("1e3", 1000.0),
        ("1E-1", 0.1),
        ("12345678901234567890", 12345678901234567890),
    ],
)
def test_parse_keeps_whole_numbers_whole(text, value):
    parsed = parse(f"a = {text}")
    assert (parsed.value, type(parsed.value)) == (value, type(value))


@pytest.mark.parametrize(
    ("expression", "position", "why"),
    [
        ("", 0, "expected the name of a metric, found the end"),
        ("   ", 3, "expected the name of a metric, found the end"),
        ("and a = 1", 0, "expected the name of a metric, found 'and'"),
        ("a = 1 and OR", 10, "expected the name of a metric, found 'OR'"),
        ("1 = a", 0, "expected the name of a metric, found '1'"),
        (") a = 1", 0, "expected the name of a metric, found ')'"),
        ("a", 1, "expected one of < <= = != >= > ~, found the end"),
        ("a b", 2, "expected one of < <= = != >= > ~, found 'b'"),
        ("a = ", 4, "expected a number, a quoted text, true, false or null, found the end"),
        ("a = b", 4, "expected a number, a quoted text, true, false or null, found 'b'"),
        ("a = (", 4, "expected a number, a quoted text, true, false or null, found '('"),
        ("a = 1 b", 6, "expected 'and' or 'or', found 'b'"),
        ("(a = 1", 6, "expected ')'"),
        ("(a = 1 (", 7, "expected ')'"),
        ("a = 1e999", 4, "the number is out of range"),
        ("a = -1e999", 4, "the number is out of range"),
        ("a = 1 ;", 6, "cannot read ';'"),
        ("a =  'x", 5, 'cannot read "\'"'),
        ("  ?", 2, "cannot read '?'"),
    ],
)
def test_parse_of_a_mistake_names_its_place(expression, position, why):
    with pytest.raises(QueryError) as caught:
        parse(expression)
    assert caught.value.position == position
    assert str(caught.value).startswith(f"where: {why} at position {position}")
    assert caught.value.hint == f"{expression}\n{' ' * position}^"


class Copied(str):
    """Text that counts the characters that are copied out of it."""

    __slots__ = ("count",)

    def __getitem__(self, part):
        found = super().__getitem__(part)
        self.count = getattr(self, "count", 0) + len(found)
        return found


def test_parse_of_a_long_expression_copies_none_of_it_again_and_again():
    expression = Copied(" and ".join(["a = 1"] * 1000))
    assert len(parse(expression).parts) == 1000
    assert getattr(expression, "count", 0) <= len(expression)


def test_parse_of_a_long_number_that_is_none_tries_it_once():
    began_s = time.process_time()
    with pytest.raises(QueryError) as caught:
        parse("a = " + "1" * 100_000 + "x")
    assert caught.value.position == 4
    assert time.process_time() - began_s < 2, "trying every shorter number takes half a minute"


def test_parse_of_a_very_deep_expression_is_refused_where_it_becomes_too_deep():
    assert parse("(" * 49 + "a = 1" + ")" * 49) == A
    with pytest.raises(QueryError, match="nested too deeply") as caught:
        parse("(" * 50 + "a = 1" + ")" * 50)
    assert caught.value.position == 50
    with pytest.raises(QueryError, match="nested too deeply"):
        parse("not " * 50 + "a = 1")
    assert parse("not " * 48 + "(a = 1)").join == "not"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("pnl > 9.5", True),
        ("pnl > 10", False),
        ("pnl >= 10", True),
        ("pnl < 10", False),
        ("pnl <= 10", True),
        ("pnl < 10.5", True),
        ("pnl = 10", True),
        ("pnl == 10.0", True),
        ("pnl = 11", False),
        ("pnl != 11", True),
        ("pnl <> 10", False),
        ("pnl != 10", False),
        ("ratio = 0.5", True),
        # metrics come first; another type is never equal, greater or different
        ("name = 'metric'", True),
        ("name = 'metadata'", False),
        ("name != 1", False),
        ("name = 1", False),
        ("pnl != 'x'", False),
        ("pnl = '10'", False),
        ("flag = true", True),
        ("flag != false", True),
        ("flag = 1", False),
        ("flag != 1", False),
        ("count = false", False),
        ("count != true", False),
        ("count = 0", True),
        ("note < 'T'", True),
        ("list = 1", False),
        ("list != 1", False),
        ("list != 'x'", False),
        # dots walk in, a key with a dot is found first
        ("nested.deep = 3", True),
        ("a.b = 1", True),
        ("outer.inner.leaf = 7", True),
        ("outer.a.b = 8", True),
        ("outer.inner.none = 7", False),
        ("pnl.x = 1", False),
        ("outer. = 1", False),
        # a missing name is never a match, not even of "different"
        ("nothing = 1", False),
        ("nothing != 1", False),
        ("nothing = null", False),
        ("nothing != null", False),
        ("nothing ~ ''", False),
        ("missing_value = null", True),
        ("missing_value == null", True),
        ("missing_value != null", False),
        ("missing_value <> null", False),
        ("missing_value = 1", False),
        ("missing_value != 1", True),
        ("missing_value <> 1", True),
        ("missing_value > 1", False),
        ("missing_value <= null", False),
        ("none = null", True),
        ("pnl = null", False),
        ("pnl != null", True),
        ("pnl > null", False),
        # contained, whatever the case
        ("note ~ 'STRASSE'", True),
        ("note ~ 'x'", False),
        ("note ~ ''", True),
        ("pnl ~ '1'", False),
        ("flag ~ 'true'", False),
        # joined
        ("pnl = 10 and ratio = 0.5", True),
        ("pnl = 10 and ratio = 1", False),
        ("pnl = 1 or ratio = 0.5", True),
        ("pnl = 1 or ratio = 1", False),
        ("not pnl = 1", True),
        ("not pnl = 10", False),
        ("not nothing = 1", True),
    ],
)
def test_matches_compares_alike_types_only(expression, expected):
    assert parse(expression).matches(RUN) is expected


@pytest.mark.parametrize("value", [True, "text", 5])
def test_contained_compares_what_the_literal_reads_as(value):
    assert Comparison("note", "~", value).matches({"note": f"<{str(value).upper()}>"})


@pytest.mark.parametrize("metrics", [None, "text", [], 3])
def test_look_up_without_a_mapping_of_metrics_reads_the_metadata(metrics):
    assert look_up({"test_metrics": metrics, "pnl": 4}, "pnl") == (True, 4)
    assert look_up({"pnl": 4}, "pnl") == (True, 4)


def test_look_up_tells_a_missing_name_from_a_value_of_none():
    assert look_up(RUN, "missing_value") == (True, None)
    assert look_up(RUN, "nothing") == (False, None)
    assert look_up(RUN, "test_metrics.pnl") == (True, 10)


@pytest.mark.parametrize(
    ("expression", "ranges"),
    [
        ("a < 1", {"a": (None, 1)}),
        ("a <= 1", {"a": (None, 1)}),
        ("a > 1", {"a": (1, None)}),
        ("a >= 1.5", {"a": (1.5, None)}),
        ("a = 1", {"a": (1, 1)}),
        ("a == 1", {"a": (1, 1)}),
        ("a != 1", {}),
        ("a <> 1", {}),
        ("a ~ '1'", {}),
        ("a = 'x'", {}),
        ("a = null", {}),
        ("a = true", {}),
        ("a > false", {}),
        ("not a > 1", {}),
        ("a > 1 or a > 2", {}),
        ("a > 1 or b > 2", {}),
        ("a > 1 and a > 2", {"a": (2, None)}),
        ("a > 2 and a > 1", {"a": (2, None)}),
        ("a < 1 and a < 2", {"a": (None, 1)}),
        ("a < 2 and a <= 1", {"a": (None, 1)}),
        ("a > 1 and a < 5 and b = 3", {"a": (1, 5), "b": (3, 3)}),
        ("a > 0 and a < 0", {"a": (0, 0)}),
        ("a > 1 and (b > 2 or c > 3)", {"a": (1, None)}),
        ("a > 1 and (b > 2 and a < 9)", {"a": (1, 9), "b": (2, None)}),
    ],
)
def test_bounds_hold_for_every_match(expression, ranges):
    assert bounds(parse(expression)) == ranges

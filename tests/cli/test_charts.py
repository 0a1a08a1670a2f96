"""The small charts."""

from hypothesis import given
from hypothesis import strategies as st

from cli.charts import bars, columns

pairs = st.lists(st.tuples(st.sampled_from(["a", "label", "<= 1.4 ms"]), st.integers(0, 10**9)), max_size=30)


@given(pairs, st.integers(40, 120))
def test_bars_fit_the_width(data, width):
    assert max(map(len, bars(data, width))) <= width


def test_bars_are_as_long_as_their_share():
    assert bars([("a", 0), ("b", 1), ("c", 2), ("d", 0)], 24, plain=True) == [
        "b  #########           1",
        "c  ##################  2",
    ]


def test_columns_rise_with_the_values():
    assert columns([0, 1, 4, 8], plain=True) == " 258"
    assert columns([0, 1, 4, 8]) == " ▂▅█"


def test_charts_of_nothing_say_so():
    assert bars([], 80) == [columns([])] == ["nothing counted yet"]

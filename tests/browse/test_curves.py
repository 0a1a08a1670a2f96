"""Curves: which columns are read, what odd tables give, and that a reduced curve shows what the whole one does."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.browse import curves, plots
from cli.browse.curves import Line, NoCurveError, drawdown, find_curve_name, read_curve, reduced
from cli.browse.plots import drawdown_plot, equity_plot

NEW_YEAR = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC).timestamp()
DAY_S = 86400


def read(text):
    data = text if isinstance(text, bytes) else text.encode()
    size = max(7, len(data) // 50)
    return read_curve(data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize(
    ("text", "column", "ys", "xs"),
    [
        ("Time,Equity\n2024-01-01,1\n2024-01-02,2\n", "Equity", [1, 2], [NEW_YEAR, NEW_YEAR + DAY_S]),
        ("timestamp;balance\n1704067200;5\n1704153600;6\n", "balance", [5, 6], [NEW_YEAR, NEW_YEAR + DAY_S]),
        ("ts\tdate\tnav\n0\t1704067200000\t5\n0\t1704153600000\t6\n", "nav", [5, 6], [NEW_YEAR, NEW_YEAR + DAY_S]),
        (",value\n2024-01-01T00:00Z,5\n2024-01-02T02:00+02:00,6\n", "value", [5, 6], [NEW_YEAR, NEW_YEAR + DAY_S]),
        ("a,b\nx,1.5\ny,2.5\n", "b", [1.5, 2.5], [0, 1]),
        ("DrawdownPct,Equity\n0,10\n1,11\n", "Equity", [10, 11], [0, 1]),
        ("1,10\n2,11\n3,12\n", "column 1", [1, 2, 3], [0, 1, 2]),
        ("\ufeffdate,equity\r\n2024-01-01,1\r\n\r\n2024-01-02,2\r\n", "equity", [1, 2], [NEW_YEAR, NEW_YEAR + DAY_S]),
        ('time,equity\n"2024-01-01","1"\n"2024-01-02","2"\n', "equity", [1, 2], [NEW_YEAR, NEW_YEAR + DAY_S]),
        ("time,equity\n2024-01-02,1\n2024-01-01,2\n", "equity", [1, 2], [0, 1]),  # times that go back
        ("time,equity\n2024-01-01,1\nlater,2\n", "equity", [1, 2], [0, 1]),
        ("equity\n7\n", "equity", [7], [0]),
        ("time\n2024-01-01,5\n2024-01-02,6\n", "column 2", [5, 6], [NEW_YEAR, NEW_YEAR + DAY_S]),
        ("time,equity\n1e300,5\n2e300,6\n", "equity", [5, 6], [0, 1]),
    ],
)  # fmt: skip
def test_curve_columns_are_found(text, column, ys, xs):
    found = read(text)
    assert (found.column, list(found.equity.ys), list(found.equity.xs)) == (column, ys, xs)
    assert found.is_timed == (xs[0] == NEW_YEAR)


def test_curve_rows_without_a_number_are_left_out_and_counted():
    found = read(
        "time,equity\n2024-01-01,1\n2024-01-02,\n2024-01-03,nan\n2024-01-04\n2024-01-05,inf\n2024-01-06,1e200\n2024-01-07,2\n"
    )
    assert (list(found.equity.ys), found.skipped_count, found.row_count) == ([1, 2], 5, 2)
    assert list(found.equity.xs) == [NEW_YEAR, NEW_YEAR + 6 * DAY_S]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "time,equity\n",
        "a,b\nx,y\n",
        b"\0\1\2\n\3",
        "time\n2024-01-01\n",
        'a,b\n"' + "x" * 200_000,
        "\n\n\n",
        "equity\nx\n",
    ],
)
def test_curve_of_no_numbers_is_refused(text):
    with pytest.raises(NoCurveError):
        read(text)


@given(
    st.binary(max_size=200)
    | st.text('0123456789.,;-eE\n\r\t "infTZ:x\x1c\u2028', max_size=100).map(str.encode)
)
def test_curve_of_any_bytes_is_read_or_refused(data):
    try:
        found = read(data)
    except NoCurveError:
        return
    assert len(found.equity.xs) == len(found.equity.ys) > 0
    assert equity_plot([("x", found)]).traces


@pytest.mark.parametrize(
    ("values", "depths", "is_relative"),
    [
        ([100, 110, 99, 120], [0, 0, -10, 0], True),
        ([5, 4], [0, -20], True),
        ([0, -5, 3, 1], [0, -5, 0, -2], False),
        ([-10, -5, -20], [0, 0, -15], False),
        ([1e-200, -1e150], [0, -1e150], False),
    ],
)
def test_drawdown_is_measured_from_the_greatest_so_far(values, depths, is_relative):
    found, relative = drawdown([float(value) for value in values])
    assert relative is is_relative
    assert list(found) == pytest.approx(depths)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(1, 20), st.booleans())
def test_reduced_curve_keeps_ends_and_extremes_of_every_column(ys, columns, uneven):
    xs = [float(n * n if uneven else n) for n in range(len(ys))]
    found = reduced(Line(xs, ys), columns)
    assert len(found.xs) <= max(4 * columns, 1)
    pairs = dict(zip(xs, ys, strict=True))
    assert all(pairs[x] == y for x, y in zip(found.xs, found.ys, strict=True))
    assert list(found.xs) == sorted(set(found.xs))
    width = (xs[-1] - xs[0]) / columns or 1.0
    for column in range(columns):
        last = column == columns - 1

        def inside(x, column=column, last=last):
            return column * width <= x and (last or x < (column + 1) * width)

        whole = [y for x, y in pairs.items() if inside(x)]
        kept = [y for x, y in zip(found.xs, found.ys, strict=True) if inside(x)]
        assert bool(whole) == bool(kept)
        if whole:
            assert (kept[0], kept[-1], min(kept), max(kept)) == (whole[0], whole[-1], min(whole), max(whole))


def test_curve_of_many_rows_becomes_few_points():
    rows = "".join(f"{1_700_000_000 + n * 60},{10_000 + n % 977}\n" for n in range(100_000))
    found = read_curve([f"time,equity\n{rows}".encode()])
    assert found.row_count == 100_000
    assert 1600 < len(found.equity.xs) <= 4 * curves.COLUMNS
    assert max(found.equity.ys) == 10_976
    plot = equity_plot([("equity", found)])
    assert len(plot.traces[0].points) < 60_000


def curve_of(*values, start=0):
    return read(
        "time,equity\n"
        + "".join(f"{datetime.date.fromordinal(738000 + start + n)},{v}\n" for n, v in enumerate(values))
    )


def test_plot_of_curves_with_different_beginnings_shows_growth():
    plot = equity_plot([("A", curve_of(100, 110)), ("B", curve_of(1000, 1050))])
    assert plot.unit == "%"
    assert plot.axis == "time"
    assert "A: from 0% to 10%" in plot.summary
    assert equity_plot([("A", curve_of(100, 110)), ("B", curve_of(100, 90))]).unit == ""


def test_plot_of_growth_beyond_every_double_is_of_values():
    assert equity_plot([("A", curve_of(1e-200, 1e149)), ("B", curve_of(1, 2))]).unit == ""


def test_plot_of_curves_of_different_times_is_by_share_of_each():
    plot = equity_plot([("A", curve_of(1, 2, 3)), ("B", curve_of(1, 2, 3, start=5000))])
    assert (plot.axis, plot.x_range) == ("share", (0, 100))
    assert [tick.label for tick in plot.x_ticks] == ["0%", "33%", "67%", "100%"]
    mixed = equity_plot([("A", curve_of(1, 2, 3)), ("B", read("a\n1\n2\n"))])
    assert mixed.axis == "share"


def test_plot_of_drawdowns_of_different_kinds_is_left_out():
    assert drawdown_plot([("A", curve_of(1, 2)), ("B", curve_of(-1, 2))]) is None
    assert drawdown_plot([("A", curve_of(2, 1))]).traces[0].area is not None


@pytest.mark.parametrize(
    "values", [(5,), (5, 5, 5), (0, 0), (-3, -3), (1e-9, 2e-9), (1e150, -1e150), (1, 1e15)]
)
def test_plot_of_extreme_values_stays_in_its_box(values):
    plot = equity_plot([("A", curve_of(*values))])
    for pair in plot.traces[0].points.split():
        x, y = map(float, pair.split(","))
        assert 0 <= x <= plots.WIDTH
        assert 0 <= y <= plots.HEIGHT
    assert all(0 <= tick.at <= plots.HEIGHT for tick in plot.y_ticks)
    assert 1 <= len(plot.y_ticks) <= 8


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a.py", "equity_curve.csv"], "equity_curve.csv"),
        (["balance.tsv", "my_equity.CSV"], "my_equity.CSV"),
        (["equity.json", "learning_curve.csv"], "learning_curve.csv"),
        (["trades.csv"], None),
        ([], None),
    ],
)
def test_curve_file_is_found_by_name(names, found):
    assert find_curve_name(names) == found

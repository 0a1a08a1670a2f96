"""Figures, and text that is safe on a terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import figures
from cli.quantities import parse_duration, parse_share


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 * 1024**3, "5.0 GiB"),
        (2**60, "1024.0 PiB"),
    ],
)
def test_size_text_uses_the_fitting_unit(size, text):
    assert figures.size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (3.25, "3.2 s"),
        (5, "5 s"),
        (90, "90 s"),
        (600, "10 min"),
        (7500, "2 h 5 min"),
        (864000, "10 days"),
    ],
)
def test_duration_text_uses_the_fitting_unit(seconds, text):
    assert figures.duration_text(seconds) == text


def test_age_text_of_the_future_is_now():
    assert figures.age_text(2_000_000, 1_000_000) == "just now"
    assert figures.age_text(0, 180_000_000) == "3 min ago"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (12, "12"),
        (0.0, "0"),
        (0.583333, "0.5833"),
        (120.5, "120.5"),
        (1234567.8, "1.23e+06"),
        (0.00001, "1e-05"),
        (True, "True"),
        ("a\x1bb", "a\\x1bb"),
    ],
)
def test_metric_text_keeps_about_four_digits(value, text):
    assert figures.metric_text(value) == text


@given(st.text())
def test_printable_any_text_holds_nothing_that_steers_a_terminal(text):
    shown = figures.printable(text)
    assert all(unicodedata.category(each) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for each in shown)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"])))
def test_printable_ordinary_text_stays_as_it_is(text):
    assert figures.printable(text) == text


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), ("100%", 1.0), (1.0, 1.0)])
def test_share_is_read_in_either_form(text, share):
    assert parse_share(text) == share


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("90", 90), ("5m", 300), ("5 min", 300), ("1.5h", 5400), ("2d", 172800), ("250ms", 0.25)],
)
def test_duration_is_read_with_or_without_a_unit(text, seconds):
    assert parse_duration(text) == seconds

"""Escaping of IDs: what stays, what is escaped, and that no two IDs meet."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas.errors import InvalidIdError
from cas.names import check_id, escape_id, unescape_id
from tests.names.ids import IDS

DEVICES = ["con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))]


@pytest.mark.parametrize(
    "plain",
    [
        "wf_rsi_strategy",
        "task_coder_001",
        "a",
        "A-1",
        "v1.2.3",
        "lock",
        "a.locks",
        "_",
        "_.b",
        "HEAD",
        "9",
        "console",
    ],
)
def test_escape_id_plain_stays_as_it_is(plain: str) -> None:
    assert escape_id(plain) == plain


@pytest.mark.parametrize(
    ("text", "component"),
    [
        ("@", "%40"),
        ("-", "%2D"),
        ("-x-", "%2Dx-"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("a...b", "a.%2E%2Eb"),
        ("a.", "a%2E"),
        ("a.lock", "a%2Elock"),
        ("a.LocK", "a%2ELocK"),
        (".git", "%2Egit"),
        ("git~1", "git%7E1"),
        ("a/b", "a%2Fb"),
        ("100%", "100%25"),
        ("a b", "a%20b"),
        ("con", "%63on"),
        ("NUL.txt", "%4EUL.txt"),
        ("com1", "%63om1"),
        ("\0", "%00"),
        ("a\n", "a%0A"),
        ("é", "%C3%A9"),
        ("e\u0301", "e%CC%81"),
    ],
)
def test_escape_id_awkward_text_is_escaped_and_comes_back(text: str, component: str) -> None:
    assert escape_id(text) == component
    assert unescape_id(component) == text


@given(IDS)
def test_escape_id_any_text_is_one_safe_component(text: str) -> None:
    component = escape_id(text)
    assert 1 <= len(component) <= 100
    assert re.fullmatch(r"[A-Za-z0-9_.%-]+", component)
    assert component[0] not in ".-"
    assert not component.endswith(".")
    assert not component.lower().endswith(".lock")
    assert ".." not in component
    assert component.lower().split(".")[0] not in DEVICES


@given(IDS)
def test_escape_id_any_text_comes_back_unless_shortened(text: str) -> None:
    component = escape_id(text)
    if "%-" in component:
        with pytest.raises(InvalidIdError) as caught:
            unescape_id(component)
        assert caught.value.kind == "id_not_reversible"
    else:
        assert unescape_id(component) == text


@given(st.lists(IDS, min_size=2, max_size=20, unique=True))
def test_escape_id_different_texts_never_meet(texts: list[str]) -> None:
    assert len({escape_id(text) for text in texts}) == len(texts)


@given(IDS, st.data())
def test_escape_id_meets_another_in_case_only_if_letters_did(text: str, data: st.DataObject) -> None:
    flips = data.draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
    other = "".join(char.swapcase() if flip else char for char, flip in zip(text, flips, strict=True))
    if escape_id(text).lower() == escape_id(other).lower():
        assert _ascii_lower(text) == _ascii_lower(other)


@given(st.text(st.sampled_from("%-.2EeF4/aé"), min_size=1, max_size=12))
def test_unescape_id_accepts_only_what_escape_id_writes(component: str) -> None:
    try:
        text = unescape_id(component)
    except InvalidIdError:
        return
    assert escape_id(text) == component


@pytest.mark.parametrize(
    "component", ["", "%", "%2e", "%61", "%FF", "a/b", ".a", "a..b", "con", "a.lock", "%C3", "é", "\ud800"]
)
def test_unescape_id_foreign_component_is_refused(component: str) -> None:
    with pytest.raises(InvalidIdError):
        unescape_id(component)


def test_escape_id_at_the_limit_stays_and_above_is_shortened() -> None:
    assert escape_id("x" * 100) == "x" * 100
    shortened = escape_id("x" * 101)
    assert re.fullmatch(r"x{66}%-[0-9a-f]{32}", shortened)
    assert shortened != escape_id("x" * 102)


@pytest.mark.parametrize("lead", range(3))
def test_escape_id_shortened_never_splits_an_escape(lead: int) -> None:
    prefix = escape_id("x" * lead + "é" * 80).split("%-")[0]
    assert re.fullmatch(r"(?:[A-Za-z0-9_.-]|%[0-9A-F]{2})*", prefix)


def test_escape_id_long_form_is_pinned() -> None:
    # These names are in people's repositories: another result is a change of format.
    assert escape_id("long/" * 30) == "long%2F" * 9 + "lon%-666d4c6e585b9749c9bb716117eb2315"


@pytest.mark.parametrize("value", [None, 7, b"bytes", "", "\ud800", "a\udfff"])
def test_check_id_not_usable_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidIdError) as caught:
        check_id(value, "task_id")
    assert caught.value.subject == "task_id"
    with pytest.raises(InvalidIdError):
        escape_id(value)


def test_check_id_text_comes_back() -> None:
    assert check_id("a/é", "task_id") == "a/é"


def _ascii_lower(text: str) -> str:
    return text.encode("utf-8").lower().decode("utf-8")

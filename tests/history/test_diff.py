"""Differences between runs: right, bounded, and always writable as JSON."""

import csv
import difflib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas import IntegrityError, NotFoundError, diff
from cas.lmdbenv import Table
from tests.gc.keeping import commit, flip_byte
from tests.store.stores import open_store


def pair(store, left, right, **metadata):
    commit(store, "left", files=left, **metadata)
    commit(store, "right", files=right)
    return store.diff("left", "right")


def test_diff_names_files_added_removed_and_changed(store):
    found = pair(store, {"a": b"1", "b": b"2", "c": b"3"}, {"b": b"2", "c": b"4", "d": b"5"})
    assert (found["added"], found["removed"]) == (["d"], ["a"])
    assert [change["name"] for change in found["changed"]] == ["c"]
    assert found["identical"] is False


def test_diff_metrics_stand_side_by_side_with_their_change(store):
    left = {"test_metrics": {"net_pnl": 1.5, "trades": 3, "same": 1, "gone": 2, "text": "x"}, "note": "a"}
    right = {
        "test_metrics": {"net_pnl": 2.0, "trades": 3.0, "same": 1, "new": True, "text": "y"},
        "note": "b",
    }
    commit(store, "left", metadata=left)
    commit(store, "right", metadata=right)
    found = store.diff("left", "right")
    assert found["metrics"] == {
        "net_pnl": {"left": 1.5, "right": 2.0, "change": 0.5},
        "gone": {"left": 2, "right": None},
        "text": {"left": "x", "right": "y"},
        "new": {"left": None, "right": True},
    }
    assert found["metadata"] == {"note": {"left": "a", "right": "b"}}


@pytest.mark.parametrize("values", [(10**400, 1.5), (1e308, -1e308)])
def test_diff_of_numbers_beyond_a_double_has_no_change_and_stays_json(store, values):
    for name, value in zip(("left", "right"), values, strict=True):
        commit(store, name, metrics={"m": value})
    found = store.diff("left", "right")
    assert "change" not in found["metrics"]["m"]
    json.dumps(found, allow_nan=False)


def test_diff_table_shows_the_first_diverging_row(store):
    head = b"time,pnl,side\n"
    rows = b"".join(b"%d,%d,buy\n" % (n, n * 7) for n in range(30_000))
    found = pair(store, {"t.csv": head + rows + b"x,1,buy\n"}, {"t.csv": head + rows + b"x,2,sell\n"})
    table = found["changed"][0]["table"]
    assert (table["row"], table["columns"]) == (30_002, ["pnl", "side"])
    assert (table["left"], table["right"]) == (["x", "1", "buy"], ["x", "2", "sell"])


def test_diff_table_that_ends_early_has_no_row_on_that_side(store):
    found = pair(store, {"t.csv": b"a,b\n1,2\n"}, {"t.csv": b"a,b\n"})
    assert found["changed"][0]["table"] == {
        "row": 2,
        "columns": ["a", "b"],
        "left": ["1", "2"],
        "right": None,
    }


def test_diff_table_that_is_only_written_in_another_way_says_so(store):
    found = pair(store, {"t.csv": b'a,b\n"1",2\n'}, {"t.csv": b"a,b\r\n1,2\r\n"})
    assert found["changed"][0]["table"]["row"] is None


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"x" * (diff.MAX_TEXT_BYTES + 10)])
def test_diff_of_what_is_no_table_only_says_that_it_differs(store, content):
    found = pair(store, {"t.csv": content}, {"t.csv": content + b"y"})
    assert set(found["changed"][0]) == {"name", "left_bytes", "right_bytes"}


def test_diff_text_is_unified_and_bounded(store):
    left, right = (b"".join(b"%d %s\n" % (n, word) for n in range(1000)) for word in (b"a", b"b"))
    text = pair(store, {"s.py": left}, {"s.py": right})["changed"][0]["text"]
    assert len(text["lines"]) == diff.MAX_DIFF_LINES
    assert text["truncated"] is True


@pytest.mark.parametrize("content", [b"\0\1", b"\xff\xff", b"a\n" * (diff.MAX_TEXT_LINES + 1)])
def test_diff_of_what_is_no_text_only_says_that_it_differs(store, content):
    found = pair(store, {"s": content}, {"s": content + b"b"})
    assert "text" not in found["changed"][0]


def test_diff_of_damaged_content_is_refused(store):
    commit(store, "left", files={"t.csv": b"a,b\n" + b"1,2\n" * 2000 + b"3,4\n"})
    commit(store, "right", files={"t.csv": b"a,b\n9,9\n"})
    with store.environment.read() as transaction:
        size = len(transaction.get(Table.SEGMENTS, (1).to_bytes(8, "big") + bytes(4)))
    flip_byte(store, Table.SEGMENTS, (1).to_bytes(8, "big") + bytes(4), size - 2)
    with pytest.raises(IntegrityError):
        store.diff("left", "right")


def test_diff_unknown_run_is_not_found(store):
    commit(store, "left")
    with pytest.raises(NotFoundError):
        store.diff("left", "nothing")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("shared")) as store:
        yield store


TEXT = st.text(st.sampled_from("ab,\n\"'\r\0é"), max_size=12)


@given(left=TEXT, right=TEXT)
def test_diff_agrees_with_a_plain_comparison(shared, left, right):
    number = len(shared.list_artifacts(limit=100_000))
    for side, text in (("l", left), ("r", right)):
        commit(shared, f"{side}{number}", files={"t.csv": text.encode(), "s.py": text.encode()})
    found = shared.diff(f"l{number}", f"r{number}")
    json.dumps(found, allow_nan=False)
    assert bool(found["changed"]) == (left != right)
    for change in found["changed"]:
        if "text" in change:
            lines = list(
                difflib.unified_diff(left.splitlines(), right.splitlines(), "left", "right", lineterm="")
            )
            assert change["text"]["lines"] == lines
        if "table" in change:
            rows = [list(csv.reader(io.StringIO(text, newline=""))) for text in (left, right)]
            assert (change["table"]["row"] is None) == (rows[0] == rows[1])

"""The parts of a difference, each at its limits: values side by side, tables row by row, texts line by line."""

from __future__ import annotations

import csv

import pytest

from cas import IntegrityError, diff
from cas.digest import digest_bytes
from cas.lmdbenv import Table
from cas.manifest import FileEntry
from tests.gc.keeping import commit
from tests.store.stores import open_store

WIDE = diff.MAX_CELLS


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("parts")) as opened:
        yield opened


def changed(store, name, left, right):
    """Return what is told of one file that differs."""
    number = len(store.list_artifacts(limit=1000))
    commit(store, f"l{number}", files={name: left})
    commit(store, f"r{number}", files={name: right})
    (change,) = store.diff(f"l{number}", f"r{number}")["changed"]
    assert (change["name"], change["left_bytes"], change["right_bytes"]) == (name, len(left), len(right))
    return {key: value for key, value in change.items() if key in {"table", "text"}}


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": None}, {}, {"a": {"left": None, "right": None}}),
        ({}, {"a": None}, {"a": {"left": None, "right": None}}),
        ({"b": 1, "a": 5}, {"c": 1, "a": 3, "b": 2}, {
            "b": {"left": 1, "right": 2, "change": 1}, "a": {"left": 5, "right": 3, "change": -2},
            "c": {"left": None, "right": 1},
        }),
        ({"a": 1}, {"a": "1"}, {"a": {"left": 1, "right": "1"}}),
        ({"a": "1"}, {"a": 1}, {"a": {"left": "1", "right": 1}}),
        ({"a": 2}, {"a": True}, {"a": {"left": 2, "right": True}}),
        ({"a": False}, {"a": 2}, {"a": {"left": False, "right": 2}}),
        ({"a": 1e308}, {"a": -1e308}, {"a": {"left": 1e308, "right": -1e308}}),
        ({"a": 1.5}, {"a": 1}, {"a": {"left": 1.5, "right": 1, "change": -0.5}}),
    ],
)  # fmt: skip
def test_values_stand_side_by_side(left, right, expected):
    found = diff._side_by_side(left, right)
    assert found == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize(
    ("metadata", "metrics"), [({}, {}), ({"test_metrics": [1]}, {}), ({"test_metrics": {"a": 1}}, {"a": 1})]
)
def test_metrics_are_those_of_a_mapping(metadata, metrics):
    assert diff._metrics(metadata) == metrics


def test_equal_runs_are_identical_and_other_metadata_alone_makes_them_differ(store):
    for name, note in (("one", "x"), ("two", "x"), ("three", "y")):
        commit(store, name, files={"a": b"same"}, metadata={"note": note})
    same = store.diff("one", "two")
    assert (same["identical"], same["added"], same["removed"], same["changed"]) == (True, [], [], [])
    other = store.diff("one", "three")
    assert (other["identical"], other["metadata"]) == (False, {"note": {"left": "x", "right": "y"}})


@pytest.mark.parametrize(
    "files", [{"a": b"same"}, {"a": b"same", "b": b"1", "c": b"2"}], ids=["less", "more"]
)
def test_added_or_removed_files_alone_make_runs_differ(store, files):
    name = f"base{len(files)}"
    commit(store, name, files={"a": b"same", "b": b"1"}, metadata={"n": 1})
    commit(store, f"{name}x", files=files, metadata={"n": 1})
    found = store.diff(name, f"{name}x")
    assert found["identical"] is False
    assert found["added"] == [one for one in files if one == "c"]
    assert found["removed"] == [one for one in ("a", "b") if one not in files]


def table(row, columns, left, right):
    return {"table": {"row": row, "columns": columns, "left": left, "right": right}}


@pytest.mark.parametrize(
    ("name", "left", "right", "told"),
    [
        ("t.csv", b"a,b\n1,2\n", b"a,b\n1,3\n", table(2, ["b"], ["1", "2"], ["1", "3"])),
        ("T.CSV", b"a,b\n1,2\n", b"a,b\n1,3\n", table(2, ["b"], ["1", "2"], ["1", "3"])),
        ("t.tsv", b"a\tb\n1,2\tx\n", b"a\tb\n1,2\ty\n", table(2, ["b"], ["1,2", "x"], ["1,2", "y"])),
        ("t.csv", b"a,b\n", b"a,c\n", table(1, ["b"], ["a", "b"], ["a", "c"])),
        ("t.csv", b"", b"a\n", table(1, ["column 1"], None, ["a"])),
        ("t.csv", b"a\n", b"", table(1, ["a"], ["a"], None)),
        ("t.csv", b"a\n1,2,3\n", b"a\n1,4,5\n", table(2, ["column 2", "column 3"], ["1", "2", "3"], ["1", "4", "5"])),
        ("t.csv", b"a,b\n1\n", b"a,b\n1,2\n", table(2, ["b"], ["1"], ["1", "2"])),
        ("t.csv", b"a\nx", b"a\ny", table(2, ["a"], ["x"], ["y"])),
        ("t.csv", b"a\n1\n2\n", b"a\n1\n", table(3, ["a"], ["2"], None)),
        ("t.csv", "\u00e9\n1\n".encode(), "\u00e9\n2\n".encode(), table(2, ["\u00e9"], ["1"], ["2"])),
        ("t.csv", b"\xff\n", b"a\n", {}),
        ("t.csv", b"a\n", b"\xff\n", {}),
        ("t.csv", b'a,"b\nc",d\n', b'a,"b\nc",e\n', table(1, ["d"], ["a", "b\nc", "d"], ["a", "b\nc", "e"])),
    ],
    ids=str,
)  # fmt: skip
def test_table_tells_its_first_row_that_differs(store, name, left, right, told):
    assert changed(store, name, left, right) == told


def test_table_shows_so_many_cells_and_letters_and_names_so_many_columns(store):
    head = ",".join(f"h{number}" for number in range(WIDE + 2))
    left = f"{head}\n" + ",".join(["1" * 300] * (WIDE + 2)) + "\n"
    right = f"{head}\n" + ",".join(["2" * 200] * (WIDE + 2)) + "\n"
    found = changed(store, "t.csv", left.encode(), right.encode())["table"]
    assert found["columns"] == [f"h{number}" for number in range(WIDE)]
    assert found["left"] == ["1" * 200] * WIDE
    assert found["right"] == ["2" * 200] * WIDE


def test_lines_are_put_together_from_any_pieces():
    text = b"one\ntwo\r\n\nlast"
    for size in range(1, len(text) + 1):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert list(diff._lines(pieces)) == ["one\n", "two\r\n", "\n", "last"]
    assert list(diff._lines([b"one\n"])) == ["one\n"]
    assert list(diff._lines([])) == []


def test_line_longer_than_any_of_a_table_is_refused():
    assert list(diff._lines([b"x" * diff.MAX_TEXT_BYTES])) == ["x" * diff.MAX_TEXT_BYTES]
    assert list(diff._lines([b"x" * (2 * diff.MAX_TEXT_BYTES) + b"\n"])) != []
    with pytest.raises(csv.Error, match="too long"):
        list(diff._lines([b"x" * (diff.MAX_TEXT_BYTES + 1)]))


@pytest.mark.parametrize("name", ["t.csv", "s.py"])
def test_file_damaged_behind_the_difference_is_refused(tmp_path, name):
    with open_store(tmp_path) as store:
        for ref, data in (("l", b"1\n" * 5000), ("r", b"2\n" * 5000)):
            commit(store, ref, files={name: data, "other": b"same"})
        key = (2).to_bytes(8, "big") + bytes(4)
        with store.environment.write() as transaction:
            value = bytearray(transaction.get(Table.SEGMENTS, key))
            value[-2] ^= 1
            transaction.put(Table.SEGMENTS, key, bytes(value))
        with pytest.raises(IntegrityError):
            store.diff("l", "r")


def entry(name, data):
    return FileEntry(name, len(data), digest_bytes(data), b"")


@pytest.mark.parametrize(("extra", "has_text"), [(0, True), (1, False)])
@pytest.mark.parametrize("side", [0, 1])
def test_text_is_shown_up_to_a_size_of_either_file(store, extra, has_text, side):
    big = b"a\n" * 500 + b"b" * (diff.MAX_TEXT_BYTES - 1000 + extra)
    assert len(big) == diff.MAX_TEXT_BYTES + extra
    files = [b"c%d%d" % (extra, side), big][:: 1 if side else -1]
    assert ("text" in changed(store, "s.py", *files)) == has_text


@pytest.mark.parametrize(
    ("count", "has_text"), [(diff.MAX_TEXT_LINES, True), (diff.MAX_TEXT_LINES + 1, False)]
)
@pytest.mark.parametrize("side", [0, 1])
def test_text_is_shown_up_to_so_many_lines(count, has_text, side):
    pair = [b"a\n" * count, b"b\n"][:: 1 if side else -1]
    assert (diff._text_change(*pair) is not None) == has_text


@pytest.mark.parametrize("pair", [(b"a", b"b\0"), (b"\0a", b"b"), (b"\xff", b"b"), (b"a", b"\xff")])
def test_what_is_no_text_has_no_lines(pair):
    assert diff._text_change(*pair) is None


def test_text_is_a_unified_diff_with_three_lines_around_and_names_of_the_sides():
    left = "\n".join("abcdefghi")
    right = left.replace("e", "E")
    assert diff._text_change(left.encode(), right.encode()) == {
        "lines": [
            "--- left", "+++ right", "@@ -2,7 +2,7 @@", " b", " c", " d", "-e", "+E", " f", " g", " h",
        ],
        "truncated": False,
    }  # fmt: skip


@pytest.mark.parametrize(("count", "truncated"), [(397, False), (398, True)])
def test_text_says_when_its_diff_is_cut(count, truncated):
    found = diff._text_change(b"", b"x\n" * count)
    assert (len(found["lines"]), found["truncated"]) == (400, truncated)


def test_content_that_is_not_there_is_refused(store):
    with pytest.raises(IntegrityError):
        diff._content(store.environment, entry("a", b"never stored"))

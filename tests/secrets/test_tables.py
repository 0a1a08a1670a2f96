"""Credentials in tables and dumps: found in the column that is named for them, row by row, and nowhere else."""

import pytest

from cas.secretscan.tables import read_insert, read_table
from tests.secrets.corpus import B62, Maker

MAKER = Maker("tables")
KEYS = [MAKER.of(B62, 36).encode() for _ in range(3)]


def found(read, text, name):
    """Return the values that are read from the place of a column's name, all of them as keys."""
    at = text.index(name) + 1
    items = list(read(text, at))
    assert {item.kind.kind for item in items} <= {"key"}
    return [text[item.start : item.end] for item in items]


def table(*rows, delimiter=b",", end=b"\n"):
    return b"".join(delimiter.join(row) + end for row in rows)


HEADER = (b"id", b"api_key", b"note")
ROWS = [(b"%d" % number, key, b"x") for number, key in enumerate(KEYS)]


@pytest.mark.parametrize("delimiter", [b",", b";", b"\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_column_named_for_a_credential_is_read_row_by_row(delimiter, end):
    text = table(HEADER, *ROWS, delimiter=delimiter, end=end)
    assert found(read_table, text, b"api_key") == KEYS
    assert found(read_table, text, b"note") == []
    assert found(read_table, text, b"id") == []
    for column in (0, 2):
        order = [1, 0, 2] if column == 0 else [0, 2, 1]
        moved = table(*([row[at] for at in order] for row in (HEADER, *ROWS)), delimiter=delimiter, end=end)
        assert found(read_table, moved, b"api_key") == KEYS


def test_table_begins_and_ends_anywhere_in_a_text():
    text = b"before\nmore, text\n" + table(HEADER, *ROWS)
    assert found(read_table, text, b"api_key") == KEYS
    assert found(read_table, text[:-1], b"api_key") == KEYS
    assert (
        found(read_table, b"\xef\xbb\xbf" + table((b"api_key", b"id"), (KEYS[0], b"1")), b"api_key")
        == KEYS[:1]
    )
    assert found(read_table, b"id,api_key,note", b"api_key") == []


def test_table_ends_at_an_empty_line_or_at_a_row_of_another_width():
    for between in (b"\n", b"  \n", b"a,b\n", b"a,b,c,d\n"):
        text = table(HEADER, ROWS[0]) + between + table(ROWS[1])
        assert found(read_table, text, b"api_key") == KEYS[:1]


def test_table_has_two_columns_at_least_and_sixty_four_at_most():
    assert found(read_table, table((b"api_key", b"x"), (KEYS[0], b"1")), b"api_key") == KEYS[:1]
    assert found(read_table, table((b"api_key",), (KEYS[0],)), b"api_key") == []
    for count, keys in ((64, KEYS[:1]), (65, [])):
        names = [b"api_key", *(b"c%d" % number for number in range(count - 1))]
        text = table(names, [KEYS[0]] + [b"1"] * (count - 1))
        assert found(read_table, text, b"api_key") == keys


def test_two_hundred_rows_of_a_table_are_read():
    rows = [(b"1", b"none", b"x")] * 199
    assert found(read_table, table(HEADER, *rows, ROWS[0]), b"api_key") == KEYS[:1]
    assert found(read_table, table(HEADER, *rows, rows[0], ROWS[0]), b"api_key") == []


def test_cells_are_read_without_quotes_and_blanks():
    text = b'id,"api_key" , note\n1,"%s",x\n2, %s ,x\n' % (KEYS[0], KEYS[1])
    assert found(read_table, text, b"api_key") == KEYS[:2]


def test_table_of_markdown_is_read_below_its_ruler():
    text = b"| id | `api_key` | note |\n| --- | :-: | --- |\n| 1 | `%s` | x |\n| 2 | **%s** | x |\n" % (
        KEYS[0],
        KEYS[1],
    )
    assert found(read_table, text, b"api_key") == KEYS[:2]


def test_line_that_is_no_header_names_no_column():
    for line in (b"api_key,,note", b"api_key, if (x > 1), note"):
        assert found(read_table, line + b"\n" + table((KEYS[0], b"x", b"y")), b"api_key") == []


def insert(names, *rows, words=b"INSERT INTO accounts "):
    values = b",\n ".join(b"(" + b", ".join(row) + b")" for row in rows)
    return words + b"(" + b", ".join(names) + b") VALUES " + values + b";\n"


def quoted(value):
    return b"'" + value + b"'"


SQL_ROWS = [(b"%d" % number, quoted(key), b"'x'") for number, key in enumerate(KEYS)]


def test_inserted_column_is_read_tuple_by_tuple():
    text = insert(HEADER, *SQL_ROWS)
    assert found(read_insert, text, b"api_key") == KEYS
    assert found(read_insert, text, b"note") == []
    first = insert((b"api_key", b"id"), *((quoted(key), b"1") for key in KEYS))
    assert found(read_insert, first, b"api_key") == KEYS
    last = insert((b"id", b"note", b"api_key"), *((b"1", b"'x'", quoted(key)) for key in KEYS))
    assert found(read_insert, last, b"api_key") == KEYS


@pytest.mark.parametrize("name", [b'"api_key"', b"`api_key`", b"[api_key]", b"\n  api_key\r\n"])
def test_inserted_column_may_be_quoted(name):
    assert found(read_insert, insert((b"id", name, b"note"), *SQL_ROWS), b"api_key") == KEYS


def test_inserted_text_may_hold_commas_brackets_and_quotes():
    row = (b"'a, (b) ''c'' \\' d'", quoted(KEYS[0]), b"NULL")
    assert found(read_insert, insert(HEADER, row), b"api_key") == KEYS[:1]


def test_inserted_value_without_quotes_is_no_text():
    assert found(read_insert, insert(HEADER, (b"1", KEYS[0], b"'x'"), SQL_ROWS[1]), b"api_key") == [KEYS[1]]


def test_insert_ends_at_a_tuple_of_another_width():
    text = insert(HEADER, SQL_ROWS[0], (b"1", quoted(KEYS[1])), SQL_ROWS[2])
    assert found(read_insert, text, b"api_key") == KEYS[:1]


def test_call_in_brackets_is_no_insert():
    text = b"f(id, g(api_key), note) VALUES (1, '%s', 'x')\n" % KEYS[0]
    assert found(read_insert, text, b"id") == []
    assert found(read_insert, b"api_key, note) VALUES ('%s', 'x')" % KEYS[0], b"api_key") == []
    assert found(read_insert, b"(id, api_key) SELECT 1, '%s'" % KEYS[0], b"api_key") == []


def test_names_of_an_insert_lie_within_a_bounded_distance():
    near = insert([b"api_key", *[b"n%03d" % number for number in range(60)]], [quoted(KEYS[0]), *[b"1"] * 60])
    assert found(read_insert, near, b"api_key") == KEYS[:1]
    far = insert(
        [b"api_key", *[b"n%03d" % number for number in range(120)]], [quoted(KEYS[0]), *[b"1"] * 120]
    )
    assert found(read_insert, far, b"api_key") == []


def copied(*rows, names=HEADER):
    lines = b"".join(b"\t".join(row) + b"\n" for row in rows)
    return b"COPY public.accounts (" + b", ".join(names) + b") FROM stdin;\n" + lines + b"\\.\n"


def test_copied_column_is_read_row_by_row_to_the_end_of_the_data():
    text = copied(*ROWS)
    assert found(read_insert, text, b"api_key") == KEYS
    assert found(read_insert, text, b"note") == []
    assert found(read_insert, copied(ROWS[0], (b"1", KEYS[1]), ROWS[2]), b"api_key") == KEYS[:1]
    names = (b"api_key", b"id")
    assert found(read_insert, copied((KEYS[0], b"1"), names=names), b"api_key") == KEYS[:1]

"""The few ways of writing rules: every field of what they give back, and what their expressions match."""

# A table of cases reads best in few lines.
# ruff: noqa: E501

import re

import pytest

from cas.secretrules import Rule, assignments, commands, model, vocabulary
from tests.secrets.corpus import B62, Maker

VALUE = Maker("rule makers").of(B62, 24).encode()


def guarded(guard, text):
    """Return what a caseless guard matches in a text, or None."""
    found = re.search(guard, text, re.IGNORECASE)
    return None if found is None else found[0]


def test_rule_told_by_a_guard_alone_has_no_pattern():
    made = assignments._named("an-id", "a thing", "table", 15, b"guard", (b"one", b"two"), b"gate")
    assert made == Rule(
        id="an-id", description="a thing", pattern=b"", check="table", rank=15, guard=b"guard",
        literals=(b"one", b"two"), gate=b"gate",
    )  # fmt: skip
    assert assignments._named("an-id", "a thing", "table", 15, b"guard", (b"one",)).gate == b""


def test_token_stands_alone_and_is_the_value():
    made = model.token("a-token", "a token", b"zq_[0-9]{4}")
    assert (made.id, made.description, made.check, made.guard, made.rank) == (
        "a-token",
        "a token",
        "random",
        b"",
        50,
    )
    pattern = re.compile(made.pattern)
    for text in (b"zq_1234", b"x zq_1234", b"\\nzq_1234", b"%0Azq_1234", b"zq_1234-"):
        assert pattern.search(text)["v"] == b"zq_1234"
    for text in (b"azq_1234", b"zq_12345", b"zq_1234_", b"zq_123"):
        assert pattern.search(text) is None
    other = model.token("a-token", "a token", b"zq_[0-9]{4}", "strong", end=b"(?=!)")
    assert other.check == "strong"
    assert re.search(other.pattern, b"zq_1234!")["v"] == b"zq_1234"
    assert re.search(other.pattern, b"zq_1234") is None


def test_command_has_its_value_behind_what_begins_it():
    made = commands._command("a-command", "a thing", rb"-p[ \t]", rb"prog[ \t]+-p[ \t]", b"-p", b"-w")
    assert (made.id, made.description, made.check) == ("a-command", "a thing", "directive")
    assert (made.rank, made.literals) == (30, (b"-p", b"-w"))
    assert re.search(made.pattern, b"prog -p 'abc123x' y")["v"] == b"abc123x"
    assert re.search(made.pattern, b"prog -p $abc123") is None
    assert guarded(made.guard, b"x PROG  -p 'abc123x' y") == b"PROG  -p 'abc123"
    assert guarded(made.guard, b"prog -p abc12") is None
    assert commands._command("c", "d", b"", b"", check="strong").check == "strong"


def test_words_are_cut_at_blanks():
    assert vocabulary._words(" one two\nthree ") == {"one", "two", "three"}


def test_service_is_named_before_a_sign_and_a_value():
    made = assignments._service_rule([b"ab", b"abdesk", b"zq"])
    assert made.id == "service-credential"
    assert made.description == "credential under the name of its service"
    assert (made.check, made.rank, made.literals) == ("service", 10, (b"ab", b"abdesk", b"zq"))
    pattern = re.compile(made.pattern)
    for name in (b"zq", b"ZQ", b"abdesk", b"ab.io", b"ab-com", b"ab_live", b"abprod", b"ab.paper", b"ab-demo", b"Ab_Main",
                 b"ab.bot", b"ab_token", b"ab'", b'zq"'):  # fmt: skip
        for between in (b"=", b" = ", b": ", b"    :    '", b'="'):
            text = name + between + VALUE
            assert pattern.match(text + b"\n")["v"] == VALUE, text
            assert guarded(made.guard, text) == text[: len(text) - len(VALUE) + 8], text
    assert pattern.match(b"ab=" + VALUE[:16])["v"] == VALUE[:16]
    assert pattern.match(b"zq=" + b"aB3_-+/=" * 16)["v"] == b"aB3_-+/=" * 16
    for text in (b"ab=" + VALUE[:15], b"ab=" + VALUE * 6, b"ab=" + VALUE + b".x", b"ab=" + VALUE + b":x", b"zqx=" + VALUE,
                 b"ab " + VALUE, b"ab     =" + VALUE):  # fmt: skip
        assert pattern.match(text) is None, text
    for text in (b"ab=" + VALUE[:7], b"zqx=" + VALUE, b"ab " + VALUE, b"q=" + VALUE):
        assert guarded(made.guard, text) is None, text


def test_longest_name_of_a_service_is_tried_first():
    assert (
        re.search(rb"\(\?i:([^)]*)\)", assignments._service_rule([b"ab", b"zq", b"abdesk"]).pattern)[1]
        == b"abdesk|ab|zq"
    )


KEYWORD = b"word"


@pytest.mark.parametrize(
    "given",
    [
        b"='abc1234'", b" = abc1234", b': "abc1234"', b"' => abc1234", b"->abc1234", b" := abc1234", b" or 'abc1234'",
        b"\": SecretStr('abc1234')", b": str = 'abc1234'", b" { get; } = 'abc1234'", b" is abc1234", b" was set to abc1234",
        b" `abc1234", b", value: abc1234", b"</key><string>abc1234", b"' { x default = 'abc1234'", b" abcdef7",
        b", still works: abcd1234", b":\n  abcdefghijkl1234", b"\x94\x8c\x20abcdefghijkl1234", b"\xd9\x20abcdefghijkl1234",
        b", other = 'x', 'y", b" = f(x) if x else 'abc1234'",
    ],
    ids=ascii,
)  # fmt: skip
def test_guard_of_an_assignment_takes(given):
    guard = assignments._assignment_guard(KEYWORD)
    assert guarded(guard, b"x " + KEYWORD + given) is not None
    assert guarded(guard, b"x wor" + given) is None


@pytest.mark.parametrize(
    "given", [b"", b" ", b"='abc12'", b" = 1234.5", b" of abcdefgh", b"_count: 12", b": x", b"\nabc", b"; abcdefghijkl1"],
    ids=ascii,
)  # fmt: skip
def test_guard_of_an_assignment_leaves(given):
    assert guarded(assignments._assignment_guard(KEYWORD), b"x " + KEYWORD + given + b"\n") is None


def test_guard_of_an_option_takes_a_blank_and_a_value():
    guard = assignments._option_guard(KEYWORD)
    for text in (
        b"--word abc1234",
        b"--a-9-word 'abc1234",
        b"--A-WORD\nabc1234",
        b"--word'  - abc1234",
        b'--word"\t\\"abc1234',
    ):
        assert guarded(guard, text) is not None, text
    for text in (
        b"-word abc1234",
        b"--word=abc1234",
        b"--word abc12",
        b"--wor abc1234",
        b"--a_word abc1234",
        b"--wordabc1234",
    ):
        assert guarded(guard, text) is None, text


def test_title_of_a_column_is_all_of_its_name():
    title = assignments._title(KEYWORD)
    assert guarded(title, b"(a9_ -.WORD b.-_ 9)") == b"a9_ -.WORD b.-_ 9"
    assert guarded(title, b"wor d") is None


def test_guard_of_a_table_takes_a_title_beside_a_delimiter():
    guard = assignments._table_guard(KEYWORD)
    for delimiter in (b",", b";", b"\t", b"|"):
        assert guarded(guard, b"a" + delimiter + b' "`* my word_1"* `\n') is not None
        assert guarded(guard, b"a" + delimiter + b"word\r") is not None
        assert guarded(guard, b"a" + delimiter + b"word" + delimiter) is not None
        assert guarded(guard, b"a" + delimiter + b"word=x") is None
    for delimiter in (b",", b";", b"\t"):
        assert guarded(guard, b'(my word_1"' + delimiter) == b'my word_1"' + delimiter
        assert guarded(guard, b"word" + delimiter) is not None
        assert guarded(guard, b"wor" + delimiter) is None
    assert guarded(guard, b"word|") is None


def test_guard_of_an_insert_takes_a_title_in_a_list_before_the_rows():
    guard = assignments._insert_guard(KEYWORD)
    for text in (
        b"(my_word) VALUES (",
        b'(id, `word`, [a], "b",\r\n c)values\t(',
        b"(word])  from  stdin",
        b'(a word" , x)values(',
    ):
        assert guarded(guard, text) is not None, text
    for text in (
        b"(word) SELECT",
        b"(word VALUES (",
        b"(word, f(x)) VALUES (",
        b"(wor) VALUES (",
        b"(word) from stdout",
    ):
        assert guarded(guard, text) is None, text

"""From places to hits: what a hit tells, which block answers for it, and what stays of several on the same bytes."""

# A table of cases reads best in few lines.
# ruff: noqa: E501

import base64
import re

import pytest

from cas.secretrules import RULES
from cas.secretscan import allowance, matcher
from cas.secretscan.allowance import Allowance, PatternTooSlowError
from cas.secretscan.engine import CELL_BYTES, build
from cas.secretscan.findings import fingerprint
from cas.secretscan.matcher import (
    AHEAD_BYTES,
    BACK_BYTES,
    OVERLAP_BYTES,
    Block,
    Hit,
    Matcher,
    without_overlaps,
)
from cas.secretscan.patterns import compile_patterns
from tests.secrets.corpus import B62, HEX, Maker

MAKER = Maker("matcher")
KEY = "k7" + MAKER.of(B62, 29) + "Z"
SHORT = KEY[:14]
PASSWORD = "Tr4ding#Desk"
MATCHER = Matcher(())
ENGINE = build(MATCHER.anchors, "python")


def whole(data, base=0):
    return Block(data, base, 0, len(data))


def search(data, place="text"):
    """Return the hits of the built-in rules in a whole text."""
    data = data if isinstance(data, bytes) else data.encode()
    return without_overlaps(MATCHER.search(whole(data), ENGINE, place))


def spans(data, place="text"):
    data = data if isinstance(data, bytes) else data.encode()
    return [(hit.rule, data[hit.start : hit.end].decode()) for hit in search(data, place)]


def test_hit_tells_all_but_the_value():
    data = f"x = 1\napi_key = '{KEY}'  # nosec B105\n".encode()
    start = data.index(KEY.encode())
    assert search(data) == [
        Hit(start, start + 32, 20, "api-key", "API key assigned to a name", fingerprint("api-key", KEY.encode()), "nosec", wide=False)
    ]  # fmt: skip
    assert KEY not in repr(search(data))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("binance_api_key", "trading-credential"), ("binance_secret", "trading-credential"),
        ("binance_token", "trading-credential"), ("binance_password", "password"), ("binance_private_key", "wallet-private-key"),
        ("api_key", "api-key"), ("client_secret", "secret-key"), ("access_token", "token"), ("db_password", "password"),
    ],
)  # fmt: skip
def test_hit_of_a_name_is_called_after_its_kind_and_owner(name, rule):
    assert spans(f"{name} = '{KEY}'") == [(rule, KEY)]


def test_hit_begins_at_the_first_byte_of_the_file():
    assert spans(f"db_pass='{PASSWORD}'") == [("password", PASSWORD)]


def test_option_is_read_by_its_own_rule():
    password = "hunterhunter22"
    assert spans(f"run --password {password}") == [("password", password)]
    assert spans(f"run -password {password}") == []


def test_table_is_read_in_all_but_code_and_an_insert_everywhere():
    table = f"id,api_key\n1,{SHORT}\n"
    assert spans(table) == spans(table, "config") == [("api-key", SHORT)]
    assert spans(table, "code") == []
    insert = f"INSERT INTO x (id, api_key) VALUES (1, '{SHORT}')"  # noqa: S608  no statement is run
    assert spans(insert) == spans(insert, "code") == [("api-key", SHORT)]
    assert [hit.rank for hit in search(table)] == [hit.rank for hit in search(insert)] == [15]


def test_rule_of_a_pattern_gives_its_value_or_what_its_check_takes_in():
    token = "gh" + "p_" + MAKER.of(B62, 36)
    assert spans(f"see {token} there") == [("github-token", token)]
    described = {rule.id: rule.description for rule in RULES}
    assert [hit.description for hit in search(f"see {token} there")] == [described["github-token"]]
    address = f"postgres://ann:{KEY}@host/db"
    assert spans(address) == [("url-password", KEY)]
    assert spans(address.replace(KEY, "password")) == []
    centre = MAKER.of(HEX, 32) + "-us12"
    assert [span for _, span in spans(f"see {centre} there")] == [centre]


def test_private_key_has_one_fingerprint_in_every_layout():
    begin, body = "-----BEGIN " + "PRIVATE KEY-----", [MAKER.of(B62, 64) for _ in range(3)]
    end = "-----END " + "PRIVATE KEY-----"
    found = {
        hit.fingerprint
        for line_end in ("\n", "\\n", "\r\n")
        for hit in search(line_end.join([begin, *body, end]))
    }
    assert found == {fingerprint("private-key", "".join(body).encode())}


def test_block_answers_for_what_begins_in_its_core():
    data = f"api_key = '{KEY}'".encode()
    start = data.index(KEY.encode())
    for core, found in (((start, start + 1), True), ((start + 1, len(data)), False), ((0, start), False)):
        hits = MATCHER.search(Block(data, 4096, *core), ENGINE, "text")
        assert [(hit.start, hit.end) for hit in hits] == [(4096 + start, 4096 + start + 32)] * found


def test_rule_without_a_check_takes_what_has_its_form():
    key = "AGE-SECRET-" + "KEY-1" + MAKER.of("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)
    assert spans(f"see {key} there") == [("age-secret-key", key)]


def test_mark_counts_for_the_rule_it_names():
    for lead in (f"db_password='{PASSWORD}'", f"x: {encoded(f'db_password={PASSWORD}')}"):
        assert [hit.mark for hit in search(f"{lead}  # cas: allow-secret[password]")] == ["cas"]
        assert [hit.mark for hit in search(f"{lead}  # cas: allow-secret[jwt]")] == [""]


def test_block_finds_by_what_lies_outside_its_core():
    centre = MAKER.of(HEX, 32) + "-us12"
    data = f"x {centre} y".encode()
    assert len(MATCHER.search(Block(data, 0, 0, 3), ENGINE, "text")) == 1
    far = b"api_key:" + b" " * 10 + KEY.encode() + b"\n"
    data = b"api_key = 'x'".ljust(OVERLAP_BYTES) + far
    (hit,) = MATCHER.search(Block(data, 0, OVERLAP_BYTES + 10, len(data)), ENGINE, "text")
    assert hit.start == OVERLAP_BYTES + 18


def wide(text, codec="utf-16-le"):
    return text.encode(codec)


@pytest.mark.parametrize("before", [b"", b"abc", b"\xff" * 2000], ids=["none", "odd", "many"])
def test_text_of_two_bytes_a_character_is_read_where_it_stands(before):
    data = before + wide(f"x = 1\napi_key = '{KEY}'\n") + b"\xff\xfe" + f"\nsecret = '{KEY}'\n".encode()
    first, second = search(data)
    start = data.index(wide(KEY))
    assert (first.start, first.end, first.wide, first.rule) == (start, start + 64, True, "api-key")
    assert (second.start, second.wide, second.rule) == (data.index(KEY.encode()), False, "secret-key")
    moved = MATCHER.search(whole(data, 4096), ENGINE, "text")
    assert sorted(hit.start - 4096 for hit in moved) == [first.start, second.start]


def test_text_of_two_bytes_a_character_is_read_as_the_file_it_is_in():
    assert [rule for rule, _ in spans(wide("password = wintertime\n"), "config")] == ["password"]
    assert spans(wide("password = wintertime\n"), "text") == []


def encoded(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def test_text_in_base64_is_read_where_it_stands():
    code = encoded(f"db_password={PASSWORD}\n")
    for before in ("", "x" * BACK_BYTES + "\n", "one\n" * 700):
        text = f"{before}data: {code} # nosec B106\n"
        (hit,) = search(text)
        at = text.index(code)
        assert (hit.rule, hit.mark, hit.wide) == ("password", "nosec", False)
        assert hit.start == at + 12 * 4 // 3
        assert hit.end == at + 24 * 4 // 3


def test_text_in_base64_is_read_as_settings_or_as_a_text():
    line = encoded("db_password=wintertime\n")
    assert [rule for rule, _ in spans(f"x: {line}", "config")] == ["password"]
    assert spans(f"x: {line}", "text") == []
    assert spans(f"x: {line}", "code") == []
    bare = encoded(f"db_password={PASSWORD}x\n".replace("#", "q"))
    assert [rule for rule, _ in spans(f"x: {bare}", "code")] == ["password"]


def test_two_encodings_are_undone_and_no_more():
    once = encoded(f"db_password={PASSWORD}\n")
    nested = whole(f"x: {encoded(f'db_password={once}')} ".encode())
    for depth, count in ((0, 2), (1, 1), (2, 0)):
        assert len(MATCHER.search(nested, ENGINE, "text", depth)) == count
    for depth, count in ((0, 1), (1, 0)):
        assert len(MATCHER.search(whole(wide(f"x: {once} ")), ENGINE, "text", depth)) == count
    (hit,) = search(wide(f"x: {once} "))
    assert (hit.rule, hit.wide) == ("password", True)
    data = wide(f"x: {once} ")
    assert data[hit.start : hit.end : 2].decode() in once
    for depth, count in ((0, 1), (1, 1), (2, 0)):
        for text in (f"x: {once} ".encode(), wide(f"api_key='{KEY}' ")):
            assert len(MATCHER.search(whole(text), ENGINE, "text", depth)) == count


def with_patterns(*patterns):
    made = Matcher(compile_patterns(patterns))
    return made, build(made.anchors, "python")


def test_pattern_of_a_user_marks_its_value_or_all_of_it():
    made, engine = with_patterns("desk-(?P<v>[0-9]{4})|room-[0-9]{4}", "floor-[0-9]{4}")
    first, second = compile_patterns(["desk-(?P<v>[0-9]{4})|room-[0-9]{4}", "floor-[0-9]{4}"])
    assert made.anchors[-2:] == [first.anchor(CELL_BYTES), second.anchor(CELL_BYTES)]
    assert made.anchors[:-2] == MATCHER.anchors
    data = b"desk-1234 room-5678 floor-9012  # nosec B105"
    hits = sorted(made.search(whole(data, 1024), engine, "text"))
    assert [data[hit.start - 1024 : hit.end - 1024] for hit in hits] == [b"1234", b"room-5678", b"floor-9012"]
    assert [hit.rule for hit in hits] == [first.rule, first.rule, second.rule]
    assert {(hit.rank, hit.description, hit.mark, hit.wide) for hit in hits} == {
        (100, first.description, "nosec", False)
    }
    assert hits[0].fingerprint == fingerprint(first.rule, b"1234")


def test_pattern_of_a_user_finds_the_same_wherever_a_block_begins():
    made, engine = with_patterns("[a-z]{300}")
    for data in (b"." * 700 + b"a" * 5000, b"\xff" * 701 + wide("a" * 5000)):
        hits = {hit[:2] for hit in made.search(whole(data), engine, "text")}
        assert len(hits) > 9
        for base in (1024, 2048, 3072):
            cut = Block(data[base:], base, 1024, len(data) - base)
            expected = {hit for hit in hits if base + 1024 <= hit[0]}
            assert {hit[:2] for hit in made.search(cut, engine, "text")} == expected


@pytest.mark.parametrize("at", [0, 511, 512, 700, 1023, 1024, 1500, 3000])
def test_match_of_up_to_a_kilobyte_is_found_from_any_place_in_it(at):
    (pattern,) = compile_patterns(["<[a-z]{1022}>"])
    data = bytes(at) + b"<" + b"a" * 1022 + b">" + bytes(700)
    block = whole(data)
    for inside in (at, at + 1, at + 511, at + 512, at + 1022):
        cells = list(matcher._cells(block, inside))
        assert at // CELL_BYTES * CELL_BYTES in cells
        assert all(cell % CELL_BYTES == 0 and 0 <= cell < len(data) for cell in cells)
        assert len(cells) <= 3
        found = {hit[:2] for cell in cells for hit in matcher._match_cell(pattern, data, cell)}
        assert found == {(at, at + 1024)}


def test_cells_end_with_the_data():
    assert list(matcher._cells(whole(bytes(1024)), 1024)) == [0, 512]
    assert list(matcher._cells(whole(bytes(1025)), 1024)) == [0, 512, 1024]
    assert list(matcher._cells(whole(bytes(1025)), 0)) == [0]


def test_match_begins_in_its_cell_and_ends_in_the_window():
    (pattern,) = compile_patterns(["<[a-z]+>"])
    for at, found in ((511, False), (512, True), (1023, True), (1024, False)):
        data = bytes(at) + b"<ab>" + bytes(3000)
        assert bool(list(matcher._match_cell(pattern, data, 512))) == found
    for size, found in ((1025, True), (1026, False)):
        data = bytes(2047) + b"<" + b"a" * (size - 2) + b">" + bytes(3000)
        assert bool(list(matcher._match_cell(pattern, data, 1536))) == found
    (behind,) = compile_patterns(["(?<=x.{1000})<[a-z]>"])
    data = bytes(1500) + b"x" + b"a" * 1000 + b"<a>" + bytes(100)
    (hit,) = matcher._match_cell(behind, data.replace(b"\0", b"."), 2048)
    assert hit.start == 2501


def test_window_of_a_match_holds_the_rest_of_its_line():
    (pattern,) = compile_patterns(["<[a-z]+>"])
    mark = b"# nosec B105"
    data = b"<ab>" + b" " * 4000 + mark + b"\n"
    (hit,) = matcher._match_cell(pattern, data, 0)
    assert hit.mark == "nosec"
    text, low = matcher._window(bytes(BACK_BYTES) + b"x" + b"y" * AHEAD_BYTES, BACK_BYTES)
    assert (low, text[:1], len(text)) == (0, b"\0", BACK_BYTES + AHEAD_BYTES)
    assert matcher._window(bytes(9000), 3000) == (bytes(BACK_BYTES + AHEAD_BYTES), 3000 - BACK_BYTES)
    assert matcher._window(b"abc", 1) == (b"abc", 0)


def test_guard_counts_where_it_ends_behind_the_place_and_near_it():
    def guarded(expression, text, here):
        return matcher._is_guarded(re.compile(expression), text, here)

    assert guarded(b"ab", b"xxab", 3)
    assert not guarded(b"ab", b"xxab", 4)
    assert guarded(b"ab|bcd", b"abcd", 2)
    assert not guarded(b"ab|bce", b"abcd", 2)
    assert guarded(b"ab", b"ab", 0)
    assert guarded(b"abcd", b"abcd", 3)
    for reach, found in ((64, True), (65, False)):
        assert guarded(b"<x*>", b"..<" + b"x" * reach + b">", reach + 2) == found
    for reach, found in ((320, True), (321, False)):
        assert guarded(b"x>", b"<" + b"x" * (reach - 1) + b">", 1) == found


def test_pattern_that_has_no_time_left_ends_the_search(monkeypatch):
    made, engine = with_patterns("desk-[0-9]{4}")
    inside = "password = 1\ndesk-1234\n"
    for data in (inside.encode(), wide(inside), encoded(inside).encode()):
        plenty = Allowance(len(data))
        hits = made.search(whole(data), engine, "text", 0, plenty)
        assert len(hits) == 1
        with monkeypatch.context() as patch:
            patch.setattr(allowance, "NS_PER_MEBIBYTE", -1)
            assert made.search(whole(data), engine, "text", 0, plenty) == hits
            with pytest.raises(PatternTooSlowError) as caught:
                made.search(whole(data), engine, "text")
            assert caught.value.rule == hits[0].rule
    monkeypatch.setattr(allowance, "NS_PER_MEBIBYTE", -1)
    assert len(MATCHER.search(whole(f"api_key='{KEY}'".encode()), ENGINE, "text")) == 1


def hit(start, end, rank=20, rule="a"):
    return Hit(start, end, rank, rule, "", "", "", wide=False)


@pytest.mark.parametrize(
    ("hits", "kept"),
    [
        ([hit(0, 4), hit(4, 8)], [0, 1]), ([hit(0, 4), hit(4, 8, 30)], [0, 1]), ([hit(0, 5), hit(4, 8)], [0]), ([hit(0, 5, 20), hit(4, 8, 21)], [1]),
        ([hit(4, 6), hit(4, 8)], [1]), ([hit(4, 8), hit(2, 5)], [1]), ([hit(4, 8, rule="b"), hit(4, 8, rule="a")], [1]),
        ([hit(9, 12), hit(1, 3)], [1, 0]), ([hit(0, 20, 30), hit(2, 4, 20), hit(18, 22, 10), hit(20, 22, 5)], [0, 3]),
        ([hit(0, 10_300, 50), hit(10_250, 10_260)], [0]), ([hit(0, 10_300, 50), hit(10_300, 10_310)], [0, 1]),
        ([hit(0, 5200), hit(5130, 5140, 50)], [1]), ([hit(5119, 5130), hit(5121, 5122, 50)], [1]),
        ([hit(5121, 5125), hit(5118, 5122, 50)], [1]), ([hit(8, 9, 5), hit(1, 2, 5), hit(4, 5, 90)], [1, 2, 0]),
    ],
)  # fmt: skip
def test_hits_on_the_same_bytes_leave_the_one_of_the_highest_rank(hits, kept):
    assert without_overlaps(hits) == [hits[number] for number in kept]
    assert without_overlaps(hits[::-1]) == [hits[number] for number in kept]

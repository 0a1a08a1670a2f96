"""Where the engines look: which places each kind of anchor gives, and what the anchors of a rule are made of."""

# A table of cases reads best in few lines.
# ruff: noqa: E501

import pytest

from cas.secretrules import Rule
from cas.secretscan import anchors as anchoring
from cas.secretscan import engine
from cas.secretscan.anchors import anchors_of
from cas.secretscan.engine import (
    GUARD_REACH_BYTES,
    WIDE_INDEX,
    Fixed,
    Guarded,
    HyperscanEngine,
    Loose,
    PythonEngine,
    build,
)
from cas.secretscan.tree import byte_class, parse

FIXED = Fixed(b"ab[0-9]", 3, b"ab", 0)
LATE = Fixed(b"[x-z]cd", 3, b"cd", 1)
BARE = Fixed(b"[0-9].", 2, b"", 0)
GUARDED = Guarded(b"key *=", (b"key", b"ey"))
GATED = Guarded(b"k *=", (b"k",), (b"k =", b"k= "))
LOOSE = Loose(b"desk[0-9]{2}", b"desk", 512)
UNKNOWN = Loose(None, b"", 512)
HALF_KNOWN = Loose(None, b"floor", 512)
WIDE = "x = 12345".encode("utf-16-le")


def python(data, *anchors):
    return PythonEngine(enumerate(anchors)).candidates(data)


def fast(data, *anchors):
    pytest.importorskip("hyperscan", reason="no wheel for this machine")
    return HyperscanEngine(anchors).candidates(data)


def test_slow_engine_gives_the_place_of_each_literal_in_any_case():
    assert python(b"ab xxAB7 aB", FIXED) == [(0, 0), (0, 5), (0, 9)]
    assert python(b"xxAB7", FIXED) == [(0, 2)]
    assert python(b"cd xcd 1CD", LATE) == [(0, 3), (0, 7)]
    assert python(b"key KEY ey", GUARDED) == [(0, 0), (0, 1), (0, 4), (0, 5), (0, 8)]
    assert python(b"DESK desk1", LOOSE) == [(0, 0), (0, 5)]
    assert python(b"floor", FIXED, HALF_KNOWN, LOOSE) == [(1, 0)]
    assert python(b"aa1a aaa", Fixed(b"aa", 2, b"aa", 0)) == [(0, 0), (0, 5), (0, 6)]
    assert python(b"1.25,", FIXED, LATE, GUARDED, LOOSE) == []
    assert python(b"a1b", Fixed(b"a1b", 3, b"a1b", 0), Fixed(b"b1a", 3, b"b1a", 0)) == [(0, 0)]


def test_slow_engine_gives_every_match_of_what_has_no_literal():
    assert python(b"a12\n3", FIXED, BARE) == [(1, 1), (1, 2)]


@pytest.mark.parametrize(
    ("size", "places"), [(0, [0]), (1, [0, 512]), (512, [0, 512]), (513, [0, 512, 1024])]
)
def test_slow_engine_gives_every_cell_for_what_it_knows_nothing_of(size, places):
    assert python(b"." * size, FIXED, UNKNOWN) == [(1, at) for at in places]


def test_both_engines_tell_that_there_is_text_of_two_bytes_a_character():
    for data, found in (
        (WIDE, True),
        (b"..." + WIDE, True),
        (WIDE[:14], False),
        (b"\0" * 40, False),
        (b"x" * 40, False),
    ):
        assert python(data, FIXED) == fast(data, FIXED) == [(WIDE_INDEX, 0)] * found


def test_places_come_sorted_and_once():
    data = WIDE + b"\xff zcd ab7 12 key = desk12"
    found = python(data, GUARDED, FIXED, LATE, LOOSE)
    assert found == sorted(set(found))
    assert found[0] == (WIDE_INDEX, 0)
    both = fast(data, GUARDED, FIXED, LATE, LOOSE)
    assert both == sorted(set(both))
    assert both[0] == (WIDE_INDEX, 0)
    assert {index for index, _ in both} == {-1, 0, 1, 2, 3}


def test_fast_engine_gives_the_beginning_of_each_match():
    data = b"ab ab7 zcd acd AB8"
    assert fast(data, FIXED, LATE) == [(0, 3), (1, 7)]
    assert fast(b"a12\n", FIXED, Fixed(b"[0-9]", 1, b"", 0)) == [(1, 1), (1, 2)]
    assert fast(b"", FIXED) == fast(b"1.25,\n", FIXED, GUARDED, LOOSE) == []


def test_fast_engine_takes_the_spellings_instead_of_the_whole():
    spelled = Fixed(b"[ab]cd", 3, b"cd", 1, (b"acd",))
    assert fast(b"acd bcd", spelled) == [(0, 0)]
    assert fast(b"acd bcd", Fixed(b"[ab]cd", 3, b"cd", 1, (b"acd", b"bcd"))) == [(0, 0), (0, 4)]


def test_fast_engine_gives_the_literals_before_the_end_of_a_guard():
    assert fast(b"xx KEY  = 1", GUARDED) == [(0, 3), (0, 4)]
    assert fast(b"key 1", GUARDED) == []
    guard = Guarded(b"x=", (b"lit",))
    for gap, found in ((GUARD_REACH_BYTES - 5, True), (GUARD_REACH_BYTES - 4, False)):
        data = b"." * 50 + b"lit" + b"." * gap + b"x="
        assert fast(data, guard) == [(0, 50)] * found
    assert fast(b"lit.x= lit", guard) == [(0, 0)]


def test_fast_engine_looks_for_a_gated_guard_where_a_gate_matches():
    assert fast(b"ab7 K = 1", FIXED, GATED, LATE) == [(0, 0), (1, 4)]
    assert fast(b"k= ab7", FIXED, GATED) == [(0, 3), (1, 0)]
    assert fast(b"k=ab7", FIXED, GATED) == [(0, 2)]
    other = Guarded(b"q=", (b"q",), (b"q=!",))
    same = Guarded(b"k=", (b"k",), GATED.gates)
    assert fast(b"q=! k= x", other, GATED, same) == [(0, 0), (1, 4), (2, 4)]
    assert fast(b"q= k=", other, GATED, same) == []


def test_fast_engine_gives_the_cells_in_which_matches_of_a_user_end():
    data = b"." * 509 + b"desk12" + b"." * 1000 + b"desk345"
    assert fast(data, FIXED, LOOSE) == [(1, 512), (1, 1024)]
    every = Loose(b"a{9}", b"aaaaaaaaa", 512)
    assert fast(b"a" * 3000, FIXED, every) == [(1, at) for at in range(0, 3000, 512)]
    assert fast(b"desk12 ab7", LOOSE, FIXED) == [(0, 0), (1, 7)]


def test_fast_engine_leaves_to_the_slow_one_what_it_does_not_take():
    refused = Loose(rb"(a)\1", b"aa", 512)
    assert fast(b"floor aa ab7", FIXED, HALF_KNOWN, refused, UNKNOWN) == [
        (0, 9),
        (1, 0),
        (2, 6),
        (3, 0),
        (3, 512),
    ]


def test_anchors_are_sorted_out_by_what_becomes_of_them():
    hyperscan = pytest.importorskip("hyperscan", reason="no wheel for this machine")
    spelled = Fixed(b"[ab]cd", 3, b"cd", 1, (b"acd", b"bcd"))
    refused = Loose(rb"(a)\1", b"aa", 512)
    caseless = hyperscan.HS_FLAG_CASELESS
    assert engine._sorted_out((FIXED, GATED, spelled, GUARDED, LOOSE, UNKNOWN, refused)) == (
        [(0, FIXED.expression, 0), (2, b"acd", 0), (2, b"bcd", 0), (3, GUARDED.guard, caseless)],
        {GATED.gates: [(1, GATED.guard, caseless)]},
        [(4, LOOSE.expression, 0)],
        [5, 6],
    )


def test_automaton_tells_each_match_by_its_number_and_end():
    pytest.importorskip("hyperscan", reason="no wheel for this machine")
    automaton = engine._Automaton([(7, b"ab", 0), (9, b"b", 0)])
    assert sorted(automaton.events(b"xab b")) == [(7, 3), (9, 3), (9, 5)]
    assert automaton.cells(b"." * 511 + b"b" + b"." * 600 + b"ab") == {(9, 512), (7, 1024), (9, 1024)}
    scratch = automaton._local.scratch
    assert automaton.events(b"") == []
    assert automaton._local.scratch is scratch  # one for each thread


def test_engine_is_built_by_its_name():
    pytest.importorskip("hyperscan", reason="no wheel for this machine")
    assert isinstance(build([FIXED], "hyperscan"), HyperscanEngine)
    assert isinstance(build([FIXED], "python"), PythonEngine)
    for name in ("hyperscan", "python"):
        assert build([LATE, FIXED], name).candidates(b"..ab7") == [(1, 2)]


def rule(pattern=b"", guard=b"", literals=(), gate=b""):
    return Rule(id="an-id", description="", pattern=pattern, guard=guard, literals=literals, gate=gate)


def test_rule_with_a_guard_is_looked_for_by_its_literals():
    assert anchors_of(rule(b"x", b"k.*=", (b"k", b"key"))) == [Guarded(b"k.*=", (b"k", b"key"), ())]
    assert anchors_of(rule(b"x", b"k.*=", (b"k",), b"abc|xyz")) == [
        Guarded(b"k.*=", (b"k",), (rb"\x61\x62\x63", rb"\x78\x79\x7a"))
    ]


def test_rule_without_a_guard_is_looked_for_by_its_beginnings():
    assert anchors_of(rule(b"(?:abc|xyz)[0-9]+")) == [
        Fixed(rb"\x61\x62\x63[\x30-\x39]", 4, b"abc", 0), Fixed(rb"\x78\x79\x7a[\x30-\x39]", 4, b"xyz", 0)
    ]  # fmt: skip
    (long,) = anchors_of(rule(b"abc[0-9]{40}"))
    assert long.width == 20
    with pytest.raises(AssertionError, match="an-id"):
        anchors_of(rule(b"a*"))


@pytest.mark.parametrize(
    ("pattern", "literal", "at"),
    [
        (b"ab[0-9]cde[0-9]fg", b"cde", 3), (b"abc[0-9]cde", b"abc", 0), (b"[0-9][0-9]cd", b"cd", 2), (b"[aA][bB]1", b"ab1", 0),
        (b"a[0-9]b[0-9]c", b"", 0), (b"[0-9]ab", b"ab", 1), (b"[ab]cd", b"cd", 1), (b"a", b"", 0), (b"ab", b"ab", 0),
    ],
)  # fmt: skip
def test_literal_of_a_beginning_is_its_longest_run(pattern, literal, at):
    (found,) = anchors_of(rule(pattern))
    assert (found.literal, found.literal_at) == (literal, at)


def spelled(pattern):
    (found,) = anchors_of(rule(pattern))
    return found.spellings


def test_beginning_is_spelled_out_only_where_the_engine_would_do_too_much():
    assert spelled(b"[0-9][0-9]") == ()
    assert spelled(b"abc[0-9]{4}") == ()
    assert spelled(b"[a-d][a-h]x") == ()
    assert spelled(b"[a-c][a-k]x") != ()


def test_spellings_cut_the_widest_set_and_write_out_the_others_of_the_narrowest_window():
    assert spelled(b"[0-9][a-c][a-k]x[0-9]") == tuple(
        rb"[\x30-\x39]" + first + second + rb"\x78[\x30-\x39]"
        for first in (rb"\x61", rb"\x62", rb"\x63")
        for second in (rb"[\x61-\x68]", rb"[\x69-\x6b]")
    )
    assert spelled(b"[a-k][a-k]x") == tuple(
        first + byte_class(1 << second) + rb"\x78"
        for first in (rb"[\x61-\x68]", rb"[\x69-\x6b]")
        for second in b"abcdefghijk"
    )


def test_gates_are_spelled_out_or_taken_as_they_are():
    assert anchoring._gates(b"") == ()
    assert anchoring._gates(b"a[0-9]c") == (rb"\x61[\x30-\x39]\x63",)
    assert anchoring._gates(b"[0-9][a-k]x|abcd") == (
        *(byte_class(first) + second + rb"\x78" for first, second in _cut_pairs()),
        rb"\x61\x62\x63",
    )
    assert anchoring._gates(b"a*") == ()


def _cut_pairs():
    return [
        (1 << digit, letters) for digit in b"0123456789" for letters in (rb"[\x61-\x68]", rb"[\x69-\x6b]")
    ]


def test_set_is_cut_into_sets_of_a_size():
    mask = parse(b"[a-k]").mask
    assert [byte_class(part) for part in anchoring._cut(mask, 4)] == [
        rb"[\x61-\x64]",
        rb"[\x65-\x68]",
        rb"[\x69-\x6b]",
    ]
    assert anchoring._cut(mask, 11) == [mask]
    assert len(anchoring._cut(mask, 1)) == 11

"""Positions of an expression, the steps that a matcher takes over them, and the time it may take."""

# A table of cases reads best in few lines.
# ruff: noqa: E501

import itertools
import re
import time

import pytest

from cas.secretscan import allowance, automaton, steps
from cas.secretscan.allowance import Allowance, PatternTooSlowError
from cas.secretscan.automaton import Automaton, TooComplexError, build, ends_in_condition
from cas.secretscan.tree import ALL_BYTES, Bytes, Choice, Look, Repeat, Sequence, Unknown, parse

A, B = 1 << 97, 1 << 98


@pytest.mark.parametrize(
    ("pattern", "counted", "follow", "first", "last", "empty"),
    [
        (b"", "few", [], [], [], True), (b"a", "few", [{}], [0], [0], False), (b"ab", "few", [{1: 1}, {}], [0], [1], False),
        (b"(?:ab|cd)e", "few", [{1: 1}, {4: 1}, {3: 1}, {4: 1}, {}], [0, 2], [4], False),
        (b"ab?c?", "few", [{1: 1, 2: 1}, {2: 1}, {}], [0], [2, 1, 0], False), (b"a?b?", "few", [{1: 1}, {}], [0, 1], [1, 0], True),
        (b"a*b", "few", [{0: 1, 1: 1}, {}], [0, 1], [1], False), (b"a+", "few", [{0: 1}], [0], [0], False),
        (b"a{2,}b", "few", [{1: 1}, {1: 1, 2: 1}, {}], [0], [2], False),
        (b"(?:ab){5,}", "few", [{1: 1}, {2: 1}, {3: 1}, {4: 1}, {5: 1}, {4: 1}], [0], [5], False),
        (b"(?:a?){3,}", "few", [{1: 1, 2: 1}, {2: 1}, {2: 1}], [0, 1, 2], [2, 1, 0], True),
        (b"a{2,5}b", "loop", [{1: 1}, {1: 1, 2: 1}, {}], [0], [2], False),
        (b"a{2,5}b", "few", [{1: 1}, {2: 1, 3: 1}, {3: 1}, {}], [0], [3], False),
        (b"a{2,5}b", "whole", [{1: 1}, {2: 1, 5: 1}, {3: 1, 5: 1}, {4: 1, 5: 1}, {5: 1}, {}], [0], [5], False),
        (b"a{5}", "few", [{1: 1}, {2: 1}, {}], [0], [2], False), (b"a{0,4}", "whole", [{1: 1}, {2: 1}, {3: 1}, {}], [0], [0, 1, 2, 3], True),
        (b"a{2,3}", "whole", [{1: 1}, {2: 1}, {}], [0], [1, 2], False), (b"a{1,2}", "loop", [{1: 1}, {}], [0], [1, 0], False),
        (b"(?:ab){0,2}c", "few", [{1: 1}, {2: 1, 4: 1}, {3: 1}, {4: 1}, {}], [0, 2, 4], [4], False),
        (b"(?:ab){2,3}", "whole", [{1: 1}, {2: 1}, {3: 1}, {4: 1}, {5: 1}, {}], [0], [5, 3], False),
        (b"(?:ab){0,4}", "few", [{1: 1}, {0: 1}], [0], [1], True), (b"a{0,101}", "few", [{0: 1}], [0], [0], True),
        (b"a{0,100}", "few", [{}], [0], [0], True), (b"a(?=bc)d", "few", [{1: 1, 3: 1}, {2: 1}, {}, {}], [0], [3], False),
        (rb"(a)\1", "few", [{1: 1}, {1: 1}], [0], [1, 0], False),
    ],
)  # fmt: skip
def test_positions_follow_each_other_as_the_bytes_of_the_expression_do(
    pattern, counted, follow, first, last, empty
):
    made, whole = build(parse(pattern), counted)
    assert made.follow == follow
    assert (whole.first, whole.last, whole.empty) == (first, last, empty)
    assert len(made.masks) == len(follow)


def test_positions_hold_the_bytes_of_their_place():
    made, _ = build(parse(b"a[ab]c?"), "few")
    assert made.masks == [A, A | B, 1 << 99]
    made, whole = build(Sequence((Bytes(A), Unknown())), "few")
    assert made.masks == [A, ALL_BYTES]
    assert whole.last == [1, 0]


def test_way_that_leads_twice_to_a_position_counts_twice():
    made = Automaton()
    for _ in range(3):
        made.add(A)
    made.join([0, 1], [1, 2])
    made.join([0], [2])
    assert made.follow == [{1: 1, 2: 2}, {1: 1, 2: 1}, {}]
    looped, _ = build(Repeat(Choice((Repeat(Bytes(A), 1, None), Bytes(B))), 1, None), "few")
    assert looped.follow == [{0: 2, 1: 1}, {0: 1, 1: 1}]


PATTERNS = [
    b"",
    b"a",
    b"ab|ba",
    b"a?b?a?",
    b"(?:ab){1,3}",
    b"(?:a|bb){2,5}",
    b"a{2,4}b{0,3}",
    b"(?:ab?)*a",
    b"(?:a{1,2}b){2,}",
    b"b+a{3}",
]


def accepts(pattern, counted, text):
    made, whole = build(parse(pattern), counted)
    if not text:
        return whole.empty
    here = {position for position in whole.first if made.masks[position] >> text[0] & 1}
    for byte in text[1:]:
        here = {after for one in here for after in made.follow[one] if made.masks[after] >> byte & 1}
    return not here.isdisjoint(whole.last)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_positions_admit_the_texts_of_the_expression(pattern):
    for length in range(7):
        for text in map(bytes, itertools.product(b"ab", repeat=length)):
            matched = re.fullmatch(pattern, text) is not None
            for counted in ("loop", "few", "whole"):
                assert accepts(pattern, counted, text) >= (matched and (counted != "few" or length < 4))


def test_whole_positions_admit_no_more_where_one_byte_is_counted():
    for pattern in (b"a{2,4}", b"a{2,4}b{0,3}", b"b+a{3}", b"ab|ba"):
        for length in range(8):
            for text in map(bytes, itertools.product(b"ab", repeat=length)):
                assert accepts(pattern, "whole", text) == (re.fullmatch(pattern, text) is not None)


@pytest.mark.parametrize(
    ("counted", "limit"),
    [("few", "_MAX_POSITIONS"), ("loop", "_MAX_POSITIONS"), ("whole", "_MAX_POSITIONS_WHOLE")],
)
def test_expression_of_too_many_positions_is_too_complex(monkeypatch, counted, limit):
    for name in ("_MAX_POSITIONS", "_MAX_POSITIONS_WHOLE"):
        monkeypatch.setattr(automaton, name, 3 if name == limit else 1)
    assert len(build(parse(b"abc"), counted)[0].masks) == 3
    with pytest.raises(TooComplexError):
        build(parse(b"abcd"), counted)


def test_expression_of_too_many_levels_is_too_complex():
    node = Bytes(A)
    for _ in range(5000):
        node = Sequence((node,))
    with pytest.raises(TooComplexError):
        build(node, "few")


EMPTY = Sequence(())
MAYBE = Repeat(Bytes(A), 0, 1)
TWO_WAYS = Sequence((Choice((MAYBE, Repeat(Bytes(B), 0, 1))), Bytes(A)))


@pytest.mark.parametrize(
    ("node", "ambiguous"),
    [
        (Bytes(A), False), (Repeat(Bytes(A), 5, 9), False), (Repeat(MAYBE, 0, 3), False), (Repeat(MAYBE, 1, 3), False),
        (Repeat(MAYBE, 2, 3), True), (Repeat(MAYBE, 0, 4), True), (Repeat(MAYBE, 2, None), True), (Repeat(MAYBE, 0, None), False),
        (Repeat(TWO_WAYS, 0, 3), False), (Repeat(TWO_WAYS, 0, 4), True), (Repeat(TWO_WAYS, 0, None), True),
        (Repeat(Sequence((Choice((MAYBE, Bytes(B))), Bytes(A))), 0, None), False), (Repeat(Repeat(MAYBE, 0, 1), 0, None), True),
        (Repeat(Repeat(MAYBE, 1, 1), 0, None), False), (Repeat(Repeat(Choice((EMPTY, MAYBE)), 1, None), 0, None), True),
        (Repeat(Choice((Bytes(B), TWO_WAYS)), 1, None), True), (Choice((EMPTY, MAYBE)), False),
    ],
)  # fmt: skip
def test_repeat_of_what_is_empty_in_several_ways_is_ambiguous(node, ambiguous):
    assert build(node, "few")[0].is_ambiguous == ambiguous


@pytest.mark.parametrize(
    ("pattern", "ends"),
    [
        (b"a", False), (b"a(?=b)", True), (b"(?=a)b", False), (b"a(?=b)c?", True), (b"a(?=b)c", False), (b"a?b?", False),
        (b"a|b(?=c)", True), (b"(?=c)a|b", False), (b"(?:a(?=b)){2}", True), (rb"(a)\1", True), (b"a$", True), (b"", False),
        (b"(?=a)b*", True),
    ],
)  # fmt: skip
def test_expression_ends_in_a_condition_where_nothing_has_to_follow(pattern, ends):
    assert ends_in_condition(parse(pattern)) == ends


def test_condition_at_the_end_is_told_in_each_form():
    assert ends_in_condition(Look(EMPTY))
    assert ends_in_condition(Unknown())
    assert ends_in_condition(Repeat(Look(EMPTY), 0, 1))


def test_kinds_are_one_byte_of_each_set_that_is_told_apart():
    assert steps._kinds([A, A]) == [97]
    assert steps._kinds([A | B, B]) == [97, 98]
    assert steps._kinds([1 | A, A | B]) == [0, 97, 98]
    assert steps._kinds([ALL_BYTES]) == [0]
    assert steps._kinds([1 << 255]) == [255]
    assert steps._kinds([]) == []


def test_way_costs_its_byte_and_each_that_may_follow():
    assert steps._costs(build(parse(b"a*bc"), "few")[0]) == [3, 2, 1]


def test_positions_are_grouped_by_the_byte_they_can_stand_before_under():
    tree = Sequence((Choice((Bytes(A), Bytes(B), Bytes(A | B))), Bytes(1 << 99)))
    *alone, grouped = steps._grouped(build(tree, "few")[0])
    assert alone == [[], [], []]
    assert sorted(map(sorted, grouped)) == [[(0, 1), (2, 1)], [(1, 1), (2, 1)]]
    (twice,) = steps._grouped(build(Repeat(Repeat(Bytes(A), 1, None), 1, None), "few")[0])
    assert twice == [[(0, 2)]]
    tree = Sequence((Choice((Bytes(A | B), Bytes(A))), Bytes(1 << 99)))
    (within,) = steps._grouped(build(tree, "few")[0])[2]
    assert sorted(within) == [(0, 1), (1, 1)]


WIDTH = 10


# What the worst text of ten bytes costs, a step for each byte that is compared:
@pytest.mark.parametrize(
    ("pattern", "bound"),
    [
        # a place and its byte, at each byte;
        (b"a", WIDTH * 2),
        # the place, the first byte with the second to compare, and the second, where there was one before;
        (b"ab", WIDTH * 4 - 1),
        # the place, the byte and the next; after a match, once for each, as far as the text goes;
        (b"a+", WIDTH * 3 + WIDTH * WIDTH * 2),
        # as no match is final here: from each place before, the byte, the next and the condition, and the condition.
        (b"a+(?=b)", 2 * WIDTH * (WIDTH + 1)),
    ],
)
def test_expression_is_cheap_from_its_worst_text_on(monkeypatch, pattern, bound):
    monkeypatch.setattr(steps, "WINDOW_BYTES", WIDTH)
    for most, cheap in ((bound, True), (bound - 1, False)):
        monkeypatch.setattr(steps, "MOST_STEPS", most)
        assert steps.is_cheap(parse(pattern)) == cheap


@pytest.mark.parametrize(("pattern", "first"), [(b"ab", 3), (b"a+(?=b)", 4), (b"a+", WIDTH * 3)])
def test_expression_that_uses_its_steps_up_on_the_way_is_not_cheap(monkeypatch, pattern, first):
    monkeypatch.setattr(steps, "WINDOW_BYTES", WIDTH)
    monkeypatch.setattr(steps, "MOST_STEPS", first)
    assert not steps.is_cheap(parse(pattern))


def test_expression_of_too_many_positions_is_not_called_cheap(monkeypatch):
    for limit, cheap in ((2, True), (1, False)):
        monkeypatch.setattr(steps, "_MAX_POSITIONS", limit)
        assert steps.is_cheap(parse(b"ab")) == cheap


def test_expression_is_cheap_when_one_way_of_writing_it_is(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(automaton, "_MAX_POSITIONS_WHOLE", 1)
        assert steps.is_cheap(parse(b"ab"))
    with monkeypatch.context() as patch:
        patch.setattr(automaton, "_MAX_POSITIONS", 1)
        assert steps.is_cheap(parse(b"ab"))
        patch.setattr(automaton, "_MAX_POSITIONS_WHOLE", 1)
        assert not steps.is_cheap(parse(b"ab"))


def costliest(pattern, most):
    """Return the length of the shortest text that takes more than ``most`` steps, by trying them all."""
    node = parse(pattern)
    made, whole = build(node, "whole")
    ends = set() if ends_in_condition(node) else set(whole.last)
    for length in range(1, 7):
        for text in itertools.product(b"abx", repeat=length):
            ways, spent = [0] * len(made.masks), 0
            for byte in text:
                after = [int(position in whole.first) for position in range(len(ways))]
                for source, count in enumerate(ways):
                    for target, by in made.follow[source].items():
                        after[target] += count * by * (source not in ends)
                ways = [count * (made.masks[position] >> byte & 1) for position, count in enumerate(after)]
                spent += sum(count * (1 + len(made.follow[position])) for position, count in enumerate(ways))
            if spent > most:
                return length
    return None


@pytest.mark.parametrize(
    "pattern",
    [
        b"a",
        b"ab",
        b"a+",
        b"a*b",
        b"a*a*b",
        b"(?:a|ab)+b",
        b"a+(?=b)",
        b"[ab]{2,4}a",
        b"(?:aa|a){1,3}b",
        b"(?:a+|b)+x",
    ],
)
def test_text_that_costs_most_is_as_long_as_the_shortest_of_all(monkeypatch, pattern):
    monkeypatch.setattr(steps, "WINDOW_BYTES", 6)
    for most in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 200):
        monkeypatch.setattr(steps, "MOST_STEPS", most)
        assert steps.worst_text_bytes(parse(pattern)) == costliest(pattern, most), most


MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("size", "most"), [(0, 100), (MEBIBYTE, 100), (MEBIBYTE + MEBIBYTE // 2, 150), (2 * MEBIBYTE, 200)]
)
def test_allowance_grows_with_the_stretch_from_a_mebibyte_on(monkeypatch, size, most):
    monkeypatch.setattr(allowance, "NS_PER_MEBIBYTE", 100)
    monkeypatch.setattr(allowance, "now_ns", lambda: 1000)
    left = Allowance(size)
    left.spend("one", 1000 - most + 10)
    left.spend("one", 990)
    left.spend("other", 1000 - most)
    for rule in ("one", "other"):
        left.spend(rule, 1000)
        with pytest.raises(PatternTooSlowError) as caught:
            left.spend(rule, 999)
        assert caught.value.rule == rule
        assert caught.value.args == (rule,)


def test_time_is_that_of_the_processor_for_this_thread():
    before = time.thread_time_ns()
    assert before <= allowance.now_ns() <= time.thread_time_ns()

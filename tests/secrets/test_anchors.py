"""What the engines look for: never narrower than the rules, and in the words in which they are fast."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas.secretrules import RULES
from cas.secretscan.anchors import anchors_of
from cas.secretscan.engine import Fixed, Guarded
from cas.secretscan.tree import beginnings, parse

LITERAL_BYTES = 3
# What is looked for although its literals are short, because the guard tells more around them.
SHORT_AND_CERTAIN = {"command-password", "command-user-password"}
GATED = [rule for rule in RULES if rule.gate]
SPELLED = [
    (rule.id, anchor)
    for rule in RULES
    for anchor in anchors_of(rule)
    if isinstance(anchor, Fixed) and anchor.spellings
]


def least_spelled(expression):
    """Return how many literals of three bytes the expression needs at least."""
    (masks,) = beginnings(parse(expression), 20)
    return min(
        math.prod(map(int.bit_count, masks[at : at + LITERAL_BYTES]))
        for at in range(len(masks) - LITERAL_BYTES + 1)
    )


@pytest.mark.parametrize("rule", GATED, ids=lambda rule: f"{rule.id} {rule.literals[0].decode()}")
@given(data=st.data())
def test_gate_matches_in_whatever_the_guard_matches(rule, data):
    text = data.draw(st.from_regex(rule.guard))
    guarded = re.search(rule.guard, text, re.IGNORECASE)
    assert re.search(rule.gate, guarded[0], re.IGNORECASE)
    (anchor,) = anchors_of(rule)
    assert any(re.search(gate, guarded[0], re.IGNORECASE) for gate in anchor.gates)


def test_guard_of_short_literals_alone_has_a_gate():
    anchors = [(rule.id, anchor) for rule in RULES for anchor in anchors_of(rule)]
    short = {
        rule_id
        for rule_id, anchor in anchors
        if isinstance(anchor, Guarded) and max(map(len, anchor.literals)) < LITERAL_BYTES and not anchor.gates
    }
    assert short == SHORT_AND_CERTAIN


def test_gates_and_spellings_have_literals_of_three_bytes():
    gates = [gate for rule in GATED for anchor in anchors_of(rule) for gate in anchor.gates]
    spellings = [spelling for _, anchor in SPELLED for spelling in anchor.spellings]
    assert {rule_id for rule_id, _ in SPELLED} == {"discord-token", "tinkoff-token"}
    assert max(map(least_spelled, gates + spellings)) <= 32


@pytest.mark.parametrize(
    ("rule_id", "anchor"), SPELLED, ids=lambda value: value if isinstance(value, str) else ""
)
@given(data=st.data())
def test_spellings_match_what_the_anchor_matches_once(rule_id, anchor, data):
    text = data.draw(st.from_regex(anchor.expression, fullmatch=True))
    assert sum(re.fullmatch(spelling, text) is not None for spelling in anchor.spellings) == 1

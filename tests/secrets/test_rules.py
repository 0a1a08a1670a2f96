"""Every rule of the table: finds what its pattern describes, and leaves stand-ins alone."""

import random
import re

import pytest

from cas.secretrules import KIND_RULES, RULES
from cas.secretrules.model import START
from cas.secretscan import SecretScanner, rule_ids
from cas.secretscan.tree import (
    ALL_BYTES,
    Bytes,
    Choice,
    Look,
    Repeat,
    Sequence,
    Unknown,
    beginnings,
    expression,
    members,
    parse,
)
from tests.secrets.corpus import B62, DIGITS, UPPER, Maker, telling

SCANNER = SecretScanner(engine="python")
PREFIXED = [rule for rule in RULES if rule.check == "random" and not rule.guard]


def drawing_for(rule):
    """Return a generator of the rule's own: what a test draws must not depend on which tests ran before it."""
    return random.Random(f"rule {rule.id}")


def example(node, rng):
    """Return a text that the tree matches."""
    match node:
        case Bytes(mask):
            printable = [byte for byte in members(mask & (ALL_BYTES >> 129)) if chr(byte).isprintable()]
            return bytes((rng.choice([byte for byte in printable if chr(byte).isalnum()] or printable),))
        case Sequence(parts):
            return b"".join(example(part, rng) for part in parts)
        case Choice(branches):
            return example(rng.choice(branches), rng)
        case Repeat(body, least, most):
            return b"".join(example(body, rng) for _ in range(rng.randint(least, min(most, least + 8))))
        case Look() | Unknown():
            return b""


@pytest.mark.parametrize("rule", PREFIXED, ids=lambda rule: rule.id)
def test_rule_value_of_its_form_is_found_alone_and_in_text(rule):
    rng = drawing_for(rule)
    for _ in range(5):
        value = example(parse(rule.pattern), rng)
        for text in (value, b'x = "' + value + b'"\n', b"first\nsent " + value + b" to host\n"):
            assert SCANNER.scan(text, "x.txt"), value


@pytest.mark.parametrize("rule", PREFIXED, ids=lambda rule: rule.id)
def test_rule_value_masked_or_inside_a_word_is_not_found(rule):
    value = example(parse(rule.pattern), drawing_for(rule))
    masked = value[:6] + b"x" * (len(value) - 6)
    assert not [f for f in SCANNER.scan(b"see " + masked + b"\n", "x.md") if f.rule == rule.id]
    if rule.pattern.startswith(START):
        assert not [f for f in SCANNER.scan(b"Z9_" + value, "x.md") if f.rule == rule.id]


def test_rule_ids_are_unique_and_kebab_case():
    ids = [
        rule.id
        for rule in RULES
        if rule.id
        not in {
            "client-credential",
            "service-credential",
            "assignment",
            "option",
            "column",
            "inserted-column",
        }
    ]  # one rule in parts
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule) for rule in rule_ids())
    assert {rule for rule, _ in KIND_RULES.values()} <= rule_ids()


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.pattern], ids=lambda rule: rule.id)
def test_rule_pattern_repeats_are_bounded(rule):
    def bounded(node):
        match node:
            case Repeat(body, _, most):
                return most is not None and bounded(body)
            case Sequence(parts) | Choice(parts):
                return all(map(bounded, parts))
            case _:
                return True

    assert bounded(parse(rule.pattern))


REPLACED_SYSTEM = {
    "api key": 'API_KEY = "{key}"',
    "api key glued": "apikey: {key}",
    "secret key": "secret_key = '{key}'",
    "secret key glued": "secretkey={key}",
    "password": 'password: "hunter2hunter2"',
    "passwd": "passwd=hunter2hunter2",
    "pwd": "pwd = 'hunter2hunter2'",
    "token": "token = 'abcd1234efgh5678'",
    "stripe test": 'k("sk' + '_test_{key}")',
    "stripe live": "sk" + "_live_{key}",
    "aws id": "aws_access_key_id=AK" + "IA{id}",
    "aws documented id": "aws_access_key_id=AK" + "IAIOSFODNN7EXAMPLE",
    "aws secret": 'aws_secret_access_key = "{key}{key}"',
}


@pytest.mark.parametrize("name", ["app.env", "app.yaml", "app.log", "run.sh", "metadata"])
@pytest.mark.parametrize("text", REPLACED_SYSTEM.values(), ids=REPLACED_SYSTEM)
def test_pattern_of_the_replaced_system_is_found_in(text, name):
    m = Maker("replaced")
    filled = text.format(key=m.of(B62, 24), id=m.of(UPPER + DIGITS, 16))
    assert SCANNER.scan(filled.encode(), name)
    assert SCANNER.scan(filled.upper().encode(), name) or any(c.isdigit() and "_" in filled for c in filled)


@pytest.mark.parametrize("seed", range(20))
def test_telling_value_is_found_by_its_own_rule_before_the_name(seed):
    value = telling(Maker(str(seed)))
    (finding,) = SCANNER.scan(f'api_key = "{value}"\n'.encode(), "a.py")
    assert finding.line == 1


def test_github_checksum_matching_is_found_even_if_dull():
    from cas.secretscan.checks import base62_checksum

    body = "abcdefghijabcdefghijabcdefghij"
    assert SCANNER.scan(("gh" + "p_" + body + base62_checksum(body)).encode(), "x")
    assert not SCANNER.scan(("gh" + "p_" + "your" * 9).encode(), "x")


@pytest.mark.parametrize(
    "pattern", [rb"ab?c", rb"(?:x|yz)+[0-9]{2,4}", rb"(?i)key=\w+", rb"a(?=b)b", rb"[^a-z]{3}", rb"a(?!c)."]
)
def test_tree_expression_admits_whatever_the_pattern_matches(pattern):
    node = parse(pattern)
    admitted = re.compile(expression(node), re.DOTALL)
    begun = beginnings(node, 3)
    for text in (b"abc", b"ac", b"x12", b"yzx123", b"KEY=ab_1", b"ab", b"ABC", b"123", b"ad"):
        match = re.match(pattern, text)
        if match:
            assert admitted.match(text)
            assert any(
                all(mask >> byte & 1 for mask, byte in zip(masks, text, strict=False)) for masks in begun
            )

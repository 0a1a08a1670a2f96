"""The user's own patterns."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cas.config import ArtifactStoreConfig
from cas.errors import ConfigError
from cas.secretscan import SecretScanner, validate_patterns


def scanner(*patterns, engine="python"):
    return SecretScanner(ArtifactStoreConfig(secret_patterns=patterns), engine=engine)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|aa)+$",
        "(.*)*x",
        r"(\w+\s?)+$",
        r"([a-zA-Z]+)*\d",
        "(.*a){20}",
        "(x+x+)+y",
        r"\d+\d+\d+x",
        ".*foo.*bar",
        "(a?){30}a{30}",
        "((ab)*)*c",
        r"(?=(a+)+b)x",
        r"^(([a-z])+.)+[A-Z]([a-z])+$",
        r"(\s*foo\s*)*z",
        "(a{1,200}){1,200}b",
        r"\d+\d+$",
    ],
)
def test_pattern_that_can_run_away_is_refused_by_name_and_reason(pattern):
    with pytest.raises(ConfigError, match="can run away") as caught:
        validate_patterns(["fine-[0-9]{4}", pattern])
    assert repr(pattern) in caught.value.message
    assert "secret_patterns[1]" in caught.value.message
    assert caught.value.subject == "secret_patterns"
    with pytest.raises(ConfigError):
        scanner(pattern)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("[", "not a valid"),
        ("(?P<x>", "not a valid"),
        ("a*", "empty text"),
        ("[é]x", "outside ASCII"),
        ("a" * 3000, "longer"),
    ],
)
def test_pattern_that_is_unusable_is_refused_with_the_reason(pattern, reason):
    with pytest.raises(ConfigError, match=reason):
        validate_patterns([pattern])


USABLE = {
    r"INTERNAL-[A-Z0-9]{16}": b"x INTERNAL-ABCD1234EFGH5678 y",
    r"(?i)desk[_-]code\s*[=:]\s*\w+": b"DESK_CODE = blue",
    r"([a-z0-9]+\.)+corp\.example": b"a.b.corp.example",
    r".*forbidden.*": b"this is forbidden here",
    r"\bdesk-\d{4}(?!\d)": b"desk-1234.",
    r"""(["'])hush\1""": b"'hush'",
    r"(?<!x)tok_[a-z]+": b"tok_abc",
    "é{2}": "éé".encode()[:2] + "é".encode()[1:],
    r"^start[0-9]+$": b"a\nstart99\nb",
    r"BEGIN[\s\S]{0,100}?END": b"BEGIN\n\nEND",
}


@pytest.mark.parametrize("engine", ["python", "hyperscan"])
@pytest.mark.parametrize(("pattern", "text"), USABLE.items(), ids=USABLE)
def test_pattern_is_applied_in_a_long_text(pattern, text, engine):
    if engine == "hyperscan":
        pytest.importorskip("hyperscan", reason="no wheel for this machine")
    data = b"1.25,\n" * 700 + text + b"\n" + b"2.5,\n" * 700
    findings = scanner(pattern, engine=engine).scan(data, "x.csv")
    assert [finding.line for finding in findings] == [
        data[: re.search(pattern.encode(), data, re.MULTILINE).start()].count(b"\n") + 1
    ]
    assert findings[0].rule.startswith("user-")
    assert pattern not in findings[0].description


@given(
    pattern=st.sampled_from([p for p in USABLE if "é" not in p]),
    parts=st.lists(
        st.sampled_from([*USABLE.values(), b" ", b"\n", b"x", b"a." * 300, b"1" * 600]), max_size=9
    ),
)
def test_pattern_engines_agree(pattern, parts):
    pytest.importorskip("hyperscan", reason="no wheel for this machine")
    data = b"".join(parts)
    assert scanner(pattern, engine="hyperscan").scan(data, "x") == scanner(pattern).scan(data, "x")


def test_pattern_group_v_marks_the_value():
    (finding,) = scanner(r"desk=(?P<v>[a-z]+)").scan(b"desk=blue", "x")
    assert finding.column == 6


def test_ruleset_version_changes_with_whatever_changes_findings():
    plain = SecretScanner(engine="python")
    assert plain.ruleset_version == SecretScanner(engine="python").ruleset_version
    versions = {
        plain.ruleset_version,
        scanner("abc[0-9]").ruleset_version,
        SecretScanner(disabled_rules=["jwt"]).ruleset_version,
        SecretScanner(path_rules={"*.md": ["jwt"]}).ruleset_version,
    }
    assert len(versions) == 4
    assert re.fullmatch("[0-9a-f]{16}", plain.ruleset_version)


def test_variant_tells_kinds_of_names_apart():
    plain = SecretScanner(path_rules={"docs/*": ["password"]})
    assert plain.variant("a.py") == plain.variant("b.py") != plain.variant("a.env")
    assert plain.variant("docs/a.py") != plain.variant("a.py")


@pytest.mark.parametrize(
    "arguments", [{"engine": "perl"}, {"disabled_rules": ["no-such"]}, {"path_rules": {"*": ["no-such"]}}]
)
def test_setting_unknown_is_refused(arguments):
    with pytest.raises(ConfigError):
        SecretScanner(**arguments)


@pytest.mark.parametrize(
    "pattern", ["(a|a)*b", "(?:key|key)+=", "(?:a(?:|))*b", "(?:x(?:y?)?)*z", "(?:ab(?:c?|d?))+e"]
)
def test_pattern_whose_rounds_match_nothing_in_two_ways_is_refused(pattern):
    with pytest.raises(ConfigError, match="run away"):
        ArtifactStoreConfig(secret_patterns=[pattern])


@pytest.mark.parametrize("pattern", ["(?:a|b|)*c", "(?:ab?)*c", "x(?:a?|b?)y[0-9]{4}", "(?:key|token)+="])
def test_pattern_whose_rounds_match_in_one_way_is_taken(pattern):
    assert ArtifactStoreConfig(secret_patterns=[pattern]).secret_patterns == (pattern,)


@pytest.mark.parametrize("before", [b"", b"1.25,\n", b"1.25,\n" * 2000])
def test_pattern_that_matched_without_its_group_v_is_found_as_a_whole(before):
    (finding,) = scanner(r"desk=(?P<v>[a-z]+)|tok_[0-9]{4}").scan(before + b"tok_1234", "x")
    assert (finding.line, finding.column) == (before.count(b"\n") + 1, 1)


@pytest.mark.parametrize("engine", ["python", "hyperscan"])
@pytest.mark.parametrize(
    "pattern", ["[a-f]{%d}DESKCODE", "DESKCODE[a-f]{%d}!", "[a-f]{%d}[0-9]", r"[a-f]{%d}(?=!)"]
)
@given(length=st.sampled_from([504, 1000]), before=st.integers(0, 1100))
@settings(max_examples=15, deadline=None)
def test_match_of_up_to_a_kilobyte_is_found_wherever_it_begins(engine, pattern, length, before):
    if engine == "hyperscan":
        pytest.importorskip("hyperscan", reason="no wheel for this machine")
    expression = pattern % length
    text = pattern.replace("[a-f]{%d}", "a" * length).replace("[0-9]", "7").replace("(?=!)", "!")
    findings = scanner(expression, engine=engine).scan(b"\n" * before + text.encode() + b"\n" * 3000, "x")
    assert [finding.line for finding in findings] == [before + 1]

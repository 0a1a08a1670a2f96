"""The scanner by itself: what it is made of, what its version and its variants say, when it builds which engine, and
at which line and column a stream finds what it finds."""

# A table of cases reads best in few lines.
# ruff: noqa: E501

import array
import itertools
import re

import msgspec
import pytest

from cas.config import ArtifactStoreConfig
from cas.errors import ConfigError, InvalidFileError, StateError
from cas.secretrules import RULES
from cas.secretscan import (
    Baseline,
    Finding,
    SecretScanner,
    Waiver,
    allowance,
    rule_ids,
    scanner,
    write_baseline,
)
from cas.secretscan.engine import PythonEngine
from cas.secretscan.matcher import OVERLAP_BYTES
from cas.secretscan.patterns import compile_patterns
from tests.secrets.corpus import B62, Maker

MAKER = Maker("scanner")
KEY = MAKER.of(B62, 32)
LINE = f"api_key = '{KEY}'\n".encode()
PLAIN = SecretScanner(engine="python")
PATTERN = "desk-[0-9]{4}"
(USER,) = compile_patterns([PATTERN])
BLOCK = 32 * 1024


def made(engine="python", **settings):
    return SecretScanner(ArtifactStoreConfig(**settings), engine=engine)


def rules_found(by, data=LINE, name="a.py"):
    return [finding.rule for finding in by.scan(data, name)]


def test_scanner_tells_its_rules_and_engine_and_no_more():
    assert repr(PLAIN) == f"SecretScanner(ruleset_version={PLAIN.ruleset_version!r}, engine='python')"
    assert re.fullmatch("[0-9a-f]{16}", PLAIN.ruleset_version)
    assert repr(PLAIN.stream("a.py")) == "StreamScanner(name='a.py')"


def test_scanner_takes_patterns_and_ignored_rules_from_its_settings():
    assert rules_found(made(secret_patterns=[PATTERN]), b"x desk-1234\n") == [USER.rule]
    assert rules_found(made(secret_ignore=["api-key"])) == []
    assert rules_found(made(secret_ignore=["b*: api-key"])) == ["api-key"]
    findings, waivers = made(secret_ignore=["a*: api-key"]).scan_waived(LINE, "a.py")
    assert (findings, [waiver.source for waiver in waivers]) == ([], ["settings"])


def test_scanner_is_told_rules_instead_of_those_of_its_settings():
    config = ArtifactStoreConfig(secret_ignore=["api-key", "a*: api-key"])
    assert rules_found(SecretScanner(config, engine="python", disabled_rules=[])) == []
    assert rules_found(SecretScanner(config, engine="python", disabled_rules=[], path_rules={})) == [
        "api-key"
    ]
    assert rules_found(SecretScanner(config, engine="python", path_rules={}), b"password='Tr4ding#1'") == [
        "password"
    ]
    assert rules_found(SecretScanner(engine="python", path_rules={"a*": ["*"]})) == []
    user = ArtifactStoreConfig(secret_patterns=[PATTERN])
    assert rules_found(SecretScanner(user, engine="python", disabled_rules=[USER.rule]), b"desk-1234") == []


@pytest.mark.parametrize(
    "where", [{"disabled_rules": ["sql-pasword"]}, {"path_rules": {"a": ["sql-pasword"]}}], ids=str
)
def test_scanner_refuses_a_rule_that_does_not_exist_and_names_three_near_it(where):
    with pytest.raises(ConfigError) as caught:
        SecretScanner(engine="python", **where)
    assert caught.value.subject == "sql-pasword"
    assert "sql-password" in caught.value.hint
    assert caught.value.hint.count(", ") == 2
    with pytest.raises(ConfigError) as caught:
        SecretScanner(engine="python", disabled_rules=["qqqqqqqqqqq"])
    assert "mean" not in caught.value.hint


def test_scanner_reads_a_baseline_from_a_file_from_its_settings_or_takes_one(tmp_path):
    path = tmp_path / "baseline.json"
    write_baseline(path, PLAIN.scan(LINE, "a.py"))
    (finding,) = PLAIN.scan(LINE, "a.py")
    one = Baseline([(finding.fingerprint, finding.rule, finding.name)])
    for known in (
        SecretScanner(engine="python", baseline=path), made(secret_baseline=path),
        SecretScanner(engine="python", baseline=one),
        SecretScanner(ArtifactStoreConfig(secret_baseline=tmp_path / "none"), engine="python", baseline=one),
    ):  # fmt: skip
        assert known.scan_waived(LINE, "a.py") == (
            [],
            [Waiver("a.py", 1, "api-key", finding.fingerprint, "baseline")],
        )
        assert rules_found(known, name="b.py") == ["api-key"]


@pytest.mark.parametrize("engine", ["", "AUTO", "re2"])
def test_scanner_refuses_an_unknown_engine(engine):
    with pytest.raises(ConfigError) as caught:
        SecretScanner(engine=engine)
    assert caught.value.subject == "engine"


def test_scanner_chooses_the_fast_engine_where_it_is_installed(monkeypatch):
    pytest.importorskip("hyperscan", reason="no wheel for this machine")
    assert [SecretScanner(engine=one)._choice for one in ("auto", "hyperscan", "python")] == [
        "hyperscan"
    ] * 2 + ["python"]
    monkeypatch.setattr(scanner.importlib.util, "find_spec", lambda _: None)
    assert [SecretScanner(engine=one)._choice for one in ("auto", "python")] == ["python"] * 2
    with pytest.raises(ConfigError) as caught:
        SecretScanner(engine="hyperscan")
    assert caught.value.subject == "engine"


@pytest.fixture
def built(monkeypatch):
    """The names of the engines that are asked for; each is made as the slow one, which is made in a moment."""
    names = []

    def build(anchors, engine):
        names.append(engine)
        return PythonEngine(enumerate(anchors))

    monkeypatch.setattr(scanner, "_ENGINES", {})
    monkeypatch.setattr(scanner, "build", build)
    return names


def test_engine_is_made_once_for_all_scanners_of_the_same_patterns(built):
    first, second = SecretScanner(engine="python"), SecretScanner(engine="python")
    assert first._engine(0) is first._engine(0) is second._engine(10**9) is second._ready
    assert first._ready is second._ready
    made(secret_patterns=[PATTERN])._engine(0)
    assert list(scanner._ENGINES) == [("python", ()), ("python", (PATTERN,))]
    assert built == ["python", "python"]


def test_engine_chosen_by_itself_is_the_slow_one_up_to_a_size_or_a_time(built):
    pytest.importorskip("hyperscan", reason="no wheel for this machine")
    auto = SecretScanner()
    auto._engine(scanner._SLOW_BYTES - 1)
    auto._engine(0)
    assert built == ["python"]
    assert auto._ready is None
    auto._engine(scanner._SLOW_BYTES)
    assert built == ["python", "hyperscan"]
    assert auto._engine(0) is scanner._ENGINES["hyperscan", ()] is SecretScanner()._engine(0)
    del scanner._ENGINES["hyperscan", ()]
    other = SecretScanner()
    other._slow_ns = scanner._SLOW_NS - 1
    other._engine(0)
    assert built == ["python", "hyperscan"]
    other._slow_ns += 1
    other._engine(0)
    assert built == ["python", "hyperscan", "hyperscan"]
    SecretScanner(engine="hyperscan")._engine(0)
    assert built == ["python", "hyperscan", "hyperscan"]


def test_engine_asked_for_by_name_is_made_whatever_the_size(built):
    pytest.importorskip("hyperscan", reason="no wheel for this machine")
    SecretScanner(engine="hyperscan")._engine(0)
    SecretScanner(engine="python")._engine(10**9)
    assert built == ["hyperscan", "python"]


def test_scanner_that_is_warmed_has_the_fast_engine(built):
    pytest.importorskip("hyperscan", reason="no wheel for this machine")
    SecretScanner().warm()
    assert built == ["hyperscan"]


def test_engine_for_a_name_is_the_slow_one(built):
    assert SecretScanner().shown_name("a.py") == "a.py"
    assert built == ["python"]


def test_time_of_the_slow_engine_is_added_up(built, monkeypatch):
    clock = itertools.count(0, 7)
    monkeypatch.setattr(scanner, "now_ns", lambda: next(clock))
    auto = SecretScanner()
    assert auto._slow_ns == 0
    assert auto.has_nothing(b"1.25,\n")
    assert auto.has_nothing(b"1.25,\n")
    assert auto._slow_ns == 14
    block = scanner.Block(LINE, 0, 0, len(LINE))
    assert [hit.rule for hit in auto.search(block, "a.py")] == ["api-key"]
    assert auto._slow_ns == 21
    auto._ready = PythonEngine(enumerate(auto._matcher.anchors))
    assert not auto.has_nothing(LINE)
    assert auto._slow_ns == 21


def test_nothing_is_seen_in_any_buffer_of_numbers_and_something_in_any_other(monkeypatch):
    monkeypatch.setattr(scanner, "_LOOK_BYTES", BLOCK)
    numbers = b"1.25,\n" * (BLOCK // 2)
    literal = b"gh" + b"p_"
    for kind in (bytes, bytearray, memoryview):
        assert PLAIN.has_nothing(kind(b"1.25,\n"))
        assert PLAIN.has_nothing(kind(numbers))
        assert not PLAIN.has_nothing(kind(LINE))
        for at in (0, BLOCK - 2, BLOCK, 2 * BLOCK - 2, len(numbers) - 4):
            assert not PLAIN.has_nothing(kind(numbers[:at] + literal + numbers[at + 4 :])), at
    assert PLAIN.has_nothing(memoryview(array.array("I", [10**9] * 100)))
    assert PLAIN.scan_waived(numbers, "a.csv") == ([], [])


def test_variant_is_the_version_and_the_way_of_reading():
    version = PLAIN.ruleset_version
    for name, place in (("a.py", "code"), ("a.toml", "config"), ("a.csv", "text")):
        assert PLAIN.variant(name) == PLAIN.variant(name) == f"{version}-{place}"


def test_variant_tells_names_apart_for_which_other_rules_hold():
    paths = {"docs/*": ["api-key"], "*.py": ["jwt"]}
    known = SecretScanner(
        engine="python", path_rules=paths, baseline=Baseline([("0" * 32, "jwt", "src/b.txt")])
    )
    names = ("docs/a.txt", "src/a.py", "docs/a.py", "src/b.txt", "src/a.txt")
    variants = [known.variant(name) for name in names]
    assert len(set(variants)) == 5
    for name, variant in zip(names[:4], variants[:4], strict=True):
        place = scanner.place_of(name)
        assert re.fullmatch(f"{known.ruleset_version}-{place}-[0-9a-f]{{8}}", variant)
    assert variants[4] == known.variant("DOCS/a.txt") == f"{known.ruleset_version}-text"
    turned = SecretScanner(
        engine="python",
        path_rules=dict(reversed(paths.items())),
        baseline=Baseline([("0" * 32, "jwt", "src/b.txt")]),
    )
    assert [turned.variant(name) for name in names] == variants


def test_variants_of_a_thousand_names_are_remembered():
    known = SecretScanner(engine="python")
    for number in range(1024):
        known.variant(f"{number}.py")
    assert len(known._variants) == 1024
    known.variant("one.py")
    assert known._variants == {"one.py": known.variant("0.py")} | {"0.py": known.variant("one.py")}


def test_variant_that_is_remembered_is_not_found_again():
    known = SecretScanner(engine="python")
    known._variants["a.py"] = "as remembered"
    assert known.variant("a.py") == "as remembered"


def test_file_is_read_by_the_kind_of_its_name():
    line = b"password = wintertime\n"
    assert rules_found(PLAIN, line, "a.toml") == ["password"]
    assert rules_found(PLAIN, line, "a.txt") == rules_found(PLAIN, line, "a.py") == []


def test_credential_at_the_first_byte_is_found():
    token = "gh" + "p_" + MAKER.of(B62, 36)
    (finding,) = PLAIN.scan(token.encode(), "a.py")
    assert (finding.line, finding.column) == (1, 1)


def test_version_changes_with_whatever_could_change_a_finding(monkeypatch):
    entry = ("0" * 32, "jwt", "a")
    versions = [
        PLAIN.ruleset_version, made(secret_patterns=[PATTERN]).ruleset_version, made(secret_ignore=["jwt"]).ruleset_version,
        made(secret_ignore=["a: jwt"]).ruleset_version, made(secret_ignore=["b: jwt"]).ruleset_version,
        made(secret_ignore=["a: api-key"]).ruleset_version,
        SecretScanner(engine="python", baseline=Baseline([entry])).ruleset_version,
    ]  # fmt: skip
    for field in ("id", "pattern", "check", "guard", "gate"):
        value = getattr(RULES[0], field)
        other = value + ("x" if isinstance(value, str) else b"x")
        monkeypatch.setattr(
            scanner, "RULES", (msgspec.structs.replace(RULES[0], **{field: other}), *RULES[1:])
        )
        versions.append(PLAIN._version())
    for changed in ({"rank": 51}, {"literals": (b"x",)}):
        monkeypatch.setattr(scanner, "RULES", (msgspec.structs.replace(RULES[0], **changed), *RULES[1:]))
        versions.append(PLAIN._version())
    monkeypatch.setattr(scanner, "RULES", RULES)
    monkeypatch.setattr(scanner, "TABLE_VERSION", scanner.TABLE_VERSION + 1)
    versions.append(PLAIN._version())
    assert len(set(versions)) == len(versions)


def test_version_does_not_depend_on_an_order():
    def version(rules, entries):
        made = SecretScanner(
            engine="python",
            disabled_rules=rules,
            path_rules=dict.fromkeys(rules, rules),
            baseline=Baseline(entries),
        )
        return made.ruleset_version

    rules, entries = ["jwt", "api-key", "token", "password"], [(f"{n}" * 32, "jwt", "a") for n in range(9)]
    assert version(rules, entries) == version(rules[::-1], entries[::-1])


SLOW, OTHER = "desk-[0-9]{4}", "room-[0-9]{4}"


def test_pattern_that_takes_too_long_is_named_with_the_file(monkeypatch):
    slow = made(secret_patterns=[OTHER, SLOW])
    slow._engine(0)
    clock = itertools.count(0, 7)
    monkeypatch.setattr(scanner, "now_ns", lambda: next(clock))
    monkeypatch.setattr(allowance, "NS_PER_MEBIBYTE", -1)
    before = slow._slow_ns
    with pytest.raises(InvalidFileError) as caught:
        slow.search(scanner.Block(b"x desk-1234", 0, 0, 11), "a.py")
    assert (caught.value.kind, caught.value.subject) == ("pattern_too_slow", "a.py")
    assert repr(SLOW) in caught.value.message
    assert slow._slow_ns == before + 7
    with pytest.raises(InvalidFileError) as caught:
        slow.search(scanner.Block(b"x desk-1234", 0, 0, 11), "room-1234")
    assert caught.value.subject == "(a name that holds a credential)"


def test_name_is_shown_unless_it_holds_a_credential():
    withheld = "(a name that holds a credential)"
    for name in (f"ghp_{'x' * 36}", "a.py", "a\udcff.py", "password=wintertime", ""):
        assert PLAIN.shown_name(name) == name
    token = "gh" + "p_" + MAKER.of(B62, 36)
    for name in (token, f"a\udcff {token}", f"api_key={KEY[:14]}", f"{token}.py"):
        assert PLAIN.shown_name(name) == withheld
    (finding,) = PLAIN.scan(LINE, token)
    assert finding.name == withheld


def test_findings_are_divided_by_the_first_reason_that_waives_them():
    def finding(name, rule="api-key", line=1):
        return Finding(name, line, 1, rule, "d", "0" * 32)

    known = SecretScanner(
        engine="python",
        baseline=Baseline([("0" * 32, "api-key", "base")]),
        path_rules={"x*": ["jwt"], "docs/*": ["api-key"], "base": ["*"], "all/*": ["*"]},
    )
    located = [
        (finding("base"), "nosec"), (finding("base", line=2), ""), (finding("docs/a", line=3), ""),
        (finding("docs/a", "jwt"), ""), (finding("all/a", "jwt", 5), ""), (finding("src/a"), ""), (finding("DOCS/a"), ""),
    ]  # fmt: skip
    findings, waivers = known.sort_out(located)
    assert findings == [finding("docs/a", "jwt"), finding("src/a"), finding("DOCS/a")]
    assert waivers == [
        Waiver("base", 1, "api-key", "0" * 32, "inline:nosec"), Waiver("base", 2, "api-key", "0" * 32, "baseline"),
        Waiver("docs/a", 3, "api-key", "0" * 32, "settings"), Waiver("all/a", 5, "jwt", "0" * 32, "settings"),
    ]  # fmt: skip


def test_ids_of_rules_are_those_of_findings():
    ids = rule_ids()
    assert {"api-key", "trading-credential", "client-credential", "jwt", "wallet-mnemonic"} <= ids
    assert ids.isdisjoint({"assignment", "option", "bare-key", "column", "inserted-column"})


def test_ignored_rules_hold_everywhere_or_by_name():
    assert scanner.read_ignored([]) == (frozenset(), {})
    assert scanner.read_ignored(["api-key", " jwt , token,"]) == ({"api-key", "jwt", "token"}, {})
    items = ["docs/* : api-key , jwt", "docs/*: token", "a:*", "b: x:y"]
    assert scanner.read_ignored(items) == (
        frozenset(),
        {"docs/*": {"api-key", "jwt", "token"}, "a": {"*"}, "b": {"x:y"}},
    )


@pytest.mark.parametrize(
    "item", ["", " ", ",", ":", "docs/*:", "docs/*: ,", ": api-key", " : api-key", "*", "jwt, *"]
)
def test_ignored_item_of_neither_form_is_refused(item):
    with pytest.raises(ConfigError) as caught:
        scanner.read_ignored([item])
    assert caught.value.subject == "secret_ignore"


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(scanner, "BLOCK_BYTES", BLOCK)


def fed(data, size, by=PLAIN):
    stream = by.stream("a.txt")
    for start in range(0, len(data), size):
        stream.feed(memoryview(data)[start : start + size])
        assert len(stream._buffer) < BLOCK + 3 * OVERLAP_BYTES
    return stream.finish()


def places(data, value):
    """Return line and column of each place of a value."""
    starts = [match.start() for match in re.finditer(re.escape(value), data)]
    return [(data.count(b"\n", 0, at) + 1, at - data.rfind(b"\n", 0, at)) for at in starts]


LINES = b"".join(
    b"1.25," * (number % 37)
    + (b" api_key='%s'" % KEY.encode()) * (number % 150 == 0) * (1 + number // 150 % 2)
    + b"\n"
    for number in range(1200)
)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("size", [5000, BLOCK + OVERLAP_BYTES, 10**6])
@pytest.mark.parametrize(
    "lead",
    [
        b"",
        b"\n",
        b"\n" + b"1" * 3 * BLOCK,
        b"1" * 2 * BLOCK,
        b"1" * (BLOCK + 5000) + b"\n" + b"1" * 3 * BLOCK,
    ],
    ids=["none", "line", "far", "long", "broken"],
)
def test_stream_tells_line_and_column_in_the_whole(lead, size):
    data = lead + LINES
    assert [(finding.line, finding.column) for finding in fed(data, size)] == places(data, KEY.encode())


@pytest.mark.usefixtures("small_blocks")
def test_stream_finds_by_pattern_what_the_whole_holds():
    user = made(secret_patterns=["[a-z]{300}"])
    for lead in (BLOCK - 1100, BLOCK + OVERLAP_BYTES - 10):
        data = b"1" * lead + b"a" * 3000 + b"1" * BLOCK
        columns = [finding.column for finding in fed(data, 5000, user)]
        assert columns == [finding.column for finding in fed(data, 10**6, user)]
        expected = [
            hit.start + 1
            for hit in scanner.without_overlaps(user.search(scanner.Block(data, 0, 0, len(data)), "a.txt"))
        ]
        assert columns == expected


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_stream_tells_line_and_column_of_text_of_two_bytes_a_character(codec):
    text = f"api_key='{KEY}'\n" + "1.25,\n" * 5000 + f"x = 1; api_key='{KEY}'\n"
    found = [(finding.line, finding.column) for finding in fed(text.encode(codec), 8192)]
    assert found == [(1, 20 if codec == "utf-16-be" else 19), (5002, 33)]


def test_stream_that_is_finished_takes_and_tells_no_more():
    stream = PLAIN.stream("a.py")
    stream.feed(LINE)
    stream.feed(array.array("H", [10, 13]))
    findings, waivers = stream.finish_waived()
    assert [finding.rule for finding in findings] == ["api-key"]
    assert waivers == []
    assert KEY.encode() not in stream._buffer
    assert stream._hits == []
    for call in (lambda: stream.feed(b""), stream.finish, stream.finish_waived):
        with pytest.raises(StateError) as caught:
            call()
        assert caught.value.subject == "a.py"


def test_findings_come_in_the_order_of_the_file_each_with_its_fields():
    data = b"\n" + LINE + b"x\ndb_password = 'Tr4ding#Desk'; " + LINE
    found = PLAIN.scan(data, "a.py")
    assert [(f.name, f.line, f.column, f.rule) for f in found] == [
        ("a.py", 2, 12, "api-key"), ("a.py", 4, 16, "password"), ("a.py", 4, 42, "api-key"),
    ]  # fmt: skip
    assert found[0].description == "API key assigned to a name"
    assert found[0].fingerprint == found[2].fingerprint != found[1].fingerprint

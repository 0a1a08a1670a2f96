"""A waiver lets through what it names, and nothing more."""

import json

import pytest

from cas.config import ArtifactStoreConfig
from cas.errors import ConfigError
from cas.secretscan import Baseline, SecretScanner, read_baseline, write_baseline
from tests.secrets.corpus import B62, Maker

SCANNER = SecretScanner(engine="python")
M = Maker("waivers")
KEY, OTHER = M.of(B62, 30), M.of(B62, 31)
ALLOWLIST = "pragma: " + "allowlist secret"


def lines(mark):
    return f'api_key = "{KEY}"  # {mark}\napi_key = "{OTHER}"\n'.encode()


@pytest.mark.parametrize(
    "mark",
    [
        "cas: allow-secret",
        "cas:allow-secret",
        "cas: allow-secret[api-key]",
        "cas: allow-secret[jwt, api-key]",
        ALLOWLIST,
        "gitleaks:allow",
        "nosec B105",
        "noqa: S105",
        "noqa: E501, S106",
        "trufflehog:ignore",
    ],
)
def test_inline_mark_waives_its_own_line_only(mark):
    findings, waivers = SCANNER.scan_waived(lines(mark), "a.py")
    assert [finding.line for finding in findings] == [2]
    assert [(waiver.line, waiver.rule) for waiver in waivers] == [(1, "api-key")]
    assert waivers[0].source.startswith("inline:")


@pytest.mark.parametrize(
    "mark",
    [
        "nosec",
        "noqa",
        "noqa: E501",
        "nosec B602",
        "cas: allow-secret[jwt]",
        "cas: allow-secrets",
        "cas: allow",
        "pragma: no cover",
    ],
)
def test_inline_mark_about_something_else_waives_nothing(mark):
    assert [finding.line for finding in SCANNER.scan(lines(mark), "a.py")] == [1, 2]


def test_inline_mark_naming_a_rule_leaves_others_on_the_line():
    text = f'api_key = "{KEY}"; password = "Tr4ding-Desk"  # cas: allow-secret[password]\n'
    assert [finding.rule for finding in SCANNER.scan(text.encode(), "a.py")] == ["api-key"]


def test_baseline_waives_the_same_value_in_the_same_file(tmp_path):
    findings = SCANNER.scan(lines("x"), "a.py")
    path = tmp_path / "baseline.json"
    write_baseline(path, findings[:1])
    known = SecretScanner(ArtifactStoreConfig(secret_baseline=path), engine="python")
    left, waivers = known.scan_waived(b"# moved\n" + lines("x"), "a.py")
    assert [finding.line for finding in left] == [3]
    assert [(waiver.line, waiver.source) for waiver in waivers] == [(2, "baseline")]
    assert len(known.scan(lines("x"), "b.py")) == 2
    assert len(read_baseline(path)) == 1


def test_baseline_entry_for_any_name_waives_in_every_file():
    (finding, _) = SCANNER.scan(lines("x"), "a.py")
    known = SecretScanner(engine="python", baseline=Baseline([(finding.fingerprint, finding.rule, "*")]))
    assert len(known.scan(lines("x"), "b.py")) == 1


def test_baseline_holds_no_value_and_is_stable(tmp_path):
    path = tmp_path / "baseline.json"
    findings = SCANNER.scan(lines("x"), "a.py")
    write_baseline(path, findings)
    first = path.read_text()
    write_baseline(path, reversed(findings))
    assert path.read_text() == first
    assert KEY not in first
    assert OTHER not in first
    assert [sorted(entry) for entry in json.loads(first)["findings"]] == [["fingerprint", "name", "rule"]] * 2


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"version": 9, "findings": []}', '{"version": 1, "findings": [{"rule": 1}]}']
)
def test_baseline_unreadable_is_refused(tmp_path, text):
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read_baseline(path)
    with pytest.raises(ConfigError):
        read_baseline(tmp_path / "missing.json")


def test_path_rule_waives_named_rules_under_named_paths():
    known = SecretScanner(engine="python", path_rules={"docs/*": ["api-key"], "vendor/*": ["*"]})
    assert known.scan(lines("x"), "docs/a.py") == []
    assert known.scan(lines("x"), "vendor/a.py") == []
    assert len(known.scan(lines("x"), "src/a.py")) == 2
    assert known.scan(b'password = "Tr4ding-Desk"', "docs/a.py")
    assert known.scan_waived(lines("x"), "docs/a.py")[1][0].source == "settings"


def test_disabled_rule_is_not_applied():
    assert SecretScanner(engine="python", disabled_rules=["api-key"]).scan(lines("x"), "a.py") == []


def test_mark_inside_an_escaped_text_covers_its_own_line_of_that_text():
    cell = ["x = 1  # cas: allow-secret\n", f"api_key = '{Maker('cell').of(B62, 32)}'\n"]
    compact = json.dumps({"source": cell, "text": "".join(cell)}).encode()
    findings, waivers = SecretScanner(engine="python").scan_waived(compact, "a.ipynb")
    assert findings
    assert waivers == []


def test_mark_inside_an_escaped_text_waives_the_credential_of_its_line():
    text = f"x = 1\napi_key = '{Maker('cell').of(B62, 32)}'  # cas: allow-secret\ny = 2\n"
    findings, waivers = SecretScanner(engine="python").scan_waived(
        json.dumps({"text": text}).encode(), "a.ipynb"
    )
    assert findings == []
    assert [waiver.source for waiver in waivers] == ["inline:cas"]


def test_mark_behind_a_value_with_escaped_breaks_waives_it():
    value = "\\n".join(Maker("pem").of(B62, 64) for _ in range(4))
    line = 'KEY = "-----BEGIN ' + f'PRIVATE KEY-----\\n{value}\\n"  # cas: allow-secret\n'
    findings, waivers = SecretScanner(engine="python").scan_waived(line.encode(), "a.py")
    assert findings == []
    assert len(waivers) == 1

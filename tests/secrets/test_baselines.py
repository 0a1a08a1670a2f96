"""Marks, baselines and fingerprints by themselves: how far a mark reaches, and the file as it stands on disk."""

import hashlib
import json
import os

import pytest

from cas.digest import digest_bytes
from cas.errors import ConfigError
from cas.secretscan import Baseline, fingerprint, read_baseline, write_baseline
from cas.secretscan.findings import FINGERPRINT_CHARS, Finding, Waiver
from cas.secretscan.waivers import inline_mark

MARK = b"# gitleaks:allow"


def finding(name="a.py", rule="jwt", mark="f" * 32, line=1):
    return Finding(name, line, 2, rule, "a token", mark)


@pytest.mark.parametrize(
    ("text", "at", "name"),
    [
        (b"x = 1 " + MARK, 4, "gitleaks"),
        (b"x = 1 " + MARK + b"\ny = 2", 4, "gitleaks"),
        (b"x = 1\ny = 2 " + MARK, 10, "gitleaks"),
        (b"x = 1\ny = 2 " + MARK, 4, ""),
        (b"x = 1 " + MARK + b"\ny = 2\n", 27, ""),
        (b"x = 1 " + MARK + b"\ny = 2\nz = 3\n", 34, ""),
        (b"x = 1\ny = 2\nz = 3 " + MARK, 4, ""),
        (b"x = 1\ny = 2\nz = 3 " + MARK + b"\n", 10, ""),
        (b"gitleaks:allow\n", 3, "gitleaks"),
        (b"\ngitleaks:allow", 3, "gitleaks"),
        (b"itleaks:allow\ngitleaks:allow\n", 16, "gitleaks"),
        (b"gitleaks:allow\nx = 1\ny = 2", 24, ""),
        (b"x = 1\n" + MARK + b"\ny = 2", 27, ""),
        (b"x = 1", 4, ""),
        (b"x = 1 " + MARK[:-1], 4, ""),
        (b"\n" + MARK, 0, ""),
    ],
)
def test_inline_mark_reaches_to_the_ends_of_its_line(text, at, name):
    assert inline_mark(text, at, "jwt") == name


@pytest.mark.parametrize(
    ("named", "waived"),
    [
        ("jwt", True),
        ("api-key,jwt", True),
        ("api-key , jwt ", True),
        ("api key,jwt", True),
        ("jwt token", False),
        ("", False),
    ],
)
def test_inline_mark_with_rules_waives_those_it_names(named, waived):
    text = f"x = 1  # cas: allow-secret[{named}]".encode()
    assert inline_mark(text, 4, "jwt") == ("cas" if waived else "")


def test_write_baseline_is_sorted_readable_and_without_lines(tmp_path):
    path = tmp_path / "baseline.json"
    write_baseline(
        path, [finding("é.py", line=7), finding("a.py", "b"), finding("a.py", "a"), finding("é.py", line=9)]
    )
    assert path.read_bytes().decode("utf-8") == (
        '{\n  "version": 1,\n  "findings": [\n'
        + ",\n".join(
            f'    {{\n      "name": "{name}",\n      "rule": "{rule}",\n      "fingerprint": "{"f" * 32}"\n    }}'
            for name, rule in (("a.py", "a"), ("a.py", "b"), ("é.py", "jwt"))
        )
        + "\n  ]\n}\n"
    )
    assert len(read_baseline(path)) == 3
    assert read_baseline(path).covers(finding("é.py", line=100))


def test_write_baseline_goes_by_a_hidden_file_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "baseline.json"
    write_baseline(path, [])
    moved = []
    replace = os.replace
    monkeypatch.setattr(
        os, "replace", lambda source, target: (moved.append((source, target)), replace(source, target))
    )
    write_baseline(path, [finding()])
    ((source, target),) = moved
    assert target == path
    assert os.path.dirname(source) == str(tmp_path)  # noqa: PTH120
    assert os.path.basename(source).startswith(".baseline.json.")  # noqa: PTH119
    assert [entry.name for entry in tmp_path.iterdir()] == ["baseline.json"]


def test_baseline_covers_one_value_under_one_rule_in_one_file():
    baseline = Baseline([("f" * 32, "jwt", "a.py"), ("e" * 32, "jwt", "*")])
    assert len(baseline) == 2
    assert baseline.covers(finding())
    assert not baseline.covers(finding("b.py"))
    assert not baseline.covers(finding(rule="api-key"))
    assert not baseline.covers(finding(mark="d" * 32))
    assert baseline.covers(finding("b.py", mark="e" * 32))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        ("{", "is not a baseline file"),
        ('{"version": "1", "findings": []}', "is not a baseline file"),
        ('{"version": 2, "findings": []}', "has the unknown version 2"),
    ],
)
def test_baseline_that_cannot_be_read_is_named(tmp_path, content, words):
    path = tmp_path / "baseline.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=words) as caught:
        read_baseline(path)
    assert caught.value.subject == str(path)
    assert str(path) in str(caught.value)


def test_baseline_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "missing" / "baseline.json"
    with pytest.raises(ConfigError, match="cannot write") as caught:
        write_baseline(path, [])
    assert caught.value.subject == str(path)


def test_entry_without_a_name_stands_for_any_file(tmp_path):
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps({"version": 1, "findings": [{"fingerprint": "f" * 32, "rule": "jwt"}]}))
    assert read_baseline(path).entries == {("f" * 32, "jwt", "*")}


def test_finding_and_waiver_are_plain_data():
    assert finding().as_dict() == {
        "name": "a.py", "line": 1, "column": 2, "rule": "jwt", "description": "a token", "fingerprint": "f" * 32,
    }  # fmt: skip
    assert Waiver("a.py", 3, "jwt", "f" * 32, "inline:noqa").as_dict() == {
        "name": "a.py", "line": 3, "rule": "jwt", "fingerprint": "f" * 32, "source": "inline:noqa",
    }  # fmt: skip


def test_fingerprint_is_the_same_on_every_machine_and_in_every_version():
    value = b"an ordinary value, not a credential"
    salt = b"cas secret fingerprint 1\0jwt"
    stretched = hashlib.pbkdf2_hmac("sha256", digest_bytes(value), salt, 1024)
    assert FINGERPRINT_CHARS == 32
    assert fingerprint("jwt", value) == stretched.hex()[:32]
    assert fingerprint("jwt", value) != fingerprint("api-key", value)


@pytest.mark.parametrize(
    "content", [b'{"version": 1, "findings": [{"fingerprint": "\xff"}]}', b"[" * 100_000]
)
def test_baseline_that_is_no_text_or_too_deep_is_named(tmp_path, content):
    path = tmp_path / "baseline.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not a baseline file"):
        read_baseline(path)


def test_baseline_with_a_name_that_is_not_unicode_is_refused(tmp_path):
    path = tmp_path / "baseline.json"
    with pytest.raises(ConfigError, match="not Unicode"):
        write_baseline(path, [finding("a\udcff.py")])
    assert not list(tmp_path.iterdir())


def test_baseline_that_cannot_be_put_in_its_place_leaves_no_file_behind(tmp_path):
    path = tmp_path / "baseline.json"
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot write"):
        write_baseline(path, [finding()])
    assert [entry.name for entry in tmp_path.iterdir()] == ["baseline.json"]

"""The gate for artifact names."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas.errors import InvalidNameError
from cas.names import check_artifact_name, check_artifact_names, fold_name

GOOD = [
    "strategy.py",
    "test_report.json",
    "plots/equity curve.png",
    "a/b/c/d.csv",
    ".gitignore",
    ".hidden",
    "-rf",
    "..a",
    "a..b",
    "résumé.md",
    "日本語/ファイル.txt",
    "console.log",
    "com10",
    "com",
    "sub/metadata.json",
    "metadata.json.bak",
    "git",
    ".github/x",
    "gitmod~5",
    "gi7eba~x",
    "gi7ebb~1",
    "[x] (1) {2} #3 $4 %5.txt",
    "x" * 255,
    "/".join(["p"] * 32),
    "/".join(["x" * 127] * 8),
]
BAD = [
    "",
    "/",
    "/etc/passwd",
    "a/",
    "a//b",
    ".",
    "..",
    "./a",
    "a/./b",
    "a/../b",
    "../a",
    "a\\b",
    "C:x",
    "a:stream",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x85b",
    "a\ud800",
    "a.",
    "a ",
    "a./b",
    "a /b",
    "...",
    ".git",
    ".GIT/config",
    "x/.Git",
    ".git./config",
    ".git /config",
    "git~1",
    "GIT~1/config",
    "git~2",
    ".git::$INDEX_ALLOCATION",
    ".g\u200cit",
    "\ufeff.git",
    ".git\u206f",
    ".gitmodules",
    ".GitModules",
    "x/.gitmodules",
    ".git\u200dmodules",
    "gitmod~1",
    "GITMOD~4",
    "gi7eba~1",
    "GI7EB~12",
    "g~100000",
    "~1000000",
    "con",
    "CON",
    "aux.txt",
    "nul .txt",
    "x/prn/y",
    "COM1.log",
    "com¹",
    "lpt0",
    "conin$",
    "CONOUT$.txt",
    "metadata.json",
    "METADATA.json",
    "metadata.json/x",
    "meta\u200cdata.json",
    "metadata.j\u017fon",
    ".\u200c",
    "\u200c",
    "a/.\u200d./b",
    "x" * 256,
    "é" * 128,
    "/".join(["p"] * 33),
    "/".join(["x" * 128] * 8),
]


@pytest.mark.parametrize("name", GOOD)
def test_check_artifact_name_ordinary_passes(name: str) -> None:
    check_artifact_name(name)


@pytest.mark.parametrize("name", BAD, ids=lambda name: ascii(name).replace("::", ":").replace("\\", "%"))
def test_check_artifact_name_unsafe_is_refused_and_named(name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_artifact_name(name)
    assert caught.value.subject == name.encode("utf-8", "backslashreplace").decode()
    json.dumps(caught.value.as_dict(), ensure_ascii=False).encode("utf-8")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", [None, b"a", 7])
def test_check_artifact_name_not_text_is_refused(name: object) -> None:
    with pytest.raises(InvalidNameError, match="must be text"):
        check_artifact_name(name)


@given(st.text(st.sampled_from("aZ1_.-/ ~:\\\n\u200cétiGg"), max_size=12))
def test_check_artifact_name_accepted_is_canonical_and_safe(name: str) -> None:
    try:
        check_artifact_name(name)
    except InvalidNameError:
        return
    for part in name.split("/"):
        bare = part.replace("\u200c", "")
        assert bare not in {"", ".", ".."}
        assert bare.lower() not in {".git", "git~1"}
        assert part == part.rstrip(". ")
        assert not set(part) & set(":\\\n")


@given(st.lists(st.text(st.sampled_from("aZ1_.-/ ~étiGg:"), max_size=8), max_size=3).map("/".join))
def test_check_artifact_name_upper_case_is_judged_alike(name: str) -> None:
    assert _accepted(name) == _accepted(name.upper())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a", "a"),
        ("a.py", "A.py"),
        ("é", "e\u0301"),
        ("É", "e\u0301"),
        ("straße", "STRASSE"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("A", "a/b"),
        ("a/b/c", "A/B"),
        ("Dir/a", "dir/b"),
        ("x/Dir/a", "x/dir/b"),
        ("ab", "a\u200cb"),
        ("K", "k"),
    ],
)
def test_check_artifact_names_two_that_meet_are_both_named(first: str, second: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_artifact_names(["other.txt", first, second])
    assert repr(first) in str(caught.value)
    assert repr(second) in str(caught.value)
    assert caught.value.subject == second


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a", "a"], "given twice"),
        (["a/b", "A"], "one is a folder of the other"),
        (["a", "A"], "is the same file as"),
        (["a/x", "A/y"], "spells a folder"),
    ],
)
def test_check_artifact_names_refusal_gives_the_reason(names: list[str], reason: str) -> None:
    with pytest.raises(InvalidNameError, match=reason):
        check_artifact_names(names)


def test_check_artifact_names_distinct_names_pass() -> None:
    check_artifact_names(["a", "b", "c/d", "c/e", "c/f/g", "a.b", "a-b", "c.d", "ss", "ŝ"])
    check_artifact_names([])
    check_artifact_names(name for name in ("x", "y"))


def test_check_artifact_names_unsafe_one_is_refused() -> None:
    with pytest.raises(InvalidNameError, match="git would take"):
        check_artifact_names(["ok", ".git/config"])


@given(
    st.lists(
        st.sampled_from(["a", "A", "b", "a/b", "A/b", "a/B", "a/b/c", "é", "e\u0301", "d/e", "d/f"]),
        max_size=4,
    )
)
def test_check_artifact_names_agree_with_a_folding_file_system(names: list[str]) -> None:
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    fits = True
    for name in names:
        parts = name.split("/")
        for count in range(1, len(parts)):
            folder = "/".join(parts[:count])
            fits &= folders.setdefault(_fold(folder), folder) == folder
        fits &= _fold(name) not in files
        files[_fold(name)] = name
    fits &= not files.keys() & folders.keys()
    try:
        check_artifact_names(names)
    except InvalidNameError:
        assert not fits
    else:
        assert fits


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_fold_name_is_the_same_for_every_normal_form(name: str) -> None:
    forms = {fold_name(unicodedata.normalize(form, name)) for form in ("NFC", "NFD")}
    assert forms == {fold_name(name)}


def _accepted(name: str) -> bool:
    try:
        check_artifact_name(name)
    except InvalidNameError:
        return False
    return True


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()

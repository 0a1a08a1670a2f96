"""Branch names given by users: accepted exactly when git accepts them, and short enough for hosts."""

import pytest

from cas.errors import InvalidNameError
from cas.names import MAX_BRANCH_BYTES, check_branch_name

ACCEPTED = [
    "main",
    "a/b/c",
    "feature/x.y",
    "release-1.0",
    "@a",
    "a@",
    "HEAD/x",
    "xHEAD",
    "Straße",
    "a.locked",
    "a/-b",
    "{a}",
]
REFUSED = [
    "a b", "a\tb", "a\x7f", "a~1", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "a..b", "a@{1}",
    "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a/b.lock", "-a", "@", "HEAD", "a.", "a/b.",
]  # fmt: skip


@pytest.mark.parametrize("branch", ACCEPTED)
def test_check_branch_name_ordinary_comes_back(branch):
    assert check_branch_name(branch) == branch


@pytest.mark.parametrize("branch", REFUSED)
def test_check_branch_name_that_git_refuses_is_refused_and_named(branch):
    with pytest.raises(InvalidNameError, match="git refuses") as caught:
        check_branch_name(branch)
    assert caught.value.subject == branch


def test_check_branch_name_agrees_with_git(names_git):
    read_otherwise = {
        "@",
        "HEAD",
        "-a",
    }  # refs git would take, and words that git's commands take for something else
    for branch in [*ACCEPTED, *(name for name in REFUSED if name not in read_otherwise)]:
        try:
            names_git("check-ref-format", f"refs/heads/{branch}")
        except AssertionError:
            assert branch in REFUSED
        else:
            assert branch in ACCEPTED


@pytest.mark.parametrize("value", [None, 3, b"main", "", ["main"]])
def test_check_branch_name_of_no_text_is_refused(value):
    with pytest.raises(InvalidNameError, match="non-empty text") as caught:
        check_branch_name(value)
    assert caught.value.subject is None


def test_check_branch_name_with_a_lone_surrogate_is_refused_printably():
    with pytest.raises(InvalidNameError, match="git refuses") as caught:
        check_branch_name("a\ud800")
    assert caught.value.subject == r"a\ud800"


@pytest.mark.parametrize("letter", ["a", "é"])
def test_check_branch_name_counts_bytes_to_the_limit(letter):
    fitting = letter * (MAX_BRANCH_BYTES // len(letter.encode()))
    assert check_branch_name(fitting) == fitting
    with pytest.raises(InvalidNameError, match="244 bytes") as caught:
        check_branch_name(fitting + "a")
    assert caught.value.subject == fitting + "a"

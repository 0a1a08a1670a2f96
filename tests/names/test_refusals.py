"""What a refused name or ID is told: the reason, which of several, and a subject that any encoder takes."""

import pytest

from cas.errors import InvalidIdError, InvalidNameError
from cas.names import (
    ArtifactNames,
    canonical_correlation_id,
    check_artifact_name,
    check_branch_name,
    check_id,
    correlation_tag,
    escape_id,
    prompt_tag,
    unescape_id,
)

REASONS = [
    (5, "artifact name of another type: must be text, not int", "5"),
    ("", "artifact name '': is empty", ""),
    ("a\ud800", "artifact name 'a\\ud800': is not valid Unicode text (lone surrogate)", "a\\ud800"),
    ("/".join(["a" * 200] * 6), "longer than 1024 bytes", None),
    ("/a", "artifact name '/a': must be relative", "/a"),
    ("a\\b", "holds '\\\\', which is a separator or control character on some system", None),
    ("a:b", "holds ':', which is a separator or control character on some system", None),
    ("a\x85b", "holds '\\x85', which is a separator or control character on some system", None),
    ("metadata.json", "artifact name 'metadata.json': metadata.json is written by the store", None),
    ("METADATA.json/x", "metadata.json is written by the store", None),
    ("/".join("a" * 33), "more than 32 parts", None),
    ("\u00e9/" + "/".join("a" * 32), "more than 32 parts", None),
    ("a//b", "holds an empty, '.' or '..' part", None),
    ("a/./b", "holds an empty, '.' or '..' part", None),
    ("../b", "holds an empty, '.' or '..' part", None),
    ("\u200c", "holds an empty, '.' or '..' part", None),
    ("a/" + "b" * 256, "a part is longer than 255 bytes", None),
    ("\u00e9" * 128, "a part is longer than 255 bytes", None),
    ("a./b", "a part ends in a dot or blank, which Windows drops", None),
    ("a/b ", "a part ends in a dot or blank, which Windows drops", None),
    ("a/.GIT/b", "git would take '.GIT' for its own", None),
    ("git~1", "git would take 'git~1' for its own", None),
    (".gitmodules", "git would take '.gitmodules' for its own", None),
    ("GITMOD~4", "git would take 'GITMOD~4' for its own", None),
    ("gi7eba~9", "git would take 'gi7eba~9' for its own", None),
    ("a/con", "'con' is a device on Windows", None),
    ("NUL.txt", "'NUL.txt' is a device on Windows", None),
    ("nul .txt", "'nul .txt' is a device on Windows", None),
    ("com\u00b2", "'com\u00b2' is a device on Windows", None),
]


@pytest.mark.parametrize(("name", "reason", "subject"), REASONS, ids=[str(n) for n in range(len(REASONS))])
def test_refused_artifact_name_tells_its_reason(name, reason, subject):
    with pytest.raises(InvalidNameError) as caught:
        check_artifact_name(name)
    assert caught.value.message.endswith(reason)
    assert caught.value.subject == (name if subject is None else subject)


@pytest.mark.parametrize(
    "name",
    [
        "/".join("a" * 32), "a" * 255, "\u00e9" * 127, "/".join(["a" * 203] * 5) + "/bcde", "a/metadata.json",
        "metadata.jsonx", "gitmod~5", "git~", "git~x", "xgit~1", "gi7eba~0", "gi7ebax~1", "contents", "com", "com10",
        "nul_", ".gitmodulesx", ".gitx", "a b/c d", "a.b.c", "...a", "a\u200cb",
    ],
)  # fmt: skip
def test_name_at_its_limits_is_accepted(name):
    check_artifact_name(name)


MEETING = [
    (("a", "a"), "artifact name 'a' is given twice", "a"),
    (("a", "A"), "artifact name 'A' is the same file as 'a' where case or Unicode form is ignored", "A"),
    (("a", "a/b"), "artifact name 'a/b' cannot stand beside 'a': one is a folder of the other", "a/b"),
    (("a/b", "a"), "artifact name 'a' cannot stand beside 'a/b': one is a folder of the other", "a"),
    (
        ("a/b", "A/c"),
        "artifact name 'A/c' spells a folder of 'a/b' differently, and some file systems ignore that",
        "A/c",
    ),
    (("x/a/b", "x/a/b"), "artifact name 'x/a/b' is given twice", "x/a/b"),
]


@pytest.mark.parametrize(("names", "message", "subject"), MEETING, ids=[str(n) for n in range(len(MEETING))])
def test_name_that_meets_another_tells_both_and_is_not_kept(names, message, subject):
    taken = ArtifactNames()
    taken.add(names[0])
    for refuse in (taken.check, taken.add):
        with pytest.raises(InvalidNameError) as caught:
            refuse(names[1])
        assert (caught.value.message, caught.value.subject) == (message, subject)
    taken.add("other")
    with pytest.raises(InvalidNameError):
        taken.check("other")


def test_checked_name_is_not_kept():
    taken = ArtifactNames()
    taken.check("a/b")
    taken.add("A/b")
    taken.check("A/c")


def test_refused_id_tells_what_it_is_and_why():
    for value, message in (
        (5, "ID must be text, not int"),
        ("", "ID is empty"),
        ("\ud800", "ID is not valid Unicode text (lone surrogate)"),
    ):
        for call in (lambda given: check_id(given, "ID"), escape_id):
            with pytest.raises(InvalidIdError) as caught:
                call(value)
            assert (caught.value.message, caught.value.subject) == (message, "ID")
    for call, subject in ((canonical_correlation_id, "correlation_id"), (prompt_tag, "prompt_hash")):
        with pytest.raises(InvalidIdError) as caught:
            call("")
        assert caught.value.subject == subject


def test_refused_revision_is_named():
    assert correlation_tag("x", 1) == "corr_x"
    assert correlation_tag("x", 2) == "corr_x@2"
    for revision in (0, -1):
        with pytest.raises(InvalidIdError) as caught:
            correlation_tag("x", revision)
        assert caught.value.subject == "revision"
        assert str(revision) in caught.value.message


def test_shortened_id_cannot_be_undone_and_says_where_the_whole_one_is():
    component = escape_id("x" * 101)
    with pytest.raises(InvalidIdError) as caught:
        unescape_id(component)
    assert (caught.value.kind, caught.value.subject) == ("id_not_reversible", component)
    assert "manifest" in caught.value.hint


@pytest.mark.parametrize(
    ("component", "subject"),
    [
        ("a b", "a b"),
        ("", ""),
        ("%C3", "%C3"),
        ("%61", "%61"),
        ("a%2", "a%2"),
        ("\ud800", "\\ud800"),
        ("\u00e9", "\u00e9"),
    ],
)
def test_component_that_is_never_written_is_refused(component, subject):
    with pytest.raises(InvalidIdError, match="not an escaped ID") as caught:
        unescape_id(component)
    assert (caught.value.kind, caught.value.subject) == (InvalidIdError("x", subject=None).kind, subject)


def test_refused_branch_name_tells_why():
    for branch in (None, 5, ""):
        with pytest.raises(InvalidNameError, match="non-empty text") as caught:
            check_branch_name(branch)
        assert caught.value.subject is None
    with pytest.raises(InvalidNameError, match="may have 244 bytes") as caught:
        check_branch_name("\u00e9" * 122 + "a")
    assert caught.value.subject == "\u00e9" * 122 + "a"
    assert check_branch_name("\u00e9" * 122) == "\u00e9" * 122
    with pytest.raises(InvalidNameError, match="git refuses 'a\\\\ud800'") as caught:
        check_branch_name("a\ud800")
    assert caught.value.subject == "a\\ud800"

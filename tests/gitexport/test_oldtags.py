"""Tags of the replaced system: on which commit each lies, and what ID and revision a commit has by them."""

from __future__ import annotations

import pytest

from cas.secretscan import Finding
from gitexport.importsummary import ImportSummary, Told
from gitexport.oldruns import OldMetadata
from gitexport.oldtags import OldTag, TagBook
from gitexport.refvalues import RefValue
from tests.store.stores import commit, open_store

C1, C2, T1 = "01" * 20, "02" * 20, "a1" * 20
LATIN = b"corr_caf\xe9".decode("utf-8", "surrogateescape")


def book(**refs):
    return TagBook({f"refs/tags/{name}": value for name, value in refs.items()})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("tags")) as opened:
        commit(opened, "stored")
        commit(opened, "stored", files={"a": b"2"})
        yield opened


@pytest.fixture
def identity(store):
    def identity(tags, commit_oid=C1, *, names=(), **said):
        with store.environment.read() as transaction:
            found = book(
                **{name: RefValue(commit_oid) for name in tags}, **dict.fromkeys(names, RefValue(C2))
            )
            return found.identity(transaction, commit_oid, found.of(commit_oid), OldMetadata(**said))

    return identity


def test_tags_are_found_by_the_commit_behind_them_in_name_order():
    found = book(
        prompt_p=RefValue(C1), corr_b=RefValue(T1, C1), corr_a=RefValue(C1), corr_c=RefValue(C2),
        release=RefValue(C1), corr=RefValue(C1),
    )  # fmt: skip
    assert found.of(C1) == [
        OldTag("corr_a", bytes.fromhex(C1), False),
        OldTag("corr_b", bytes.fromhex(T1), True),
        OldTag("prompt_p", bytes.fromhex(C1), False),
    ]
    assert found.of(C2) == [OldTag("corr_c", bytes.fromhex(C2), False)]
    assert found.of(T1) == []
    assert found.remarks(C1) == []


def test_tags_that_are_not_utf8_are_told_and_left_out():
    found = book(
        **{
            LATIN: RefValue(T1, C1),
            LATIN + "2": RefValue(C1),
            LATIN[5:]: RefValue(C1),
            "corr_a": RefValue(C1),
        }
    )
    assert [tag.name for tag in found.of(C1)] == ["corr_a"]
    assert found.remarks(C1) == [
        "tag corr_caf\\xe9 is not UTF-8 and stays in git alone",
        "tag corr_caf\\xe92 is not UTF-8 and stays in git alone",
    ]
    assert found.remarks(C2) == []


@pytest.mark.parametrize(
    ("tags", "said", "expected"),
    [
        (["corr_a"], {}, ("corr_a", 1)),
        (["corr_a"], {"correlation_id": "corr_a"}, ("corr_a", 1)),
        (["corr_a"], {"correlation_id": "a"}, ("a", 1)),
        (["corr_a", "corr_b"], {"correlation_id": "b"}, ("b", 1)),
        (["corr_a", "corr_b"], {"correlation_id": "z"}, ("corr_a", 1)),
        (["corr_a@2"], {}, ("corr_a", 2)),
        (["corr_a@2"], {"correlation_id": "a"}, ("a", 2)),
        (["corr_a", "corr_b@3"], {"correlation_id": "b"}, ("b", 3)),
        (["corr_a@4294967295"], {}, ("corr_a", 4294967295)),
        (["corr_a%20b"], {}, ("corr_a b", 1)),
        (["corr_a%20b"], {"correlation_id": "a b"}, ("a b", 1)),
    ],
)
def test_tagged_commit_has_the_id_that_its_tag_gives(identity, tags, said, expected):
    assert identity(tags, **said) == (*expected, None)


@pytest.mark.parametrize(
    "tag", ["corr_a@1", "corr_a@02", "corr_a@4294967296", "corr_a@x", "corr_a@\u0662", "corr_a@"]
)
def test_what_is_no_revision_is_part_of_the_id(identity, tag):
    correlation_id, revision, _ = identity([tag])
    assert (correlation_id.removeprefix("corr_"), revision) == (tag.removeprefix("corr_"), 1)


def test_tag_that_no_id_gives_leads_to_the_next_revision(identity):
    assert identity(["corr_100%"])[:2] == ("corr_100%", 1)
    assert identity(["corr_%41"])[1] == 1


def test_prompt_is_the_one_that_is_said_before_the_one_that_is_tagged(identity):
    assert identity(["corr_a", "prompt_p1", "prompt_p2"])[2] == "p1"
    assert identity(["corr_a", "prompt_p1"], prompt_hash="said")[2] == "said"
    assert identity(["corr_a", "prompt_"])[2] is None
    assert identity(["prompt_p1"], C1) == (f"git-{C1[:12]}", 1, "p1")
    assert identity([], C1, prompt_hash="said") == (f"git-{C1[:12]}", 1, "said")


def test_untagged_commit_has_what_it_says_as_its_next_revision(identity):
    assert identity([], correlation_id="new") == ("new", 1, None)
    assert identity([], correlation_id="stored") == ("stored", 3, None)


def test_untagged_commit_whose_tag_was_moved_away_has_a_name_beside(identity):
    assert identity([], correlation_id="a", names=["corr_a"]) == (f"a~{C1[:12]}", 1, None)
    assert identity([], correlation_id="a", names=["corr_b"]) == ("a", 1, None)
    # one that the store has already is continued, wherever the tag is now
    assert identity([], correlation_id="stored", names=["corr_stored"]) == ("stored", 3, None)


class Scanner:
    """Finds a credential in whatever holds the word."""

    def scan(self, data, name):
        assert name == ""
        return [b"found"] if b"hunter2" in data else []


def finding(line):
    return Finding("a.py", line, 1, "rule-x", "a password", "0" * 32)


def test_import_tells_everything_but_credentials():
    summary = ImportSummary()
    told = Told(summary, Scanner())
    told.refuse("wf/hunter2", "held hunter2")
    told.refuse("wf/t", "never held it")
    told.remark("wf/t", C1, "odd")
    told.remark("wf/u", C2, "hunter2 is odd")
    withheld = "(a text that holds a credential)"
    assert summary.refused == [
        {"branch": withheld, "reason": withheld},
        {"branch": "wf/t", "reason": "never held it"},
    ]
    assert summary.remarks == [
        {"branch": "wf/t", "commit": C1, "remark": "odd"},
        {"branch": "wf/u", "commit": C2, "remark": withheld},
    ]
    told.forget_remarks("wf/t")
    assert [item["branch"] for item in summary.remarks] == ["wf/u"]


def test_import_tells_each_finding_once_and_no_value():
    summary = ImportSummary()
    told = Told(summary, None)
    told.find("wf/hunter2", [finding(3), finding(3), finding(4)])
    told.find("wf/hunter2", [finding(4)])
    assert summary.findings == [
        {"branch": "wf/hunter2", "name": "a.py", "line": line, "rule": "rule-x"} for line in (3, 4)
    ]
    assert summary.as_dict() == {
        "branches": 0, "commits": 0, "present": 0, "files": 0, "raw_bytes": 0, "refused": [],
        "findings": summary.findings, "remarks": [], "dry_run": False, "duration_s": 0.0,
    }  # fmt: skip
    told = Told(ImportSummary(), Scanner())
    told.find("wf/hunter2", [finding(3)])
    assert told._summary.findings[0]["branch"] == "(a text that holds a credential)"

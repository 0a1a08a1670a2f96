"""Commits of the replaced system read as runs: what each says, what is left out, and what is said of that."""

from __future__ import annotations

import json

import pytest

from cas.errors import IntegrityError
from cas.objects import (
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_SUBMODULE,
    MODE_SYMLINK,
    MODE_TREE,
    TreeEntry,
    object_id,
    tree_bytes,
)
from gitexport.oldruns import (
    OldBranch,
    OldMetadata,
    OldRun,
    add_trees,
    parse_branch,
    parse_commit,
    parse_metadata,
    root_of,
    shown_name,
    texts_of,
)

OID = "ab" * 20
FILE = b"\x01" * 20
LATIN = b"caf\xe9".decode("utf-8", "surrogateescape")
LAST_S = 253_402_300_799


def commit(author="A Person <a@example.com> 17 +0100", committer="C <c@example.com> 19 -0230", *, tree=OID):
    message = "Add artifacts\n\nauthor X <x@y> 5 +0000\n\nend\n"
    return f"tree {tree}\nauthor {author}\ncommitter {committer}\n\n{message}".encode()


@pytest.mark.parametrize(
    ("name", "workflow", "task"),
    [
        ("ai/generated/wf/t", "wf", "t"),
        ("ai/generated/a%20b/x%2Fy", "a b", "x/y"),
        ("ai/generated/100%/t%zz", "100%", "t%zz"),
    ],
)
def test_branch_names_its_workflow_and_task(name, workflow, task):
    assert parse_branch(name, "ai/generated") == OldBranch(
        name, workflow, task, name.rpartition("/")[2].encode()
    )


@pytest.mark.parametrize(
    "name",
    [
        "ai/generated/wf",
        "ai/generated/wf/t/more",
        "wf/t",
        "ai/generated",
        "x/ai/generated/wf/t",
        "ai/generatedwf/t",
    ],
)
def test_branch_of_another_form_is_none_of_ours(name):
    assert parse_branch(name, "ai/generated") == "the name has not the form ai/generated/<workflow>/<task>"


def test_branch_whose_name_is_not_utf8_is_told_as_such():
    assert parse_branch(f"ai/{LATIN}/t", "ai") == "the name is not UTF-8, and a run's IDs are"
    assert shown_name(LATIN) == "caf\\xe9"
    assert shown_name("café") == "café"


def test_commit_gives_its_author_and_the_time_of_its_committer():
    data = commit()
    run = parse_commit(OID, data)
    assert run == OldRun(bytes.fromhex(OID), data, "A Person", "a@example.com", 19_000_000)
    assert root_of(run) == OID


@pytest.mark.parametrize(
    ("author", "name", "email"),
    [
        ("<a@b> 1 +0000", "unknown", "a@b"),
        ("  Ann   < a@b > 1 +0000", "Ann", "a@b"),
        ("Ann <> 1 +0000", "Ann", ""),
        ("<> 1 +0000", "unknown", ""),
    ],
)
def test_author_without_name_or_address_is_taken_as_it_is(author, name, email):
    run = parse_commit(OID, commit(author))
    assert (run.author_name, run.author_email) == (name, email)


def test_author_in_another_encoding_is_read_with_marks():
    run = parse_commit(OID, commit().replace(b"A Person <a@", b"Ren\xe9 <\xe9@"))
    assert (run.author_name, run.author_email) == ("Ren\ufffd", "\ufffd@example.com")


def test_commit_without_a_committer_has_its_author_s_time():
    run = parse_commit(OID, b"tree x\nauthor A <a> 17 +0000\n\ncommitter B <b> 5 +0000\n")
    assert (run.created_at_us, run.remarks) == (17_000_000, [])


def test_commit_without_a_readable_author_is_damage():
    for data in (
        b"tree x\ncommitter A <a> 17 +0000\n\nm",
        b"tree x\nauthor nobody\n\nauthor A <a> 17 +0000\n",
    ):
        with pytest.raises(IntegrityError, match=f"commit {OID} has no readable author") as caught:
            parse_commit(OID, data)
        assert caught.value.subject == OID


@pytest.mark.parametrize(
    ("seconds", "shown_s"),
    [(0, 0), (1, 1), (LAST_S, LAST_S), (-1, 0), (LAST_S + 1, LAST_S), (10**24, LAST_S)],
)
def test_time_that_is_no_date_is_moved_to_the_next_one_with_a_remark(seconds, shown_s):
    run = parse_commit(OID, commit(committer=f"C <c> {seconds} +0000"))
    assert run.created_at_us == shown_s * 1_000_000
    remark = f"its time, {seconds}, is no date of the years 1970 to 9999"
    assert run.remarks == ([] if seconds == shown_s else [remark])


class Trees:
    """Tree objects by their ids, as git would hold them."""

    def __init__(self):
        self.objects = {}

    def add(self, *entries):
        data = tree_bytes([TreeEntry(*entry) for entry in entries])
        oid = object_id("tree", data)
        self.objects[oid.hex()] = data
        return oid

    def run(self, *entries, beside=()):
        """A run whose task's folder holds some entries."""
        self.task = self.add(*entries)
        self.other = self.add((MODE_FILE, b"x", FILE))
        self.codes = self.add((MODE_TREE, b"t", self.task), (MODE_TREE, b"u", self.other))
        self.backtest = self.add((MODE_TREE, b"codes", self.codes))
        self.root = self.add((MODE_TREE, b"Backtest", self.backtest), *beside)
        run = parse_commit(OID, commit(tree=self.root.hex()))
        add_trees(run, b"t", self.objects, "sha1")
        return run

    def named(self, *oids):
        return tuple(self.objects[oid.hex()] for oid in oids)


@pytest.fixture
def trees():
    return Trees()


def test_run_has_the_files_of_its_task_and_the_trees_down_to_them(trees):
    deeper = trees.add((MODE_FILE, b"y", b"\x06" * 20))
    deep = trees.add((MODE_FILE, b"x.csv", b"\x02" * 20), (MODE_TREE, b"er", deeper))
    run = trees.run(
        (MODE_FILE, b"a.py", FILE),
        (MODE_TREE, b"deep", deep),
        (MODE_FILE, b"metadata.json", b"\x03" * 20),
        (MODE_EXECUTABLE, b"run.sh", b"\x04" * 20),
        beside=[(MODE_FILE, b"README", FILE)],
    )
    assert run.files == {
        "a.py": FILE,
        "deep/er/y": b"\x06" * 20,
        "deep/x.csv": b"\x02" * 20,
        "run.sh": b"\x04" * 20,
    }
    assert run.metadata_oid == b"\x03" * 20
    assert run.remarks == []
    assert run.trees == trees.named(trees.root, trees.backtest, trees.codes, trees.task, deep, deeper)


def test_tree_that_occurs_twice_is_held_once(trees):
    same = trees.add((MODE_FILE, b"x", FILE))
    run = trees.run((MODE_TREE, b"a", same), (MODE_TREE, b"b", same))
    assert run.files == {"a/x": FILE, "b/x": FILE}
    assert run.trees == trees.named(trees.root, trees.backtest, trees.codes, trees.task, same)


def test_what_is_no_file_or_has_no_name_for_one_is_told(trees):
    run = trees.run(
        (MODE_FILE, b"CON", FILE),
        (MODE_FILE, b"caf\xe9", FILE),
        (MODE_TREE, b"lost", b"\x07" * 20),
        (MODE_SYMLINK, b"metadata.json", FILE),
        (MODE_SUBMODULE, b"module", trees.add((MODE_FILE, b"x", FILE))),
        (MODE_FILE, b"ok", FILE),
        (MODE_FILE, "\u00fc".encode(), FILE),
    )
    assert run.files == {"ok": FILE, "ü": FILE}
    assert run.metadata_oid is None
    assert run.remarks == [
        "'CON' is no name for an artifact",
        r"'caf\\xe9' is no name for an artifact",
        "'lost' is no regular file",
        "'metadata.json' is no regular file",
        "'module' is no regular file",
    ]


def test_names_that_meet_on_some_file_system_are_told_apart_by_who_came_first(trees):
    run = trees.run((MODE_FILE, b"A.csv", FILE), (MODE_FILE, b"a.csv", FILE))
    assert run.files == {"A.csv": FILE}
    assert run.remarks == ["'a.csv' is no name for an artifact"]


def test_submodule_in_the_place_of_the_metadata_is_none(trees):
    run = trees.run((MODE_SUBMODULE, b"metadata.json", FILE))
    assert (run.metadata_oid, run.remarks) == (None, ["'metadata.json' is no regular file"])


def test_run_whose_folder_is_not_there_has_the_trees_that_are(trees):
    backtest = trees.add((MODE_TREE, b"other", trees.add()))
    root = trees.add((MODE_TREE, b"Backtest", backtest))
    run = parse_commit(OID, commit(tree=root.hex()))
    add_trees(run, b"t", trees.objects, "sha1")
    assert (run.trees, run.files) == (trees.named(root, backtest), {})
    file_root = trees.add((MODE_FILE, b"Backtest", FILE))
    run = parse_commit(OID, commit(tree=file_root.hex()))
    add_trees(run, b"t", trees.objects, "sha1")
    assert run.trees == trees.named(file_root)


def test_run_whose_root_is_missing_is_damage(trees):
    run = parse_commit(OID, commit(tree="cd" * 20))
    with pytest.raises(IntegrityError, match=f"the tree of commit {OID} is missing") as caught:
        add_trees(run, b"t", trees.objects, "sha1")
    assert caught.value.subject == "cd" * 20


def test_run_of_sha256_is_read_by_the_length_of_its_ids(trees):
    data = {}
    below = b""
    for name in (b"x", b"t", b"codes", b"Backtest"):
        mode = MODE_FILE if name == b"x" else MODE_TREE
        tree = tree_bytes([TreeEntry(mode, name, below or b"\x05" * 32)])
        below = object_id("tree", tree, "sha256")
        data[below.hex()] = tree
    run = parse_commit("ab" * 32, commit(tree=below.hex()))
    add_trees(run, b"t", data, "sha256")
    assert run.files == {"x": b"\x05" * 32}
    assert (
        texts_of(OldBranch("b", "w", "t", b"t"), run, {}, "sha256")["names in trees"]
        == b"Backtest\ncodes\nt\nx"
    )


def test_texts_are_all_that_a_commit_says_besides_its_files(trees):
    run = trees.run((MODE_FILE, b"a.py", FILE), beside=[(MODE_FILE, b"caf\xe9", FILE)])
    branch = OldBranch("ai/generated/w/t", "w", "t", b"t")
    tags = {"corr_a": b"object x\ntag corr_a\n\nsaid here\n", "corr_b": None}
    assert texts_of(branch, run, tags, "sha1") == {
        "commit message": b"Add artifacts\n\nauthor X <x@y> 5 +0000\n\nend\n\nsaid here\n",
        "ids": b"ai/generated/w/t\nw\nt\ncorr_a\ncorr_b\nA Person\na@example.com",
        "names in trees": b"Backtest\ncaf\xe9\ncodes\nt\nu\na.py",
    }
    named = texts_of(OldBranch(LATIN, "w", "t", b"t"), run, {}, "sha1")
    assert named["ids"].startswith(b"caf\xe9\nw\n")


def test_metadata_is_taken_without_what_the_store_says_itself():
    document = {
        "workflow_id": "w", "task_id": "t", "correlation_id": "corr_1", "prompt_hash": "p" * 16,
        "commit_timestamp": "2025", "files": ["a"], "agent_version": "v1", "empty": None, "own": [1, 2],
    }  # fmt: skip
    said = parse_metadata(json.dumps(document).encode(), 10_000)
    assert said == OldMetadata("corr_1", "p" * 16, b'{"agent_version":"v1","own":[1,2]}', None)


@pytest.mark.parametrize(
    ("data", "remark"),
    [
        (None, "there is no metadata.json"),
        (b"{", "metadata.json is not JSON"),
        (b"\xff\xfe\xff", "metadata.json is not JSON"),
        (b"[" * 200_000, "metadata.json is not JSON"),
        (b"[1]", "metadata.json is not a JSON object"),
        (b"null", "metadata.json is not a JSON object"),
    ],
)
def test_metadata_that_says_nothing_is_told(data, remark):
    assert parse_metadata(data, 10_000) == OldMetadata(None, None, b"{}", remark)


def test_metadata_with_numbers_json_does_not_have_loses_those():
    said = parse_metadata(b'{"a": NaN, "b": [Infinity, 1], "correlation_id": 5, "prompt_hash": ""}', 10_000)
    assert said == OldMetadata(None, None, b'{"b":[null,1]}', None)


def test_metadata_beyond_the_limit_is_left_out_and_its_ids_are_not():
    said = parse_metadata(json.dumps({"correlation_id": "c", "long": "x" * 100}).encode(), 50)
    assert (said.correlation_id, said.metadata) == ("c", b"{}")
    assert "50" in said.remark

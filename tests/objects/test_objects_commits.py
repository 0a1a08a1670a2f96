"""Commits and annotated tags, as git writes and checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cas.errors import InvalidInputError
from cas.objects import MODE_FILE, Person, build_tree, commit_bytes, object_id, tag_bytes

if TYPE_CHECKING:
    from tests.objects.conftest import ScratchRepository

BOT = Person("algo-agent-bot", "algo-agent@example.com")
MESSAGE = "Add artifacts for wf/task\n\nWorkflow: wf\n"
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80)


def _environment(person: Person, timestamp_s: int) -> dict[str, str]:
    return {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", person.name), ("EMAIL", person.email), ("DATE", f"{timestamp_s} +0000"))
    }


@settings(max_examples=25, deadline=None)
@given(message=TEXT, timestamp_s=st.integers(100_000_000, 4_000_000_000), parent_count=st.integers(0, 3))
def test_commit_bytes_any_message_is_what_commit_tree_writes(
    repository: ScratchRepository, message: str, timestamp_s: int, parent_count: int
) -> None:
    object_format = repository.object_format
    tree = bytes.fromhex(repository.write("tree", b""))
    person = Person("Zoë Ünder-Test", "zoe@example.com")
    parents = [
        bytes.fromhex(repository.write("commit", commit_bytes(tree, [], BOT, at, MESSAGE)))
        for at in range(parent_count)
    ]
    args = [arg for parent in parents for arg in ("-p", parent.hex())]
    env = _environment(person, timestamp_s)
    oid = repository.git("commit-tree", tree.hex(), *args, stdin=message.encode(), env=env).decode().strip()
    data = commit_bytes(tree, parents, person, timestamp_s, message)
    assert data == repository.git("cat-file", "commit", oid)
    assert object_id("commit", data, object_format).hex() == oid


@settings(max_examples=25, deadline=None)
@given(message=TEXT, timestamp_s=st.integers(0, 4_000_000_000), revision=st.integers(1, 12))
def test_tag_bytes_any_message_is_what_mktag_writes(
    repository: ScratchRepository, message: str, timestamp_s: int, revision: int
) -> None:
    tree = bytes.fromhex(repository.write("tree", b""))
    target = bytes.fromhex(repository.write("commit", commit_bytes(tree, [], BOT, 7, MESSAGE)))
    data = tag_bytes(target, "commit", f"corr_a%2Fb@{revision}", BOT, timestamp_s, message)
    oid = repository.git("mktag", "--strict", stdin=data).decode().strip()
    assert object_id("tag", data, repository.object_format).hex() == oid


@pytest.mark.parametrize("timestamp_s", [0, 1, 1_762_525_800, 2**31, 2**63 - 1])
def test_objects_whole_run_passes_fsck(fresh_repository: ScratchRepository, timestamp_s: int) -> None:
    object_format = fresh_repository.object_format
    blob = object_id("blob", b"x", object_format)
    assert fresh_repository.write("blob", b"x") == blob.hex()
    names = ["strategy.py", "metadata.json", "plots/a b.png", "é"]
    root, trees = build_tree({f"Backtest/codes/t/{name}": (MODE_FILE, blob) for name in names}, object_format)
    for tree in trees:
        assert fresh_repository.write("tree", tree.data) == tree.oid.hex()
    first = commit_bytes(root, [], BOT, timestamp_s, MESSAGE)
    second = commit_bytes(root, [object_id("commit", first, object_format)], BOT, timestamp_s, "")
    for data in (first, second):
        assert fresh_repository.write("commit", data) == object_id("commit", data, object_format).hex()
    target = object_id("commit", second, object_format)
    tag = tag_bytes(target, "commit", "corr_x", BOT, timestamp_s, "corr_x\n")
    oid = fresh_repository.write("tag", tag)
    fresh_repository.git("update-ref", "refs/tags/corr_x", oid)
    fresh_repository.fsck()
    assert fresh_repository.git("rev-parse", "corr_x^{commit}").decode().strip() == target.hex()


def test_commit_bytes_form_is_pinned() -> None:
    # The ids of everybody's commits follow from these bytes: another result is a change of format.
    tree = bytes.fromhex("4b825dc642cb6eb9a060e54bf8d69288fbee4904")
    data = commit_bytes(tree, [b"\x11" * 20], BOT, 1_762_525_800, MESSAGE, "-----A\n\nb\n-----Z\n")
    assert data.decode() == (
        "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n"
        f"parent {'11' * 20}\n"
        "author algo-agent-bot <algo-agent@example.com> 1762525800 +0000\n"
        "committer algo-agent-bot <algo-agent@example.com> 1762525800 +0000\n"
        "gpgsig -----A\n \n b\n -----Z\n"
        "\n"
        "Add artifacts for wf/task\n\nWorkflow: wf\n"
    )


def test_tag_bytes_form_is_pinned() -> None:
    assert tag_bytes(b"\x22" * 32, "commit", "corr_x@2", BOT, 5, "m\n").decode() == (
        f"object {'22' * 32}\ntype commit\ntag corr_x@2\n"
        "tagger algo-agent-bot <algo-agent@example.com> 5 +0000\n\nm\n"
    )


@pytest.mark.parametrize(
    ("person", "timestamp_s", "message"),
    [
        (Person("", "a@b"), 0, ""),
        (Person(" ", "a@b"), 0, ""),
        (Person("a<", "a@b"), 0, ""),
        (Person("a", "a@b>"), 0, ""),
        (Person("a\nb", "a@b"), 0, ""),
        (Person("a", ""), 0, ""),
        (Person("a\ud800", "a@b"), 0, ""),
        (BOT, -1, ""),
        (BOT, 2**63, ""),
        (BOT, 0, "a\0b"),
        (BOT, 0, "\udfff"),
    ],
)
def test_commit_and_tag_bytes_what_git_refuses_is_refused(
    person: Person, timestamp_s: int, message: str
) -> None:
    with pytest.raises(InvalidInputError):
        commit_bytes(b"\x01" * 20, [], person, timestamp_s, message)
    with pytest.raises(InvalidInputError):
        tag_bytes(b"\x01" * 20, "commit", "t", person, timestamp_s, message)


@pytest.mark.parametrize("parents", [[b"\x01" * 32], [b"\x01" * 19], [b""]])
def test_commit_bytes_oids_of_mixed_size_are_refused(parents: list[bytes]) -> None:
    with pytest.raises(InvalidInputError):
        commit_bytes(b"\x01" * 20, parents, BOT, 0, "")


@settings(max_examples=60, deadline=None)
@given(name=st.text(st.sampled_from("ab.-@{/~^ %lock\n"), max_size=8))
def test_tag_bytes_name_is_accepted_only_if_git_accepts_it(repository: ScratchRepository, name: str) -> None:
    try:
        tag_bytes(b"\x01" * 20, "commit", name, BOT, 0, "")
    except InvalidInputError:
        return
    assert repository.run("check-ref-format", f"refs/tags/{name}")[0] == 0


def test_tag_bytes_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        tag_bytes(b"\x01" * 20, "note", "t", BOT, 0, "")

"""Branch, tag and folder names of any ID, as git itself judges them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cas.names import branch_name, correlation_tag, prompt_tag, task_directory
from tests.names.ids import IDS

if TYPE_CHECKING:
    from tests.names.conftest import RunGit

ALWAYS = [
    "@",
    "-",
    ".",
    "..",
    "a.lock",
    "HEAD",
    "con",
    "\0",
    "\n",
    "a",
    "a/b",
    "a/b/c",
    "a.",
    ".git",
    "git~1",
    "@{-1}",
]
GIT_SETTINGS = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def _refs(ids: list[str]) -> set[str]:
    """Every kind of name that these IDs lead to, as full refs."""
    branches = {branch_name("ai/generated", a, b) for a, b in zip(ids, reversed(ids), strict=True)}
    branches |= {branch_name("ai/generated", ids[0], each) for each in ids}
    tags = {correlation_tag(each, revision) for each in ids for revision in (1, 2, 10)}
    tags |= {prompt_tag(each) for each in ids}
    return {f"refs/heads/{name}" for name in branches} | {f"refs/tags/{name}" for name in tags}


@GIT_SETTINGS
@given(st.lists(IDS, min_size=1, max_size=60, unique=True))
def test_names_any_ids_git_takes_all_refs_in_one_transaction(names_git: RunGit, ids: list[str]) -> None:
    refs = _refs(ALWAYS + [each for each in ids if each not in ALWAYS])
    blob = names_git("hash-object", "-w", "--stdin", stdin=b"x").decode().strip()
    commit = _commit(names_git)
    creates = [f"create {ref} {commit if ref.startswith('refs/heads/') else blob}\n" for ref in sorted(refs)]
    # 'prepare' takes every lock and checks every name and folder conflict, 'abort' leaves nothing behind.
    script = "".join(["start\n", *creates, "prepare\n", "abort\n"])
    assert names_git("update-ref", "--stdin", stdin=script.encode()) == b"start: ok\nprepare: ok\nabort: ok\n"


@GIT_SETTINGS
@given(st.lists(IDS, min_size=1, max_size=60, unique=True))
def test_task_directory_any_ids_pass_fsck_as_tree_entries(names_git: RunGit, ids: list[str]) -> None:
    names = {task_directory(each) for each in ALWAYS + ids}
    blob = names_git("hash-object", "-w", "--stdin", stdin=b"x").decode().strip()
    lines = "".join(f"100644 blob {blob}\t{name}\0" for name in sorted(names))
    tree = names_git("mktree", "-z", stdin=lines.encode()).decode().strip()
    names_git("-c", "core.protectNTFS=true", "-c", "core.protectHFS=true", "fsck", "--strict", tree)


def test_names_branch_of_any_id_passes_check_ref_format(names_git: RunGit) -> None:
    for each in ALWAYS:
        branch = branch_name("ai/generated", each, each)
        assert names_git("check-ref-format", "--branch", branch).decode() == branch + "\n"


def _commit(names_git: RunGit) -> str:
    tree = names_git("mktree").decode().strip()
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    return names_git(*identity, "commit-tree", tree, "-m", "x").decode().strip()

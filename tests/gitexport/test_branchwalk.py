"""Histories that another program made: which commits of a branch are runs, and the trees below them."""

from __future__ import annotations

import subprocess

import pytest

from cas.errors import GitCommandFailedError, InvalidInputError
from gitexport.branchwalk import (
    History,
    artifact_roots,
    branches_below,
    path_trees,
    read_history,
    read_objects,
    read_trees,
)
from gitexport.repository import GitRepository
from tests.gitexport.refplaces import CLEAN, git


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    return GitRepository.create_bare(tmp_path_factory.mktemp("walk") / "repo.git")


def blob(repo, text):
    return git(repo.path, "hash-object", "-w", "--stdin", stdin=text)


def tree(repo, **entries):
    """Write a tree; a value with a slash before it is a tree's id, another one a file's text."""
    lines = [
        f"040000 tree {value[1:]}\t{name}"
        if value.startswith("/")
        else f"100644 blob {blob(repo, value)}\t{name}"
        for name, value in entries.items()
    ]
    return git(repo.path, "mktree", stdin="".join(f"{line}\n" for line in lines))


def commit(repo, codes, *parents, **beside):
    """Commit task folders, each with one file of the given text; None stands for no artifact root at all."""
    entries = dict(beside)
    if codes is not None:
        folders = {name: "/" + tree(repo, f=text) for name, text in codes.items()}
        entries["Backtest"] = "/" + tree(repo, codes="/" + tree(repo, **folders))
    words = [word for parent in parents for word in ("-p", parent)]
    return git(repo.path, "commit-tree", tree(repo, **entries), *words, stdin="m")


@pytest.fixture(scope="module")
def line(repo):
    """A line of commits: main, then runs of a, b and a again, a note in between."""
    main = commit(repo, None, README="x")
    first = commit(repo, {"a": "1"}, main)
    second = commit(repo, {"a": "1", "b": "1"}, first)
    note = commit(repo, {"a": "1", "b": "1"}, second, NOTE="n")
    third = commit(repo, {"a": "2", "b": "1"}, note)
    return main, first, second, note, third


def test_history_tells_what_each_commit_changed(repo, line):
    main, first, second, note, third = line
    history = read_history(repo, [third, second])
    assert history.parents == {third: note, note: second, second: first, first: main, main: None}
    assert next(iter(history.parents)) == third
    assert history.changed == {first: {b"a"}, second: {b"b"}, third: {b"a"}}
    assert history.depth == {main: 0, first: 1, second: 2, note: 2, third: 3}
    assert history.cut == frozenset()
    assert read_history(repo, []) == History({}, {}, {})


def test_history_follows_first_parents_alone(repo, line):
    main, first, second, *_ = line
    side = commit(repo, {"c": "1"}, main)
    merge = commit(repo, {"a": "1", "b": "1", "c": "1"}, second, side)
    history = read_history(repo, [merge])
    assert history.parents == {merge: second, second: first, first: main, main: None}
    assert history.changed[merge] == {b"c"}


def test_folder_that_is_removed_or_replaced_by_a_file_is_changed(repo, line):
    main, first, *_ = line
    removed = commit(repo, None, first)
    blocked = git(
        repo.path,
        "commit-tree",
        tree(repo, Backtest="/" + tree(repo, codes="a file")),
        "-p",
        first,
        stdin="m",
    )
    history = read_history(repo, [removed, blocked])
    assert history.changed == {first: {b"a"}, removed: {b"a"}, blocked: {b"a"}}
    assert artifact_roots(repo, [removed, main, blocked, first, first]) == {
        removed: None, main: None, blocked: None, first: git(repo.path, "rev-parse", f"{first}:Backtest/codes"),
    }  # fmt: skip


def test_first_commit_of_all_may_be_a_run(repo):
    root = commit(repo, {"a": "7"})
    history = read_history(repo, [root])
    assert (history.changed, history.depth) == ({root: {b"a"}}, {root: 1})
    assert history.own_commits(root, b"a") == [root]


def test_history_of_what_is_no_commit_is_an_error(repo):
    with pytest.raises(GitCommandFailedError):
        read_history(repo, ["1" * 40])


def test_own_commits_end_at_the_oldest_that_changed_the_folder(repo, line):
    main, first, second, note, third = line
    history = read_history(repo, [third])
    assert history.own_commits(third, b"a") == [first, second, note, third]
    assert history.own_commits(third, b"b") == [second, note, third]
    assert history.own_commits(note, b"b") == [second, note]
    assert history.own_commits(third, b"c") == []
    assert history.own_commits(main, b"a") == []


def test_walk_ends_where_no_task_was_changed_below():
    """What lies below the last change is not walked: a repository's main history may be long."""
    history = History({"c": "b", "b": "a", "a": None}, {"c": {b"t"}}, {"c": 1, "b": 0, "a": 0})
    assert history.own_commits("c", b"t") == ["c"]
    assert history.own_commits("unknown", b"t") == []


def test_flaw_names_what_is_missing():
    history = History({}, {}, {}, frozenset({"c" * 40}))
    assert history.flaw(["d" * 40, "c" * 40], b"t") is None
    assert history.flaw([], b"caf\xe9") == "it never held Backtest/codes/caf\ufffd"
    assert history.flaw(["c" * 40], b"t") == (
        f"a shallow clone hides what lies below {'c' * 12}: `git fetch --unshallow` first"
    )


def test_commits_whose_parents_a_shallow_clone_hides_are_known(repo, tmp_path):
    copy = GitRepository.create_bare(tmp_path / "copy.git")
    (copy.common_dir / "shallow").write_text(f"{'1' * 40}\n{'2' * 40}\n")
    (copy.common_dir / "objects" / "info" / "alternates").write_text(f"{repo.common_dir / 'objects'}\n")
    root = commit(repo, {"a": "7"})
    (copy.common_dir / "shallow").write_text(f"{root}\n")
    assert read_history(copy, [root]).cut == {root}


def test_branches_below_a_prefix_are_told_with_their_tips(tmp_path, repo, line):
    copy = GitRepository.create_bare(tmp_path / "a copy.git")
    (copy.common_dir / "objects" / "info" / "alternates").write_text(f"{repo.common_dir / 'objects'}\n")
    main, first, *_ = line
    git(copy.path, "update-ref", "refs/heads/main", main)
    git(copy.path, "update-ref", "refs/remotes/up/other/x", first)
    assert branches_below(copy, "ai/generated") == {}
    git(copy.path, "update-ref", "refs/remotes/up/ai/generated/w/t", first)
    git(copy.path, "update-ref", "refs/remotes/up/ai/generated/w/u", first)
    with pytest.raises(InvalidInputError) as caught:
        branches_below(copy, "ai/generated")
    assert caught.value.message == (
        f"{copy.path} itself has no branch below ai/generated; 2 are only known of a remote"
    )
    assert caught.value.subject == "ai/generated"
    assert caught.value.hint.endswith(
        f"git -C '{copy.path}' fetch up 'refs/heads/ai/generated/*:refs/heads/ai/generated/*'"
    )
    git(copy.path, "update-ref", "refs/heads/ai/generated/w/t", first)
    assert branches_below(copy, "ai/generated") == {"ai/generated/w/t": first}


def test_objects_are_read_once_each_with_their_kinds(repo):
    one, two = blob(repo, "one"), tree(repo, f="x")
    missing = "1" * 40
    assert list(read_objects(repo, [one, two, one, missing])) == [
        (one, "blob", b"one"),
        (two, "tree", b"100644 f\0" + bytes.fromhex(blob(repo, "x"))),
        (missing, "missing", b""),
    ]
    assert read_trees(repo, [one, two, missing]).keys() == {two}
    assert read_trees(repo, []) == {}


def test_many_objects_are_read_in_parts(repo):
    oids = [f"{number:040x}" for number in range(2001)]
    one = blob(repo, "one")
    found = list(read_objects(repo, [*oids, one]))
    assert [oid for oid, _, _ in found] == [*oids, one]
    assert found[-1] == (one, "blob", b"one")


def test_trees_of_a_path_are_those_down_to_the_folder_and_all_below(repo):
    deepest = tree(repo, f="1")
    deep = tree(repo, e="/" + deepest)
    task, other = tree(repo, d="/" + deep, f="2"), tree(repo, f="3")
    codes = tree(repo, t="/" + task, u="/" + other)
    backtest = tree(repo, codes="/" + codes, data="/" + other)
    root, bare = tree(repo, Backtest="/" + backtest, lib="/" + other), tree(repo, README="x")
    wanted = path_trees(repo, [root, bare], {root: [b"t"], bare: [b"t"]})
    assert wanted.keys() == {root, bare, backtest, codes, task, deep, deepest}
    assert wanted[task] == read_trees(repo, [task])[task]
    assert path_trees(repo, [root], {root: [b"x"]}).keys() == {root, backtest, codes}
    assert path_trees(repo, ["1" * 40], {"1" * 40: [b"t"]}) == {}
    second = tree(repo, Backtest="/" + backtest)
    both = path_trees(repo, [root, second], {root: [b"t"], second: [b"u"]})
    assert both.keys() == {root, second, backtest, codes, task, deep, deepest, other}


@pytest.mark.parametrize("lost", ["backtest", "codes", "task"])
def test_tree_that_is_missing_ends_its_path(tmp_path, lost):
    repo = GitRepository.create_bare(tmp_path / "r.git")
    task = tree(repo, f="x")
    codes = tree(repo, t="/" + task)
    backtest = tree(repo, codes="/" + codes)
    root = tree(repo, Backtest="/" + backtest)
    trees = {"root": root, "backtest": backtest, "codes": codes, "task": task}
    oid = trees[lost]
    (repo.common_dir / "objects" / oid[:2] / oid[2:]).unlink()
    above = list(trees.values())[: list(trees).index(lost)]
    assert path_trees(repo, [root], {root: [b"t"]}).keys() == set(above)


def test_folder_of_that_name_that_is_a_file_is_no_tree(repo):
    codes = tree(repo, t="a file")
    root = tree(repo, Backtest="/" + tree(repo, codes="/" + codes))
    assert path_trees(repo, [root], {root: [b"t"]}).keys() == {
        root,
        codes,
        tree(repo, codes="/" + codes),
    }


def test_repository_of_sha256_is_walked_by_its_own_ids(tmp_path):
    repo = GitRepository.create_bare(tmp_path / "r.git", "sha256")
    first = commit(repo, {"a": "1"})
    second = commit(repo, {"a": "2"}, first)
    assert read_history(repo, [second]).own_commits(second, b"a") == [first, second]
    root = git(repo.path, "rev-parse", f"{second}^{{tree}}")
    assert len(path_trees(repo, [root], {root: [b"a"]})) == 4
    assert (
        subprocess.run(["git", "cat-file", "-e", root], cwd=repo.path, env=CLEAN, check=False).returncode == 0
    )

"""Tips of branches as a rollback needs them: what is kept beside the artifacts, and what is refused."""

from __future__ import annotations

import pytest

from cas import ArtifactStoreConfig
from cas.errors import ConflictError, GitCommandFailedError, IntegrityError, NotFoundError
from cas.gitreader import BranchTip
from cas.objects import MODE_FILE, MODE_TREE, TreeEntry
from gitexport.branchreader import BranchReader
from gitexport.repository import GitRepository
from tests.gitexport.refplaces import git


def tip(repo, branch="main", path=None):
    return BranchReader(ArtifactStoreConfig(repo_path=repo.path)).branch_tip(path or repo.path, branch)


def tree(repo, *lines):
    return git(repo.path, "mktree", stdin="".join(f"{line}\n" for line in lines))


def commit(repo, root, branch="main"):
    oid = git(repo.path, "commit-tree", root, stdin="m")
    git(repo.path, "update-ref", f"refs/heads/{branch}", oid)
    return oid


@pytest.fixture
def file(repo):
    return git(repo.path, "hash-object", "-w", "--stdin", stdin="x")


def test_tip_is_told_without_the_artifacts(repo, file):
    codes = tree(repo, f"100644 blob {file}\tf")
    backtest = tree(repo, f"040000 tree {codes}\tcodes", f"100644 blob {file}\tengine.py")
    oid = commit(repo, tree(repo, f"040000 tree {backtest}\tBacktest", f"100644 blob {file}\tREADME"))
    raw = bytes.fromhex(file)
    assert tip(repo) == BranchTip(
        commit_oid=bytes.fromhex(oid),
        object_format="sha1",
        root_entries=(TreeEntry(MODE_FILE, b"README", raw),),
        backtest_entries=(TreeEntry(MODE_FILE, b"engine.py", raw),),
        artifact_root=bytes.fromhex(codes),
    )


def test_tip_without_artifacts_keeps_all_it_has(repo, file):
    inner = tree(repo, f"100644 blob {file}\tengine.py")
    commit(repo, tree(repo, f"100644 blob {file}\tREADME"))
    commit(repo, tree(repo, f"040000 tree {inner}\tBacktest"), "half")
    found = tip(repo)
    assert ([entry.name for entry in found.root_entries], found.backtest_entries) == ([b"README"], ())
    assert found.artifact_root is None
    half = tip(repo, "half")
    assert half.root_entries == ()
    assert [entry.name for entry in half.backtest_entries] == [b"engine.py"]
    assert half.artifact_root is None
    assert all(entry.mode != MODE_TREE for entry in half.backtest_entries)


def test_branch_or_repository_that_is_not_there_has_no_tip(repo, file, tmp_path):
    commit(repo, tree(repo, f"100644 blob {file}\tREADME"))
    git(repo.path, "update-ref", "refs/tags/other", "refs/heads/main")
    assert tip(repo, "other") is None
    (tmp_path / "empty").mkdir()
    assert tip(repo, path=tmp_path / "empty") is None
    assert tip(repo, path=tmp_path / "missing") is None


def test_repository_that_git_refuses_is_an_error(repo):
    git(repo.path, "config", "remote.origin.promisor", "true")
    with pytest.raises(GitCommandFailedError) as caught:
        tip(repo)
    assert caught.value.kind == "partial_clone"


@pytest.mark.parametrize("path", ["Backtest", "Backtest/codes"])
def test_file_in_the_place_of_the_artifacts_is_refused(repo, file, path):
    entry = f"100644 blob {file}\t{path.rpartition('/')[2]}"
    root = tree(repo, entry if "/" not in path else f"040000 tree {tree(repo, entry)}\tBacktest")
    commit(repo, root)
    with pytest.raises(ConflictError) as caught:
        tip(repo)
    assert caught.value.message == (f"branch main has a file {path}, where the artifacts' folder has to be")
    assert caught.value.subject == "main"


def test_branch_at_what_is_no_commit_is_damage(repo, file):
    path = repo.common_dir / "refs" / "heads" / "main"
    tag = git(
        repo.path, "hash-object", "-t", "tag", "-w", "--stdin",
        stdin=f"object {file}\ntype blob\ntag t\ntagger a <a@b> 1 +0000\n\nm\n",
    )  # fmt: skip
    for oid in (file, tag):
        path.write_text(f"{oid}\n")
        with pytest.raises(IntegrityError, match=f"git object {oid} is not a commit") as caught:
            tip(repo)
        assert caught.value.subject == oid


def test_tree_that_the_repository_has_lost_is_missed(repo, file):
    root = tree(repo, f"100644 blob {file}\tREADME")
    commit(repo, root)
    (repo.common_dir / "objects" / root[:2] / root[2:]).unlink()
    with pytest.raises(NotFoundError) as caught:
        tip(repo)
    assert caught.value.subject == root


def test_repository_is_opened_under_the_options_of_the_store(repo, monkeypatch):
    opened, open_ = [], GitRepository.open
    monkeypatch.setattr(
        GitRepository, "open", lambda path, options=None: opened.append(open_(path, options)) or opened[-1]
    )
    config = ArtifactStoreConfig(repo_path=repo.path, git_ssh_command="ssh -4")
    assert BranchReader(config).branch_tip(repo.path, "main") is None
    assert [one.options.ssh_command for one in opened] == ["ssh -4"]


def test_tip_of_sha256_says_so(tmp_path):
    repo = GitRepository.create_bare(tmp_path / "wide.git", "sha256")
    oid = commit(repo, tree(repo))
    assert tip(repo) == BranchTip(bytes.fromhex(oid), "sha256", (), (), None)

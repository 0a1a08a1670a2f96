"""Refs kept in reftables: moved by git alone, in one transaction; its one lock, and who is dead that left it behind.

git has reftable since 2.45; with an older one this module is skipped.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from cas.errors import ConflictError, GitCommandFailedError, IntegrityError
from gitexport.git import GitOptions, git_version
from gitexport.reflocks import JOURNAL_NAME
from gitexport.refs import RefChange, read_refs, sweep_ref_leftovers, update_refs
from gitexport.repository import GitRepository
from tests.gitexport.refplaces import BRANCH, CLEAN, commit, git, leftovers, tag, values
from tests.gitexport.test_ref_races import contend

if git_version() < (2, 45):
    pytest.skip(
        f"git {'.'.join(map(str, git_version()))} has no reftable, git 2.45 or newer has",
        allow_module_level=True,
    )


def make(path, object_format="sha1", *words):
    words = [
        "init",
        "-q",
        "--initial-branch=main",
        "--ref-format=reftable",
        f"--object-format={object_format}",
        *words,
        str(path),
    ]
    git(path.parent, *words)
    return GitRepository.open(path)


@pytest.fixture(params=["sha1", "sha256"])
def bare(request, tmp_path):
    return make(tmp_path / "bare.git", request.param, "--bare")


@pytest.fixture
def repo(tmp_path):
    return make(tmp_path / "repo.git", "sha1", "--bare")


@pytest.fixture
def lock(repo):
    return repo.common_dir / "reftable" / "tables.list.lock"


def test_repository_says_how_it_keeps_its_refs(bare):
    assert bare.ref_format == "reftable"
    assert bare.object_format in {"sha1", "sha256"}


def test_refs_of_a_batch_are_made_moved_and_deleted(bare):
    first = commit(bare.path, "1")
    second = commit(bare.path, "2", first)
    annotated = tag(bare.path, first)
    names = [f"refs/heads/ai/generated/w{n % 7}/t{n}" for n in range(300)]
    changes = [RefChange(name, None, first) for name in names]
    changes += [RefChange(f"refs/tags/corr_{n}", None, annotated) for n in range(300)]
    update_refs(bare, changes)
    update_refs(bare, changes)
    assert values(bare) == {change.name: change.new_oid for change in changes}
    assert read_refs(bare, [*names, "refs/heads/none"]) == dict.fromkeys(names, first)
    update_refs(bare, [RefChange(name, first, second) for name in names])
    update_refs(bare, [RefChange(names[0], second, None)])
    assert read_refs(bare, names) == dict.fromkeys(names[1:], second)
    assert not (bare.common_dir / "packed-refs").exists()
    assert leftovers(bare) == []
    assert bare.fsck_strict() == ()


def test_ref_that_is_elsewhere_keeps_its_whole_batch_back(bare):
    first, second = commit(bare.path, "1"), commit(bare.path, "2")
    update_refs(bare, [RefChange(BRANCH, None, first)])
    for change in (RefChange(BRANCH, second, first[::-1]), RefChange(BRANCH, None, second)):
        with pytest.raises(ConflictError) as caught:
            update_refs(bare, [RefChange("refs/tags/t", None, first), change])
        assert caught.value.subject == BRANCH
    assert values(bare) == {BRANCH: first}


def test_missing_object_keeps_its_whole_batch_back(repo):
    oid = commit(repo.path)
    with pytest.raises(IntegrityError):
        update_refs(repo, [RefChange("refs/tags/t", None, oid), RefChange(BRANCH, None, "1" * 40)])
    assert values(repo) == {}


@pytest.mark.parametrize(
    "present", ["refs/heads/ai", "refs/heads/ai/generated", "refs/heads/ai/generated/w", BRANCH + "/inside"]
)
def test_ref_in_the_way_is_named(repo, present):
    oid = commit(repo.path)
    git(repo.path, "update-ref", present, oid)
    with pytest.raises(ConflictError) as caught:
        update_refs(repo, [RefChange("refs/tags/t", None, oid), RefChange(BRANCH, None, oid)])
    assert caught.value.subject == present
    assert values(repo) == {present: oid}


def test_symbolic_ref_under_our_name_is_left_alone(repo):
    oid, other = commit(repo.path, "1"), commit(repo.path, "2")
    git(repo.path, "update-ref", "refs/heads/main", oid)
    git(repo.path, "symbolic-ref", BRANCH, "refs/heads/main")
    with pytest.raises(ConflictError):
        update_refs(repo, [RefChange(BRANCH, oid, other)])
    assert values(repo)["refs/heads/main"] == oid
    assert read_refs(repo, [BRANCH]) == {BRANCH: oid}


def test_checked_out_branches_are_found(tmp_path):
    main = make(tmp_path / "r")
    oid = commit(main.path)
    git(main.path, "update-ref", "refs/heads/main", oid)
    git(main.path, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "side")
    head = git(main.path, "symbolic-ref", "HEAD")
    names = [head, "refs/heads/side", "refs/heads/none"]
    assert main.checked_out_branches(names) == {head: main.path, "refs/heads/side": tmp_path / "linked"}
    linked = GitRepository.open(tmp_path / "linked")
    update_refs(linked, [RefChange(BRANCH, None, oid)])
    assert values(main)[BRANCH] == oid


def test_lock_of_another_program_is_reported_and_never_removed(repo, lock, monkeypatch):
    oid = commit(repo.path)
    lock.touch()
    monkeypatch.setattr("gitexport.git._FIXED_CONFIG", (("reftable.lockTimeout", "100"),))
    with pytest.raises(GitCommandFailedError) as caught:
        update_refs(repo, [RefChange(BRANCH, None, oid)])
    assert (caught.value.kind, caught.value.subject) == ("ref_locked", "reftable/tables.list.lock")
    os.utime(lock, (1, 1))
    assert sweep_ref_leftovers(repo) == []
    assert lock.exists()


def test_lock_of_our_killed_git_is_removed_once_it_is_known_to_be_dead(repo, lock):
    oid = commit(repo.path)
    journal = repo.common_dir / JOURNAL_NAME

    def die():
        journal.write_text(f"cas-gitexport: moving refs by git update-ref\n{oid} {BRANCH}\n")
        lock.touch()

    die()
    with pytest.raises(GitCommandFailedError) as caught:
        update_refs(repo, [RefChange(BRANCH, None, oid)])
    assert (caught.value.kind, caught.value.subject) == ("ref_locked", str(lock))
    os.utime(journal, (1, 1))
    os.utime(lock, (2, 2))
    update_refs(repo, [RefChange(BRANCH, None, oid)])
    assert values(repo) == {BRANCH: oid}
    assert leftovers(repo) == []
    die()
    os.utime(lock, (1, 1))  # older than the journal: somebody held it when our git came
    assert [path.name for path in sweep_ref_leftovers(repo)] == [JOURNAL_NAME]
    assert lock.exists()


def test_git_killed_inside_its_transaction_moves_nothing(repo, lock):
    oid = commit(repo.path)
    with subprocess.Popen(
        ["git", "update-ref", "--stdin"],
        cwd=repo.path,
        env=CLEAN,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdin.write(f"start\ncreate {BRANCH} {oid}\nprepare\n")
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(2)] == ["start: ok\n", "prepare: ok\n"]
        process.kill()
    assert lock.exists()
    assert values(repo) == {}


def test_git_that_runs_out_of_time_leaves_nothing_that_is_taken_for_done(repo, lock):
    oid = commit(repo.path)
    lock.touch()
    patient, repo.options = repo.options, GitOptions(timeout_s=0.5)
    with pytest.raises(GitCommandFailedError):
        update_refs(repo, [RefChange(BRANCH, None, oid)])
    repo.options = patient
    lock.unlink()
    update_refs(repo, [RefChange(BRANCH, None, oid)])
    assert values(repo) == {BRANCH: oid}
    assert leftovers(repo) == []


def test_increments_by_git_and_by_us_are_never_lost(repo):
    contend(repo, 40)

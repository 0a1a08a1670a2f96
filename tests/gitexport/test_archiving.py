"""Steps of a roll-up one by one: what is asked, what goes in which transaction, what is pushed, deleted and told."""

from __future__ import annotations

import os
import socket

import pytest

from cas import catalog
from cas.errors import ConflictError, GitCommandFailedError, InvalidInputError, LeaseHeldError
from cas.lmdbenv import Table
from gitexport import Exporter, archive_branches, archiving, lease
from gitexport.archive import Archive
from gitexport.entries import load_entry
from gitexport.push import GroupOutcome, PushReport, PushState
from gitexport.remotedeletion import DeletionReport
from gitexport.repository import GitRepository
from tests.gitexport.refplaces import commit as git_commit
from tests.gitexport.refplaces import git, values
from tests.store.stores import commit, open_store

T1, T2, T3 = (f"ai/generated/wf/t{number}" for number in (1, 2, 3))


@pytest.fixture
def store(tmp_path, repo):
    """Two runs on the first branch, one on each of two others; all exported, none pushed."""
    with open_store(repo.path, store_path=tmp_path / "s", auto_push=False) as opened:
        for name, task in (("a", "t1"), ("b", "t2"), ("c", "t1"), ("d", "t3")):
            commit(opened, name, task_id=task, files={"x": name.encode()})
        Exporter(opened).run()
        yield opened


@pytest.fixture
def far(repo, tmp_path):
    made = GitRepository.create_bare(tmp_path / "far.git")
    git(repo.path, "remote", "add", "origin", str(made.path))
    return made


def roll_up(store, **settings):
    return archive_branches(store, **{"push": False, "keep_newest": 0} | settings)


def refs(store, *sequences):
    found = {}
    with store.environment.read() as transaction:
        for sequence in sequences:
            entry = load_entry(transaction, sequence)
            found |= {entry.branch: entry.commit, **dict(entry.tags)}
    return found


def names(items):
    return [item["branch"] for item in items]


@pytest.mark.parametrize(
    ("older_than_s", "keep_newest", "deletes", "pushes", "fine"),
    [
        (None, None, False, False, True), (0, 0, False, False, True), (0.1, 1, True, True, True),
        (-0.1, 0, False, True, False), (0, -1, False, True, False), (float("inf"), 0, False, True, False),
        (float("nan"), 0, False, True, False), (None, None, True, False, False),
    ],
)  # fmt: skip
def test_wishes_that_make_no_sense_are_refused(older_than_s, keep_newest, deletes, pushes, fine):
    if fine:
        archiving._check_wishes(older_than_s, keep_newest, deletes=deletes, pushes=pushes)
    else:
        with pytest.raises(InvalidInputError):
            archiving._check_wishes(older_than_s, keep_newest, deletes=deletes, pushes=pushes)


def test_roll_up_tells_what_it_did(store, repo):
    told = []
    before = values(repo)
    summary = roll_up(store, progress=lambda *words: told.append(words))
    assert values(repo) == {summary.archive: summary.commit_sha}
    assert (summary.branch_count, summary.refs, summary.commits, summary.left_count) == (3, 7, 2, 0)
    assert names(summary.branches) == [T2, T1, T3]
    assert [one["commit_sha"] for one in summary.branches] == [
        before[f"refs/heads/{name}"] for name in (T2, T1, T3)
    ]
    assert told == [("archive", 3, 3)]
    assert (summary.dry_run, summary.stopped, summary.pushed, summary.pending) == (False, False, None, None)
    assert summary.duration_s > 0
    again = roll_up(store)
    assert (again.branch_count, again.refs, again.commits, again.commit_sha) == (0, 0, 0, summary.commit_sha)


def test_roll_up_goes_batch_by_batch_and_stops_between(store, repo, monkeypatch):
    monkeypatch.setattr(archiving, "BATCH_BRANCHES", 1)
    told, answers = [], iter([False, False, True])
    summary = roll_up(store, progress=lambda *words: told.append(words), should_stop=lambda: next(answers))
    assert told == [("archive", 1, 3), ("archive", 2, 3)]
    assert (summary.branch_count, summary.stopped, summary.state) == (2, True, "pending")
    assert [name for name in values(repo) if name.startswith("refs/heads/")] == [f"refs/heads/{T3}"]
    assert len(Archive(store, repo).chain) == 3


def test_dry_run_tells_the_same_and_moves_nothing(store, repo):
    before = values(repo)
    (repo.common_dir / "cas_lock_0f").touch()
    summary = roll_up(store, dry_run=True, push=True)
    assert (summary.dry_run, summary.branch_count, summary.refs, summary.commits) == (True, 3, 7, 0)
    assert (summary.commit_sha, summary.pushed) == (None, None)
    assert values(repo) == before
    assert (repo.common_dir / "cas_lock_0f").exists()
    roll_up(store)
    assert not (repo.common_dir / "cas_lock_0f").exists()


def test_lease_is_held_meanwhile(store):
    with lease.hold(store.environment.directory, 0), pytest.raises(LeaseHeldError):
        roll_up(store, wait_s=0)


def test_branches_must_be_pushed_where_there_is_a_remote_and_pushing_is_wanted(store, repo, far):
    assert roll_up(store, dry_run=True).branch_count == 3
    summary = roll_up(store, push=True, dry_run=True)
    assert (summary.branch_count, names(summary.left)) == (0, [T2, T1, T3])
    assert {one["reason"] for one in summary.left} == {"has a commit that is not pushed yet"}
    assert roll_up(store, push=True, remote="none", dry_run=True).branch_count == 3
    assert roll_up(store, push=True, remote=str(far.path), dry_run=True).branch_count == 0


def test_gc_at_work_puts_it_off(store, repo):
    before = values(repo)
    (repo.common_dir / "gc.pid").write_text(f"{os.getpid()} {socket.gethostname()}")
    summary = roll_up(store)
    assert (summary.pending, summary.state) == (f"a git gc is at work in {repo.path}", "pending")
    assert (summary.branch_count, values(repo)) == (0, before)


def test_archive_of_somebody_else_is_refused(store, repo):
    ref = Archive(store, repo).ref
    git(repo.path, "update-ref", ref, git_commit(repo.path))
    with pytest.raises(ConflictError) as caught:
        roll_up(store)
    assert caught.value.subject == ref


def moving(monkeypatch, repo, *moves):
    """Let somebody move refs whenever the objects of a roll-up are written, one move each time."""
    waiting, write = list(moves), archiving.write_made

    def write_and_move(repository, objects):
        receipt = write(repository, objects)
        if waiting:
            git(repo.path, "update-ref", *waiting.pop(0))
        return receipt

    monkeypatch.setattr(archiving, "write_made", write_and_move)


def test_branch_or_tag_that_is_moved_meanwhile_stays_and_the_others_go(store, repo, monkeypatch):
    other = git_commit(repo.path)
    moving(monkeypatch, repo, (f"refs/heads/{T1}", other), ("refs/tags/corr_b", other))
    summary = roll_up(store)
    assert names(summary.branches) == [T3]
    assert names(summary.left) == [T1, T2]
    for one in summary.left:
        assert one["reason"].startswith("was moved by someone else: ref ")
    assert list(repo.common_dir.rglob("*.keep")) == []
    assert summary.commit_sha == values(repo)[summary.archive]


def test_refs_that_are_moved_again_and_again_end_it(store, repo, monkeypatch):
    monkeypatch.setattr(archiving, "_TRIES", 1)
    moving(monkeypatch, repo, (f"refs/heads/{T1}", git_commit(repo.path)))
    with pytest.raises(ConflictError) as caught:
        roll_up(store)
    assert caught.value.subject == str(repo.path)
    assert caught.value.message == f"other programs moved branches in {repo.path} again and again"


def test_archive_that_is_moved_meanwhile_ends_it(store, repo, monkeypatch):
    ref = Archive(store, repo).ref
    moving(monkeypatch, repo, (ref, git_commit(repo.path)))
    with pytest.raises(ConflictError) as caught:
        roll_up(store)
    assert caught.value.subject == ref


def test_refs_concern_their_branch_alone(store, repo):
    judge = archiving.BranchJudge(store, repo, Archive(store, repo), must_be_pushed=False)
    ((branch,), _) = judge.judge([(3, T1)])
    assert archiving._concerns(branch, f"refs/heads/{T1}")
    assert archiving._concerns(branch, "refs/tags/corr_a")
    assert not archiving._concerns(branch, "refs/tags/corr_b")
    assert not archiving._concerns(branch, "")


def test_tags_of_branches_that_are_gone_go_with_the_next_roll_up(store, repo):
    everything = values(repo)
    roll_up(store)
    tags = {name: oid for name, oid in everything.items() if name.startswith("refs/tags/")}
    git(repo.path, "update-ref", "refs/tags/corr_a", tags["refs/tags/corr_a"])
    git(repo.path, "update-ref", "refs/tags/corr_b", git_commit(repo.path))
    git(repo.path, "update-ref", "refs/tags/corr_d", tags["refs/tags/corr_d"])
    git(repo.path, "update-ref", f"refs/heads/{T3}", everything[f"refs/heads/{T3}"])
    assert roll_up(store, dry_run=True).refs == 2
    summary = roll_up(store, keep_newest=9)
    assert (summary.refs, summary.branch_count) == (1, 0)
    assert values(repo).keys() == {
        summary.archive,
        "refs/tags/corr_b",
        "refs/tags/corr_d",
        f"refs/heads/{T3}",
    }


def pushed(store, **settings):
    """Push the branches, then roll them up and push that."""
    Exporter(store).run(push=True)
    return roll_up(store, push=True, **settings)


def test_archive_is_pushed_and_nothing_is_deleted_at_the_remote(store, repo, far):
    told = []
    summary = pushed(store, progress=lambda *words: told.append(words))
    assert (summary.pushed, summary.state, summary.remote_refs) == (True, "done", 0)
    assert values(far) == {**refs(store, 1, 2, 3, 4), summary.archive: summary.commit_sha}
    assert told == [("archive", 3, 3), ("push", 0, 1), ("push", 1, 1)]


def test_push_without_anywhere_to_push_to_is_told(store, repo):
    summary = roll_up(store, push=True)
    assert summary.warnings == [f"nothing was pushed: {repo.path} has no remote 'origin'"]
    assert (summary.branch_count, summary.pushed) == (3, None)


def test_push_without_an_archive_is_none(store, far):
    summary = roll_up(store, push=True, keep_newest=9)
    assert (summary.pushed, summary.warnings, summary.pending) == (None, [], None)


@pytest.mark.parametrize(
    ("state", "refused", "pending"),
    [
        (PushState.REJECTED, "the remote refuses {}: why", None),
        (PushState.RETRY, None, "{} was not pushed: why"),
        (PushState.UNKNOWN, None, "{} was not pushed: why"),
    ],
)
def test_push_that_failed_is_told_by_what_it_needs(store, far, monkeypatch, state, refused, pending):
    calls = []

    def push(repository, remote, groups, **settings):
        calls.append((remote, [(group.key, group.refs) for group in groups], settings))
        return PushReport({"archive": GroupOutcome(state, "why")})

    Exporter(store).run(push=True)
    monkeypatch.setattr(archiving, "push", push)
    summary = roll_up(store, push=True, delete_remote=True, pause=print)
    assert summary.pushed is False
    assert summary.refused == (refused and refused.format(summary.archive))
    assert summary.pending == (pending and pending.format(summary.archive))
    ((remote, groups, settings),) = calls
    assert (remote, groups) == ("origin", [("archive", ((summary.archive, summary.commit_sha),))])
    assert (settings["timeout_s"], settings["sleep"]) == (store.config.push_timeout, print)


def test_stop_before_the_push_is_told(store, far):
    Exporter(store).run(push=True)
    answers = iter([False, True])
    summary = roll_up(store, push=True, should_stop=lambda: next(answers))
    assert (summary.branch_count, summary.stopped, summary.pushed) == (3, True, None)


def test_rolled_up_refs_are_deleted_at_the_remote_where_they_were_pushed(store, repo, far, monkeypatch):
    monkeypatch.setattr(archiving, "_COMPARED_COUNT", 1)
    Exporter(store).run(push=True)
    other = git_commit(far.path)
    git(far.path, "update-ref", "refs/tags/corr_b", other)
    git(far.path, "update-ref", "refs/heads/own", other)
    git(far.path, "update-ref", "-d", "refs/tags/corr_d")
    told = []
    summary = roll_up(store, push=True, delete_remote=True, progress=lambda *words: told.append(words))
    assert values(far) == {
        summary.archive: summary.commit_sha, "refs/tags/corr_b": other, "refs/heads/own": other,
    }  # fmt: skip
    assert summary.remote_refs == 5
    assert summary.kept_at_remote == [
        {"ref": "refs/tags/corr_b", "reason": f"it is at {other}, not where it was pushed to"}
    ]
    assert told[-1] == ("delete", 5, 5)


def test_ref_that_stands_here_again_is_not_deleted_there(store, repo, far):
    pushed(store)
    commit(store, "e", task_id="t1", files={"x": b"e"})
    Exporter(store).run(push=True)
    before = values(far)
    summary = roll_up(store, push=True, delete_remote=True, keep_newest=9)
    kept = values(far)
    assert kept[f"refs/heads/{T1}"] == before[f"refs/heads/{T1}"]
    assert kept.keys() == {summary.archive, f"refs/heads/{T1}", "refs/tags/corr_e"}


@pytest.mark.parametrize(
    ("report", "refused", "pending"),
    [
        (DeletionReport(error="no", refuses_all=True), "refs are left at the remote: no", None),
        (DeletionReport(error="stopped"), None, "refs are left at the remote: stopped"),
        (DeletionReport(deleted_count=7), None, None),
    ],
)
def test_deletion_is_told_by_what_became_of_it(store, repo, far, monkeypatch, report, refused, pending):
    calls = []
    report.kept["refs/tags/x"] = "why"
    monkeypatch.setattr(
        archiving, "delete_remote_refs", lambda *words, **settings: calls.append((words, settings)) or report
    )
    summary = pushed(store, delete_remote=True)
    assert (summary.refused, summary.pending, summary.remote_refs) == (refused, pending, report.deleted_count)
    assert summary.kept_at_remote == [{"ref": "refs/tags/x", "reason": "why"}]
    (((_, url, doomed), settings),) = calls
    assert (url, doomed) == (str(far.path), refs(store, 1, 2, 3, 4))
    assert settings["timeout_s"] == store.config.push_timeout


def test_remote_that_does_not_show_the_archive_keeps_its_refs(store, repo, far, monkeypatch):
    ask = GitRepository.list_remote_refs

    def list_remote_refs(self, url, prefixes=("refs/",), *, timeout_s=None):
        if answers:
            raise answers.pop()
        return {name: oid for name, oid in ask(self, url, prefixes).items() if "archive" not in name}

    answers = [GitCommandFailedError("gone")]
    monkeypatch.setattr(GitRepository, "list_remote_refs", list_remote_refs)
    summary = pushed(store, delete_remote=True)
    assert (summary.pending, summary.remote_refs) == ("the remote could not be asked: gone", 0)
    summary = roll_up(store, push=True, delete_remote=True)
    assert summary.pending == f"the remote does not show {summary.archive} as it was pushed"
    assert len(values(far)) == 8


def test_damaged_branch_of_the_archive_is_left_at_the_remote(store, repo, far):
    pushed(store)
    with store.environment.write() as transaction:
        transaction.put(Table.MANIFESTS, catalog.sequence_key(2), b"damaged")
    summary = roll_up(store, push=True, delete_remote=True, keep_newest=9)
    assert summary.remote_refs == 5
    assert values(far).keys() == {summary.archive, f"refs/heads/{T2}", "refs/tags/corr_b"}

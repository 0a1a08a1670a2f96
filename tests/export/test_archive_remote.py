"""The archive at the remote: it arrives first, refs go only where they are as they were pushed, nothing is forced."""

from __future__ import annotations

import pytest

from gitexport import archive_branches, verify_export
from gitexport import archiving as archiving_module
from gitexport.remotedeletion import delete_remote_refs
from gitexport.repository import GitRepository
from tests.export.places import hook, refs_of, run_git
from tests.export.test_archive import archive_of, assert_reachable, names_of


def roll_up(place, **settings):
    settings = {"keep_newest": 0, "pause": lambda _seconds: None} | settings
    return archive_branches(place.store, repository=place.path, **settings)


@pytest.fixture
def pushed_runs(place, remote):
    """Four runs on four branches, exported and pushed."""
    made = [place.commit(f"t{number}", prompt=f"p{number}") for number in range(4)]
    assert place.export(push=True).pushed == 4
    return made


def test_archive_is_pushed_and_the_remote_keeps_its_refs(place, remote, pushed_runs):
    before = refs_of(remote)
    summary = roll_up(place)
    assert (summary.state, summary.pushed, summary.remote_refs) == ("done", True, 0)
    assert refs_of(remote) == before | {summary.archive: summary.commit_sha}
    assert verify_export(place.store, place.path, remote="origin").faults == []


def test_rolled_up_refs_are_deleted_at_the_remote_on_demand(place, remote, pushed_runs, tmp_path):
    run_git(remote, "update-ref", "refs/heads/theirs", pushed_runs[0]["commit_sha"])
    summary = roll_up(place, delete_remote=True)
    assert (summary.state, summary.remote_refs, summary.kept_at_remote) == ("done", 12, [])
    assert set(refs_of(remote)) == {summary.archive, "refs/heads/theirs"}
    run_git(remote, "gc", "-q", "--prune=now")
    assert_reachable(remote, place.promised)
    assert verify_export(place.store, place.path, remote="origin").faults == []
    run_git(tmp_path, "clone", "-q", "--mirror", remote, "mirror.git")
    assert_reachable(tmp_path / "mirror.git", place.promised)


def test_refs_of_an_earlier_roll_up_are_deleted_later(place, remote, pushed_runs):
    roll_up(place, push=False)
    assert archive_of(remote) is None
    roll_up(place)
    assert names_of(pushed_runs[0]) <= set(refs_of(remote))
    summary = roll_up(place, delete_remote=True)
    assert (summary.branches, summary.remote_refs) == ([], 12)
    assert set(refs_of(remote)) == {summary.archive}


def test_branch_that_was_not_pushed_stays(place, remote, pushed_runs):
    place.commit("late")
    place.export(push=False)
    for push in (True, False):
        summary = roll_up(place, push=push, dry_run=True)
        assert [item["branch"] for item in summary.left] == ["ai/generated/wf/late"]
        assert "not pushed yet" in summary.left[0]["reason"]


def test_ref_that_moved_at_the_remote_stays_there(place, remote, pushed_runs):
    run_git(remote, "update-ref", f"refs/heads/{pushed_runs[1]['branch']}", pushed_runs[0]["commit_sha"])
    summary = roll_up(place, delete_remote=True)
    assert (summary.state, summary.remote_refs) == ("done", 11)
    (kept,) = summary.kept_at_remote
    assert kept["ref"] == f"refs/heads/{pushed_runs[1]['branch']}"
    assert set(refs_of(remote)) == {summary.archive, kept["ref"]}


def test_ref_that_moves_at_the_remote_in_the_very_moment_stays_there(place, remote, pushed_runs, monkeypatch):
    """Between the look at the remote and the push that deletes."""
    moved = f"refs/heads/{pushed_runs[1]['branch']}"

    def move_first(*words, **settings):
        run_git(remote, "update-ref", moved, pushed_runs[0]["commit_sha"])
        return delete_remote_refs(*words, **settings)

    monkeypatch.setattr(archiving_module, "delete_remote_refs", move_first)
    summary = roll_up(place, delete_remote=True)
    assert (summary.state, summary.remote_refs) == ("done", 11)
    assert [item["ref"] for item in summary.kept_at_remote] == [moved]
    assert "stale info" in summary.kept_at_remote[0]["reason"]
    assert refs_of(remote)[moved] == pushed_runs[0]["commit_sha"]


def test_several_refs_that_move_in_the_very_moment_keep_no_others(place, remote, pushed_runs, monkeypatch):
    """All of them are named in the answer to one push, which says nothing of what the remote does with the rest."""
    moved = {f"refs/heads/{run['branch']}" for run in pushed_runs}
    other = run_git(remote, "commit-tree", "-m", "theirs", f"{pushed_runs[0]['commit_sha']}^{{tree}}").strip()

    def move_first(*words, **settings):
        for name in moved:
            run_git(remote, "update-ref", name, other)
        return delete_remote_refs(*words, **settings)

    monkeypatch.setattr(archiving_module, "delete_remote_refs", move_first)
    summary = roll_up(place, delete_remote=True)
    assert (summary.state, summary.remote_refs) == ("done", 8)
    assert {item["ref"] for item in summary.kept_at_remote} == moved
    assert set(refs_of(remote)) == {summary.archive} | moved
    doomed = {f"refs/heads/{run['branch']}": run["commit_sha"] for run in pushed_runs}
    report = delete_remote_refs(GitRepository.open(place.path), str(remote), doomed, timeout_s=30)
    assert (report.kept.keys(), report.error, report.refuses_all) == (moved, None, False)


def test_one_ref_that_the_remote_refuses_to_delete_keeps_no_other(place, remote, pushed_runs):
    kept = f"refs/tags/{pushed_runs[2]['tags'][0]}"
    hook(remote, "update", f'case "$1" in {kept}) echo "by policy" >&2; exit 1;; esac')
    summary = roll_up(place, delete_remote=True)
    assert (summary.state, summary.remote_refs) == ("done", 11)
    assert [item["ref"] for item in summary.kept_at_remote] == [kept]
    assert set(refs_of(remote)) == {summary.archive, kept}


def test_culprit_of_a_pre_receive_hook_is_found_by_halving(place, remote, pushed_runs):
    kept = f"refs/tags/{pushed_runs[2]['tags'][0]}"
    hook(remote, "pre-receive", f"if grep -q ' {kept}$'; then exit 1; fi")
    summary = roll_up(place, delete_remote=True)
    assert (summary.state, summary.remote_refs) == ("done", 11)
    assert set(refs_of(remote)) == {summary.archive, kept}


def test_remote_that_deletes_nothing_is_not_asked_for_every_ref(place, remote, pushed_runs):
    run_git(remote, "config", "receive.denyDeletes", "true")
    before = refs_of(remote)
    summary = roll_up(place, delete_remote=True)
    assert summary.state == "parked"
    assert "deletes nothing" in summary.refused
    assert len(summary.kept_at_remote) == 4
    assert refs_of(remote) == before | {summary.archive: summary.commit_sha}


def test_remote_without_atomic_pushes_deletes_all_the_same(place, remote, pushed_runs):
    run_git(remote, "config", "receive.advertiseAtomic", "false")
    summary = roll_up(place, delete_remote=True)
    assert (summary.state, summary.remote_refs) == ("done", 12)


def test_remote_that_is_down_gets_the_archive_later(place, remote, pushed_runs):
    away = remote.rename(remote.with_name("away.git"))
    summary = roll_up(place, delete_remote=True)
    assert (summary.state, summary.pushed, summary.remote_refs) == ("pending", False, 0)
    assert set(place.refs()) == {summary.archive}
    away.rename(remote)
    summary = roll_up(place, delete_remote=True)
    assert (summary.state, summary.pushed, summary.remote_refs) == ("done", True, 12)
    assert_reachable(remote, place.promised)


def test_archive_that_went_on_elsewhere_is_not_overwritten(place, remote, pushed_runs):
    ref = roll_up(place, keep_newest=2).archive
    theirs = run_git(
        remote, "commit-tree", "-p", refs_of(remote)[ref], "-m", "theirs", f"{refs_of(remote)[ref]}^{{tree}}"
    )
    run_git(remote, "update-ref", ref, theirs)
    summary = roll_up(place, delete_remote=True)
    assert (summary.state, summary.pushed, summary.remote_refs) == ("parked", False, 0)
    assert ref in summary.refused
    assert refs_of(remote)[ref] == theirs
    faults = verify_export(place.store, place.path, remote="origin").faults
    assert ref in {fault.subject for fault in faults}


def test_new_commit_goes_to_the_remote_on_top_of_the_archived_one(place, remote, pushed_runs):
    roll_up(place, delete_remote=True)
    for folder in (place.path, remote):
        run_git(folder, "gc", "-q", "--prune=now")
    new = place.commit("t0")
    summary = place.export(push=True)
    assert (summary.state, summary.exported, summary.pushed) == ("done", 1, 1)
    assert set(refs_of(remote)) == names_of(new) | {archive_of(remote)}
    assert run_git(remote, "rev-parse", f"{new['branch']}^") == pushed_runs[0]["commit_sha"]
    assert verify_export(place.store, place.path, remote="origin").faults == []
    # Its branch stands here again, so it is not deleted there; its old tags are.
    assert roll_up(place, keep_newest=1, delete_remote=True).remote_refs == 0
    assert names_of(new) <= set(refs_of(remote))


@pytest.mark.parametrize("lost", ["archive", "everything"])
def test_remote_that_lost_the_archive_gets_it_by_a_rebuild(place, remote, pushed_runs, lost):
    roll_up(place, delete_remote=True)
    place.git("gc", "-q", "--prune=now")
    run_git(remote, "update-ref", "-d", archive_of(remote))
    if lost == "everything":
        run_git(remote, "gc", "-q", "--prune=now")
    faults = verify_export(place.store, place.path, remote="origin").faults
    assert {f"refs/heads/{run['branch']}" for run in pushed_runs} <= {fault.subject for fault in faults}
    summary = place.export(push=True, rebuild=True)
    assert (summary.state, summary.exported, summary.failures) == ("done", 0, [])
    assert refs_of(remote) == place.refs()
    assert_reachable(remote, place.promised)
    assert verify_export(place.store, place.path, remote="origin").faults == []


def test_branches_rolled_up_before_there_was_a_remote_reach_it_in_the_archive(make_place, tmp_path):
    place = make_place()
    for number in range(3):
        place.commit(f"t{number}")
    place.export()
    summary = roll_up(place)
    assert summary.warnings == [f"nothing was pushed: {place.path} has no remote 'origin'"]
    assert (summary.state, summary.pushed) == ("done", None)
    place.git("gc", "-q", "--prune=now")
    new = place.commit("t0")
    run_git(tmp_path, "init", "-q", "--bare", "late.git")
    place.git("remote", "add", "origin", tmp_path / "late.git")
    exported = place.export(push=True)
    assert (exported.state, exported.pushed, exported.failures) == ("done", 4, [])
    assert set(refs_of(tmp_path / "late.git")) == names_of(new) | {summary.archive}
    assert_reachable(tmp_path / "late.git", place.promised)
    assert verify_export(place.store, place.path, remote="origin").faults == []


def test_deletion_only_takes_what_the_store_made(place, remote, pushed_runs):
    """A forged archive that claims another branch does not make us delete it."""
    summary = roll_up(place, keep_newest=1)
    head = place.git("commit-tree", "-m", "a person's", f"{summary.commit_sha}^{{tree}}")
    forged = place.git(
        "commit-tree", "-m", "forged", "-p", summary.commit_sha, "-p", head, f"{summary.commit_sha}^{{tree}}"
    )
    place.git("update-ref", summary.archive, forged)
    place.git("push", "-q", "origin", f"{head}:refs/heads/theirs")
    done = roll_up(place, delete_remote=True)
    assert done.pushed
    assert refs_of(remote)["refs/heads/theirs"] == head


@pytest.fixture
def doomed(place, remote):
    """Twenty tags at the remote that nobody needs, with the oid they have."""
    place.commit("t")
    place.export()
    oid = place.refs()["refs/tags/corr_c0"]
    place.git("push", "-q", "origin", *(f"{oid}:refs/tags/n{number:02}" for number in range(20)))
    return {f"refs/tags/n{number:02}": oid for number in range(20)}


def test_deletions_that_take_too_long_together_are_made_in_smaller_steps(place, remote, doomed):
    hook(remote, "pre-receive", 'if [ "$(wc -l)" -gt 5 ]; then sleep 1234; fi')
    told = []
    report = delete_remote_refs(
        GitRepository.open(place.path),
        str(remote),
        doomed,
        timeout_s=2,
        progress=lambda *words: told.append(words),
    )
    assert (report.deleted_count, report.kept, report.error) == (20, {}, None)
    assert report.push_count == 2 + 4
    assert told[-1] == ("delete", 20, 20)
    assert refs_of(remote) == {}


def test_remote_that_hangs_at_every_deletion_is_given_up(place, remote, doomed):
    hook(remote, "pre-receive", "sleep 1234")
    report = delete_remote_refs(GitRepository.open(place.path), str(remote), doomed, timeout_s=1)
    assert (report.deleted_count, report.push_count, report.refuses_all) == (0, 4, False)
    assert "did not end within 1 s" in report.error
    assert refs_of(remote) == doomed


def test_deletions_whose_answer_is_lost_are_asked_for(place, remote, doomed):
    hook(remote, "post-receive", "kill -9 $PPID")
    report = delete_remote_refs(GitRepository.open(place.path), str(remote), doomed, timeout_s=30)
    assert (report.deleted_count, report.kept, report.error) == (20, {}, None)


@pytest.mark.parametrize(("ref_count", "push_count"), [(20, 1), (100_000, 1), (600_000, 3), (10**9, 20)])
def test_fewer_deletions_go_together_the_more_refs_the_remote_has(
    place, remote, doomed, ref_count, push_count
):
    repository = GitRepository.open(place.path)
    report = delete_remote_refs(repository, str(remote), doomed, timeout_s=30, ref_count=ref_count)
    assert (report.deleted_count, report.push_count) == (20, push_count)


def test_deletions_beyond_one_push_are_all_made(place, remote, monkeypatch):
    monkeypatch.setattr("gitexport.remotedeletion.DELETES_PER_PUSH", 7)
    repository = GitRepository.open(place.path)
    place.commit("t")
    place.export()
    oid = place.refs()["refs/tags/corr_c0"]
    place.git("push", "-q", "origin", *(f"{oid}:refs/tags/n{number}" for number in range(20)))
    told = []
    doomed = {f"refs/tags/n{number}": oid for number in range(20)}
    report = delete_remote_refs(
        repository, str(remote), doomed, timeout_s=30, progress=lambda *words: told.append(words)
    )
    assert (report.deleted_count, report.kept, report.error, report.push_count) == (20, {}, None, 3)
    assert told[-1] == ("delete", 20, 20)
    assert refs_of(remote) == {}

"""Rolling up old branches: ids stay reachable under every git command, nothing comes back by itself, new work does."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from cas import ConflictError, InvalidInputError
from gitexport import Exporter, archive_branches, archiving, verify_export
from gitexport import refs as refs_module
from gitexport.archive import ARCHIVE_FOLDER, Archive
from gitexport.archivelist import PARENTS_PER_COMMIT, parse_list
from gitexport.repository import GitRepository
from tests.export.places import assert_sound, leftovers, refs_of, run_git

DAY_S = 86_400


def roll_up(place, **settings):
    settings = {"push": False, "keep_newest": 0} | settings
    return archive_branches(place.store, repository=place.path, **settings)


def archive_of(folder):
    """Return the one archive ref of a repository."""
    found = [name for name in refs_of(folder) if name.startswith(f"{ARCHIVE_FOLDER}/")]
    assert len(found) <= 1
    return found[0] if found else None


def names_of(result):
    return {f"refs/heads/{result['branch']}", *(f"refs/tags/{tag}" for tag in result["tags"])}


def branches_of(folder):
    return {name for name in refs_of(folder) if name.startswith("refs/heads/")}


def assert_reachable(folder, promised):
    """Check that git reaches every promised commit from its refs, and finds nothing wrong."""
    reached = set(run_git(folder, "rev-list", "--all").split())
    assert set(promised) <= reached
    assert_sound(folder)


def listed(folder):
    """Return what the lists of an archive say, name to oid."""
    ref = archive_of(folder)
    found = {}
    for commit in run_git(folder, "rev-list", "--first-parent", ref).split():
        found |= parse_list(run_git(folder, "show", f"{commit}:packed-refs").encode())
    return found


@pytest.fixture
def exported_runs(place):
    """Six runs on five branches, two of them of one prompt; exported."""
    made = [place.commit(f"t{number}", prompt="one" if number < 2 else None) for number in range(5)]
    made.append(place.commit("t0", metadata="second of its branch"))
    place.export()
    return made


# ---- what is rolled up ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("bare", [True, False], ids=["bare", "work tree"])
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "loose"])
def test_branches_become_parents_of_one_ref_and_every_commit_stays(make_place, object_format, bare, pack):
    place = make_place(bare=bare, object_format=object_format)
    exported_runs = [place.commit(f"t{number}", prompt=f"p{number}") for number in range(4)]
    place.export()
    if not pack:
        for name, oid in place.refs().items():
            place.git("update-ref", "-d", name)
            place.git("update-ref", name, oid)
    before = place.refs()
    summary = roll_up(place)
    assert (summary.state, len(summary.branches), summary.left) == ("done", 4, [])
    assert summary.refs == len(before)
    assert set(place.refs()) == {archive_of(place.path)} == {summary.archive}
    assert listed(place.path) == before
    assert_reachable(place.path, place.promised)
    place.git("gc", "-q", "--prune=now")
    assert_reachable(place.path, place.promised)
    assert verify_export(place.store, place.path).faults == []
    assert place.store.verify().ok
    assert [branch["commit_sha"] for branch in summary.branches] == [
        run["commit_sha"] for run in exported_runs
    ]


def test_same_branches_are_rolled_up_under_the_same_commit(place, exported_runs):
    before = place.refs()
    first = roll_up(place).commit_sha
    # Put back by hand and rolled up again: nothing depends on when it is done.
    for ref, oid in before.items():
        place.git("update-ref", ref, oid)
    place.git("update-ref", "-d", archive_of(place.path))
    assert roll_up(place).commit_sha == first


def test_many_branches_are_chained_with_a_bounded_number_of_parents(place, monkeypatch):
    monkeypatch.setattr("gitexport.archivelist.PARENTS_PER_COMMIT", 2)
    for number in range(5):
        place.commit(f"t{number}")
    place.export()
    summary = roll_up(place)
    assert summary.commits == 4  # the beginning, and 2 + 2 + 1
    counts = [
        len(line.split()) - 1
        for line in place.git("rev-list", "--first-parent", "--parents", summary.archive).splitlines()
    ]
    assert counts == [2, 3, 3, 0]
    assert len(listed(place.path)) == 10
    assert_reachable(place.path, place.promised)
    assert PARENTS_PER_COMMIT == 500


def test_next_roll_up_goes_on_from_the_last(place, exported_runs):
    first = roll_up(place, keep_newest=2).commit_sha
    assert len(branches_of(place.path)) == 2
    second = roll_up(place)
    place.git("merge-base", "--is-ancestor", first, second.commit_sha)
    assert branches_of(place.path) == set()
    assert_reachable(place.path, place.promised)
    assert roll_up(place).commit_sha == second.commit_sha
    assert verify_export(place.store, place.path).ok


def test_age_and_number_both_have_to_allow_it(place, clock):
    place.commit("old")
    clock.now_ns += 100 * DAY_S * 10**9
    place.commit("young")
    place.commit("youngest")
    place.export()
    assert [item["branch"] for item in roll_up(place, older_than_s=90 * DAY_S, dry_run=True).branches] == [
        "ai/generated/wf/old"
    ]
    assert roll_up(place, older_than_s=90 * DAY_S, keep_newest=3, dry_run=True).branches == []
    assert len(roll_up(place, older_than_s=None, keep_newest=1, dry_run=True).branches) == 2
    assert len(roll_up(place, older_than_s=90 * DAY_S, keep_newest=2).branches) == 1
    assert branches_of(place.path) == {
        "refs/heads/ai/generated/wf/young",
        "refs/heads/ai/generated/wf/youngest",
    }


@pytest.mark.parametrize(
    "what",
    [
        {"keep_newest": -1},
        {"older_than_s": -1.0},
        {"older_than_s": float("nan")},
        {"older_than_s": float("inf")},
        {"delete_remote": True, "push": False},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(place, exported_runs, what):
    before = place.refs()
    with pytest.raises(InvalidInputError):
        roll_up(place, **what)
    assert place.refs() == before


def test_dry_run_tells_and_changes_nothing(place, exported_runs):
    before = place.refs()
    summary = roll_up(place, dry_run=True)
    assert place.refs() == before
    done = roll_up(place)
    assert (summary.branches, summary.left, summary.refs) == (done.branches, done.left, done.refs)


# ---- what stays -----------------------------------------------------------------------------------------------------


def test_branch_with_a_waiting_commit_stays(place, exported_runs):
    place.commit("t1")
    summary = roll_up(place)
    assert summary.left == [
        {"branch": "ai/generated/wf/t1", "reason": "has a commit that is not exported yet"}
    ]
    assert branches_of(place.path) == {"refs/heads/ai/generated/wf/t1"}
    assert names_of(exported_runs[1]) <= set(place.refs())


@pytest.mark.parametrize("where", ["work tree", "linked work tree", "bare"])
def test_branch_that_is_checked_out_stays(make_place, tmp_path, where):
    place = make_place(bare=where == "bare")
    run = place.commit("t1")
    other = place.commit("t2")
    place.export()
    if where == "bare":
        place.git("symbolic-ref", "HEAD", f"refs/heads/{run['branch']}")
    elif where == "work tree":
        place.git("switch", "-q", run["branch"])
    else:
        place.git("worktree", "add", "-q", tmp_path / "linked", run["branch"])
    summary = roll_up(place)
    assert [item["branch"] for item in summary.left] == [run["branch"]]
    assert "is checked out in" in summary.left[0]["reason"]
    assert names_of(run) <= set(place.refs())
    assert not names_of(other) & set(place.refs())


def test_branch_and_tag_that_somebody_moved_stay(place, exported_runs):
    branch, tag = f"refs/heads/{exported_runs[1]['branch']}", f"refs/tags/{exported_runs[2]['tags'][0]}"
    place.git("update-ref", branch, exported_runs[0]["commit_sha"])
    place.git("update-ref", tag, exported_runs[0]["commit_sha"])
    summary = roll_up(place)
    assert [item["branch"] for item in summary.left] == [
        exported_runs[1]["branch"],
        exported_runs[2]["branch"],
    ]
    assert "moved by someone else" in summary.left[0]["reason"]
    assert "someone else moved: corr_" in summary.left[1]["reason"]
    assert names_of(exported_runs[1]) | names_of(exported_runs[2]) <= set(place.refs())


def test_branch_moved_in_the_very_moment_stays_and_the_others_go(place, exported_runs, monkeypatch):
    branch = f"refs/heads/{exported_runs[1]['branch']}"
    write = archiving.write_made

    def write_and_move(repository, objects):
        monkeypatch.setattr(archiving, "write_made", write)
        place.git("update-ref", branch, exported_runs[0]["commit_sha"])
        return write(repository, objects)

    monkeypatch.setattr(archiving, "write_made", write_and_move)
    summary = roll_up(place)
    assert [item["branch"] for item in summary.left] == [exported_runs[1]["branch"]]
    assert len(summary.branches) == 4
    assert place.refs()[branch] == exported_runs[0]["commit_sha"]
    assert branch not in listed(place.path)
    assert leftovers(place.path) == []


def test_branch_moved_by_git_while_the_refs_go_stands_where_it_was_put(place, exported_runs, monkeypatch):
    """Between the last look at the refs and the rename that moves them: a loose file wins over what is packed."""
    run = exported_runs[1]
    branch = f"refs/heads/{run['branch']}"
    theirs = place.git(
        "commit-tree", "-p", run["commit_sha"], "-m", "theirs", f"{run['commit_sha']}^{{tree}}"
    )
    publish = refs_module._publish

    def move_first(*words):
        place.git("update-ref", branch, theirs, run["commit_sha"])
        return publish(*words)

    monkeypatch.setattr(refs_module, "_publish", move_first)
    summary = roll_up(place)
    monkeypatch.undo()
    assert (summary.state, len(summary.branches)) == ("done", 4)
    assert [item["branch"] for item in summary.left] == [run["branch"]]
    assert place.refs()[branch] == theirs
    assert set(place.refs()) == {branch, summary.archive}
    assert_reachable(place.path, place.promised)
    assert [item["branch"] for item in roll_up(place).left] == [run["branch"]]
    assert verify_export(place.store, place.path).faults == []


def test_branches_of_other_names_stay(make_place):
    place = make_place(bare=False)
    place.git("commit", "-q", "--allow-empty", "-m", "by a person")
    run = place.commit("t1")
    place.git("branch", "ai/generated/by/hand")
    place.store.revert_to_tag(run["tags"][0], "main")
    place.git("switch", "-q", "-c", "elsewhere")
    place.export()
    roll_up(place)
    assert branches_of(place.path) == {
        "refs/heads/main",
        "refs/heads/elsewhere",
        "refs/heads/ai/generated/by/hand",
    }


def test_tags_that_a_killed_git_left_go_with_the_next_roll_up(place, exported_runs):
    """Where refs are files, git takes them away one by one: a branch may be gone and its tags not yet."""
    before = place.refs()
    roll_up(place)
    newer = place.commit("t2")
    place.export()
    alone, moved, back = (f"refs/tags/{exported_runs[number]['tags'][0]}" for number in (1, 3, 2))
    for name, oid in ((alone, before[alone]), (moved, newer["commit_sha"]), (back, before[back])):
        place.git("update-ref", name, oid)
    summary = roll_up(place, keep_newest=1)
    assert (summary.state, summary.branches, summary.refs) == ("done", [], 1)
    # What somebody moved stays, and the tags of a branch that stands go with it.
    assert set(place.refs()) == {summary.archive, moved, back} | names_of(newer)
    assert roll_up(place).refs == 1 + len(newer["tags"]) + 1
    assert set(place.refs()) == {summary.archive, moved}
    assert_reachable(place.path, place.promised)


def test_branch_that_came_back_and_is_gone_again_is_told(place, exported_runs):
    roll_up(place)
    again = place.commit("t1")
    (waits,) = roll_up(place).left
    assert (waits["branch"], waits["reason"]) == (again["branch"], "has a commit that is not exported yet")
    place.export()
    place.git("update-ref", "-d", f"refs/heads/{again['branch']}")
    (gone,) = roll_up(place).left
    assert gone["branch"] == again["branch"]
    assert "is gone from the repository" in gone["reason"]
    assert place.export(rebuild=True).exported == 1
    assert roll_up(place).left == []
    assert_reachable(place.path, place.promised)


def test_long_lists_are_cut_and_counted(place, exported_runs, monkeypatch):
    monkeypatch.setattr("gitexport.archivesummary._LISTED", 2)
    waits = [place.commit(f"t{number}") for number in range(3)]
    summary = roll_up(place, dry_run=True)
    assert (len(summary.left), summary.left_count) == (2, len(waits))
    place.export()
    summary = roll_up(place)
    assert (len(summary.branches), summary.branch_count, summary.left_count) == (2, 5, 0)
    assert set(place.refs()) == {summary.archive}


def test_gc_at_work_puts_it_off(place, exported_runs):
    before = place.refs()
    (place.path / "gc.pid").write_text(f"{os.getpid()} {socket.gethostname()}")
    summary = roll_up(place)
    assert (summary.state, place.refs()) == ("pending", before)
    assert "git gc is at work" in summary.pending
    (place.path / "gc.pid").unlink()
    assert roll_up(place).state == "done"


# ---- afterwards -----------------------------------------------------------------------------------------------------


def test_export_does_not_bring_rolled_up_refs_back(place, exported_runs):
    roll_up(place)
    for settings in ({}, {"retry_parked": True}, {"rebuild": True}):
        summary = place.export(**settings)
        assert (summary.state, summary.exported, summary.warnings) == ("done", 0, [])
        assert set(place.refs()) == {archive_of(place.path)}
    place.git("gc", "-q", "--prune=now")
    assert place.export(rebuild=True).exported == 0
    assert set(place.refs()) == {archive_of(place.path)}


def test_new_commit_brings_its_branch_back_on_top_of_the_old_one(place, exported_runs):
    roll_up(place)
    place.git("gc", "-q", "--prune=now")
    new = place.commit("t0")
    summary = place.export()
    assert (summary.state, summary.exported, summary.failures) == ("done", 1, [])
    assert set(place.refs()) == names_of(new) | {archive_of(place.path)}
    assert place.refs()[f"refs/heads/{new['branch']}"] == new["commit_sha"]
    assert place.git("rev-parse", f"{new['commit_sha']}^") == exported_runs[5]["commit_sha"]
    assert_reachable(place.path, place.promised)
    assert verify_export(place.store, place.path).faults == []
    assert place.export(rebuild=True).exported == 0
    again = roll_up(place)
    assert [item["tags"] for item in again.branches] == [new["tags"]]
    assert set(place.refs()) == {archive_of(place.path)}
    assert verify_export(place.store, place.path).faults == []


@pytest.mark.parametrize("target", ["itself", "another", "main"])
def test_rollback_to_an_archived_tag(place, exported_runs, target):
    roll_up(place)
    place.git("gc", "-q", "--prune=now")
    branch = {"itself": exported_runs[0]["branch"], "another": exported_runs[3]["branch"], "main": "main"}[
        target
    ]
    rollback = place.store.revert_to_tag(exported_runs[0]["tags"][0], branch)
    summary = place.export()
    assert (summary.state, summary.exported, summary.failures) == ("done", 1, [])
    assert place.refs()[f"refs/heads/{branch}"] == rollback["commit_sha"]
    wanted, got = (
        place.git("rev-parse", f"{oid}:Backtest/codes")
        for oid in (exported_runs[0]["commit_sha"], rollback["commit_sha"])
    )
    assert wanted == got
    assert_reachable(place.path, place.promised)
    assert verify_export(place.store, place.path).faults == []


def test_several_new_commits_of_one_batch_and_a_new_branch(place, exported_runs):
    roll_up(place)
    made = [place.commit("t0"), place.commit("t0"), place.commit("fresh"), place.commit("fresh")]
    assert place.export().exported == 4
    assert set(place.refs()) == set().union(*map(names_of, made)) | {archive_of(place.path)}
    assert_reachable(place.path, place.promised)


def test_archive_that_is_gone_is_reported_and_rebuilt_as_branches(place, exported_runs):
    before = place.refs()
    roll_up(place)
    place.git("update-ref", "-d", archive_of(place.path))
    report = verify_export(place.store, place.path)
    assert {fault.subject for fault in report.faults} >= set(before)
    new = place.commit("t0")
    blocked = place.export()
    assert (blocked.state, blocked.exported) == ("parked", 0)
    assert "`cas export --rebuild`" in blocked.failures[0]["reason"]
    assert place.export(rebuild=True).state == "done"
    assert set(place.refs()) == set(before) | names_of(new)
    place.assert_exported()


@pytest.mark.parametrize("how", ["elsewhere", "back", "no commit", "missing object"])
def test_archive_ref_that_is_wrong_is_reported(place, exported_runs, how):
    first = roll_up(place, keep_newest=2).commit_sha
    roll_up(place)
    ref = archive_of(place.path)
    if how == "elsewhere":
        place.git("update-ref", ref, exported_runs[0]["commit_sha"])
    elif how == "back":
        place.git("update-ref", ref, first)
    elif how == "no commit":
        place.git("update-ref", ref, place.git("hash-object", "-w", "--stdin", stdin="x"))
    else:
        (place.path / ref).parent.mkdir(parents=True, exist_ok=True)
        (place.path / ref).write_text("1" * 40 + "\n")
    report = verify_export(place.store, place.path)
    subjects = {fault.subject for fault in report.faults}
    assert f"refs/heads/{exported_runs[4]['branch']}" in subjects
    assert (f"refs/heads/{exported_runs[1]['branch']}" in subjects) is (how != "back")
    assert (ref in subjects) is (how != "back")
    if how != "back":
        with pytest.raises(ConflictError) as caught:
            roll_up(place)
        assert caught.value.subject == ref
    # The next export neither fails nor believes it.
    assert place.export(rebuild=True).state == "done"
    assert names_of(exported_runs[4]) <= set(place.refs())
    assert (names_of(exported_runs[1]) <= set(place.refs())) is (how != "back")


def test_list_that_does_not_say_what_the_archive_holds_is_reported(place, exported_runs):
    roll_up(place)
    ref = archive_of(place.path)
    parents = place.git("rev-parse", f"{ref}^@").split()
    blob = place.git("hash-object", "-w", "--stdin", stdin="# pack-refs with: peeled fully-peeled sorted \n")
    tree = place.git("mktree", stdin=f"100644 blob {blob}\tpacked-refs\n")
    forged = place.git(
        "commit-tree", tree, "-m", "forged", *(word for parent in parents for word in ("-p", parent))
    )
    place.git("update-ref", ref, forged)
    (fault,) = verify_export(place.store, place.path).faults
    assert (fault.label, fault.subject) == ("archive", forged)


def test_clone_of_the_archive_has_every_commit(place, exported_runs, tmp_path):
    roll_up(place)
    run_git(tmp_path, "clone", "-q", "--mirror", place.path, "mirror.git")
    assert_reachable(tmp_path / "mirror.git", place.promised)
    run_git(tmp_path, "init", "-q", "plain")
    run_git(tmp_path / "plain", "fetch", "-q", place.path, "refs/archive/*:refs/archive/*")
    assert_reachable(tmp_path / "plain", place.promised)
    assert verify_export(place.store, tmp_path / "mirror.git").faults == []


def test_two_stores_have_an_archive_each_in_one_repository(make_place, place, exported_runs):
    other = make_place("other")
    theirs = other.commit("theirs", "theirs", workflow="elsewhere")
    Exporter(other.store, repository=place.path).run(push=False)
    first = roll_up(place)
    assert names_of(theirs) <= set(place.refs())
    second = archive_branches(other.store, repository=place.path, keep_newest=0, push=False)
    assert {first.archive, second.archive} == set(place.refs())
    assert first.archive != second.archive
    assert_reachable(place.path, place.promised | other.promised)
    assert verify_export(place.store, place.path).ok
    assert verify_export(other.store, place.path).ok


def test_archive_is_read_only_when_a_ref_is_missed(place, exported_runs, monkeypatch):
    """An export of new branches does not read the chain, however long it is."""
    roll_up(place, keep_newest=1)

    def refuse(*_words):
        raise AssertionError("the chain was read")

    monkeypatch.setattr("gitexport.archive._read_chain", refuse)
    place.commit("fresh")
    place.commit("fresher")
    place.commit("fresher")
    place.commit("t0")  # a branch that stands
    assert place.export().exported == 4
    archive = Archive(place.store, GitRepository.open(place.path))
    with pytest.raises(AssertionError, match="the chain was read"):
        archive.head_of(exported_runs[4]["branch"])


def test_files_of_forgotten_and_collected_runs_stay_in_the_archive(place, exported_runs):
    roll_up(place)
    place.store.forget([exported_runs[1]["correlation_id"]])
    place.store.gc()
    place.git("gc", "-q", "--prune=now")
    assert verify_export(place.store, place.path).faults == []
    assert place.git("show", f"{exported_runs[1]['commit_sha']}:Backtest/codes/t1/strategy.py") == "FAST = 5"
    assert place.export(rebuild=True).state == "done"


def test_signed_commits_are_rolled_up_under_their_ids(make_place, tmp_path):
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    place = make_place(git_signing_key=key)
    run = place.commit("t1")
    place.export()
    roll_up(place)
    assert "-----BEGIN SSH SIGNATURE-----" in place.git("cat-file", "commit", run["commit_sha"])
    assert_reachable(place.path, place.promised)
    assert verify_export(place.store, place.path).faults == []

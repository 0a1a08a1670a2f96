"""Stores that share a repository or a remote, and made runs from the same prompt: the first one's tag stays."""

from __future__ import annotations

import pytest

from gitexport import Exporter, archive_branches, export_status, verify_export
from tests.export.places import assert_sound, refs_of, run_git

TAG = "refs/tags/prompt_p1"


@pytest.fixture
def other(make_place, place):
    """Another store that exports to the same repository."""
    other = make_place("other")
    other.path = place.path
    return other


@pytest.fixture
def first(place):
    """A run of the first store, exported with its prompt tag."""
    made = place.commit("t1", "a", prompt="p1", workflow="first")
    assert made["tags"] == ["corr_a", "prompt_p1"]
    assert place.export().state == "done"
    return made


def test_run_of_a_prompt_that_another_store_used_first_goes_without_the_tag(place, other, first):
    before = place.refs()
    second = other.commit("t1", "b", prompt="p1", workflow="second")
    third = other.commit("t2", "c", prompt="p1", workflow="second")
    summary = other.export()
    assert (summary.state, summary.exported, summary.failures) == ("done", 2, [])
    (warning,) = summary.warnings
    assert warning.startswith("tag prompt_p1 is another store's")
    assert "b@1 goes without it" in warning
    assert place.refs() == before | {
        f"refs/heads/{second['branch']}": second["commit_sha"],
        f"refs/heads/{third['branch']}": third["commit_sha"],
        "refs/tags/corr_b": place.refs()["refs/tags/corr_b"],
        "refs/tags/corr_c": place.refs()["refs/tags/corr_c"],
    }
    assert_sound(place.path)
    assert verify_export(place.store, place.path).faults == []
    assert verify_export(other.store, place.path).faults == []
    again = other.export(rebuild=True)
    assert (again.exported, again.objects, again.state, again.warnings) == (0, 0, "done", [])
    runs = other.store.list_artifacts(prompt_hash="p1")
    assert {run["correlation_id"] for run in runs} == {"b", "c"}


def test_dry_run_says_the_same_of_the_tag(place, other, first):
    other.commit("t1", "b", prompt="p1", workflow="second")
    pretended = other.export(dry_run=True)
    assert (pretended.exported, pretended.refs) == (1, 2)
    assert pretended.warnings == other.export().warnings != []


def test_tag_goes_to_the_remote_by_the_store_that_made_it(place, remote, other, first):
    second = other.commit("t1", "b", prompt="p1", workflow="second")
    summary = other.export(push=True)
    assert (summary.state, summary.pushed) == ("done", 1)
    assert set(refs_of(remote)) == {f"refs/heads/{second['branch']}", "refs/tags/corr_b"}
    assert place.export(push=True).pushed == 1
    assert refs_of(remote) == place.refs()
    assert_sound(remote)
    for each in (place, other):
        assert verify_export(each.store, place.path, remote="origin").faults == []
        again = each.export(rebuild=True, push=True)
        assert (again.state, again.exported, again.pushed) == ("done", 0, 0)  # nothing was lost
    run_git(remote, "update-ref", "-d", "refs/tags/corr_b")
    assert other.export(rebuild=True, push=True).pushed == 1
    assert refs_of(remote) == place.refs()


def test_each_store_rolls_up_its_own_tag_only(place, other, first):
    other.commit("t1", "b", prompt="p1", workflow="second")
    other.export()
    summary = archive_branches(other.store, repository=place.path, keep_newest=0, push=False)
    assert (summary.branch_count, summary.left) == (1, [])
    assert {TAG, "refs/tags/corr_a", f"refs/heads/{first['branch']}"} < set(place.refs())
    assert verify_export(other.store, place.path).faults == []
    assert verify_export(place.store, place.path).faults == []


def test_parked_run_of_such_a_prompt_goes_when_it_is_tried_again(place, other, first):
    theirs = place.git("commit-tree", "-m", "a person's", place.git("mktree"))
    ours = place.refs()[TAG]
    place.git("update-ref", TAG, theirs)
    second = other.commit("t1", "b", prompt="p1", workflow="second")
    assert other.export().parked == 1
    place.git("update-ref", TAG, ours)
    assert other.export(retry_parked=True).state == "done"
    assert other.state(second)["export_state"] == "exported"


@pytest.mark.parametrize(
    "made", ["lightweight", "by a person", "on a commit of this store", "of another name", "on a blob"]
)
def test_prompt_tag_that_no_store_made_first_is_in_the_way(place, other, made):
    own = other.commit("t0", "own", workflow="second")
    assert other.export().state == "done"
    target = {
        "on a commit of this store": own["commit_sha"],
        "on a blob": place.git("hash-object", "-w", "/dev/null"),
    }
    oid = target.get(made) or place.git("commit-tree", "-m", "a person's", place.git("mktree"))
    kind = "blob" if made == "on a blob" else "commit"
    name = "elsewhere" if made == "of another name" else "prompt_p1"
    message = "a person's" if made == "by a person" else "Add artifacts for w/t"
    text = f"object {oid}\ntype {kind}\ntag {name}\ntagger a <a@example.com> 1 +0000\n\n{message}\n"
    place.git("update-ref", TAG, oid if made == "lightweight" else place.git("mktag", stdin=text))
    before = place.refs()
    other.commit("t1", "b", prompt="p1", workflow="second")
    summary = other.export()
    assert (summary.parked, summary.warnings) == (1, [])
    assert "tag prompt_p1 exists already and points elsewhere" in summary.failures[0]["reason"]
    assert place.refs() == before


def test_prompt_tag_moved_onto_another_run_of_the_store_is_a_fault(place, first):
    place.commit("t2", "z", workflow="first")
    place.export()
    place.git("update-ref", TAG, place.refs()["refs/tags/corr_z"])
    assert [fault.subject for fault in verify_export(place.store, place.path).faults] == [TAG]


def test_stores_with_repositories_of_their_own_meet_at_the_remote(make_place, place, remote, first):
    assert place.export(push=True).pushed == 1
    lone = make_place("lone")
    lone.git("remote", "add", "origin", str(remote))
    lone.commit("t1", "b", prompt="p1", workflow="second")
    before = refs_of(remote)
    summary = lone.export(push=True)
    assert (summary.state, summary.pushed) == ("parked", 0)
    assert refs_of(remote) == before
    (parked,) = export_status(lone.store)["parked"]
    assert "the remote has another tag prompt_p1" in parked["reason"]
    assert "git fetch --force REMOTE tag prompt_p1" in parked["reason"]
    lone.git("fetch", "--force", "origin", "tag", "prompt_p1")
    summary = lone.export(push=True, retry_parked=True)
    assert (summary.state, summary.pushed) == ("done", 1)
    assert before.items() < refs_of(remote).items()
    assert verify_export(lone.store, remote="origin").faults == []
    assert Exporter(lone.store).run(rebuild=True, push=True).state == "done"


def test_sha256_repository_is_shared_in_the_same_way(make_place):
    one, two = (make_place(name, object_format="sha256") for name in ("one", "two"))
    one.commit("t1", "a", prompt="p1", workflow="first")
    two.commit("t1", "b", prompt="p1", workflow="second")
    two.path = one.path
    assert [each.export().state for each in (one, two)] == ["done", "done"]
    assert run_git(one.path, "tag") == "corr_a\ncorr_b\nprompt_p1"
    assert verify_export(two.store, one.path).faults == []

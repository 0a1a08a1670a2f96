"""What other people did in the repository: nothing of theirs is overwritten, and the reason says what to do."""

from __future__ import annotations

import shutil

import pytest

from cas import catalog, outbox
from cas.digest import digest_bytes
from cas.lmdbenv import Table
from cas.outbox import Stage
from gitexport import export_status, verify_export
from tests.export.places import assert_sound, refs_of, run_git
from tests.gc.keeping import flip_byte

BRANCH = "refs/heads/ai/generated/wf/t1"


def foreign_commit(place, *parents):
    tree = place.git("mktree", stdin="")
    words = [word for parent in parents for word in ("-p", parent)]
    return place.git("commit-tree", tree, *words, stdin="somebody else's\n")


def reason_of(place):
    (parked,) = export_status(place.store)["parked"]
    return parked["reason"]


def test_branch_moved_by_someone_else_is_left_alone_until_it_is_put_right(place):
    first = place.commit("t1", "a")
    place.export()
    theirs = foreign_commit(place)
    place.git("update-ref", BRANCH, theirs)
    second, third = place.commit("t1", "b"), place.commit("t1", "c")
    other = place.commit("t2", "d")
    summary = place.export()
    assert (summary.state, summary.exported, summary.parked) == ("parked", 1, 2)
    assert "moved by someone else" in summary.failures[0]["reason"]
    assert "waits for" in summary.failures[1]["reason"]
    assert place.refs()[BRANCH] == theirs
    assert place.state(other)["export_state"] == "exported"
    assert place.state(second)["export_state"] == "parked"
    later = place.commit("t1", "e")
    assert place.export().exported == 0
    assert "waits for a parked entry" in place.state(later)["reason"]
    place.git("update-ref", BRANCH, first["commit_sha"])
    assert place.export().exported == 0
    assert place.export(retry_parked=True).exported == 3
    assert place.state(third)["export_state"] == "exported"
    place.assert_exported()


def test_branch_moved_on_by_someone_on_top_of_ours_counts_as_exported_but_not_further(place):
    first = place.commit("t1", "a")
    place.export()
    place.git("update-ref", BRANCH, foreign_commit(place, first["commit_sha"]))
    place.commit("t1", "b")
    assert "moved by someone else" in place.export().failures[0]["reason"]
    assert place.export(rebuild=True).parked == 1
    assert place.state(first)["export_state"] == "exported"


def test_tag_made_by_someone_else_parks_the_run_whole(place):
    theirs = foreign_commit(place)
    place.git("update-ref", "refs/tags/corr_a", theirs)
    place.commit("t1", "a", prompt="p")
    assert place.export().parked == 1
    assert "tag corr_a exists already" in reason_of(place)
    assert place.refs() == {"refs/tags/corr_a": theirs}
    place.git("update-ref", "-d", "refs/tags/corr_a")
    assert place.export(retry_parked=True).exported == 1
    place.assert_exported()


def test_new_branch_that_exists_already_is_left_alone(place):
    theirs = foreign_commit(place)
    place.git("update-ref", BRANCH, theirs)
    place.commit("t1")
    assert place.export().parked == 1
    assert "exists already with commits the store does not know" in reason_of(place)
    assert place.refs() == {BRANCH: theirs}


@pytest.mark.parametrize("blocker", ["ai", "ai/generated", "ai/generated/wf"])
@pytest.mark.parametrize("packed", [True, False])
def test_branch_in_the_place_of_a_folder_parks_what_it_blocks(place, blocker, packed):
    place.git("update-ref", f"refs/heads/{blocker}", foreign_commit(place))
    if packed:
        place.git("pack-refs", "--all")
    place.commit("t1")
    place.commit("t1")
    other = place.commit("t2", workflow="other")
    summary = place.export()
    blocked = blocker != "ai/generated/wf"
    assert summary.exported == (0 if blocked else 1)
    assert f"a branch named {blocker} exists" in summary.failures[0]["reason"]
    assert (place.state(other)["export_state"] == "parked") == blocked
    place.git("update-ref", "-d", f"refs/heads/{blocker}")
    place.export(retry_parked=True)
    place.assert_exported()


@pytest.mark.parametrize("packed", [True, False])
def test_branch_below_ours_parks_only_that_branch(place, packed):
    theirs = foreign_commit(place)
    place.git("update-ref", f"{BRANCH}/inner", theirs)
    if packed:
        place.git("pack-refs", "--all")
    runs = [place.commit("t1", "a"), place.commit("t2", "b"), place.commit("t1", "c")]
    summary = place.export()
    assert (summary.exported, summary.parked) == (1, 2)
    assert place.state(runs[1])["export_state"] == "exported"
    assert place.refs()[f"{BRANCH}/inner"] == theirs
    place.git("update-ref", "-d", f"{BRANCH}/inner")
    assert place.export(retry_parked=True).exported == 2
    place.assert_exported()


def test_damaged_blob_holds_back_its_own_branch_only(place):
    bad = place.commit("t1", "bad", files={"data.csv": b"will be damaged " * 50})
    with place.store.environment.write() as transaction:
        ((key, value),) = list(transaction.scan(Table.SEGMENTS))
        transaction.put(Table.SEGMENTS, key, value[:-10] + b"x" + value[-9:])
    after, good = place.commit("t1", "after"), place.commit("t2", "good")
    summary = place.export()
    assert (summary.exported, summary.parked) == (1, 2)
    assert "damaged" in place.state(bad)["reason"] or "does not match" in place.state(bad)["reason"]
    assert "waits for" in place.state(after)["reason"]
    assert place.state(good)["export_state"] == "exported"
    assert set(place.refs()) == {"refs/heads/ai/generated/wf/t2", "refs/tags/corr_good"}
    assert_sound(place.path)


def test_damaged_manifest_is_parked_by_name_and_the_rest_goes_on(place):
    place.commit("t1", "bad")
    good = place.commit("t2", "good")
    with place.store.environment.write() as transaction:
        key, value = next(iter(transaction.scan(Table.MANIFESTS)))
        transaction.put(Table.MANIFESTS, key, value[:-3] + b"xyz")
    assert (export_status(place.store)["queued"], export_status(place.store)["queued_age_s"]) == (2, None)
    summary = place.export()
    assert (summary.exported, summary.parked) == (1, 1)
    assert place.state(good)["export_state"] == "exported"
    (parked,) = export_status(place.store)["parked"]
    assert (parked["correlation_id"], parked["branch"], parked["commit_sha"]) == (None, "", "")
    assert parked["reason"] == summary.failures[0]["reason"]


def lose(place):
    """Replace the repository by an empty one."""
    shutil.rmtree(place.path)
    place.path.mkdir()
    run_git(place.path, "init", "--quiet", "--bare", "--initial-branch=main")


def test_lost_repository_is_noticed_and_rebuilt_with_the_same_ids(place):
    for number in range(5):
        place.commit(f"t{number % 2}", prompt=f"{number}")
    place.export()
    expected = place.refs()
    lose(place)
    assert any("--rebuild" in warning for warning in place.export().warnings)
    place.commit("t1", "later")
    summary = place.export()
    assert summary.parked == 1
    assert "cas export --rebuild" in reason_of(place)
    summary = place.export(rebuild=True)
    assert (summary.state, summary.exported) == ("done", 6)
    assert {name: oid for name, oid in place.refs().items() if name in expected and name != BRANCH} == {
        name: oid for name, oid in expected.items() if name != BRANCH
    }
    place.assert_exported()
    assert place.export().warnings == []


def test_repository_restored_from_an_old_backup_is_noticed_and_rebuilt(place, tmp_path):
    place.commit("t1", "a")
    place.commit("t2", "b")
    place.export()
    shutil.copytree(place.path, tmp_path / "backup")
    place.commit("t1", "c")
    place.export()
    expected = place.refs()
    shutil.rmtree(place.path)
    shutil.copytree(tmp_path / "backup", place.path)
    assert any("restored from a backup" in warning for warning in place.export().warnings)
    late = place.commit("t1", "d")
    assert place.export().parked == 1
    assert "older commit of the store" in place.state(late)["reason"]
    summary = place.export(rebuild=True, dry_run=True)
    assert summary.exported == 2
    assert place.export(rebuild=True).exported == 2
    assert expected.items() - place.refs().items() == {(BRANCH, expected[BRANCH])}
    place.assert_exported()


def test_rebuild_of_a_whole_repository_changes_nothing(place, remote):
    runs = [place.commit(f"t{number}") for number in range(3)]
    place.export(push=True)
    waiting = place.commit("t1")
    before = {result["commit_sha"]: place.state(result) for result in runs}
    refs = place.refs()
    summary = place.export(rebuild=True, push=False, limit=0)
    assert (summary.exported, summary.objects, summary.refs) == (0, 0, 0)
    assert {result["commit_sha"]: place.state(result) for result in runs} == before
    assert (place.refs(), place.state(waiting)["export_state"]) == (refs, "queued")


def test_rebuild_keeps_what_is_known_of_the_remote(place, remote):
    run = place.commit("t1")
    place.export(push=True)
    pushed_at = place.state(run)["pushed_at"]
    lose(place)
    place.export(rebuild=True, push=False)
    assert place.state(run)["export_state"] == "pushed"
    assert place.state(run)["pushed_at"] == pushed_at
    place.git("remote", "add", "origin", str(remote))
    place.commit("t1")
    assert place.export(push=True).state == "done"
    assert refs_of(remote) == place.refs()


def test_rebuild_pushes_again_what_the_remote_has_lost(place, remote):
    place.commit("t1", "a")
    place.commit("t1", "b")
    place.commit("t2", "c")
    place.export(push=True)
    run_git(remote, "update-ref", "-d", "refs/tags/corr_a")
    run_git(remote, "update-ref", "-d", "refs/heads/ai/generated/wf/t2")
    assert place.export(push=True).pushed == 0
    assert place.export(push=True, rebuild=True).pushed == 2
    place.assert_exported(remote)


def test_rebuild_writes_objects_that_refs_have_lost(place):
    place.commit("t1", "a")
    place.commit("t2", "b")
    place.export()
    refs = place.refs()
    for path in (place.path / "objects" / "pack").iterdir():
        path.unlink()
    summary = place.export(rebuild=True)
    assert (summary.exported, summary.objects > 0) == (0, True)
    assert place.refs() == refs
    place.assert_exported()
    assert verify_export(place.store).ok


def test_damaged_run_that_is_named_is_parked_and_the_others_that_are_named_go_on(place):
    below = place.commit("t1", "below")
    place.commit("t1", "bad")
    good = place.commit("t2", "good")
    place.commit("t3", "unnamed")
    with place.store.environment.write() as transaction:
        sequence = catalog.find_revision(transaction, "bad", 1)
        key = catalog.sequence_key(sequence)
        transaction.put(Table.MANIFESTS, key, transaction.get(Table.MANIFESTS, key)[:-3] + b"xyz")
    summary = place.export(only=["bad", "good"])
    assert (summary.exported, summary.parked, summary.state) == (1, 1, "parked")
    assert [failure["label"] for failure in summary.failures] == [f"manifest {sequence}"]
    assert place.state(good)["export_state"] == "exported"
    # What the bad one stands on cannot be told any more, so it waits for the next export of everything.
    assert place.state(below)["export_state"] == "queued"
    assert place.export().exported == 2


@pytest.mark.parametrize("deposits", [True, False])
@pytest.mark.parametrize("healed", [False, True], ids=["damaged", "quarantined"])
def test_damaged_row_of_a_blob_matters_only_where_no_deposit_tells(place, healed, deposits):
    content = b"of this run alone" * 30
    bad = place.commit("t1", "bad", files={"x": content})
    good = place.commit("t2", "good")
    if not deposits:
        with place.store.environment.write() as transaction:
            for sequence in (1, 2):
                outbox.enqueue(transaction, sequence)
    flip_byte(place.store, Table.BLOBS, digest_bytes(content), 3)
    if healed:
        place.store.heal()
    place.export()
    assert place.state(good)["export_state"] == "exported"
    assert place.state(bad)["export_state"] == ("exported" if deposits else "parked")
    assert_sound(place.path)


def test_damaged_row_of_the_outbox_holds_back_nothing_that_waits(place):
    runs = [place.commit("t1", "a"), place.commit("t2", "b"), place.commit("t3", "c")]
    place.export(limit=1)
    for stage, sequence in ((Stage.PUSH, 1), (Stage.WRITE, 2)):
        flip_byte(place.store, Table.OUTBOX, stage.value + catalog.sequence_key(sequence), 2)
    assert not place.store.verify().ok
    assert place.state(runs[1])["export_state"] == "queued"
    assert place.export().exported == 2
    place.assert_exported()


def test_damaged_row_of_what_was_set_aside_stays_aside(place):
    run = place.commit("t1", "a")
    with place.store.environment.write() as transaction:
        outbox.record_failure(transaction, 1, reason="no", now_us=1, park=True)
    flip_byte(place.store, Table.OUTBOX, Stage.PARKED_WRITE.value + catalog.sequence_key(1), 2)
    assert place.state(run)["reason"] == "its row in the outbox is damaged"
    assert place.export(retry_parked=True).parked == 1, "it may have been purged"
    assert place.refs() == {}


def test_damaged_receipt_does_not_end_a_list(place):
    for name in ("a", "b"):
        place.commit("t1", name)
    place.export()
    flip_byte(place.store, Table.RECEIPTS, catalog.sequence_key(1), 2)
    assert [run["export_state"] for run in place.store.list_artifacts()] == ["exported", "exported"]

"""Batches of an export: what is planned around, what is tried again, what is set aside and told."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from cas import catalog, outbox
from cas.errors import ConflictError, ExportError, IntegrityError
from cas.lmdbenv import Table
from cas.outbox import Stage
from gitexport import batch
from gitexport.batch import BatchWriter
from gitexport.entries import load_entry
from gitexport.refvalues import RefChange
from gitexport.repository import GitRepository
from gitexport.summary import ExportSummary
from tests.gitexport.refplaces import commit as git_commit
from tests.gitexport.refplaces import git, values
from tests.store.stores import commit, open_store

T1, T2 = "refs/heads/ai/generated/wf/t1", "refs/heads/ai/generated/wf/t2"


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "s") as opened:
        commit(opened, "a", task_id="t1")
        commit(opened, "b", task_id="t2", files={"x": b"b"})
        commit(opened, "c", task_id="t1", files={"x": b"c"})
        yield opened


class Told:
    """Hooks that keep what they are told."""

    def __init__(self):
        self.batches = []

    def batch(self, sequences):
        self.batches.append(sequences)


def writing(store, repo, *, dry_run=False, hooks=None):
    summary = ExportSummary(dry_run=dry_run)
    return BatchWriter(store, repo, summary, check="full", hooks=hooks), summary


def entries(store, *sequences):
    with store.environment.read() as transaction:
        return [load_entry(transaction, sequence) for sequence in sequences]


def stages(store):
    with store.environment.read() as transaction:
        return {stage: [number for number, _ in outbox.iter_entries(transaction, stage)] for stage in Stage}


def reason_of(store, sequence):
    with store.environment.read() as transaction:
        return outbox.find_entry(transaction, sequence)[1].reason


def test_batch_is_written_received_counted_and_told(store, repo):
    hooks = Told()
    made, summary = writing(store, repo, hooks=hooks)
    some = entries(store, 1, 2, 3)
    made.write(some)
    assert (summary.exported, summary.refs, summary.failures, summary.warnings) == (3, 5, [], [])
    assert summary.objects > 10
    (pack,) = (repo.common_dir / "objects" / "pack").glob("*.pack")
    assert summary.pack_bytes == pack.stat().st_size
    assert hooks.batches == [[1, 2, 3]]
    assert stages(store)[Stage.WRITE] == []
    assert stages(store)[Stage.PUSH] == [1, 2, 3]
    assert values(repo)[T1] == some[2].commit
    with store.environment.read() as transaction:
        assert outbox.exported_segment(transaction) > 0
        exported_at_us = outbox.get_receipt(transaction, 3).exported_at_us
    assert exported_at_us > 0
    made.write(some)
    assert (summary.exported, summary.refs) == (6, 5), (
        "what is there already counts as exported, and moves no ref"
    )


def test_dry_run_counts_and_goes_on_as_if_it_had_written(store, repo):
    made, summary = writing(store, repo, dry_run=True)
    made.write(entries(store, 1, 2))
    made.write(entries(store, 3))
    assert (summary.exported, summary.refs, summary.failures) == (3, 6, [])
    assert values(repo) == {}
    assert stages(store)[Stage.WRITE] == [1, 2, 3]
    made.park({2: "damaged"})
    assert summary.failures == [{"label": "manifest 2", "branch": "", "reason": "damaged"}]
    assert stages(store)[Stage.PARKED_WRITE] == []


def test_entry_in_whose_way_somebody_stands_is_set_aside_with_those_above_it(store, repo):
    foreign = git_commit(repo.path)
    repo.update_refs([RefChange("refs/tags/corr_a", None, foreign)])
    made, summary = writing(store, repo)
    made.write(entries(store, 1, 2, 3))
    assert stages(store)[Stage.PARKED_WRITE] == [1, 3]
    assert (summary.exported, summary.failure_count) == (1, 2)
    assert [failure["label"] for failure in summary.failures] == ["a@1", "c@1"]
    assert {failure["branch"] for failure in summary.failures} == {"ai/generated/wf/t1"}
    assert "corr_a" in reason_of(store, 1)
    commit(store, "d", task_id="t1", files={"x": b"d"})
    made.write(entries(store, 4))
    assert reason_of(store, 4) == f"waits for a@1: {reason_of(store, 1)}"
    again, summary = writing(store, repo)
    commit(store, "e", task_id="t1", files={"x": b"e"})
    again.write(entries(store, 5))
    assert reason_of(store, 5) == f"waits for a parked entry of the branch: {reason_of(store, 1)}"
    assert again._parked_branches()[T1][0] == 1
    again.forget_parked()
    assert again._parked_branches() == {}


def test_parked_manifest_that_is_damaged_keeps_no_branch_back(store, repo):
    made, _ = writing(store, repo)
    made.park({1: "damaged"})
    with store.environment.write() as transaction:
        transaction.put(Table.MANIFESTS, catalog.sequence_key(1), b"damaged")
    assert writing(store, repo)[0]._parked_branches() == {}


def test_damaged_manifests_are_parked_and_told(store, repo):
    made, summary = writing(store, repo)
    made.park({})
    assert summary.failures == []
    store._clock = lambda: 5_000
    made.park({1: "one", 3: "three"})
    assert stages(store)[Stage.PARKED_WRITE] == [1, 3]
    assert (reason_of(store, 1), reason_of(store, 3)) == ("one", "three")
    assert [(one["label"], one["branch"], one["reason"]) for one in summary.failures] == [
        ("manifest 1", "", "one"),
        ("manifest 3", "", "three"),
    ]


def judged(store, repo, error, times, sequences=(1, 2, 3)):
    """Judge an error again and again; return what is refused after each time, "raised" where it was given up."""
    made, _ = writing(store, repo)
    refused, tries, found = {}, Counter(), []
    for _ in range(times):
        try:
            made._judge(error, entries(store, *sequences), refused, tries)
        except (ConflictError, IntegrityError):
            found.append("raised")
        else:
            found.append(sorted(refused))
    return found, refused


def test_conflict_is_planned_around_and_its_culprits_set_aside_at_the_third(store, repo):
    error = ConflictError("moved", subject=T1)
    found, refused = judged(store, repo, error, 4)
    assert found == [[], [], [1, 3], "raised"]
    assert refused == {1: "moved", 3: "moved"}


def test_damage_is_set_aside_at_once(store, repo):
    (entry,) = entries(store, 2)
    found, refused = judged(store, repo, IntegrityError("bad", subject=entry.files[0].digest.hex()), 1)
    assert (found, refused) == ([[2]], {2: "bad"})


def test_error_about_nobody_is_raised_at_the_third(store, repo):
    assert judged(store, repo, ConflictError("x", subject="refs/heads/other"), 3)[0] == [[], [], "raised"]
    assert judged(store, repo, ConflictError("x"), 3)[0] == [[], [], "raised"]


@pytest.mark.parametrize(("kind", "tries"), [("file_vanished", 3), ("other", 1)])
def test_file_that_vanished_is_written_again_and_other_failures_are_not(
    store, repo, monkeypatch, kind, tries
):
    calls = []

    def fail(*words, **settings):
        calls.append(settings)
        raise ExportError("gone", kind=kind, retryable=True)

    monkeypatch.setattr(batch, "write_batch", fail)
    made, _ = writing(store, repo)
    with pytest.raises(ExportError):
        made.write(entries(store, 1))
    assert len(calls) == tries
    with store.environment.write() as transaction:
        outbox.record_exported(transaction, [1], 5, 7)
    calls.clear()
    with pytest.raises(ExportError):
        made.write(entries(store, 2))
    assert calls[0] == {"check": "full", "known_segment": 7}


def writing_under(tmp_path, checked_out):
    """Export two branches, of which one is checked out, to a repository with a work tree."""
    tree = GitRepository.create(tmp_path / "a tree")
    git(tree.path, "symbolic-ref", "HEAD", T1)
    with open_store(tmp_path / "s2", checked_out=checked_out) as store:
        commit(store, "a", task_id="t1")
        commit(store, "b", task_id="t2")
        made, summary = writing(store, tree)
        made.write(entries(store, 1, 2))
        return tree, summary


def test_branch_that_is_checked_out_is_refused_where_that_is_wanted(tmp_path):
    tree, summary = writing_under(tmp_path, "refuse")
    reason = f"branch ai/generated/wf/t1 is checked out in {tree.path}"
    assert summary.failures == [{"label": "a@1", "branch": "ai/generated/wf/t1", "reason": reason}]
    assert (summary.exported, summary.warnings) == (1, [])


def test_branch_that_is_checked_out_is_moved_with_a_warning(tmp_path):
    tree, summary = writing_under(tmp_path, "warn")
    assert summary.warnings == [batch._checked_out(T1, str(tree.path))]
    assert (summary.exported, summary.failures) == (2, [])


def test_objects_of_others_that_git_lacks_are_found(store, repo):
    (entry,) = entries(store, 1)
    made, _ = writing(store, repo)
    here = git_commit(repo.path)
    own, file = entry.objects[0].oid.hex(), entry.files[0].oid.hex()
    needing = replace(entry, needs=("1" * 40, here, own, file))
    assert made._absent([needing, *entries(store, 2)]) == {"1" * 40}
    assert made._absent(entries(store, 1, 2)) == set()


def test_entries_that_do_not_stand_on_what_their_branch_shows_are_told(store):
    first, second, third = entries(store, 1, 2, 3)
    assert third.parent == first.commit

    def told(some, refs):
        return list(batch._not_following(some, refs))

    assert told([first, second, third], {}) == []
    assert told([third], {}) == [third]
    assert told([third], {T1: first.commit}) == []
    assert told([third], {T1: "1" * 40}) == [third]
    assert told([third], {T2: first.commit}) == [third]
    assert told([third, first], {T1: "1" * 40}) == [third]

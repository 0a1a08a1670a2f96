"""Store and git compared: what a proof names, what a branch's history holds, what a repository has lost."""

from __future__ import annotations

import random
import subprocess
from dataclasses import replace

import msgspec
import pytest

from cas import catalog, outbox
from cas.errors import GitCommandFailedError
from cas.lmdbenv import Table
from cas.outbox import Stage
from gitexport import Exporter, archive_branches, rebuild, verify
from gitexport.archive import Archive
from gitexport.entries import load_entry
from gitexport.git import GitOptions
from gitexport.history import BranchHistory
from gitexport.rebuild import find_lost, note_loss, rebuild_repository
from gitexport.repository import GitRepository
from gitexport.summary import ExportSummary
from gitexport.verify import ExportFault, ExportReport, verify_export
from tests.gitexport.refplaces import commit as git_commit
from tests.gitexport.refplaces import git, values
from tests.store.stores import FILES, commit, open_store

T1, T2 = "refs/heads/ai/generated/wf/t1", "refs/heads/ai/generated/wf/t2"


@pytest.fixture
def store(tmp_path, repo):
    """Two runs on one branch, one on another, all of them exported; a fourth that is not."""
    with open_store(repo.path, store_path=tmp_path / "s", auto_push=False) as opened:
        commit(opened, "a", task_id="t1")
        commit(opened, "b", task_id="t2", files={"x": b"b"})
        commit(opened, "c", task_id="t1", files={"x": b"c"})
        Exporter(opened).run()
        commit(opened, "d", task_id="t3")
        yield opened


def entries(store, *sequences):
    with store.environment.read() as transaction:
        return [load_entry(transaction, sequence) for sequence in sequences]


def faults(store, **settings):
    return [(one.label, one.subject, one.detail) for one in verify_export(store, **settings).faults]


def stages(store):
    with store.environment.read() as transaction:
        return [number for number, _ in outbox.iter_entries(transaction, Stage.WRITE)]


def damage(store, sequence):
    with store.environment.write() as transaction:
        transaction.put(Table.MANIFESTS, catalog.sequence_key(sequence), b"damaged")


def lose(repo, oid):
    """Take all packs apart and remove one object."""
    packs = list((repo.common_dir / "objects" / "pack").glob("*.pack"))
    for pack in packs:
        data = pack.read_bytes()
        for path in pack.parent.glob(f"{pack.stem}.*"):
            path.unlink()
        (repo.common_dir / "x.pack").write_bytes(data)
        with (repo.common_dir / "x.pack").open("rb") as file:
            subprocess.run(["git", "-C", repo.path, "unpack-objects", "-q"], stdin=file, check=True)
        (repo.common_dir / "x.pack").unlink()
    path = repo.common_dir / "objects" / oid[:2] / oid[2:]
    path.unlink()
    return path


# ---- the proof ------------------------------------------------------------------------------------------------------


def test_proof_counts_what_it_compared(store):
    told = []
    report = verify_export(store, progress=lambda *words: told.append(words))
    some = entries(store, 1, 2, 3)
    made = {item.oid: len(item.data) for entry in some for item in entry.objects}
    files = {file.oid: file.size_bytes for entry in some for file in entry.files}
    assert report == ExportReport(
        run_count=3, object_count=len(made | files), byte_count=sum((made | files).values()), not_exported=1
    )
    assert told == [("compare", 3, 3)]
    assert report.as_dict() == {
        "ok": True, "run_count": 3, "object_count": report.object_count, "byte_count": report.byte_count,
        "not_exported": 1, "complete": True, "faults": [],
    }  # fmt: skip


def test_proof_goes_batch_by_batch_and_ends_when_it_is_late(store, monkeypatch):
    monkeypatch.setattr(verify, "_BATCH_RUNS", 1)
    told = []
    report = verify_export(store, progress=lambda *words: told.append(words[1:]))
    assert told == [(1, 3), (2, 3), (3, 3), (3, 3)]
    assert (report.run_count, report.complete) == (3, True)
    report = verify_export(store, max_duration_s=0)
    assert (report.run_count, report.complete, report.not_exported) == (1, False, 0)
    assert verify_export(store, max_duration_s=1000).complete


def test_sample_is_chosen_by_the_seed(store):
    for seed in (1, 2, 3):
        chosen = random.Random(seed)
        count = sum(chosen.random() < 0.5 for _ in range(3))
        report = verify_export(store, sample=0.5, seed=seed)
        assert (report.run_count, report.complete) == (count, False)
    assert verify_export(store, sample=1.0).complete


def test_damaged_manifest_is_a_fault_and_ends_nothing(store):
    damage(store, 2)
    report = verify_export(store)
    ((label, subject, detail),) = faults(store)
    assert (label, subject, report.run_count, report.ok) == ("manifest 2", "store", 3, False)
    assert detail


def test_fault_of_a_ref_says_what_stands_there(store, repo):
    first, second, third = entries(store, 1, 2, 3)
    (tag,) = first.tags
    git(repo.path, "update-ref", tag[0], second.commit)
    git(repo.path, "update-ref", "-d", second.tags[0][0])
    assert set(faults(store)) == {
        ("a@1", tag[0], f"is {second.commit}, expected {tag[1]}"),
        ("b@1", second.tags[0][0], f"is missing, expected {second.tags[0][1]}"),
    }
    for name, oid in values(repo).items():
        git(repo.path, "update-ref", "-d", name, oid)
    Exporter(store).run(rebuild=True)
    git(repo.path, "update-ref", T1, first.commit)
    git(repo.path, "update-ref", "-d", T2)
    assert set(faults(store)) == {
        ("c@1", T1, f"is {first.commit}, which lacks {third.commit}"),
        ("b@1", T2, "is missing"),
    }


def test_fault_of_the_remote_says_what_it_shows(store, repo, tmp_path):
    far = GitRepository.create_bare(tmp_path / "far.git")
    git(repo.path, "remote", "add", "origin", str(far.path))
    assert faults(store, remote="origin") == [], "what was never pushed is not missed"
    Exporter(store).run(push=True)
    first, second, third = entries(store, 1, 2, 3)
    assert faults(store, remote="origin") == []
    git(far.path, "update-ref", first.tags[0][0], second.commit)
    git(far.path, "update-ref", "-d", second.tags[0][0])
    git(far.path, "update-ref", T1, first.commit)
    git(far.path, "update-ref", "-d", T2)
    assert set(faults(store, remote="origin")) == {
        ("a@1", first.tags[0][0], f"the remote has {second.commit}, expected {first.tags[0][1]}"),
        ("b@1", second.tags[0][0], f"the remote has nothing, expected {second.tags[0][1]}"),
        ("b@1", T2, "the remote does not have it"),
        ("c@1", T1, f"the remote has {first.commit}, in whose history {third.commit} cannot be found"),
    }
    assert faults(store) == []


@pytest.mark.parametrize("kind", ["commit", "tag", "tree", "blob"])
def test_lost_object_is_named_as_missing(store, repo, kind):
    (entry,) = entries(store, 2)
    oid = next((item.oid for item in entry.objects if item.kind == kind), entry.files[0].oid)
    lose(repo, oid.hex())
    found = faults(store)
    assert ("b@1", oid.hex(), "is missing") in found
    everything = {item.oid for one in entries(store, 1, 2, 3) for item in (*one.objects, *one.files)}
    assert verify_export(store).object_count == len(everything)


class Stream:
    """An object as git gives it."""

    def __init__(self, oid, kind, data):
        self.oid, self.kind, self.data, self.size_bytes = oid, kind, data, len(data)

    def __iter__(self):
        yield self.data[:2]
        yield self.data[2:]


def compared(stream, entry):
    made = {item.oid.hex(): (entry, item) for item in entry.objects}
    files = {file.oid.hex(): (entry, file) for file in entry.files}
    report = ExportReport()
    verify._compare_object(stream, made, files, report)
    assert (report.object_count, report.byte_count) == (1, stream.size_bytes)
    return [one.detail for one in report.faults]


def test_object_counts_as_the_same_by_its_bytes_and_its_kind(store):
    (entry,) = entries(store, 1)
    item, file = next(item for item in entry.objects if item.kind == "tree"), entry.files[0]
    oid, data = item.oid.hex(), item.data
    assert compared(Stream(oid, item.kind, data), entry) == []
    assert compared(Stream(oid, item.kind, data + b"x"), entry) == [
        f"{item.kind} differs from what the store promised"
    ]
    assert compared(Stream(oid, "blob", data), entry) == [f"{item.kind} differs from what the store promised"]
    assert compared(Stream(oid, "missing", b""), entry) == ["is missing"]
    oid, data = file.oid.hex(), FILES[file.name]
    assert compared(Stream(oid, "blob", data), entry) == []
    for kind, other in (("blob", data + b"x"), ("tree", data)):
        assert compared(Stream(oid, kind, other), entry) == [
            f"blob of {file.name!r} does not match its digest"
        ]


def test_object_that_git_cannot_read_is_a_fault_and_the_rest_is_compared(store, repo):
    some = entries(store, 1, 2)
    bad = [some[0].objects[0].oid.hex(), some[1].files[0].oid.hex()]
    for oid in bad:
        path = lose(repo, oid)
        path.write_bytes(b"garbage")
    report = ExportReport()
    verify._compare_objects(repo, some, report)
    found = {(one.label, one.subject): one.detail for one in report.faults}
    assert found.keys() == {("a@1", bad[0]), ("b@1", bad[1])}
    assert report.object_count == len({item.oid for e in some for item in (*e.objects, *e.files)})
    repo.options = GitOptions(timeout_s=0)
    with pytest.raises(GitCommandFailedError) as caught:
        verify._compare_objects(repo, some, ExportReport())
    assert caught.value.kind == "git_timeout"


@pytest.fixture
def rolled_up(store, repo):
    archive_branches(store, keep_newest=0, push=False)
    return Archive(store, repo)


def test_archive_counts_by_the_lists_that_it_carries(store, repo, rolled_up):
    assert faults(store) == []
    chain = rolled_up.chain
    report = ExportReport()
    verify._compare_lists(repo, [replace(chain[1], parents=chain[1].parents[:-1])], report)
    assert report.faults == [
        ExportFault("archive", chain[1].oid, "its file packed-refs does not list the branches it holds")
    ]
    for tree in (git(repo.path, "mktree"), chain[1].oid, chain[0].tree):
        report = ExportReport()
        verify._compare_lists(repo, [replace(chain[1], tree=tree)], report)
        assert [one.subject for one in report.faults] == [chain[1].oid]


def test_archive_of_the_remote_is_told_by_its_place(store, repo, rolled_up):
    report = ExportReport()
    tips = [commit.oid for commit in rolled_up.chain]
    assert verify._remote_archive({}, rolled_up, report) is None
    assert [verify._remote_archive({rolled_up.ref: tip}, rolled_up, report) for tip in tips] == [0, 1]
    assert report.ok
    assert verify._remote_archive({rolled_up.ref: "1" * 40}, rolled_up, report) is None
    assert report.faults == [
        ExportFault(
            "archive", rolled_up.ref, f"the remote has {'1' * 40}, which the archive here does not hold"
        )
    ]


def test_archive_that_is_none_of_ours_is_a_fault(store, repo, rolled_up):
    git(repo.path, "update-ref", rolled_up.ref, git_commit(repo.path))
    found = [one for one in faults(store) if one[0] == "archive"]
    assert [one[1] for one in found] == [rolled_up.ref]
    (repo.common_dir / rolled_up.ref).write_text("1" * 40 + "\n")
    assert [one[1] for one in faults(store) if one[0] == "archive"] == [rolled_up.ref]


# ---- histories ------------------------------------------------------------------------------------------------------


def test_history_tells_where_a_tip_stands_without_git(store, repo, tmp_path):
    history = BranchHistory(store, GitRepository.create_bare(tmp_path / "empty.git"))
    first, second, third = entries(store, 1, 2, 3)
    assert history.holds(first, first.commit)
    assert history.holds(first, third.commit)
    assert not history.holds(third, first.commit)
    assert not history.holds(first, second.commit)
    assert not history.holds(first, "1" * 40)
    assert [history.is_older(third, tip) for tip in (first.commit, third.commit, second.commit)] == [
        True,
        False,
        False,
    ]
    assert not history.is_older(first, third.commit)
    assert (history.is_own(first.commit), history.is_own("1" * 40)) == (True, False)
    assert history.position(T1, third.commit) == 3
    assert history.position(T2, third.commit) is None
    assert history.position(T1, "1" * 40) is None


def test_history_asks_git_about_what_it_did_not_make(store, repo):
    history = BranchHistory(store, repo)
    first, _, third = entries(store, 1, 2, 3)
    later = git_commit(repo.path, "later", third.commit)
    assert history.holds(first, later)
    assert history.stands_on(later, first.commit)
    assert history.stands_on(third.commit, first.commit)
    assert history.stands_on(first.commit, first.commit)
    assert not history.stands_on(first.commit, third.commit)
    assert not history.stands_on(first.commit, "1" * 40)
    store.revert_to_tag("corr_a", "main")
    store.revert_to_tag("corr_c", "main")
    back, forth = entries(store, 5, 6)
    assert not history.holds(back, forth.commit), "a branch that people move too counts by what git has"
    Exporter(store).run()
    assert history.holds(back, forth.commit)


def test_damaged_tip_holds_up_nothing_as_git_is_asked(store, repo, tmp_path):
    first, _, third = entries(store, 1, 2, 3)
    damage(store, 3)
    history = BranchHistory(store, repo)
    assert history.position(T1, third.commit) is None
    assert history.holds(first, third.commit)
    assert history.stands_on(third.commit, first.commit)
    assert not history.is_own(third.commit)
    commit(store, "e", task_id="t2", files={"x": b"e"})
    summary = Exporter(store).run()
    assert (summary.exported, summary.parked) == (2, 0)


# ---- what was lost --------------------------------------------------------------------------------------------------


def test_loss_is_noted_by_the_newest_run_that_was_exported(store, repo):
    def noted():
        summary = ExportSummary()
        note_loss(store, repo, summary)
        return summary.warnings

    assert noted() == []
    *_, third = entries(store, 1, 2, 3)
    git(repo.path, "update-ref", "-d", T2)
    assert noted() == []
    for name in (T1, third.tags[0][0]):
        oid = values(repo)[name]
        git(repo.path, "update-ref", "-d", name)
        assert noted() == [
            (
                f"{repo.path} lacks c@1, which was exported before: if the repository was replaced or restored from a "
                "backup, `cas export --rebuild` writes again what it has lost"
            )
        ]
        git(repo.path, "update-ref", name, oid)
    git(repo.path, "update-ref", T1, git_commit(repo.path))
    assert len(noted()) == 1
    damage(store, 3)
    assert noted() == []


def test_store_that_exported_nothing_has_lost_nothing(tmp_path, repo):
    with open_store(repo.path, store_path=tmp_path / "s2") as store:
        summary = ExportSummary()
        note_loss(store, repo, summary)
        assert (summary.warnings, list(find_lost(store, repo))) == ([], [])


def test_rolled_up_branches_are_not_lost(store, repo, rolled_up):
    summary = ExportSummary()
    note_loss(store, repo, summary)
    assert summary.warnings == []
    assert list(find_lost(store, repo)) == []


def test_lost_refs_are_found_in_order_batch_by_batch(store, repo, monkeypatch):
    monkeypatch.setattr(rebuild, "_BATCH_RUNS", 2)
    told = []
    assert list(find_lost(store, repo, lambda *words: told.append(words))) == []
    assert told == [("compare", 2, 3), ("compare", 3, 3)]
    git(repo.path, "update-ref", "-d", T1)
    git(repo.path, "update-ref", "-d", T2)
    assert list(find_lost(store, repo)) == [1, 2, 3]
    assert stages(store) == [4]


def test_lost_refs_are_queued_again_and_lost_objects_written(store, repo):
    git(repo.path, "update-ref", "-d", T2)
    damage(store, 3)
    (entry,) = entries(store, 1)
    path = lose(repo, entry.files[0].oid.hex())
    summary, told = ExportSummary(), []
    rebuild_repository(store, repo, summary, "full", lambda *words: told.append(words))
    assert stages(store) == [2, 3, 4]
    assert (summary.objects, summary.warnings) == (1, [])
    assert summary.pack_bytes > 0
    assert told == [("compare", 3, 3)]
    assert not path.exists()
    assert repo.missing_objects([entry.files[0].oid.hex()]) == set()


def test_damaged_blob_keeps_no_others_objects_from_coming_back(store, repo, monkeypatch):
    some = entries(store, 1, 2)
    gone = msgspec.structs.replace(some[0], files=(replace_digest(some[0].files[0]),))
    lose(repo, some[1].files[0].oid.hex())
    summary = ExportSummary()
    rebuild._restore_objects(store, repo, summary, [gone, some[1]], "full")
    assert summary.objects == 1
    assert len(summary.warnings) == 1
    assert summary.warnings[0].startswith("a@1 cannot be compared with git: blob ")


def replace_digest(file):
    return msgspec.structs.replace(file, digest=b"\x07" * 32, oid=b"\x07" * 20)

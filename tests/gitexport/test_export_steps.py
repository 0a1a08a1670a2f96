"""Steps of an export one by one: what is selected, what is claimed, what is prepared, and what is told of the push."""

from __future__ import annotations

import pytest

from cas import catalog, outbox
from cas.errors import ConflictError, LeaseHeldError, NotFoundError
from cas.lmdbenv import Table
from cas.outbox import Stage
from gitexport import exporter, lease
from gitexport.exporter import Exporter
from gitexport.options import git_options
from gitexport.repository import GitRepository
from tests.gitexport.refplaces import git, values
from tests.store.stores import commit, open_store


@pytest.fixture
def store(tmp_path, repo):
    with open_store(repo.path, store_path=tmp_path / "s", auto_push=False) as opened:
        for name, task in (("a", "t1"), ("b", "t2"), ("c", "t1"), ("d", "t3")):
            commit(opened, name, task_id=task, files={"x": name.encode() * 10})
        yield opened


def exporting(store, *, dry_run=False, progress=None, stops=lambda: False):
    return exporter._Export(Exporter(store), progress, stops, dry_run=dry_run)


def stages(store):
    with store.environment.read() as transaction:
        return {stage: [number for number, _ in outbox.iter_entries(transaction, stage)] for stage in Stage}


def park(store, *sequences):
    with store.environment.write() as transaction:
        for sequence in sequences:
            outbox.record_failure(transaction, sequence, reason="refused", now_us=5, park=True)


def claimed(export, after=0, room=100, selection=None):
    entries, after, count = export._claim(after, room, selection)
    return [entry.sequence for entry in entries], after, count


def test_exporter_has_the_stores_settings_unless_told_otherwise(store, tmp_path):
    made = Exporter(store)
    assert (made.store, made.remote, made.check) == (store, "origin", "deposit")
    assert made.open_repository().path == store.config.repo_path
    GitRepository.create_bare(tmp_path / "other.git")
    made = Exporter(store, repository=tmp_path / "other.git", remote="up", check="crc")
    assert (made.remote, made.check) == ("up", "crc")
    assert made.open_repository().path == tmp_path / "other.git"


def test_repository_of_another_format_is_refused_with_a_way_out(store, tmp_path):
    wide = GitRepository.create_bare(tmp_path / "wide.git", "sha256")
    with pytest.raises(ConflictError) as caught:
        Exporter(store, repository=wide.path).open_repository()
    assert caught.value.subject == str(wide.path)
    assert caught.value.message == f"{wide.path} uses sha256 ids, the store sha1"
    assert "-o object_format=sha256" in caught.value.hint


def test_git_runs_under_the_options_of_the_store(store):
    config = store.config.replace(
        git_ssh_command="ssh -4", git_credential_helper="store", git_trust_foreign_owner=True
    )
    options = git_options(config)
    assert (options.ssh_command, options.credential_helper, options.trust_foreign_owner) == (
        "ssh -4",
        "store",
        True,
    )


def test_ids_select_their_runs_and_what_those_stand_on(store):
    commit(store, "c", task_id="t1", files={"x": b"second revision"})
    made = Exporter(store)
    assert made._select(["a"]) == {1}
    assert made._select(["c"]) == {1, 3, 5}
    assert made._select(["b", "d"]) == {2, 4}
    assert made._select([]) == set()
    with pytest.raises(NotFoundError) as caught:
        made._select(["a", "none"])
    assert (caught.value.subject, caught.value.message) == ("none", "there is no run 'none'")


def test_queue_is_claimed_oldest_first_within_the_bounds(store, monkeypatch):
    export = exporting(store)
    assert claimed(export) == ([1, 2, 3, 4], 4, 4)
    assert claimed(export, room=2) == ([1, 2], 2, 2)
    assert claimed(export, after=2) == ([3, 4], 4, 2)
    assert claimed(export, after=4) == ([], 4, 0)
    assert claimed(export, selection={2, 4}) == ([2, 4], 4, 2)
    assert claimed(export, selection={2, 4}, room=1) == ([2], 2, 1)
    for limit_bytes, taken in ((1, [1]), (10, [1]), (11, [1, 2]), (20, [1, 2]), (21, [1, 2, 3])):
        monkeypatch.setattr(exporter, "BATCH_BYTES", limit_bytes)
        assert claimed(export)[0] == taken


def test_batch_is_bounded_by_the_objects_that_it_holds_in_memory(store, monkeypatch):
    export = exporting(store)
    entries, _, _ = export._claim(0, 100, None)
    first, second = (sum(len(item.data) for item in entry.objects) for entry in entries[:2])
    for limit_bytes, taken in (
        (first, [1]),
        (first + 1, [1, 2]),
        (first + second, [1, 2]),
        (first + second + 1, [1, 2, 3]),
    ):
        monkeypatch.setattr(exporter, "MADE_BYTES", limit_bytes)
        assert claimed(export)[0] == taken


def test_run_that_is_committed_while_an_export_runs_is_left_to_the_next(store):
    export = exporting(store)
    commit(store, "later", task_id="t9")
    assert claimed(export) == ([1, 2, 3, 4], 4, 4)
    assert claimed(exporting(store))[0] == [1, 2, 3, 4, 5]


def test_damaged_manifest_is_claimed_and_set_aside(store):
    with store.environment.write() as transaction:
        transaction.put(Table.MANIFESTS, catalog.sequence_key(2), b"damaged")
    export = exporting(store)
    assert claimed(export, room=2) == ([1], 2, 2)
    assert stages(store)[Stage.PARKED_WRITE] == [2]
    assert export.summary.failures[0]["label"] == "manifest 2"
    assert claimed(export, after=2) == ([3, 4], 4, 2)


def test_total_is_what_is_queued_and_asked_for(store):
    export = exporting(store)
    assert [export._total(None, None), export._total(3, None), export._total(9, None)] == [4, 3, 4]
    assert [export._total(None, {1, 2, 9}), export._total(1, {1, 2, 9})] == [2, 1]
    export._also = [5, 6]
    assert export._total(None, None) == 6
    with store.environment.read() as transaction:
        assert [number for number, _ in export._queue(transaction, 0)] == [1, 2, 3, 4, 5, 6]
        assert [number for number, _ in export._queue(transaction, 3)] == [4, 5, 6]
        assert [number for number, _ in export._queue(transaction, 5)] == [6]


def test_queue_is_written_batch_by_batch_with_progress(store, monkeypatch, repo):
    monkeypatch.setattr(exporter, "BATCH_RUNS", 3)
    told = []
    export = exporting(store, progress=lambda *words: told.append(words))
    export.write(None, None)
    assert told == [("export", 3, 4), ("export", 4, 4)]
    assert (export.summary.exported, export.summary.stopped) == (4, False)
    assert len(values(repo)) == 7


@pytest.mark.parametrize(("limit", "batches"), [(1, [(1, 1)]), (2, [(2, 2)]), (3, [(2, 3), (3, 3)]), (0, [])])
def test_limit_bounds_what_is_written(store, monkeypatch, limit, batches):
    monkeypatch.setattr(exporter, "BATCH_RUNS", 2)
    told = []
    export = exporting(store, progress=lambda phase, done, total: told.append((done, total)))
    export.write(limit, None)
    assert (told, export.summary.exported) == (batches, limit)


def test_stop_between_batches_is_told(store, monkeypatch):
    monkeypatch.setattr(exporter, "BATCH_RUNS", 1)
    answers = iter([False, True])
    export = exporting(store, stops=lambda: next(answers))
    export.write(None, None)
    assert (export.summary.exported, export.summary.stopped) == (1, True)


def test_parked_entries_are_queued_again_where_that_is_asked_for(store):
    park(store, 1, 2)
    exporting(store).prepare(None, retry_parked=False, rebuild=False)
    assert stages(store)[Stage.PARKED_WRITE] == [1, 2]
    exporting(store).prepare({2}, retry_parked=True, rebuild=False)
    assert stages(store)[Stage.PARKED_WRITE] == [1]
    exporting(store).prepare(None, retry_parked=False, rebuild=True)
    assert stages(store)[Stage.WRITE] == [1, 2, 3, 4]


def test_dry_run_pretends_to_queue_again_and_changes_nothing(store):
    Exporter(store).run()
    git(store.config.repo_path, "update-ref", "-d", "refs/heads/ai/generated/wf/t2")
    commit(store, "e", task_id="t5")
    park(store, 5)
    before = stages(store)
    for settings, also in (
        ({"retry_parked": False, "rebuild": False}, []),
        ({"retry_parked": True, "rebuild": False}, [5]),
        ({"retry_parked": False, "rebuild": True}, [2, 5]),
    ):
        export = exporting(store, dry_run=True)
        export.prepare(None, **settings)
        assert export._also == also
    export.prepare({2}, retry_parked=True, rebuild=True)
    assert export._also == [2]
    assert stages(store) == before


def test_leftovers_of_killed_exporters_are_swept_before_anything_is_written(store, repo):
    left = [repo.common_dir / "cas-push-0f", repo.common_dir / "cas_lock_0f"]
    left[0].mkdir()
    left[1].touch()
    exporting(store, dry_run=True).prepare(None, retry_parked=False, rebuild=False)
    assert all(path.exists() for path in left)
    exporting(store).prepare(None, retry_parked=False, rebuild=False)
    assert not any(path.exists() for path in left)


def test_lost_repository_is_noticed_when_an_export_begins(store, repo):
    Exporter(store).run()
    git(repo.path, "update-ref", "-d", "refs/heads/ai/generated/wf/t3")
    summary = Exporter(store).run()
    assert ["lacks d@1" in warning for warning in summary.warnings] == [True]
    summary = Exporter(store).run(rebuild=True)
    assert (summary.exported, summary.warnings) == (1, [])
    assert "refs/heads/ai/generated/wf/t3" in values(repo)


def test_push_is_made_where_it_is_wanted_and_there_is_a_remote(store, repo, tmp_path):
    summary = Exporter(store).run(push=True)
    assert summary.warnings == [
        (
            f"nothing was pushed: {repo.path} has no remote 'origin'; `git remote add` makes one, and with auto_push = "
            "false none is looked for"
        )
    ]
    assert (summary.pending, summary.pushed, summary.state) == (0, 0, "done")
    far = GitRepository.create_bare(tmp_path / "far.git")
    git(repo.path, "remote", "add", "origin", str(far.path))
    assert Exporter(store).run().pushed == 0
    told = []
    summary = Exporter(store).run(push=True, only=["c"], progress=lambda *words: told.append(words))
    assert (summary.pushed, summary.pending, told) == (2, 2, [("push", 2, 2)])
    summary = Exporter(store, remote=str(far.path)).run(push=True)
    assert (summary.pushed, summary.pending) == (2, 0)
    assert values(far) == values(repo)


def test_push_of_a_stopped_export_waits(store, repo, tmp_path):
    far = GitRepository.create_bare(tmp_path / "far.git")
    git(repo.path, "remote", "add", "origin", str(far.path))
    Exporter(store).run()
    summary = Exporter(store).run(push=True, should_stop=lambda: True)
    assert (summary.pushed, summary.pending, summary.stopped) == (0, 4, True)
    assert Exporter(store).run(push=True, dry_run=True).pushed == 0


def test_what_is_parked_and_left_is_counted(store):
    park(store, 2)
    with store.environment.write() as transaction:
        outbox.record_exported(transaction, [4], now_us=5)
        outbox.record_failure(transaction, 4, reason="refused", now_us=5, park=True)
    summary = Exporter(store).run(limit=1)
    assert (summary.parked, summary.pending, summary.state) == (2, 1, "parked")
    assert summary.duration_s > 0


def test_lease_is_waited_for_as_long_as_was_said(store):
    with lease.hold(store.environment.directory, 0), pytest.raises(LeaseHeldError):
        Exporter(store).run(wait_s=0)


def test_unusable_hook_is_told_and_keeps_nothing_back(tmp_path, repo):
    with open_store(repo.path, store_path=tmp_path / "s2", on_exported_url="ftp://nowhere") as store:
        commit(store)
        summary = Exporter(store).run(push=False)
    assert (summary.exported, summary.warnings) == (1, ["hook: ftp://nowhere is no http or https URL"])

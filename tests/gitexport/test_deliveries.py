"""What waits for the push and what became of it: groups out of the outbox, outcomes into it, and what was lost."""

from __future__ import annotations

import pytest

from cas import catalog, outbox, records
from cas.lmdbenv import Table
from cas.outbox import Stage
from gitexport import delivery
from gitexport.archive import Archive
from gitexport.push import GroupOutcome, PushReport, PushState, RefGroup
from gitexport.repository import GitRepository
from gitexport.summary import ExportSummary
from tests.gitexport.refplaces import git
from tests.store.stores import commit, open_store

T1, T2 = "ai/generated/wf/t1", "ai/generated/wf/t2"


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "s") as opened:
        commit(opened, "a", task_id="t1", prompt_hash="0123456789abcdef")
        commit(opened, "b", task_id="t2", files={"x": b"b"})
        commit(opened, "c", task_id="t1", files={"x": b"longer"})
        commit(opened, "d", task_id="t1", files={"x": b"queued"})
        with opened.environment.write() as transaction:
            outbox.record_exported(transaction, [1, 2, 3], now_us=1)
        yield opened


def rows(store):
    with store.environment.read() as transaction:
        return dict(catalog.iter_rows(transaction))


def refs(store, *sequences):
    """Branch and tags of some manifests, as they stand once the last of them is there."""
    found = {}
    for sequence, row in rows(store).items():
        if sequence in sequences:
            branch = T2 if sequence == 2 else T1
            found[f"refs/heads/{branch}"] = row.commit_oid.hex()
            found |= {f"refs/tags/{name}": oid.hex() for name, oid in row.tags}
    return found


def damage(store, sequence):
    with store.environment.write() as transaction:
        transaction.put(Table.MANIFESTS, catalog.sequence_key(sequence), b"damaged")


def stages(store):
    with store.environment.read() as transaction:
        return {
            stage: {number: (one.reason, one.attempt_count) for number, one in outbox.iter_entries(transaction, stage)}
            for stage in (Stage.PUSH, Stage.PARKED_PUSH)
        }  # fmt: skip


def pushed(store):
    with store.environment.read() as transaction:
        receipts = {
            number: outbox.get_receipt(transaction, number) for number in outbox.iter_receipts(transaction)
        }
    return {number: receipt.pushed_at_us for number, receipt in receipts.items() if receipt.pushed_at_us}


def waiting(store, after=0, selection=None):
    found, damaged, last = delivery._waiting(store, after, selection)
    return {name: branch.sequences for name, branch in found.items()}, damaged, last


def test_what_waits_is_told_by_branch_with_its_newest_exported_commit(store):
    found, damaged, last = delivery._waiting(store, 0, None)
    assert (list(found), damaged, last) == ([T1, T2], {}, 3)
    assert (found[T1].sequences, found[T1].newest, found[T2].newest) == ([1, 3], 3, 2)
    assert found[T1].refs == refs(store, 1, 3)
    assert found[T2].refs == refs(store, 2)
    assert found[T1].tagged == {
        "refs/tags/corr_a": 1,
        "refs/tags/prompt_0123456789ab": 1,
        "refs/tags/corr_c": 3,
    }
    assert [found[T1].sequence_of(name) for name in ("refs/tags/corr_a", f"refs/heads/{T1}")] == [1, 3]
    with store.environment.read() as transaction:
        sizes = [
            records.stored_bytes(transaction, records.load(transaction, number)[0]) for number in (1, 2, 3)
        ]
    assert (found[T1].size_bytes, found[T2].size_bytes) == (sizes[0] + sizes[2], sizes[1])
    assert min(sizes) > 0


def test_what_waits_is_read_a_part_at_a_time(store, monkeypatch):
    monkeypatch.setattr(delivery, "_ROUND_RUNS", 2)
    assert waiting(store) == ({T1: [1], T2: [2]}, {}, 2)
    assert waiting(store, 2) == ({T1: [3]}, {}, 3)
    assert waiting(store, 3) == ({}, {}, 3)
    monkeypatch.setattr(delivery, "_ROUND_RUNS", 1)
    assert delivery._waiting(store, 0, None)[0][T1].newest == 3, "an older one is never pushed in its place"


def test_only_what_is_selected_waits(store):
    assert waiting(store, 0, {2, 3, 9}) == ({T2: [2], T1: [3]}, {}, 3)
    assert waiting(store, 0, set()) == ({}, {}, 0)


def test_damaged_manifest_is_told_and_the_branch_goes_without_it(store):
    damage(store, 3)
    found, damaged, last = delivery._waiting(store, 0, None)
    assert (damaged.keys(), last) == ({3}, 3)
    assert damaged[3]
    assert found[T1].newest == 1
    summary = ExportSummary()
    delivery._park(store, summary, damaged)
    assert stages(store)[Stage.PARKED_PUSH] == {3: (damaged[3], 1)}
    assert summary.failures == [{"label": "manifest 3", "branch": "", "reason": damaged[3]}]
    delivery._park(store, summary, {})
    assert summary.failure_count == 1


def test_branch_that_was_never_exported_is_a_contradiction(store):
    with store.environment.read() as transaction, pytest.raises(AssertionError, match="was never exported"):
        delivery._newest_exported(transaction, "ai/generated/wf/none", None)


def recorder(store, summary, told=None, settled=10, total=99):
    found, *_ = delivery._waiting(store, 0, None)
    return delivery._Recorder(store, summary, found, told, settled, total)


def test_outcomes_are_written_with_the_reasons_of_those_that_did_not_land(store):
    summary, told = ExportSummary(), []
    made = recorder(store, summary, lambda *words: told.append(words))
    made.settle(RefGroup(T1, ()), GroupOutcome(PushState.PUSHED))
    made.settle(RefGroup(T2, ()), GroupOutcome(PushState.REJECTED, "r" * 501))
    assert (made.settled_count, stages(store)[Stage.PUSH].keys()) == (13, {1, 2, 3})
    store._clock = lambda: 7_000_000
    made.flush()
    assert pushed(store) == {1: 7000, 3: 7000}
    assert stages(store) == {Stage.PUSH: {}, Stage.PARKED_PUSH: {2: ("r" * 500, 1)}}
    assert (summary.pushed, summary.failure_count) == (2, 1)
    assert summary.failures == [{"label": T2, "branch": T2, "reason": "r" * 500}]
    assert told == [("push", 13, 99)]
    made.flush()
    assert told == [("push", 13, 99)]


def test_outcome_that_may_pass_leaves_its_runs_queued_and_an_untried_one_changes_nothing(store):
    summary = ExportSummary()
    made = recorder(store, summary, total=1)
    made.settle(RefGroup(T1, ()), GroupOutcome(PushState.RETRY, "stopped", tried=False))
    made.flush()
    assert (made.settled_count, summary.failure_count) == (10, 0)
    assert stages(store)[Stage.PUSH] == {1: (None, 0), 2: (None, 0), 3: (None, 0)}
    made.settle(RefGroup(T1, ()), GroupOutcome(PushState.RETRY, "down"))
    made.flush()
    assert stages(store)[Stage.PUSH] == {1: ("down", 1), 2: (None, 0), 3: ("down", 1)}
    assert summary.failures == [{"label": T1, "branch": T1, "reason": "down"}]
    assert summary.pushed == 0


def test_outcomes_are_written_by_themselves_when_there_are_many(store, monkeypatch):
    monkeypatch.setattr(delivery, "_RECEIPTS_PER_TRANSACTION", 2)
    told = []
    made = recorder(store, ExportSummary(), lambda *words: told.append(words), settled=0, total=1)
    made.settle(RefGroup(T1, ()), GroupOutcome(PushState.PUSHED))
    assert told == []
    made.settle(RefGroup(T2, ()), GroupOutcome(PushState.PUSHED))
    assert told == [("push", 3, 3)]
    assert pushed(store).keys() == {1, 2, 3}


class Shown:
    """A repository whose remote shows some refs."""

    def __init__(self, refs, repo):
        self.refs, self.repo, self.asked = refs, repo, []

    def __getattr__(self, name):
        return getattr(self.repo, name)

    def push_url(self, remote):
        return f"url of {remote}"

    def list_remote_refs(self, url, *, timeout_s):
        self.asked.append((url, timeout_s))
        return self.refs


def lost(store, repo, shown):
    with store.environment.write() as transaction:
        outbox.record_pushed(transaction, [1, 2, 3], now_us=5)
    remote = Shown(shown, repo)
    delivery._queue_lost(store, remote, "origin", Archive(store, repo), ExportSummary())
    assert remote.asked == [("url of origin", store.config.push_timeout)]
    return set(stages(store)[Stage.PUSH])


def without(found, name):
    return {each: oid for each, oid in found.items() if each != name}


def test_what_the_remote_shows_is_not_queued_again(store, repo, monkeypatch):
    monkeypatch.setattr(delivery, "_ROUND_RUNS", 1)
    everything = refs(store, 1, 2, 3)
    assert lost(store, repo, everything) == set()
    assert pushed(store).keys() == {1, 2, 3}


def test_what_the_remote_has_lost_is_queued_again(store, repo):
    everything = refs(store, 1, 2, 3)
    assert lost(store, repo, without(everything, "refs/tags/corr_c")) == {3}
    assert lost(store, repo, everything | {"refs/tags/corr_a": "1" * 40}) == {1}
    assert lost(store, repo, without(everything, f"refs/heads/{T1}")) == {1, 3}
    assert lost(store, repo, everything | {f"refs/heads/{T1}": rows(store)[1].commit_oid.hex()}) == {3}
    assert lost(store, repo, {}) == {1, 2, 3}


def test_damaged_manifest_keeps_no_lost_run_from_being_queued_again(store, repo):
    everything = refs(store, 1, 2, 3)
    damage(store, 3)
    assert lost(store, repo, without(everything, f"refs/heads/{T2}")) == {2}


def test_tip_that_the_store_does_not_know_is_taken_for_one_on_top(store, repo):
    everything = refs(store, 1, 2, 3)
    assert lost(store, repo, everything | {f"refs/heads/{T2}": "1" * 40}) == set()


def test_run_that_was_never_pushed_or_waits_is_not_lost(store, repo):
    with store.environment.read() as transaction:
        assert not delivery._lacking(transaction, 1, {}, Archive(store, repo), None)
        assert not delivery._lacking(transaction, 4, {}, Archive(store, repo), None)


class Rolled:
    """An archive that holds the steps of some branches up to a sequence each."""

    ref, tip = "refs/archive/cas/x", "7" * 40

    def __init__(self, **heads):
        self.heads = heads

    def head_of(self, branch, at=None):
        found = self.heads.get(branch.rpartition("/")[2])
        return None if found is None or at == 0 else (found, "c" * 40)

    def not_to_be_pushed(self):
        return None


def test_what_the_remotes_archive_holds_is_not_lost(store, repo):
    with store.environment.write() as transaction:
        outbox.record_pushed(transaction, [1, 2, 3], now_us=5)

    def found(archive, at):
        with store.environment.read() as transaction:
            return [number for number in (1, 2, 3) if delivery._lacking(transaction, number, {}, archive, at)]

    assert found(Rolled(t1=1), 5) == [2, 3]
    assert found(Rolled(t1=3, t2=2), 5) == []
    assert found(Rolled(t1=3, t2=2), 0) == [1, 2, 3]
    assert found(Rolled(t1=3, t2=2), None) == [1, 2, 3]


def test_archive_goes_in_the_place_of_refs_that_were_rolled_up(store, repo):
    def replaced(archive, standing):
        (repo.common_dir / "packed-refs").write_text(
            "# pack-refs with: sorted \n"
            + "".join(f"{oid} {name}\n" for name, oid in sorted(standing.items()))
        )
        found, *_ = delivery._waiting(store, 0, None)
        delivery._replace_archived(repo, archive, found)
        return found[T1].refs, found[T2].refs

    first, second = refs(store, 1, 3), refs(store, 2)
    archived = {Rolled.ref: Rolled.tip}
    assert replaced(Rolled(t1=3, t2=2), {}) == (archived, archived)
    assert replaced(Rolled(t1=3, t2=2), first | second) == (first, second)
    assert replaced(Rolled(), {}) == (first, second)
    later = {name: oid for name, oid in first.items() if name in {f"refs/heads/{T1}", "refs/tags/corr_c"}}
    assert replaced(Rolled(t1=1), {}) == (later | archived, second)
    assert replaced(Rolled(t1=1), without(first, "refs/tags/corr_c")) == (first, second)
    assert replaced(Archive(store, repo), {}) == (first, second)


def let_stand(repo, found):
    """Let a repository show refs whose objects nobody looks at."""
    lines = [f"{oid} {name}\n" for name, oid in sorted(found.items())]
    (repo.common_dir / "packed-refs").write_text("# pack-refs with: sorted \n" + "".join(lines))


def test_everything_is_pushed_round_by_round_and_told(store, repo, tmp_path, monkeypatch):
    let_stand(repo, refs(store, 1, 2, 3))
    far = GitRepository.create_bare(tmp_path / "far.git")
    git(repo.path, "remote", "add", "origin", str(far.path))
    calls, told = [], []

    def push(repository, remote, groups, *, on_settled, **settings):
        calls.append((repository, remote, [group.key for group in groups], settings))
        for group in groups:
            on_settled(group, GroupOutcome(PushState.PUSHED))
        return delivery_report

    delivery_report = PushReport({})
    monkeypatch.setattr(delivery, "push", push)
    monkeypatch.setattr(delivery, "_ROUND_RUNS", 2)
    summary = ExportSummary()

    def never():
        return False

    delivery.deliver(
        store,
        repo,
        "origin",
        summary,
        progress=lambda *words: told.append(words),
        should_stop=never,
        pause=print,
    )
    assert [call[:3] for call in calls] == [(repo, "origin", [T1, T2]), (repo, "origin", [T1])]
    settings = calls[0][3]
    config = store.config
    assert (settings["timeout_s"], settings["max_refs"], settings["max_bytes"]) == (
        config.push_timeout, config.push_refs, config.push_bytes,
    )  # fmt: skip
    assert (settings["sleep"], settings["should_stop"]) == (print, never)
    assert settings["stands_on"](rows(store)[3].commit_oid.hex(), rows(store)[1].commit_oid.hex())
    assert told == [("push", 2, 3), ("push", 3, 3)]
    assert (summary.pushed, summary.warnings) == (3, [])
    assert pushed(store).keys() == {1, 2, 3}


def test_remote_that_is_given_up_ends_the_delivery_with_a_warning(store, repo, monkeypatch):
    let_stand(repo, refs(store, 1, 2, 3))
    calls = []
    monkeypatch.setattr(delivery, "_ROUND_RUNS", 1)
    monkeypatch.setattr(
        delivery, "push", lambda *words, **settings: calls.append(words) or PushReport({}, error="closed")
    )
    summary = ExportSummary()
    delivery.deliver(store, repo, "origin", summary)
    assert (len(calls), summary.warnings) == (1, ["push: closed"])
    delivery.deliver(store, repo, "origin", summary, should_stop=lambda: True)
    assert len(calls) == 1
    delivery.deliver(store, repo, "origin", summary, selection=set())
    assert len(calls) == 1

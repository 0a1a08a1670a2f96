"""Forgetting by name and by policy, pins, undelete: what goes, what stays and the reason told."""

import pytest

from cas import InvalidInputError, NotFoundError, RetentionPolicy
from tests.gc.keeping import collect, commit, pretend_export


def actions(decisions):
    return {item["correlation_id"]: (item["action"], item["reason"]) for item in decisions}


def kept(decisions):
    return {item["correlation_id"] for item in decisions if item["action"] == "keep"}


@pytest.fixture
def runs(store):
    """Six exported runs of two workflows: w0 has a0, a2, a4, w1 has a1, a3, a5; the metric rises."""
    for number in range(6):
        commit(store, f"a{number}", workflow=f"w{number % 2}", metrics={"net_pnl": float(number)})
    pretend_export(store)
    return store


def test_forget_by_name_hides_the_run_everywhere(runs):
    sha = runs.show("a2")["commit_sha"]
    assert actions(runs.forget(["a2"])) == {"a2": ("forget", "named")}
    assert "a2" not in {run["correlation_id"] for run in runs.list_artifacts()}
    assert "a2" not in {run["correlation_id"] for run in runs.list_artifacts("w0")}
    assert runs.get_artifact_by_correlation_id("a2") is None
    assert runs.history("ai/generated/w0/a2") == []
    for ref in ("a2", "corr_a2", "ai/generated/w0/a2", sha, "a2~0"):
        with pytest.raises(NotFoundError, match="forgotten"):
            runs.show(ref)
    with pytest.raises(NotFoundError, match="forgotten"):
        runs.revert_to_tag("corr_a2")
    assert runs.verify().ok


def test_undelete_brings_everything_back_as_it_was(runs):
    before = runs.list_artifacts(), runs.history("ai/generated/w0/a2")
    runs.forget(["a2"])
    assert runs.undelete("a2")["correlation_id"] == "a2"
    assert (runs.list_artifacts(), runs.history("ai/generated/w0/a2")) == before
    assert runs.verify().ok


def test_undelete_of_a_run_that_was_not_forgotten_is_refused(runs):
    with pytest.raises(InvalidInputError, match="was not forgotten"):
        runs.undelete("a2")


def test_undelete_after_gc_names_the_way_back(runs):
    runs.forget(["a2"])
    collect(runs)
    with pytest.raises(NotFoundError, match="cannot be shown again") as caught:
        runs.undelete("a2")
    assert "Commit the same files again" in caught.value.hint


def test_forgotten_revision_gives_way_to_the_one_before(store):
    commit(store, "a", files={"f": b"1"})
    commit(store, "a", files={"f": b"2"})
    pretend_export(store)
    store.forget(["corr_a@2"])
    assert store.get_artifact_by_correlation_id("a")["revision"] == 1
    assert store.read_file("a", "f") == b"1"
    assert store.undelete("a")["revision"] == 2


def test_forget_keeps_what_is_not_in_git(store):
    commit(store, "a")
    assert actions(store.forget(["a"])) == {"a": ("keep", "waits for its export to git")}
    assert store.show("a")


def test_forget_keeps_what_is_pinned_until_unpinned(runs):
    assert runs.pin("a3", note="the good one")["correlation_id"] == "a3"
    assert actions(runs.forget(["a3"])) == {"a3": ("keep", "pinned: the good one")}
    assert [(run["correlation_id"], run["note"]) for run in runs.list_pins()] == [("a3", "the good one")]
    assert runs.unpin("a3")
    assert not runs.unpin("a3")
    assert actions(runs.forget(["a3"]))["a3"][0] == "forget"


def test_forget_keeps_what_a_branch_was_taken_back_to(runs):
    runs.revert_to_tag("corr_a1", "main")
    pretend_export(runs)
    assert actions(runs.forget(["a1"])) == {"a1": ("keep", "branch main was taken back to it")}
    runs.revert_to_tag("corr_a3", "main")
    pretend_export(runs)
    assert actions(runs.forget(["a1"]))["a1"][0] == "forget"


def test_forget_of_a_rollback_is_refused(runs):
    runs.revert_to_tag("corr_a1", "main")
    with pytest.raises(InvalidInputError, match="no run"):
        runs.forget(["main"])


def test_policy_keep_last_counts_per_workflow(runs):
    decisions = runs.forget(policy=RetentionPolicy(keep_last=1))
    assert kept(decisions) == {"a4", "a5"}
    assert actions(decisions)["a4"] == ("keep", "among the last 1 of w0")
    assert actions(decisions)["a0"] == ("forget", "no rule keeps it")
    assert {run["correlation_id"] for run in runs.list_artifacts()} == {"a4", "a5"}


def test_policy_keep_last_per_store(runs):
    assert kept(runs.forget(policy=RetentionPolicy(keep_last=2, per="store"))) == {"a4", "a5"}


def test_policy_keep_best_ranks_by_metric(runs):
    decisions = runs.forget(policy=RetentionPolicy(keep_best=2, by="net_pnl"), dry_run=True)
    assert actions(decisions)["a4"] == ("keep", "number 1 by net_pnl of w0: 4")
    assert actions(decisions)["a2"] == ("keep", "number 2 by net_pnl of w0: 2")
    assert kept(decisions) == {"a2", "a4", "a3", "a5"}
    lowest = RetentionPolicy(keep_best=1, by="net_pnl", lowest=True, per="store")
    assert kept(runs.forget(policy=lowest, dry_run=True)) == {"a0"}


def test_policy_keep_within_looks_at_the_commit_time(store):

    commit(store, "old")
    for number in range(5):
        commit(store, f"new{number}")
    pretend_export(store)
    decisions = store.forget(policy=RetentionPolicy(keep_within_s=4), dry_run=True)
    assert "old" not in kept(decisions)
    assert "new4" in kept(decisions)


def test_policy_keep_tags_matches_patterns(runs):
    assert kept(runs.forget(policy=RetentionPolicy(keep_tags=("corr_a[12]",)), dry_run=True)) == {"a1", "a2"}


def test_policy_with_workflow_or_where_looks_at_those_only(runs):
    policy = RetentionPolicy(keep_last=1)
    assert set(actions(runs.forget(policy=policy, workflow_id="w0", dry_run=True))) == {"a0", "a2", "a4"}
    assert set(actions(runs.forget(policy=policy, where="net_pnl < 2", dry_run=True))) == {"a0", "a1"}


def test_policy_dry_run_changes_nothing(runs):
    before = runs.list_artifacts()
    runs.forget(policy=RetentionPolicy(keep_last=1), dry_run=True)
    assert runs.list_artifacts() == before


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"keep_last": 0},
        {"keep_last": True},
        {"keep_within_s": -1},
        {"keep_best": 3},
        {"by": "net_pnl", "keep_last": 1},
        {"keep_last": 1, "per": "month"},
    ],
)
def test_policy_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InvalidInputError):
        RetentionPolicy(**wrong)


def test_forget_without_names_or_policy_is_refused(runs):
    with pytest.raises(InvalidInputError, match="give a policy"):
        runs.forget()


def test_list_forgotten_tells_why_and_whether_it_can_come_back(runs):
    runs.forget(["a1"], reason="a bad idea")
    runs.forget(["a2"])
    collect(runs)
    runs.forget(["a3"])
    found = {run["correlation_id"]: run for run in runs.list_forgotten()}
    assert list(found) == ["a3", "a2", "a1"]
    assert found["a1"]["forgotten_because"] == "a bad idea"
    assert [found[name]["can_undelete"] for name in ("a1", "a2", "a3")] == [False, False, True]


def test_pin_that_comes_between_plan_and_deed_wins(runs, monkeypatch):
    from cas import retention

    carry_out = retention.carry_out

    def pin_first(environment, guard, decisions, **options):
        runs.pin("a0")
        return carry_out(environment, guard, decisions, **options)

    monkeypatch.setattr(retention, "carry_out", pin_first)
    assert actions(runs.forget(["a0"])) == {"a0": ("keep", "pinned")}


def test_rollback_that_comes_between_plan_and_deed_wins(runs, monkeypatch):
    from cas import retention

    carry_out = retention.carry_out

    def revert_first(environment, guard, decisions, **options):
        runs.revert_to_tag("corr_a0", "main")
        return carry_out(environment, guard, decisions, **options)

    monkeypatch.setattr(retention, "carry_out", revert_first)
    assert actions(runs.forget(["a0"])) == {"a0": ("keep", "branch main was taken back to it")}


def test_note_with_a_credential_is_refused(tmp_path):
    from cas import SecretDetectedError
    from tests.store.stores import open_store

    with open_store(tmp_path, scan_for_secrets=True) as store:
        commit(store, "a")
        with pytest.raises(SecretDetectedError):
            store.pin("a", note="password = " + "hunter2" * 2)

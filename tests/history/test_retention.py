"""Forgetting by name and by policy, pins, undelete: what goes, what stays and the reason told."""

import pytest

from cas import InvalidInputError, NotFoundError, RetentionPolicy, catalog, retention
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


def test_policy_keeps_what_a_branch_was_taken_back_to(runs):
    runs.revert_to_tag("corr_a1", "main")
    pretend_export(runs)
    planned = actions(runs.forget(policy=RetentionPolicy(keep_last=1), dry_run=True))
    assert planned["a1"] == ("keep", "branch main was taken back to it")
    assert planned["a3"] == ("forget", "no rule keeps it")


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


@pytest.mark.parametrize(
    "value", ["corr_a1", ["corr_a1", 5], {"corr_a1"}, None, b"corr_a1", ("a", None)], ids=repr
)
def test_policy_whose_tags_are_no_list_of_texts_is_refused_instead_of_keeping_nothing(value):
    with pytest.raises(InvalidInputError, match="keep_tags must be a list of texts") as caught:
        RetentionPolicy(keep_tags=value)
    assert caught.value.subject == "keep_tags"


def test_policy_keeps_whole_numbers_of_runs_by_a_named_metric():
    for field, settings in (
        ("keep_last", {"keep_last": 1.5}),
        ("keep_best", {"keep_best": 2.0, "by": "net_pnl"}),
        ("by", {"keep_best": 2, "by": 5}),
    ):
        with pytest.raises(InvalidInputError) as caught:
            RetentionPolicy(**settings)
        assert caught.value.subject == field
    assert RetentionPolicy(keep_within_s=0.5, keep_tags=["corr_*"]).keep_within_s == 0.5


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


def planned(store, now_us, **policy):
    """The decisions of a policy at a given time."""
    with store.environment.read() as transaction:
        numbers = list(catalog.iter_sequences(transaction))
        guard = retention.Guard(transaction)
        return retention.plan(transaction, guard, RetentionPolicy(**policy), numbers, now_us)


def reasons(decisions):
    return [(decision.correlation_id, decision.reason) for decision in decisions]


def test_best_runs_are_told_by_rank_and_value_in_either_direction(store):
    for number, value in enumerate((3.5, -1, 7, True, "9", 7, 0.5)):
        commit(store, f"a{number}", metrics={"net": value})
    pretend_export(store)
    highest = planned(store, 0, keep_best=3, by="net")
    assert reasons(highest) == [
        ("a6", "no rule keeps it"),
        ("a5", "number 1 by net of wf: 7"),
        ("a4", "no rule keeps it"),
        ("a3", "no rule keeps it"),
        ("a2", "number 2 by net of wf: 7"),
        ("a1", "no rule keeps it"),
        ("a0", "number 3 by net of wf: 3.5"),
    ]
    lowest = planned(store, 0, keep_best=2, by="net", lowest=True, per="store")
    assert [(name, reason) for name, reason in reasons(lowest) if reason != "no rule keeps it"] == [
        ("a6", "number 2 by net: 0.5"),
        ("a1", "number 1 by net: -1"),
    ]


def test_runs_are_counted_by_workflow_by_task_or_over_the_store(store):
    for number in range(4):
        commit(store, f"a{number}", workflow=f"w{number % 2}", task=f"t{number // 2}")
    pretend_export(store)
    kept_of = {
        per: [
            decision.correlation_id for decision in planned(store, 0, keep_last=1, per=per) if decision.keep
        ]
        for per in ("store", "workflow", "task")
    }
    assert kept_of == {"store": ["a3"], "workflow": ["a3", "a2"], "task": ["a3", "a2", "a1", "a0"]}
    assert planned(store, 0, keep_last=2, per="task")[0].reason == "among the last 2 of w1/t1"
    assert planned(store, 0, keep_last=2, per="store")[0].reason == "among the last 2"


def test_age_counts_up_to_the_microsecond_and_is_told_in_days(store):
    commit(store, "a")
    pretend_export(store)
    with store.environment.read() as transaction:
        created_us = catalog.get_head(transaction, 1).created_at_us
    day_us = 24 * 3600 * 1_000_000
    for age_us, keep in ((2 * day_us, True), (2 * day_us + 1, False), (-5, True)):
        (decision,) = planned(store, created_us + age_us, keep_within_s=2 * 86400)
        assert decision.keep == keep
    assert planned(store, created_us, keep_within_s=129_600)[0].reason == "committed within 1.5 days"


def test_tag_that_keeps_a_run_is_told(store):
    commit(store, "a", prompt_hash="0123456789abcdef")
    commit(store, "b")
    pretend_export(store)
    decisions = planned(store, 0, keep_tags=("none*", "prompt_*", "corr_a"))
    assert reasons(decisions) == [("b", "no rule keeps it"), ("a", "has the tag prompt_0123456789ab")]
    assert decisions[1].as_dict() == {
        "correlation_id": "a", "revision": 1, "action": "keep", "reason": "has the tag prompt_0123456789ab",
    }  # fmt: skip


def test_pin_keeps_what_no_rule_keeps_and_waiting_runs_stay(store):
    commit(store, "a")
    commit(store, "b")
    pretend_export(store)
    commit(store, "c")
    store.pin("a")
    assert reasons(planned(store, 0, keep_tags=("none",))) == [
        ("c", "waits for its export to git"),
        ("b", "no rule keeps it"),
        ("a", "pinned"),
    ]


@pytest.mark.parametrize("name", ["keep_last", "keep_within_s", "keep_best"])
@pytest.mark.parametrize("value", [0, -1, True, "5"])
def test_policy_with_a_number_that_is_none_names_it(name, value):
    with pytest.raises(InvalidInputError, match=f"{name} must be above 0") as caught:
        RetentionPolicy(**{name: value, "by": "net" if name == "keep_best" else None})
    assert caught.value.subject == name


def test_policy_names_what_is_wrong_with_it():
    for wrong, subject in (
        ({"keep_best": 1}, "by"),
        ({"by": "net", "keep_last": 1}, "by"),
        ({"keep_last": 1, "per": "x"}, "per"),
    ):
        with pytest.raises(InvalidInputError) as caught:
            RetentionPolicy(**wrong)
        assert caught.value.subject == subject
    with pytest.raises(InvalidInputError, match="needs a rule"):
        RetentionPolicy(per="task")
    for per in ("workflow", "task", "store"):
        assert RetentionPolicy(keep_last=1, per=per).per == per


def test_forgotten_run_tells_when_and_why_and_whether_its_files_are_there(runs):
    runs.forget(["a2"])
    (told,) = runs.list_forgotten()
    assert (told["correlation_id"], told["forgotten_because"], told["can_undelete"]) == ("a2", "named", True)
    assert told["forgotten_at"].startswith("2025-11-07T14:30:")
    collect(runs)
    assert runs.list_forgotten()[0]["can_undelete"] is False
    runs.forget(["a3"], reason="a broken feed")
    assert [(run["correlation_id"], run["forgotten_because"]) for run in runs.list_forgotten()] == [
        ("a3", "a broken feed"),
        ("a2", "named"),
    ]
    assert [run["correlation_id"] for run in runs.list_forgotten(limit=1)] == ["a3"]


def test_run_named_twice_is_decided_on_once(runs):
    assert [item["correlation_id"] for item in runs.forget(["a2", "corr_a2", "a0"])] == ["a2", "a0"]


def test_many_runs_are_forgotten_in_several_transactions(runs, monkeypatch):
    monkeypatch.setattr(retention, "_RUNS_PER_TRANSACTION", 2)
    decisions = runs.forget([f"a{number}" for number in (0, 1, 2, 4, 5)])
    assert [item["correlation_id"] for item in decisions] == ["a5", "a4", "a2", "a1", "a0"]
    assert {run["correlation_id"] for run in runs.list_artifacts()} == {"a3"}


def test_pin_is_listed_with_its_time_and_note_and_a_second_one_replaces_the_note(runs):
    runs.pin("a1")
    runs.pin("a3", note="first")
    runs.pin("a3", note="second")
    found = {run["correlation_id"]: run for run in runs.list_pins()}
    assert {name: run["note"] for name, run in found.items()} == {"a1": None, "a3": "second"}
    assert found["a3"]["pinned_at"] > found["a1"]["pinned_at"] > "2025-11-07T14:30:"


def test_run_forgotten_already_keeps_its_first_reason(runs):
    with runs.environment.read() as transaction:
        sequence = catalog.find_revision(transaction, "a2", 1)
        guard = retention.Guard(transaction)
        decisions = retention.plan_named(transaction, guard, [sequence])
    runs.forget(["a2"], reason="first")
    retention.carry_out(runs.environment, guard, decisions, now_us=5, reason="second")
    assert runs.list_forgotten()[0]["forgotten_because"] == "first"


def test_forget_of_a_text_takes_none_of_its_letters_for_runs(store):
    for name in "ab":
        commit(store, name)
    pretend_export(store)
    with pytest.raises(InvalidInputError, match="list"):
        store.forget("ab")
    assert len(store.list_artifacts()) == 2

"""Plans by themselves: which entries are written, which are there already, which wait, and which refs move."""

import dataclasses

import pytest

from gitexport.entries import Entry
from gitexport.plan import Obstacles, Refusal, make_plan, ref_names


def oid(number):
    return f"{number:02x}" * 20


@dataclasses.dataclass
class KnownHistory:
    """Answers from three sets."""

    held: frozenset = frozenset()
    older: frozenset = frozenset()
    own: frozenset = frozenset()

    def holds(self, entry, tip):
        return (entry.commit, tip) in self.held

    def is_older(self, entry, tip):
        return (entry.commit, tip) in self.older

    def is_own(self, commit):
        return commit in self.own


def entry(sequence, parent=None, *, branch="ai/w/t", tags=(), needs=()):
    return Entry(
        sequence=sequence,
        branch=f"refs/heads/{branch}",
        parent=parent,
        commit=oid(sequence),
        tags=tuple((f"refs/tags/{name}", value) for name, value in tags),
        objects=(),
        files=(),
        needs=tuple(needs),
        label=f"run{sequence}",
    )


def plan_of(*entries, refs=None, history=None, **obstacles):
    return make_plan(entries, refs or {}, Obstacles(**obstacles), history or KnownHistory())


BRANCH = "refs/heads/ai/w/t"
TAG = "refs/tags/corr_x"


def reasons(plan):
    return {refusal.sequence: refusal.reason for refusal in plan.refused}


def test_ref_names_are_those_of_the_entry_and_its_folders():
    assert ref_names([entry(1, tags=[("corr_x", oid(9))])]) == {
        BRANCH,
        TAG,
        "refs/heads/ai",
        "refs/heads/ai/w",
    }
    assert ref_names([entry(1, branch="main")]) == {"refs/heads/main"}
    assert ref_names([]) == set()


def test_new_branch_is_made_with_its_tags():
    one = entry(1, tags=[("corr_x", oid(9))])
    plan = plan_of(one)
    assert (plan.write, plan.present, plan.refused) == ([one], [], [])
    assert plan.branch_moves == {BRANCH: (None, oid(1))}
    assert plan.new_tags == {TAG: oid(9)}


def test_branch_moves_once_over_several_entries():
    entries = [entry(2, oid(1)), entry(3, oid(2)), entry(4, oid(3))]
    plan = plan_of(*entries, refs={BRANCH: oid(1)})
    assert plan.write == entries
    assert plan.branch_moves == {BRANCH: (oid(1), oid(4))}


def test_entries_of_two_branches_do_not_meet():
    plan = plan_of(entry(1), entry(2, branch="ai/w/u"))
    assert plan.branch_moves == {BRANCH: (None, oid(1)), "refs/heads/ai/w/u": (None, oid(2))}


def test_entry_whose_refs_stand_is_present():
    one = entry(1, tags=[("corr_x", oid(9))])
    plan = plan_of(one, refs={BRANCH: oid(1), TAG: oid(9)})
    assert (plan.write, plan.present, plan.branch_moves, plan.new_tags) == ([], [one], {}, {})


def test_entry_in_the_history_of_the_tip_is_present():
    one = entry(1)
    plan = plan_of(one, refs={BRANCH: oid(5)}, history=KnownHistory(held=frozenset({(oid(1), oid(5))})))
    assert plan.present == [one]


def test_missing_tag_of_an_exported_entry_is_written_and_the_branch_stays():
    one = entry(1, tags=[("corr_x", oid(9)), ("prompt_y", oid(8))])
    plan = plan_of(one, refs={BRANCH: oid(1), TAG: oid(9)})
    assert plan.write == [one]
    assert plan.branch_moves == {}
    assert plan.new_tags == {"refs/tags/prompt_y": oid(8)}


def test_tag_made_by_an_earlier_entry_of_the_batch_is_not_made_twice():
    first, second = entry(1, tags=[("t", oid(9))]), entry(2, oid(1), tags=[("t", oid(9))])
    assert plan_of(first, second).new_tags == {"refs/tags/t": oid(9)}
    other = entry(2, oid(1), tags=[("t", oid(7))])
    plan = plan_of(first, other)
    assert reasons(plan) == {2: "tag t exists already and points elsewhere"}
    assert plan.branch_moves == {BRANCH: (None, oid(1))}


def test_tag_that_points_elsewhere_stops_the_branch_from_there_on():
    plan = plan_of(
        entry(1, tags=[("corr_x", oid(9))]), entry(2, oid(1)), entry(3, branch="ai/w/u"), refs={TAG: oid(7)}
    )
    assert plan.refused == [
        Refusal(1, "run1", "ai/w/t", "tag corr_x exists already and points elsewhere"),
        Refusal(2, "run2", "ai/w/t", "waits for run1: tag corr_x exists already and points elsewhere"),
    ]
    assert [written.sequence for written in plan.write] == [3]


SHORT = {number: oid(number)[:12] for number in (1, 7)}
GONE = "is gone from the repository"
REBUILD = "run `cas export --rebuild`"
FETCH = "fetch the branch from another clone first"
IMPORT = "take them over with `cas import` before the first run of a branch, or rename the branch"


@pytest.mark.parametrize(
    ("one", "refs", "history", "reason"),
    [
        (
            entry(2, oid(1)),
            {},
            KnownHistory(own=frozenset({oid(1)})),
            f"{GONE}; if the repository was replaced or restored, {REBUILD}",
        ),
        (
            entry(2, oid(1)),
            {},
            KnownHistory(),
            f"{GONE}, and so is its commit {SHORT[1]}, which the store did not make: {FETCH}",
        ),
        (
            entry(3, oid(2)),
            {BRANCH: oid(1)},
            KnownHistory(older=frozenset({(oid(3), oid(1))})),
            f"is at an older commit of the store ({SHORT[1]}); if the repository was restored from a backup, {REBUILD}",
        ),
        (
            entry(1),
            {BRANCH: oid(7)},
            KnownHistory(),
            f"exists already with commits the store does not know ({SHORT[7]}): {IMPORT}",
        ),
        (
            entry(2, oid(1)),
            {BRANCH: oid(7)},
            KnownHistory(),
            f"was moved by someone else: it is at {SHORT[7]}, expected {SHORT[1]}",
        ),
    ],
    ids=["gone", "gone and not ours", "older", "not ours", "moved"],
)
def test_branch_elsewhere_than_expected_is_refused_with_what_happened(one, refs, history, reason):
    plan = plan_of(one, refs=refs, history=history)
    assert (plan.write, plan.present, plan.branch_moves) == ([], [], {})
    assert reasons(plan) == {one.sequence: f"branch ai/w/t {reason}"}


def test_branch_that_must_not_move_is_refused_only_when_it_would_move():
    one = entry(1, tags=[("corr_x", oid(9))])
    assert reasons(plan_of(one, fixed={BRANCH: "it is checked out"})) == {1: "it is checked out"}
    plan = plan_of(one, refs={BRANCH: oid(1)}, fixed={BRANCH: "it is checked out"})
    assert plan.new_tags == {TAG: oid(9)}
    assert plan.refused == []


@pytest.mark.parametrize("folder", ["ai", "ai/w"])
def test_branch_below_another_branch_is_refused_and_names_it(folder):
    plan = plan_of(entry(1), refs={f"refs/heads/{folder}": oid(7)})
    said = f"a branch named {folder} exists, so ai/w/t cannot be created beside it"
    assert reasons(plan) == {1: f"{said}: rename or delete it, or choose another branch_prefix"}


def test_entry_that_stands_on_lost_objects_is_refused_and_counts_them():
    lost = [oid(20), oid(21)]
    plan = plan_of(entry(1, needs=[oid(22), *lost]), absent=frozenset({*lost, oid(30)}))
    assert "it stands on 2 objects" in reasons(plan)[1]
    assert f"({oid(20)[:12]} is one)" in reasons(plan)[1]
    assert plan_of(entry(1, needs=[oid(22)]), absent=frozenset(lost)).refused == []


def test_entry_that_git_refused_a_moment_ago_stops_its_branch():
    plan = plan_of(entry(1), entry(2, oid(1)), entry(3, oid(2)), entries={2: "git said no"})
    assert [written.sequence for written in plan.write] == [1]
    assert reasons(plan) == {2: "git said no", 3: "waits for run2: git said no"}


def test_branch_stopped_earlier_stands_still_after_that_sequence_only():
    entries = [entry(4), entry(5, oid(4)), entry(6, oid(5))]
    plan = plan_of(*entries, branches={BRANCH: (5, "waits for run5: it was parked")})
    assert plan.write == entries[:2]
    assert reasons(plan) == {6: "waits for run5: it was parked"}


def test_plan_leaves_the_callers_mappings_as_they_were():
    refs, branches = {}, {}
    make_plan([entry(1), entry(2)], refs, Obstacles(branches=branches), KnownHistory())
    assert (refs, branches) == ({}, {})

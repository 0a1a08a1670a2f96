"""A roll-up that is killed before each of its steps: nothing is ever out of reach, and the next one ends the same."""

from __future__ import annotations

import pytest

from gitexport import archive_branches, verify_export
from tests.export.places import assert_sound, leftovers, refs_of, run_git
from tests.export.test_kills import follow_each_other, killer

__all__ = ["killer"]  # a fixture


def assert_everything_is_reached(place, folder):
    assert set(place.promised) <= set(run_git(folder, "rev-list", "--all").split())


def kill_everywhere(place, killer, folders, **settings):
    """Bring branches back by new runs, roll them up with a kill before step 0, go on; then step 1; and so on."""
    step = 0
    while True:
        for number in range(3):
            place.commit(f"t{number}", f"s{step}n{number}", prompt=f"prompt of {step}")
        assert place.export(push=settings["push"]).state == "done"
        killed = killer(place, step, archive={"keep_newest": 0} | settings)
        for folder in folders:
            assert_everything_is_reached(place, folder)
        if not killed:
            return step
        summary = archive_branches(place.store, keep_newest=0, **settings)
        assert (summary.state, summary.left) == ("done", []), f"step {step}: {summary}"
        for folder in folders:
            assert set(refs_of(folder)) == {summary.archive}, f"step {step}"
        assert leftovers(place.path) == [], f"step {step}"
        step += 1


def test_roll_up_killed_at_every_step_ends_the_same(place, killer):
    steps = kill_everywhere(place, killer, [place.path], push=False)
    assert steps > 15
    # Killed before and after the pack appears, and around the one rename that moves all refs.
    assert follow_each_other(killer.moments, "os.rename cas_pack", "os.rename cas_idx", "fsync")
    assert follow_each_other(killer.moments, "fsync", "os.rename packed-refs.cas", "fsync")
    assert killer.moments[-1] == "os.remove pack-.keep"
    assert_sound(place.path)
    assert verify_export(place.store, place.path).faults == []


@pytest.mark.long
def test_roll_up_with_a_remote_killed_at_every_step_ends_the_same(place, remote, killer):
    steps = kill_everywhere(place, killer, [place.path, remote], push=True, delete_remote=True)
    assert steps > 30
    assert_sound(place.path)
    assert_sound(remote)
    assert verify_export(place.store, place.path, remote="origin").faults == []

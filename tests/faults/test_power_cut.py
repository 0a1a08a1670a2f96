"""Power cuts: every recorded flush is a moment at which the machine may stop, and each image must open whole."""

from __future__ import annotations

import pytest

from tests.faults.examiner import Examiner
from tests.faults.replay import record, replay, report

MOST_TRIES = 6


@pytest.fixture
def examiner():
    with Examiner() as one:
        yield one


@pytest.mark.parametrize("durability", ["full", "group"])
def test_power_cut_at_any_flush_loses_nothing_acknowledged(shim, fast_folder, examiner, durability):
    records, disk = record(shim, fast_folder, durability, 1, 4)
    outcome = replay(records, disk, fast_folder, 1, examiner)
    assert outcome.broken == []
    assert outcome.lost == []
    assert outcome.image_count > 40
    assert outcome.acknowledged_count >= 8


def test_power_cut_of_a_relaxed_store_loses_at_most_the_last_transaction(shim, fast_folder, examiner):
    records, disk = record(shim, fast_folder, "relaxed", 2, 6)
    outcome = replay(records, disk, fast_folder, 2, examiner)
    assert outcome.broken == []
    assert outcome.lost_too_many == 0
    assert outcome.image_count > 30


@pytest.mark.parametrize("variant", ["sync", "metasync", "outbox", "creation"])
def test_power_cut_of_a_store_broken_on_purpose_is_noticed(shim, fast_folder, examiner, variant):
    """Such a store does not come to harm at every moment and in every image: more are tried until one shows it."""
    for seed in range(3, 3 + MOST_TRIES):
        folder = fast_folder / str(seed)
        folder.mkdir()
        records, disk = record(shim, folder, "full", seed, 5, variant)
        outcome = replay(records, disk, folder, seed, examiner, images_per_point=seed - 2, until_found=True)
        if outcome.lost or outcome.broken:
            return
    raise AssertionError(f"{MOST_TRIES} recordings of a store that is broken ({variant}) showed nothing")


@pytest.mark.parametrize("variant", ["", "compaction", "checkout"])
def test_power_cut_while_a_store_is_kept_loses_nothing_acknowledged(shim, fast_folder, examiner, variant):
    """Forgetting, undeleting, collecting, compacting, backing up, healing, checking out, with commits in between."""
    tries = MOST_TRIES if variant else 1
    for seed in range(11, 11 + tries):
        folder = fast_folder / str(seed)
        folder.mkdir()
        records, disk = record(shim, folder, "full", seed, 9, variant, work="keeping")
        outcome = replay(records, disk, folder, seed, examiner, until_found=bool(variant))
        if variant and (outcome.lost or outcome.broken):
            return
    assert not variant, f"a {variant} that syncs nothing was not noticed"
    assert outcome.broken == []
    assert outcome.lost == []
    assert outcome.image_count > 40
    assert outcome.acknowledged_count >= 8


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 108))
@pytest.mark.parametrize("durability", ["full", "group", "relaxed"])
def test_power_cut_of_many_workloads_loses_nothing_acknowledged(
    shim, fast_folder, examiner, durability, seed
):
    records, disk = record(shim, fast_folder, durability, seed, 15)
    outcome = replay(records, disk, fast_folder, seed, examiner, images_per_point=2)
    report(f"power cut, {durability}, seed {seed}", outcome)
    assert outcome.broken == []
    assert outcome.lost_too_many == 0
    if durability != "relaxed":
        assert outcome.lost == []


@pytest.mark.long
@pytest.mark.parametrize("seed", range(120, 126))
def test_power_cut_while_many_stores_are_kept_loses_nothing_acknowledged(shim, fast_folder, examiner, seed):
    records, disk = record(shim, fast_folder, "full", seed, 14, work="keeping")
    outcome = replay(records, disk, fast_folder, seed, examiner, images_per_point=2)
    report(f"power cut, keeping, seed {seed}", outcome)
    assert outcome.broken == []
    assert outcome.lost == []

"""Power cuts: every recorded flush is a moment at which the machine may stop, and each image must open whole."""

from __future__ import annotations

import pytest

from tests.faults.examiner import Examiner
from tests.faults.replay import record, replay, report


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
    records, disk = record(shim, fast_folder, "full", 3, 5, variant)
    outcome = replay(records, disk, fast_folder, 3, examiner)
    assert outcome.lost or outcome.broken


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

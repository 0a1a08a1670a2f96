"""Disks that fail: every write and every flush of a commit in turn. Nothing acknowledged goes, and nobody goes on."""

from __future__ import annotations

import random

import pytest

from cas import StorageError, StoreSuspectError
from cas.lmdbenv import SUSPECT_FILE
from tests.faults.examiner import Examiner
from tests.faults.images import Disk
from tests.faults.recording import read_log, run_recorded
from tests.faults.replay import promises_of
from tests.faults.workload import ACKNOWLEDGED, REPOSITORY, open_store

STEPS = 4


def fail_at(shim, folder, kind, step, errno_name="EIO", variant=""):
    """Let the n-th write or flush of a commit fail; return what the writer saw, and its recording."""
    disk, log = folder / "disk", folder / "log"
    disk.mkdir()
    seen = run_recorded(shim, disk, "fails", kind, step, errno_name, variant, log=log).split()
    return seen, disk, read_log(log)


@pytest.mark.parametrize("kind", ["W", "F"])
@pytest.mark.parametrize("step", range(STEPS))
def test_input_output_error_at_any_step_marks_the_store_and_loses_nothing(shim, fast_folder, kind, step):
    seen, disk, records = fail_at(shim, fast_folder, kind, step)
    if seen[0] == "stored":
        assert seen[1:] == ["stored"], "the commit has fewer steps than that"
        return
    assert seen[0] == "io_error"
    assert seen[1] == "store_suspect", "a store whose flush failed takes nothing more"
    assert (disk / REPOSITORY / ".cas" / SUSPECT_FILE).exists()
    moved, rng = Disk(disk, ACKNOWLEDGED), random.Random(step)
    for record in records:
        moved.apply(record, rng)
    with Examiner() as examiner:
        for number in range(4):
            image = fast_folder / f"image{number}"
            moved.cut(rng, image)
            (image / REPOSITORY / ".cas" / SUSPECT_FILE).unlink(missing_ok=True)  # the examiner stores a run
            assert examiner.ask(image, promises_of(moved)) == [0, None]


def test_store_that_goes_on_after_an_error_is_noticed(shim, fast_folder):
    seen, _, _ = fail_at(shim, fast_folder, "F", 0, variant="suspect")
    assert seen == ["io_error", "stored"], (
        "broken on purpose, it takes the run that the test above wants refused"
    )


def test_store_marked_by_an_error_is_well_again_after_a_full_verify(shim, fast_folder):
    seen, disk, _ = fail_at(shim, fast_folder, "F", 0)
    assert seen == ["io_error", "store_suspect"]
    with open_store(disk) as store:
        assert store.show("corr_first")["revision"] == 1, "reading goes on"
        with pytest.raises(StoreSuspectError):
            store.commit_artifacts("wf", "t", {"f": b"x"}, correlation_id="x")
        report = store.verify()
        assert report.ok
        assert report.complete
        store.environment.clear_suspect()
        assert store.commit_artifacts("wf", "t", {"f": b"x"}, correlation_id="x")["success"]


def test_short_of_space_at_any_write_is_a_full_disk_and_not_a_broken_one(shim, fast_folder):
    for step in range(STEPS):
        folder = fast_folder / str(step)
        folder.mkdir()
        seen, disk, _ = fail_at(shim, folder, "W", step, "ENOSPC")
        assert seen[0] in {"disk_full", "stored"}
        assert seen[1] == "stored", "with room again, the same call succeeds"
        with open_store(disk) as store:
            assert store.verify().ok


@pytest.mark.parametrize(("kind", "errno_name"), [("W", "EROFS"), ("F", "EROFS"), ("F", "ENOSPC")])
def test_disk_that_takes_no_more_for_a_while_loses_nothing(shim, fast_folder, kind, errno_name):
    """Full, over quota, or remounted read-only under an open store; once it takes writes again, so does the store."""
    refused_count = 0
    with Examiner() as examiner:
        for step in range(STEPS):
            folder = fast_folder / str(step)
            folder.mkdir()
            seen, disk, records = fail_at(shim, folder, kind, step, errno_name)
            assert seen[0] in {"stored", "read_only" if errno_name == "EROFS" else "disk_full"}
            assert seen[1] == "stored"
            refused_count += seen[0] != "stored"
            moved, rng = Disk(disk, ACKNOWLEDGED), random.Random(step)
            for record in records:
                moved.apply(record, rng)
            for number in range(3):
                image = folder / f"image{number}"
                moved.cut(rng, image)
                assert examiner.ask(image, promises_of(moved)) == [0, None]
    assert refused_count > 0


def test_writer_that_ends_at_any_write_or_flush_leaves_a_whole_store(shim, fast_folder):
    for kind in "WF":
        for step in range(STEPS):
            folder = fast_folder / f"{kind}{step}"
            folder.mkdir()
            disk = folder / "disk"
            disk.mkdir()
            said = run_recorded(shim, disk, "fails", kind, step, "KILL", status=None)
            assert said in {"", "stored stored\n"}, "killed, or with fewer steps than that"
            with open_store(disk) as store:
                assert store.get_artifact_by_correlation_id("first") is not None
                assert store.verify().ok
                store.commit_artifacts("wf", "t", {"f": b"third"}, correlation_id="third")
                assert store.verify().ok


def test_error_says_what_to_do(shim, fast_folder):
    _, disk, _ = fail_at(shim, fast_folder, "F", 0)
    with open_store(disk) as store, pytest.raises(StorageError) as caught:
        store.commit_artifacts("wf", "t", {"f": b"x"}, correlation_id="x")
    assert "cas verify --full" in caught.value.hint

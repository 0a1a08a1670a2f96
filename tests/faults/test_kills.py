"""kill -9 of writers that work side by side: nothing acknowledged is lost, nothing is there twice, no lock stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.workload import open_store

ROOT = Path(__file__).parents[2]
ARENA = Path(__file__).with_name("arena.py")
WAIT_S = 240  # less than pytest gives a test, so that the arena's own words are seen

STILL = """
import sys
from pathlib import Path
from tests.faults import arena

arena.SILENCE_S = 2
fighting = arena.Arena(Path(sys.argv[1]), 1, 1, "")
fighting.start()
fighting.start()
fighting.read(1)
"""


def fight(disk, *arguments):
    """Let writers be killed on one store, and return what they had promised."""
    done = subprocess.run(
        [sys.executable, ARENA, disk, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def find_lost(store, told):
    found = [store.get_artifact_by_correlation_id(name, revision=1) for name, _ in told["promises"]]
    return [
        name
        for record, (name, sha) in zip(found, told["promises"], strict=True)
        if record is None or record["commit_sha"] != sha
    ]


def assert_whole(disk, told, threads_count):
    assert told["failures"] == []
    with open_store(disk) as store:
        assert find_lost(store, told) == []
        report = store.verify()
        assert [fault for fault in report.faults if fault.check != "segments_referenced"] == []
        runs = store.list_artifacts(limit=100_000)
        assert len({run["correlation_id"] for run in runs}) == len(runs), "a run is there twice"
        assert {run["revision"] for run in runs} <= {1}
        # Each thread of each writer may have been between its flush and its line.
        assert len(runs) - len(told["promises"]) in range(told["writers"] * threads_count + 1)
        store.gc()
        assert store.verify().ok
        assert store.commit_artifacts("wf", "after", {"f": b"x"}, correlation_id="after")["success"]


@pytest.mark.parametrize(("writers", "threads", "kills"), [(1, 2, 8), (4, 1, 12), (16, 1, 6)])
def test_killed_writers_lose_nothing_acknowledged(tmp_path, writers, threads, kills):
    told = fight(tmp_path, writers, threads, kills, 1)
    assert_whole(tmp_path, told, threads)
    assert len(told["promises"]) >= kills
    if writers > 1:
        assert told["relayed"] > 0, "work passed between processes takes part"


def test_answer_before_the_flush_is_noticed(tmp_path):
    told = fight(tmp_path, 6, 1, 20, 1, "early")
    with open_store(tmp_path) as store:
        assert find_lost(store, told) or told["failures"]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(200, 204))
@pytest.mark.parametrize(("writers", "threads"), [(1, 4), (2, 2), (4, 1), (16, 1), (8, 3)])
def test_writers_killed_again_and_again_lose_nothing_acknowledged(tmp_path, writers, threads, seed):
    told = fight(tmp_path, writers, threads, 60, seed)
    with open_store(tmp_path) as store:
        lost_count = len(find_lost(store, told))
    sys.stdout.write(
        f"kill -9, {writers} writers of {threads} threads, seed {seed}: {told['writers']} killed, "
        f"{len(told['promises'])} acknowledged, {told['relayed']} committed for another process, "
        f"{len(told['failures'])} failed, {lost_count} lost\n"
    )
    assert_whole(tmp_path, told, threads)


def test_arena_whose_writers_stand_still_ends_and_tells_what_they_wait_for(tmp_path):
    with open_store(tmp_path) as store, store.environment.write():
        done = subprocess.run(
            [sys.executable, "-c", STILL, tmp_path],
            check=False,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            timeout=WAIT_S,
        )
    assert done.returncode == 1
    assert "nothing came for 2 s" in done.stderr
    assert done.stderr.count("was ended by SIGABRT") == 2
    assert "in hold_to_write" in done.stderr
    assert "-> FLOCK" in done.stderr

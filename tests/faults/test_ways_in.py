"""Ways of coming to a store: pools, a reader that stays, two stores, opening again and again; none fails for a lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.workload import open_store

ROOT = Path(__file__).parents[2]
WAIT_S = 120

POOL = """
import sys
from concurrent.futures import ProcessPoolExecutor
from cas import ArtifactStore
from tests.faults.workload import open_store

def work(task):
    disk, number = task
    with open_store(disk) as store:
        return store.commit_artifacts("wf", f"t{number % 4}", {"f": b"%d" % number}, correlation_id=f"{number}")

if __name__ == "__main__":
    disk, kind = sys.argv[1:]
    tasks = [(disk, number) for number in range(40)]
    with open_store(disk) as store:
        if kind == "loky":
            from joblib.externals.loky import get_reusable_executor
            results = list(get_reusable_executor(max_workers=4).map(work, tasks))
        elif kind == "joblib":
            from joblib import Parallel, delayed
            results = Parallel(n_jobs=4)(delayed(work)(task) for task in tasks)
        else:
            with ProcessPoolExecutor(4) as pool:
                results = list(pool.map(work, tasks))
        assert len({result["commit_sha"] for result in results}) == 40
        report = store.verify()
        assert report.ok and report.manifest_count == 40, report
"""


@pytest.mark.parametrize("kind", ["executor", "loky", "joblib"])
def test_pool_of_processes_commits_every_run_once(tmp_path, kind):
    if kind != "executor":
        pytest.importorskip("joblib", reason="joblib, which brings loky along, is not installed")
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    done = subprocess.run(
        [sys.executable, script, tmp_path, kind],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr


def test_store_opened_again_and_again_keeps_its_runs(tmp_path):
    """A notebook whose cell is run anew makes another object each time, and forgets to close the one before."""
    forgotten = []
    for number in range(30):
        store = open_store(tmp_path)
        store.commit_artifacts("wf", "t", {"f": b"%d" % number}, correlation_id=f"{number}")
        forgotten.append(store)
    assert len({id(store.environment) for store in forgotten}) == 1
    for store in forgotten[:-1]:
        store.close()
    assert len(forgotten[-1].list_artifacts(limit=100)) == 30
    assert forgotten[-1].verify().ok
    forgotten[-1].close()


def test_two_stores_in_one_process_do_not_mix(tmp_path):
    with open_store(tmp_path / "a") as one, open_store(tmp_path / "b", "relaxed") as two:
        for number in range(10):
            one.commit_artifacts("wf", "t", {"f": b"one %d" % number}, correlation_id=f"{number}")
            two.commit_artifacts("wf", "t", {"f": b"two %d" % number}, correlation_id=f"{number}")
        assert one.read_file("corr_3", "f") == b"one 3"
        assert two.read_file("corr_3", "f") == b"two 3"
        assert one.verify().ok
        assert two.verify().ok


def test_reader_that_stays_open_sees_one_moment_and_hinders_nobody(tmp_path):
    with open_store(tmp_path) as store:
        store.commit_artifacts("wf", "t", {"f": b"0"}, correlation_id="0")
        with store.environment.read() as snapshot:
            from cas import catalog
            from cas.lmdbenv import Table

            before = list(snapshot.scan_keys(Table.MANIFESTS))
            for number in range(1, 60):
                files = {"f": os.urandom(20_000)}
                store.commit_artifacts("wf", "t", files, correlation_id=f"{number}")
            assert list(snapshot.scan_keys(Table.MANIFESTS)) == before
            assert catalog.find_revision(snapshot, "59", 1) is None
        assert store.get_artifact_by_correlation_id("59") is not None
        assert store.verify().ok

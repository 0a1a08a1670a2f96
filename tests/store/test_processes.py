"""Several processes on one store: every way to start one, forks beside busy threads, and writers that are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.stores import FILES, commit, open_store

ROOT = Path(__file__).parents[2]
WAIT_S = 120

# Run in an interpreter of its own: a fork beside the threads of a test runner is not what is tested here.
START_METHODS = """
import multiprocessing, sys
from pathlib import Path
from cas import ArtifactStore, ArtifactStoreConfig

CONFIG = ArtifactStoreConfig(repo_path=Path(sys.argv[1]), scan_for_secrets=False)

def work(number):
    with ArtifactStore(CONFIG) as store:
        results = [
            store.commit_artifacts("wf", f"p{number}", {"f": b"%d %d" % (number, n)}, correlation_id=f"{number}-{n}")
            for n in range(5)
        ]
    return [result["commit_sha"] for result in results]

if __name__ == "__main__":
    with ArtifactStore(CONFIG) as store:
        store.commit_artifacts("wf", "parent", {"f": b"parent"}, correlation_id="parent")
        context = multiprocessing.get_context(sys.argv[2])
        with context.Pool(2) as pool:
            shas = [sha for group in pool.map(work, range(4)) for sha in group]
        store.commit_artifacts("wf", "parent", {"f": b"after"}, correlation_id="after")
        assert len(set(shas)) == 20
        assert {store.show(sha)["commit_sha"] for sha in shas} == set(shas)
        report = store.verify()
        assert report.ok and report.manifest_count == 22, report
"""

FORK = """
import os, sys, threading, traceback
from pathlib import Path
from cas import ArtifactStore, ArtifactStoreConfig, StateError

CONFIG = ArtifactStoreConfig(repo_path=Path(sys.argv[1]), scan_for_secrets=False)

def in_child(work):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child

def check(child):
    status = os.waitpid(child, 0)[1]
    assert status == 0, status

def commit(number):
    return store.commit_artifacts("wf", f"t{number}", {"f": b"%d" % number}, correlation_id=f"{number}")

store = ArtifactStore(CONFIG)
commit(0)
"""

INHERITED = (
    FORK
    + """
def child():
    assert store.get_artifact_by_correlation_id("0")["revision"] == 1
    commit(1)
    with ArtifactStore(CONFIG) as another:
        assert another.get_artifact_by_correlation_id("1")
    store.close()
    with ArtifactStore(CONFIG) as another:
        assert another.get_artifact_by_correlation_id("0")

check(in_child(child))
assert store.get_artifact_by_correlation_id("1")
commit(2)
assert store.verify().ok
"""
)

BUSY = (
    FORK
    + """
stop = threading.Event()

def write(first):
    number = first
    while not stop.is_set():
        commit(number)
        number += 1

threads = [threading.Thread(target=write, args=(first,)) for first in (1000, 2000)]
for thread in threads:
    thread.start()
try:
    for number in range(1, 13):
        check(in_child(lambda: commit(number)))
finally:
    stop.set()
    for thread in threads:
        thread.join()
assert all(store.get_artifact_by_correlation_id(str(number)) for number in range(13))
assert store.verify().ok
"""
)

COMPACTED = (
    FORK
    + """
from cas import compact_store

is_forked, tell_forked = os.pipe()
is_compacted, tell_compacted = os.pipe()

def child():
    os.write(tell_forked, b"x")
    os.read(is_compacted, 1)
    assert store.get_artifact_by_correlation_id("0"), "opens the new file"
    with ArtifactStore(CONFIG) as another:
        assert another.environment is store.environment
        commit(1)

waiting = in_child(child)
os.read(is_forked, 1)
store.close()
compact_store(CONFIG)
os.write(tell_compacted, b"x")
check(waiting)
"""
)

INSIDE = (
    FORK
    + """
def refused():
    try:
        commit(1)
    except StateError as error:
        assert "forked" in error.message
    else:
        raise AssertionError("the child used a database whose parent was in the middle of a snapshot")

with store.environment.read() as transaction:
    child = in_child(refused)
    check(child)
    assert "txnid" in store.environment._raw.readers(), "the parent's snapshot is still protected"
commit(2)
assert store.verify().ok
"""
)

CLOSED = (
    FORK
    + """
store.close()

def child():
    try:
        commit(1)
    except StateError:
        pass
    else:
        raise AssertionError
    with ArtifactStore(CONFIG) as another:
        assert another.get_artifact_by_correlation_id("0")

check(in_child(child))
"""
)

WRITER = """
import sys
from pathlib import Path
from cas import ArtifactStore, ArtifactStoreConfig, intake

intake.LARGE_FILE_BYTES = 100_000
folder, start = Path(sys.argv[1]), int(sys.argv[2])
files = {"small": b"", "same": b"same in all", "large": folder / "large.bin"}
with ArtifactStore(ArtifactStoreConfig(repo_path=folder, scan_for_secrets=False)) as store:
    for number in range(start, start + 10_000):
        (folder / "large.bin").write_bytes(b"%09d" % number * 20_000)
        files["small"] = b"%d" % number
        result = store.commit_artifacts("wf", f"t{number % 3}", files, correlation_id=f"{number}")
        print(number, result["commit_sha"], flush=True)
"""


def run_script(script, *arguments):
    # From the package's folder, and with warnings as they come: Python warns of a fork beside threads by itself.
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )


def finish(process):
    """Wait for a process to end well; one that does not end is killed with its children, so that the test fails."""
    try:
        out, _ = process.communicate(timeout=WAIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        pytest.fail(f"a deadlock, after {out}")
    assert process.returncode == 0, out


def run_to_end(script, *arguments):
    with run_script(script, *arguments) as process:
        finish(process)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_started_in_any_way_commit(tmp_path, method):
    script = tmp_path / "start_methods.py"  # spawned workers import it by its path
    script.write_text(START_METHODS)
    with subprocess.Popen(
        [sys.executable, script, tmp_path, method],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    ) as process:
        finish(process)


def test_inherited_store_works_in_a_forked_child(tmp_path):
    run_to_end(INHERITED, tmp_path)


def test_fork_beside_committing_threads_gives_a_working_child(tmp_path):
    run_to_end(BUSY, tmp_path)


def test_fork_inside_a_snapshot_gives_a_child_that_refuses(tmp_path):
    run_to_end(INSIDE, tmp_path)


def test_child_whose_store_was_compacted_since_the_fork_shares_the_new_file(tmp_path):
    run_to_end(COMPACTED, tmp_path)


def test_closed_store_stays_closed_in_a_forked_child(tmp_path):
    run_to_end(CLOSED, tmp_path)


def read_acknowledgements(text):
    """Return what whole lines say; the kill may have struck amid the last one, which acknowledges nothing then."""
    lines = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return {int(number): sha for number, sha in lines}


@pytest.mark.parametrize("rest", ["", "2", "2 ", "2 abc", "2 abcd"])
def test_half_a_line_acknowledges_nothing(rest):
    assert read_acknowledgements("0 ab\n1 cd\n" + rest) == {0: "ab", 1: "cd"}


def kill_writer(folder, start, acknowledged_count, bytes_more):
    """Kill a writer some way into the commit after its so-many-th; return what it had acknowledged."""
    acknowledged = {}
    with run_script(WRITER, folder, start) as process:
        for line in process.stdout:
            assert line[:1].isdigit(), line + process.stdout.read()
            acknowledged |= read_acknowledgements(line)
            if len(acknowledged) == acknowledged_count:
                for _ in range(bytes_more):  # a delay that needs no clock: somewhere into the next commit
                    pass
                process.send_signal(signal.SIGKILL)
                break
        acknowledged |= read_acknowledgements(process.stdout.read())
    assert process.returncode == -signal.SIGKILL
    return acknowledged


def check_after_kills(folder, acknowledged):
    with open_store(folder) as store:
        for number, sha in acknowledged.items():
            record = store.get_artifact_by_correlation_id(str(number))
            assert record["commit_sha"] == sha
            assert store.read_file(sha, "small") == b"%d" % number
            assert store.read_file(sha, "large") == b"%09d" % number * 20_000
        report = store.verify()
        must = [fault for fault in report.faults if fault.level == "must"]
        assert must == []
        # A writer killed between the parts of a large file leaves them for the garbage collector, and nothing else.
        assert {fault.check for fault in report.faults} <= {"segments_referenced"}
        assert report.manifest_count - len(acknowledged) in range(len(acknowledged) + 1)
        commit(store, "after", files=FILES)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_writer_loses_nothing_acknowledged(tmp_path, seed):
    rng = random.Random(seed)
    acknowledged = {}
    for start in (0, 100_000):
        acknowledged |= kill_writer(tmp_path, start, rng.randrange(1, 12), rng.randrange(200_000))
    check_after_kills(tmp_path, acknowledged)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(25))
def test_writer_killed_again_and_again_loses_nothing_acknowledged(tmp_path, seed):
    rng = random.Random(1000 + seed)
    acknowledged = {}
    for round_number in range(8):
        acknowledged |= kill_writer(
            tmp_path, round_number * 100_000, rng.randrange(1, 20), rng.randrange(1_000_000)
        )
    check_after_kills(tmp_path, acknowledged)

"""Big files: committed and checked out in bounded memory, which is measured in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WAIT_S = 900
MEBIBYTE = 1 << 20
# Over what the process needs before it has seen the file; 100 MB is the promise.
MOST_BYTES = 100 * 1000 * 1000

# Every eighth block is noise, so that the stored stream is large as well and is cut into many parts.
WORK = """
import os, random, resource, sys
from pathlib import Path
from tests.faults.workload import open_store

folder, size_mebibytes, way = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def blocks():
    rng = random.Random(1)
    for number in range(size_mebibytes):
        yield rng.randbytes(1 << 20) if number % 8 == 0 else b"%08d\\n" % number * (1 << 20 >> 3)

def peak_bytes():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024

with open_store(folder) as store:
    if way == "file":
        with open(folder / "big.csv", "wb") as file:
            for block in blocks():
                file.write(block)
    before = peak_bytes()
    if way == "file":
        store.commit_artifacts("wf", "t", [folder / "big.csv"], correlation_id="big")
    else:
        with store.open_run("wf", "t", "big") as run:
            with run.open_file("big.csv") as file:
                for block in blocks():
                    file.write(block)
            run.commit()
    committed = peak_bytes()
    store.checkout("corr_big", folder / "out")
    checked_out = peak_bytes()

with open(folder / "out" / "big.csv", "rb") as file:
    for block in blocks():
        assert file.read(len(block)) == block
    assert file.read(1) == b""
print(before, committed, checked_out)
"""


def measure(folder, size_mebibytes, way):
    done = subprocess.run(
        [sys.executable, "-c", WORK, folder, str(size_mebibytes), way],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("way", ["file", "writer"])
def test_large_file_is_stored_and_checked_out_in_bounded_memory(tmp_path, way):
    before, committed, checked_out = measure(tmp_path, 200, way)
    assert max(committed, checked_out) - before < MOST_BYTES
    assert checked_out < 200 * MEBIBYTE


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_file_of_two_gibibytes_is_stored_and_checked_out_in_bounded_memory(tmp_path):
    before, committed, checked_out = measure(tmp_path, 2048, "file")
    sys.stdout.write(
        f"2 GiB: peak {before} bytes before, {committed} after commit, {checked_out} after checkout\n"
    )
    assert max(committed, checked_out) < MOST_BYTES

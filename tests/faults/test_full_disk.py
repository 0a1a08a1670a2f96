"""A disk that is really full: a small tmpfs. The refused run leaves nothing, all others stay."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cas import ArtifactStoreError, StorageError
from cas.lmdbenv import environment, faults
from tests.faults.workload import open_store

DISK_BYTES = 6 * 1024 * 1024
RUN_BYTES = 100_000
FEW_ERRORS = 5


@pytest.fixture
def small_disk(tmp_path, small_steps):
    """A mounted tmpfs of a few megabytes, or a skip with the reason."""
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small tmpfs needs root on Linux")
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", place]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(store, first=0):
    """Commit runs until the disk refuses; return those stored and the refusal."""
    stored = []
    for number in range(first, first + 1000):
        content = random.Random(number).randbytes(RUN_BYTES)
        try:
            store.commit_artifacts("wf", "t", {"f": content}, correlation_id=f"{number}")
        except StorageError as error:
            return stored, error
        stored.append(number)
    raise AssertionError("the disk took a thousand runs")


def assert_stored(store, numbers):
    for number in numbers:
        assert store.read_file(f"corr_{number}", "f") == random.Random(number).randbytes(RUN_BYTES)
    report = store.verify()
    assert report.ok
    assert report.manifest_count == len(numbers)


def test_full_disk_refuses_by_name_and_keeps_what_was_acknowledged(small_disk):
    check_full_disk(small_disk)


def check_full_disk(small_disk):
    with open_store(small_disk) as store:
        stored, refusal = fill(store)
        assert (refusal.kind, refusal.retryable) == ("disk_full", True)
        assert len(stored) > 10
        for _ in range(FEW_ERRORS):
            again, refusal = fill(store, 5000)
            assert again == []
            assert refusal.kind == "disk_full"
        assert_stored(store, stored)
        store.environment.check_suspect()  # a full disk is not a broken one
    with open_store(small_disk) as store:
        assert_stored(store, stored)


def test_full_disk_takes_runs_again_once_there_is_room(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES // 2))
    with open_store(small_disk) as store:
        stored, refusal = fill(store)
        assert refusal.kind == "disk_full"
        ballast.unlink()
        more, _ = fill(store, len(stored))
        assert len(more) > 5
        assert_stored(store, stored + more)


def test_full_disk_during_a_large_file_leaves_nothing_of_it(small_disk):
    with open_store(small_disk) as store:
        store.commit_artifacts("wf", "t", {"f": b"small"}, correlation_id="small")
        with pytest.raises(StorageError) as caught:
            store.commit_artifacts(
                "wf", "t", {"f": random.Random(1).randbytes(2 * DISK_BYTES)}, correlation_id="big"
            )
        assert caught.value.kind == "disk_full"
        store.gc()
        assert store.verify().ok
        assert store.get_artifact_by_correlation_id("big") is None
        assert store.stats()["blobs"] == 1


def test_disk_too_full_for_a_store_gets_none(small_disk):
    (small_disk / "ballast").write_bytes(bytes(DISK_BYTES - 8192))
    with pytest.raises(StorageError) as caught:
        open_store(small_disk)
    assert caught.value.kind == "disk_full"
    assert not (small_disk / "repo" / ".cas").exists()
    assert Path(small_disk / "ballast").stat().st_size == DISK_BYTES - 8192


def swallow(patch):
    """A commit that the disk refused counts as one that it took."""
    real = environment.Environment.write

    @contextlib.contextmanager
    def write(self, reserve_bytes=0):
        with contextlib.suppress(StorageError), real(self, reserve_bytes) as transaction:
            yield transaction

    patch.setattr(environment.Environment, "write", write)


def call_it_broken(patch):
    """A disk that is full is taken for a broken one, whether the write that met it says so or is cut short."""
    named = faults.storage_error

    def storage_error(error, path, *, writing=False):
        is_named = error.errno in {errno.ENOSPC, errno.EDQUOT}
        return named(OSError(errno.EIO, "") if is_named else error, path, writing=writing)

    patch.setattr(environment.Environment, "_keep_headroom", lambda self, raw, reserve_bytes: None)
    patch.setattr(faults, "_is_full", lambda path: False)
    patch.setattr(faults, "storage_error", storage_error)


@pytest.mark.parametrize("broken", [swallow, call_it_broken])
def test_store_broken_on_purpose_is_noticed_on_a_full_disk(small_disk, monkeypatch, broken):
    broken(monkeypatch)
    with pytest.raises((AssertionError, ArtifactStoreError, RuntimeError)):
        check_full_disk(small_disk)

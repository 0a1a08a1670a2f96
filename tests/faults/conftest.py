"""The recording shim, built once; a place for images that is fast where the machine has one; small steps of growth."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from cas import blobs, intake
from cas.lmdbenv import environment
from tests.faults.recording import build_shim
from tests.faults.workload import LARGE_BYTES, SMALL_STEP_BYTES


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The recording shim, or a skip with the reason."""
    library, reason = build_shim(tmp_path_factory.mktemp("shim"))
    if library is None:
        pytest.skip(reason)
    return library


@pytest.fixture
def fast_folder(tmp_path):
    """A folder in memory where there is one: an image is written, opened once and thrown away."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="cas-faults-", dir=memory))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def small_steps(monkeypatch):
    """Let stores of this process grow as those of the recorded workload do."""
    monkeypatch.setattr(environment, "HEADROOM_STEP_BYTES", SMALL_STEP_BYTES)
    monkeypatch.setattr(environment, "HEADROOM_LOW_BYTES", SMALL_STEP_BYTES // 4)
    monkeypatch.setattr(intake, "LARGE_FILE_BYTES", LARGE_BYTES)
    monkeypatch.setattr(blobs, "PART_BYTES", LARGE_BYTES // 2)

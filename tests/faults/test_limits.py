"""Less than a store would like: address space, permissions, file bytes; readers that died; clocks that jump."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cas import (
    ArtifactStore,
    ArtifactStoreConfig,
    ArtifactStoreError,
    IntegrityError,
    ReadOnlyStoreError,
    catalog,
)
from cas.lmdbenv import DATA_FILE, faults
from tests.faults.workload import NoRepository, open_store

ROOT = Path(__file__).parents[2]
GIBIBYTE = 1 << 30

LIMITED = """
import os, resource, sys
from tests.faults.workload import open_store
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
with open_store(sys.argv[1]) as store:
    for number in range(20):
        files = {"f": os.urandom(50_000)}
        store.commit_artifacts("wf", "t", files, correlation_id=f"{sys.argv[3]}-{number}")
    assert store.verify().ok
    assert len(store.list_artifacts(limit=100)) >= 20
    assert bytearray(limit // 16), "the process keeps room of its own"
"""

READER = """
import os, sys
from tests.faults.workload import open_store
store = open_store(sys.argv[1])
with store.environment.read() as snapshot:
    print("reading", flush=True)
    sys.stdin.read()
"""


def start(script, *arguments, **settings):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        **settings,
    )


@pytest.mark.parametrize("limit_bytes", [GIBIBYTE, 8 * GIBIBYTE])
def test_limited_address_space_gets_a_smaller_map(tmp_path, limit_bytes):
    with start(LIMITED, tmp_path, limit_bytes, "limited", stderr=subprocess.PIPE) as process:
        _, told = process.communicate()
    assert process.returncode == 0, told
    with open_store(tmp_path) as store:
        assert len(store.list_artifacts(limit=100)) == 20
        with start(LIMITED, tmp_path, limit_bytes, "beside", stderr=subprocess.PIPE) as process:
            _, told = process.communicate()
        assert process.returncode == 0, told
        store.commit_artifacts("wf", "t", {"f": b"unlimited"}, correlation_id="unlimited")
        report = store.verify()
        assert report.ok
        assert report.manifest_count == 41


def test_address_space_too_small_for_any_map_is_told(tmp_path, monkeypatch):
    from cas.lmdbenv import environment

    open_store(tmp_path).close()

    def refuse(*_, **__):
        raise environment.lmdb.MemoryError("no room")

    monkeypatch.setattr(environment.lmdb, "open", refuse)
    with pytest.raises(ArtifactStoreError) as caught:
        open_store(tmp_path)
    assert caught.value.kind == "storage_error"


def test_address_space_that_is_not_limited_is_used_as_asked(tmp_path):
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        pytest.skip("address space is limited here")
    with open_store(tmp_path) as store:
        assert store.environment._raw.info()["map_size"] == ArtifactStoreConfig().map_size_bytes


@pytest.fixture
def read_only_folder(tmp_path):
    """A store on a file system that was remounted read-only, or a skip with the reason."""
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting needs root on Linux")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", place],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    with open_store(place) as store:
        store.commit_artifacts("wf", "t", {"f": b"1"}, correlation_id="1")
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_read_only_disk_can_be_read_and_refuses_to_be_written(read_only_folder):
    check_read_only(read_only_folder)


def check_read_only(read_only_folder):
    config = ArtifactStoreConfig(repo_path=read_only_folder / "repo", scan_for_secrets=False)
    with pytest.raises(ReadOnlyStoreError):
        ArtifactStore(config, git_reader=NoRepository())
    with ArtifactStore(config, git_reader=NoRepository(), read_only=True) as store:
        assert store.read_file("corr_1", "f") == b"1"
        assert store.verify().ok
        with pytest.raises(ReadOnlyStoreError):
            store.commit_artifacts("wf", "t", {"f": b"2"}, correlation_id="2")
    with pytest.raises(ReadOnlyStoreError):
        ArtifactStore(config.replace(store_path=read_only_folder / "new"), git_reader=NoRepository())


@pytest.mark.parametrize("seed", range(12))
def test_file_cut_anywhere_is_refused_or_whole(tmp_path, seed):
    with open_store(tmp_path) as store:
        for number in range(30):
            store.commit_artifacts("wf", "t", {"f": os.urandom(5_000)}, correlation_id=f"{number}")
        used_bytes = store.environment.used_bytes()
    data = tmp_path / "repo" / ".cas" / DATA_FILE
    size_bytes = random.Random(seed).randrange(2 * used_bytes)
    os.truncate(data, size_bytes)
    if size_bytes < used_bytes:
        with pytest.raises(IntegrityError, match="truncated"):
            open_store(tmp_path)
        return
    with open_store(tmp_path) as store:  # only room made ahead is missing
        assert store.verify().ok
        store.commit_artifacts("wf", "t", {"f": b"after"}, correlation_id="after")
        assert store.verify().manifest_count == 31


def test_reader_that_was_killed_gives_its_slot_back(tmp_path, small_steps):
    with open_store(tmp_path) as store:
        store.commit_artifacts("wf", "t", {"f": b"0"}, correlation_id="0")
    with start(READER, tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdout.readline() == "reading\n"
        process.send_signal(signal.SIGKILL)
    with open_store(tmp_path) as store:
        assert store.environment._raw.reader_check() == 0, "opening has cleared the dead reader's slot"
        assert "no active readers" in store.environment._raw.readers()


def call_it_broken(patch):
    """A read-only disk is taken for a broken one."""
    plain = {code: words for code, words in faults._PLAIN.items() if code != errno.EROFS}
    patch.setattr(faults, "_PLAIN", {**plain, errno.EROFS: ("io_error", "the disk of {path} failed", None)})


def pretend(patch):
    """A commit that cannot be written says that it was."""
    patch.setattr(ArtifactStore, "commit_artifacts", lambda self, *words, **settings: {"success": True})


@pytest.mark.parametrize("broken", [call_it_broken, pretend])
def test_store_broken_on_purpose_is_noticed_on_a_read_only_disk(read_only_folder, monkeypatch, broken):
    broken(monkeypatch)
    with pytest.raises((AssertionError, ArtifactStoreError, pytest.fail.Exception)):
        check_read_only(read_only_folder)


def test_clock_that_jumps_back_keeps_order_ids_and_queries(tmp_path):
    check_clock(tmp_path)


def list_by_time(patch):
    """The newest by the clock comes first."""

    def by_time(transaction, *, reverse=True, after=None):
        return catalog.time_sequences(transaction, reverse=reverse)

    patch.setattr(catalog, "iter_sequences", by_time)


def chain_by_time(patch):
    """A commit stands on the newest one by the clock."""
    sequences = catalog.branch_sequences

    def by_time(transaction, branch, *, reverse=True):
        found = list(sequences(transaction, branch, reverse=reverse))
        return iter(
            sorted(found, key=lambda n: catalog.get_head(transaction, n).created_at_us, reverse=reverse)
        )

    patch.setattr(catalog, "branch_sequences", by_time)


@pytest.mark.parametrize("broken", [list_by_time, chain_by_time])
def test_store_broken_on_purpose_is_noticed_when_the_clock_jumps(tmp_path, monkeypatch, broken):
    broken(monkeypatch)
    with pytest.raises(AssertionError):
        check_clock(tmp_path)


def check_clock(tmp_path):
    times = iter([2_000_000_000, 1_000_000_000, 1_999_999_999, 5, 3_000_000_000] * 20)
    config = ArtifactStoreConfig(repo_path=tmp_path, scan_for_secrets=False)
    with ArtifactStore(config, clock=lambda: next(times) * 1_000_000_000, git_reader=NoRepository()) as store:
        results = [
            store.commit_artifacts("wf", "t", {"f": b"%d" % number}, correlation_id=f"{number}")
            for number in range(10)
        ]
        store.revert_to_tag("corr_2", "main")
        listed = store.list_artifacts(limit=100)
        assert [run["correlation_id"] for run in listed] == [f"{number}" for number in reversed(range(10))]
        history = store.history("ai/generated/wf/t")
        assert [step["commit_sha"] for step in history] == [done["commit_sha"] for done in reversed(results)]
        assert store.commit_artifacts("wf", "t", {"f": b"3"}, correlation_id="3") == results[3]
        assert store.verify().ok

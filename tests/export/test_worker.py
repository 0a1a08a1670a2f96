"""The worker: exports what is queued, spaces out pushes that fail, and stops clean."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cas import StorageError, outbox
from gitexport.worker import ExportWorker, StopSignal
from tests.export.places import refs_of

ROOT = Path(__file__).parents[2]


class Time:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def time():
    return Time()


def test_worker_in_a_thread_exports_and_stops_with_the_work_complete(place):
    done = threading.Event()
    with ExportWorker(place.store, interval_s=0.01, on_summary=lambda _: done.set()) as worker:
        place.commit()
        assert done.wait(60)
        worker.stop(60)
    assert place.export().exported == 0
    place.assert_exported()


def test_worker_without_work_runs_nothing(place, time):
    worker = ExportWorker(place.store, clock=time)
    assert worker.step() is None


def test_worker_goes_on_with_new_runs_while_one_is_parked(place, time):
    place.git("update-ref", "refs/tags/corr_a", place.git("hash-object", "-w", "--stdin", stdin="x"))
    place.commit("t1", "a")
    worker = ExportWorker(place.store, clock=time)
    assert worker.step().parked == 1
    for _ in range(5):
        place.commit("t2")
        assert worker.step().exported == 1


def test_worker_spaces_out_failing_pushes_but_not_exports(place, remote, time):
    away = remote.rename(remote.with_name("away.git"))
    worker = ExportWorker(place.store, interval_s=10, clock=time)
    place.commit("t1")
    assert worker.step().exported == 1
    for number in range(3):
        place.commit(f"u{number}")
        summary = worker.step()
        assert (summary.exported, summary.pushed) == (1, 0)
    assert worker.step() is None
    away.rename(remote)
    time.now_s += 600
    assert worker.step().pushed == 4
    assert worker.step() is None


def test_worker_without_a_remote_rests_between_exports_however_short_its_interval(place, time):
    worker = ExportWorker(place.store, interval_s=0, clock=time)
    place.commit()
    assert worker.step().exported == 1
    assert [worker.step() for _ in range(3)] == [None] * 3


def test_worker_tells_errors_and_goes_on(place, time, tmp_path):
    errors = []
    worker = ExportWorker(place.store, clock=time, on_error=errors.append)
    place.commit()
    away = place.path.rename(tmp_path / "away")
    assert worker.step() is None
    assert [error.kind for error in errors] == ["not_a_repository"]
    assert worker.step() is None
    assert len(errors) == 1
    away.rename(place.path)
    time.now_s += 600
    assert worker.step().exported == 1


def test_worker_that_cannot_read_the_queue_tells_once_and_goes_on_after_a_pause(place, time, monkeypatch):
    place.commit()
    told = []
    worker = ExportWorker(place.store, clock=time, on_error=told.append)

    def fail(*_, **__):
        raise StorageError("the disk failed")

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "iter_entries", fail)
        assert worker.step() is None
        assert worker.step() is None
    assert [error.message for error in told] == ["the disk failed"]
    time.now_s += 600
    assert worker.step().exported == 1


def test_stop_signal_wakes_a_sleeper_and_stays_set():
    stop = StopSignal()
    assert stop.wait(0) is False
    timer = threading.Timer(0.01, stop.set)
    timer.start()
    assert stop.wait(30) is True
    timer.join()
    for _ in range(100_000):
        stop.set()
    assert stop.is_set()


def test_service_ends_clean_on_sigterm(place, remote):
    script = (
        "import signal, sys\nfrom pathlib import Path\nfrom cas import ArtifactStore, ArtifactStoreConfig\n"
        "from gitexport.worker import ExportWorker\n"
        "repo_path, store_path = map(Path, sys.argv[1:])\n"
        "config = ArtifactStoreConfig(repo_path=repo_path, store_path=store_path, scan_for_secrets=False)\n"
        "with ArtifactStore(config) as store:\n"
        "    worker = ExportWorker(store, interval_s=60, on_summary=lambda s: print(s.exported, flush=True))\n"
        "    signal.signal(signal.SIGTERM, lambda *_: worker.request_stop())\n"
        "    worker.follow()\n"
        "print('ended', flush=True)\n"
    )
    place.commit()
    with subprocess.Popen(
        [sys.executable, "-c", script, place.path, place.store.config.store_path],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as service:
        assert service.stdout.readline() == "1\n"
        service.send_signal(signal.SIGTERM)
        assert service.stdout.read() == "ended\n"
        assert service.wait() == 0
    assert refs_of(remote) == place.refs()
    place.assert_exported()


def test_stop_signal_is_slept_on_in_a_program_with_many_open_files():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 2000), limits[1]))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1024)]
    try:
        stopping = StopSignal()
        assert not stopping.wait(0)
        stopping.set()
        assert stopping.wait(60)
        del stopping
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

"""What the tests of the events share: a workspace with a run's files, a store, and a real Redis on a free port."""

from __future__ import annotations

import shutil
import socket
import subprocess

import pytest

from cas import ArtifactStore, ArtifactStoreConfig
from tests.events.runs import Clock, write_run


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "work"
    (folder / "Backtest" / "codes").mkdir(parents=True)
    (folder / "artifacts").mkdir()
    write_run(folder, "task1")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def config(workspace):
    return ArtifactStoreConfig(repo_path=workspace)


@pytest.fixture
def store(config):
    with ArtifactStore(config, clock=Clock()) as opened:
        yield opened


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """The URL of a Redis server of the tests' own."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    redis = pytest.importorskip("redis", reason="the extra `redis` is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    words = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
    ]
    with subprocess.Popen([program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            client = redis.Redis(port=port, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 100))
            client.ping()
            client.close()
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


@pytest.fixture
def redis_url(redis_server):
    """The URL of an empty database."""
    import redis

    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server

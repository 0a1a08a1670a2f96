"""The buses on a real Redis: delivery, redelivery, kills, and what is told of a lost server."""

import contextlib
import json
import re
import subprocess
import sys
import threading
import traceback

import pytest

from cas import ArtifactStore
from cas.errors import ConfigError, ExportError, StorageError
from cas.events import ArtifactEventHandler, Channels, EventBus, encode
from cas.events.connection import masked
from cas.events.pubsub import RedisBus
from cas.events.service import ListenService
from cas.events.streams import RedisStreamsBus
from cas.outbox import record_exported, record_pushed
from tests.events.runs import passed, write_run

redis = pytest.importorskip("redis", reason="the extra `redis` is not installed")
BUSES = [RedisBus, RedisStreamsBus]


@pytest.fixture(params=BUSES, ids=lambda bus: bus.__name__)
def bus(request, redis_url):
    opened = request.param(redis_url)
    yield opened
    opened.close()


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


def drain(bus, tries=3):
    """Poll until nothing has come for a few short polls."""
    empty = 0
    while empty < tries:
        empty = 0 if bus.poll(0.02) else empty + 1


def published(client, channel="workflow.events"):
    return [fields[b"event"] for _, fields in client.xrange(channel)]


def test_redis_bus_is_an_event_bus(bus):
    assert isinstance(bus, EventBus)


def test_redis_bus_carries_events_whole(bus):
    got = []
    bus.subscribe("test.results", got.append)
    bus.connect()
    event = passed(extra={"trace": [1, 2]})
    bus.publish("test.results", event)
    bus.publish("other", passed(correlation_id="elsewhere"))
    drain(bus)
    assert got == [event]
    bus.unsubscribe("test.results", got.append)


def test_redis_bus_passes_by_what_is_no_event(bus, client):
    got = []
    bus.subscribe("test.results", got.append)
    bus.connect()
    if bus.redelivers:
        client.xadd("test.results", {"event": "{"})
        client.xadd("test.results", {"other": "x"})
    else:
        client.publish("test.results", "{")
        client.publish("test.results", b"\xff")
    bus.publish("test.results", passed())
    drain(bus)
    assert len(got) == 1
    assert bus.malformed_count == 2


def test_redis_bus_publishes_once(bus):
    got = []
    bus.subscribe("workflow.events", got.append)
    bus.connect()
    for _ in range(3):
        bus.publish_once("workflow.events", passed())
    bus.publish_once("workflow.events", passed(event_id="evt_ffffffffffff"))
    drain(bus)
    assert len(got) == 2


def test_redis_bus_carries_the_whole_flow(bus, store):
    answers = []
    bus.subscribe(Channels.WORKFLOW_EVENTS, answers.append)
    handler = ArtifactEventHandler(store, bus)
    handler.start()
    bus.connect()
    bus.publish(Channels.TEST_RESULTS, passed())
    drain(bus)
    with store.environment.write() as transaction:
        record_exported(transaction, [1], store.now_us())
        record_pushed(transaction, [1], store.now_us())
    handler.announce_pushed()
    handler.announce_pushed()
    drain(bus)
    assert [event.event_type for event in answers] == ["artifact.committed", "artifact.pushed"]


def test_streams_event_is_acknowledged_after_the_commit(redis_url, client, store):
    bus = RedisStreamsBus(redis_url, claim_after_s=0.001)
    ArtifactEventHandler(store, bus).start()
    bus.publish("test.results", passed())
    drain(bus)
    assert client.xpending("test.results", "artifact-store")["pending"] == 0
    bus.close()


def test_streams_event_whose_subscriber_fails_comes_again(redis_url, client):
    tries = []

    def fail_once(event):
        tries.append(event)
        if len(tries) == 1:
            raise StorageError("no room")

    bus = RedisStreamsBus(redis_url, claim_after_s=0.001)
    bus.subscribe("test.results", fail_once)
    bus.publish("test.results", passed())
    while len(tries) < 2:
        bus.poll(0.02)
    drain(bus)
    assert client.xpending("test.results", "artifact-store")["pending"] == 0
    bus.close()


def test_streams_events_of_a_dead_consumer_are_claimed(redis_url, client, store):
    bus = RedisStreamsBus(redis_url, consumer="living", claim_after_s=0.001)
    for number in range(40):
        bus.publish("test.results", passed(correlation_id=f"c{number}"))
    client.xgroup_create("test.results", "artifact-store", id="0")
    client.xreadgroup("artifact-store", "dead", {"test.results": ">"}, count=40)
    ArtifactEventHandler(store, bus).start()
    drain(bus)
    assert store.stats()["manifests"] == 40
    assert client.xpending("test.results", "artifact-store")["pending"] == 0
    bus.close()


def test_streams_own_unfinished_events_are_taken_up_at_once(redis_url, client, store):
    client.xgroup_create("test.results", "artifact-store", id="0", mkstream=True)
    bus = RedisStreamsBus(redis_url, consumer="one", claim_after_s=3600)
    for number in range(20):
        bus.publish("test.results", passed(correlation_id=f"c{number}"))
    client.xreadgroup("artifact-store", "one", {"test.results": ">"}, count=20)
    ArtifactEventHandler(store, bus).start()
    assert bus.poll(0.02) == 20
    assert store.stats()["manifests"] == 20
    bus.close()


def test_streams_group_lost_with_the_data_is_made_anew(redis_url, client, store):
    bus = RedisStreamsBus(redis_url)
    ArtifactEventHandler(store, bus).start()
    bus.poll(0.01)
    client.flushall()
    with pytest.raises(ExportError):
        bus.poll(0.01)
    bus.publish("test.results", passed())
    drain(bus)
    assert store.stats()["manifests"] == 1
    bus.close()


@pytest.mark.parametrize("kind", BUSES)
def test_server_that_is_not_there_is_an_error_without_the_password(kind):
    bus = kind("redis://user:hunter2secret@127.0.0.1:1/0?password=hunter2secret")
    with pytest.raises(ExportError) as caught:
        bus.publish("c", passed())
    assert caught.value.retryable
    assert "hunter2secret" not in str(caught.value) + repr(bus._connection) + str(caught.value.hint)


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", ""])
def test_url_of_another_form_is_refused(url):
    with pytest.raises(ConfigError):
        RedisBus(url)


def test_masked_url_shows_neither_user_nor_query():
    assert masked("rediss://u:p%40ss@host:1/2?password=x") == "rediss://***@host:1/2"
    assert masked("redis://u:p@ss@host/0") == "redis://***@host/0"
    assert masked("redis://host/0") == "redis://host/0"


@pytest.mark.parametrize(
    "password", ["zqa/zqb", "zqa?zqb", "zqa@zqb", "zqa@zqb?zqc/zqd", "1234/zqb", "1234?zqb"]
)
@pytest.mark.parametrize("kind", BUSES)
def test_password_that_was_not_encoded_is_never_shown(kind, password):
    url = f"redis://u:{password}@127.0.0.1:1/0"
    try:
        told = kind(url).shown
    except ConfigError as error:
        told = "".join(traceback.format_exception(error))
    assert not any(piece in told + masked(url) for piece in re.split("[/?@]", password))


class LosingBus(RedisStreamsBus):
    """Loses its connection behind an event that could not be handled, and does not get it back."""

    is_lost = False

    def connect(self):
        if self.is_lost:
            raise ExportError("lost")

    def poll(self, timeout_s):
        self.is_lost = True
        self.failures = [ConfigError("the run was refused")]
        raise ExportError("lost")


def test_service_tells_a_failure_once_also_when_the_connection_is_lost_behind_it(store):
    waits, lines = [], []
    bus = LosingBus("redis://127.0.0.1:1/0")
    handler = ArtifactEventHandler(store, bus)
    service = ListenService(
        store, bus, handler, wait=waits.append, should_stop=lambda: len(waits) >= 3, tell=lines.append
    )
    service.run()
    assert [line for line in lines if "could not be handled" in line] == [
        "an event could not be handled: the run was refused"
    ]


def test_service_survives_a_server_that_comes_late(store):
    waits, lines = [], []
    bus = RedisBus("redis://:pw@127.0.0.1:1/0")
    handler = ArtifactEventHandler(store, bus)
    service = ListenService(
        store, bus, handler, wait=waits.append, should_stop=lambda: len(waits) >= 8, tell=lines.append
    )
    service.run()
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert sum("trying again" in line for line in lines) == 1
    assert "waiting for Redis" in lines[-1]
    assert not any(":pw" in line for line in lines)


def test_service_stores_and_announces(redis_url, client, store):
    bus = RedisStreamsBus(redis_url)
    bus.publish("test.results", passed())
    lines = []
    service = ListenService(
        store,
        bus,
        ArtifactEventHandler(store, bus),
        wait=lambda _: None,
        should_stop=lambda: store.stats()["manifests"] == 1,
        tell=lines.append,
    )
    service.run()
    assert service.report()["published"] == {"artifact.committed": 1}
    assert b"artifact.committed" in published(client)[0]


LISTEN = """
import os, signal, sys
from pathlib import Path
from cas import ArtifactStore, ArtifactStoreConfig
from cas.events import ArtifactEventHandler
from cas.events.pubsub import RedisBus
from cas.events.streams import RedisStreamsBus

kind, url, folder, where, countdown = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4], int(sys.argv[5])

def die_at(owner, name, before):
    original = getattr(owner, name)
    def dying(*args, **words):
        global countdown
        countdown -= 1
        if before and countdown < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **words)
        if countdown < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, dying)

bus = RedisStreamsBus(url, consumer="listener") if kind == "streams" else RedisBus(url)
if where == "before_commit":
    die_at(ArtifactStore, "commit_artifacts", True)
elif where == "after_commit":
    die_at(ArtifactStore, "commit_artifacts", False)
elif where == "after_publish":
    die_at(type(bus), "publish", False)
with ArtifactStore(ArtifactStoreConfig(repo_path=folder)) as store:
    ArtifactEventHandler(store, bus).start()
    ended = []
    bus.subscribe("control", ended.append)
    bus.connect()
    print("listening", flush=True)
    while not ended:
        bus.poll(0.5)
"""
WHERE = ["before_commit", "after_commit", "after_publish"]


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", BUSES)
def test_listener_killed_at_a_point_loses_nothing_that_comes_again_and_doubles_nothing(
    redis_url, client, workspace, config, kind, where
):
    """Streams deliver again by themselves; on pub/sub it is the sender who tells what was not answered again."""
    answers = []
    bus = kind(redis_url)
    bus.subscribe("workflow.events", answers.append)
    bus.connect()
    for number in range(3):
        write_run(workspace, f"t{number}")
    for countdown, code in ((1, -9), (99, 0)):
        with listening(kind, redis_url, workspace, where, countdown) as process:
            if countdown == 1 or not kind.redelivers:
                for number in range(3):
                    bus.publish("test.results", passed(f"t{number}", f"c{number}"))
            if code == 0:
                bus.publish("control", passed(event_type="control"))
            assert process.wait(60) == code
    drain(bus)
    with ArtifactStore(config) as store:
        runs = store.list_artifacts()
    assert sorted((run["correlation_id"], run["revision"]) for run in runs) == [
        ("c0", 1),
        ("c1", 1),
        ("c2", 1),
    ]
    committed = {event.correlation_id: event.data["commit_sha"] for event in answers}
    assert committed == {run["correlation_id"]: run["commit_sha"] for run in runs}
    if kind.redelivers:
        assert client.xpending("test.results", "artifact-store")["pending"] == 0
    bus.close()


@contextlib.contextmanager
def listening(kind, redis_url, workspace, where, countdown):
    """A process that listens; it is there when the block begins."""
    name = "streams" if kind.redelivers else "pubsub"
    words = [sys.executable, "-c", LISTEN, name, redis_url, str(workspace), where, str(countdown)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "listening\n"
            yield process
        finally:
            process.kill()


def listen(redis_url, client, workspace, *words):
    """Run `cas listen` until one event was answered, and end it; return its exit code, stdout and stderr."""
    words = (
        sys.executable,
        "-m",
        "cli",
        "--repo",
        workspace,
        "listen",
        "--redis",
        redis_url,
        "--streams",
        *words,
    )
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        while not published(client) and process.poll() is None:
            client.xread({"workflow.events": "0"}, block=200)
        process.terminate()
        out, err = process.communicate()
        watchdog.cancel()
    return process.returncode, out, err


def test_listen_command_stores_and_ends_cleanly_on_sigterm(redis_url, client, workspace, config):
    with ArtifactStore(config):
        pass
    client.xadd("test.results", {"event": encode(passed())})
    code, out, err = listen(redis_url, client, workspace)
    assert (code, out) == (0, ""), err
    first, *_, last = err.splitlines()
    assert first == f"connected to {redis_url}"
    assert last == "listening: 1 received, 1 artifact.committed"


def test_listen_command_as_json_writes_a_line_for_each_thing_and_a_result(
    redis_url, client, workspace, config
):
    with ArtifactStore(config):
        pass
    client.xadd("test.results", {"event": b"no event"})
    client.xadd("test.results", {"event": encode(passed())})
    code, out, err = listen(redis_url, client, workspace, "--json")
    assert (code, err) == (0, "")
    note, *_, health, result = [json.loads(line) for line in out.splitlines()]
    assert note == {"event": "note", "text": f"connected to {redis_url}"}
    done = {"received": 2, "published": {"artifact.committed": 1}, "malformed": 1, "failures": 0}
    assert health == {"event": "health", "state": "listening", **done}
    assert result == {"event": "result", "state": "listening", **done}


def test_pubsub_event_that_comes_while_a_channel_is_added_is_kept(redis_url, client):
    got = []
    bus = RedisBus(redis_url)
    bus.subscribe("first", got.append)
    bus.connect()
    client.publish("first", encode(passed()))
    bus.subscribe("second", got.append)
    drain(bus)
    assert len(got) == 1
    bus.close()

"""The listening service, step by step, on a bus that does what a script says."""

import pytest

from cas.errors import ExportError, StorageError
from cas.events import ArtifactEventHandler, Channels
from cas.events.redisbus import RedisBusBase
from cas.events.service import ListenService
from tests.events.runs import passed

pytest.importorskip("redis", reason="the extra `redis` is not installed")


class ScriptedBus(RedisBusBase):
    """Delivers or fails as a list says: an event, a number of messages, or an error; then asks to stop."""

    def __init__(self, steps):
        super().__init__("redis://user:pw@127.0.0.1:1/0")
        self.steps, self.sent, self.closed, self.waited = list(steps), [], 0, []

    def connect(self):
        if isinstance(self.steps[0], ConnectionError):
            raise ExportError(str(self.steps.pop(0)))

    def poll(self, timeout_s):
        self.waited.append(timeout_s)
        self.failures = []
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, int):
            return step
        self.failures = self._subscribers.deliver(Channels.TEST_RESULTS, step)
        return 1

    def publish(self, channel, event):
        self.sent.append((channel, event.event_type))

    def publish_once(self, channel, event):
        self.publish(channel, event)

    def close(self):
        self.closed += 1

    def _send(self, client, channel, content):
        raise AssertionError("publish is ours")


class Watched:
    """A service on such a bus, and what it said, waited and reported."""

    def __init__(self, store, steps, *, clock=None, health_s=60.0, as_lines=True):
        self.lines, self.waits, self.reports = [], [], []
        self.bus = ScriptedBus(steps)
        self.handler = ArtifactEventHandler(store, self.bus, pause=lambda _: None)
        self.service = ListenService(
            store,
            self.bus,
            self.handler,
            wait=self.waits.append,
            should_stop=lambda: not self.bus.steps,
            tell=self.lines.append,
            tell_health=None if as_lines else self.reports.append,
            health_s=health_s,
            **({} if clock is None else {"clock": clock}),
        )
        self.service.run()


def test_service_delivers_counts_and_closes_its_bus(store):
    found = Watched(store, [0, passed(), 2])
    assert found.lines == [
        "connected to redis://***@127.0.0.1:1/0",
        "listening: 3 received, 1 artifact.committed",
    ]
    assert found.waits == []
    assert found.bus.waited == [0.5] * 3
    assert found.bus.closed == 1
    assert found.bus.sent == [("workflow.events", "artifact.committed")]
    assert found.service.report() == {
        "state": "listening",
        "received": 3,
        "published": {"artifact.committed": 1},
        "malformed": 0,
        "failures": 0,
    }
    assert found.bus._subscribers.channels() == [], "it has unsubscribed"


def test_service_that_loses_its_server_waits_longer_each_time_and_begins_anew_once_it_is_back(store):
    lost = ExportError("the server is gone")
    found = Watched(store, [0, lost, ConnectionError("no answer"), lost, 1, lost, 0])
    assert found.waits == [0.5, 1.0, 0.5, 0.5]
    assert found.lines == [
        "connected to redis://***@127.0.0.1:1/0",
        "the server is gone; trying again",
        "connected to redis://***@127.0.0.1:1/0 again",
        "the server is gone; trying again",
        "connected to redis://***@127.0.0.1:1/0 again",
        "the server is gone; trying again",
        "connected to redis://***@127.0.0.1:1/0 again",
        "listening: 1 received, nothing published, 4 failures",
    ]


def test_service_that_waits_says_so_in_its_report(store):
    found = Watched(store, [ConnectionError("no answer"), ConnectionError("no answer")], as_lines=False)
    assert found.waits == [0.5, 1.0]
    assert found.reports[-1]["state"] == "waiting for Redis"
    assert found.reports[-1]["failures"] == 2
    assert found.lines == ["no answer; trying again"]


def test_service_tells_what_subscribers_raised_of_the_unforeseen_the_kind_only(store):
    def fail(event):
        raise failures.pop(0)

    failures = [StorageError("the disk is full", kind="disk_full"), ValueError("holds a password")]
    bus_steps = [passed(correlation_id="a"), passed(correlation_id="b")]
    found_lines = []
    bus = ScriptedBus(bus_steps)
    bus.malformed_count = 2
    bus.subscribe(Channels.TEST_RESULTS, fail)
    handler = ArtifactEventHandler(store, bus, pause=lambda _: None)
    service = ListenService(
        store, bus, handler, wait=lambda _: None, should_stop=lambda: not bus.steps, tell=found_lines.append
    )
    service.run()
    assert found_lines[1:] == [
        "an event could not be handled: the disk is full",
        "an event could not be handled: ValueError",
        "listening: 2 received, 2 artifact.committed, 2 malformed, 2 failures",
    ]


def test_service_tells_its_health_at_its_times_and_at_the_end(store):
    times = iter([0.0, 59.9, 60.0, 61.0, 120.9, 121.0, 121.5])
    found = Watched(store, [0, 1, 1, 1], clock=lambda: next(times), as_lines=False)
    assert [report["received"] for report in found.reports] == [1, 3, 3]


def test_service_goes_on_when_counts_cannot_be_written_or_the_bus_not_closed(store, monkeypatch):
    def refuse(*_):
        raise StorageError("the disk is full", kind="disk_full")

    def fail(self):
        raise ExportError("already gone")

    monkeypatch.setattr(ScriptedBus, "close", fail)
    monkeypatch.setattr(type(store), "flush_metrics", refuse)
    found = Watched(store, [0])
    assert found.lines[1:] == ["already gone", "the disk is full", "listening: 0 received, nothing published"]


def test_pauses_double_up_to_half_a_minute(store):
    found = Watched(store, [ConnectionError("no answer")] * 9)
    assert found.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert found.lines == [
        "no answer; trying again",
        "waiting for Redis: 0 received, nothing published, 9 failures",
    ]
    assert found.bus.waited == []


def test_health_line_names_what_was_published_in_order_of_its_names(store):
    found = Watched(store, [passed(task_id=None), passed(), passed(correlation_id="c2")])
    assert found.lines[-1] == "listening: 3 received, 2 artifact.committed, 1 artifact.rejected"


def test_health_is_told_once_a_minute_unless_said_otherwise(store):
    times = iter([0.0, 60.0, 60.0, 119.0, 120.0, 120.0])
    bus, reports = ScriptedBus([0, 0, 0]), []
    service = ListenService(
        store, bus, ArtifactEventHandler(store, bus), wait=lambda _: None, should_stop=lambda: not bus.steps,
        tell=lambda _: None, tell_health=reports.append, clock=lambda: next(times),
    )  # fmt: skip
    service.run()
    assert len(reports) == 3


def test_pushed_runs_are_announced_after_each_poll_and_metrics_flushed_with_the_health(store, monkeypatch):
    calls = []
    monkeypatch.setattr(ArtifactEventHandler, "announce_pushed", lambda _: calls.append("announce"))
    monkeypatch.setattr(type(store), "flush_metrics", lambda _: calls.append("flush"))
    Watched(store, [0, ConnectionError("gone"), 0])
    assert calls == ["announce", "announce", "flush"]


def test_service_subscribes_before_it_polls_and_says_which_server_it_lost(store):
    found = Watched(store, [ExportError("lost"), 0], as_lines=False)
    assert found.lines == [
        "connected to redis://***@127.0.0.1:1/0",
        "lost; trying again",
        "connected to redis://***@127.0.0.1:1/0 again",
    ]
    (report,) = found.reports
    assert (report["state"], report["failures"], report["received"]) == ("listening", 1, 0)

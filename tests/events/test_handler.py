"""The handler on a bus in memory."""

import json
import random
import string
import subprocess
import sys

import msgspec
import pytest

from cas import ArtifactStore
from cas.errors import ConfigError, ExportError, StorageError
from cas.events import ArtifactEventHandler, Channels, EventBus, MemoryBus, encode
from cas.lmdbenv import hold_alone
from cas.outbox import record_exported, record_pushed, requeue_push
from tests.events.runs import passed, write_run


class Place:
    """A handler on a bus, and what it published."""

    def __init__(self, store, bus=None):
        self.store = store
        self.bus = bus or MemoryBus()
        self.published = []
        self.pauses = []
        self.bus.subscribe(Channels.WORKFLOW_EVENTS, self.published.append)
        self.handler = ArtifactEventHandler(store, self.bus, pause=self.pauses.append)
        self.handler.start()

    def send(self, event):
        self.bus.publish(Channels.TEST_RESULTS, event)
        return self.published[-1] if self.published else None

    def types(self):
        return [event.event_type for event in self.published]


@pytest.fixture
def place(store):
    return Place(store)


def export(store, *, push=True):
    """Write the receipts that an export of another process would."""
    with store.environment.write() as transaction:
        sequences = range(1, store.stats()["manifests"] + 1)
        record_exported(transaction, sequences, store.now_us())
        if push:
            record_pushed(transaction, sequences, store.now_us())


def test_memory_bus_is_an_event_bus():
    assert isinstance(MemoryBus(), EventBus)


def test_passed_test_is_committed_and_announced(place, store):
    answer = place.send(passed())
    record = store.get_artifact_by_correlation_id("c1")
    assert answer.event_type == "artifact.committed"
    assert (answer.correlation_id, answer.workflow_id, answer.task_id) == ("c1", "wf", "task1")
    assert {name: answer.data[name] for name in ("branch", "commit_sha", "tags", "pushed")} == {
        "branch": "ai/generated/wf/task1",
        "commit_sha": record["commit_sha"],
        "tags": ["corr_c1"],
        "pushed": False,
    }
    assert sorted(record["files"]) == [
        "equity_curve.csv",
        "events.log",
        "task1.py",
        "test_report.json",
        "trades.csv",
    ]
    assert record["test_metrics"] == {"total_trades": 12, "net_pnl": 120.5}
    assert record["agent_version"] == "tester-v1.0"


@pytest.mark.parametrize("event_type", ["test.failed", "artifact.committed", "something.else"])
def test_other_events_are_passed_by(place, store, event_type):
    place.send(passed(event_type=event_type))
    assert place.published == []
    assert store.list_artifacts() == []


def test_event_delivered_again_commits_nothing_and_answers_alike(place, store):
    first, again = place.send(passed()), place.send(passed())
    assert (first.event_id, first.data) == (again.event_id, again.data)
    assert store.stats()["manifests"] == 1


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "/etc/passwd",
        "artifacts/../../x",
        "link/passwd",
        "",
        "a\0b",
        ".",
        5,
        "artifacts/missing.csv",
    ],
)
def test_path_outside_the_workspace_or_missing_is_rejected(place, store, workspace, path):
    (workspace / "link").symlink_to("/etc")
    (workspace.parent / "secret.txt").write_text("x")
    data = passed().data
    answer = place.send(passed(data={**data, "artifacts": {**data["artifacts"], "trades": path}}))
    assert answer.event_type == "artifact.rejected"
    assert answer.data["kind"] == "invalid_file"
    assert answer.data["cause"] == "evt_0123456789ab"
    assert store.list_artifacts() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"task_id": None},
        {"task_id": "../../../etc/hosts"},
        {"data": {}},
        {"data": {"artifacts": []}},
        {"data": {"artifacts": {"trades": "artifacts/task1/trades.csv"}}},
    ],
)
def test_event_that_lacks_something_is_rejected(place, store, changes):
    assert place.send(passed(**changes)).event_type == "artifact.rejected"
    assert store.list_artifacts() == []


def test_secret_is_rejected_and_in_no_event(place, store, workspace):
    secret = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=24))
    (workspace / "Backtest/codes/task1.py").write_text(f'api_key = "{secret}"\n')
    answer = place.send(passed())
    assert answer.event_type == "artifact.rejected"
    assert answer.data["kind"] == "secret_detected"
    assert answer.data["findings"][0]["line"] == 1
    assert secret not in encode(answer).decode()
    assert store.list_artifacts() == []
    store.flush_metrics()
    assert store.stats()["secret_detections"] == len(answer.data["findings"])


def test_secret_in_an_id_is_withheld(place):
    secret = "sk_live_" + "".join(random.Random(8).choices(string.ascii_letters + string.digits, k=24))
    answer = place.send(passed(workflow_id=secret))
    assert answer.event_type == "artifact.rejected"
    assert answer.workflow_id == "withheld"
    assert secret not in encode(answer).decode()


class FailingStore(ArtifactStore):
    """A store whose disk is full for the next few commits."""

    failures_count = 0

    def _commit(self, *arguments):
        if self.failures_count:
            self.failures_count -= 1
            raise StorageError("no room", kind="disk_full", retryable=True)
        return super()._commit(*arguments)


@pytest.fixture
def failing(config):
    with FailingStore(config) as store:
        yield store


def test_full_disk_for_a_moment_is_waited_out(failing):
    place = Place(failing)
    failing.failures_count = 2
    assert place.send(passed()).event_type == "artifact.committed"
    assert len(place.pauses) == 2


def test_full_disk_for_long_fails_and_may_be_tried_again(failing):
    place = Place(failing)
    failing.failures_count = 4
    answer = place.send(passed())
    assert (answer.event_type, answer.data["retryable"]) == ("artifact.failed", True)
    assert place.send(passed()).event_type == "artifact.committed"


def test_bus_that_delivers_again_is_told_by_raising(failing):
    bus = MemoryBus()
    bus.redelivers = True
    place = Place(failing, bus)
    failing.failures_count = 4
    place.send(passed())
    assert [failure.kind for failure in bus.failures] == ["disk_full"]


def test_handler_of_a_store_without_errors_is_refused(config):
    with ArtifactStore(config.replace(raise_errors=False)) as store, pytest.raises(ConfigError):
        ArtifactEventHandler(store, MemoryBus())


def test_stopped_handler_gets_nothing(place, store):
    place.handler.stop()
    place.bus.publish(Channels.TEST_RESULTS, passed())
    assert store.list_artifacts() == []


def test_pushed_run_is_announced_once(place, store):
    committed = place.send(passed())
    assert place.handler.announce_pushed() == 0
    export(store)
    assert place.handler.announce_pushed() == 1
    assert place.handler.announce_pushed() == 0
    pushed = place.published[-1]
    assert pushed.event_type == "artifact.pushed"
    assert pushed.data["commit_sha"] == committed.data["commit_sha"]
    assert pushed.data["pushed"] is True


def test_exported_run_that_is_not_pushed_is_not_announced(place, store):
    place.send(passed())
    export(store, push=False)
    assert place.handler.announce_pushed() == 0


@pytest.mark.parametrize("announced_before", [True, False])
def test_run_pushed_again_is_not_announced_again(place, store, announced_before):
    place.send(passed())
    export(store)
    if announced_before:
        assert place.handler.announce_pushed() == 1
    with store.environment.write() as transaction:
        requeue_push(transaction, 1)
    place.handler.announce_pushed()
    with store.environment.write() as transaction:
        record_pushed(transaction, [1], store.now_us())
    place.handler.announce_pushed()
    assert place.types().count("artifact.pushed") == 1


def test_runs_of_several_tasks_are_announced_each(place, store, workspace):
    for number in range(2, 5):
        write_run(workspace, f"task{number}")
        place.send(passed(f"task{number}", f"c{number}"))
    export(store)
    assert place.handler.announce_pushed() == 3
    assert len({event.event_id for event in place.published}) == 6


def test_announcement_cut_short_is_repeated_under_the_same_id(place, store):
    place.send(passed())
    export(store)

    class CutError(Exception):
        pass

    publish = place.bus.publish

    def publish_and_die(channel, event):
        publish(channel, event)
        raise CutError

    place.bus.publish = publish_and_die
    with pytest.raises(CutError):
        place.handler.announce_pushed()
    place.bus.publish = publish
    assert place.handler.announce_pushed() == 1
    first, again = (event for event in place.published if event.event_type == "artifact.pushed")
    assert first.event_id == again.event_id


def test_published_events_are_json(place):
    answer = place.send(passed())
    assert json.loads(encode(answer)) == {
        **{name: getattr(answer, name) for name in msgspec.structs.asdict(answer) if name != "extra"}
    }


def test_run_exported_and_pushed_by_another_process_is_announced(place, workspace, tmp_path):
    for words in (["init", "--quiet", workspace], ["init", "--quiet", "--bare", tmp_path / "remote.git"]):
        subprocess.run(["git", *words], check=True)
    subprocess.run(["git", "-C", workspace, "remote", "add", "origin", tmp_path / "remote.git"], check=True)
    committed = place.send(passed())
    words = [sys.executable, "-m", "cli", "--repo", workspace, "export"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert place.handler.announce_pushed() == 1
    assert place.published[-1].data["commit_sha"] == committed.data["commit_sha"]


def test_answer_names_its_event_its_store_and_its_source(place, store):
    answer = place.send(passed())
    assert answer.data["cause"] == "evt_0123456789ab"
    assert answer.source == "artifact_store"
    assert answer.timestamp.startswith("2026-01-01T00:00:")
    assert answer.timestamp.endswith("Z")
    assert place.handler.counts == {"artifact.committed": 1}


def test_versions_and_prompt_of_an_event_are_stored(place, store):
    event = passed()
    event.data.update(agent_version="coder-v2", llm_version="model-1", prompt_hash="0123456789abcdef")
    place.send(event)
    record = store.get_artifact_by_correlation_id("c1")
    assert (record["agent_version"], record["llm_version"]) == ("coder-v2", "model-1")
    assert record["tags"] == ["corr_c1", "prompt_0123456789ab"]


def test_event_without_metrics_has_none(place, store):
    event = passed()
    del event.data["metrics"]
    place.send(event)
    assert store.get_artifact_by_correlation_id("c1")["test_metrics"] == {}


def refused(place, event):
    answer = place.send(event)
    assert answer.event_type == "artifact.rejected"
    assert answer.data["retryable"] is False
    return answer.data["subject"]


def test_refusal_names_what_is_wrong_with_the_event(place):
    assert refused(place, passed(task_id=None)) == "task_id"
    assert refused(place, passed(data={})) == "artifacts"
    assert refused(place, passed(data={"artifacts": ["a"]})) == "artifacts"
    for changes, subject in (
        ({"trades": None}, "trades"),
        ({"trades": ""}, "trades"),
        ({"trades": "a\0b"}, "trades"),
        ({"trades": "../outside.csv"}, "trades"),
        ({"trades": "."}, "trades"),
        ({"more": "artifacts/task1/trades.csv"}, "trades.csv"),
    ):
        event = passed()
        event.data["artifacts"].update(changes)
        assert refused(place, event) == subject
    event = passed()
    del event.data["artifacts"]["equity_curve"], event.data["artifacts"]["events_log"]
    assert refused(place, event) == "equity_curve"


def test_pushed_event_says_what_was_pushed(place, store):
    place.send(passed())
    export(store)
    assert place.handler.announce_pushed() == 1
    event = place.published[-1]
    record = store.get_artifact_by_correlation_id("c1")
    assert (event.event_type, event.correlation_id, event.workflow_id, event.task_id) == (
        "artifact.pushed", "c1", "wf", "task1",
    )  # fmt: skip
    assert event.data == {
        "branch": "ai/generated/wf/task1",
        "commit_sha": record["commit_sha"],
        "tags": ["corr_c1"],
        "pushed": True,
        "revision": 1,
    }
    assert place.handler.announce_pushed() == 0


def test_one_process_at_a_time_announces(place, store):
    place.send(passed())
    export(store)
    with hold_alone(store.environment.directory / "announce.lock"):
        assert place.handler.announce_pushed() == 0
    assert place.handler.announce_pushed() == 1


def test_bus_that_refuses_for_a_moment_gets_the_event_again(store):
    class Refusing(MemoryBus):
        def publish(self, channel, event):
            if channel == Channels.WORKFLOW_EVENTS and errors:
                raise errors.pop()
            super().publish(channel, event)

    errors = [ExportError("gone", retryable=True)] * 3
    place = Place(store, Refusing())
    place.send(passed())
    assert (place.pauses, place.types(), place.bus.failures) == ([0.1, 1.0, 5.0], ["artifact.committed"], [])
    errors += [ExportError("gone", retryable=True)] * 4
    place.send(passed(correlation_id="c2"))
    assert len(place.bus.failures) == 1
    errors += [ExportError("refused")]
    place.send(passed(correlation_id="c3"))
    assert len(place.bus.failures) == 2
    assert place.pauses == [0.1, 1.0, 5.0] * 2
    assert store.show("c3")["revision"] == 1

"""The handler at its limits: patience, batches, what is stepped over, and which paths count from where."""

from __future__ import annotations

import pytest

from cas import ArtifactStore, pushfeed
from cas.errors import ConfigError, ExportError, InvalidInputError, StorageError, StoreSuspectError
from cas.events import ArtifactEventHandler, Channels, MemoryBus, handler
from cas.lmdbenv import Table
from cas.outbox import record_exported, record_pushed
from tests.events.runs import Clock, passed, write_run
from tests.gc.keeping import flip_byte


class FailingStore(ArtifactStore):
    """Raises what its list holds, one at each commit, before it commits."""

    def __init__(self, config):
        super().__init__(config, clock=Clock())
        self.errors = []

    def commit_artifacts(self, **arguments):
        if self.errors:
            raise self.errors.pop(0)
        return super().commit_artifacts(**arguments)


class Place:
    """A handler of such a store, what it published and how long it waited."""

    def __init__(self, store, **options):
        self.bus, self.published, self.pauses = MemoryBus(), [], []
        self.bus.subscribe(Channels.WORKFLOW_EVENTS, self.published.append)
        self.handler = ArtifactEventHandler(store, self.bus, pause=self.pauses.append, **options)
        self.handler.start()

    def send(self, event):
        self.bus.publish(Channels.TEST_RESULTS, event)
        return self.published[-1]


@pytest.fixture
def store(config):
    with FailingStore(config) as opened:
        yield opened


@pytest.fixture
def place(store):
    return Place(store)


def push_all(store):
    with store.environment.write() as transaction:
        sequences = list(range(1, store.stats()["manifests"] + 1))
        record_exported(transaction, sequences, store.now_us())
        record_pushed(transaction, sequences, store.now_us())


@pytest.mark.parametrize("kind", ["disk_full", "readers_full", "map_full"])
def test_condition_that_may_pass_is_waited_out_three_times(store, place, kind):
    store.errors = [StorageError("no", kind=kind) for _ in range(3)]
    assert place.send(passed()).event_type == "artifact.committed"
    assert place.pauses == [0.1, 1.0, 5.0]
    store.errors = [StorageError("no", kind=kind) for _ in range(4)]
    answer = place.send(passed(correlation_id="c2"))
    assert (answer.event_type, answer.data["kind"], answer.data["retryable"]) == (
        "artifact.failed",
        kind,
        True,
    )
    assert place.pauses == [0.1, 1.0, 5.0] * 2


def test_retryable_error_of_any_kind_is_waited_out(store, place):
    store.errors = [StorageError("no", kind="other", retryable=True)]
    assert place.send(passed()).event_type == "artifact.committed"
    assert place.pauses == [0.1]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (StorageError("no", kind="io_error"), "artifact.failed"),
        (StoreSuspectError("suspect"), "artifact.failed"),
        (InvalidInputError("no", retryable=True), "artifact.rejected"),
    ],
    ids=["disk", "suspect", "input"],
)
def test_error_that_does_not_pass_is_answered_at_once(store, place, error, outcome):
    store.errors = [error]
    assert place.send(passed()).event_type == outcome
    assert place.pauses == []


@pytest.mark.parametrize(("redelivers", "raises"), [(True, True), (False, False), (None, False)])
@pytest.mark.parametrize("passes", [True, False])
def test_only_a_bus_that_delivers_again_is_told_by_raising_of_what_may_pass(
    store, place, redelivers, raises, passes
):
    if redelivers is not None:
        place.bus.redelivers = redelivers
    store.errors = [StorageError("no", kind="io_error", retryable=passes) for _ in range(4)]
    place.send(passed())
    assert len(place.bus.failures) == (raises and passes)
    assert [event.event_type for event in place.published] == ["artifact.failed"]


def test_answers_are_counted_by_type(place):
    place.send(passed())
    place.send(passed())
    place.send(passed(task_id=None))
    assert place.handler.counts == {"artifact.committed": 2, "artifact.rejected": 1}


def test_committed_event_says_what_the_commit_returned(store, place):
    answer = place.send(passed())
    result = store.get_artifact_by_correlation_id("c1")
    assert answer.data == {
        "branch": result["branch"], "commit_sha": result["commit_sha"], "tags": ["corr_c1"], "pushed": False,
        "cause": "evt_0123456789ab",
    }  # fmt: skip
    assert (answer.correlation_id, answer.workflow_id, answer.task_id) == ("c1", "wf", "task1")


def test_answer_to_the_same_event_has_the_same_id_and_other_outcomes_others(store, place):
    first, second = place.send(passed()), place.send(passed())
    assert first.event_id == second.event_id
    rejected = [place.send(passed(task_id=None, event_id=f"evt_{'0' * 11}{n}")).event_id for n in (1, 1, 2)]
    assert rejected[0] == rejected[1] != rejected[2]
    assert first.event_id not in rejected


@pytest.mark.parametrize(("given", "named", "kept"), [
    ({}, None, "tester-v1.0"), ({"agent_version": "mine"}, None, "mine"), ({"agent_version": "mine"}, "its", "its"),
])  # fmt: skip
def test_agent_version_is_the_events_the_handlers_or_the_usual_one(store, given, named, kept):
    event = passed()
    event.data["agent_version"] = named
    Place(store, **given).send(event)
    record = store.get_artifact_by_correlation_id("c1")
    assert (record["agent_version"], record["llm_version"]) == (kept, None)
    assert record["test_metrics"] == {"total_trades": 12, "net_pnl": 120.5}


def test_paths_count_from_the_given_workspace(store, tmp_path):
    other = tmp_path / "other"
    (other / "Backtest" / "codes").mkdir(parents=True)
    (other / "artifacts").mkdir()
    write_run(other, "task1")
    (other / "artifacts" / "task1" / "trades.csv").write_text("other\n")
    (tmp_path / "link").symlink_to(other)
    assert Place(store, workspace=tmp_path / "link").send(passed()).event_type == "artifact.committed"
    assert store.read_file("c1", "trades.csv") == b"other\n"
    assert sorted(store.list_artifacts()[0]["files"]) == [
        "equity_curve.csv", "events.log", "task1.py", "test_report.json", "trades.csv",
    ]  # fmt: skip


def test_absolute_path_inside_the_workspace_and_further_kinds_are_taken(store, place, workspace):
    (workspace / "plot.png").write_bytes(b"png")
    event = passed()
    event.data["artifacts"] |= {"plot": str(workspace / "plot.png")}
    place.send(event)
    assert store.read_file("c1", "plot.png") == b"png"


def test_link_in_a_circle_is_rejected_by_name(place, workspace):
    (workspace / "circle").symlink_to("circle")
    event = passed()
    event.data["artifacts"]["trades"] = "circle/x"
    answer = place.send(event)
    assert (answer.event_type, answer.data["subject"]) == ("artifact.rejected", "trades")


def test_lacking_kinds_are_all_named_and_the_first_is_the_subject(place):
    event = passed()
    del event.data["artifacts"]["trades"], event.data["artifacts"]["events_log"]
    answer = place.send(event)
    assert answer.data["subject"] == "trades"
    assert "lacks trades, events_log" in answer.data["error"]


def test_pushed_runs_are_announced_in_batches_each_noted(store, place, workspace, monkeypatch):
    monkeypatch.setattr(handler, "_ANNOUNCED_AT_ONCE", 2)
    for number in range(5):
        write_run(workspace, f"t{number}")
        place.send(passed(f"t{number}", f"c{number}"))
    push_all(store)
    begun, write = [], type(store.environment).write
    monkeypatch.setattr(type(store.environment), "write", lambda self: begun.append(1) or write(self))
    assert place.handler.announce_pushed() == 5
    assert len(begun) == 3
    assert [event.correlation_id for event in place.published[5:]] == [f"c{number}" for number in range(5)]
    assert place.handler.announce_pushed() == 0


def test_rollback_and_damaged_manifest_in_the_feed_are_stepped_over(store, place, workspace):
    for number in range(3):
        write_run(workspace, f"t{number}")
        place.send(passed(f"t{number}", f"c{number}"))
    store.revert_to_tag("corr_c0", "main")
    push_all(store)
    with store.environment.read() as transaction:
        keys = list(transaction.scan_keys(Table.MANIFESTS))
        assert pushfeed.list_waiting(transaction, 9) == [1, 2, 3, 4]
    flip_byte(store, Table.MANIFESTS, keys[1])
    assert place.handler.announce_pushed() == 2
    assert [event.correlation_id for event in place.published[3:]] == ["c0", "c2"]
    with store.environment.read() as transaction:
        assert pushfeed.list_waiting(transaction, 9) == []


def test_bus_that_knows_ids_is_given_pushed_events_once_and_others_as_ever(store, place, monkeypatch):
    sent = []
    place.bus.publish_once = lambda channel, event: sent.append((channel, event.event_type))
    place.send(passed())
    push_all(store)
    place.handler.announce_pushed()
    assert sent == [("workflow.events", "artifact.pushed")]
    assert [event.event_type for event in place.published] == ["artifact.committed"]


def test_outcome_that_cannot_be_published_is_raised_and_not_counted(store, place, monkeypatch):
    def refuse(channel, event):
        raise ExportError("gone")

    monkeypatch.setattr(place.bus, "publish", refuse)
    with pytest.raises(ExportError):
        place.handler.handle(passed())
    assert place.handler.counts == {}
    assert place.pauses == []


def test_store_that_raises_no_errors_is_refused_by_the_name_of_its_setting(config):
    with ArtifactStore(config.replace(raise_errors=False)) as quiet, pytest.raises(ConfigError) as caught:
        ArtifactEventHandler(quiet, MemoryBus())
    assert caught.value.subject == "raise_errors"

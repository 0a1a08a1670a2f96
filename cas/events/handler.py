"""The handler: ``test.passed`` → the run is stored → ``artifact.committed``; and ``artifact.pushed`` once it is out.

Invariant: an event delivered again commits nothing again, and a run is announced as committed only after it is durable,
as pushed only after its receipt says so. Files outside the workspace are never read. No event holds a secret value.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, cast

import msgspec

from cas import outbox, pushfeed, records
from cas.errors import (
    ArtifactStoreError,
    ConfigError,
    IntegrityError,
    InvalidFileError,
    InvalidInputError,
    SecretDetectedError,
)
from cas.events.event import Channels, Event, EventType, new_event
from cas.lmdbenv import hold_alone, mapped_errors
from cas.manifest import RunManifest
from cas.silence import refusal, shown, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cas.events.bus import EventBus
    from cas.lmdbenv import ReadTransaction
    from cas.records import Record
    from cas.secretscan import SecretScanner
    from cas.store import ArtifactStore

# Conditions of a disk that may pass by themselves; an I/O error does not: the store asks for a verify after one.
TRANSIENT_KINDS: Final = frozenset({"disk_full", "readers_full", "map_full"})
PAUSES_S: Final = (0.1, 1.0, 5.0)  # short: on Streams the event comes again later in any case
ARTIFACT_KINDS: Final = ("test_report", "trades", "equity_curve", "events_log")
# What the replaced system's integration wrote when nobody said otherwise.
AGENT_VERSION: Final = "tester-v1.0"
_PASSED_ON: Final = ("agent_version", "llm_version")
_WITHHELD: Final = "withheld"  # stands for an ID that is itself a credential
_FEED_FILE: Final = "announce.lock"
# A kill between publishing and noting it repeats at most so many, under equal ids.
_ANNOUNCED_AT_ONCE: Final = 100


class ArtifactEventHandler:
    """Stores the runs of a bus. Thread-safe; several processes may work for one store.

    Args:
        store: An open store.
        bus: Anything that publishes and subscribes; see `cas.events.EventBus`.
        workspace: Folder that the paths in events count from, and that no file may lie outside of; None means the
            store's ``repo_path``.
        agent_version: Stored with runs whose event names none.
        pause: Waits so many seconds between tries; injected in tests.

    Raises:
        ConfigError: The store has ``raise_errors`` off, so that it could not tell why a run was refused.
    """

    def __init__(
        self,
        store: ArtifactStore,
        bus: EventBus,
        *,
        workspace: Path | None = None,
        agent_version: str = AGENT_VERSION,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        if not store.config.raise_errors:
            raise ConfigError(
                "raise_errors must be true for a store that serves events", subject="raise_errors"
            )
        self._store = store
        self._bus = bus
        self._workspace = (workspace or store.config.repo_path).resolve()
        self._agent_version = agent_version
        self._pause = pause
        self._lock = threading.Lock()
        self.counts: dict[str, int] = {}

    @property
    def secret_scanner(self) -> SecretScanner | None:
        """The scanner of the store's secret gate, None when scanning is off."""
        return self._store.secret_scanner

    def start(self) -> None:
        """Subscribe, and begin the feed of pushed runs.

        Raises:
            StorageError: The store cannot be written.
        """
        pushfeed.begin(self._store.environment)
        self._bus.subscribe(Channels.TEST_RESULTS, self.handle)

    def stop(self) -> None:
        """Unsubscribe; an event in work is completed."""
        self._bus.unsubscribe(Channels.TEST_RESULTS, self.handle)

    @silent
    def handle(self, event: Event) -> Event | None:
        """Do what an event asks for, and publish the outcome.

        Args:
            event: Any event; only ``test.passed`` is acted upon.

        Returns:
            The event that was published; None for an event that is none of ours.

        Raises:
            ArtifactStoreError: It may work later, and the bus delivers the event again when this raises; or the outcome
                could not be published.
        """
        if event.event_type != EventType.TEST_PASSED:
            return None
        try:
            result = self._commit_with_patience(event)
        except (InvalidInputError, SecretDetectedError) as error:
            return self._publish_refusal(EventType.ARTIFACT_REJECTED, event, error)
        except ArtifactStoreError as error:
            answer = self._publish_refusal(EventType.ARTIFACT_FAILED, event, error)
            if getattr(self._bus, "redelivers", False) and _may_pass(error):
                raise
            return answer
        data = {name: result[name] for name in ("branch", "commit_sha", "tags", "pushed")}
        answer = self._event(EventType.ARTIFACT_COMMITTED, event, str(result["manifest_id"]), data)
        return self._publish(answer)

    def announce_pushed(self) -> int:
        """Publish ``artifact.pushed`` for runs pushed since the last time, by whichever process; return how many.

        One process at a time does so; another one's call returns 0. Killed between publishing and noting it, the same
        event, with the same id, is published again; a bus that knows ids (`publish_once`) drops it.

        Raises:
            StorageError: The store cannot be read or written.
            ExportError: The bus does not take an event; the next call begins with those that were not noted.
        """
        environment = self._store.environment
        folder = environment.directory
        with mapped_errors(folder), hold_alone(folder / _FEED_FILE) as alone:
            if not alone:
                return 0
            total = 0
            while True:
                with environment.read() as transaction:
                    waiting = pushfeed.list_waiting(transaction, _ANNOUNCED_AT_ONCE)
                    events = {sequence: self._pushed_event(transaction, sequence) for sequence in waiting}
                if not waiting:
                    return total
                for event in events.values():
                    if event is not None:
                        self._publish(event, once=True)
                        total += 1
                with environment.write() as transaction:
                    for sequence in waiting:
                        again = outbox.status(transaction, sequence).state != "pushed"
                        pushfeed.note_announced(transaction, sequence, pushed_again=again)

    def _pushed_event(self, transaction: ReadTransaction, sequence: int) -> Event | None:
        try:
            run, row = records.load(transaction, sequence)
        except IntegrityError:  # `cas verify` names it; the feed goes on
            return None
        if not isinstance(run, RunManifest):
            return None
        data: Record = {
            "branch": run.branch,
            "commit_sha": row.commit_oid.hex(),
            "tags": [tag for tag, _ in row.tags],
            "pushed": True,
            "revision": run.revision,
        }
        return new_event(
            EventType.ARTIFACT_PUSHED,
            cause=f"{self._store.meta.store_id}\0{sequence}\0{row.commit_oid.hex()}",
            correlation_id=run.correlation_id,
            workflow_id=run.workflow_id,
            task_id=run.task_id,
            data=data,
            now_us=self._store.now_us(),
        )

    def _commit_with_patience(self, event: Event) -> Record:
        for pause_s in PAUSES_S:
            try:
                return self._commit(event)
            except ArtifactStoreError as error:
                if isinstance(error, InvalidInputError) or not _may_pass(error):
                    raise
            self._pause(pause_s)
        return self._commit(event)

    def _commit(self, event: Event) -> Record:
        if event.task_id is None:
            raise InvalidInputError("the event has no task_id", subject="task_id")
        metadata: Record = {
            "agent_version": self._agent_version,
            "test_metrics": event.data.get("metrics", {}),
        }
        metadata |= {name: event.data[name] for name in _PASSED_ON if event.data.get(name) is not None}
        return self._store.commit_artifacts(
            workflow_id=event.workflow_id,
            task_id=event.task_id,
            files=self._files(event, event.task_id),
            metadata=metadata,
            correlation_id=event.correlation_id,
            prompt_hash=event.data.get("prompt_hash"),
        )

    def _files(self, event: Event, task_id: str) -> dict[str, Path | bytes]:
        """Return the run's files under their last names.

        Raises:
            InvalidInputError: A path is missing, lies outside the workspace, or has the last name of another.
        """
        artifacts: object = event.data.get("artifacts")
        if not isinstance(artifacts, dict):
            raise InvalidInputError("the event has no data.artifacts", subject="artifacts")
        listed = cast("Mapping[object, object]", artifacts)
        lacking = [kind for kind in ARTIFACT_KINDS if kind not in listed]
        if lacking:
            raise InvalidInputError(f"data.artifacts lacks {', '.join(lacking)}", subject=lacking[0])
        found: dict[str, Path | bytes] = {}
        paths = {str(kind): path for kind, path in listed.items()}
        for kind, path in {**paths, "the strategy": f"Backtest/codes/{task_id}.py"}.items():
            inside = self._inside(kind, path)
            if inside.name in found:
                raise InvalidFileError(f"two artifacts are named {inside.name!r}", subject=inside.name)
            found[inside.name] = inside
        return found

    def _inside(self, kind: str, path: object) -> Path:
        if not isinstance(path, str) or not path or "\0" in path:
            raise InvalidFileError(f"the path of {kind} is not text", subject=kind)
        try:
            resolved = (self._workspace / path).resolve()
        except (OSError, RuntimeError):
            raise InvalidFileError(f"{kind} cannot be found", subject=kind) from None
        if not resolved.is_relative_to(self._workspace) or resolved == self._workspace:
            raise InvalidFileError(f"{kind} lies outside the workspace", subject=kind)
        return resolved

    def _publish_refusal(self, event_type: EventType, event: Event, error: ArtifactStoreError) -> Event:
        scanner = self.secret_scanner
        told = refusal(scanner, error) or error
        data = told.as_dict() | {"retryable": _may_pass(told)}
        ids = (event.correlation_id, event.workflow_id, event.task_id)
        if any(text is not None and shown(scanner, text) is None for text in ids):
            event = msgspec.structs.replace(
                event, correlation_id=_WITHHELD, workflow_id=_WITHHELD, task_id=_WITHHELD
            )
        return self._publish(self._event(event_type, event, event.event_id, data))

    def _event(self, event_type: EventType, event: Event, cause: str, data: Mapping[str, object]) -> Event:
        return new_event(
            event_type,
            cause=f"{self._store.meta.store_id}\0{cause}",
            correlation_id=event.correlation_id,
            workflow_id=event.workflow_id,
            task_id=event.task_id,
            data={**data, "cause": shown(self.secret_scanner, event.event_id) or _WITHHELD},
            now_us=self._store.now_us(),
        )

    def _publish(self, event: Event, *, once: bool = False) -> Event:
        publish = getattr(self._bus, "publish_once", self._bus.publish) if once else self._bus.publish
        for pause_s in (*PAUSES_S, None):
            try:
                publish(Channels.WORKFLOW_EVENTS, event)
                break
            except ArtifactStoreError as error:
                if pause_s is None or not error.retryable:
                    raise
                self._pause(pause_s)
        with self._lock:
            self.counts[event.event_type] = self.counts.get(event.event_type, 0) + 1
        return event


def _may_pass(error: ArtifactStoreError) -> bool:
    return error.retryable or error.kind in TRANSIENT_KINDS

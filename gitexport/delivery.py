"""Delivering exported runs to the remote: groups of refs out of the outbox, receipts for what the remote shows.

Invariant: a run is recorded as pushed only when the remote holds its branch step and all its tags. Runs of one branch
form one group, for the newest tip carries the older ones.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from cas import outbox, records
from cas.outbox import Stage
from gitexport.push import PushState, RefGroup, push

if TYPE_CHECKING:
    from collections.abc import Callable

    from cas import ArtifactStore
    from gitexport.exporter import ExportSummary
    from gitexport.push import GroupOutcome
    from gitexport.repository import GitRepository

_MAX_REASON_CHARS: Final = 500
_RECEIPTS_PER_TRANSACTION: Final = (
    200  # settled groups are recorded as they come, but not with a flush for each
)


@dataclasses.dataclass(slots=True)
class _Branch:
    """What waits to be pushed on one branch."""

    sequences: list[int] = dataclasses.field(default_factory=list[int])
    refs: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    size_bytes: int = 0


def deliver(
    store: ArtifactStore,
    repository: GitRepository,
    remote: str,
    summary: ExportSummary,
    progress: Callable[[str, int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """Push everything that is exported and not pushed yet, and record each outcome.

    Args:
        store: An open store, whose lease the caller holds.
        repository: Where the refs are.
        remote: Name of a remote, or a URL.
        summary: Takes the counts and failures.
        progress: Called with ``push``, runs settled, runs in all.
        should_stop: Asked before each push; when true, what is left stays queued.

    Raises:
        ConfigError: No such remote, or a transport that is not allowed.
        StorageError: The store's disk refused.
    """
    waiting = _waiting(store)
    if not waiting:
        return
    recorder = _Recorder(store, summary, waiting, progress)
    config = store.config
    groups = [RefGroup(branch, tuple(item.refs.items()), item.size_bytes) for branch, item in waiting.items()]
    report = push(
        repository,
        remote,
        groups,
        timeout_s=config.push_timeout,
        max_refs=config.push_refs,
        max_bytes=config.push_bytes,
        on_settled=recorder.settle,
        should_stop=should_stop,
    )
    recorder.flush()
    if report.error is not None:
        summary.warnings.append(f"push: {report.error}")


def _waiting(store: ArtifactStore) -> dict[str, _Branch]:
    """Return what waits for the push, by branch, oldest first."""
    waiting: dict[str, _Branch] = {}
    with store.environment.read() as transaction:
        for sequence, _ in outbox.iter_entries(transaction, Stage.PUSH):
            loaded, row = records.load(transaction, sequence)
            branch = waiting.setdefault(loaded.branch, _Branch())
            branch.sequences.append(sequence)
            branch.refs[f"refs/heads/{loaded.branch}"] = row.commit_oid.hex()
            branch.refs.update({f"refs/tags/{name}": oid.hex() for name, oid in row.tags})
            branch.size_bytes += records.stored_bytes(transaction, loaded)
    return waiting


class _Recorder:
    """Writes outcomes to the store as they come; owned by the thread that pushes."""

    def __init__(
        self,
        store: ArtifactStore,
        summary: ExportSummary,
        waiting: dict[str, _Branch],
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        self._store = store
        self._summary = summary
        self._waiting = waiting
        self._progress = progress
        self._total_count = sum(len(branch.sequences) for branch in waiting.values())
        self._settled_count = 0
        self._outcomes: list[tuple[str, GroupOutcome]] = []

    def settle(self, group: RefGroup[str], outcome: GroupOutcome) -> None:
        """Take the outcome of one group."""
        self._outcomes.append((group.key, outcome))
        self._settled_count += len(self._waiting[group.key].sequences)
        if len(self._outcomes) >= _RECEIPTS_PER_TRANSACTION:
            self.flush()

    def flush(self) -> None:
        """Record the outcomes taken since the last time, in one transaction."""
        if not self._outcomes:
            return
        now_us = self._store.now_us()
        with self._store.environment.write() as transaction:
            for branch, outcome in self._outcomes:
                sequences = self._waiting[branch].sequences
                if outcome.state is PushState.PUSHED:
                    outbox.record_pushed(transaction, sequences, now_us)
                    continue
                for sequence in sequences:
                    reason = outcome.reason[:_MAX_REASON_CHARS]
                    outbox.record_failure(
                        transaction, sequence, reason=reason, now_us=now_us, park=outcome.permanent
                    )
        for branch, outcome in self._outcomes:
            if outcome.state is PushState.PUSHED:
                self._summary.pushed += len(self._waiting[branch].sequences)
            else:
                reason = outcome.reason[:_MAX_REASON_CHARS]
                self._summary.failures.append({"label": branch, "branch": branch, "reason": reason})
        self._outcomes.clear()
        if self._progress is not None:
            self._progress("push", self._settled_count, self._total_count)

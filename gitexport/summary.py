"""What an export did, and where the exports of a store stand: figures for people, exit codes and monitors."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Literal

from cas import ArtifactStore, outbox, records
from cas.arguments import check_instance
from cas.errors import IntegrityError
from cas.outbox import Stage
from gitexport import lease

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cas.lmdbenv import ReadTransaction

_LISTED_FAILURES: Final = (
    1000  # the rest is counted: a remote that refuses 100,000 runs must not fill the memory
)


@dataclasses.dataclass(slots=True)
class ExportSummary:
    """What one export did and what is left.

    Attributes:
        exported: Runs and rollbacks now proved in git.
        pushed: Runs and rollbacks now proved on the remote.
        pending: Entries still queued for git, or for the push when pushing was asked for.
        parked: Entries set aside with a reason; `cas export status` shows them.
        refs: Refs written.
        objects: Objects written.
        pack_bytes: Bytes of packs written.
        duration_s: Seconds from lease to end.
        dry_run: True when nothing was written.
        stopped: True when the export ended early because it was asked to.
        warnings: Things a person should look at.
        failures: One dictionary per refusal of this export, a thousand at most: ``label, branch, reason``.
        failure_count: How many refusals there were.
    """

    exported: int = 0
    pushed: int = 0
    pending: int = 0
    parked: int = 0
    refs: int = 0
    objects: int = 0
    pack_bytes: int = 0
    duration_s: float = 0.0
    dry_run: bool = False
    stopped: bool = False
    warnings: list[str] = dataclasses.field(default_factory=list[str])
    failures: list[dict[str, str]] = dataclasses.field(default_factory=list[dict[str, str]])
    failure_count: int = 0

    @property
    def state(self) -> Literal["done", "pending", "parked"]:
        """``parked`` when something needs a person, ``pending`` when another run will go on, else ``done``."""
        if self.parked:
            return "parked"
        return "pending" if self.pending else "done"

    def as_dict(self) -> dict[str, object]:
        """Return the summary as JSON-able data."""
        return {"state": self.state, **dataclasses.asdict(self)}

    def warn(self, text: str) -> None:
        """Add a warning once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def fail(self, label: str, branch: str, reason: str) -> None:
        """Add a refusal."""
        self.failure_count += 1
        if len(self.failures) < _LISTED_FAILURES:
            self.failures.append({"label": label, "branch": branch, "reason": reason})


def export_status(store: ArtifactStore) -> dict[str, object]:
    """Return the queue in runs and seconds, what is parked and why, the last export and push, and who exports now.

    A parked entry whose manifest is damaged has a reason, and no names: ``branch`` and ``commit_sha`` are empty.

    Raises:
        InvalidInputError: ``store`` is no store.
    """
    check_instance(store, ArtifactStore, "store")
    with store.environment.read() as transaction:
        queued = outbox.count_entries(transaction, Stage.WRITE)
        first = next((sequence for sequence, _ in outbox.iter_entries(transaction, Stage.WRITE)), None)
        oldest_at_us = None if first is None else _created_at_us(transaction, first)
        awaiting = outbox.count_entries(transaction, Stage.PUSH)
        parked = list(_parked(transaction))
        last_exported, last_pushed = outbox.last_times(transaction)
    return {
        "queued": queued,
        "queued_age_s": None
        if oldest_at_us is None
        else max(0.0, (store.now_us() - oldest_at_us) / 1_000_000),
        "awaiting_push": awaiting,
        "parked": parked,
        "last_export_at_us": last_exported,
        "last_push_at_us": last_pushed,
        "lease_holder": lease.holder(store.environment.directory),
    }


def _created_at_us(transaction: ReadTransaction, sequence: int) -> int | None:
    """Return when a run was made; None when its manifest is damaged, which the next export says of it."""
    try:
        return records.load(transaction, sequence)[0].created_at_us
    except IntegrityError:
        return None


def _parked(transaction: ReadTransaction) -> Iterator[dict[str, object]]:
    for stage, what in ((Stage.PARKED_WRITE, "export"), (Stage.PARKED_PUSH, "push")):
        for sequence, attempt in outbox.iter_entries(transaction, stage):
            try:
                record = records.history_record(transaction, sequence)
            except IntegrityError:  # most likely parked for that very reason, which the next lines tell
                record = {}
            yield {
                "stage": what,
                "correlation_id": record.get("correlation_id"),
                "branch": record.get("branch", ""),
                "commit_sha": record.get("commit_sha", ""),
                "reason": attempt.reason,
                "attempts": attempt.attempt_count,
            }

"""Proof that git holds, byte for byte, what the store holds.

Invariant: every comparison is of bytes: commits, trees and tags with those rebuilt from the manifest, blobs with their
BLAKE3 digest, read through git itself. Nothing is changed in either.
"""

from __future__ import annotations

import dataclasses
import random
import time
from typing import TYPE_CHECKING, Final

from cas import catalog, outbox, records
from cas.digest import Digester
from gitexport.options import git_options
from gitexport.plan import build_entry
from gitexport.refs import read_refs
from gitexport.repository import GitRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cas import ArtifactStore
    from gitexport.objectstream import ObjectStream
    from gitexport.plan import Entry

_BATCH_RUNS: Final = 500


@dataclasses.dataclass(frozen=True, slots=True)
class ExportFault:
    """One difference between store and git."""

    label: str
    subject: str
    detail: str


@dataclasses.dataclass(slots=True)
class ExportReport:
    """What an export verify compared and found."""

    run_count: int = 0
    object_count: int = 0
    byte_count: int = 0
    not_exported: int = 0
    complete: bool = True
    faults: list[ExportFault] = dataclasses.field(default_factory=list[ExportFault])

    @property
    def ok(self) -> bool:
        """True when store and git agree wherever they were compared."""
        return not self.faults

    def as_dict(self) -> dict[str, object]:
        """Return the report as JSON-able data."""
        return {"ok": self.ok, **dataclasses.asdict(self)}


def verify_export(
    store: ArtifactStore,
    repository: Path | None = None,
    *,
    remote: str | None = None,
    sample: float = 1.0,
    max_duration_s: float | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> ExportReport:
    """Compare every exported run with what git holds.

    Args:
        store: An open store.
        repository: The repository; None means the store's ``repo_path``.
        remote: Also compare the refs of this remote with what was recorded as pushed; None leaves it out.
        sample: Share of the runs to compare, above 0 up to 1.
        max_duration_s: Stop after about this many seconds and say that the report is not complete.
        seed: Seed of the sample.
        progress: Called with phase, runs done, runs in all.

    Raises:
        GitCommandFailedError: git is missing or failed, or there is no repository.
    """
    git = GitRepository.open(repository or store.config.repo_path, git_options(store.config))
    deadline_s = None if max_duration_s is None else time.monotonic() + max_duration_s
    report = ExportReport(complete=sample >= 1)
    chosen = random.Random(seed)  # noqa: S311  sampling, no secret
    with store.environment.read() as transaction:
        total = sum(1 for _ in outbox.iter_receipts(transaction))
    shown = None if remote is None else git.list_remote_refs(git.push_url(remote))
    for batch in _batches(store, report):
        picked = [item for item in batch if sample >= 1 or chosen.random() < sample]
        _compare_refs(store, git, [entry for entry, _ in picked], report)
        if shown is not None:
            _compare_remote(shown, picked, report)
        _compare_objects(git, [entry for entry, _ in picked], report)
        report.run_count += len(picked)
        if progress is not None:
            progress("compare", report.run_count, total)
        if deadline_s is not None and time.monotonic() > deadline_s:
            report.complete = False
            break
    return report


def _batches(store: ArtifactStore, report: ExportReport) -> Iterator[list[tuple[Entry, bool]]]:
    """Yield exported entries in sequence order, each with whether it was recorded as pushed."""
    start = 0
    while True:
        batch: list[tuple[Entry, bool]] = []
        seen = 0
        with store.environment.read() as transaction:
            for sequence, row in catalog.iter_rows(transaction, start=start):
                start = sequence + 1
                seen += 1
                receipt = outbox.get_receipt(transaction, sequence)
                if receipt is None:
                    report.not_exported += 1
                else:
                    loaded, _ = records.load(transaction, sequence)
                    batch.append((build_entry(sequence, loaded, row), receipt.pushed_at_us > 0))
                if seen == _BATCH_RUNS:
                    break
        if batch:
            yield batch
        if seen < _BATCH_RUNS:
            return


def _compare_refs(
    store: ArtifactStore, git: GitRepository, entries: list[Entry], report: ExportReport
) -> None:
    wanted = {entry.branch for entry in entries} | {name for entry in entries for name, _ in entry.tags}
    found = read_refs(git, wanted)
    newest = {entry.branch: entry for entry in entries}
    for entry in entries:
        for name, oid in entry.tags:
            if found.get(name) != oid:
                report.faults.append(ExportFault(entry.label, name, f"is {found.get(name)}, expected {oid}"))
        tip = found.get(entry.branch)
        if newest[entry.branch] is entry and (tip is None or not _reaches(store, git, entry, tip)):
            report.faults.append(
                ExportFault(entry.label, entry.branch, f"is {tip}, which lacks {entry.commit}")
            )


def _reaches(store: ArtifactStore, git: GitRepository, entry: Entry, tip: str) -> bool:
    if tip == entry.commit:
        return True
    with store.environment.read() as transaction:
        later = records.find_commit(transaction, bytes.fromhex(tip))
    if later is not None:
        return later > entry.sequence
    return git.is_ancestor(entry.commit, tip)


def _compare_remote(shown: dict[str, str], picked: list[tuple[Entry, bool]], report: ExportReport) -> None:
    """Compare what was recorded as pushed with what the remote shows; a branch may have moved on since."""
    for entry, pushed in picked:
        if not pushed:
            continue
        for name, oid in entry.tags:
            if shown.get(name) != oid:
                report.faults.append(
                    ExportFault(entry.label, name, f"the remote has {shown.get(name)}, expected {oid}")
                )
        if entry.branch not in shown:
            report.faults.append(ExportFault(entry.label, entry.branch, "the remote does not have it"))


def _compare_objects(git: GitRepository, entries: list[Entry], report: ExportReport) -> None:
    made = {item.oid.hex(): (entry, item) for entry in entries for item in entry.objects}
    files = {file.oid.hex(): (entry, file) for entry in entries for file in entry.files}
    for stream in git.iter_object_bytes([*made, *files]):
        if stream.oid in made:
            entry, item = made[stream.oid]
            same = stream.kind == item.kind and b"".join(stream) == item.data
            detail = f"{item.kind} differs from what the store promised"
        else:
            entry, file = files[stream.oid]
            same = stream.kind == "blob" and _digest(stream) == file.digest
            detail = f"blob of {file.name!r} does not match its digest"
        if not same:
            missing = "is missing" if stream.kind == "missing" else detail
            report.faults.append(ExportFault(entry.label, stream.oid, missing))
        report.object_count += 1
        report.byte_count += stream.size_bytes


def _digest(stream: ObjectStream) -> bytes:
    digester = Digester()
    for chunk in stream:
        digester.update(chunk)
    return digester.digest()

"""Proof that git holds, byte for byte, what the store holds.

Invariant: every comparison is of bytes: commits, trees and tags with those rebuilt from the manifest, blobs with their
BLAKE3 digest, read through git itself. A ref that is rolled up counts by the archive's own commits. Nothing is changed
in either. What git cannot read is a fault like any other, and does not end the comparison.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections import ChainMap
from typing import TYPE_CHECKING, Final

from cas import ArtifactStore, catalog, outbox
from cas.arguments import check_instance, check_progress, check_seconds, check_share, check_whole
from cas.digest import Digester
from cas.errors import ConflictError, GitCommandFailedError, IntegrityError
from cas.objects import parse_tree
from gitexport.archive import Archive, without_archived_tags
from gitexport.archivelist import LIST_NAME, parse_list
from gitexport.entries import load_entry
from gitexport.history import BranchHistory
from gitexport.options import git_options
from gitexport.prompttags import PromptTags, is_prompt_tag
from gitexport.refs import read_refs
from gitexport.repository import GitRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cas.manifest import FileEntry
    from cas.objects import GitObject
    from gitexport.archive import ArchiveCommit
    from gitexport.entries import Entry
    from gitexport.objectstream import ObjectStream

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

    def add(self, label: str, subject: str, detail: str) -> None:
        """Note a difference."""
        self.faults.append(ExportFault(label, subject, detail))


@dataclasses.dataclass(frozen=True, slots=True)
class _Batch:
    """Exported entries, those of them recorded as pushed, and how many rows were looked at."""

    entries: list[Entry]
    pushed: list[Entry]
    seen_count: int


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
        progress: Called with ``compare``, runs done, runs in all.

    Raises:
        InvalidInputError: An argument is of another kind, or out of range; ``subject`` names it.
        ConfigError: No such remote, several push URLs, or a transport that is not allowed.
        GitCommandFailedError: git is missing, there is no repository, or the remote does not answer.
        StorageError: A disk refused.
    """
    check_instance(store, ArtifactStore, "store")
    check_share(sample, "sample")
    check_seconds(max_duration_s, "max_duration_s")
    check_whole(seed, "seed")
    check_progress(progress)
    git = GitRepository.open(repository or store.config.repo_path, git_options(store.config))
    deadline_s = None if max_duration_s is None else time.monotonic() + max_duration_s
    report = ExportReport(complete=sample >= 1)
    chosen = random.Random(seed)  # noqa: S311  sampling, no secret
    with store.environment.read() as transaction:
        total = sum(1 for _ in outbox.iter_receipts(transaction))
    shown = None if remote is None else git.list_remote_refs(git.push_url(remote))
    history = BranchHistory(store, git)
    archive = Archive(store, git)
    _compare_archive(git, archive, report)
    remote_at = None if shown is None else _remote_archive(shown, archive, report)
    done = 0
    batches = _batches(
        store,
        report,
        picks=lambda: sample >= 1 or chosen.random() < sample,
        is_late=lambda: deadline_s is not None and time.monotonic() > deadline_s,
    )
    prompts = PromptTags(store, git)
    for found in batches:
        batch = _without_prompts(git, prompts, found)
        archived = _compare_refs(git, history, archive, batch.entries, report)
        if shown is not None:
            rolled_up = {} if remote_at is None else archive.lacking(batch.pushed, shown, remote_at)
            _compare_remote(ChainMap(rolled_up, shown), history, batch.pushed, report)
        _compare_objects(git, [without_archived_tags(entry, archived) for entry in batch.entries], report)
        store.environment.release_pages()
        done += batch.seen_count
        if progress is not None:
            progress("compare", min(done, total), total)
    return report


def _batches(
    store: ArtifactStore, report: ExportReport, *, picks: Callable[[], bool], is_late: Callable[[], bool]
) -> Iterator[_Batch]:
    """Yield the picked exported entries in sequence order; once it is late, what is left is only noted as left out."""
    start = 0
    while True:
        batch = _Batch([], [], 0)
        with store.environment.read() as transaction:
            sequences = catalog.sequences_from(transaction, start, _BATCH_RUNS)
            if sequences and start and is_late():
                report.complete = False
                return
            for sequence in sequences:
                try:
                    receipt = outbox.get_receipt(transaction, sequence)
                    if receipt is None:
                        report.not_exported += 1
                        continue
                    if not picks():
                        continue
                    report.run_count += 1
                    entry = load_entry(transaction, sequence)
                except IntegrityError as error:
                    report.add(f"manifest {sequence}", "store", error.message)
                    continue
                batch.entries.append(entry)
                if receipt.pushed_at_us > 0:
                    batch.pushed.append(entry)
        if not sequences:
            return
        start = sequences[-1] + 1
        yield dataclasses.replace(batch, seen_count=len(sequences))


def _without_prompts(git: GitRepository, prompts: PromptTags, batch: _Batch) -> _Batch:
    """Return a batch without the prompt tags that another store has made before, and that its runs went without."""
    names = (name for entry in batch.entries for name, _ in entry.tags if is_prompt_tag(name))
    entries = {entry.sequence: entry for entry in prompts.leave(batch.entries, read_refs(git, names))}
    pushed = [entries[entry.sequence] for entry in batch.pushed]
    return dataclasses.replace(batch, entries=list(entries.values()), pushed=pushed)


def _compare_archive(git: GitRepository, archive: Archive, report: ExportReport) -> None:
    """Compare the list that each commit of the archive carries with the branches it holds as parents."""
    try:
        archive.require_own()
        _compare_lists(git, archive.chain, report)
    except (ConflictError, IntegrityError) as error:
        report.add("archive", archive.ref, error.message)
    except GitCommandFailedError as error:
        if error.kind != GitCommandFailedError.kind:
            raise
        report.add("archive", archive.ref, f"cannot be read: {error.message}")


def _compare_lists(git: GitRepository, chain: Sequence[ArchiveCommit], report: ExportReport) -> None:
    trees = git.iter_object_bytes([commit.tree for commit in chain])
    lists = {stream.oid: _list_oid(stream, git) for stream in trees}
    texts = git.iter_object_bytes([lists[commit.tree] or commit.tree for commit in chain])
    for commit, stream in zip(chain, texts, strict=True):
        refs = parse_list(b"".join(stream))
        heads = {oid for name, oid in refs.items() if name.startswith("refs/heads/")}
        if stream.kind != "blob" or heads != set(commit.heads):
            report.add("archive", commit.oid, f"its file {LIST_NAME} does not list the branches it holds")


def _list_oid(stream: ObjectStream, git: GitRepository) -> str | None:
    entries = parse_tree(b"".join(stream), git.object_format) if stream.kind == "tree" else []
    return next((entry.oid.hex() for entry in entries if entry.name == LIST_NAME.encode()), None)


def _remote_archive(shown: Mapping[str, str], archive: Archive, report: ExportReport) -> int | None:
    """Return up to where in the chain the remote's archive goes; None when it has none of ours."""
    tip = shown.get(archive.ref)
    position = archive.position(tip)
    if tip is not None and position is None:
        report.add("archive", archive.ref, f"the remote has {tip}, which the archive here does not hold")
    return position


def _compare_refs(
    git: GitRepository,
    history: BranchHistory,
    archive: Archive,
    entries: Sequence[Entry],
    report: ExportReport,
) -> dict[str, str]:
    """Compare branches and tags, and return those that are archived instead of standing there."""
    wanted = {entry.branch for entry in entries} | {name for entry in entries for name, _ in entry.tags}
    found = read_refs(git, wanted)
    archived = archive.lacking(entries, found)
    found |= archived
    newest = {entry.branch: entry for entry in entries}
    for entry in entries:
        for name, oid in entry.tags:
            if found.get(name) != oid:
                report.add(entry.label, name, f"is {found.get(name) or 'missing'}, expected {oid}")
        tip = found.get(entry.branch)
        if newest[entry.branch] is entry and (tip is None or not history.holds(entry, tip)):
            report.add(
                entry.label, entry.branch, f"is {tip}, which lacks {entry.commit}" if tip else "is missing"
            )
    return archived


def _compare_remote(
    shown: Mapping[str, str], history: BranchHistory, pushed: Sequence[Entry], report: ExportReport
) -> None:
    """Compare what was recorded as pushed with what the remote shows; a branch may have moved on since."""
    newest = {entry.branch: entry for entry in pushed}
    for entry in pushed:
        for name, oid in entry.tags:
            if shown.get(name) != oid:
                report.add(
                    entry.label, name, f"the remote has {shown.get(name) or 'nothing'}, expected {oid}"
                )
        tip = shown.get(entry.branch)
        if tip is None:
            report.add(entry.label, entry.branch, "the remote does not have it")
        elif newest[entry.branch] is entry and not history.holds(entry, tip):
            report.add(
                entry.label,
                entry.branch,
                f"the remote has {tip}, in whose history {entry.commit} cannot be found",
            )


def _compare_objects(git: GitRepository, entries: Sequence[Entry], report: ExportReport) -> None:
    made = {item.oid.hex(): (entry, item) for entry in entries for item in entry.objects}
    files = {file.oid.hex(): (entry, file) for entry in entries for file in entry.files}
    left = list(dict.fromkeys([*made, *files]))
    while left:
        compared = 0
        try:
            for stream in git.iter_object_bytes(left):
                _compare_object(stream, made, files, report)
                compared += 1
        except GitCommandFailedError as error:
            if error.kind != GitCommandFailedError.kind:
                raise
            # git ended at an object it cannot read: the one after the last that it gave.
            oid = left[min(compared, len(left) - 1)]
            entry = (made.get(oid) or files[oid])[0]
            report.add(entry.label, oid, f"cannot be read: {error.message}")
            report.object_count += 1
            left = left[compared + 1 :]
        else:
            return


def _compare_object(
    stream: ObjectStream,
    made: Mapping[str, tuple[Entry, GitObject]],
    files: Mapping[str, tuple[Entry, FileEntry]],
    report: ExportReport,
) -> None:
    if stream.oid in made:
        entry, item = made[stream.oid]
        same = b"".join(stream) == item.data and stream.kind == item.kind
        detail = f"{item.kind} differs from what the store promised"
    else:
        entry, file = files[stream.oid]
        same = _digest(stream) == file.digest and stream.kind == "blob"
        detail = f"blob of {file.name!r} does not match its digest"
    report.object_count += 1
    report.byte_count += stream.size_bytes
    if not same:
        report.add(entry.label, stream.oid, "is missing" if stream.kind == "missing" else detail)


def _digest(stream: ObjectStream) -> bytes:
    digester = Digester()
    for chunk in stream:
        digester.update(chunk)
    return digester.digest()

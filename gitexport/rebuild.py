"""A repository that was lost or restored: noticed, compared with every receipt, and written again.

Invariant: what the repository still has is left as it is, with its receipts and what is known of the remote; what it
has lost is queued again, or, where refs stand and only objects are gone, written at once. Ids stay the same. What the
archive holds is not lost, and stays rolled up. A run with a purged file does not come back.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from cas import outbox, purge
from cas.errors import IntegrityError
from gitexport.archive import Archive, without_archived_tags
from gitexport.entries import load_entry
from gitexport.history import BranchHistory
from gitexport.plan import Obstacles, make_plan, ref_names
from gitexport.prompttags import PromptTags
from gitexport.refs import read_refs
from gitexport.writer import write_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cas import ArtifactStore
    from gitexport.blobcopy import CheckLevel
    from gitexport.entries import Entry
    from gitexport.repository import GitRepository
    from gitexport.summary import ExportSummary

_BATCH_RUNS: Final = 1000


def note_loss(store: ArtifactStore, repository: GitRepository, summary: ExportSummary) -> None:
    """Warn when the repository lacks the newest run that was exported to it: it was replaced, or restored."""
    with store.environment.read() as transaction:
        newest = outbox.newest_receipt(transaction)
        if newest is None:
            return
        try:
            entry = load_entry(transaction, newest)
        except IntegrityError:
            return  # `cas verify` names it
    refs = read_refs(repository, ref_names([entry]))
    refs |= Archive(store, repository).lacking([entry], refs)
    tip = refs.get(entry.branch)
    (entry,) = PromptTags(store, repository).leave([entry], refs)
    stands = tip is not None and BranchHistory(store, repository).holds(entry, tip)
    if not stands or any(refs.get(name) != oid for name, oid in entry.tags):
        summary.warn(
            f"{repository.path} lacks {entry.label}, which was exported before: if the repository was replaced or "
            "restored from a backup, `cas export --rebuild` writes again what it has lost"
        )


def find_lost(
    store: ArtifactStore,
    repository: GitRepository,
    progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[int]:
    """Yield the exported sequences whose refs the repository does not have, in order; changes nothing."""
    for _, lost in _compared(store, repository, progress):
        yield from lost


def rebuild_repository(
    store: ArtifactStore,
    repository: GitRepository,
    summary: ExportSummary,
    check: CheckLevel,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Queue again what the repository has lost, and write the objects that its refs miss.

    Raises:
        GitCommandFailedError: git failed.
        StorageError: A disk refused.
    """
    for present, lost in _compared(store, repository, progress):
        if lost:
            with store.environment.write() as transaction:
                for sequence in lost:
                    outbox.requeue(transaction, sequence)
                purge.hold_returned(transaction, lost, store.now_us())
        _restore_objects(store, repository, summary, present, check)
        store.environment.release_pages()


def _compared(
    store: ArtifactStore, repository: GitRepository, progress: Callable[[str, int, int], None] | None
) -> Iterator[tuple[list[Entry], list[int]]]:
    """Yield, batch by batch, the entries whose refs stand and the sequences of those whose do not."""
    history = BranchHistory(store, repository)
    archive = Archive(store, repository)
    prompts = PromptTags(store, repository)
    with store.environment.read() as transaction:
        total = sum(1 for _ in outbox.iter_receipts(transaction))
    after = done = 0
    while True:
        sequences, entries = _receipts(store, after)
        if not sequences:
            return
        after = sequences[-1]
        refs = read_refs(repository, ref_names(entries))
        entries = prompts.leave(entries, refs)
        archived = archive.lacking(entries, refs)
        plan = make_plan(entries, refs | archived, Obstacles(), history)
        standing = {entry.sequence for entry in plan.present}
        # A damaged manifest has no entry; queued again, the export sets it aside and says why.
        present = [without_archived_tags(entry, archived) for entry in plan.present]
        yield present, [sequence for sequence in sequences if sequence not in standing]
        done += len(sequences)
        if progress is not None:
            progress("compare", done, max(done, total))


def _receipts(store: ArtifactStore, after: int) -> tuple[list[int], list[Entry]]:
    sequences: list[int] = []
    entries: list[Entry] = []
    with store.environment.read() as transaction:
        for sequence in itertools.islice(outbox.iter_receipts(transaction, after=after), _BATCH_RUNS):
            sequences.append(sequence)
            try:
                entries.append(load_entry(transaction, sequence))
            except IntegrityError:
                continue  # left out of the entries, so that it counts as lost
    return sequences, entries


def _restore_objects(
    store: ArtifactStore,
    repository: GitRepository,
    summary: ExportSummary,
    entries: Sequence[Entry],
    check: CheckLevel,
) -> None:
    try:
        written = write_missing(store.environment, repository, entries, check=check)
    except IntegrityError as error:
        # One damaged blob must not keep the others' objects from coming back.
        for entry in entries if len(entries) > 1 else ():
            _restore_objects(store, repository, summary, [entry], check)
        if len(entries) == 1:
            summary.warn(f"{entries[0].label} cannot be compared with git: {error.message}")
        return
    summary.objects += written.object_count
    summary.pack_bytes += written.pack_bytes

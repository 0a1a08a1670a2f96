"""Delivering exported runs to the remote: groups of refs out of the outbox, receipts for what the remote shows.

Invariant: a run is recorded as pushed only when the remote holds its branch step and all its tags, or the archive that
they were rolled up into. Runs of one branch form one group, and a branch is always pushed at its newest exported
commit, which carries the older ones: a push of an older one, retried later, would be refused as a step back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import time
from typing import TYPE_CHECKING, Final

from cas import catalog, names, outbox, purge, records
from cas.errors import GitCommandFailedError, IntegrityError
from cas.outbox import Stage
from gitexport.archive import Archive
from gitexport.heldfile import mapped_os_errors
from gitexport.history import BranchHistory
from gitexport.prompttags import PromptTags, is_prompt_tag
from gitexport.purgeguard import find_guarded, lacking
from gitexport.push import PushState, RefGroup, push
from gitexport.refs import read_refs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cas import ArtifactStore
    from cas.lmdbenv import ReadTransaction
    from gitexport.push import GroupOutcome
    from gitexport.repository import GitRepository
    from gitexport.summary import ExportSummary

_MAX_REASON_CHARS: Final = 500
_OTHERS_PROMPT: Final = re.compile(rf"the remote has another tag ({names.PROMPT_PREFIX}\S+)")
# Settled groups are recorded as they come, but not with a flush for each.
_RECEIPTS_PER_TRANSACTION: Final = 200
# Entries read at a time: they are about 1 KB each in memory, and a push takes seconds for so many.
_ROUND_RUNS: Final = 5000


@dataclasses.dataclass(slots=True)
class _Branch:
    """What waits to be pushed on one branch."""

    sequences: list[int] = dataclasses.field(default_factory=list[int])
    newest: int = 0
    refs: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    tagged: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    size_bytes: int = 0

    def sequence_of(self, name: str) -> int:
        """Return which of its commits a ref of it names."""
        return self.tagged.get(name, self.newest)


def deliver(
    store: ArtifactStore,
    repository: GitRepository,
    remote: str,
    summary: ExportSummary,
    *,
    selection: set[int] | None = None,
    recheck: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Push everything that is exported and not pushed yet, and record each outcome.

    Args:
        store: An open store, whose lease the caller holds.
        repository: Where the refs are.
        remote: Name of a remote, or a URL.
        summary: Takes the counts and failures.
        selection: Only these sequences; None means all.
        recheck: First ask the remote whether it still has what was pushed, and queue again what it has lost.
        progress: Called with ``push``, runs settled, runs in all.
        should_stop: Asked before each push; when true, what is left stays queued.
        pause: Waits so many seconds between tries; may return early.

    Raises:
        ConfigError: No such remote, or a transport that is not allowed.
        GitCommandFailedError: git failed before the first push.
        ExportError: The view of a push vanished; retryable.
        StorageError: A disk refused.
    """
    archive = Archive(store, repository)
    prompts = PromptTags(store, repository)
    if recheck:
        _queue_lost(store, repository, remote, archive, summary)
    purge.hold_followers(store.environment, store.now_us())
    with store.environment.read() as transaction:
        total = outbox.count_entries(transaction, Stage.PUSH) if selection is None else len(selection)
    config = store.config
    after = settled = 0
    while not should_stop():
        waiting, damaged, after = _waiting(store, after, selection)
        _leave_prompts(repository, prompts, waiting)
        aside = damaged | _replace_archived(repository, archive, waiting)
        aside |= _take_lost(repository, waiting)
        store.environment.release_pages()
        _park(store, summary, aside)
        if not waiting and not aside:
            return
        _guard(store, repository, remote, archive, summary, waiting)
        recorder = _Recorder(store, summary, waiting, progress, settled, total)
        groups = [RefGroup(name, tuple(item.refs.items()), item.size_bytes) for name, item in waiting.items()]
        with mapped_os_errors(repository.path):
            report = push(
                repository,
                remote,
                groups,
                timeout_s=config.push_timeout,
                max_refs=config.push_refs,
                max_bytes=config.push_bytes,
                on_settled=recorder.settle,
                should_stop=should_stop,
                stands_on=BranchHistory(store, repository).stands_on,
                sleep=pause,
            )
        recorder.flush()
        settled = recorder.settled_count
        if report.error is not None:
            summary.warn(f"push: {report.error}")
            return


def _waiting(
    store: ArtifactStore, after: int, selection: set[int] | None
) -> tuple[dict[str, _Branch], dict[int, str], int]:
    """Return the next of what waits for the push: by branch, oldest first; what is damaged; where to go on from."""
    waiting: dict[str, _Branch] = {}
    damaged: dict[int, str] = {}
    with store.environment.read() as transaction:
        held = purge.first_held(transaction)
        entries = outbox.iter_entries(transaction, Stage.PUSH, after=after)
        chosen = (number for number, _ in entries if selection is None or number in selection)
        for sequence in itertools.islice(chosen, _ROUND_RUNS):
            after = sequence
            try:
                loaded, row = records.load(transaction, sequence)
                is_exported = outbox.get_receipt(transaction, sequence) is not None
            except IntegrityError as error:
                damaged[sequence] = error.message
                continue
            if not is_exported:
                damaged[sequence] = "it is queued for the push without a receipt of its export"
                continue
            if sequence >= held.get(loaded.branch, sequence + 1):
                continue  # purged this very moment; the next push sets it aside
            branch = waiting.setdefault(loaded.branch, _Branch())
            branch.sequences.append(sequence)
            tags = {f"refs/tags/{name}": oid.hex() for name, oid in row.tags}
            branch.refs.update(tags)
            branch.tagged.update(dict.fromkeys(tags, sequence))
            branch.size_bytes += records.stored_bytes(transaction, loaded)
        for name, branch in waiting.items():
            branch.newest, commit = _newest_exported(transaction, name, held.get(name))
            branch.refs[f"refs/heads/{name}"] = commit.hex()
    return waiting, damaged, after


def _leave_prompts(repository: GitRepository, prompts: PromptTags, waiting: Mapping[str, _Branch]) -> None:
    """Leave out the prompt tags that another store has made before, and that the runs went into git without."""
    tags = [tag for branch in waiting.values() for tag in branch.refs.items() if is_prompt_tag(tag[0])]
    others = prompts.others(tags, read_refs(repository, (name for name, _ in tags)))
    for branch in waiting.values() if others else ():
        branch.refs = {name: oid for name, oid in branch.refs.items() if name not in others}


def _guard(
    store: ArtifactStore,
    repository: GitRepository,
    remote: str,
    archive: Archive,
    summary: ExportSummary,
    waiting: dict[str, _Branch],
) -> None:
    """Take out what would bring purged content back to a remote that has got rid of it."""
    heads = {name: branch.newest for name, branch in waiting.items() if f"refs/heads/{name}" in branch.refs}
    guarded = find_guarded(store, heads)
    if not guarded:
        return
    try:
        gone = lacking(store, repository, archive, repository.push_url(remote), guarded)
    except GitCommandFailedError as error:
        summary.warn(f"the remote could not be asked for what was purged: {error.message}")
        for name in guarded:
            del waiting[name]  # it waits
        return
    for name in sorted(gone):
        above = [sequence for sequence in waiting.pop(name).sequences if sequence > guarded[name][0]]
        purge.hold_above(store.environment, above, store.now_us())
        summary.fail(name, name, f"a purged file of {guarded[name][1][:12]} is not at the remote any more")


def _replace_archived(
    repository: GitRepository, archive: Archive, waiting: dict[str, _Branch]
) -> dict[int, str]:
    """Let the archive go to the remote in the place of refs that were rolled up into it before they were pushed.

    Returns:
        What cannot go, as the archive must not, with the reason; it does not wait any more.
    """
    if archive.tip is None:
        return {}
    standing = read_refs(repository, (name for branch in waiting.values() for name in branch.refs))
    stuck: dict[int, str] = {}
    for short_name, branch in list(waiting.items()):
        gone = branch.refs.keys() - standing.keys()
        head = archive.head_of(short_name) if gone else None
        if head is None:
            continue
        held = {name for name in gone if branch.sequence_of(name) <= head[0]}
        why_not = archive.not_to_be_pushed() if held else None
        if why_not is not None:
            stuck |= dict.fromkeys(branch.sequences, why_not)
            del waiting[short_name]
            continue
        branch.refs = {name: oid for name, oid in branch.refs.items() if name not in held}
        if held:
            branch.refs[archive.ref] = archive.tip
    return stuck


def _take_lost(repository: GitRepository, waiting: dict[str, _Branch]) -> dict[int, str]:
    """Take out the branches of which git has lost a ref with its object, as no push of them can succeed.

    Returns:
        What does not wait any more, with the reason.
    """
    standing = read_refs(repository, (name for branch in waiting.values() for name in branch.refs))
    gone = {
        oid: (short_name, name)
        for short_name, branch in waiting.items()
        for name, oid in branch.refs.items()
        if standing.get(name) != oid
    }
    lost: dict[int, str] = {}
    for oid, (kind, _) in repository.peel(gone).items() if gone else ():
        short_name, name = gone[oid]
        if kind == "missing" and short_name in waiting:
            reason = (
                f"{name} is gone from the repository, and so is its object {oid[:12]}: `cas export --rebuild` writes "
                "them again, and pushes"
            )
            lost |= dict.fromkeys(waiting.pop(short_name).sequences, reason)
    return lost


def _park(store: ArtifactStore, summary: ExportSummary, aside: Mapping[int, str]) -> None:
    """Set aside what cannot be pushed as things are, so that it keeps no other run from the remote."""
    if not aside:
        return
    now_us = store.now_us()
    with store.environment.write() as transaction:
        for sequence, reason in aside.items():
            outbox.record_failure(transaction, sequence, reason=reason, now_us=now_us, park=True)
    for sequence, reason in aside.items():
        summary.fail(f"manifest {sequence}", "", reason)


def _newest_exported(transaction: ReadTransaction, branch: str, held: int | None) -> tuple[int, bytes]:
    """Return sequence and commit of the newest step of a branch that is in git and may go out: none from `held` on."""
    for sequence in catalog.branch_sequences(transaction, branch):
        if held is not None and sequence >= held:
            continue
        with contextlib.suppress(IntegrityError):  # damaged: those below it can be pushed without it
            if outbox.get_receipt(transaction, sequence) is not None:
                return sequence, records.load(transaction, sequence)[1].commit_oid
    raise AssertionError(f"{branch} waits for a push and was never exported")


def _queue_lost(
    store: ArtifactStore,
    repository: GitRepository,
    remote: str,
    archive: Archive,
    summary: ExportSummary,
) -> None:
    """Queue again what was pushed and the remote does not show; a remote that does not answer changes nothing."""
    try:
        shown = repository.list_remote_refs(repository.push_url(remote), timeout_s=store.config.push_timeout)
    except GitCommandFailedError as error:
        summary.warn(f"the remote could not be compared: {error.message}")
        return
    prompts = PromptTags(store, repository)
    after = 0
    at = archive.position(shown.get(archive.ref))
    while True:
        lacking: dict[int, dict[str, str]] = {}
        with store.environment.read() as transaction:
            batch = list(itertools.islice(outbox.iter_receipts(transaction, after=after), _ROUND_RUNS))
            for sequence in batch:
                with contextlib.suppress(
                    IntegrityError
                ):  # damaged: `cas verify` names it, and it cannot be pushed
                    lacking[sequence] = _lacking(transaction, sequence, shown, archive, at)
        tags = [tag for refs in lacking.values() for tag in refs.items() if is_prompt_tag(tag[0])]
        others = (
            prompts.others(tags, read_refs(repository, (name for name, _ in tags))) if tags else set[str]()
        )
        lost = [sequence for sequence, refs in lacking.items() if refs.keys() - others]
        if lost:
            with store.environment.write() as transaction:
                for sequence in lost:
                    outbox.requeue_push(transaction, sequence)
                purge.hold_returned(transaction, lost, store.now_us())
        if not batch:
            return
        after = batch[-1]


def _lacking(
    transaction: ReadTransaction, sequence: int, shown: Mapping[str, str], archive: Archive, at: int | None
) -> dict[str, str]:
    """Return the refs of a pushed run, by name, that the remote does not show and has not in its archive either."""
    receipt = outbox.get_receipt(transaction, sequence)
    if receipt is None or not receipt.pushed_at_us or outbox.find_entry(transaction, sequence) is not None:
        return {}  # what waits in the outbox is pushed in any case
    loaded, row = records.load(transaction, sequence)
    tags = {f"refs/tags/{name}": oid.hex() for name, oid in row.tags}
    lacking = {name: oid for name, oid in tags.items() if shown.get(name) != oid}
    branch = f"refs/heads/{loaded.branch}"
    tip = shown.get(branch)
    known = None if tip is None else records.find_commit(transaction, bytes.fromhex(tip))
    # A tip that the store does not know was put there by somebody else, on top of ours as far as can be told.
    if tip is None or (known is not None and known < sequence):
        lacking[branch] = row.commit_oid.hex()
    head = archive.head_of(loaded.branch, at) if lacking and at is not None else None
    return lacking if head is None or sequence > head[0] else {}


def _with_way_out(reason: str) -> str:
    """Return a refusal with what to do about a prompt tag that the remote has already."""
    tag = _OTHERS_PROMPT.search(reason)
    if tag is None:
        return reason
    return (
        f"{reason}; if another store made it, `git fetch --force REMOTE tag {tag[1]}` takes it over here, and "
        "`cas export --retry-parked` pushes the run without its own"
    )


class _Recorder:
    """Writes outcomes to the store as they come; owned by the thread that pushes."""

    def __init__(
        self,
        store: ArtifactStore,
        summary: ExportSummary,
        waiting: Mapping[str, _Branch],
        progress: Callable[[str, int, int], None] | None,
        settled_count: int,
        total_count: int,
    ) -> None:
        self.settled_count = settled_count
        self._store = store
        self._summary = summary
        self._waiting = waiting
        self._progress = progress
        self._total_count = total_count
        self._outcomes: list[tuple[str, GroupOutcome]] = []

    def settle(self, group: RefGroup[str], outcome: GroupOutcome) -> None:
        """Take the outcome of one group; one that was not tried stays as it was, and counts as no failure."""
        if not outcome.tried:
            return
        self._outcomes.append((group.key, dataclasses.replace(outcome, reason=_with_way_out(outcome.reason))))
        self.settled_count += len(self._waiting[group.key].sequences)
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
                self._summary.fail(branch, branch, outcome.reason[:_MAX_REASON_CHARS])
        self._outcomes.clear()
        self._store.environment.release_pages()
        if self._progress is not None:
            self._progress("push", self.settled_count, max(self.settled_count, self._total_count))

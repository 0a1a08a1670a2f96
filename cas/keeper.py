"""The keeping half of a store: pins, forgetting, garbage collection, healing, backups.

Invariant: nothing that is acknowledged goes unless it was forgotten before, by name or by a policy that gave a reason.
Thin: the work is done by `cas.retention`, `cas.gc`, `cas.heal` and `cas.backup`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from cas import backup, check, gc, heal, intake, marks, predicate, query, repair, retention, rollback
from cas.arguments import (
    check_callable,
    check_instance,
    check_list,
    check_progress,
    check_share,
    check_threads,
    check_whole,
)
from cas.destination import folder_path
from cas.errors import InvalidInputError, SecretDetectedError
from cas.gc import DEFAULT_DEAD_SHARE
from cas.lmdbenv import mending
from cas.meter import Meter, meter_of
from cas.reader import StoreReader
from cas.retention import RetentionPolicy
from cas.silence import silent

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from cas.heal import Healing, Wanted
    from cas.meta import StoreMeta
    from cas.records import Record


class StoreKeeper(StoreReader):
    """What is done to an open store to keep it; thread-safe."""

    meta: StoreMeta

    @functools.cached_property
    def _gate(self) -> intake.Gate:
        return intake.Gate.build(self.config, self._scanner, self.meta.object_format)

    @property
    def _meter(self) -> Meter:
        return meter_of(self.environment)

    def flush_metrics(self) -> bool:
        """Write what this process has counted and no commit has taken along yet; tell whether there was anything.

        Closing a store does the same. A service that may commit nothing for long calls it now and then.

        Raises:
            StorageError: The disk refused; the counts go on waiting.
        """
        if self.environment.read_only:
            return False
        return self._meter.flush(self.config.metrics_keep_days)

    @silent
    def pin(self, ref: str, *, note: str | None = None) -> Record:
        """Keep a run from being forgotten, whatever a policy says; durable on return.

        Args:
            ref: Which run; see `show`.
            note: Why; a second pin replaces it.

        Returns:
            The run's record.

        Raises:
            NotFoundError: No such run.
            InvalidInputError: It is a rollback, or the note cannot be kept.
            SecretDetectedError: The note holds a credential.
        """
        note = self._checked_note(note)
        with self.environment.write() as transaction:
            sequence = query.resolve(transaction, ref)
            retention.pin(transaction, sequence, now_us=self.now_us(), note=note)
        return self.show(ref)

    @silent
    def unpin(self, ref: str) -> bool:
        """Take the pin off a run; tell whether there was one.

        Raises:
            NotFoundError: No such run.
        """
        with self.environment.write() as transaction:
            return marks.lift_pin(transaction, query.resolve(transaction, ref))

    def list_pins(self) -> list[Record]:
        """Return the pinned runs, newest run first, each with ``pinned_at`` and ``note``."""
        with self.environment.read() as transaction:
            return [retention.pinned_record(transaction, *found) for found in marks.iter_pins(transaction)][
                ::-1
            ]

    @silent
    def forget(
        self,
        refs: Sequence[str] = (),
        *,
        policy: RetentionPolicy | None = None,
        workflow_id: str | None = None,
        where: str | None = None,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> list[Record]:
        """Forget runs, by name or by policy; `undelete` brings them back until `gc` has removed their files.

        Nothing is forgotten that is pinned, not in git yet, or stood on by a rollback that is a branch's newest commit.
        A forgotten run keeps its commit id, its place in the branch and its tags in git.

        Args:
            refs: Runs to forget by name, see `show`; given these, no policy is applied.
            policy: What to keep; every other run looked at is forgotten.
            workflow_id: Look at runs of this workflow only; others stay.
            where: Look at runs that satisfy this predicate only; others stay.
            reason: Noted with each forgotten run; None notes the plan's own.
            dry_run: Only say what would be done.

        Returns:
            For each run looked at, newest first: ``correlation_id, revision, action`` (``keep`` or ``forget``) and
            ``reason``.

        Raises:
            InvalidInputError: Neither runs nor a policy are given, a named one is a rollback, or the reason cannot be
                kept; `QueryError` for a predicate that cannot be parsed.
            NotFoundError: A named run is not there.
            SecretDetectedError: The reason holds a credential.
        """
        note = self._checked_note(reason)
        selection = query.Selection(
            workflow_id=workflow_id, where=None if where is None else predicate.parse(where)
        )
        guard, decisions = self._decide(refs, policy, selection)
        if not dry_run:
            decisions = retention.carry_out(
                self.environment, guard, decisions, now_us=self.now_us(), reason=note
            )
        return [decision.as_dict() for decision in decisions]

    def _decide(
        self, refs: Sequence[str], policy: RetentionPolicy | None, selection: query.Selection
    ) -> tuple[retention.Guard, list[retention.Decision]]:
        check_list(refs, "refs", "names")  # the letters of a text may well be names of other runs
        with self.environment.read() as transaction:
            guard = retention.Guard(transaction)
            if refs:
                named = [query.resolve(transaction, ref) for ref in refs]
                return guard, retention.plan_named(transaction, guard, named)
            if policy is None:
                raise InvalidInputError("name the runs to forget, or give a policy")
            check_instance(policy, RetentionPolicy, "policy")
            chosen = query.select(transaction, selection)
            return guard, retention.plan(transaction, guard, policy, chosen, self.now_us())

    @silent
    def undelete(self, ref: str) -> Record:
        """Bring back a forgotten run, ids and all; durable on return.

        Args:
            ref: Its tag, correlation ID (its newest forgotten revision), or the beginning of its commit id.

        Returns:
            The run's record.

        Raises:
            NotFoundError: No such run, or its files were removed by `gc`.
            InvalidInputError: It was not forgotten.
        """
        with self.environment.write() as transaction:
            sequence = query.resolve_forgotten(transaction, ref)
            retention.undelete(transaction, sequence, ref)
        with self.environment.read() as transaction:
            return retention.forgotten_record(transaction, sequence)

    def list_forgotten(self, limit: int = 50) -> list[Record]:
        """Return forgotten runs, newest first, with ``forgotten_at``, ``forgotten_because`` and ``can_undelete``.

        Raises:
            InvalidInputError: ``limit`` is no whole number.
        """
        check_whole(limit, "limit")
        with self.environment.read() as transaction:
            numbers = [sequence for sequence, _ in marks.iter_forgotten(transaction)]
            return [
                retention.forgotten_record(transaction, sequence)
                for sequence in numbers[::-1][: max(limit, 0)]
            ]

    @silent
    def gc(
        self,
        *,
        policy: RetentionPolicy | None = None,
        dry_run: bool = False,
        dead_share: float = DEFAULT_DEAD_SHARE,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Record:
        """Remove the files of forgotten runs and whatever else nothing references; readers and writers go on.

        Exact at any moment: it may be killed, run beside commits that reuse what it is about to remove, and repeated.
        The room is reused inside the store file; `cas.compact_store` makes the file smaller.

        Args:
            policy: Forget by this policy first; see `forget`.
            dry_run: Only count, and say what the policy would forget.
            dead_share: Rewrite segments with at least this share of dead bytes, above 0 up to 1.
            progress: Called with phase, items done, items in all.

        Returns:
            ``dry_run, collected_runs, waiting_runs, blobs, segments, joined_segments, uploads, freed_bytes``; with a
            policy ``runs`` as well, what `forget` returns.

        Raises:
            InvalidInputError: ``dead_share`` is out of range.
            StateError: Another collection is at work.
            IntegrityError: A row is damaged; `verify` and `heal` first.
        """
        check_share(dead_share, "dead_share")
        check_progress(progress)
        decisions: list[retention.Decision] = []
        if policy is not None:
            guard, decisions = self._decide((), policy, query.Selection())
            if not dry_run:
                decisions = retention.carry_out(
                    self.environment, guard, decisions, now_us=self.now_us(), reason=None
                )
        done = gc.collect(
            self.environment,
            now_us=self.now_us(),
            dry_run=dry_run,
            as_if_forgotten={decision.sequence for decision in decisions if not decision.keep},
            dead_share=dead_share,
            progress=progress,
        )
        runs = {} if policy is None else {"runs": [decision.as_dict() for decision in decisions]}
        return {**done.as_dict(), **runs}

    @silent
    def heal(
        self,
        sources: Sequence[Callable[[Wanted], Iterable[bytes] | None]] = (),
        *,
        threads: int | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Healing:
        """Look at every blob, quarantine damaged ones, and bring back what the sources have; then mend the catalog.

        Without any source the damaged ones are quarantined only, so that the next identical file takes their place.
        Works also in a store that an earlier failed write has marked suspect; a complete `verify` lifts the mark then.

        Args:
            sources: Such as ``cas.heal.store_source(other.environment)`` and
                ``gitexport.healing.git_source(repository)``; a typed error of one or an OSError means it has nothing.
            threads: How many read at the same time.
            progress: Called with phase, items done, items in all.

        Returns:
            What was ``damaged``, ``healed``, ``lifted`` from quarantine and ``lost``, and rows of the catalog
            ``repaired``.

        Raises:
            InvalidInputError: An argument is of another kind, or out of range; ``subject`` names it.
            IntegrityError: A manifest is damaged; restore a backup.
        """
        check_list(sources, "sources", "functions")
        for source in sources:
            check_callable(source, "sources")
        check_threads(threads)
        check_progress(progress)
        environment = self.environment
        if environment.suspect_mark() is not None:
            environment.drop_cached()  # the damage of a failed write is on the disk, and not in memory
        with mending(environment.directory):
            done = heal.heal(environment, sources, threads=threads, progress=progress)
            mended = repair.repair_catalog(environment)
        done.repaired = mended.written + mended.removed
        return done

    @silent
    def backup(
        self,
        directory: str | os.PathLike[str],
        *,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Record:
        """Write a consistent, verified copy of the store into a new folder while writers go on; durable on return.

        Args:
            directory: Must not exist, or be empty.
            progress: Called with phase, items verified, items in all, once the copy is made.

        Returns:
            ``directory, runs, blobs, bytes``.

        Raises:
            InvalidFileError: The folder lies in the store's, or cannot be made.
            StorageError: The folder is in the way, or a disk refused; nothing is left there.
            IntegrityError: The copy does not verify: the store itself is damaged.
        """
        check_progress(progress)
        verify = functools.partial(check.verify, progress=progress)
        return backup.back_up(self.environment, folder_path(directory), verify)

    def _checked_note(self, note: str | None) -> str | None:
        """Return a note that may be stored; it passes the secret gate like all text.

        Raises:
            SecretDetectedError: It holds a credential.
        """
        checked = rollback.check_reason(note)
        self._refuse_secrets("note", checked)
        return checked

    def _refuse_secrets(self, name: str, text: str | None) -> None:
        if text is not None and self._scanner is not None:
            findings = self._scanner.scan(text.encode(errors="replace"), name)
            if findings:
                raise SecretDetectedError(findings)

"""The reading half of a store: lists, lookups, files, history, export state, checks.

Invariant: nothing here changes what the store holds; every byte of content handed out was checked against its digest.
A complete `verify` lifts the mark of an earlier failed write, which lies beside the store file.
"""

from __future__ import annotations

import functools
import itertools
import sys
from typing import TYPE_CHECKING, Final, Literal

from cas import (
    blobs,
    catalog,
    check,
    checkout,
    diff,
    intake,
    manifest,
    marks,
    names,
    ordering,
    outbox,
    predicate,
    query,
    records,
)
from cas.arguments import check_progress, check_seconds, check_share, check_threads, check_whole
from cas.destination import folder_path
from cas.errors import InvalidInputError, NotFoundError, QueryError, StateError
from cas.manifest import RunManifest
from cas.ordering import Order
from cas.silence import silent, silent_iterator
from cas.stats import collect

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from cas.blobs import Blob
    from cas.check import Report
    from cas.config import ArtifactStoreConfig
    from cas.lmdbenv import Environment
    from cas.outbox import Status
    from cas.query import Moment
    from cas.records import Record
    from cas.secretscan import SecretScanner

_NANOSECONDS_PER_MICROSECOND: Final = 1000
_MAX_LIST_LIMIT: Final = 1_000_000


class StoreReader:
    """What can be asked of an open store; thread-safe, each call reads one snapshot."""

    config: ArtifactStoreConfig
    _environment: Environment
    _clock: Callable[[], int]
    _closed: bool

    @functools.cached_property
    def _scanner(self) -> SecretScanner | None:
        """The scanner, made when it is first needed (60 ms): who reads or exports needs none."""
        return intake.build_scanner(self.config)

    @property
    def secret_scanner(self) -> SecretScanner | None:
        """The scanner of the secret gate, None when scanning is off."""
        return self._scanner

    @property
    def environment(self) -> Environment:
        """The open database, for the exporter and for checks; tables are changed through their modules only."""
        self._check_open()
        return self._environment

    def now_us(self) -> int:
        """Return the store's clock in microseconds since the epoch, never negative: git has no such dates."""
        return max(0, self._clock() // _NANOSECONDS_PER_MICROSECOND)

    def _check_open(self) -> None:
        if self._closed:
            raise StateError("the store is closed", hint="Open a new ArtifactStore.")

    @silent
    def list_artifacts(  # noqa: PLR0913  each narrows or orders the list, and all but two are keywords
        self,
        workflow_id: str | None = None,
        limit: int = 50,
        *,
        task_id: str | None = None,
        prompt_hash: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        where: str | None = None,
        offset: int = 0,
        sort: str | None = None,
        ascending: bool = False,
        after: str | None = None,
    ) -> list[Record]:
        """Return runs, newest first unless told otherwise; cost grows with ``limit``, not with the store.

        By a value that has no index (``indexed_metrics``), each run that the other words leave is looked at.

        Args:
            workflow_id: Only runs of this workflow.
            limit: Most runs to return.
            task_id: Only runs of this task.
            prompt_hash: Only runs made from this prompt.
            since: Only runs committed at this time or later.
            until: Only runs committed before this time.
            where: A predicate over metrics and metadata, such as ``net_pnl > 100 and win_rate >= 0.5``.
            offset: How many matching runs to skip.
            sort: A metric or metadata value, named as in ``where``; the greatest comes first, then texts, then runs
                without it, equal ones newest first. None or ``time`` is the order of commits.
            ascending: The other way round; runs without the value still come last.
            after: Go on behind this run, such as the ``commit_sha`` of the last one of the page before. Unlike
                ``offset``, pages stay apart while runs are added or forgotten.

        Raises:
            QueryError: ``where`` cannot be parsed; ``position`` says where.
            InvalidInputError: A time or a number is out of range, or ``after`` is a rollback.
            NotFoundError: ``after`` points at nothing.
        """
        for name, value in (("limit", limit), ("offset", offset)):
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_LIST_LIMIT:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidInputError(
                    f"{name} must be a whole number from 0 to {_MAX_LIST_LIMIT}", subject=name
                )
        if limit == 0:
            return []
        if where is not None and not isinstance(where, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise QueryError(f"where must be text, not {type(where).__name__}")
        parsed = None if where is None or not where.strip() else predicate.parse(where)
        selection = query.Selection(
            workflow_id=workflow_id,
            task_id=task_id,
            prompt_hash=prompt_hash,
            since_us=None if since is None else query.moment_us(since),
            until_us=None if until is None else query.moment_us(until),
            where=parsed,
        )
        if sort is not None and sort != ordering.BY_COMMIT:
            names.check_id(sort, "sort")
        order = Order(None if sort == ordering.BY_COMMIT else sort, ascending, after)
        with self.environment.read() as transaction:
            return ordering.list_runs(transaction, selection, order, offset=offset, limit=limit)

    @silent
    def get_artifact_by_correlation_id(
        self, correlation_id: str, *, revision: int | None = None
    ) -> Record | None:
        """Return a run's newest revision, or the one asked for; None when there is none.

        Args:
            correlation_id: With or without the ``corr_`` prefix.
            revision: A revision number; None means the newest.

        Raises:
            InvalidInputError: The revision is no whole number.
        """
        sequence = self._find_run(correlation_id, revision)
        with self.environment.read() as transaction:
            if sequence is None or marks.is_hidden(transaction, sequence):
                return None
            return records.run_record(transaction, sequence)

    def _find_run(self, correlation_id: str, revision: int | None = None) -> int | None:
        if not correlation_id:
            return None
        with self.environment.read() as transaction:
            if revision is not None:
                check_whole(revision, "revision")
                return catalog.find_revision(transaction, correlation_id, revision)
            return query.newest_revision(transaction, correlation_id)

    @silent
    def show(self, ref: str) -> Record:
        """Return the record of what a word points at: a run, or a rollback's step of history.

        Args:
            ref: ``latest``, ``latest~N``, a tag, branch, correlation ID, or the beginning of a commit or manifest id.

        Raises:
            NotFoundError: Nothing is called that, or the run was forgotten.
            InvalidInputError: More than one id begins so.
        """
        with self.environment.read() as transaction:
            sequence = query.resolve(transaction, ref)
            loaded, _ = records.load(transaction, sequence)
            if isinstance(loaded, RunManifest):
                return records.run_record(transaction, sequence)
            return records.history_record(transaction, sequence)

    @silent
    def list_files(self, ref: str) -> list[Record]:
        """Return name, size, digest and git oid of each file of a run; for a rollback, of the run it went back to.

        Raises:
            NotFoundError: No such run.
        """
        return [
            {
                "name": entry.name,
                "size_bytes": entry.size_bytes,
                "digest": entry.digest.hex(),
                "oid": entry.oid.hex(),
            }
            for entry in self._run(ref).files
        ]

    def _run(self, ref: str) -> RunManifest:
        with self.environment.read() as transaction:
            loaded, row = records.load(transaction, query.resolve(transaction, ref))
            if isinstance(loaded, RunManifest):
                return loaded
            source = records.find_commit(transaction, loaded.source)
            if source is None:
                raise NotFoundError(
                    f"the run that {row.commit_oid.hex()[:12]} went back to is gone", subject=ref
                )
            return records.load_run(transaction, source)[0]

    @silent
    def read_file(self, ref: str, name: str) -> bytes:
        """Return one file's content, checked against its digest; it is held in memory whole.

        Args:
            ref: Which run; see `show`.
            name: The file's name in the run; ``metadata.json`` is the generated one.

        Raises:
            NotFoundError: No such run or file.
            IntegrityError: The stored bytes are damaged.
        """
        return b"".join(self.iter_file(ref, name))

    @silent_iterator
    def iter_file(self, ref: str, name: str) -> Iterator[bytes]:
        """Yield one file's content in chunks; it counts only once the iterator ended without an error.

        Raises:
            NotFoundError: No such run or file; told at the first chunk.
            IntegrityError: The stored bytes are damaged.
        """
        run = self._run(ref)
        if name == names.METADATA_NAME and run.with_metadata_file:
            yield manifest.metadata_file_bytes(run)
            return
        yield from blobs.iter_content(self.environment, self._file_blob(run, name))

    def _file_blob(self, run: RunManifest, name: str) -> Blob:
        for entry in run.files:
            if entry.name == name:
                with self.environment.read() as transaction:
                    return blobs.require(transaction, entry.digest)
        known = ", ".join(entry.name for entry in run.files)
        raise NotFoundError(
            f"{run.correlation_id} has no file {name!r}", subject=name, hint=f"It has {known}."
        )

    @silent
    def checkout(
        self,
        ref: str,
        directory: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        sync: bool = True,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> list[str]:
        """Write a run's files into a new folder, all verified, or leave the folder as it was.

        On return the folder is durable; a power cut before leaves the old state or the new one, never half of it. While
        a filled folder is replaced, the old one has for a moment only a hidden name beside it (``.NAME.….old``).

        Args:
            ref: Which run; see `show`. For a rollback, the run it went back to.
            directory: Must not exist, or be empty, unless ``overwrite``.
            overwrite: Replace what the folder holds, unless that is the store, a git repository or the current folder.
            sync: False does not wait for the disk, which saves most of the time for many small runs; a power cut in
                the next half minute may then leave a folder with empty files.
            progress: Called with phase, files written, files in all.

        Returns:
            The names written.

        Raises:
            NotFoundError: No such run.
            InvalidFileError: The folder is in the way.
            IntegrityError: A blob is damaged.
            StorageError: The disk of the folder refused; the folder is as it was.
        """
        check_progress(progress)
        return checkout.check_out(
            self.environment,
            self._run(ref),
            folder_path(directory),
            self.config.repo_path,
            overwrite=overwrite,
            sync=sync,
            progress=progress,
        )

    @silent
    def diff(self, left: str, right: str) -> Record:
        """Return what differs between two runs, as JSON-able data of bounded size.

        Args:
            left: One run; see `show`. For a rollback, the run it went back to.
            right: The other one.

        Returns:
            ``left, right, identical, added, removed, changed, metrics, metadata``; a changed CSV file has the first
            diverging row under ``table``, a changed text a unified diff under ``text``.

        Raises:
            NotFoundError: No such run.
            IntegrityError: A file that differs is damaged.
        """
        return diff.diff_runs(self.environment, self._run(left), self._run(right))

    @silent
    def history(self, branch: str, limit: int = 50) -> list[Record]:
        """Return the commits and rollbacks of a branch, newest first; forgotten ones are left out.

        Raises:
            NotFoundError: The store has no such branch.
            InvalidInputError: ``limit`` is no whole number.
        """
        names.check_id(branch, "branch")
        check_whole(limit, "limit")
        with self.environment.read() as transaction:
            hidden = marks.Hidden(transaction)
            shown = (n for n in catalog.branch_sequences(transaction, branch) if n not in hidden)
            found = [
                records.history_record(transaction, sequence)
                for sequence in itertools.islice(shown, min(max(limit, 0), sys.maxsize))
            ]
            known = catalog.branch_head(transaction, branch) is not None
        if not known:
            raise NotFoundError(
                f"the store has no branch {branch!r}", subject=branch, hint="`cas list` shows branches."
            )
        return found

    @silent
    def export_status(self, correlation_id: str, *, revision: int | None = None) -> Record:
        """Return how far a run's export is: ``export_state, pushed, exported_at, pushed_at, attempts, reason``.

        Raises:
            NotFoundError: No such run.
        """
        return records.status_record(self._status(correlation_id, revision))

    def _status(self, correlation_id: str, revision: int | None) -> Status:
        sequence = self._find_run(correlation_id, revision)
        if sequence is None:
            raise NotFoundError(f"there is no run {correlation_id!r}", subject=correlation_id)
        with self.environment.read() as transaction:
            return outbox.status(transaction, sequence)

    @silent
    def wait_for_export(
        self,
        correlation_id: str,
        timeout: float | None = None,
        *,
        state: Literal["exported", "pushed"] | None = None,
    ) -> Record:
        """Wait until a run is in git, or on the remote; another process may be the one that exports.

        Args:
            correlation_id: Which run, newest revision.
            timeout: Seconds to wait; None waits without a limit.
            state: What to wait for; None means ``pushed`` when the configuration pushes, else ``exported``.

        Returns:
            As `export_status`; a parked run is returned at once.

        Raises:
            NotFoundError: No such run.
            InvalidInputError: ``timeout`` is no number, or ``state`` none of the two.
            WaitTimeoutError: The state was not reached in time.
        """
        wanted = state or ("pushed" if self.config.auto_push else "exported")
        status = outbox.wait(lambda: self._status(correlation_id, None), wanted, timeout, correlation_id)
        return records.status_record(status)

    def verify(
        self,
        *,
        sample: float = 1.0,
        max_duration_s: float | None = None,
        seed: int = 0,
        threads: int | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Report:
        """Check every invariant of the format; writers may go on meanwhile.

        In a store that an earlier failed write has marked suspect, a complete check reads past the system's cache, and
        lifts the mark when no MUST is broken.

        Args:
            sample: Share of blobs and manifests to read, above 0 up to 1.
            max_duration_s: Stop after about this many seconds.
            seed: Seed of the sample.
            threads: How many read at the same time; None for as many as there are processors, up to four.
            progress: Called with phase, items done, items in all.

        Returns:
            The report; ``report.ok`` tells whether nothing was found.

        Raises:
            InvalidInputError: An argument is of another kind, or out of range; ``subject`` names it.
            StorageError: The disk refused to have the mark lifted.
        """
        check_share(sample, "sample")
        check_seconds(max_duration_s, "max_duration_s")
        check_whole(seed, "seed")
        check_threads(threads)
        check_progress(progress)
        mark = self.environment.suspect_mark()
        if mark is not None:
            self.environment.drop_cached()
        report = check.verify(
            self.environment,
            sample=sample,
            max_duration_s=max_duration_s,
            seed=seed,
            threads=threads,
            progress=progress,
        )
        is_sound = report.complete and all(fault.level != "must" for fault in report.faults)
        if mark is not None and is_sound and mark == self.environment.suspect_mark():
            self.environment.clear_suspect()
            report.mark_lifted = True
        return report

    def stats(self) -> Record:
        """Return sizes and counts: runs, blobs, raw and stored bytes, file bytes, export backlog."""
        return collect(self.environment, self.now_us())

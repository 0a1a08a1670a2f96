"""ArtifactStore: joins the tables behind the public calls; one write transaction per call.

Invariant: a public call either returns a result that is durable as configured, or raises a typed error and leaves the
store as it was. Starts no process and opens no socket. It must not know how an export works.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Self, cast

from cas import (
    commit,
    indexes,
    intake,
    manifest,
    metrics,
    names,
    purge,
    records,
    rescan,
)
from cas.arguments import check_callable, check_config, check_progress
from cas.artifactwriter import ArtifactWriter
from cas.config import ArtifactStoreConfig, anchored
from cas.errors import (
    ArtifactStoreError,
    InvalidIdError,
    InvalidInputError,
    SecretDetectedError,
    StateError,
    StorageError,
)
from cas.lmdbenv import close_environment, create_environment, is_store, open_environment
from cas.meta import new_meta, read_meta
from cas.readprogress import reading_counter
from cas.reverter import BranchReverter
from cas.silence import refusal, shown, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from cas.gitreader import GitReader
    from cas.groupcommit import GroupCommit
    from cas.intake import Files, RunArguments
    from cas.lmdbenv import WriteTransaction
    from cas.records import Record
    from cas.rescan import RescanReport
    from cas.secretscan import SecretScanner


class ArtifactStore(BranchReverter):
    """A content-addressed store of backtest runs whose git commit ids are known at once.

    Thread-safe. May be used by many processes at once, each with an object of its own; an object inherited through
    ``fork`` reopens itself. Objects cannot be pickled: pass the config, and build one per worker.

    Args:
        config: Settings; None means the defaults, with the current folder as repository.
        clock: Nanoseconds since the epoch, for timestamps; injected in tests.
        git_reader: Reads tips of branches that only git knows; None means the installed one.
        read_only: Open for reading; the store must exist.
        create: Make the store when there is none; False raises instead.

    Raises:
        ConfigError: A setting is unusable.
        StorageError: The store cannot be made, opened or understood.
        StateError: Another process has been compacting it for longer than ``open_timeout``, or this one has it open
            with another durability, or for writing where it is to be opened for reading only, or the other way round.
    """

    def __init__(
        self,
        config: ArtifactStoreConfig | None = None,
        *,
        clock: Callable[[], int] = time.time_ns,
        git_reader: GitReader | None = None,
        read_only: bool = False,
        create: bool = True,
    ) -> None:
        config = ArtifactStoreConfig() if config is None else config
        check_config(config)
        check_callable(clock, "clock")
        self.config = anchored(config)
        self._clock = clock
        self._git_reader = git_reader
        self._closed = False
        if self.config.secret_patterns or self.config.secret_ignore or self.config.secret_baseline:
            self._scanner = intake.build_scanner(self.config)  # what is unusable in them is told now
        self._signer = commit.open_signer(self.config)
        directory = self.config.store_dir
        if create and not read_only and not is_store(directory):
            create_environment(directory, new_meta(self.config.object_format, clock()))
        self._environment = open_environment(
            directory,
            map_size_bytes=self.config.map_size_bytes,
            durability=self.config.durability,
            read_only=read_only,
            open_timeout_s=self.config.open_timeout,
        )
        self._held = [self._environment]  # until it is given back
        try:
            with self._environment.read() as transaction:
                self.meta = read_meta(transaction)
        except BaseException:
            close_environment(self._environment)
            raise
        if self.config.indexed_metrics and not read_only:
            self._make_indexes()

    def _make_indexes(self) -> None:
        """Make indexes that the configuration asks for; one that cannot be made now is only missed by queries."""
        with contextlib.suppress(StorageError):
            indexes.ensure(self._environment, self.config.indexed_metrics)

    def warm_up(self) -> None:
        """Compile the secret rules now (about half a second, once per process) instead of during the first commits."""
        if self._scanner is not None:
            self._scanner.warm()

    def close(self) -> None:
        """Give the store back; a second call does nothing. Counts that wait are written, if that is possible.

        A call that another thread is in the middle of ends well, or is refused as a call on a closed store.
        """
        if self._closed:
            return
        with contextlib.suppress(ArtifactStoreError):
            self.flush_metrics()
        self._closed = True
        try:
            environment = self._held.pop()
        except IndexError:  # another thread closes it at the same moment
            return
        close_environment(environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<ArtifactStore {str(self.config.store_dir)!r} {state}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise StateError(
            "an ArtifactStore cannot be pickled", hint="Pass its config and open one in each process."
        )

    @silent
    def commit_artifacts(
        self,
        workflow_id: str,
        task_id: str,
        files: Files,
        metadata: Mapping[str, object] | None = None,
        correlation_id: str | None = None,
        prompt_hash: str | None = None,
        *,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Record:
        """Store one run; on return it is durable, and its git commit id is known.

        The same call again (same correlation ID and content) returns the same result and stores nothing. Other content
        under the same correlation ID becomes the next revision. Starts no process and opens no socket.

        Args:
            workflow_id: Any text; the middle part of the branch name.
            task_id: Any text; the last part of the branch name.
            files: Paths, each stored under its last part; or a mapping of name to path or bytes. Names are relative
                POSIX paths. Each file is read once; at most ``max_files``, each at most ``max_file_bytes`` bytes.
            metadata: A mapping of JSON values; ``agent_version``, ``llm_version`` and ``test_metrics`` can be queried.
            correlation_id: Any text, with or without ``corr_``; may be None only when the configuration allows it.
            prompt_hash: Any text; its first 12 characters name the prompt tag.
            progress: Called with phase, bytes read, bytes to read in all; a new file above 16 MiB is read twice.

        Returns:
            ``success, branch, commit_sha, tags, pushed, error, files, workflow_id, task_id, correlation_id,
            prompt_hash, revision, manifest_id, export_state``.

        Raises:
            SecretDetectedError: The gate found a credential; also with ``raise_errors`` False.
            InvalidInputError: An ID, a name, a file or the metadata is refused; its subclass and subject say which.
            StorageError: The disk refused; nothing of the run is stored.
        """
        try:
            with self._meter.failures(self.now_us):
                return self._commit(
                    workflow_id, task_id, files, metadata, correlation_id, prompt_hash, progress
                )
        except SecretDetectedError:
            raise
        except ArtifactStoreError as error:
            if self.config.raise_errors or refusal(self._scanner, error) is not None:
                raise
            return records.failed_commit(error, shown(self._scanner, correlation_id))

    def _commit(
        self,
        workflow_id: str,
        task_id: str,
        files: Files,
        metadata: Mapping[str, object] | None,
        correlation_id: str | None,
        prompt_hash: str | None,
        progress: Callable[[str, int, int], None] | None,
    ) -> Record:
        check_progress(progress)
        ids = self._checked_ids(workflow_id, task_id, correlation_id, prompt_hash)
        encoded = manifest.normalise_metadata(metadata, self.config.max_metadata_bytes)
        sources = intake.named_sources(files, self.config.max_files)
        return self._apply(lambda: [self._prepare(ids, encoded, sources, progress)])[0]

    @silent
    def commit_many(self, runs: Sequence[RunArguments]) -> list[Record]:
        """Store many runs in one transaction, so that they share one flush; each run is stored whole or not at all.

        A run that is refused does not hold back the others: its result has ``success`` False and says why, in
        ``error``, ``kind`` and, for secrets, ``findings``. The compressed content of the whole batch is held in
        memory; a hundred ordinary runs take about 5 MB.

        Args:
            runs: Mappings with the arguments of `commit_artifacts`, and no others.

        Returns:
            One result per run, in order.

        Raises:
            InvalidInputError: Not a list of runs.
            StorageError: The disk refused; no run of the batch is stored.
        """
        self._check_open()
        if isinstance(runs, str | bytes | Mapping) or not isinstance(runs, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"runs must be a list of mappings, not {type(runs).__name__}")
        given = list(runs)
        results: dict[int, Record] = {}
        # Kept over a repetition, as an iterator gives its files once.
        checked: dict[int, tuple[commit.RunIds, bytes, Mapping[str, intake.Content]]] = {}

        def prepare_all() -> list[commit.PreparedRun]:
            prepared: list[commit.PreparedRun] = []
            for index, arguments in enumerate(given):
                if index in results:
                    continue
                try:
                    if index not in checked:
                        checked[index] = self._checked_arguments(arguments)
                    prepared.append(self._prepare(*checked[index]))
                except (InvalidInputError, SecretDetectedError) as error:
                    results[index] = self._refused(arguments, error)
                    self._meter.note_failure(self.now_us(), error)
                except BaseException:
                    for run in prepared:
                        run.discard(self._environment)
                    raise
            return prepared

        with self._meter.failures(self.now_us):
            stored = iter(self._apply(prepare_all))
        return [results[index] if index in results else next(stored) for index in range(len(given))]

    def _refused(self, arguments: object, error: ArtifactStoreError) -> Record:
        """Return the result of a run of a batch that is refused."""
        told = refusal(self._scanner, error) or error
        given: Mapping[str, object] = (
            cast("Mapping[str, object]", arguments) if isinstance(arguments, Mapping) else {}
        )
        correlation_id = given.get("correlation_id")
        return records.failed_commit(told, shown(self._scanner, correlation_id))

    @silent
    def open_run(
        self,
        workflow_id: str,
        task_id: str,
        correlation_id: str | None = None,
        prompt_hash: str | None = None,
    ) -> ArtifactWriter:
        """Return a writer that takes the files of one run as they are made; nothing is visible before its commit.

        Raises:
            InvalidIdError: As for `commit_artifacts`.
        """
        self._check_open()
        ids = self._checked_ids(workflow_id, task_id, correlation_id, prompt_hash)

        def finish(
            complete: Callable[[bytes], intake.Intake], metadata: Mapping[str, object] | None
        ) -> Record:
            encoded = manifest.normalise_metadata(metadata, self.config.max_metadata_bytes)
            texts = encoded + b"\n" + ids.text.encode()
            with self._meter.failures(self.now_us):
                return self._apply(lambda: [self._complete(ids, encoded, complete(texts))])[0]

        return ArtifactWriter(self._environment, self._gate, self.config, finish)

    def _apply(self, prepare_all: Callable[[], list[commit.PreparedRun]]) -> list[Record]:
        """Prepare runs and apply those the store does not have, in one transaction; return all results."""
        self._check_open()
        started_s = time.perf_counter()
        # Both asked for now: another thread may close the store before the end.
        queue, meter = self.commit_queue, self._meter
        while True:
            try:
                queue.begin_preparing()
                prepared = prepare_all()
            finally:
                queue.end_preparing()
            try:
                sequences = self._apply_prepared(queue, prepared)
            except commit.BlobCollectedError:
                continue  # its bytes are read again, and stored this time
            if prepared:
                took_s = (time.perf_counter() - started_s) / len(prepared)
                counts = metrics.latency_counts(took_s, len(prepared))
                meter.note(prepared[0].draft.created_at_us, counts)
            return self._results(prepared, sequences)

    def _results(self, prepared: list[commit.PreparedRun], sequences: list[int]) -> list[Record]:
        """Return the results of applied runs; only what this process did not store itself is read back."""
        fresh = {run.stored[0]: run.stored[1:] for run in prepared if run.stored is not None}
        if all(sequence in fresh for sequence in sequences):
            return [records.fresh_result(*fresh[sequence]) for sequence in sequences]
        with self._environment.read() as transaction:
            return [records.commit_result(transaction, sequence) for sequence in sequences]

    def _apply_prepared(self, queue: GroupCommit, prepared: list[commit.PreparedRun]) -> list[int]:
        try:
            with self._environment.read() as transaction:
                known = [run.find_existing(transaction) for run in prepared]
                if known == [None]:  # of a batch, the runs of one branch follow each other
                    prepared[0].foresee(transaction)
            found = [sequence for sequence in known if sequence is not None]
            if len(found) == len(prepared):
                return found
            return self._write_prepared(queue, prepared)
        finally:
            for run in prepared:
                run.discard(self._environment)

    def _write_prepared(self, queue: GroupCommit, prepared: list[commit.PreparedRun]) -> list[int]:
        meter = self._meter
        with meter.lent(prepared[0].draft.created_at_us, self.config.metrics_keep_days) as write_counts:

            def work(transaction: WriteTransaction) -> list[int]:
                return commit.apply_all(transaction, prepared, write_counts)

            reserve_bytes = sum(run.reserve_bytes for run in prepared)
            alone = meter.is_pressing
            return queue.run(work, reserve_bytes, lambda: None if alone else commit.encode_relayed(prepared))

    def _checked_arguments(
        self, arguments: RunArguments
    ) -> tuple[commit.RunIds, bytes, Mapping[str, intake.Content]]:
        if not isinstance(arguments, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"a run must be a mapping of arguments, not {type(arguments).__name__}")
        unknown = sorted(map(repr, arguments.keys() - intake.RUN_ARGUMENTS))
        if unknown:
            raise InvalidInputError(
                f"a run has no argument {', '.join(unknown)}",
                hint=f"It may have {', '.join(sorted(intake.RUN_ARGUMENTS))}.",
            )
        ids = self._checked_ids(
            arguments.get("workflow_id"),
            arguments.get("task_id"),
            arguments.get("correlation_id"),
            arguments.get("prompt_hash"),
        )
        encoded = manifest.normalise_metadata(arguments.get("metadata"), self.config.max_metadata_bytes)
        return ids, encoded, intake.named_sources(arguments.get("files", ()), self.config.max_files)

    def _prepare(
        self,
        ids: commit.RunIds,
        metadata: bytes,
        sources: Mapping[str, intake.Content],
        progress: Callable[[str, int, int], None] | None = None,
    ) -> commit.PreparedRun:
        texts = {"metadata": metadata, "ids": ids.text.encode()}
        on_read = None if progress is None else reading_counter(progress, sources)
        taken = intake.take_in(self._environment, self._gate, sources, texts, on_read)
        return self._complete(ids, metadata, taken)

    def _complete(self, ids: commit.RunIds, metadata: bytes, taken: intake.Intake) -> commit.PreparedRun:
        try:
            return commit.prepare(
                ids,
                taken,
                metadata,
                self.config,
                object_format=self.object_format,
                created_at_us=self.now_us(),
                signer=self._signer,
            )
        except BaseException:
            commit.discard_staged(self._environment, taken)
            raise

    def _checked_ids(
        self, workflow_id: object, task_id: object, correlation_id: object, prompt_hash: object
    ) -> commit.RunIds:
        if correlation_id is None and not self.config.require_correlation_id:
            correlation_id = uuid.uuid4().hex
        if correlation_id is None:
            raise InvalidIdError(
                "correlation_id is missing",
                subject="correlation_id",
                hint="Pass one, or set require_correlation_id to False.",
            )
        return commit.RunIds(
            workflow_id=names.check_id(workflow_id, "workflow_id"),
            task_id=names.check_id(task_id, "task_id"),
            correlation_id=names.check_id(correlation_id, "correlation_id"),
            prompt_hash=None if prompt_hash is None else names.check_id(prompt_hash, "prompt_hash"),
        )

    def scan_all(
        self, *, fresh: bool = False, progress: Callable[[str, int, int], None] | None = None
    ) -> RescanReport:
        """Scan every stored file and manifest under the present secret rules, also when scanning is off.

        Files found clean are noted as such, so that neither the next commit nor the next rescan reads them again.

        Args:
            fresh: Scan also files that are noted as clean under these very rules.
            progress: Called with phase, manifests done, manifests in all.

        Returns:
            The report; it lists every run, branch and tag that holds a finding.
        """
        check_progress(progress)
        return rescan.scan_all(self.environment, self._any_scanner(), fresh=fresh, progress=progress)

    @silent
    def purge(
        self,
        target: str,
        *,
        dry_run: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Record:
        """Remove content from the store for good, and keep it from coming back.

        Runs that held it keep their ids and history; reading such a file raises IntegrityError of kind ``purged``, and
        their exports are set aside. git and the remote are not touched: the result says what to rewrite there.

        Args:
            target: Fingerprint of a finding (32 hexadecimal characters) or digest of a file (64).
            dry_run: Only tell what would be done.
            progress: Called with phase, manifests done, manifests in all.

        Returns:
            ``target, dry_run, blobs, runs, held, rotate, remaining, git``; see `cas.purge.purge`.

        Raises:
            InvalidInputError: The target has neither form.
            NotFoundError: The store holds no such content.
            StorageError: The disk refused; nothing was changed.
        """
        check_progress(progress)
        return purge.purge(
            self.environment,
            self._any_scanner(),
            target,
            now_us=self.now_us(),
            dry_run=dry_run,
            progress=progress,
        )

    def _any_scanner(self) -> SecretScanner:
        scanner = self._scanner or intake.build_scanner(self.config.replace(scan_for_secrets=True))
        if scanner is None:
            raise StateError("the secret rules could not be loaded")
        return scanner

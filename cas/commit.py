"""The write transaction of one run: revision, parent, ids, manifest, names and outbox entry, all or nothing.

Invariant: applied under the write lock, it either finds the same content already there and writes nothing, or writes
everything a reader and the exporter need. It reads no clock and no file.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from cas import (
    blobs,
    catalog,
    gitform,
    indexes,
    manifest,
    marks,
    metrics,
    names,
    outbox,
    tombstones,
    visibility,
)
from cas.blobs import NewBlob
from cas.errors import ArtifactStoreError
from cas.groupcommit import RelayRefusedError
from cas.intake import Intake
from cas.manifest import MANIFEST_FORMAT, ManifestRow, RunManifest
from cas.objects import GitObject
from cas.outbox import Attempt, Deposit
from cas.relay import MAX_ANSWER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cas.config import ArtifactStoreConfig, ObjectFormat
    from cas.lmdbenv import Environment, ReadTransaction, WriteTransaction
    from cas.meter import Write
    from cas.objects import Signer


# Nine bytes of an answer hold a sequence at most, and a few more their number.
_MOST_RELAYED: Final = (MAX_ANSWER_BYTES - 5) // 9
# Of a run without content: its rows, and its commit and tags in the outbox.
_ROWS_BYTES: Final = 2048


class BlobCollectedError(Exception):
    """A blob found before the lock is gone under it: the garbage collector was between. Prepare the run again."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunIds:
    """The checked IDs of a run."""

    workflow_id: str
    task_id: str
    correlation_id: str
    prompt_hash: str | None

    @property
    def text(self) -> str:
        """All IDs, a line each, for the secret gate."""
        parts = (self.workflow_id, self.task_id, self.correlation_id, self.prompt_hash)
        return "\n".join(part for part in parts if part is not None)


class _Around(NamedTuple):
    """What the ids of a run take from the store's state."""

    revision: int
    parent: bytes | None
    is_new_prompt: bool


class _Completed(NamedTuple):
    """What a run becomes in some state of the store: its manifest, its row, and its git objects as queued."""

    run: RunManifest
    row: ManifestRow
    objects: bytes


@dataclasses.dataclass(slots=True)
class PreparedRun:
    """A run ready to be applied; everything that does not depend on the store's state is done."""

    draft: RunManifest
    root: bytes
    trees: list[GitObject]
    content_digest: bytes
    intake: Intake
    signer: Signer | None
    # What `foresee` found: the state of the store, and what the run becomes in it.
    foreseen: tuple[_Around, _Completed] | None = None
    # What the last call of `apply` stored: sequence, manifest and row; None when it was there already.
    stored: tuple[int, RunManifest, ManifestRow] | None = None

    @property
    def reserve_bytes(self) -> int:
        """About how many bytes applying the run adds to the file; what is staged is there already."""
        streams_bytes = sum([len(blob.stream) for blob in self.intake.new_blobs])
        trees_bytes = sum([len(item.data) for item in self.trees])
        return streams_bytes + trees_bytes + len(self.draft.metadata) + _ROWS_BYTES

    def find_existing(self, transaction: ReadTransaction) -> int | None:
        """Return the sequence of the revision that shows this content already, or None."""
        sequence = self._find_content(transaction)
        return None if sequence is None or marks.is_hidden(transaction, sequence) else sequence

    def _find_content(self, transaction: ReadTransaction) -> int | None:
        return catalog.find_content(transaction, self.draft.correlation_id, self.content_digest)

    def foresee(self, transaction: ReadTransaction) -> None:
        """Work out manifest and ids from a snapshot, ahead of the write lock, which is then held for less long.

        `apply` takes them if the store's state is still such that they are right, and makes them anew if not.
        """
        around = self._around(transaction)
        self.foreseen = (around, self._completed(around))

    def apply(self, transaction: WriteTransaction) -> int:
        """Store the run unless its content is there already; one that was forgotten is shown again, ids and all.

        The caller counts what was stored, see `counts`.

        Returns:
            The sequence of its manifest, new or old.

        Raises:
            BlobCollectedError: A blob that was there during the preparation is gone.
        """
        self.stored = None
        there = self._find_content(transaction)
        if there is not None and not marks.is_hidden(transaction, there):
            self._drop_staged(transaction)
            return there
        self.check_blobs(transaction)
        placed = blobs.add(transaction, self.intake.new_blobs)
        for digest, ruleset in self.intake.rescanned:
            blobs.remember_scan(transaction, digest, ruleset)
        if there is not None:
            visibility.show(transaction, there)
            return there
        sequence = catalog.next_sequence(transaction)
        around = self._around(transaction)
        if self.foreseen is not None and self.foreseen[0] == around:
            run, row, objects = self.foreseen[1]
        else:
            run, row, objects = self._completed(around)
        indexed = indexes.maintained(transaction)
        catalog.add(transaction, sequence, run, row, self.content_digest, indexed)
        deposit = None if placed is None else Deposit.of(placed, run.files)
        outbox.enqueue(transaction, sequence, Attempt(deposit=deposit), objects)
        self.stored = (sequence, run, row)
        return sequence

    def check_blobs(self, transaction: ReadTransaction) -> None:
        """Check that every file is on its way in or in the store.

        Raises:
            BlobCollectedError: A blob that was there during the preparation is gone.
        """
        fresh = {blob.digest for blob in self.intake.new_blobs}
        for entry in self.draft.files:
            if entry.digest not in fresh and blobs.find_sound(transaction, entry.digest) is None:
                raise BlobCollectedError
        if tombstones.find_purged(transaction, fresh) is not None:
            raise BlobCollectedError  # purged meanwhile: preparing it again tells which file

    def counts(self) -> metrics.Counts:
        """Return what a stored run is counted for."""
        return {
            "commits": 1,
            "commit_files": len(self.draft.files),
            "commit_raw_bytes": sum(entry.size_bytes for entry in self.draft.files),
            "commit_stored_bytes": sum(
                len(blob.stream) + blob.staged_bytes for blob in self.intake.new_blobs
            ),
            metrics.LAST_COMMIT: self.draft.created_at_us,
        }

    def discard(self, environment: Environment) -> None:
        """Remove what large files of a run that is not going to be applied have left in the store."""
        discard_staged(environment, self.intake)

    def _drop_staged(self, transaction: WriteTransaction) -> None:
        _drop_staged(transaction, self.intake)

    def _around(self, transaction: ReadTransaction) -> _Around:
        latest = catalog.latest_revision(transaction, self.draft.correlation_id)
        prompt_hash = self.draft.prompt_hash
        return _Around(
            revision=1 if latest is None else latest[0] + 1,
            parent=branch_tip(transaction, self.draft.branch),
            is_new_prompt=prompt_hash is not None
            and catalog.prompt_tag_owner(transaction, names.prompt_tag(prompt_hash)) is None,
        )

    def _completed(self, around: _Around) -> _Completed:
        """Add what only the store's state gives: revision, parent, tags; then the ids of commit and tags."""
        run = msgspec.structs.replace(self.draft, revision=around.revision, parent=around.parent)
        signature = None if self.signer is None else gitform.sign(run, self.root, self.signer)
        commit = gitform.commit_form(run, self.root, signature)
        tags = [names.correlation_tag(run.correlation_id, run.revision)]
        if run.prompt_hash is not None and around.is_new_prompt:
            tags.append(names.prompt_tag(run.prompt_hash))
        forms = [gitform.tag_form(run, commit.oid, tag) for tag in tags]
        row = ManifestRow(
            manifest=manifest.encode(run),
            commit_oid=commit.oid,
            tree_oid=self.root,
            tags=tuple([(form.name, form.object.oid) for form in forms]),
            signature=signature,
        )
        objects = [*self.trees, commit, *[form.object for form in forms]]
        return _Completed(run, row, gitform.encode_objects(objects))


def discard_staged(environment: Environment, taken: Intake) -> None:
    """Remove what large files of an intake have left in the store, unless a run has taken it over."""
    staged = {(blob.staged_segment, blob.staged_mark) for blob in taken.new_blobs} - {(None, b"")}
    if not staged:
        return
    # As it may follow an error, its own must not take that one's place, on a closed store neither.
    with contextlib.suppress(ArtifactStoreError):
        with environment.read() as transaction:
            is_left = not staged.isdisjoint(blobs.iter_upload_marks(transaction))
        # After most commits nothing is; a transaction that writes nothing would pass for one of a quick disk.
        if is_left:
            with environment.write() as transaction:
                _drop_staged(transaction, taken)


def _drop_staged(transaction: WriteTransaction, taken: Intake) -> None:
    for blob in taken.new_blobs:
        if blob.staged_segment is not None:
            blobs.settle_upload(transaction, blob.staged_segment, blob.staged_mark, keep=False)


def apply_all(
    transaction: WriteTransaction, prepared: Sequence[PreparedRun], write_counts: Write
) -> list[int]:
    """Apply runs, count those that were stored, and return their sequences.

    Raises:
        BlobCollectedError: See `PreparedRun.apply`.
    """
    sequences = [run.apply(transaction) for run in prepared]
    counts: dict[int, metrics.Counts] = {}
    for run in prepared:
        if run.stored is not None:
            metrics.merge(counts.setdefault(metrics.hour_of(run.draft.created_at_us), {}), run.counts())
    write_counts(transaction, counts)
    return sequences


def _write_own(transaction: WriteTransaction, own: Mapping[int, metrics.Counts]) -> None:
    for hour, counts in own.items():
        metrics.add(transaction, hour * metrics.HOUR_US, counts)


class RelayedRun(msgspec.Struct, frozen=True, array_like=True):
    """A prepared run on its way to the process that commits it.

    A signer stays at home. What was scanned again is not told either: the next commit of that content scans it again.
    """

    draft: RunManifest
    root: bytes
    trees: list[GitObject]
    content_digest: bytes
    new_blobs: list[NewBlob]


def encode_relayed(prepared: Sequence[PreparedRun]) -> bytes | None:
    """Return prepared runs for another process to apply; None when one has to be signed here, or they are too many."""
    if len(prepared) > _MOST_RELAYED or any(run.signer is not None for run in prepared):
        return None
    relayed = [
        RelayedRun(run.draft, run.root, run.trees, run.content_digest, run.intake.new_blobs)
        for run in prepared
    ]
    return msgspec.msgpack.encode(relayed)


def decode_relayed(content: bytes) -> Callable[[WriteTransaction], list[int]]:
    """Return the work that another process posted: it applies the runs and returns their sequences."""
    relayed = msgspec.msgpack.decode(content, type=list[RelayedRun])
    prepared = [
        PreparedRun(
            run.draft,
            run.root,
            run.trees,
            run.content_digest,
            Intake(run.draft.files, run.new_blobs, (), 0),
            None,
        )
        for run in relayed
    ]

    def work(transaction: WriteTransaction) -> list[int]:
        try:
            # Before anything is written: a refusal midway would leave the first runs of a batch in the transaction.
            for run in prepared:
                if run.find_existing(transaction) is None:
                    run.check_blobs(transaction)
            return apply_all(transaction, prepared, _write_own)
        except BlobCollectedError as error:
            raise RelayRefusedError from error

    return work


def branch_tip(transaction: ReadTransaction, branch: str) -> bytes | None:
    """Return the commit id a branch ends in as far as the store knows, or None for a branch it does not know.

    Raises:
        IntegrityError: The branch is damaged: what is built on it would not stand on its newest commit.
    """
    head = catalog.sound_head(transaction, branch)
    if head is None:
        return None
    row = catalog.get_row(transaction, head)
    if row is None:
        raise catalog.damaged_branch(branch, f"its newest manifest, {head}, is missing")
    return row.commit_oid


def prepare(
    ids: RunIds,
    intake: Intake,
    metadata: bytes,
    config: ArtifactStoreConfig,
    *,
    object_format: ObjectFormat,
    created_at_us: int,
    signer: Signer | None,
) -> PreparedRun:
    """Return a run with its tree built, ready for the write transaction."""
    draft = RunManifest(
        format=MANIFEST_FORMAT,
        object_format=object_format,
        branch=names.branch_name(config.branch_prefix, ids.workflow_id, ids.task_id),
        parent=None,
        author_name=config.commit_author_name,
        author_email=config.commit_author_email,
        created_at_us=created_at_us,
        workflow_id=ids.workflow_id,
        task_id=ids.task_id,
        correlation_id=ids.correlation_id,
        revision=0,
        prompt_hash=ids.prompt_hash,
        metadata=metadata,
        files=intake.entries,
        with_metadata_file=config.include_metadata,
        waivers=intake.waivers,
    )
    tree = gitform.tree_form(draft)
    digest = manifest.content_digest(ids.workflow_id, ids.task_id, ids.prompt_hash, metadata, intake.entries)
    return PreparedRun(
        draft=draft,
        root=tree.root,
        trees=tree.objects,
        content_digest=digest,
        intake=intake,
        signer=signer,
    )


def open_signer(config: ArtifactStoreConfig) -> Signer | None:
    """Return the signer of a configuration, None when commits are not signed."""
    if config.git_signing_key is None:
        return None
    from cas.signing import SshSigner

    return SshSigner.open(config.git_signing_key)

"""Entries: stored manifests as what they become in git, every id computed again before anything is written.

Invariant: an entry exists only if its trees, commit and tags have the ids the store promised, and its trees name the
manifest's files. The objects are those that the run's commit left in the outbox, or made anew from the manifest.
Reads the store, never git.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from cas import gitform, outbox, records
from cas.errors import IntegrityError
from cas.manifest import FileEntry, ImportedManifest, RunManifest
from cas.objects import MODE_SUBMODULE, GitObject
from cas.outbox import Attempt, Deposit

if TYPE_CHECKING:
    from cas.lmdbenv import ReadTransaction
    from cas.manifest import ManifestRow, RollbackManifest

_PARENT: Final = b"parent "


class Entry(msgspec.Struct, frozen=True):
    """One manifest on its way into git.

    Attributes:
        sequence: Its number in the store.
        branch: Full ref name of its branch.
        parent: Hex id the branch is expected to have before, None for a new branch.
        commit: Hex id of its commit.
        tags: Full ref name and hex id of each tag.
        objects: Trees, metadata blob, commit and tags, as bytes.
        files: Blobs that its trees name and the store holds as streams.
        needs: Hex ids of what else its objects name; git must have them, the store does not.
        label: How to name it to people.
        is_rollback: Whether it is a rollback; its branch may be one that people commit to as well.
        deposit: Where its commit put the blobs that were new; None where that is not known.
    """

    sequence: int
    branch: str
    parent: str | None
    commit: str
    tags: tuple[tuple[str, str], ...]
    objects: tuple[GitObject, ...]
    files: tuple[FileEntry, ...]
    needs: tuple[str, ...]
    label: str
    is_rollback: bool = False
    deposit: Deposit | None = None

    @property
    def short_branch(self) -> str:
        """The branch's name as people write it."""
        return self.branch.removeprefix("refs/heads/")


def load_entry(transaction: ReadTransaction, sequence: int, attempt: Attempt | None = None) -> Entry:
    """Return the entry of a stored manifest; that of a rollback holds the objects of the state it goes back to.

    Args:
        transaction: The snapshot.
        sequence: Its number in the store.
        attempt: Its entry in the outbox; None means that nothing is taken from there.

    Raises:
        IntegrityError: The manifest is missing or damaged, or its ids are not what it gives.
    """
    loaded, row = records.load(transaction, sequence)
    if isinstance(loaded, RunManifest) and attempt is not None:
        objects = outbox.get_objects(transaction, sequence)
        return run_entry(sequence, loaded, row, deposit=attempt.deposit, encoded=objects)
    if isinstance(loaded, RunManifest):
        return run_entry(sequence, loaded, row)
    source = records.find_commit(transaction, loaded.source)
    return rollback_entry(
        sequence, loaded, row, None if source is None else records.load_run(transaction, source)[0]
    )


def run_entry(
    sequence: int, run: RunManifest, row: ManifestRow, *, deposit: Deposit | None = None, encoded: bytes = b""
) -> Entry:
    """Return the entry of a run, committed here or imported.

    Args:
        sequence: Its number in the store.
        run: The manifest.
        row: Its row.
        deposit: Where its commit put the blobs that were new.
        encoded: The git objects that its commit left in the outbox; made anew where they are not there.

    Raises:
        IntegrityError: The stored ids are not what the manifest gives.
    """
    objects = gitform.decode_objects(encoded, run, row)
    if objects is None:
        form = gitform.check_row(run, row)
        objects = [*form.tree.objects, form.commit, *(tag.object for tag in form.tags)]
    return Entry(
        sequence=sequence,
        branch=f"refs/heads/{run.branch}",
        parent=None if run.parent is None else run.parent.hex(),
        commit=row.commit_oid.hex(),
        tags=tuple([(f"refs/tags/{name}", oid.hex()) for name, oid in row.tags]),
        objects=tuple(objects),
        files=run.files,
        needs=(*_foreign_parents(run), *_foreign_tree(run)),
        label=f"{run.correlation_id}@{run.revision}",
        deposit=deposit,
    )


def rollback_entry(
    sequence: int, rollback: RollbackManifest, row: ManifestRow, source: RunManifest | None
) -> Entry:
    """Return the entry of a rollback.

    Args:
        sequence: Its number in the store.
        rollback: The manifest.
        row: Its row.
        source: The run it goes back to; None when the store has it no more, so that git must have its tree.

    Raises:
        IntegrityError: The stored ids are not what the manifests give.
    """
    form = gitform.check_row(rollback, row)
    kept = (*rollback.root_entries, *rollback.backtest_entries)
    needs = [entry.oid.hex() for entry in kept if entry.mode != MODE_SUBMODULE]
    objects = [*form.tree.objects, form.commit]
    if source is None:
        needs.append(rollback.artifact_root.hex())
    else:
        tree = gitform.tree_form(source)
        if tree.artifact_root != rollback.artifact_root:
            raise IntegrityError(
                f"the rollback of {rollback.branch} to {rollback.tag} does not hold that tag's tree",
                subject=row.commit_oid.hex(),
            )
        objects = [*(item for item in tree.objects if item.oid != tree.root), *objects]
        needs += _foreign_tree(source)
    return Entry(
        sequence=sequence,
        branch=f"refs/heads/{rollback.branch}",
        parent=None if rollback.parent is None else rollback.parent.hex(),
        commit=row.commit_oid.hex(),
        tags=(),
        objects=tuple(objects),
        files=() if source is None else source.files,
        needs=tuple(needs),
        label=f"rollback of {rollback.branch} to {rollback.tag}",
        is_rollback=True,
    )


def _foreign_tree(run: RunManifest) -> list[str]:
    return sorted(oid.hex() for oid in gitform.foreign_oids(run))


def _foreign_parents(run: RunManifest) -> list[str]:
    """Return the parents of an imported commit that were not imported with it: where its branch began, merges."""
    if not isinstance(run, ImportedManifest):
        return []
    header = run.commit.split(b"\n\n", 1)[0].split(b"\n")
    parents = [line[len(_PARENT) :].decode() for line in header if line.startswith(_PARENT)]
    return [parent for parent in parents if run.parent is None or parent != run.parent.hex()]

"""One batch into a repository: objects git lacks in one pack, then all refs in one transaction.

Invariant: refs move only when every object they reach is in the repository and synced, and a batch that was killed at
any point can be written again to the same end. This module must not change the store.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Literal

from cas import blobs, gitform, records
from cas.codec import deflate
from cas.errors import IntegrityError
from cas.manifest import RunManifest
from gitexport.pack import PackWriter
from gitexport.refs import read_refs, update_refs
from gitexport.refvalues import RefChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cas.lmdbenv import Environment, ReadTransaction
    from cas.manifest import FileEntry
    from cas.objects import GitObject
    from gitexport.pack import PackReceipt
    from gitexport.plan import Entry, Plan
    from gitexport.repository import GitRepository

CheckLevel = Literal["full", "crc"]


@dataclasses.dataclass(slots=True)
class Objects:
    """What a batch needs in git, each object once: made ones as bytes, blobs as the store holds them."""

    made: dict[str, GitObject] = dataclasses.field(default_factory=dict[str, "GitObject"])
    blobs: dict[str, FileEntry] = dataclasses.field(default_factory=dict[str, "FileEntry"])

    def add(self, made: Iterable[GitObject], files: Iterable[FileEntry]) -> None:
        """Take in objects; repeated ones count once."""
        for item in made:
            self.made.setdefault(item.oid.hex(), item)
        for entry in files:
            self.blobs.setdefault(entry.oid.hex(), entry)

    def only(self, oids: set[str]) -> Objects:
        """Return those with the given ids."""
        return Objects(
            {oid: item for oid, item in self.made.items() if oid in oids},
            {oid: item for oid, item in self.blobs.items() if oid in oids},
        )

    @property
    def count(self) -> int:
        """How many objects."""
        return len(self.made) + len(self.blobs)

    @property
    def oids(self) -> list[str]:
        """Their hex ids."""
        return [*self.made, *self.blobs]


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What a batch put into the repository."""

    object_count: int = 0
    pack_bytes: int = 0
    ref_count: int = 0


def write_batch(
    environment: Environment,
    repository: GitRepository,
    plan: Plan,
    *,
    check: CheckLevel = "full",
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Write a plan's objects and move its refs; both are on the disk when this returns.

    Args:
        environment: The open store.
        repository: The target; other programs may use it meanwhile.
        plan: What to write.
        check: ``full`` compares each blob's content with its digest while copying, ``crc`` its stream with the
            CRC-32 taken at ingest.
        progress: Called with the number of blobs copied so far.

    Raises:
        IntegrityError: A blob is damaged; nothing moved.
        ConflictError: A ref moved meanwhile; nothing moved, plan again.
        GitCommandFailedError: git failed.
        StorageError: A disk refused.
    """
    changes = [RefChange(name, old, new) for name, (old, new) in plan.branch_moves.items()]
    changes += [RefChange(name, None, oid) for name, oid in plan.new_tags.items()]
    if not changes:
        return Written()
    wanted = _collect(environment, repository, plan.write)
    missing = repository.missing_objects(wanted.oids)
    receipts: list[PackReceipt] = []
    try:
        if missing:
            receipts.append(_write_pack(environment, repository, wanted.only(missing), check, progress))
        update_refs(repository, changes)
        receipts += _secure_trusted(environment, repository, wanted, missing, check)
    finally:
        for receipt in receipts:
            receipt.release_keep()
    _prove(repository, changes)
    return Written(
        object_count=sum(receipt.object_count for receipt in receipts),
        pack_bytes=sum(receipt.size_bytes for receipt in receipts),
        ref_count=len(changes),
    )


def _collect(environment: Environment, repository: GitRepository, entries: Iterable[Entry]) -> Objects:
    wanted = Objects()
    roots: set[str] = set()
    for entry in entries:
        wanted.add(entry.objects, entry.files)
        roots.update(entry.needs)
    # A rollback's artifact root was exported with its run, unless that run is parked or its branch was deleted.
    for root in repository.missing_objects(roots - wanted.made.keys()) if roots else ():
        _add_artifact_root(environment, wanted, root, entries)
    return wanted


def _add_artifact_root(
    environment: Environment, wanted: Objects, root: str, entries: Iterable[Entry]
) -> None:
    with environment.read() as transaction:
        for entry in entries:
            if root not in entry.needs:
                continue
            rollback, _ = records.load(transaction, entry.sequence)
            if isinstance(rollback, RunManifest):
                continue
            run = _source_run(transaction, rollback.source)
            tree = gitform.tree_form(run)
            wanted.add((item for item in tree.objects if item.oid != tree.root), run.files)
            return


def _source_run(transaction: ReadTransaction, commit_oid: bytes) -> RunManifest:
    sequence = records.find_commit(transaction, commit_oid)
    if sequence is None:
        raise IntegrityError(
            f"the run {commit_oid.hex()[:12]} that a rollback goes back to is gone", subject=commit_oid.hex()
        )
    return records.load_run(transaction, sequence)[0]


def _secure_trusted(
    environment: Environment, repository: GitRepository, wanted: Objects, written: set[str], check: CheckLevel
) -> list[PackReceipt]:
    """Write what git seemed to have, should a prune that ran beside us have taken it before the refs held it.

    An object found before the refs moved may have been unreachable, and a running gc deletes by what it saw when it
    began. So while a gc is running nothing found is trusted; once the refs stand, a later gc keeps it.
    """
    trusted = set(wanted.oids) - written
    if not trusted:
        return []
    lost = trusted if _gc_is_running(repository) else repository.missing_objects(trusted)
    if not lost:
        return []
    return [_write_pack(environment, repository, wanted.only(lost), check, None)]


def _gc_is_running(repository: GitRepository) -> bool:
    """Tell whether a ``git gc`` is at work: it keeps ``gc.pid`` with its process number while it is."""
    try:
        process_id = int((repository.common_dir / "gc.pid").read_text().split(" ", 1)[0])
        os.kill(process_id, 0)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except (OSError, ValueError):
        return True  # another user's process, or a file being written: assume the worse
    return True


def _write_pack(
    environment: Environment,
    repository: GitRepository,
    objects: Objects,
    check: CheckLevel,
    progress: Callable[[int], None] | None,
) -> PackReceipt:
    with PackWriter(
        repository.common_dir / "objects",
        objects.count,
        repository.object_format,
        shared_bits=repository.shared_bits,
    ) as pack:
        for item in objects.made.values():
            pack.add(item.kind, item.oid, len(item.data), [deflate(item.data)])
        for index, entry in enumerate(objects.blobs.values()):
            _add_blob(environment, pack, entry, check)
            if progress is not None:
                progress(index + 1)
        return pack.finish()


def _add_blob(environment: Environment, pack: PackWriter, entry: FileEntry, check: CheckLevel) -> None:
    with environment.read() as transaction:
        blob = blobs.require(transaction, entry.digest)
        if blob.oid != entry.oid or blob.size_bytes != entry.size_bytes:
            raise blobs.damaged(blob)
        if blob.part_count == 1:
            if check == "full":
                blobs.read(transaction, blob)
            pack.add("blob", blob.oid, blob.size_bytes, blobs.iter_stream(transaction, blob), blob.crc32)
            return
    if check == "full":
        for _ in blobs.iter_content(environment, blob):
            continue  # the iterator compares the digest as it ends
    pack.add("blob", blob.oid, blob.size_bytes, blobs.iter_parts(environment, blob), blob.crc32)


def _prove(repository: GitRepository, changes: list[RefChange]) -> None:
    """Read the refs back: a receipt is written only for what git shows."""
    found = read_refs(repository, [change.name for change in changes])
    for change in changes:
        if found.get(change.name) != change.new_oid:
            raise IntegrityError(
                f"{change.name} is {found.get(change.name)} right after it was set to {change.new_oid}",
                subject=change.name,
                hint="Another program moved it in the same moment; run `cas export` again.",
            )

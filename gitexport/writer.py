"""One batch into a repository: objects git lacks in one pack, then all refs in one transaction.

Invariant: refs move only when every object they reach is in the repository and synced, and a batch that was killed at
any point can be written again to the same end. This module must not change the store.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import time
from typing import TYPE_CHECKING, Final

from cas import blobs
from cas.codec import STORED_BYTES, crc32, deflate, stored_head, stored_tail
from cas.errors import ConflictError, IntegrityError
from cas.objects import pack_entry_header
from gitexport.blobcheck import check_blobs
from gitexport.blobcopy import ROWS_PER_RELEASE, copy_blobs
from gitexport.pack import PackWriter
from gitexport.refs import read_refs, update_refs
from gitexport.refvalues import RefChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cas.blobs import Blob, Stream
    from cas.lmdbenv import Environment, ReadTransaction
    from cas.objects import GitObject
    from gitexport.blobcopy import CheckLevel
    from gitexport.entries import Entry
    from gitexport.pack import PackEntry, PackReceipt
    from gitexport.plan import Plan
    from gitexport.repository import GitRepository

# A batch that was killed after its pack appeared comes first in the queue again, so its first commits tell.
_PROBE_COUNT: Final = 8
_INCOMPRESSIBLE: Final = frozenset(["tree", "tag"])
_TAGGED: Final = b"object "
_GC_NOTE_AGE_S: Final = 12 * 3600  # as long as git believes a gc.pid of another machine


@dataclasses.dataclass(slots=True)
class Objects:
    """What a batch needs in git, each object once, by hex id.

    Attributes:
        made: Trees, commits, tags and metadata files, as bytes.
        blobs: Blobs as the store holds them.
        deposited: Of blobs that lie where their commit put them: the digest of their segment.
        collected: Digests of blobs that the store has no more, as their run was forgotten, or only damaged; git must
            have them.
    """

    made: dict[str, GitObject] = dataclasses.field(default_factory=dict[str, "GitObject"])
    blobs: dict[str, Blob] = dataclasses.field(default_factory=dict[str, "Blob"])
    deposited: dict[str, bytes] = dataclasses.field(default_factory=dict[str, bytes])
    collected: dict[str, bytes] = dataclasses.field(default_factory=dict[str, bytes])

    def only(self, oids: set[str]) -> Objects:
        """Return those with the given ids."""
        return Objects(
            {oid: item for oid, item in self.made.items() if oid in oids},
            {oid: item for oid, item in self.blobs.items() if oid in oids},
            self.deposited,
        )

    @property
    def count(self) -> int:
        """How many objects."""
        return len(self.made) + len(self.blobs)

    @property
    def oids(self) -> list[str]:
        """Their hex ids."""
        return [*self.made, *self.blobs]

    @property
    def newest_segment(self) -> int:
        """The greatest segment that one of the blobs lies in; 0 when there are none."""
        return max((blob.segment for blob in self.blobs.values()), default=0)


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What a batch put into the repository, and the greatest segment of the store that it is known to hold."""

    object_count: int = 0
    pack_bytes: int = 0
    ref_count: int = 0
    newest_segment: int = 0


def write_batch(
    environment: Environment,
    repository: GitRepository,
    plan: Plan,
    *,
    check: CheckLevel = "deposit",
    known_segment: int | None = None,
) -> Written:
    """Write a plan's objects and move its refs; both are on the disk when this returns.

    Args:
        environment: The open store.
        repository: The target; other programs may use it meanwhile.
        plan: What to write.
        check: How sure to be of each blob before git sees it, see `Exporter`.
        known_segment: Blobs in later segments were never exported, so git need not be asked about them; None asks
            about all.

    Raises:
        IntegrityError: A blob is damaged, or an object vanished; nothing moved.
        ConflictError: A ref moved meanwhile; plan again.
        ExportError: A file of ours was pruned meanwhile (kind ``file_vanished``); nothing moved, write again.
        GitCommandFailedError: git failed.
        StorageError: A disk refused.
    """
    changes = [RefChange(name, old, new) for name, (old, new) in plan.branch_moves.items()]
    changes += [RefChange(name, None, oid) for name, oid in plan.new_tags.items()]
    if not changes:
        return Written()
    wanted = collect(environment, plan.write)
    _require_collected(repository, wanted)
    missing = _find_missing(repository, wanted, plan.write, known_segment)
    receipts: list[PackReceipt] = []
    try:
        if missing:
            receipts.append(_write_pack(environment, repository, wanted.only(missing), check))
        update_refs(repository, changes, known=_targets(wanted))
        # A pack that was there before may be one that a gc was about to delete.
        trusted = (
            set(wanted.oids) if any(receipt.existed for receipt in receipts) else set(wanted.oids) - missing
        )
        receipts += _secure(environment, repository, wanted.only(trusted), check)
    finally:
        for receipt in receipts:
            receipt.release_keep()
    _prove(repository, changes)
    return Written(
        object_count=sum(receipt.object_count for receipt in receipts if not receipt.existed),
        pack_bytes=sum(receipt.size_bytes for receipt in receipts if not receipt.existed),
        ref_count=len(changes),
        newest_segment=wanted.newest_segment,
    )


def write_missing(
    environment: Environment, repository: GitRepository, entries: Sequence[Entry], *, check: CheckLevel
) -> Written:
    """Write objects that git has lost although refs still reach them; no ref moves.

    Raises:
        IntegrityError: A blob is damaged.
        ExportError: As for `write_batch`.
        StorageError: A disk refused.
    """
    wanted = collect(environment, entries)
    _require_collected(repository, wanted)
    missing = repository.missing_objects(wanted.oids)
    if not missing:
        return Written()
    receipt = _write_pack(environment, repository, wanted.only(missing), check)
    receipt.release_keep()
    return Written(object_count=receipt.object_count, pack_bytes=receipt.size_bytes)


def write_made(repository: GitRepository, objects: Sequence[GitObject]) -> PackReceipt:
    """Write some small objects as one pack; the caller releases its ``.keep`` once refs hold them.

    Raises:
        ExportError: As for `write_batch`.
        StorageError: A disk refused.
    """
    with _open_pack(repository, len(objects)) as pack:
        _add_made(pack, objects)
        return pack.finish()


def collect(environment: Environment, entries: Iterable[Entry]) -> Objects:
    """Return every object of some entries once.

    Raises:
        IntegrityError: A blob is not the one its manifest names.
    """
    wanted = Objects()
    looked_up_count = 0
    with environment.read() as transaction:
        for entry in entries:
            if looked_up_count >= ROWS_PER_RELEASE:
                environment.release_pages()
                looked_up_count = 0
            for item in entry.objects:
                wanted.made.setdefault(item.oid.hex(), item)
            streams = _streams(transaction, entry)
            for file, stream in zip(entry.files, streams, strict=True):
                oid = file.oid.hex()
                if oid in wanted.blobs:
                    continue
                if stream is not None and entry.deposit is not None:
                    wanted.blobs[oid] = blobs.at(entry.deposit.segment, stream, file)
                    wanted.deposited[oid] = entry.deposit.segment_digest
                    continue
                looked_up_count += 1
                blob = blobs.find_sound(transaction, file.digest)
                if blob is None:
                    wanted.collected[oid] = file.digest
                    continue
                if blob.oid != file.oid or blob.size_bytes != file.size_bytes:
                    raise blobs.damaged(blob)
                wanted.blobs[oid] = blob
    # An imported metadata.json, or a file equal to a generated one, is both; one form is enough.
    for oid in wanted.made.keys() & wanted.blobs.keys():
        del wanted.blobs[oid]
    return wanted


def _streams(transaction: ReadTransaction, entry: Entry) -> Sequence[Stream | None]:
    """Return where the streams of an entry's files lie, as far as its deposit tells and its segment is still there."""
    deposit = entry.deposit
    if (
        deposit is None
        or len(deposit.streams) != len(entry.files)
        or not blobs.has_segment(transaction, deposit.segment)
    ):
        return [None] * len(entry.files)
    return deposit.streams


def _require_collected(repository: GitRepository, wanted: Objects) -> None:
    lost = repository.missing_objects(sorted(wanted.collected)) if wanted.collected else set[str]()
    for oid in sorted(lost):
        raise IntegrityError(
            f"blob {oid[:12]} is in neither the store nor git",
            subject=wanted.collected[oid].hex(),
            hint="Its run was forgotten and collected, or the store is damaged: `cas verify --full` tells, and "
            "`cas verify --heal` mends what it can.",
        )


def _find_missing(
    repository: GitRepository, wanted: Objects, entries: Sequence[Entry], known_segment: int | None
) -> set[str]:
    """Return the objects to write.

    git needs 13 us and a look into its pack folder to say that it lacks an object, so it is asked only about what it
    may have: blobs that were exported before, and everything when a batch was begun before.
    """
    if known_segment is None:
        return repository.missing_objects(wanted.oids)
    # Trees, commits and tags are of one run, except an artifact root that a rollback goes back to.
    probes = {entry.commit for entry in entries[:_PROBE_COUNT]}
    asked = {oid for oid, blob in wanted.blobs.items() if blob.segment <= known_segment}
    for entry in entries:
        if entry.is_rollback:
            asked.update(item.oid.hex() for item in entry.objects)
            asked.update(oid for file in entry.files if (oid := file.oid.hex()) in wanted.blobs)
    missing = repository.missing_objects(asked | probes)
    if probes - missing:
        return repository.missing_objects(wanted.oids)
    return set(wanted.oids) - (asked - missing)


def _secure(
    environment: Environment, repository: GitRepository, trusted: Objects, check: CheckLevel
) -> list[PackReceipt]:
    """Write what git seemed to have, should a prune that ran beside us have taken it before the refs held it.

    An object found before the refs moved may have been unreachable, and a running gc deletes by what it saw when it
    began. So while a gc is running nothing found is trusted; once the refs stand, a later gc keeps it.
    """
    if not trusted.count:
        return []
    oids = trusted.oids
    lost = set(oids) if gc_is_running(repository) else repository.missing_objects(oids)
    return [_write_pack(environment, repository, trusted.only(lost), check)] if lost else []


def gc_is_running(repository: GitRepository) -> bool:
    """Tell whether a ``git gc`` is at work: it keeps ``gc.pid`` with its process number and machine while it is."""
    note = repository.common_dir / "gc.pid"
    try:
        process_id, _, host = note.read_text("utf-8", "replace").strip().partition(" ")
        if host != socket.gethostname():
            return time.time() - note.stat().st_mtime < _GC_NOTE_AGE_S
        os.kill(int(process_id), 0)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except (OSError, ValueError):
        return True  # another user's process, or a file being written: assume the worse
    return True


def _write_pack(
    environment: Environment, repository: GitRepository, objects: Objects, check: CheckLevel
) -> PackReceipt:
    ordered = sorted(objects.blobs.values(), key=_place)  # stored order is reading order
    with _open_pack(repository, objects.count) as pack:
        _add_made(pack, objects.made.values())
        deposited = {} if check == "full" else objects.deposited
        unproved = copy_blobs(environment, pack, ordered, deposited, check=check)
        pack.seal()
        if check != "crc":  # while the disk works
            check_blobs(environment, unproved)
        return pack.finish()


def _open_pack(repository: GitRepository, object_count: int) -> PackWriter:
    return PackWriter(
        repository.common_dir / "objects",
        object_count,
        repository.object_format,
        shared_bits=repository.shared_bits,
    )


def _add_made(pack: PackWriter, objects: Iterable[GitObject]) -> None:
    pack.add_entries(_entry_of(item) for item in objects)


def _place(blob: Blob) -> tuple[int, int]:
    return blob.segment, blob.offset


def _entry_of(item: GitObject) -> PackEntry:
    """Return a made object's pack entry; one that is mostly ids gains nothing from compression."""
    size_bytes = len(item.data)
    if item.kind in _INCOMPRESSIBLE and size_bytes <= STORED_BYTES:
        head, crc = _stored_head(item.kind, size_bytes)
        stream = stored_tail(item.data)
        return item.oid, crc32(stream, crc), head, stream
    header = pack_entry_header(item.kind, size_bytes)
    stream = deflate(item.data)
    return item.oid, crc32(stream, crc32(header)), header, stream


@functools.lru_cache(maxsize=4096)  # a batch has thousands of trees and tags of a few sizes
def _stored_head(kind: str, size_bytes: int) -> tuple[bytes, int]:
    """Return what stands before the content in the entry of an object that is not compressed, and its CRC-32."""
    head = pack_entry_header(kind, size_bytes) + stored_head(size_bytes)
    return head, crc32(head)


def _targets(objects: Objects) -> dict[str, str | None]:
    """Return what refs may name among a batch's objects: commits, and tags with the object behind each."""
    found: dict[str, str | None] = {}
    for oid, item in objects.made.items():
        if item.kind == "commit":
            found[oid] = None
        elif item.kind == "tag":
            found[oid] = item.data[len(_TAGGED) : item.data.index(b"\n")].decode()
    return found


def _prove(repository: GitRepository, changes: list[RefChange]) -> None:
    """Read the refs back: a receipt is written only for what git shows."""
    found = read_refs(repository, [change.name for change in changes])
    for change in changes:
        if found.get(change.name) != change.new_oid:
            raise ConflictError(
                f"{change.name} is {found.get(change.name)} right after it was set to {change.new_oid}",
                subject=change.name,
                hint="Another program moved it in the same moment; run `cas export` again.",
            )

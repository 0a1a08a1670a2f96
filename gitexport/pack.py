"""Writing a pack and its index straight from pack-ready streams, without git.

Invariant: a pack becomes visible whole or not at all. Bytes go to a temporary file of a name that git neither
reads nor prunes; only after every checksum was verified and the file synced do ``.keep``, ``.pack`` and, last,
``.idx`` appear, each by one atomic step. git sees a pack by its ``.idx``. The ``.keep`` shields the objects from
a repack or prune until a ref holds them.

Every file of ours that may be left by a killed process is held with ``flock`` while its process lives, so a
leftover is recognised by its name (or, for ``.keep``, its content) together with a free lock, never by age or
process number. This module must not know of the store, and must not write refs.

Source: gitformat-pack(5), pack index version 2. A writer belongs to one thread; several writers, also of
several processes, may work in one repository.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import struct
import sys
from array import array
from bisect import bisect_right
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from cas.codec import crc32 as crc32_of
from cas.errors import IntegrityError, StateError
from cas.objects import oid_bytes, pack_entry_header
from gitexport.heldfile import (
    Buffer,
    create_held,
    mapped_os_errors,
    remove_held,
    remove_stale,
    start_writeback,
    sync_folder,
    write_all,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from cas.config import ObjectFormat

LARGE_OFFSET: Final = (
    0x8000_0000  # offsets from here on do not fit the index's 31 bits and go to its 64-bit table
)
# Not ``tmp_*``: `git prune --expire=now`, and so `git gc --prune=now`, removes every such file, a living writer's too.
# Other names git counts as garbage (`git count-objects -v`) and leaves alone; the sweep below removes them.
_TEMPORARY_PREFIX: Final = "cas_pack_"
_INDEX_PREFIX: Final = "cas_idx_"
_KEEP_PREFIX: Final = "cas_keep_"
KEEP_TEXT: Final = b"cas-gitexport: an export is in progress\n"
# Checksum and write of one buffer run on a thread of their own, without the interpreter's lock, while the next fills.
_BUFFER_BYTES: Final = 1024 * 1024
_FILE_MODE: Final = 0o444  # as git: a pack never changes


# Of one small object: raw id, CRC-32 of the entry, and the entry in two pieces: header and stream.
PackEntry = tuple[bytes, int, Buffer, Buffer]


@dataclasses.dataclass(slots=True)
class PackReceipt:
    """A published pack.

    Attributes:
        path: The ``.pack`` file; its ``.idx`` lies beside it.
        object_count: Objects in the pack.
        size_bytes: Size of the pack file.
        existed: True when the very same pack was there already, and nothing was written.
        held_keep: Descriptor of the ``.keep`` made for this pack; None when there is none of ours to release.
    """

    path: Path
    object_count: int
    size_bytes: int
    existed: bool
    held_keep: int | None = None

    @property
    def keep_path(self) -> Path:
        """The ``.keep`` file that shields this pack."""
        return self.path.with_suffix(".keep")

    def release_keep(self) -> None:
        """Remove the ``.keep`` this writer made, if it made one; call it once refs hold the objects. Repeatable."""
        if self.held_keep is not None:
            remove_held(self.keep_path, self.held_keep)
            self.held_keep = None


class PackWriter:
    """Streams objects into one pack; nothing is visible to git before ``finish``.

    Memory is two buffers of 1 MiB, about 35 bytes an object while writing and about 250 in ``finish``, whatever the
    size of the objects. As a context manager it discards an unfinished pack.

    Args:
        objects_dir: The repository's ``objects`` directory.
        object_count: How many objects will be added; it stands in the pack's header, which the checksum
            covers.
        object_format: ``sha1`` or ``sha256``.
        shared_bits: Permission bits ``core.sharedRepository`` adds.

    Raises:
        StorageError: The temporary file cannot be made.
    """

    def __init__(
        self,
        objects_dir: Path,
        object_count: int,
        object_format: ObjectFormat = "sha1",
        *,
        shared_bits: int = 0,
    ) -> None:
        self._directory = objects_dir / "pack"
        self._oid_bytes = oid_bytes(object_format)
        self._format: ObjectFormat = object_format
        self._expected_count = object_count
        self._mode_bits = shared_bits & _FILE_MODE
        self._checksum = hashlib.new(object_format, usedforsecurity=False)
        self._oids = bytearray()
        self._crcs = array("I")
        self._offsets = array("Q")
        # What is not handed to the thread yet, piece by piece: joining them once costs a third of appending each.
        self._pending: list[Buffer] = [struct.pack(">4sII", b"PACK", 2, object_count)]
        self._flushed_bytes = 0
        self._emitted_bytes = 0
        with mapped_os_errors(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True)
            self._temporary, descriptor = create_held(self._directory, _TEMPORARY_PREFIX, _FILE_MODE)
        self._descriptor: int | None = descriptor
        self._thread = ThreadPoolExecutor(1, "cas-pack")
        self._emitting: Future[None] | None = None
        self._sealing: Future[None] | None = None
        self._trailer = b""
        self.size_bytes = len(self._pending[0])

    @property
    def object_count(self) -> int:
        """Objects added so far."""
        return len(self._offsets)

    def add(
        self,
        kind: str,
        oid: bytes,
        size_bytes: int,
        stream_parts: Iterable[Buffer],
        crc32: int | None = None,
    ) -> None:
        """Append one object.

        Args:
            kind: ``blob``, ``tree``, ``commit`` or ``tag``.
            oid: Its raw id; the caller vouches that the stream inflates to it.
            size_bytes: Size of the inflated content.
            stream_parts: The zlib stream in pieces; each is copied before the next is asked for.
            crc32: CRC-32 of the pack entry (its header and stream) as computed at ingest; None skips the
                check.

        Raises:
            IntegrityError: The bytes do not have that CRC-32; the pack is discarded.
            StateError: The pack is finished or discarded, or has all the objects it was announced to have.
            StorageError: The disk refused (kind ``disk_full`` when it is full); the pack is discarded.
        """
        self._require_room(oid)
        offset = self.size_bytes
        header = pack_entry_header(kind, size_bytes)
        crc = crc32_of(header)
        try:
            self._pending.append(header)
            self.size_bytes += len(header)
            for part in stream_parts:
                crc = crc32_of(part, crc)
                self._pending.append(bytes(part))
                self.size_bytes += len(part)
                if self.size_bytes - self._flushed_bytes >= _BUFFER_BYTES:
                    self._flush()
            if crc32 is not None and crc != crc32:
                raise IntegrityError(  # noqa: TRY301  # discarded by the same handler as every other failure
                    f"stored stream of object {oid.hex()} is damaged: CRC-32 {crc:08x}, expected {crc32:08x}",
                    subject=oid.hex(),
                    hint="Run cas verify.",
                )
        except BaseException:
            self.discard()
            raise
        self._oids += oid
        self._crcs.append(crc)
        self._offsets.append(offset)

    def add_entries(self, entries: Iterable[PackEntry]) -> None:
        """Append small objects given as their whole entries; the caller vouches for the bytes.

        The buffers are used until this returns. If asking for the next entry raises, the pack is discarded.

        Raises:
            StateError: As for `add`.
            StorageError: As for `add`.
        """
        if self._descriptor is None:
            raise StateError("the pack is finished")
        oids, crcs, offsets, width = self._oids, self._crcs, self._offsets, self._oid_bytes
        pending, size_bytes = self._pending, self.size_bytes
        try:
            for oid, crc, header, stream in entries:
                if len(oid) != width or len(offsets) >= self._expected_count:
                    raise self._misfit(oid)  # noqa: TRY301  # discarded by the same handler as every other failure
                oids += oid
                crcs.append(crc)
                offsets.append(size_bytes)
                pending += (header, stream)
                size_bytes += len(header) + len(stream)
                if size_bytes - self._flushed_bytes >= _BUFFER_BYTES:
                    self.size_bytes = size_bytes
                    self._flush()
            self.size_bytes = size_bytes
            pending[:] = [b"".join(pending)]
        except BaseException:
            self.discard()
            raise

    def _require_room(self, oid: bytes) -> None:
        if self._descriptor is None:
            raise StateError("the pack is finished")
        if len(oid) != self._oid_bytes or len(self._offsets) >= self._expected_count:
            raise self._misfit(oid)

    def _misfit(self, oid: bytes) -> StateError:
        return StateError(f"object {oid.hex()} does not fit a {self._format} pack of {self._expected_count}")

    def finish(self, *, keep: bool = True) -> PackReceipt:
        """Publish pack and index; both, and their folder, are on the disk when this returns.

        Finishing the same objects twice is harmless: the pack is named by its checksum, so it is found to
        exist.

        Args:
            keep: Put a ``.keep`` beside the pack first; the receipt releases it. When this process dies it
                stays, until ``sweep_temporaries`` finds it.

        Raises:
            ExportError: Somebody pruned the temporary file meanwhile; retryable, write the pack again.
            IntegrityError: An object was added twice.
            StateError: The announced number of objects was not reached.
            StorageError: The disk refused.
        """
        sealing = self.seal()
        try:
            with mapped_os_errors(self._directory):
                return self._publish(sealing, keep=keep)
        finally:
            self.discard()

    def seal(self) -> Future[None]:
        """End the file and begin to sync it on another thread, for a caller with something to do before `finish`.

        Nothing is visible yet, and `discard` drops it all. Repeatable.

        Raises:
            StateError: The announced number of objects was not reached, or the pack is finished or discarded.
            StorageError: The disk refused.
        """
        if self._descriptor is None or self.object_count != self._expected_count:
            self.discard()
            raise StateError(
                f"pack has {self.object_count} of {self._expected_count} objects, or is finished"
            )
        if self._sealing is None:
            try:
                self._drain()
                self._emit(self._descriptor, b"".join(self._pending))
                self._trailer = self._checksum.digest()
                with mapped_os_errors(self._temporary):
                    write_all(self._descriptor, self._trailer)
                self.size_bytes += len(self._trailer)
                self._sealing = self._thread.submit(_seal, self._descriptor, self._mode_bits)
            except BaseException:
                self.discard()
                raise
        return self._sealing

    def discard(self) -> None:
        """Drop an unfinished pack; nothing of it stays. Repeatable, and harmless after ``finish``."""
        self._thread.shutdown()
        if self._descriptor is not None:
            remove_held(self._temporary, self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _flush(self) -> None:
        """Hand the buffer to the thread, once it is done with the one before: two buffers bound the memory."""
        if self._descriptor is None:
            raise StateError("the pack is finished")
        full = b"".join(self._pending)
        self._pending.clear()
        self._flushed_bytes = self.size_bytes
        self._drain()
        self._emitting = self._thread.submit(self._emit, self._descriptor, full)

    def _drain(self) -> None:
        if self._emitting is not None:
            emitting, self._emitting = self._emitting, None
            emitting.result()

    def _emit(self, descriptor: int, data: bytes) -> None:
        self._checksum.update(data)
        with mapped_os_errors(self._temporary):
            write_all(descriptor, data)
        start_writeback(descriptor, self._emitted_bytes, len(data))
        self._emitted_bytes += len(data)

    def _publish(self, sealing: Future[None], *, keep: bool) -> PackReceipt:
        # The disk works meanwhile.
        index = index_bytes(self._oids, self._crcs, self._offsets, self._trailer, self._format)
        sealing.result()
        pack_path = self._directory / f"pack-{self._trailer.hex()}.pack"
        held = _place_keep(pack_path.with_suffix(".keep")) if keep else None
        receipt = PackReceipt(pack_path, self.object_count, self.size_bytes, existed=False, held_keep=held)
        try:
            if pack_path.exists() and pack_path.with_suffix(".idx").exists():
                receipt.existed = True
                return receipt
            index_path, index_descriptor = create_held(self._directory, _INDEX_PREFIX, _FILE_MODE)
            try:
                write_all(index_descriptor, index)
                _seal(index_descriptor, self._mode_bits)
                self._temporary.rename(pack_path)
                index_path.rename(pack_path.with_suffix(".idx"))
            finally:
                remove_held(index_path, index_descriptor)
            sync_folder(self._directory)
        except BaseException:
            receipt.release_keep()
            raise
        return receipt


def index_bytes(
    oids: bytes | bytearray,
    crcs: Sequence[int],
    offsets: Sequence[int],
    pack_checksum: bytes,
    object_format: ObjectFormat = "sha1",
    *,
    large_offset: int = LARGE_OFFSET,
) -> bytes:
    """Return an index of version 2, byte for byte what ``git index-pack`` writes for the same pack.

    Args:
        oids: Raw ids in pack order, one after the other.
        crcs: CRC-32 of each entry, in pack order.
        offsets: Offset of each entry in the pack, in bytes.
        pack_checksum: The pack's trailer.
        object_format: ``sha1`` or ``sha256``.
        large_offset: Offsets from here on use the 64-bit table.

    Raises:
        IntegrityError: An object occurs twice.
    """
    width = oid_bytes(object_format)
    ids = [bytes(oids[at : at + width]) for at in range(0, len(oids), width)]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    names = b"".join([ids[position] for position in order])
    if len(set(ids)) != len(ids):
        twice = next(oid for oid, count in Counter(ids).items() if count > 1)
        raise IntegrityError(f"object {twice.hex()} was packed twice", subject=twice.hex())
    first_bytes = names[::width]
    small = [offsets[position] for position in order]
    large: list[int] = []
    if max(small, default=0) >= large_offset:
        for row, offset in enumerate(small):
            if offset >= large_offset:
                small[row] = LARGE_OFFSET | len(large)
                large.append(offset)
    table = b"".join(
        (
            b"\xfftOc\x00\x00\x00\x02",
            _big_endian("I", [bisect_right(first_bytes, first) for first in range(256)]),
            names,
            _big_endian("I", [crcs[position] for position in order]),
            _big_endian("I", small),
            _big_endian("Q", large),
            pack_checksum,
        )
    )
    checksum = hashlib.new(object_format, usedforsecurity=False)
    checksum.update(table)
    return table + checksum.digest()


def sweep_temporaries(objects_dir: Path) -> list[Path]:
    """Remove what killed writers of ours left in a repository, and return it; files of living ones are not touched.

    Stale ``.keep`` files are known by their content. Nothing that another program made is removed, and what cannot be
    removed stays.

    Args:
        objects_dir: The repository's ``objects`` directory.

    Raises:
        StorageError: The folder cannot be read.
    """
    directory = objects_dir / "pack"
    removed: list[Path] = []
    if not directory.is_dir():
        return removed
    with mapped_os_errors(directory):
        for entry in sorted(os.scandir(directory), key=lambda item: item.name):
            path = Path(entry.path)
            if entry.name.startswith((_TEMPORARY_PREFIX, _INDEX_PREFIX, _KEEP_PREFIX)):
                stale = remove_stale(path)
            elif entry.name.startswith("pack-") and entry.name.endswith(".keep"):
                stale = remove_stale(path, content=KEEP_TEXT, before=_remove_half_published)
            else:
                continue
            if stale:
                removed.append(path)
    return removed


def _big_endian(code: str, numbers: Sequence[int]) -> bytes:
    packed = array(code, numbers)
    if sys.byteorder == "little":
        packed.byteswap()
    return packed.tobytes()


def _seal(descriptor: int, mode_bits: int) -> None:
    if mode_bits:
        os.fchmod(descriptor, os.fstat(descriptor).st_mode & 0o777 | mode_bits)
    os.fsync(descriptor)


def _place_keep(keep_path: Path) -> int | None:
    """Make a held ``.keep``; None when somebody's is there, which shields the pack as well and is not ours."""
    temporary, descriptor = create_held(keep_path.parent, _KEEP_PREFIX, _FILE_MODE)
    try:
        write_all(descriptor, KEEP_TEXT)
        os.fsync(descriptor)  # an empty file after a power cut would not be recognised as ours
        os.link(temporary, keep_path)  # never replaces
    except FileExistsError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return descriptor


def _remove_half_published(keep_path: Path) -> None:
    """Remove a pack whose writer died before its index appeared: git cannot see it, and would keep it for ever."""
    if not keep_path.with_suffix(".idx").exists():
        keep_path.with_suffix(".pack").unlink(missing_ok=True)

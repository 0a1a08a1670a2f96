"""Disks after a power cut, rebuilt from a recording.

The model: what a flush covered is on the disk; of what was written since, any part may be, in any order, torn at
sectors. Names (made, renamed, removed) reach the disk in the order they were made, as journalling file systems do it,
and for certain only when their folder was flushed. After a failed flush, what it should have covered may be lost for
good. Sectors of 512 bytes are written whole or not at all.

Invariant: an image holds nothing that was not written, and everything that a flush covered.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path

SECTOR_BYTES = 512
PAGE_BYTES = 4096
FOLDER = object()


class File:
    """One file's bytes: those on the disk, and the writes that may or may not get there."""

    def __init__(self):
        self.durable = bytearray()
        self.pending = []

    def write(self, offset, data):
        self.pending.append((offset, data))

    def truncate(self, size_bytes):
        self.pending.append((size_bytes, None))

    def flush(self):
        for offset, data in self.pending:
            put(self.durable, offset, data)
        self.pending = []

    def flush_one(self, offset, data):
        """A write through a descriptor of its own that waits for the disk: it alone is there."""
        put(self.durable, offset, data)
        self.pending.append((offset, data))  # writes before it may still come later than it did

    def fail_flush(self, rng):
        """A flush that failed: the kernel calls the pages clean, and they may be anywhere."""
        self.durable = self.after_cut(rng)
        self.pending = []

    def after_cut(self, rng):
        """Return the bytes found after a cut."""
        content = bytearray(self.durable)
        how = rng.choice(["none", "all", "first", "writes", "pages", "sectors"])
        if how == "none":
            return content
        count = rng.randrange(len(self.pending) + 1) if how == "first" else len(self.pending)
        for offset, data in self.pending[:count]:
            if data is None or how in {"all", "first"}:
                put(content, offset, data)
            elif how == "writes":
                if rng.random() < 0.5:
                    put(content, offset, data)
            else:
                unit = PAGE_BYTES if how == "pages" else SECTOR_BYTES
                for start, part in pieces(offset, data, unit):
                    if rng.random() < 0.5:
                        put(content, start, part)
        return content


def put(content, offset, data):
    """Apply one write, or a truncation when ``data`` is None."""
    if data is None:
        if len(content) > offset:
            del content[offset:]
        else:
            content.extend(bytes(offset - len(content)))
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def pieces(offset, data, unit):
    """Cut a write at multiples of ``unit``."""
    at = 0
    while at < len(data):
        size = unit - (offset + at) % unit
        yield offset + at, data[at : at + size]
        at += size


class Disk:
    """A folder of the recorded machine, moved on record by record."""

    def __init__(self, root, acknowledged_name):
        self._root = str(root)
        self._acknowledged = f"{root}/{acknowledged_name}"
        self._names = {self._root: FOLDER}  # as the process saw them
        self._durable_names = dict(self._names)
        self._pending_names = []
        self._by_inode = {}
        self.acknowledged = []

    def apply(self, record, rng):
        """Carry out one record."""
        if record.path == self._acknowledged:
            if record.op in "WD":
                self.acknowledged.append(record.data)
        elif record.op in "CMRUL":
            self._name(record)
        elif record.op in "FE" and self._names.get(record.path) is FOLDER:
            self._flush_folder(record.path, failed=record.op == "E")
        elif (
            record.inode in self._by_inode
        ):  # others were opened without a name, or before the recording began
            self._move(self._by_inode[record.inode], record, rng)

    @staticmethod
    def _move(file, record, rng):
        if record.op == "W":
            file.write(record.offset, record.data)
        elif record.op == "D":
            file.flush_one(record.offset, record.data)
        elif record.op == "T":
            file.truncate(record.offset)
        elif record.op == "F":
            file.flush()
        elif record.op == "E":
            file.fail_flush(rng)

    def _name(self, record):
        if record.op == "C":
            known = self._by_inode.get(record.inode)
            if known is not None and self._names.get(record.path) is known:
                return
            if known is None or known not in self._names.values():
                known = self._by_inode[record.inode] = File()
            step = ("C", record.path, known)
        elif record.op == "M":
            step = ("C", record.path, FOLDER)
        else:
            step = (record.op, record.path, record.other)
        rename(self._names, step)
        self._pending_names.append(step)

    def _flush_folder(self, path, *, failed):
        if failed:
            return
        touched = [index for index, step in enumerate(self._pending_names) if path in folders_of(step)]
        count = touched[-1] + 1 if touched else 0
        for step in self._pending_names[:count]:
            rename(self._durable_names, step)
        del self._pending_names[:count]

    def before(self, record):
        """Return this disk at the moment before a flush has an effect: a write that waits is on its way."""
        if record.op == "D" and record.inode in self._by_inode:
            disk = copy.deepcopy(self, {id(FOLDER): FOLDER})
            disk._by_inode[record.inode].write(record.offset, record.data)
            return disk
        return self

    def cut(self, rng, target):
        """Write what is found after a power cut at this moment into the folder ``target``."""
        names = dict(self._durable_names)
        for step in self._pending_names[: rng.randrange(len(self._pending_names) + 1)]:
            rename(names, step)
        for path in sorted(names):
            place = Path(target) / os.path.relpath(path, self._root)
            if names[path] is FOLDER:
                place.mkdir(exist_ok=True, parents=True)
            elif place.parent.is_dir():
                place.write_bytes(names[path].after_cut(rng))


def folders_of(step):
    """Return the folders whose names a change touches."""
    _, first, other = step
    return {str(Path(path).parent) for path in (first, other) if isinstance(path, str)}


def rename(names, step):
    """Apply one change of names."""
    op, first, other = step
    if op == "C":
        names[first] = other
    elif op == "U":
        names.pop(first, None)
    elif op == "L":
        if first in names:
            names[other] = names[first]
    elif op == "R":
        for path in [path for path in names if path == first or path.startswith(first + "/")]:
            names[other + path[len(first) :]] = names.pop(path)

"""The ``packed-refs`` file as bytes: finding refs in it, and a new version of it with refs added, moved or taken out.

Invariant: what is not edited is copied byte for byte, and the result is sorted and fully peeled as its header
says. A file that is large beside what is asked of it is never parsed: it is searched by bisection and copied in
slices, so that ten refs more in a file of 300,000 cost a copy and not a parse. A small one is parsed once. Pure: this
module opens no file, takes no lock and knows of no loose refs.

Source: gitrepository-layout(5), git-pack-refs(1), and the header traits that git itself writes.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

import msgspec

from cas.errors import IntegrityError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterable

HEADER: Final = b"# pack-refs with: peeled fully-peeled sorted \n"
_TRAITS: Final = frozenset([b"fully-peeled", b"sorted"])  # without them nothing can be told by bisection
_FIRST_STEP_BYTES: Final = 256  # two or three entries
_CARET: Final = 0x5E
_ENTRY: Final = re.compile(rb"^(?:[0-9a-f]{40}|[0-9a-f]{64}) ([^\n]+)\n(?:\^[0-9a-f]+\n)?", re.MULTILINE)
# Parsing costs 0.4 us an entry of about 80 bytes, a search by bisection 3 us.
_PARSED_BYTES_PER_NAME: Final = 512


class PackedEdit(msgspec.Struct, frozen=True, gc=False):
    """One line to put into the file, or to take out of it: then ``oid`` is None. Oids in hex.

    ``peeled`` is the object behind an annotated tag, else None.
    """

    name: str
    oid: str | None
    peeled: str | None = None

    def lines(self) -> bytes:
        """Return the entry as the file holds it; nothing for one that goes."""
        if self.oid is None:
            return b""
        peeled = f"^{self.peeled}\n" if self.peeled else ""
        return f"{self.oid} {self.name}\n{peeled}".encode()


class PackedRefs:
    """One version of the file, in memory or mapped; it does not change. For one thread.

    Args:
        data: The whole file; empty when there is none.
        asked_count: About how many refs it will be asked for.

    Attributes:
        data: The whole file, or what an empty one begins with.
        canonical: True when the header promises order and peeled tags. Otherwise nothing else here may be
            used.

    Raises:
        IntegrityError: The file is malformed, as far as that was seen.
    """

    def __init__(self, data: bytes | mmap.mmap, asked_count: int = 0) -> None:
        self.data = data or HEADER
        end = self.data.find(b"\n") + 1
        first = self.data[:end]
        self._start = end if first.startswith(b"#") else 0
        self._last = (b"", self._start)
        traits = set(first.removeprefix(b"# pack-refs with:").split())
        self.canonical = (
            first.startswith(b"# pack-refs with:") and traits >= _TRAITS and self.data[-1:] == b"\n"
        )
        self._entries: dict[bytes, bytes] | None = None  # name to lines, in file order
        self._names: list[bytes] = []
        if self.canonical and len(self.data) <= _PARSED_BYTES_PER_NAME * asked_count:
            self._entries = {found[1]: found[0] for found in _ENTRY.finditer(self.data, self._start)}
            self._names = list(self._entries)
            if self._start + sum(map(len, self._entries.values())) != len(self.data):
                raise _malformed()

    def find(self, name: str) -> str | None:
        """Return the hex oid of a ref, or None.

        Raises:
            IntegrityError: The file is malformed where it was searched.
        """
        wanted = name.encode()
        if self._entries is not None:
            lines = self._entries.get(wanted)
            return None if lines is None else lines[: lines.index(b" ")].decode()
        at = self._lower_bound(wanted)
        return self._oid_at(at).decode() if self._name_at(at) == wanted else None

    def below(self, name: str) -> str | None:
        """Return some ref in the folder ``name``, or None; such a ref makes a ref ``name`` impossible."""
        prefix = name.encode() + b"/"
        if self._entries is not None:
            at = bisect_left(self._names, prefix)
            beside = self._names[at] if at < len(self._names) else b""
            return beside.decode() if beside.startswith(prefix) else None
        following = self._name_at(self._lower_bound(prefix))
        return following.decode() if following is not None and following.startswith(prefix) else None

    def edited(self, edits: Iterable[PackedEdit]) -> list[memoryview | bytes]:
        """Return the pieces of a new version in which each edit's ref has its new value; write them one by one.

        Args:
            edits: Unique names, in any order.
        """
        if self._entries is not None:
            merged = {**self._entries, **{edit.name.encode(): edit.lines() for edit in edits}}
            return [self.data[: self._start], b"".join([merged[name] for name in sorted(merged)])]
        view = memoryview(self.data)
        pieces: list[memoryview | bytes] = []
        copied = 0
        for edit in sorted(edits, key=lambda item: item.name.encode()):
            name = edit.name.encode()
            at = self._lower_bound(name)
            end = self._entry_end(at) if self._name_at(at) == name else at
            if at > copied:
                pieces.append(view[copied:at])
            if edit.oid is not None:
                pieces.append(edit.lines())
            copied = end
        pieces.append(view[copied:])
        return pieces

    def _lower_bound(self, wanted: bytes) -> int:
        """Return the offset of the first entry whose name is not below ``wanted``, or the end of the file.

        Searches onwards from the last answer when it can: the callers ask in sorted order, where the next
        answer is near.
        """
        last_wanted, low = self._last
        if wanted < last_wanted:
            low = self._start
        step = _FIRST_STEP_BYTES
        high = len(self.data)
        while low + step < high:
            at = self._entry_start(low + step, low)
            name = self._name_at(at)
            if name is None or name >= wanted:
                high = at
                break
            low = self._entry_end(at)
            step *= 4
        while low < high:
            at = self._entry_start((low + high) // 2, low)
            name = self._name_at(at)
            if name is not None and name < wanted:
                low = self._entry_end(at)
            else:
                high = at
        self._last = (wanted, low)
        return low

    def _entry_start(self, offset: int, low: int) -> int:
        at = self.data.rfind(b"\n", low, offset) + 1 or low
        if self.data[at] == _CARET:  # a peeled line belongs to the entry before it
            at = self.data.rfind(b"\n", low, at - 1) + 1 or low
        return at

    def _entry_end(self, at: int) -> int:
        end = self.data.find(b"\n", at) + 1
        if end < len(self.data) and self.data[end] == _CARET:
            end = self.data.find(b"\n", end) + 1
        return end

    def _oid_at(self, at: int) -> bytes:
        return self.data[at : self.data.find(b" ", at)]

    def _name_at(self, at: int) -> bytes | None:
        if at >= len(self.data):
            return None
        end = self.data.find(b"\n", at)
        oid, space, name = self.data[at:end].partition(b" ")
        if end < 0 or not space or len(oid) not in (40, 64):
            raise _malformed()
        return name


def _malformed() -> IntegrityError:
    return IntegrityError("packed-refs is malformed", hint="Run git fsck; git pack-refs rewrites the file.")

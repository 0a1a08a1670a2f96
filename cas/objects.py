"""git objects as bytes and ids: blob, tree, commit, annotated tag, in the SHA-1 and SHA-256 formats. Pure.

Invariant: the same arguments give the same bytes for ever, and they are the bytes git itself would write, so
an id is known before git has seen the object. What ``git fsck --strict`` would call an error is refused here.

Ids are raw bytes (20 or 32), hexadecimal only inside commits and tags as git wants it. Times are whole
seconds UTC. This module must not read files, start git or know of manifests. Everything in it is safe to call
from any thread.

Source: gitformat-pack(5), gitformat-signature(5), git-mktree(1), git-mktag(1).
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from cas.errors import IntegrityError, InvalidInputError, InvalidNameError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from cas.config import ObjectFormat

MODE_TREE: Final = 0o040000
MODE_FILE: Final = 0o100644
MODE_EXECUTABLE: Final = 0o100755
MODE_SYMLINK: Final = 0o120000
MODE_SUBMODULE: Final = 0o160000
_MODE_GROUP_WRITABLE: Final = (
    0o100664  # written by git before 2005; a branch's old tree must survive a rewrite
)
_MODES: Final = frozenset(
    [MODE_TREE, MODE_FILE, MODE_EXECUTABLE, MODE_SYMLINK, MODE_SUBMODULE, _MODE_GROUP_WRITABLE]
)

_PACK_TYPES: Final = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
_HASHED_HEADERS: Final = {kind: f"{kind} %d\0".encode() for kind in _PACK_TYPES}
_SMALL_OBJECT_BYTES: Final = 4096  # up to here a copy is cheaper than a second call of the hash function
_OID_BYTES: Final = {"sha1": 20, "sha256": 32}
_OID_SIZES: Final = frozenset(_OID_BYTES.values())
_SIGNATURE_HEADERS: Final = {
    20: "gpgsig",
    32: "gpgsig-sha256",
}  # by oid size; git looks only for its format's own

_PERSON_FORBIDDEN: Final = re.compile(r"[<>\x00-\x1f\x7f]")
_TAG_NAME_FORBIDDEN: Final = re.compile(
    r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[/.-]|[/.]\Z|/\.|\.lock(?:/|\Z)"
)
_MAX_TIMESTAMP_S: Final = 2**63 - 1  # above it git's own time_t overflows and fsck refuses the date


class TreeEntry(msgspec.Struct, frozen=True, gc=False):
    """One line of a tree: mode as a number (``0o100644``), name as bytes without a slash, raw oid."""

    mode: int
    name: bytes
    oid: bytes


class GitObject(msgspec.Struct, frozen=True, gc=False):
    """An object ready to be packed: its kind (``tree``, ...), raw oid, and content without git's header."""

    kind: str
    oid: bytes
    data: bytes


class Person(msgspec.Struct, frozen=True, gc=False):
    """Author, committer or tagger."""

    name: str
    email: str


class Signer(Protocol):
    """What can sign a commit. The same payload must always give the same text, or ids would not repeat."""

    def sign(self, payload: bytes) -> str:
        """Return the armored signature of ``payload``, the commit's bytes without a signature."""
        ...


def oid_bytes(object_format: ObjectFormat) -> int:
    """Return the size of a raw oid: 20 for ``sha1``, 32 for ``sha256``."""
    return _OID_BYTES[object_format]


def object_id(kind: str, data: bytes | bytearray | memoryview, object_format: ObjectFormat = "sha1") -> bytes:
    """Return the raw oid of an object held in memory.

    Args:
        kind: ``blob``, ``tree``, ``commit`` or ``tag``.
        data: Content; a memoryview must be of bytes.
        object_format: Id format.

    Raises:
        InvalidInputError: Unknown kind.
    """
    # Not a security boundary here: git's format fixes the function, and BLAKE3 guards the content.
    new = hashlib.sha1 if object_format == "sha1" else hashlib.sha256
    if len(data) <= _SMALL_OBJECT_BYTES:
        return new(_hashed_header(kind, len(data)) + data, usedforsecurity=False).digest()
    state = new(_hashed_header(kind, len(data)), usedforsecurity=False)
    state.update(data)
    return state.digest()


class ObjectHasher:
    """Streaming oid of one object whose size is known beforehand, in constant memory.

    The methods are named as in ``hashlib``; what ``digest`` returns is an oid. One thread at a time per
    instance.
    """

    __slots__ = ("_left_bytes", "_state")

    def __init__(self, kind: str, size_bytes: int, object_format: ObjectFormat = "sha1") -> None:
        """Start an object of ``size_bytes`` bytes of content.

        Raises:
            InvalidInputError: Unknown kind or negative size.
        """
        if size_bytes < 0:
            raise InvalidInputError(f"object size must not be negative: {size_bytes}")
        new = hashlib.sha1 if object_format == "sha1" else hashlib.sha256
        self._state = new(_hashed_header(kind, size_bytes), usedforsecurity=False)
        self._left_bytes = size_bytes

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Feed the next part of the content; the buffer is not kept. The GIL is released for large parts."""
        self._left_bytes -= len(data)
        self._state.update(data)

    def digest(self) -> bytes:
        """Return the raw oid.

        Raises:
            StateError: More or fewer bytes were fed than announced.
        """
        if self._left_bytes:
            raise StateError(
                f"object content differs from its announced size by {-self._left_bytes:+d} bytes"
            )
        return self._state.digest()


def tree_bytes(entries: Iterable[TreeEntry]) -> bytes:
    """Return the content of a tree object, in git's order: folders sort as if a slash ended their name.

    Args:
        entries: In any order; oids all of one format.

    Raises:
        InvalidNameError: A name is doubled, or one that git refuses in a tree.
        InvalidInputError: An unknown mode, or oids of mixed or odd size.
    """
    rows: dict[bytes, bytes] = {}
    names: set[bytes] = set()
    sizes: set[int] = set()
    for entry in entries:
        name, mode, oid = entry.name, entry.mode, entry.oid
        if name in names:
            raise InvalidNameError(f"tree holds {name!r} twice", subject=_text(name))
        names.add(name)
        sizes.add(len(oid))
        rows[name + b"/" if mode == MODE_TREE else name] = _entry_head(mode, name) + oid
    _check_oid_sizes(sizes)
    return b"".join([rows[key] for key in sorted(rows)])


def folder_tree_bytes(name: bytes, oid: bytes) -> bytes:
    """Return the content of the tree that holds one folder and nothing else, as `tree_bytes` would.

    Raises:
        InvalidNameError: git refuses the name in a tree.
    """
    return _entry_head(MODE_TREE, name) + oid


def file_tree_bytes(files: Mapping[bytes, bytes]) -> bytes:
    """Return the content of a tree that holds plain files and nothing else, as `tree_bytes` would.

    Args:
        files: Name to raw oid.

    Raises:
        InvalidNameError: git refuses a name in a tree.
        InvalidInputError: Oids of mixed or odd size.
    """
    _check_oid_sizes({len(oid) for oid in files.values()})
    return b"".join([_entry_head(MODE_FILE, name) + files[name] for name in sorted(files)])


def parse_tree(data: bytes, object_format: ObjectFormat = "sha1") -> list[TreeEntry]:
    """Return the entries of a tree object in their stored order; modes that git no longer writes are kept.

    Raises:
        IntegrityError: The bytes are not a tree of this format.
    """
    size_bytes = _OID_BYTES[object_format]
    entries: list[TreeEntry] = []
    position = 0
    while position < len(data):
        blank_at = data.find(b" ", position)
        nul_at = data.find(b"\0", blank_at + 1)
        end = nul_at + 1 + size_bytes
        mode = data[position:blank_at]
        if blank_at < 0 or nul_at <= blank_at + 1 or end > len(data) or not _is_octal(mode):
            raise IntegrityError(f"not a {object_format} tree: bad entry at byte {position}")
        entries.append(TreeEntry(int(mode, 8), data[blank_at + 1 : nul_at], data[nul_at + 1 : end]))
        position = end
    return entries


def build_tree(
    files: Mapping[str, tuple[int, bytes]], object_format: ObjectFormat = "sha1"
) -> tuple[bytes, list[GitObject]]:
    """Return the nested trees that hold ``files``.

    Args:
        files: POSIX path to mode and raw oid. A mode of ``MODE_TREE`` grafts an existing tree at that path.
        object_format: Id format.

    Returns:
        The root's oid, and every tree once: deepest folders first, by path within a depth, the root last.

    Raises:
        InvalidNameError: A path is not canonical, or a file is also a folder.
        InvalidInputError: An unknown mode or an oid of the wrong size.
    """
    folders: dict[str, list[TreeEntry]] = {"": []}
    for path, (mode, oid) in files.items():
        if not path or path[0] == "/":
            raise InvalidNameError(f"tree path {path!r} must be relative and not empty", subject=path)
        if len(oid) != _OID_BYTES[object_format]:
            raise InvalidInputError(f"oid of {path!r} is not of the {object_format} format", subject=path)
        parent, _, name = path.rpartition("/")
        _folder(folders, parent).append(TreeEntry(mode, _name_bytes(name, path), oid))
    objects: dict[bytes, GitObject] = {}
    oid = b""
    for folder in sorted(folders, key=_deepest_first):
        data = tree_bytes(folders[folder])
        oid = object_id("tree", data, object_format)
        objects.setdefault(oid, GitObject("tree", oid, data))
        if folder:
            parent, _, name = folder.rpartition("/")
            folders[parent].append(TreeEntry(MODE_TREE, _name_bytes(name, folder), oid))
    return oid, list(objects.values())  # the root came last, and no folder inside it can equal it


def commit_bytes(
    tree: bytes,
    parents: Sequence[bytes],
    author: Person,
    timestamp_s: int,
    message: str,
    signature: str | None = None,
) -> bytes:
    """Return the content of a commit object; author and committer are one, the zone is ``+0000``.

    A signature is made over the bytes this returns without one, and does not change the rest of them.

    Args:
        tree: Raw oid; its size tells the format.
        parents: Raw oids of the same format, none for an orphan.
        author: Author and committer.
        timestamp_s: Seconds since 1970 UTC.
        message: Written as it is; by custom it ends in a newline.
        signature: Armored signature of the unsigned commit.

    Raises:
        InvalidInputError: Something that git would refuse: a NUL, an identity with ``<``, a date out of
            range.
    """
    _check_oid_sizes({len(tree), *map(len, parents)})
    person = _person_line(author, timestamp_s)
    lines = [f"tree {tree.hex()}"]
    lines += [f"parent {parent.hex()}" for parent in parents]
    lines += [f"author {person}", f"committer {person}"]
    if signature is not None:
        # Git folds the signature into one header: each further line, blank ones too, begins with a blank.
        folded = signature.rstrip("\n").replace("\n", "\n ")
        lines.append(f"{_SIGNATURE_HEADERS[len(tree)]} {folded}")
    return _encoded("\n".join([*lines, "", message]))


def tag_bytes(
    target_oid: bytes, target_kind: str, name: str, tagger: Person, timestamp_s: int, message: str
) -> bytes:
    """Return the content of an annotated tag object.

    Args:
        target_oid: Raw oid of what is tagged.
        target_kind: Its kind, as a rule ``commit``.
        name: Tag name without ``refs/tags/``.
        tagger: Who tags.
        timestamp_s: Seconds since 1970 UTC, zone ``+0000``.
        message: Written as it is; by custom it ends in a newline.

    Raises:
        InvalidInputError: Something that git would refuse: a bad tag name, a NUL, a date out of range.
    """
    _pack_type(target_kind)
    _check_oid_sizes({len(target_oid)})
    if not name or _TAG_NAME_FORBIDDEN.search(name):
        raise InvalidInputError(f"git refuses {name!r} as a tag name", subject=name)
    return _encoded(
        f"object {target_oid.hex()}\ntype {target_kind}\ntag {name}\n"
        f"tagger {_person_line(tagger, timestamp_s)}\n\n{message}"
    )


@functools.lru_cache(maxsize=4096)  # a pack has thousands of trees and tags of a few sizes
def pack_entry_header(kind: str, size_bytes: int) -> bytes:
    """Return what stands before a stream in a pack: three bits of type and the size of the inflated content.

    Little-endian groups of bits, four in the first byte and seven in each further one; the top bit says
    "more".

    Raises:
        InvalidInputError: Unknown kind or negative size.
    """
    if size_bytes < 0:
        raise InvalidInputError(f"object size must not be negative: {size_bytes}")
    byte = _pack_type(kind) << 4 | size_bytes & 0x0F
    rest = size_bytes >> 4
    header = bytearray()
    while rest:
        header.append(byte | 0x80)
        byte = rest & 0x7F
        rest >>= 7
    header.append(byte)
    return bytes(header)


def _pack_type(kind: str) -> int:
    try:
        return _PACK_TYPES[kind]
    except KeyError:
        raise InvalidInputError(f"{kind!r} is not a kind of git object", subject=kind) from None


def _hashed_header(kind: str, size_bytes: int) -> bytes:
    """Return what git hashes before the content of an object."""
    try:
        return _HASHED_HEADERS[kind] % size_bytes
    except KeyError:
        raise InvalidInputError(f"{kind!r} is not a kind of git object", subject=kind) from None


@functools.lru_cache(maxsize=1024)  # the runs of a store name their files alike
def _entry_head(mode: int, name: bytes) -> bytes:
    """Return what stands before the oid in a line of a tree."""
    if not name or b"/" in name or b"\0" in name or name.lower() in {b".", b"..", b".git"}:
        raise InvalidNameError(f"git refuses {name!r} as a name in a tree", subject=_text(name))
    if mode not in _MODES:
        raise InvalidInputError(f"{mode:o} is not a mode that git writes", subject=_text(name))
    return b"%o %s\0" % (mode, name)


def _check_oid_sizes(sizes: AbstractSet[int]) -> None:
    if len(sizes) > 1 or not sizes <= _OID_SIZES:
        raise InvalidInputError(f"oids must all have 20 or all 32 bytes, not {sorted(sizes)}")


def _folder(folders: dict[str, list[TreeEntry]], path: str) -> list[TreeEntry]:
    """Return the entry list of a folder, made with those of all folders above it."""
    missing = path
    while missing not in folders:
        folders[missing] = []
        missing = missing.rpartition("/")[0]
    return folders[path]


def _deepest_first(folder: str) -> tuple[int, str]:
    return (-(folder.count("/") + 1) if folder else 0, folder)


def _name_bytes(name: str, path: str) -> bytes:
    try:
        return name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidNameError(f"tree path {path!r} is not valid Unicode text") from error


def _person_line(person: Person, timestamp_s: int) -> str:
    if not 0 <= timestamp_s <= _MAX_TIMESTAMP_S:
        raise InvalidInputError(f"{timestamp_s} s is not a time that git accepts")
    return f"{_identity(person.name, person.email)} {timestamp_s} +0000"


@functools.lru_cache(maxsize=64)  # a store has one author, or a few
def _identity(name: str, email: str) -> str:
    for text in (name, email):
        if not text.strip() or _PERSON_FORBIDDEN.search(text):
            raise InvalidInputError(f"git refuses {text!r} in an identity", subject=text)
    return f"{name} <{email}>"


def _encoded(text: str) -> bytes:
    if "\0" in text:
        raise InvalidInputError("a commit or tag must not hold a NUL character")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInputError("a commit or tag must be valid Unicode text") from error


def _is_octal(mode: bytes) -> bool:
    return mode.isdigit() and mode.translate(None, b"89") == mode and int(mode, 8) > 0


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")

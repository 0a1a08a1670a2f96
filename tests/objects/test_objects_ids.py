"""Object ids and pack entry headers."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cas.errors import InvalidInputError, StateError
from cas.objects import ObjectHasher, object_id, oid_bytes, pack_entry_header

if TYPE_CHECKING:
    from tests.objects.conftest import ScratchRepository

EMPTY = {
    ("blob", "sha1"): "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
    ("tree", "sha1"): "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    ("blob", "sha256"): "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
    ("tree", "sha256"): "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
PACK_TYPES = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
EDGE_SIZES = [0, 1, 15, 16, 127, 128, 2047, 2048, 262_143, 262_144]


@pytest.mark.parametrize(("kind", "object_format"), EMPTY)
def test_object_id_empty_content_is_the_known_one(kind: str, object_format: str) -> None:
    assert object_id(kind, b"", object_format).hex() == EMPTY[kind, object_format]
    assert oid_bytes(object_format) * 2 == len(EMPTY[kind, object_format])


@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=300))
def test_object_id_any_blob_is_what_git_says(repository: ScratchRepository, data: bytes) -> None:
    oid = repository.git("hash-object", "--stdin", stdin=data).decode().strip()
    assert object_id("blob", data, repository.object_format).hex() == oid


@given(st.lists(st.binary(max_size=50)), st.sampled_from(["sha1", "sha256"]))
def test_object_hasher_any_parts_give_the_id_of_the_whole(parts: list[bytes], object_format: str) -> None:
    whole = b"".join(parts)
    hasher = ObjectHasher("blob", len(whole), object_format)
    for part in parts:
        hasher.update(memoryview(part))
    assert hasher.digest() == object_id("blob", whole, object_format)


@pytest.mark.parametrize("announced_bytes", [2, 4])
def test_object_hasher_other_size_than_announced_is_refused(announced_bytes: int) -> None:
    hasher = ObjectHasher("blob", announced_bytes)
    hasher.update(b"abc")
    with pytest.raises(StateError):
        hasher.digest()


def test_objects_unknown_kind_or_negative_size_is_refused() -> None:
    for call in (
        lambda: object_id("note", b""),
        lambda: ObjectHasher("blob", -1),
        lambda: pack_entry_header("note", 1),
        lambda: pack_entry_header("blob", -1),
    ):
        with pytest.raises(InvalidInputError):
            call()


@given(st.sampled_from(sorted(PACK_TYPES.items())), st.integers(0, 2**60) | st.sampled_from(EDGE_SIZES))
def test_pack_entry_header_any_size_reads_back(kind: tuple[int, str], size_bytes: int) -> None:
    header = pack_entry_header(kind[1], size_bytes)
    assert [byte >> 7 for byte in header] == [1] * (len(header) - 1) + [0]
    assert header[0] >> 4 & 7 == kind[0]
    read = header[0] & 15
    for position, byte in enumerate(header[1:]):
        read |= (byte & 127) << (4 + 7 * position)
    assert read == size_bytes
    assert len(header) == 1 or header[-1] != 0


def test_pack_entry_header_edge_sizes_are_indexed_by_git(fresh_repository: ScratchRepository) -> None:
    object_format = fresh_repository.object_format
    contents = [b"x" * size for size in EDGE_SIZES]
    body = b"PACK" + (2).to_bytes(4, "big") + len(contents).to_bytes(4, "big")
    body += b"".join(pack_entry_header("blob", len(data)) + zlib.compress(data, 1) for data in contents)
    pack = body + hashlib.new(object_format, body).digest()
    fresh_repository.git("index-pack", "--stdin", "--strict", stdin=pack)
    oids = "".join(f"{object_id('blob', data, object_format).hex()}\n" for data in contents)
    sizes = fresh_repository.git("cat-file", "--batch-check=%(objectsize)", stdin=oids.encode())
    assert [int(line) for line in sizes.split()] == EDGE_SIZES

"""Content compared with digests: damage that no CRC-32 shows, blobs that were moved or are gone, many tasks."""

from __future__ import annotations

import dataclasses
import random

import msgspec
import pytest

from cas import ArtifactStore, ArtifactStoreConfig, blobs
from cas.codec import deflate
from cas.digest import digest_bytes
from cas.errors import IntegrityError
from cas.lmdbenv import Table
from cas.objects import pack_entry_header
from gitexport import blobcheck
from gitexport.blobcheck import check_blobs

CONTENTS = [random.Random(number).randbytes(200 + number) for number in range(40)]


@pytest.fixture
def store(tmp_path):
    with ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path, scan_for_secrets=False)) as opened:
        files = {f"f{number}": content for number, content in enumerate(CONTENTS)}
        opened.commit_artifacts("w", "t", files, {}, "c")
        yield opened


def rows(store):
    with store.environment.read() as transaction:
        return [blobs.require(transaction, digest_bytes(content)) for content in CONTENTS]


@dataclasses.dataclass
class Pages:
    """Counts how often pages were given back."""

    count: int = 0


@pytest.fixture
def released(store, monkeypatch):
    pages = Pages()

    def count(self):
        pages.count += 1

    monkeypatch.setattr(type(store.environment), "release_pages", count)
    return pages


def replace_stream(store, blob, content):
    """Put other content of the same size in a blob's place, with the CRC-32 that fits: as a bad memory would."""
    stream = deflate(content)
    assert len(stream) == blob.stored_bytes
    crc = blobs.entry_crc32(pack_entry_header("blob", blob.size_bytes), stream)
    with store.environment.write() as transaction:
        row = transaction.get(Table.SEGMENTS, blobs.segment_key(blob.segment, 0))
        end = blob.offset + blob.stored_bytes
        transaction.put(
            Table.SEGMENTS, blobs.segment_key(blob.segment, 0), row[: blob.offset] + stream + row[end:]
        )
        transaction.put(Table.BLOBS, blob.digest, blobs.encode(msgspec.structs.replace(blob, crc32=crc)))


@pytest.mark.parametrize("task_blobs", [1, 7, 1000])
def test_sound_blobs_pass_and_pages_are_given_back(store, monkeypatch, released, task_blobs):
    monkeypatch.setattr(blobcheck, "_TASK_BLOBS", task_blobs)
    check_blobs(store.environment, rows(store))
    assert released.count == (40 // task_blobs // 8 + 1 if task_blobs < 1000 else 0)


@pytest.mark.parametrize("task_blobs", [1, 7, 1000])
def test_content_that_fits_its_crc_but_not_its_digest_is_named(store, monkeypatch, task_blobs):
    monkeypatch.setattr(blobcheck, "_TASK_BLOBS", task_blobs)
    bad = rows(store)[23]
    replace_stream(store, bad, random.Random(99).randbytes(bad.size_bytes))
    with pytest.raises(IntegrityError, match="does not match its digest") as caught:
        check_blobs(store.environment, rows(store))
    assert caught.value.subject == bad.digest.hex()


def test_stream_that_is_no_zlib_stream_is_named_as_damaged(store):
    bad = rows(store)[3]
    with store.environment.write() as transaction:
        key = blobs.segment_key(bad.segment, 0)
        row = transaction.get(Table.SEGMENTS, key)
        junk = bytes(bad.stored_bytes)
        transaction.put(Table.SEGMENTS, key, row[: bad.offset] + junk + row[bad.offset + bad.stored_bytes :])
        crc = blobs.entry_crc32(pack_entry_header("blob", bad.size_bytes), junk)
        transaction.put(Table.BLOBS, bad.digest, blobs.encode(msgspec.structs.replace(bad, crc32=crc)))
    with pytest.raises(IntegrityError, match="does not match its digest") as caught:
        check_blobs(store.environment, rows(store))
    assert caught.value.subject == bad.digest.hex()


def test_blob_that_is_gone_is_named(store):
    wanted = rows(store)
    with store.environment.write() as transaction:
        blobs.erase(transaction, wanted[5])
    with pytest.raises(IntegrityError, match="missing") as caught:
        check_blobs(store.environment, wanted)
    assert caught.value.subject == wanted[5].digest.hex()


def test_nothing_to_check_starts_no_thread(store, released):
    check_blobs(store.environment, [])
    assert released.count == 0

"""Blob rows and segments, one function at a time: what is stored comes back whole, and damage is told by name."""

import random

import msgspec
import pytest

from cas import blobs, tombstones
from cas.blobs import NOT_SCANNED, QUARANTINED, NewBlob, Stream
from cas.codec import Deflater, deflate
from cas.digest import digest_bytes
from cas.errors import IntegrityError, PurgedContentError, StorageError
from cas.lmdbenv import Table
from cas.objects import ObjectHasher, object_id, pack_entry_header
from cas.staging import Stage
from tests.store.stores import open_store, undone_transaction

RULESET = b"ruleset1"
PART_BYTES = 1000
NOISE = random.Random(1).randbytes(3500)
TOMBSTONE = tombstones.Tombstone(1, bytes(20), 7)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("blobs")) as opened:
        yield opened


@pytest.fixture
def transaction(store):
    with undone_transaction(store) as opened:
        yield opened


def new_blob(data, ruleset=RULESET, object_format="sha1", **changes):
    stream = deflate(data)
    made = {
        "digest": digest_bytes(data),
        "oid": object_id("blob", data, object_format),
        "size_bytes": len(data),
        "crc32": blobs.entry_crc32(pack_entry_header("blob", len(data)), stream),
        "ruleset": ruleset,
        "stream": stream,
    }
    return NewBlob(**made | changes)


def add(transaction, *contents):
    news = [new_blob(content) for content in contents]
    blobs.add(transaction, news)
    return [blobs.find(transaction, new.digest) for new in news]


def stage(store, stream, owner=b"owner"):
    """Stage a stream in parts of 1,000 bytes, in pieces that do not end where the parts do."""
    staged = Stage(store.environment, owner)
    for start in range(0, len(stream), 700):
        staged.feed(stream[start : start + 700])
    staged.finish()
    return staged


def deflated(data):
    engine = Deflater()
    return engine.feed(data) + engine.finish()


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A store of its own with one blob in several parts: store, content, blob."""
    monkeypatch.setattr(blobs, "PART_BYTES", PART_BYTES)
    stream = deflated(NOISE)
    with open_store(tmp_path) as opened:
        staged = stage(opened, stream)
        new = new_blob(
            NOISE,
            stream=b"",
            crc32=blobs.entry_crc32(pack_entry_header("blob", len(NOISE)), stream),
            staged_segment=staged.segment,
            staged_mark=staged.mark,
            staged_bytes=staged.stored_bytes,
            part_count=staged.part_count,
        )
        with opened.environment.write() as transaction:
            assert blobs.add(transaction, [new]) is None, "a staged stream has segments of its own"
            blob = blobs.find(transaction, new.digest)
        yield opened, stream, blob


def test_added_blobs_share_one_segment_behind_each_other(transaction):
    news = [new_blob(content) for content in (b"one" * 9, b"two" * 20, b"")]
    sizes = [len(new.stream) for new in news]
    placed = blobs.add(transaction, news)
    found = [blobs.find(transaction, new.digest) for new in news]
    segment = found[0].segment
    assert list(blobs.iter_segments(transaction)) == [segment]
    assert [(blob.segment, blob.offset) for blob in found] == [
        (segment, 0),
        (segment, sizes[0]),
        (segment, sizes[0] + sizes[1]),
    ]
    for new, blob in zip(news, found, strict=True):
        assert (blob.digest, blob.oid, blob.size_bytes) == (new.digest, new.oid, new.size_bytes)
        assert (blob.crc32, blob.ruleset, blob.part_count) == (new.crc32, RULESET, 1)
        assert blob.stored_bytes == len(new.stream)
        assert b"".join(blobs.iter_stream(transaction, blob)) == new.stream
        blobs.check_entry(transaction, blob)
    assert [blobs.read(transaction, blob) for blob in found] == [b"one" * 9, b"two" * 20, b""]
    joined = b"".join(new.stream for new in news)
    assert transaction.view(Table.SEGMENTS, blobs.segment_key(segment, 0)) == joined
    assert placed == (
        segment,
        digest_bytes(joined),
        {blob.digest: Stream(blob.offset, blob.stored_bytes, blob.crc32) for blob in found},
    )


def test_blob_that_is_there_is_not_added_again_and_what_follows_it_starts_at_its_place(transaction):
    (first,) = add(transaction, b"first")
    second = new_blob(b"second")
    added = blobs.add(transaction, [new_blob(b"first", ruleset=NOT_SCANNED), second])
    assert added == (
        first.segment + 1,
        digest_bytes(second.stream),
        {second.digest: Stream(0, len(second.stream), second.crc32)},
    )
    assert blobs.find(transaction, first.digest) == first
    placed = blobs.find(transaction, second.digest)
    assert (placed.segment, placed.offset) == (first.segment + 1, 0)
    assert blobs.add(transaction, [second]) is None
    assert list(blobs.iter_segments(transaction)) == [first.segment, placed.segment]
    assert [blob.digest for blob in blobs.iter_blobs(transaction)] == sorted([first.digest, placed.digest])


def test_quarantined_blob_is_no_sound_one_and_is_replaced_by_the_same_content(transaction):
    (blob,) = add(transaction, b"content")
    assert not blob.is_quarantined
    assert blobs.find_sound(transaction, blob.digest) == blob
    assert blobs.remember_scan(transaction, blob.digest, QUARANTINED)
    assert blobs.find(transaction, blob.digest).is_quarantined
    assert blobs.find_sound(transaction, blob.digest) is None
    assert not blobs.remember_scan(transaction, blob.digest, RULESET)
    (again,) = add(transaction, b"content")
    assert (again.segment, again.ruleset) == (blob.segment + 1, RULESET)


def test_scan_that_is_remembered_changes_the_rule_set_alone(transaction):
    (blob,) = add(transaction, b"content")
    assert blobs.remember_scan(transaction, blob.digest, b"ruleset2")
    (kept,) = blobs.iter_blobs(transaction)
    assert kept.ruleset == b"ruleset2"
    assert blobs.encode(kept) == blobs.encode(blob).replace(RULESET, b"ruleset2")
    assert not blobs.remember_scan(transaction, bytes(32), RULESET)


def test_row_that_is_cut_off_is_damage_and_no_sound_blob(transaction):
    (blob,) = add(transaction, b"content")
    row = blobs.encode(blob)
    for kept_bytes in (0, len(row) - 20):
        transaction.put(Table.BLOBS, blob.digest, row[:kept_bytes])
        with pytest.raises(IntegrityError, match="damaged") as caught:
            blobs.find(transaction, blob.digest)
        assert caught.value.subject == blob.digest.hex()
        assert blobs.find_sound(transaction, blob.digest) is None


def test_missing_blob_is_told_from_a_purged_one(transaction):
    digest = digest_bytes(b"content")
    assert blobs.find(transaction, digest) is None
    assert blobs.find_sound(transaction, digest) is None
    with pytest.raises(IntegrityError, match="is missing") as caught:
        blobs.require(transaction, digest)
    assert (caught.value.subject, caught.value.kind) == (digest.hex(), "damaged")
    tombstones.put(transaction, digest, TOMBSTONE)
    with pytest.raises(IntegrityError) as caught:
        blobs.require(transaction, digest)
    assert caught.value.kind == "purged"
    with pytest.raises(PurgedContentError) as refused:
        blobs.add(transaction, [new_blob(b"other"), new_blob(b"content")])
    assert refused.value.subject == digest.hex()


def overwrite(transaction, blob, change):
    key = blobs.segment_key(blob.segment, 0)
    stored = bytearray(transaction.view(Table.SEGMENTS, key))
    transaction.put(Table.SEGMENTS, key, bytes(change(stored)))


def flip(at):
    def change(stored):
        stored[at] ^= 0xFF
        return stored

    return change


def test_damaged_stream_is_told_by_the_digest_of_its_blob(transaction):
    first, second = add(transaction, b"content of the first", b"content of the second")
    overwrite(transaction, second, flip(second.offset + 9))
    assert blobs.read(transaction, first) == b"content of the first"
    blobs.check_entry(transaction, first)
    for check in (blobs.read, blobs.check_entry):
        with pytest.raises(IntegrityError, match="does not match its digest") as caught:
            check(transaction, second)
        assert caught.value.subject == second.digest.hex()


def test_stream_of_other_content_does_not_match_the_digest(transaction):
    (blob,) = add(transaction, b"content A")
    other = deflate(b"content B")
    assert len(other) == blob.stored_bytes
    overwrite(transaction, blob, lambda _: other)
    with pytest.raises(IntegrityError, match="does not match its digest"):
        blobs.read(transaction, blob)


@pytest.mark.parametrize("cut_bytes", [1, None], ids=["short", "gone"])
def test_stream_cut_short_is_told_by_the_digest_of_its_blob(transaction, cut_bytes):
    (blob,) = add(transaction, b"content")
    if cut_bytes is None:
        transaction.delete(Table.SEGMENTS, blobs.segment_key(blob.segment, 0))
    else:
        overwrite(transaction, blob, lambda stored: stored[:-cut_bytes])
    with pytest.raises(IntegrityError, match="is cut short") as caught:
        list(blobs.iter_stream(transaction, blob))
    assert caught.value.subject == blob.digest.hex()


def test_whole_streams_come_with_their_blobs_also_from_rows_of_an_earlier_place(transaction):
    first, second = add(transaction, b"one" * 9, b"two" * 20)
    (third,) = add(transaction, b"three")
    wanted = [first, second, third, first]
    streams = [(blob, b"".join(blobs.iter_stream(transaction, blob))) for blob in wanted]
    found = blobs.iter_whole_streams(transaction, wanted)
    assert [(blob, bytes(view)) for blob, view in found] == streams
    moved = blobs.encode(first)
    overwrite(transaction, first, lambda stored: b"gap" + stored)
    for blob, row in ((first, moved), (second, blobs.encode(second))):
        shifted = bytearray(row)
        shifted[11] += 3  # the last byte of the offset
        transaction.put(Table.BLOBS, blob.digest, bytes(shifted))
    found = list(blobs.iter_whole_streams(transaction, wanted))
    assert [(blob.offset, bytes(view)) for blob, view in found] == [
        (blob.offset + (3 if blob.segment == first.segment else 0), stream) for blob, stream in streams
    ]


def test_whole_stream_that_is_damaged_or_gone_is_refused(transaction):
    first, second = add(transaction, b"one" * 9, b"two" * 20)
    overwrite(transaction, second, flip(second.offset + 4))
    found = blobs.iter_whole_streams(transaction, [first, second])
    assert next(found)[0] == first
    with pytest.raises(IntegrityError, match="does not match") as caught:
        next(found)
    assert caught.value.subject == second.digest.hex()
    transaction.delete(Table.SEGMENTS, blobs.segment_key(first.segment, 0))
    with pytest.raises(IntegrityError, match="cut short"):
        next(blobs.iter_whole_streams(transaction, [first]))


def test_whole_stream_whose_row_became_another_ones_is_refused(transaction):
    (blob,) = add(transaction, b"one" * 9)
    earlier = msgspec.structs.replace(blob, offset=5)
    assert next(blobs.iter_whole_streams(transaction, [earlier]))[0] == blob
    for asked in (
        msgspec.structs.replace(earlier, oid=bytes(20)),
        msgspec.structs.replace(earlier, size_bytes=26),
    ):
        with pytest.raises(IntegrityError, match="does not match") as caught:
            next(blobs.iter_whole_streams(transaction, [asked]))
        assert caught.value.subject == blob.digest.hex()


def test_large_stream_is_cut_into_parts_and_comes_back_whole(large):
    store, stream, blob = large
    assert len(stream) > 3 * PART_BYTES
    assert (blob.offset, blob.part_count) == (0, -(-len(stream) // PART_BYTES))
    with store.environment.read() as transaction:
        parts = [bytes(part) for part in blobs.iter_stream(transaction, blob)]
        assert [len(part) for part in parts[:-1]] == [PART_BYTES] * (blob.part_count - 1)
        assert b"".join(parts) == stream
        assert list(blobs.iter_uploads(transaction)) == []
        assert list(blobs.iter_segments(transaction)) == [blob.segment]
        assert blobs.read(transaction, blob) == NOISE
        blobs.check_entry(transaction, blob)
    assert list(blobs.iter_parts(store.environment, blob)) == parts
    assert b"".join(blobs.iter_content(store.environment, blob)) == NOISE


def test_small_blob_is_read_in_one_part_of_a_shared_segment(store):
    contents = (b"four" * 9, b"five" * 20, b"six")
    with store.environment.write() as transaction:
        found = add(transaction, *contents)
    for blob, content in zip(found, contents, strict=True):
        (part,) = blobs.iter_parts(store.environment, blob)
        assert len(part) == blob.stored_bytes
        assert b"".join(blobs.iter_content(store.environment, blob)) == content
    with store.environment.write() as transaction:
        transaction.delete(Table.SEGMENTS, blobs.segment_key(found[0].segment, 0))
        for blob in found:
            blobs.erase(transaction, blob)


def test_damaged_part_of_a_large_blob_is_told_by_its_digest(large):
    store, _, blob = large
    key = blobs.segment_key(blob.segment, 1)
    with store.environment.write() as transaction:
        stored = bytes(transaction.view(Table.SEGMENTS, key))
        transaction.put(Table.SEGMENTS, key, bytes(PART_BYTES))
    with pytest.raises(IntegrityError, match="does not match") as caught:
        list(blobs.iter_content(store.environment, blob))
    assert caught.value.subject == blob.digest.hex()
    with store.environment.write() as transaction:
        transaction.delete(Table.SEGMENTS, key)
    with pytest.raises(IntegrityError, match="does not match"):
        list(blobs.iter_parts(store.environment, blob))
    with store.environment.write() as transaction:
        with pytest.raises(IntegrityError, match="cut short"):
            list(blobs.iter_stream(transaction, blob))
        tombstones.put(transaction, blob.digest, TOMBSTONE)
    for iterate in (blobs.iter_parts, blobs.iter_content):
        with pytest.raises(IntegrityError) as purged:
            list(iterate(store.environment, blob))
        assert purged.value.kind == "purged"
    assert len(stored) == PART_BYTES


def test_last_part_that_is_too_short_is_damage(large):
    store, _, blob = large
    key = blobs.segment_key(blob.segment, blob.part_count - 1)
    with store.environment.write() as transaction:
        transaction.put(Table.SEGMENTS, key, bytes(transaction.view(Table.SEGMENTS, key))[:-1])
        with pytest.raises(IntegrityError, match="cut short"):
            list(blobs.iter_stream(transaction, blob))
    with pytest.raises(IntegrityError, match="does not match"):
        list(blobs.iter_content(store.environment, blob))


def test_content_that_is_whole_but_another_is_damage(store):
    with store.environment.write() as transaction:
        (blob,) = add(transaction, b"content C")
        overwrite(transaction, blob, lambda _: deflate(b"content D"))
    with pytest.raises(IntegrityError, match="does not match"):
        list(blobs.iter_content(store.environment, blob))
    with store.environment.write() as transaction:
        blobs.erase(transaction, blob)


def test_upload_is_marked_with_its_owner_until_it_is_settled(large):
    store, _, blob = large
    staged = stage(store, bytes(range(256)) * 5, owner=b"mark of a process")
    assert (staged.segment, staged.part_count, staged.stored_bytes) == (blob.segment + 1, 2, 1280)
    with store.environment.write() as transaction:
        assert list(blobs.iter_upload_marks(transaction)) == [(staged.segment, staged.mark)]
        assert blobs.uploader(staged.mark) == b"mark of a process"
        assert list(blobs.iter_uploads(transaction)) == [staged.segment]
        assert blobs.settle_upload(transaction, staged.segment, staged.mark, keep=True)
        assert list(blobs.iter_uploads(transaction)) == []
        assert not blobs.settle_upload(transaction, staged.segment, staged.mark, keep=False)
        assert list(blobs.iter_segments(transaction)) == [blob.segment, staged.segment]


def test_discarded_upload_leaves_no_part_and_no_mark(large):
    store, _, blob = large
    staged = stage(store, bytes(2500))
    staged.discard()
    assert staged.segment is None
    staged.discard()
    Stage(store.environment, b"").discard()
    with store.environment.read() as transaction:
        assert list(blobs.iter_uploads(transaction)) == []
        assert list(blobs.iter_segments(transaction)) == [blob.segment]


def test_upload_of_nothing_has_one_empty_part(store):
    staged = Stage(store.environment, b"")
    staged.finish()
    assert (staged.part_count, staged.stored_bytes) == (1, 0)
    staged.discard()


def test_upload_whose_mark_is_gone_is_refused_and_may_be_repeated(large):
    store, _, blob = large
    staged = Stage(store.environment, b"")
    staged.feed(bytes(PART_BYTES))
    with store.environment.write() as transaction:
        assert blobs.settle_upload(transaction, staged.segment, staged.mark, keep=False)
    with pytest.raises(StorageError, match=f"segment {blob.segment + 1} was removed") as caught:
        staged.feed(bytes(PART_BYTES))
    assert caught.value.retryable
    lost = new_blob(
        b"lost",
        stream=b"",
        staged_segment=staged.segment,
        staged_mark=staged.mark,
        staged_bytes=1000,
        part_count=1,
    )
    with undone_transaction(store) as transaction, pytest.raises(StorageError, match="was removed"):
        blobs.add(transaction, [lost])


def test_upload_of_what_is_there_by_now_is_dropped(large):
    store, stream, blob = large
    staged = stage(store, stream)
    again = new_blob(
        NOISE,
        stream=b"",
        staged_segment=staged.segment,
        staged_mark=staged.mark,
        staged_bytes=staged.stored_bytes,
        part_count=4,
    )
    with store.environment.write() as transaction:
        assert blobs.add(transaction, [again]) is None
        assert blobs.add(transaction, [again]) is None, "an upload that has ended is left alone"
        assert list(blobs.iter_segments(transaction)) == [blob.segment]
        assert blobs.find(transaction, blob.digest) == blob


def test_upload_of_another_segment_stays_when_one_is_dropped(large):
    store, _, blob = large
    first, second = stage(store, bytes(1500)), stage(store, bytes(1500))
    first.discard()
    with store.environment.read() as transaction:
        assert list(blobs.iter_uploads(transaction)) == [second.segment]
        assert list(blobs.iter_segments(transaction)) == [blob.segment, second.segment]
        assert len(list(transaction.scan_keys(Table.SEGMENTS))) == blob.part_count + 2


def test_erased_blob_leaves_zeroes_between_its_neighbours(transaction):
    contents = [b"one" * 9, b"two" * 20, b"three" * 7]
    found = add(transaction, *contents)
    blobs.erase(transaction, found[1])
    assert [blobs.find(transaction, blob.digest) for blob in found] == [found[0], None, found[2]]
    assert blobs.read(transaction, found[0]) == contents[0]
    assert blobs.read(transaction, found[2]) == contents[2]
    view = transaction.view(Table.SEGMENTS, blobs.segment_key(found[0].segment, 0))
    assert len(view) == sum(blob.stored_bytes for blob in found)
    assert view[found[1].offset : found[2].offset] == bytes(found[1].stored_bytes)
    blobs.erase(transaction, found[0])
    blobs.erase(transaction, found[2])
    assert bytes(transaction.view(Table.SEGMENTS, blobs.segment_key(found[0].segment, 0))).strip(b"\0") == b""


def test_erased_blob_takes_a_segment_of_its_own_with_it(transaction):
    (first,) = add(transaction, b"one")
    (second,) = add(transaction, b"two")
    blobs.erase(transaction, first)
    assert list(blobs.iter_segments(transaction)) == [second.segment]
    transaction.delete(Table.SEGMENTS, blobs.segment_key(second.segment, 0))
    blobs.erase(transaction, second)
    assert list(blobs.iter_blobs(transaction)) == []


def test_erased_large_blob_leaves_no_part(large):
    store, _, blob = large
    with store.environment.write() as transaction:
        transaction.delete(Table.SEGMENTS, blobs.segment_key(blob.segment, 1))
        blobs.erase(transaction, blob)
        assert list(blobs.iter_segments(transaction)) == []
        assert blobs.next_segment(transaction) == 1


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_hasher_of_a_blob_gives_its_id_in_the_format_of_the_store(transaction, object_format):
    new = new_blob(b"content", object_format=object_format)
    blobs.add(transaction, [new])
    hasher = blobs.object_hasher(blobs.find(transaction, new.digest))
    assert isinstance(hasher, ObjectHasher)
    hasher.update(b"content")
    assert hasher.digest() == new.oid

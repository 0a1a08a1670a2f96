"""Tombstones and the store's own row: kept apart, read back, and refused when they are damaged."""

import uuid

import msgspec
import pytest

from cas import meta, tombstones
from cas.errors import IntegrityError, PurgedContentError, StorageError
from cas.lmdbenv import Table
from cas.tombstones import Tombstone
from tests.store.stores import open_store

FIRST, SECOND, THIRD = (bytes([number]) * 32 for number in (1, 2, 255))
ONE = Tombstone(5, b"\x07" * 20, 9, ("f" * 32,))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with (
        open_store(tmp_path_factory.mktemp("tombstones")) as opened,
        opened.environment.write() as transaction,
    ):
        tombstones.put(transaction, THIRD, Tombstone(6, b"\x08" * 20, 0))
        tombstones.put(transaction, FIRST, ONE)
        yield transaction


def test_tombstone_is_found_by_its_digest_only(store):
    assert tombstones.find(store, FIRST) == ONE
    assert tombstones.find(store, THIRD).fingerprints == ()
    assert tombstones.find(store, SECOND) is None
    assert (tombstones.exists(store, FIRST), tombstones.exists(store, SECOND)) == (True, False)


def test_tombstones_are_listed_in_digest_order(store):
    assert list(tombstones.iter_digests(store)) == [FIRST, THIRD]
    assert [digest for digest, _ in tombstones.iter_all(store)] == [FIRST, THIRD]
    assert dict(tombstones.iter_all(store))[FIRST] == ONE


def test_refuse_lets_pass_what_was_never_purged(store):
    tombstones.refuse(store, SECOND, "a.txt")
    with pytest.raises(PurgedContentError) as caught:
        tombstones.refuse(store, FIRST, "a.txt")
    (finding,) = caught.value.findings
    assert (finding.name, finding.line, finding.column, finding.rule) == ("a.txt", 1, 1, tombstones.RULE)
    assert (finding.fingerprint, finding.description) == ("01" * 16, "content purged from this store")


def test_purged_error_names_the_content():
    error = tombstones.purged_error(FIRST)
    assert (error.kind, error.subject) == ("purged", FIRST.hex())
    assert "content 010101010101 was purged" in str(error)


def test_damaged_tombstone_is_refused_by_its_digest(store):
    store.put(Table.META, b"purged:" + SECOND, b"\xc1")
    try:
        with pytest.raises(IntegrityError, match="tombstone of 020202020202 is damaged"):
            tombstones.find(store, SECOND)
        with pytest.raises(IntegrityError, match="tombstone of 020202020202 is damaged"):
            list(tombstones.iter_all(store))
    finally:
        store.delete(Table.META, b"purged:" + SECOND)


def test_meta_of_a_new_store_is_its_identity():
    ((key, value),) = meta.new_meta("sha256", 77).items()
    found = msgspec.msgpack.decode(value, type=meta.StoreMeta)
    assert key == b"store"
    assert (found.format, found.object_format, found.created_at_ns) == (1, "sha256", 77)
    assert uuid.UUID(hex=found.store_id).version == 4
    assert len(found.store_id) == 32


def test_meta_is_read_back_and_a_bad_row_is_refused(store):
    kept = store.get(Table.META, b"store")
    kept = bytes(kept)
    try:
        assert meta.read_meta(store) == msgspec.msgpack.decode(kept, type=meta.StoreMeta)
        later = msgspec.msgpack.decode(kept) | {"format": 2, "more": 1}
        store.put(Table.META, b"store", msgspec.msgpack.encode(later))
        with pytest.raises(StorageError, match="has format 2, this version reads 1") as caught:
            meta.read_meta(store)
        assert caught.value.kind == "unknown_format"
        store.put(Table.META, b"store", b"\xc1")
        with pytest.raises(IntegrityError, match="is damaged"):
            meta.read_meta(store)
        store.delete(Table.META, b"store")
        with pytest.raises(IntegrityError, match="has no meta row"):
            meta.read_meta(store)
    finally:
        store.put(Table.META, b"store", kept)


def test_first_of_some_digests_that_was_purged_is_found(store, tmp_path):
    assert tombstones.find_purged(store, [SECOND, THIRD, FIRST]) == THIRD
    assert tombstones.find_purged(store, [SECOND]) is None
    assert tombstones.find_purged(store, []) is None
    with open_store(tmp_path) as other, other.environment.read() as transaction:
        asked = []
        assert tombstones.find_purged(transaction, (asked.append(each) or each for each in [FIRST])) is None
        assert asked == [], "a store that purged nothing is asked once"

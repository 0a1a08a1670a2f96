"""Joining segments: what lives moves together in order, what is damaged or gone stays, and the freed bytes are told."""

from cas import blobs, segments
from cas.lmdbenv import Table
from tests.gc.keeping import commit


def blobs_by_segment(transaction):
    found = {}
    for blob in blobs.iter_blobs(transaction):
        found.setdefault(blob.segment, []).append(blob.digest)
    return found


def files(*numbers):
    return {f"f{number}": b"content %d " % number * 30 for number in numbers}


def contents(transaction, names):
    return {bytes(blobs.read(transaction, blob)) for blob in blobs.iter_blobs(transaction)} & names


def test_join_moves_the_streams_of_several_segments_behind_each_other(store):
    wanted = files(1, 2, 3, 4, 5)
    commit(store, "a", files=files(1, 2))
    commit(store, "b", files=files(3))
    commit(store, "c", files=files(4, 5))
    with store.environment.write() as transaction:
        old = blobs_by_segment(transaction)
        assert segments.join(transaction, old) == 0
        joined = list(blobs.iter_blobs(transaction))
        assert len({blob.segment for blob in joined}) == 1
        assert list(blobs.iter_segments(transaction)) == [joined[0].segment]
        placed = sorted((blob.offset, blob.stored_bytes) for blob in joined)
        assert [offset for offset, _ in placed] == [sum(size for _, size in placed[:at]) for at in range(5)]
        assert contents(transaction, set(wanted.values())) == set(wanted.values())
    assert store.verify().ok


def test_join_frees_what_lives_no_more(store):
    commit(store, "a", files=files(1, 2))
    with store.environment.write() as transaction:
        ((segment, digests),) = blobs_by_segment(transaction).items()
        gone = blobs.find(transaction, digests[0])
        transaction.delete(Table.BLOBS, digests[0])
        assert segments.join(transaction, {segment: digests}) == gone.stored_bytes
        (left,) = blobs.iter_blobs(transaction)
        assert (left.digest, left.offset) == (digests[1], 0)
        assert blobs.read(transaction, left)


def test_join_passes_over_a_segment_without_blobs_and_goes_on(store):
    commit(store, "a", files=files(1))
    commit(store, "b", files=files(2))
    with store.environment.write() as transaction:
        old = blobs_by_segment(transaction)
        first, second = sorted(old)
        assert segments.join(transaction, {first: [b"\x01" * 32], second: old[second]}) == 0
        kept = blobs_by_segment(transaction)
        assert kept[first] == old[first]
        assert second not in kept
        (moved,) = set(kept) - {first}
        assert kept[moved] == old[second]
    assert store.verify().ok


def test_join_of_nothing_makes_no_segment(store):
    commit(store, "a", files=files(1))
    with store.environment.write() as transaction:
        before = list(blobs.iter_segments(transaction))
        assert segments.join(transaction, {before[0]: [b"\x01" * 32]}) == 0
        assert list(blobs.iter_segments(transaction)) == before

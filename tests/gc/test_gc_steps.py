"""The steps of a collection by themselves: what counts as dead, how it is divided, and what is told on the way."""

from array import array

import pytest

from cas import blobs, catalog, gc, marks, segments, visibility
from cas.digest import digest_bytes
from cas.errors import StateError
from cas.gc import Collection, _Collector, _Marker
from cas.lmdbenv import Table, hold_alone
from cas.segments import Usage
from cas.staging import Stage
from tests.gc.keeping import collect, commit, digests, pretend_export, segment_numbers


def usage(*pairs, first=10, uploads=()):
    """How much lives of segments that follow each other: pairs of total and live bytes."""
    totals, lives = zip(*pairs, strict=True)
    return Usage(first, array("Q", totals), array("Q", lives), frozenset(uploads))


def collector(store, progress=None, pause=lambda _: None):
    return _Collector(store.environment, Collection(), 5, pause, progress)


def test_segments_are_dead_without_a_live_byte_unless_they_are_uploads_or_not_there():
    found = usage((5, 0), (0, 0), (7, 1), (9, 0), (4, 4), uploads=[13])
    assert list(found.dead()) == [10]
    assert (found.size_of(12), found.live_in(12)) == (7, 1)


def test_segments_are_sparse_from_a_share_of_dead_bytes_on():
    found = usage((10, 5), (10, 6), (10, 0), (10, 10), (10, 1))
    assert list(found.sparse(0.5)) == [10, 14]
    assert list(found.sparse(0.0)) == [10, 11, 14]
    assert list(found.sparse(1.0)) == []


def test_usage_counts_live_and_stored_bytes_by_segment(store):
    commit(store, "a", files={"a": b"one" * 50, "b": b"two" * 70})
    commit(store, "b", files={"a": b"three" * 20})
    stage = Stage(store.environment, b"owner")
    stage.finish()
    with store.environment.write() as transaction:
        transaction.delete(Table.SEGMENTS, blobs.segment_key(2, 0))
        first = [blobs.find(transaction, digest_bytes(data)) for data in (b"one" * 50, b"two" * 70)]
        found = segments.usage(transaction)
        assert (found.first, found.uploads) == (1, frozenset({3}))
        assert list(found.total_bytes) == [sum(blob.stored_bytes for blob in first), 0, 1]
        other = blobs.find(transaction, digest_bytes(b"three" * 20))
        assert list(found.live_bytes) == [found.size_of(1), other.stored_bytes, 0]
        without = segments.usage(transaction, {first[0].digest})
        assert without.live_in(1) == first[1].stored_bytes


def test_usage_of_an_empty_store_is_nothing(store):
    with store.environment.read() as transaction:
        found = segments.usage(transaction)
    assert (found.first, list(found.dead()), list(found.sparse(0))) == (0, [], [])
    assert found.uploads == frozenset()


def test_parts_of_a_dead_segment_go_sixteen_at_a_time_the_last_ones_first(store):
    with store.environment.write() as transaction:
        for part in range(40):
            transaction.put(Table.SEGMENTS, blobs.segment_key(7, part), bytes(part))
        transaction.put(Table.SEGMENTS, blobs.segment_key(8, 0), b"other")
        assert segments.drop_parts(transaction, 7) == (sum(range(24, 40)), True)
        assert segments.drop_parts(transaction, 7) == (sum(range(8, 24)), True)
        assert segments.drop_parts(transaction, 7) == (sum(range(8)), False)
        assert segments.drop_parts(transaction, 7) == (0, False)
        assert list(blobs.iter_segments(transaction)) == [8]
        for part in range(16):
            transaction.put(Table.SEGMENTS, blobs.segment_key(7, part), b"1")
        assert segments.drop_parts(transaction, 7) == (16, False)


def test_small_segments_go_together(store):
    with store.environment.write() as transaction:
        for number, size_bytes in ((3, 5), (4, 7), (5, 9)):
            transaction.put(Table.SEGMENTS, blobs.segment_key(number, 0), bytes(size_bytes))
        assert segments.drop_small(transaction, [3, 9, 5]) == 14
        assert list(blobs.iter_segments(transaction)) == [4]


def test_blobs_are_listed_by_the_segments_they_lie_in(store):
    commit(store, "a", files={"a": b"one" * 50, "b": b"two" * 70})
    commit(store, "b", files={"a": b"three" * 20})
    commit(store, "c", files={"a": b"four" * 20})
    with store.environment.read() as transaction:
        found = segments.digests_in(transaction, {1, 3, 9})
    assert found == {
        1: sorted([digest_bytes(b"one" * 50), digest_bytes(b"two" * 70)]),
        3: [digest_bytes(b"four" * 20)],
        9: [],
    }


def test_groups_hold_a_bounded_number_of_segments_and_of_bytes():
    many = usage(*[(9, 1)] * 250)
    assert [len(group) for group in gc._groups(list(range(10, 260)), many)] == [100, 100, 50]
    mebibyte = 1024 * 1024
    large = usage((9, mebibyte - 1), (9, 1), (9, 1), (9, 2 * mebibyte), (9, mebibyte), (9, 1))
    assert list(gc._groups([10, 11, 12, 13, 14, 15], large)) == [[10, 11], [12], [13], [14], [15]]
    assert list(gc._groups([], large)) == []


def test_passes_divide_all_digests_between_them(store, monkeypatch):
    commit(store, "a", files={f"f{number}": b"%d" % number for number in range(7)})
    assert [(marker.low, marker.high) for marker in collector(store)._markers()] == [(b"", None)]
    monkeypatch.setattr(gc, "_MARKS_PER_PASS", 2)
    edges = [bytes.fromhex(edge) for edge in ("4000", "8000", "c000")]
    markers = list(collector(store)._markers())
    assert [(marker.low, marker.high) for marker in markers] == list(
        zip([b"", *edges], [*edges, None], strict=True)
    )
    for digest in digests(store):
        assert [digest in marker for marker in markers] == [
            marker.low <= digest and (marker.high is None or digest < marker.high) for marker in markers
        ]


def test_marker_advances_by_a_bounded_number_of_manifests_and_remembers_where(store, monkeypatch):
    monkeypatch.setattr(gc, "_ROWS_PER_SNAPSHOT", 2)
    contents = [b"%d" % number for number in range(5)]
    for number, data in enumerate(contents):
        commit(store, f"c{number}", files={"a": data})
    marker = _Marker(b"", None, 0, None)
    with store.environment.read() as transaction:
        for going_on, marked_count in ((True, 2), (True, 4), (False, 5), (False, 5)):
            assert marker.advance(transaction) == going_on
            assert [digest_bytes(data) in marker for data in contents] == [
                at < marked_count for at in range(5)
            ]


def test_settling_takes_in_new_manifests_and_runs_that_were_shown_again(store):
    commit(store, "old", files={"a": b"old"})
    commit(store, "gone", files={"a": b"gone"})
    pretend_export(store)
    store.forget(["old", "gone"])
    collect(store)
    assert digests(store) == set()
    with store.environment.read() as transaction:
        marker = _Marker(b"", None, marks.revival_count(transaction), None)
        assert not marker.advance(transaction)
    assert digest_bytes(b"old") not in marker
    commit(store, "old", files={"a": b"old"})
    commit(store, "new", files={"a": b"new"})
    with store.environment.write() as transaction:
        assert marks.revival_count(transaction) == 1
        marker.settle(transaction)
        assert [digest_bytes(data) in marker for data in (b"old", b"gone", b"new")] == [True, False, True]
        marker.settle(transaction)
        assert digest_bytes(b"gone") not in marker


def test_bounds_of_a_marker_belong_to_the_upper_one(store):
    commit(store, "a", files={"a": b"one"})
    digest = digest_bytes(b"one")
    for low, high, marked in ((digest, None, True), (b"", digest, False), (digest + b"\0", None, False)):
        marker = _Marker(low, high, 0, None)
        with store.environment.read() as transaction:
            marker.advance(transaction)
        assert (digest in marker) == marked


def test_collection_tells_every_phase_to_its_end(store, monkeypatch):
    monkeypatch.setattr(gc, "_ROWS_PER_TRANSACTION", 2)
    for number in range(5):
        commit(store, f"dead{number}", files={"a": b"dead %d" % number})
    for number in range(3):
        commit(store, f"m{number}", files={"a": b"mixed %d" % number, "b": b"dying %d" % number * 99})
        commit(store, f"k{number}", files={"a": b"mixed %d" % number})
    pretend_export(store)
    store.forget([*(f"dead{number}" for number in range(5)), *(f"m{number}" for number in range(3))])
    told, paused = [], []
    report = collect(store, progress=lambda *step: told.append(step), pause=paused.append)
    assert report.as_dict() == {
        "dry_run": False, "collected_runs": 8, "waiting_runs": 0, "blobs": 8, "segments": 5, "joined_segments": 3,
        "uploads": 0, "freed_bytes": report.freed_bytes,
    }  # fmt: skip
    assert [step for step in told if step[0] == "blobs"] == [("blobs", at, at) for at in (2, 4, 6, 8)]
    assert [step for step in told if step[0] == "segments"] == [("segments", at, 5) for at in (2, 4, 5)]
    assert [step for step in told if step[0] == "join"] == [("join", 2, 3), ("join", 3, 3)]
    assert all(0 <= took_s < 60 for took_s in paused)
    assert len(paused) == 5 + 4 + 3 + 2
    assert store.verify().ok


def test_given_up_run_is_noted_with_the_time_and_only_once(store):
    for name in ("a", "b", "c"):
        commit(store, name, files={"a": name.encode()})
    pretend_export(store)
    commit(store, "queued")
    store.forget(["a", "b", "queued"])
    assert gc.collect(store.environment, now_us=77, pause=lambda _: None).collected_runs == 2
    with store.environment.read() as transaction:
        noted = {number: mark.collected_at_us for number, mark in marks.iter_forgotten(transaction)}
    assert noted == {1: 77, 2: 77}, "what is queued for export was never forgotten"
    report = gc.collect(store.environment, now_us=88, pause=lambda _: None)
    assert (report.collected_runs, report.blobs) == (0, 0)
    assert digests(store) == {digest_bytes(b"c"), digest_bytes(b"queued" * 40)}


def test_time_before_the_epoch_still_marks_a_run_as_given_up(store):
    commit(store, "a")
    pretend_export(store)
    store.forget(["a"])
    gc.collect(store.environment, now_us=0, pause=lambda _: None)
    with store.environment.read() as transaction:
        assert marks.is_collected(transaction, 1)


def test_count_as_if_forgotten_is_what_forgetting_them_gives(store):
    for name in ("a", "b", "c"):
        commit(store, name, files={"own": name.encode() * 99, "same": b"same"})
    pretend_export(store)
    commit(store, "queued")
    sequences = {1, 3, 4}
    counted = collect(store, dry_run=True, as_if_forgotten=frozenset(sequences))
    assert (counted.collected_runs, counted.waiting_runs, counted.blobs) == (2, 1, 2)
    with store.environment.write() as transaction:
        for sequence in sequences:
            visibility.hide(transaction, sequence, now_us=5, reason=None)
        assert catalog.next_sequence(transaction) == 5
    done = collect(store)
    assert counted.as_dict() == done.as_dict() | {"dry_run": True}
    assert store.read_file("b", "same") == b"same"
    assert segment_numbers(store)


def test_second_collection_is_refused_with_a_kind_of_its_own(store):
    with hold_alone(store.environment.directory / gc.LOCK_FILE), pytest.raises(StateError) as caught:
        collect(store)
    assert (caught.value.kind, caught.value.retryable) == ("gc_running", True)
    assert caught.value.subject == str(store.environment.directory)
    collect(store)

"""Verdicts on blobs: every byte counts, every blob gets one verdict, in order, by any number of threads."""

import itertools

import msgspec
import pytest

from cas import blobs, soundness
from cas.lmdbenv import Table
from cas.soundness import Verdict, default_threads, judge, judge_all
from tests.gc.keeping import flip_byte
from tests.store.stores import commit, open_store

COUNT = 40


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("soundness")) as opened:
        commit(
            opened, "corr_1", files={f"f{number}": b"%d" % number * (number + 1) for number in range(COUNT)}
        )
        yield opened


@pytest.fixture(scope="module")
def sizes(store):
    with store.environment.read() as transaction:
        return {blob.digest: blob.size_bytes for blob in blobs.iter_blobs(transaction)}


def test_sound_blob_has_its_size_and_no_fault(store, sizes):
    digest, size_bytes = next(iter(sizes.items()))
    assert judge(store.environment, digest) == Verdict(digest, size_bytes, None)


def test_blob_that_is_not_there_gets_no_verdict(store):
    assert judge(store.environment, b"\x01" * 32) is None


@pytest.mark.parametrize("threads", [None, 1, 2, 3])
def test_every_blob_gets_one_verdict_in_digest_order(store, sizes, threads):
    verdicts = list(judge_all(store.environment, threads=threads))
    assert verdicts == [Verdict(digest, sizes[digest], None) for digest in sorted(sizes)]
    assert len(verdicts) == COUNT


@pytest.mark.parametrize("per_snapshot", [1, 7, COUNT, COUNT + 1])
def test_every_blob_gets_one_verdict_over_several_snapshots(store, sizes, per_snapshot, monkeypatch):
    monkeypatch.setattr(soundness, "_DIGESTS_PER_SNAPSHOT", per_snapshot)
    assert [verdict.digest for verdict in judge_all(store.environment, threads=1)] == sorted(sizes)


@pytest.mark.parametrize("threads", [1, 2])
def test_only_picked_blobs_are_looked_at(store, sizes, threads):
    asked = itertools.count()
    verdicts = list(judge_all(store.environment, picks=lambda: next(asked) % 2 == 0, threads=threads))
    assert [verdict.digest for verdict in verdicts] == sorted(sizes)[::2]
    assert next(asked) == COUNT


def test_stop_ends_between_two_blobs(store, sizes):
    asked = itertools.count()
    verdicts = list(judge_all(store.environment, should_stop=lambda: next(asked) >= 5, threads=1))
    assert [verdict.digest for verdict in verdicts] == sorted(sizes)[:5]


def test_stop_ends_all_threads_between_two_blobs(store, sizes):
    asked = itertools.count()
    verdicts = list(judge_all(store.environment, should_stop=lambda: next(asked) >= 6, threads=2))
    # At least one look was taken before the task, and the others before a blob each.
    assert 0 < len(verdicts) <= 5 < soundness._DIGESTS_PER_TASK
    assert all(sizes[verdict.digest] == verdict.size_bytes for verdict in verdicts)
    assert list(judge_all(store.environment, should_stop=lambda: True, threads=2)) == []


def test_blobs_after_the_last_verdict_wanted_are_not_looked_at(store):
    verdicts = judge_all(store.environment, threads=2)
    next(verdicts)
    verdicts.close()


def test_default_threads_are_as_many_as_processors_up_to_four(monkeypatch):
    for processors, threads in ((None, 1), (1, 1), (3, 3), (4, 4), (64, 4)):
        monkeypatch.setattr(soundness.os, "cpu_count", lambda found=processors: found)
        assert default_threads() == threads


def test_damaged_stream_is_a_fault_of_its_blob_alone(tmp_path):
    with open_store(tmp_path) as store:
        commit(store, "corr_1", files={"a": b"first" * 30})
        commit(store, "corr_2", files={"b": b"second" * 30})
        flip_byte(store, Table.SEGMENTS, blobs.segment_key(1, 0), 12)
        faults = [verdict for verdict in judge_all(store.environment) if verdict.fault]
        assert len(faults) == 1
        assert faults[0].size_bytes == 0
        assert f"blob {faults[0].digest.hex()[:12]} does not match" in faults[0].fault


def test_oid_that_is_not_the_contents_is_a_fault(tmp_path):
    with open_store(tmp_path) as store:
        commit(store, "corr_1", files={"a": b"first" * 30})
        with store.environment.write() as transaction:
            (blob,) = blobs.iter_blobs(transaction)
            changed = msgspec.structs.replace(blob, oid=b"\x01" * 20)
            transaction.put(Table.BLOBS, blob.digest, blobs.encode(changed))
        (verdict,) = judge_all(store.environment)
        assert verdict == Verdict(blob.digest, 150, "the stored oid is not the content's")


def test_damaged_row_is_a_fault_without_a_size(tmp_path):
    with open_store(tmp_path) as store:
        commit(store, "corr_1", files={"a": b"first" * 30})
        with store.environment.read() as transaction:
            (blob,) = blobs.iter_blobs(transaction)
        flip_byte(store, Table.BLOBS, blob.digest, 3)
        (verdict,) = judge_all(store.environment, threads=2)
        assert (verdict.digest, verdict.size_bytes) == (blob.digest, 0)
        assert verdict.fault

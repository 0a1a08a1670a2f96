"""Verify: threads give the same answer, and a complete clean run lifts the mark of a failed write."""

import pytest

from cas import InvalidInputError, StoreSuspectError, check
from cas.check import Fault
from cas.digest import digest_bytes
from cas.lmdbenv import SUSPECT_FILE
from tests.gc.keeping import commit
from tests.integrity.test_heal import spoil_stream


@pytest.fixture
def filled(store):
    for number in range(40):
        commit(store, f"r{number}", files={"a": b"%d" % number * 50, "b": b"%d" % (number % 7)})
    return store


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_verify_counts_the_same_with_any_number_of_threads(filled, threads):
    report = filled.verify(threads=threads)
    assert (report.ok, report.complete) == (True, True)
    assert (report.manifest_count, report.blob_count) == (40, 47)
    assert report.byte_count == sum(50 * len(b"%d" % n) for n in range(40)) + 7


@pytest.mark.parametrize("threads", [1, 3])
def test_verify_finds_the_same_damage_with_any_number_of_threads(filled, threads):
    wanted = {digest_bytes(b"%d" % number * 50).hex() for number in (3, 17, 30)}
    for digest in wanted:
        spoil_stream(filled, bytes.fromhex(digest))
    report = filled.verify(threads=threads)
    assert {fault.subject for fault in report.faults if fault.check == "blobs_match"} == wanted


def test_verify_complete_and_clean_lifts_the_suspect_mark(filled):
    (filled.environment.directory / SUSPECT_FILE).write_text("a write failed\n")
    with pytest.raises(StoreSuspectError):
        commit(filled, "refused")
    assert filled.verify().mark_lifted
    commit(filled, "accepted")


@pytest.mark.parametrize("options", [{"sample": 0.5}, {"max_duration_s": 0.0}])
def test_verify_of_a_part_leaves_the_suspect_mark(filled, options):
    mark = filled.environment.directory / SUSPECT_FILE
    mark.write_text("a write failed\n")
    assert not filled.verify(**options).mark_lifted
    assert mark.exists()


def test_verify_that_finds_damage_leaves_the_suspect_mark(filled):
    mark = filled.environment.directory / SUSPECT_FILE
    spoil_stream(filled, digest_bytes(b"3" * 50))
    mark.write_text("a write failed\n")
    assert not filled.verify().mark_lifted
    assert mark.exists()


def test_verify_keeps_a_mark_that_was_set_meanwhile(filled, monkeypatch):
    mark = filled.environment.directory / SUSPECT_FILE
    mark.write_text("a write failed\n")

    def fail_again(phase, done, total):
        mark.unlink()
        mark.write_text("another write failed\n")

    assert not filled.verify(progress=fail_again).mark_lifted
    assert mark.exists()


@pytest.mark.parametrize("options", [{}, {"max_duration_s": 1e-9}])
def test_verify_names_the_runs_of_a_damaged_blob(filled, monkeypatch, options):
    monkeypatch.setattr(check, "_ROWS_PER_SNAPSHOT", 3)
    monkeypatch.setattr(check, "_MOST_RUNS", 4)
    monkeypatch.setattr(check, "blobs_match", lambda *_: iter(faults))
    faults = [
        Fault("blobs_match", "must", digest_bytes(content).hex(), "damaged")
        for content in (b"3" * 50, b"5", b"nobody's")
    ]
    found = [fault.runs for fault in filled.verify(**options).faults]
    assert found == [("r3@1",), ("r5@1", "r12@1", "r19@1", "r26@1"), ()]


@pytest.mark.parametrize(
    "options",
    [
        {"threads": 0},
        {"threads": -1},
        {"threads": 1.5},
        {"max_duration_s": float("nan")},
        {"max_duration_s": "1"},
    ],
    ids=str,
)
def test_verify_refuses_numbers_that_mean_nothing(filled, options):
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        filled.verify(**options)

"""Each invariant by itself: a sound store shows no fault, and one broken row shows exactly the fault it is."""

import msgspec
import pytest

from cas import blobs, catalog, check, marks, outbox, records, tombstones
from cas.catalog import sequence_key
from cas.check import Budget, Fault, Report
from cas.lmdbenv import Table
from cas.marks import Forgotten, Pin
from cas.outbox import Stage
from cas.tombstones import Tombstone
from tests.store.stores import FILES, commit, open_store, undone_transaction

BRANCH = "ai/generated/wf/task"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Runs 1 and 2 on one branch, 1 exported and 2 queued; rollback 3, pushed."""
    with open_store(tmp_path_factory.mktemp("check")) as opened:
        commit(opened, "corr_1", prompt_hash="p" * 20)
        commit(opened, "corr_2", files={"new.txt": b"n"})
        opened.revert_to_tag("corr_1", target_branch=BRANCH)
        with opened.environment.write() as transaction:
            outbox.record_exported(transaction, [1, 3], 5)
            outbox.record_pushed(transaction, [3], 6)
        yield opened


@pytest.fixture
def transaction(store):
    with undone_transaction(store) as opened:
        yield opened


def must(name, subject, detail):
    return Fault(name, "must", subject, detail)


def whole_store_faults(transaction):
    return [fault for test, _ in check._WHOLE_STORE_CHECKS for fault in test(transaction)]


def row_faults(transaction):
    return [fault for sequence in (1, 2, 3) for fault in check._row_faults(transaction, sequence)]


def test_sound_store_shows_no_fault(transaction):
    assert (
        whole_store_faults(transaction)
        == row_faults(transaction)
        == list(check.rows_intact(transaction))
        == []
    )


def digests(transaction):
    return [entry.digest for entry in records.load(transaction, 1)[0].files]


def test_blob_that_is_missing_is_named_with_its_file(transaction):
    first, _ = digests(transaction)
    transaction.delete(Table.BLOBS, first)
    name = min(FILES)
    assert row_faults(transaction) == [must("manifests_complete", "corr_1@1", f"blob of {name!r} is missing")]


def test_blob_that_is_missing_is_no_fault_when_it_was_purged_or_given_up(transaction):
    first, second = digests(transaction)
    for digest in (first, second):
        transaction.delete(Table.BLOBS, digest)
    tombstones.put(transaction, first, Tombstone(1, b"", 1))
    assert len(row_faults(transaction)) == 1
    marks.put_forgotten(transaction, 1, Forgotten(1))
    assert len([fault for fault in row_faults(transaction) if fault.check == "manifests_complete"]) == 1
    marks.put_forgotten(transaction, 1, Forgotten(1, None, 2))
    assert row_faults(transaction) == []
    run, _ = records.load(transaction, 1)
    assert len(list(check.manifests_complete(transaction, run))) == 1


@pytest.mark.parametrize("changes", [{"oid": b"\x01" * 20}, {"size_bytes": 1}])
def test_blob_of_another_size_or_oid_is_another_one(transaction, changes):
    first, _ = digests(transaction)
    blob = blobs.find(transaction, first)
    changed = msgspec.structs.replace(blob, **changes)
    transaction.put(Table.BLOBS, first, blobs.encode(changed))
    name = min(FILES)
    assert row_faults(transaction) == [
        must("manifests_complete", "corr_1@1", f"blob of {name!r} is another one")
    ]


def test_ids_that_are_not_the_manifests_are_named(transaction):
    row = catalog.get_row(transaction, 3)
    changed = msgspec.structs.replace(row, tree_oid=b"\x01" * 20)
    transaction.put(Table.MANIFESTS, sequence_key(3), msgspec.msgpack.encode(changed))
    (fault,) = row_faults(transaction)
    assert (fault.check, fault.level, fault.subject) == (
        "ids_reproduce",
        "must",
        f"rollback of {BRANCH} to corr_1",
    )
    assert "is not what its manifest gives" in fault.detail


def test_manifest_that_cannot_be_read_is_named_by_its_number(transaction):
    transaction.put(Table.MANIFESTS, sequence_key(2), b"\xc1")
    (fault,) = row_faults(transaction)
    assert (fault.check, fault.level, fault.subject) == ("ids_reproduce", "must", "manifest 2")


@pytest.mark.parametrize(
    ("sequence", "stage", "receipt", "detail"),
    [
        (2, None, None, "neither queued nor exported"),
        (2, Stage.PUSH, None, "queued for the push, but without a receipt of its export"),
        (2, Stage.PARKED_PUSH, None, "queued for the push, but without a receipt of its export"),
        (2, None, (5, 0), "exported, but neither pushed nor queued for it"),
        (2, Stage.WRITE, (5, 0), "queued for the export, but with a receipt of it"),
        (2, Stage.PARKED_WRITE, (5, 6), "queued for the export, but with a receipt of it"),
        (2, Stage.WRITE, None, None),
        (2, Stage.PARKED_WRITE, None, None),
        (2, Stage.PUSH, (5, 0), None),
        (2, Stage.PARKED_PUSH, (5, 6), None),
        (2, None, (5, 6), None),
    ],
)
def test_entry_and_receipt_of_a_manifest_fit_together(transaction, sequence, stage, receipt, detail):
    for other in Stage:
        transaction.delete(Table.OUTBOX, other.value + sequence_key(sequence))
    if stage is not None:
        transaction.put(
            Table.OUTBOX, stage.value + sequence_key(sequence), msgspec.msgpack.encode(outbox.Attempt())
        )
    if receipt is not None:
        transaction.put(
            Table.RECEIPTS, sequence_key(sequence), msgspec.msgpack.encode(outbox.Receipt(*receipt))
        )
    expected = [] if detail is None else [must("entries_or_receipts", "corr_2@1", detail)]
    assert row_faults(transaction) == expected


def key_of(transaction, family, sequence):
    """The catalog key of a family that belongs to a manifest."""
    manifest, row = records.load(transaction, sequence)
    keys = [key for key in catalog.catalog_keys(sequence, manifest, row, None, ()) if key[:1] == family]
    return keys[0]


def test_tag_and_branch_of_a_lost_manifest_are_named(transaction):
    transaction.delete(Table.MANIFESTS, sequence_key(3))
    assert must("names_resolve", f"branch {BRANCH}", "manifest 3 is missing") in whole_store_faults(
        transaction
    )
    transaction.delete(Table.MANIFESTS, sequence_key(2))
    assert must("names_resolve", "tag corr_2", "manifest 2 is missing") in whole_store_faults(transaction)


def test_branch_that_is_not_at_its_newest_is_named(transaction):
    newest = key_of(transaction, b"b", 3)
    transaction.put(Table.CATALOG, newest, sequence_key(2))
    assert whole_store_faults(transaction) == [
        must("names_resolve", f"branch {BRANCH}", "manifest 2 is not its newest")
    ]
    found = row_faults(transaction)
    assert found == [
        Fault(
            "catalog_matches",
            "should",
            f"rollback of {BRANCH} to corr_1",
            "catalog row 'b' points at manifest 2",
        )
    ]


def test_entry_and_receipt_of_a_lost_manifest_are_named(transaction):
    outbox.enqueue(transaction, 7)
    outbox.record_imported(transaction, 8, 5, pushed=True)
    assert whole_store_faults(transaction) == [
        must("outbox_refers", "outbox", "manifest 7 is missing"),
        must("outbox_refers", "receipts", "manifest 8 is missing"),
    ]


def test_purged_content_in_the_store_is_named(transaction):
    first, _ = digests(transaction)
    tombstones.put(transaction, first, Tombstone(1, b"", 1))
    assert whole_store_faults(transaction) == [
        must("purged_stay_away", first.hex(), "purged content is in the store")
    ]


def test_marks_of_a_lost_manifest_are_named(transaction):
    marks.put_forgotten(transaction, 7, Forgotten(1))
    marks.put_pin(transaction, 8, Pin(1))
    marks.put_pin(transaction, 1, Pin(1))
    assert whole_store_faults(transaction) == [
        must("marks_refer", "meta", "manifest 7 is missing"),
        must("marks_refer", "meta", "manifest 8 is missing"),
    ]


def test_segments_without_a_blob_are_counted(transaction):
    for segment in (50, 51):
        transaction.put(Table.SEGMENTS, blobs.segment_key(segment, 0), b"x")
    assert whole_store_faults(transaction) == [
        Fault("segments_referenced", "should", "segments", "2 hold no blob; `cas gc` removes them")
    ]
    transaction.put(Table.META, blobs.upload_key(51), b"")
    assert [fault.detail[:1] for fault in whole_store_faults(transaction)] == ["1"]


@pytest.mark.parametrize("family", [b"i", b"o", b"b", b"w", b"p", b"k", b"d"])
@pytest.mark.parametrize("value", [None, 2, 9])
def test_catalog_row_that_is_gone_or_points_elsewhere_is_named(transaction, family, value):
    key = key_of(transaction, family, 1)
    if value is None:
        transaction.delete(Table.CATALOG, key)
    else:
        transaction.put(Table.CATALOG, key, sequence_key(value))
    found = [
        fault
        for fault in check._row_faults(transaction, 1)
        if "manifest" in fault.detail or "missing" in fault.detail
    ]
    said = "is missing" if value is None else f"points at manifest {value}"
    expected = [Fault("catalog_matches", "should", "corr_1@1", f"catalog row {family.decode()!r} {said}")]
    shared = family in {b"o", b"b"} and value is not None
    assert found == ([] if shared else expected)


@pytest.mark.parametrize("value", [2, 9])
def test_content_row_at_a_newer_run_of_other_content_or_at_none_is_named(transaction, value):
    (key,) = (key for key, _ in transaction.scan(Table.CATALOG, b"ccorr_1\1"))
    assert catalog.is_content_key(key)
    assert catalog.is_shared_key(key)
    assert not catalog.is_content_key(key_of(transaction, b"c", 1))
    transaction.put(Table.CATALOG, key, sequence_key(value))
    assert row_faults(transaction) == [
        Fault("catalog_matches", "should", "corr_1@1", f"catalog row 'c' points at manifest {value}")
    ]


def test_forgotten_run_need_not_be_listed_but_named(transaction):
    marks.put_forgotten(transaction, 1, Forgotten(1))
    transaction.delete(Table.CATALOG, key_of(transaction, b"w", 1))
    assert row_faults(transaction) == []
    transaction.delete(Table.CATALOG, key_of(transaction, b"i", 1))
    assert [fault.check for fault in row_faults(transaction)] == ["catalog_matches"]


def test_damaged_row_that_stops_a_check_is_one_of_its_findings(transaction):
    transaction.put(Table.RECEIPTS, sequence_key(1), b"\xc1")
    (fault,) = row_faults(transaction)
    assert (fault.check, fault.level, fault.subject) == ("entries_or_receipts", "must", "corr_1@1")
    assert fault.detail.startswith("could not be completed: the receipt of manifest 1 is damaged")


def test_fault_and_report_are_plain_data():
    fault = must("names_resolve", "tag x", "gone")
    assert fault.as_dict() == {
        "check": "names_resolve",
        "level": "must",
        "subject": "tag x",
        "detail": "gone",
        "runs": (),
    }
    report = Report([fault], 1, 2, 3, complete=False, mark_lifted=True, purged=["ab"])
    assert report.as_dict() == {
        "ok": False, "complete": False, "mark_lifted": True, "manifests": 1, "blobs": 2, "bytes": 3, "purged": ["ab"],
        "faults": [fault.as_dict()],
    }  # fmt: skip
    assert Report().as_dict() == {
        "ok": True, "complete": True, "mark_lifted": False, "manifests": 0, "blobs": 0, "bytes": 0, "purged": [],
        "faults": [],
    }  # fmt: skip


def test_budget_picks_its_share_by_its_seed():
    assert all(Budget(1.0, None, 0).picks() for _ in range(100))
    half, same, other = (Budget(0.5, None, seed) for seed in (1, 1, 2))
    picked = [half.picks() for _ in range(400)]
    assert 150 < sum(picked) < 250
    assert picked == [same.picks() for _ in range(400)]
    assert picked != [other.picks() for _ in range(400)]


def test_budget_is_spent_after_its_time():
    assert Budget(1.0, None, 0).spent is False
    assert Budget(1.0, 1000.0, 0).spent is False
    assert Budget(1.0, -1.0, 0).spent is True


def test_verify_reads_everything_and_tells_how_far_it_is(store):
    told = []
    report = check.verify(store.environment, progress=lambda *args: told.append(args), threads=1)
    assert report == Report([], 3, 3, report.byte_count)
    assert report.byte_count == sum(map(len, FILES.values())) + 1
    assert told[0] == ("blobs", 3, 3)
    assert told[-1] == ("manifests", 3, 3)
    assert {phase for phase, _, _ in told} == {"blobs", "manifests"}
    assert check.verify(store.environment, threads=1) == report


def test_verify_of_a_share_is_not_complete(store):
    report = check.verify(store.environment, sample=1e-9, threads=1)
    assert (report.complete, report.blob_count, report.manifest_count) == (False, 0, 0)
    assert check.verify(store.environment, sample=0.999, seed=3, threads=1).complete is False


def test_verify_without_time_is_not_complete(store):
    report = check.verify(store.environment, max_duration_s=-1.0, threads=1)
    assert (report.complete, report.blob_count, report.manifest_count, report.faults) == (False, 0, 0, [])
    assert check.verify(store.environment, max_duration_s=1000.0, threads=1).complete is True


class Steps(Budget):
    """A time box that is spent after so many looks at it."""

    def __init__(self, count):
        super().__init__(1.0, None, 0)
        self.left = count

    @property
    def spent(self):
        self.left -= 1
        return self.left < 0


def test_checks_of_the_whole_store_stop_when_the_time_is_spent(transaction):
    for number in range(50, 60):
        outbox.enqueue(transaction, number)
        marks.put_pin(transaction, number, Pin(1))
        catalog_key = b"b" + b"x%d" % number
        transaction.put(Table.CATALOG, catalog_key, sequence_key(number))
        transaction._raw.put(catalog_key + b"y", b"broken", db=transaction._tables[Table.CATALOG])
    for test, _ in [*check._WHOLE_STORE_CHECKS, (check.rows_intact, "must")]:
        if test is not check.names_resolve:  # which stops at a row that is broken
            found = list(check._guarded(test.__name__, "must", "", test(transaction, check._ALL)))
            assert len(list(test(transaction, Steps(5)))) <= min(5, len(found)), test.__name__
        assert list(test(transaction, Steps(0))) == [], test.__name__


@pytest.mark.parametrize("steps", range(8))
def test_segment_whose_blob_was_not_looked_at_for_want_of_time_is_no_stray(transaction, steps):
    assert list(check.segments_referenced(transaction, Steps(steps))) == []


def test_verify_over_several_snapshots_misses_no_manifest(store, monkeypatch):
    for rows in (1, 2, 3, 4):
        monkeypatch.setattr(check, "_ROWS_PER_SNAPSHOT", rows)
        assert check.verify(store.environment, threads=1).manifest_count == 3

"""Garbage collection, one writer: what goes, what stays, what is reported."""

import random

import pytest

from cas import (
    IntegrityError,
    NotFoundError,
    RetentionPolicy,
    StateError,
    StorageError,
    blobs,
    gc,
    outbox,
    processmark,
    segments,
)
from cas.codec import inflate
from cas.digest import digest_bytes
from cas.lmdbenv import DATA_FILE, Table, hold_alone
from cas.staging import Stage
from tests.gc.keeping import collect, commit, digests, flip_byte, pretend_export, segment_numbers

KEEP_NOTHING = RetentionPolicy(keep_tags=("none*",))


def test_gc_of_untouched_store_removes_nothing(store):
    commit(store, "a")
    commit(store, "b")
    before = digests(store)
    done = collect(store)
    assert digests(store) == before
    assert (done.blobs, done.segments, done.freed_bytes) == (0, 0, 0)


def test_gc_forgotten_and_exported_run_loses_its_files(store):
    commit(store, "gone")
    kept = commit(store, "kept")
    pretend_export(store)
    store.forget(["gone"])
    done = collect(store)
    assert (done.collected_runs, done.blobs, done.segments) == (1, 1, 1)
    assert digests(store) == {digest_bytes(b"kept" * 40)}
    assert store.get_artifact_by_correlation_id("kept")["commit_sha"] == kept["commit_sha"]
    assert store.verify().ok


def test_gc_forgotten_run_that_is_queued_again_keeps_its_files(store):
    commit(store, "waits")
    pretend_export(store)
    store.forget(["waits"])
    with store.environment.write() as transaction:
        outbox.requeue(transaction, 1)
    done = collect(store)
    assert (done.collected_runs, done.waiting_runs, done.blobs) == (0, 1, 0)
    assert store.undelete("waits")["correlation_id"] == "waits"


def test_gc_shared_blob_of_a_forgotten_run_stays(store):
    shared = {"a.txt": b"shared content", "b.txt": b"own"}
    commit(store, "gone", files=shared)
    commit(store, "kept", files={"a.txt": b"shared content"})
    pretend_export(store)
    store.forget(["gone"])
    collect(store)
    assert digests(store) == {digest_bytes(b"shared content")}
    assert store.read_file("kept", "a.txt") == b"shared content"
    assert store.verify().ok


def test_gc_mostly_dead_segment_is_rewritten_and_its_streams_read_the_same(store):
    noise = random.Random(3).randbytes(9000)
    commit(store, "gone", files={"big": noise, "small": b"keep me"})
    commit(store, "kept", files={"small": b"keep me"})
    pretend_export(store)
    store.forget(["gone"])
    done = collect(store)
    assert (done.blobs, done.joined_segments) == (1, 1)
    assert done.freed_bytes >= 9000
    assert segment_numbers(store) == [2]
    assert store.read_file("kept", "small") == b"keep me"
    assert store.verify().ok


def test_gc_stream_that_was_moved_is_found_by_a_row_read_before(store):
    noise = random.Random(3).randbytes(9000)
    commit(store, "gone", files={"big": noise, "small": b"keep me"})
    commit(store, "kept", files={"small": b"keep me"})
    with store.environment.read() as transaction:
        before = blobs.require(transaction, digest_bytes(b"keep me"))
        big = blobs.require(transaction, digest_bytes(noise))
        ((same, stream), _) = blobs.iter_whole_streams(transaction, [before, big])
        assert same is before
        assert inflate(stream, before.size_bytes) == b"keep me"
    pretend_export(store)
    store.forget(["gone"])
    assert collect(store).joined_segments == 1
    with store.environment.read() as transaction:
        ((after, stream),) = blobs.iter_whole_streams(transaction, [before])
        assert (after.segment, after.oid) == (2, before.oid)
        assert inflate(stream, after.size_bytes) == b"keep me"
        with pytest.raises(IntegrityError, match="missing"):
            list(blobs.iter_whole_streams(transaction, [big]))


def test_gc_stream_whose_bytes_changed_is_not_handed_out_as_moved(store):
    commit(store, files={"small": b"keep me", "other": b"and me"})
    with store.environment.read() as transaction:
        wanted = [blobs.require(transaction, digest_bytes(data)) for data in (b"and me", b"keep me")]
    flip_byte(store, Table.SEGMENTS, blobs.segment_key(1, 0), wanted[0].offset + 3)
    with store.environment.read() as transaction:
        found = blobs.iter_whole_streams(transaction, reversed(wanted))
        assert next(found)[0].digest == digest_bytes(b"keep me")
        with pytest.raises(IntegrityError, match="does not match") as caught:
            next(found)
    assert caught.value.subject == digest_bytes(b"and me").hex()


def test_gc_little_dead_segment_is_left_alone(store):
    noise = random.Random(3).randbytes(9000)
    commit(store, "gone", files={"big": noise, "small": b"x"})
    commit(store, "kept", files={"big": noise})
    pretend_export(store)
    store.forget(["gone"])
    done = collect(store)
    assert (done.blobs, done.joined_segments, segment_numbers(store)) == (1, 0, [1])


def test_gc_dry_run_reports_what_the_run_does_and_changes_nothing(store):
    noise = random.Random(3).randbytes(9000)
    commit(store, "gone", files={"big": noise, "small": b"keep me"})
    commit(store, "kept", files={"small": b"keep me"})
    commit(store, "gone2")
    pretend_export(store)
    store.forget(["gone", "gone2"])
    with store.environment.read() as transaction:
        before = {table: dict(transaction.scan(table)) for table in Table}
    planned = collect(store, dry_run=True)
    with store.environment.read() as transaction:
        assert {table: dict(transaction.scan(table)) for table in Table} == before
    done = collect(store)
    assert {**planned.as_dict(), "dry_run": False} == done.as_dict()
    assert done.blobs == 2


def test_gc_second_collection_finds_nothing(store):
    commit(store, "gone")
    pretend_export(store)
    store.forget(["gone"])
    collect(store)
    again = collect(store)
    assert (again.collected_runs, again.blobs, again.segments, again.freed_bytes) == (0, 0, 0, 0)


def test_gc_marks_in_several_passes_give_the_same(store, monkeypatch):
    for number in range(12):
        commit(store, f"run{number}")
    pretend_export(store)
    store.forget([f"run{number}" for number in range(0, 12, 2)])
    monkeypatch.setattr(gc, "_MARKS_PER_PASS", 3)
    monkeypatch.setattr(gc, "_ROWS_PER_SNAPSHOT", 2)
    monkeypatch.setattr(gc, "_ROWS_PER_TRANSACTION", 2)
    assert collect(store, dry_run=True).blobs == 6
    assert collect(store).blobs == 6
    assert digests(store) == {digest_bytes(f"run{number}".encode() * 40) for number in range(1, 12, 2)}
    assert store.verify().ok


def test_gc_same_content_again_after_collection_gives_the_same_commit(store):
    first = commit(store, "run")
    pretend_export(store)
    store.forget(["run"])
    collect(store)
    with pytest.raises(NotFoundError, match="removed from the store"):
        store.read_file("corr_run", "a.txt")
    again = commit(store, "run")
    assert (again["commit_sha"], again["manifest_id"]) == (first["commit_sha"], first["manifest_id"])
    assert store.read_file("corr_run", "a.txt") == b"run" * 40
    assert [run["correlation_id"] for run in store.list_artifacts()] == ["run"]
    assert collect(store).blobs == 0
    assert store.verify().ok


def test_gc_new_revision_after_collection_counts_on(store):
    commit(store, "run", files={"a": b"1"})
    pretend_export(store)
    store.forget(["run"])
    collect(store)
    second = commit(store, "run", files={"a": b"2"})
    assert (second["revision"], second["tags"]) == (2, ["corr_run@2"])
    assert store.verify().ok


def test_gc_collected_head_stays_the_parent_of_the_next_commit(store):
    first = commit(store, "one", task="t")
    pretend_export(store)
    store.forget(["one"])
    collect(store)
    commit(store, "two", task="t")
    step = store.history("ai/generated/wf/t")[0]
    assert step["parent"] == first["commit_sha"]
    assert [step["correlation_id"] for step in store.history("ai/generated/wf/t")] == ["two"]


def test_gc_upload_of_a_dead_process_is_removed(store):
    commit(store, "kept")
    stage = Stage(store.environment, b"999999999")
    stage.feed(b"x" * (2 * blobs.PART_BYTES + 5))
    stage.finish()
    done = collect(store)
    assert (done.uploads, done.segments) == (1, 1)
    assert done.freed_bytes == 2 * blobs.PART_BYTES + 5
    assert segment_numbers(store) == [1]


def test_gc_upload_of_this_process_is_left_alone(store):
    stage = Stage(store.environment, processmark.own_mark())
    stage.feed(b"x" * 100)
    stage.finish()
    assert collect(store).uploads == 0
    assert segment_numbers(store) == [stage.segment]


def test_stage_whose_mark_is_gone_refuses_to_go_on(store):
    stage = Stage(store.environment, b"1")
    stage.feed(b"x" * blobs.PART_BYTES)
    with store.environment.write() as transaction:
        blobs.settle_upload(transaction, stage.segment, stage.mark, keep=True)
    with pytest.raises(Exception, match="was removed while it was going on"):
        stage.feed(b"x" * blobs.PART_BYTES)


def number_given_again(store):
    """Return an upload that has ended, and another one that was given its segment's number."""
    owner = processmark.own_mark()
    first, second = Stage(store.environment, owner), Stage(store.environment, owner)
    first.feed(b"x" * blobs.PART_BYTES)
    with store.environment.write() as transaction:
        blobs.settle_upload(transaction, first.segment, first.mark, keep=False)
    second.feed(b"y" * blobs.PART_BYTES)
    assert first.segment == second.segment
    return first, second


def parts_of(store, segment):
    with store.environment.read() as transaction:
        keys = transaction.scan_keys(Table.SEGMENTS, segment.to_bytes(8, "big"))
        return [bytes(transaction.view(Table.SEGMENTS, key))[:1] for key in keys]


def test_stage_discarded_late_leaves_the_upload_that_has_its_number_now(store):
    first, second = number_given_again(store)
    number = second.segment
    first.discard()
    second.feed(b"y" * blobs.PART_BYTES)
    assert parts_of(store, number) == [b"y", b"y"]


def test_stage_that_goes_on_late_writes_nothing_over_another_upload(store):
    first, second = number_given_again(store)
    with pytest.raises(StorageError, match="was removed while it was going on"):
        first.feed(b"x" * blobs.PART_BYTES)
    assert parts_of(store, second.segment) == [b"y"]


def test_gc_upload_that_took_the_number_of_a_dead_one_meanwhile_is_left_alone(store, monkeypatch):
    dead = Stage(store.environment, b"999999999")
    dead.feed(b"x" * blobs.PART_BYTES)
    living = Stage(store.environment, processmark.own_mark())
    is_left = gc._is_left

    def ends_at_once(mark):
        found = is_left(mark)
        if living.segment is None:  # between the look at the marks and the transaction that takes them off
            dead.discard()
            living.feed(b"y" * blobs.PART_BYTES)
        return found

    monkeypatch.setattr(gc, "_is_left", ends_at_once)
    assert collect(store).uploads == 0
    living.feed(b"y" * blobs.PART_BYTES)
    assert parts_of(store, living.segment) == [b"y", b"y"]


def test_gc_large_file_of_a_forgotten_run_goes_part_by_part(store, monkeypatch):
    monkeypatch.setattr("cas.intake.LARGE_FILE_BYTES", 1000)
    monkeypatch.setattr("cas.blobs.PART_BYTES", 4096)
    monkeypatch.setattr("cas.gc.PART_BYTES", 4096)
    monkeypatch.setattr("cas.segments._PARTS_PER_TRANSACTION", 3)
    path = store.config.repo_path / "large.bin"
    path.write_bytes(random.Random(5).randbytes(50_000))
    commit(store, "large", files=[path])
    commit(store, "kept")
    pretend_export(store)
    store.forget(["large"])
    done = collect(store)
    assert (done.blobs, done.segments) == (1, 1)
    assert done.freed_bytes > 50_000
    assert len(segment_numbers(store)) == 1
    assert store.verify().ok


def test_gc_damaged_manifest_row_stops_before_anything_is_removed(store):
    commit(store, "a")
    commit(store, "b")
    pretend_export(store)
    store.forget(["b"])
    flip_byte(store, Table.MANIFESTS, (1).to_bytes(8, "big"))
    before = digests(store)
    with pytest.raises(IntegrityError):
        collect(store)
    assert digests(store) == before


def test_gc_second_one_at_the_same_time_is_refused(store):
    commit(store, "a")
    with hold_alone(store.environment.directory / gc.LOCK_FILE) as alone:
        assert alone
        with pytest.raises(StateError, match="another garbage collection"):
            collect(store)
    collect(store)


def test_gc_store_method_reports_and_pauses(store):
    commit(store, "a")
    pretend_export(store)
    store.forget(policy=KEEP_NOTHING)
    assert store.gc()["blobs"] == 1
    assert (store.environment.directory / DATA_FILE).exists()


def test_gc_with_a_policy_forgets_first_and_its_dry_run_counts_the_same(store):
    for number in range(4):
        commit(store, f"r{number}")
    pretend_export(store)
    policy = RetentionPolicy(keep_last=1)
    planned = store.gc(policy=policy, dry_run=True)
    assert len(store.list_artifacts()) == 4
    done = store.gc(policy=policy)
    assert {**planned, "dry_run": False} == done
    assert [run["action"] for run in done["runs"]] == ["keep", "forget", "forget", "forget"]
    assert (done["collected_runs"], done["blobs"]) == (3, 3)
    assert [run["correlation_id"] for run in store.list_artifacts()] == ["r3"]


@pytest.mark.parametrize(
    ("receipt", "entry", "allowed"),
    [
        (True, None, True),
        (True, outbox.Stage.PUSH, True),
        (True, outbox.Stage.WRITE, False),
        (True, outbox.Stage.PARKED_WRITE, False),
        (False, outbox.Stage.WRITE, False),
        (False, None, False),
    ],
)
def test_gc_collects_only_what_has_a_receipt_and_does_not_wait_for_git(store, receipt, entry, allowed):
    commit(store, "run")
    key = (1).to_bytes(8, "big")
    with store.environment.write() as transaction:
        value = transaction.get(Table.OUTBOX, outbox.Stage.WRITE.value + key)
        transaction.delete(Table.OUTBOX, outbox.Stage.WRITE.value + key)
        if receipt:
            outbox.record_exported(transaction, [1], store.now_us())
            transaction.delete(Table.OUTBOX, outbox.Stage.PUSH.value + key)
        if entry is not None:
            transaction.put(Table.OUTBOX, entry.value + key, value)
    with store.environment.read() as transaction:
        assert gc.may_collect(transaction, 1) is allowed


def test_gc_joining_leaves_a_segment_alone_whose_number_is_anothers_by_now(store):
    commit(store, "old", files={"a": b"old" * 50})
    with store.environment.write() as transaction:
        transaction.delete(Table.BLOBS, digest_bytes(b"old" * 50))
        transaction.delete(Table.SEGMENTS, blobs.segment_key(1, 0))
    commit(store, "new", files={"a": b"new" * 50})
    assert segment_numbers(store) == [1]
    with store.environment.write() as transaction:
        assert segments.join(transaction, {1: [digest_bytes(b"old" * 50)]}) == 0
    assert store.read_file("new", "a") == b"new" * 50

"""What a commit leaves in the outbox for its export: objects made, streams placed; taken as it is, or made anew."""

from __future__ import annotations

import random

import msgspec
import pytest

from cas import blobs, heal, intake, outbox, records, segments
from cas.catalog import sequence_key
from cas.codec import deflate
from cas.digest import digest_bytes
from cas.errors import IntegrityError
from cas.lmdbenv import Table
from cas.objects import object_id
from cas.outbox import Attempt, Stage
from gitexport import blobcheck
from gitexport.entries import load_entry, run_entry
from gitexport.repository import GitRepository
from gitexport.writer import collect, write_batch
from tests.gc.keeping import flip_byte
from tests.gitexport.refplaces import git
from tests.gitexport.test_writer import plan_of
from tests.store.stores import commit, open_store

SHARED = b"close,volume\n" + b"".join(b"%d,%d\n" % (number, number * 7) for number in range(400))


@pytest.fixture(params=["sha1", "sha256"])
def object_format(request):
    return request.param


@pytest.fixture
def store(tmp_path, object_format):
    with open_store(tmp_path / "s", object_format=object_format) as opened:
        yield opened


@pytest.fixture
def filled(store):
    """Runs with files of their own and shared ones, in folders, twice in one run; revisions, prompts, a rollback."""
    commit(store, "a", task_id="t1", prompt_hash="0123456789abcdef")
    commit(
        store, "b", task_id="t2", files={"data/shared.csv": SHARED, "own.csv": b"b\n", "again.csv": b"b\n"}
    )
    commit(
        store, "c", task_id="t2", files={"shared.csv": SHARED, "empty": b""}, prompt_hash="0123456789abcdef"
    )
    commit(store, "c", task_id="t2", files={"shared.csv": SHARED})
    store.revert_to_tag("corr_b", "ai/generated/wf/t2")
    return store


def attempts(store):
    with store.environment.read() as transaction:
        return dict(outbox.iter_entries(transaction, Stage.WRITE))


def objects_left(store):
    """Return what the outbox holds of the queued runs' git objects, by sequence; empty where there is nothing."""
    with store.environment.read() as transaction:
        return {sequence: outbox.get_objects(transaction, sequence) for sequence in attempts(store)}


def queued(store):
    """Return the entries as an export takes them from the queue."""
    with store.environment.read() as transaction:
        return [load_entry(transaction, sequence, attempt) for sequence, attempt in attempts(store).items()]


def anew(store):
    """Return the entries with nothing taken from the queue but their numbers."""
    with store.environment.read() as transaction:
        return [load_entry(transaction, sequence) for sequence in attempts(store)]


def exported(store, folder, entries, **options):
    """Write entries into a new repository; return its one pack."""
    repository = GitRepository.create_bare(folder, object_format=store.object_format)
    plan = plan_of(*entries)
    for entry in entries:  # a batch moves a branch once, to its newest commit
        plan.branch_moves[entry.branch] = (None, entry.commit)
    write_batch(store.environment, repository, plan, **options)
    git(folder, "fsck", "--strict", "--full")
    (pack,) = (folder / "objects" / "pack").glob("*.pack")
    return pack


def objects_of(folder):
    return set(git(folder, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split())


def change(store, sequence, **fields):
    with store.environment.write() as transaction:
        changed = msgspec.structs.replace(attempts(store)[sequence], **fields)
        outbox.enqueue(transaction, sequence, changed)


def leave(store, sequence, objects):
    """Put other git objects into the outbox."""
    with store.environment.write() as transaction:
        outbox.enqueue(transaction, sequence, attempts(store)[sequence], objects)


def overwrite(store, segment, start, content):
    """Put other bytes into a segment."""
    with store.environment.write() as transaction:
        key = blobs.segment_key(segment, 0)
        there = transaction.get(Table.SEGMENTS, key)
        transaction.put(Table.SEGMENTS, key, there[:start] + content + there[start + len(content) :])


def checked(monkeypatch):
    """Return the digests of blobs whose content is inflated and compared from now on."""
    told = []
    check = blobcheck._check
    monkeypatch.setattr(
        blobcheck, "_check", lambda environment, task: (told.extend(task), check(environment, task))
    )
    return told


def test_queued_objects_are_those_that_the_manifest_gives(filled):
    for taken, made in zip(queued(filled), anew(filled), strict=True):
        assert (taken.tags, taken.commit, taken.files) == (made.tags, made.commit, made.files)
        assert taken.objects == made.objects
        assert made.deposit is None
    assert [bool(objects) for objects in objects_left(filled).values()] == [True] * 4 + [False]


def test_deposit_tells_where_the_new_streams_of_a_run_lie(filled):
    entries = queued(filled)
    with filled.environment.read() as transaction:
        for entry in entries[:3]:
            row = transaction.view(Table.SEGMENTS, blobs.segment_key(entry.deposit.segment, 0))
            assert digest_bytes(row) == entry.deposit.segment_digest
            for file, stream in zip(entry.files, entry.deposit.streams, strict=True):
                blob = blobs.find(transaction, file.digest)
                if stream is None:
                    assert blob.segment < entry.deposit.segment, "an earlier run brought it"
                    continue
                placed = blobs.at(entry.deposit.segment, stream, file)
                assert placed == msgspec.structs.replace(blob, ruleset=placed.ruleset)
        own, again = entries[1].deposit.streams[1:]
        assert own == again is not None
    assert [entry.deposit is None for entry in entries] == [False, False, False, True, True], (
        "nothing was new"
    )


def test_pack_is_the_same_whatever_the_queue_knows(filled, tmp_path, monkeypatch):
    told = checked(monkeypatch)
    taken = exported(filled, tmp_path / "taken.git", queued(filled))
    assert told == [], "every blob is proved by the digest of its segment"
    made = exported(filled, tmp_path / "made.git", anew(filled))
    assert len(told) == len({blob.digest for blob in told}) > 3
    assert taken.name == made.name
    assert taken.read_bytes() == made.read_bytes()


@pytest.mark.parametrize(("check", "inflated_count"), [("full", 5), ("deposit", 2), ("crc", 0)])
def test_deposit_of_another_digest_is_no_proof(filled, tmp_path, monkeypatch, check, inflated_count):
    told = checked(monkeypatch)
    deposit = msgspec.structs.replace(attempts(filled)[2].deposit, segment_digest=bytes(32))
    change(filled, 2, deposit=deposit)
    name = exported(filled, tmp_path / "other.git", queued(filled), check=check).name
    assert len(told) == inflated_count
    assert name == exported(filled, tmp_path / "made.git", anew(filled)).name


@pytest.mark.parametrize("wrong", ["offset", "stored_bytes", "crc32", "fewer", "more"])
def test_deposit_that_misplaces_a_stream_is_no_proof(filled, tmp_path, monkeypatch, wrong):
    deposit = attempts(filled)[2].deposit
    first, *others = deposit.streams
    streams = {"fewer": others, "more": [first, *deposit.streams]}.get(wrong)
    if streams is None:
        streams = [msgspec.structs.replace(first, **{wrong: getattr(first, wrong) + 1}), *others]
    change(filled, 2, deposit=msgspec.structs.replace(deposit, streams=tuple(streams)))
    told = checked(monkeypatch)
    exported(filled, tmp_path / "other.git", queued(filled))
    assert {blob.digest for blob in told} >= {queued(filled)[1].files[0].digest}
    exported(filled, tmp_path / "made.git", anew(filled))
    assert objects_of(tmp_path / "other.git") == objects_of(tmp_path / "made.git")


@pytest.mark.parametrize(("check", "inflated_count"), [("full", 5), ("deposit", 0), ("crc", 0)])
def test_level_decides_whether_blobs_are_inflated(filled, tmp_path, monkeypatch, check, inflated_count):
    told = checked(monkeypatch)
    exported(filled, tmp_path / "r.git", queued(filled), check=check)
    assert len(told) == inflated_count


def test_stream_that_changed_since_its_commit_is_refused(filled, tmp_path):
    stream = attempts(filled)[2].deposit.streams[0]
    overwrite(filled, attempts(filled)[2].deposit.segment, stream.offset + 20, b"xx")
    with pytest.raises(IntegrityError) as caught:
        exported(filled, tmp_path / "r.git", queued(filled))
    assert caught.value.subject == queued(filled)[1].files[0].digest.hex()
    assert list((tmp_path / "r.git" / "objects" / "pack").iterdir()) == []


def test_other_content_of_the_same_crc_32_is_refused_by_its_digest(store, tmp_path):
    # The rows and the queue are made to fit the stream, as a change that keeps a CRC-32 would.
    commit(store, "a", files={"f": b"1" * 50})
    other = deflate(b"2" * 50)
    deposit = attempts(store)[1].deposit
    (stream,) = deposit.streams
    assert len(other) == stream.stored_bytes
    overwrite(store, deposit.segment, 0, other)
    crc = blobs.entry_crc32(bytes([0xB0 | 0x02, 0x03]), other)
    with store.environment.write() as transaction:
        blob = next(blobs.iter_blobs(transaction))
        row = blobs.encode(msgspec.structs.replace(blob, crc32=crc))
        transaction.put(Table.BLOBS, blob.digest, row)
    changed = (msgspec.structs.replace(stream, crc32=crc),)
    change(store, 1, deposit=msgspec.structs.replace(deposit, streams=changed))
    with pytest.raises(IntegrityError) as caught:
        exported(store, tmp_path / "r.git", queued(store))
    assert caught.value.subject == blob.digest.hex()


def test_streams_that_the_collector_moved_are_found_by_their_rows(filled, tmp_path):
    exported(filled, tmp_path / "before.git", queued(filled))
    with filled.environment.write() as transaction:
        numbers = set(blobs.iter_segments(transaction))
        segments.join(transaction, segments.digests_in(transaction, numbers))
    assert attempts(filled)[1].deposit.segment in numbers
    exported(filled, tmp_path / "after.git", queued(filled))
    assert objects_of(tmp_path / "after.git") == objects_of(tmp_path / "before.git")


def move(store, segment, **changed):
    """Move the only stream on, give its segment's number to another, and change its row."""
    with store.environment.write() as transaction:
        (blob,) = blobs.iter_blobs(transaction)
        key = blobs.segment_key(segment, 0)
        stream = transaction.get(Table.SEGMENTS, key)
        transaction.put(Table.SEGMENTS, blobs.segment_key(segment + 1, 0), stream)
        transaction.put(Table.SEGMENTS, key, deflate(b"another run's") * 99)
        row = msgspec.structs.replace(blob, segment=segment + 1, **changed)
        transaction.put(Table.BLOBS, blob.digest, blobs.encode(row))


def test_segment_number_that_was_given_again_is_no_proof(store, tmp_path):
    commit(store, "a", files={"f": SHARED})
    move(store, attempts(store)[1].deposit.segment)
    exported(store, tmp_path / "r.git", queued(store))
    oid = object_id("blob", SHARED, store.object_format)
    assert oid.hex() in objects_of(tmp_path / "r.git")


def test_moved_stream_whose_row_has_another_oid_is_refused(store, tmp_path):
    commit(store, "a", files={"f": SHARED})
    other = object_id("blob", b"other", store.object_format)
    move(store, attempts(store)[1].deposit.segment, oid=other)
    with pytest.raises(IntegrityError) as caught:
        exported(store, tmp_path / "r.git", queued(store))
    assert caught.value.subject == digest_bytes(SHARED).hex()
    assert list((tmp_path / "r.git" / "objects" / "pack").iterdir()) == []


def test_objects_of_another_run_are_made_anew(filled):
    mine, others = objects_left(filled)[1], objects_left(filled)[2]
    known = msgspec.msgpack.decode(mine)
    less = [msgspec.msgpack.encode(known[:at] + known[at + 1 :]) for at in range(len(known))]
    strange = msgspec.msgpack.encode([*known, ("tree", b"")])  # no tree names it
    for objects in (*less, others, strange, mine[:-1], b"\x90", b"\xc0", b"\x91\x92\xa4blog\xc4\x00"):
        leave(filled, 1, objects)
        assert queued(filled)[0].objects == anew(filled)[0].objects
    leave(filled, 1, mine)
    assert queued(filled)[0].objects == anew(filled)[0].objects


def test_objects_are_left_out_behind_a_long_queue(store, tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "MOST_WITH_OBJECTS", 2)
    for number in range(4):
        commit(store, str(number), task_id=f"t{number}", files={"f": b"%d" % number})
    assert [bool(objects) for objects in objects_left(store).values()] == [True, True, False, False]
    assert [attempt.deposit is None for attempt in attempts(store).values()] == [False] * 4
    exported(store, tmp_path / "r.git", queued(store))
    with store.environment.write() as transaction:  # as the export of the first three does
        outbox.record_exported(transaction, [1, 2, 3], 7)
    commit(store, "4", task_id="t4")
    assert [bool(objects) for objects in objects_left(store).values()] == [False, True]


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_objects_of_other_files_than_the_manifest_names_are_refused(filled, kept):
    left = {"deposit": attempts(filled)[2].deposit, "encoded": objects_left(filled)[2]}
    with filled.environment.read() as transaction:
        run, row = records.load_run(transaction, 2)
    other = msgspec.structs.replace(run.files[0], oid=object_id("blob", b"other", filled.object_format))
    changed = msgspec.structs.replace(run, files=(*run.files[:kept], other))
    with pytest.raises(IntegrityError, match="not what its manifest gives"):
        run_entry(2, changed, row, **left)
    assert run_entry(2, run, row, **left).commit == row.commit_oid.hex()


def test_blobs_of_a_deposit_are_not_looked_up(filled, monkeypatch):
    looked_up = []
    find = blobs.find
    monkeypatch.setattr(blobs, "find", lambda *words: (looked_up.append(words[1]), find(*words))[1])
    entries = queued(filled)
    known = collect(filled.environment, entries)
    assert looked_up == []
    assert len(known.blobs) == len(known.deposited)
    by_rows = collect(filled.environment, anew(filled))
    assert len(looked_up) == len(by_rows.blobs) == len(known.blobs)
    assert by_rows.deposited == {}
    assert set(by_rows.blobs) == set(known.blobs)


def test_queued_run_whose_content_was_purged_stays_back(filled):
    filled.purge(queued(filled)[1].files[0].digest.hex())
    assert sorted(attempts(filled)) == [1]
    with filled.environment.read() as transaction:
        held = [attempt for _, attempt in outbox.iter_held(transaction)]
        left = [outbox.get_objects(transaction, sequence) for sequence, _ in outbox.iter_held(transaction)]
    assert len(held) == 4
    assert all(attempt.deposit is None for attempt in held), "no export will want it"
    assert left == [b""] * 4


def test_entry_that_failed_keeps_what_is_known(filled):
    known = attempts(filled)[1]
    with filled.environment.write() as transaction:
        outbox.record_failure(transaction, 1, reason="no", now_us=5, park=True)
        outbox.unpark(transaction)
    assert attempts(filled)[1] == msgspec.structs.replace(known, attempt_count=1, last_at_us=5, reason="no")
    with filled.environment.write() as transaction:
        outbox.record_exported(transaction, [1], 7)
        assert outbox.find_entry(transaction, 1) == (Stage.PUSH, Attempt())
        assert outbox.get_objects(transaction, 1) == b""
        outbox.requeue(transaction, 1)
    assert attempts(filled)[1] == Attempt()


def commit_miscompressed(store, monkeypatch, content):
    """Commit a run one stream of which was wrong before anything was computed from it, by a fault of the machine."""
    monkeypatch.setattr(intake, "deflate", lambda data: deflate(data[::-1] if data == content else data))
    commit(store, "a", task_id="t1", files={"bad.csv": content, "good.csv": b"good\n"})
    monkeypatch.undo()


def test_blob_that_was_wrong_from_the_first_and_was_healed_is_exported_right(store, tmp_path, monkeypatch):
    commit_miscompressed(store, monkeypatch, SHARED)
    assert store.heal([lambda item: [SHARED]]).ok
    exported(store, tmp_path / "r.git", queued(store))  # whose fsck compares every object with its id
    assert object_id("blob", SHARED, store.object_format).hex() in objects_of(tmp_path / "r.git")


@pytest.mark.parametrize("check", ["deposit", "full"])
def test_blob_that_is_known_to_be_damaged_is_not_exported(store, tmp_path, monkeypatch, check):
    commit_miscompressed(store, monkeypatch, SHARED)
    assert [item["digest"] for item in store.heal().lost] == [digest_bytes(SHARED).hex()]
    with pytest.raises(IntegrityError) as caught:
        exported(store, tmp_path / "r.git", queued(store), check=check)
    assert caught.value.subject == digest_bytes(SHARED).hex()
    assert list((tmp_path / "r.git" / "objects" / "pack").iterdir()) == []


@pytest.mark.parametrize("park", [False, True])
def test_blob_that_was_healed_into_several_parts_is_exported(store, tmp_path, monkeypatch, park):
    # Given as bytes it went into the segment of its run, whatever its size; a healed one has parts of its own.
    monkeypatch.setattr(heal, "LARGE_FILE_BYTES", 4000)
    monkeypatch.setattr(blobs, "PART_BYTES", 2000)
    content = random.Random(5).randbytes(5000)
    commit(store, "a", task_id="t1", files={"large.bin": content})
    overwrite(store, attempts(store)[1].deposit.segment, 1000, b"xxxx")
    if park:
        with store.environment.write() as transaction:
            outbox.record_failure(transaction, 1, reason="damaged", now_us=5, park=True)
    assert store.heal([lambda item: [content]]).ok
    with store.environment.write() as transaction:
        outbox.unpark(transaction)
        assert next(blobs.iter_blobs(transaction)).part_count > 1
    exported(store, tmp_path / "r.git", queued(store))
    assert object_id("blob", content, store.object_format).hex() in objects_of(tmp_path / "r.git")


def test_healing_takes_deposits_of_damaged_segments_alone(filled):
    before = attempts(filled)
    stream = before[2].deposit.streams[0]
    overwrite(filled, before[2].deposit.segment, stream.offset + 20, b"xx")
    assert not filled.heal().ok
    assert attempts(filled) == {**before, 2: msgspec.structs.replace(before[2], deposit=None)}
    with filled.environment.write() as transaction:
        assert outbox.drop_deposits(transaction, {before[1].deposit.segment}) == 1
        assert outbox.drop_deposits(transaction, {before[1].deposit.segment}) == 0


def test_damaged_outbox_entry_keeps_no_blob_from_being_quarantined(filled):
    stream, segment = attempts(filled)[2].deposit.streams[0], attempts(filled)[2].deposit.segment
    overwrite(filled, segment, stream.offset + 20, b"xx")
    flip_byte(filled, Table.OUTBOX, Stage.WRITE.value + sequence_key(1))
    (lost,) = filled.heal().lost
    with filled.environment.read() as transaction:
        assert blobs.require(transaction, bytes.fromhex(lost["digest"])).is_quarantined
        assert outbox.find_entry(transaction, 2)[1].deposit is None

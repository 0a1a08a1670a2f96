"""A prepared run under the write lock: what it stores, when it stores nothing, and its way to another process."""

import dataclasses

import msgspec
import pytest

from cas import blobs, catalog, commit, manifest, marks, metrics, outbox, records, tombstones
from cas.commit import BlobCollectedError
from cas.digest import digest_bytes
from cas.groupcommit import RelayRefusedError
from cas.lmdbenv import Table
from cas.staging import Stage
from tests.gc.keeping import pretend_export
from tests.store.stores import FILES, METADATA, dump, undone_transaction
from tests.store.stores import commit as commit_run

PROMPT = "0123456789abcdef"
RULESET = b"ruleset2"


def prepare(store, correlation_id="c1", files=FILES, **changes):
    arguments = {"workflow_id": "wf", "task_id": "t", "metadata": METADATA, "files": files}
    return store._prepare(*store._checked_arguments(arguments | changes | {"correlation_id": correlation_id}))


def test_applied_run_is_found_by_every_name(store):
    run = prepare(store, prompt_hash=PROMPT)
    with undone_transaction(store) as transaction:
        assert run.find_existing(transaction) is None
        sequence = run.apply(transaction)
        assert run.find_existing(transaction) == sequence == 1
        loaded, row = records.load(transaction, sequence)
        assert run.stored == (sequence, loaded, row)
        assert (loaded.revision, loaded.parent, loaded.workflow_id) == (1, None, "wf")
        assert (loaded.author_name, loaded.author_email) == (
            store.config.commit_author_name,
            store.config.commit_author_email,
        )
        assert (row.tree_oid, row.signature) == (run.root, None)
        assert [tag for tag, _ in row.tags] == ["corr_c1", "prompt_0123456789ab"]
        assert catalog.find_content(transaction, "c1", run.content_digest) == sequence
        assert catalog.prompt_tag_owner(transaction, "prompt_0123456789ab") == sequence
        assert commit.branch_tip(transaction, "ai/generated/wf/t") == row.commit_oid
        assert commit.branch_tip(transaction, "ai/generated/wf") is None
        assert outbox.count_entries(transaction, outbox.Stage.WRITE) == 1


def test_run_that_is_there_is_not_stored_again(store):
    first = prepare(store)
    with store.environment.write() as transaction:
        assert first.apply(transaction) == 1
    before = dump(store)
    again = prepare(store)
    with store.environment.write() as transaction:
        assert again.apply(transaction) == 1
    assert again.stored is None
    assert dump(store) == before


def test_second_run_of_a_branch_follows_the_first_and_second_of_an_id_is_its_next_revision(store):
    with undone_transaction(store) as transaction:
        prepare(store, prompt_hash=PROMPT).apply(transaction)
        _, first = records.load(transaction, 1)
        again = prepare(store, files={"a.csv": b"1\n"}, prompt_hash=PROMPT)
        assert again.apply(transaction) == 2
        loaded, row = records.load(transaction, 2)
        assert (loaded.revision, loaded.parent) == (2, first.commit_oid)
        assert [tag for tag, _ in row.tags] == ["corr_c1@2"], "the prompt tag belongs to the first run"
        assert prepare(store, "other", task_id="u").apply(transaction) == 3
        loaded, _ = records.load(transaction, 3)
        assert (loaded.revision, loaded.parent) == (1, None)


def test_run_foreseen_in_a_state_that_has_changed_is_worked_out_anew(store):
    run, same = prepare(store, "c2"), prepare(store, "c3")
    with store.environment.read() as transaction:
        run.foresee(transaction)
    with undone_transaction(store) as transaction:
        prepare(store, "c1").apply(transaction)
        sequence = run.apply(transaction)
        loaded, row = records.load(transaction, sequence)
        assert loaded.parent == catalog.get_row(transaction, 1).commit_oid
        assert row.commit_oid != run.foreseen[1].row.commit_oid
        same.foresee(transaction)
        assert same.apply(transaction) == 3
        assert same.stored[1:] == same.foreseen[1][:2]
        assert records.load(transaction, 3)[0].parent == row.commit_oid


def test_forgotten_run_is_shown_again_with_its_ids(store):
    shown = commit_run(store, "c1", task_id="t", metadata=METADATA)
    pretend_export(store)
    store.forget(["c1"])
    run = prepare(store)
    with store.environment.write() as transaction:
        assert marks.is_hidden(transaction, 1)
        assert run.find_existing(transaction) is None
        assert run.apply(transaction) == 1
        assert not marks.is_hidden(transaction, 1)
        assert run.stored is None
        assert transaction.count(Table.MANIFESTS) == 1
    assert store.get_artifact_by_correlation_id("c1")["commit_sha"] == shown["commit_sha"]
    assert store.verify().ok


def test_run_whose_known_file_is_gone_or_damaged_is_prepared_again(store):
    commit_run(store, "old", files={"a.csv": b"old\n"})
    run = prepare(store, files={"a.csv": b"old\n", "b.csv": b"new\n"})
    assert [blob.digest for blob in run.intake.new_blobs] == [digest_bytes(b"new\n")]
    with undone_transaction(store) as transaction:
        run.check_blobs(transaction)
        blobs.remember_scan(transaction, digest_bytes(b"old\n"), blobs.QUARANTINED)
        with pytest.raises(BlobCollectedError):
            run.apply(transaction)
    with undone_transaction(store) as transaction:
        blobs.erase(transaction, blobs.require(transaction, digest_bytes(b"old\n")))
        with pytest.raises(BlobCollectedError):
            run.check_blobs(transaction)


def test_run_whose_new_file_was_purged_meanwhile_is_prepared_again(store):
    run = prepare(store, files={"a.csv": b"new\n"})
    with undone_transaction(store) as transaction:
        tombstones.put(transaction, digest_bytes(b"new\n"), tombstones.Tombstone(1, bytes(20), 4))
        with pytest.raises(BlobCollectedError):
            run.apply(transaction)


def test_run_notes_what_was_scanned_again(store):
    commit_run(store, "old", files={"a.csv": b"old\n"})
    run = prepare(store, files={"a.csv": b"old\n"})
    run.intake.rescanned = ((digest_bytes(b"old\n"), RULESET),)
    with undone_transaction(store) as transaction:
        run.apply(transaction)
        assert blobs.find(transaction, digest_bytes(b"old\n")).ruleset == RULESET


def test_run_counts_its_files_their_bytes_and_what_it_stored(store):
    commit_run(store, "old", files={"a.csv": b"old\n" * 100})
    run = prepare(store, files={"a.csv": b"old\n" * 100, "b.csv": b"new\n" * 7})
    (new,) = run.intake.new_blobs
    assert run.counts() == {
        "commits": 1,
        "commit_files": 2,
        "commit_raw_bytes": 428,
        "commit_stored_bytes": len(new.stream),
        metrics.LAST_COMMIT: run.draft.created_at_us,
    }
    reserved = run.reserve_bytes
    staged = msgspec.structs.replace(new, stream=b"", staged_segment=9, staged_bytes=1000)
    run.intake.new_blobs[:] = [new, staged]
    assert run.counts()["commit_stored_bytes"] == len(new.stream) + 1000
    assert run.reserve_bytes == reserved


@pytest.mark.parametrize("note_bytes", [0, 900, 9000])
def test_room_for_a_batch_of_small_runs_holds_all_that_they_add(store, note_bytes):
    # Twice what is reserved is written ahead; the margin beside it is for commits that wait meanwhile.
    metadata = {**METADATA, "note": "n" * note_bytes}
    runs = [
        prepare(store, f"c{number}", {"a.csv": b"%d\n" % number}, task_id=f"t{number}", metadata=metadata)
        for number in range(100)
    ]
    before = store.environment.used_bytes()
    with store.environment.write() as transaction:
        for run in runs:
            run.apply(transaction)
    assert store.environment.used_bytes() - before <= 2 * sum(run.reserve_bytes for run in runs)


def test_stored_runs_of_a_batch_are_counted_by_their_hour_and_those_there_already_are_not(store):
    runs = [prepare(store, name) for name in ("a", "b", "c", "a")]
    for run, hour in zip(runs, (10, 10, 12, 10), strict=True):
        run.draft = msgspec.structs.replace(run.draft, created_at_us=hour * metrics.HOUR_US + 5)
    told = []
    with undone_transaction(store) as transaction:
        assert commit.apply_all(
            transaction, runs, lambda within, counts: told.append((within is transaction, counts))
        ) == [1, 2, 3, 1]
    ((within, counts),) = told
    assert within
    assert {hour: row["commits"] for hour, row in counts.items()} == {10: 2, 12: 1}
    assert counts[12] == runs[2].counts()
    assert counts[10]["commit_files"] == 4


@dataclasses.dataclass(frozen=True)
class _Sent:
    """A batch as another process gets it, and what it holds."""

    content: bytes
    runs: list


@pytest.fixture
def sent(store):
    runs = [prepare(store, name, files={"a.csv": name.encode() * 9}) for name in ("first", "second")]
    return _Sent(commit.encode_relayed(runs), runs)


def test_relayed_batch_is_stored_as_if_it_had_been_applied_here(store, sent):
    with store.environment.write() as transaction:
        assert commit.decode_relayed(sent.content)(transaction) == [1, 2]
        assert metrics.totals(transaction)["commits"] == 2
        assert [
            manifest.decode(row.manifest).correlation_id for _, row in catalog.iter_rows(transaction)
        ] == [
            "first",
            "second",
        ]
    there = dump(store)
    for name in ("first", "second"):
        assert store.read_file(name, "a.csv") == name.encode() * 9
    with store.environment.write() as transaction:
        assert commit.decode_relayed(sent.content)(transaction) == [1, 2], "a second time stores nothing"
    assert dump(store) == there
    assert store.verify().ok


def test_relayed_batch_leaves_the_same_rows_as_one_applied_here(store, sent):
    def rows(apply):
        with undone_transaction(store) as transaction:
            apply(transaction)
            return {table: list(transaction.scan(table)) for table in Table if table is not Table.COUNTERS}

    relayed = rows(commit.decode_relayed(sent.content))
    own = rows(lambda transaction: [run.apply(transaction) for run in sent.runs])
    queued = relayed.pop(Table.OUTBOX)
    assert relayed == {table: found for table, found in own.items() if table is not Table.OUTBOX}
    assert [row for row in queued if row[0] != metrics.NEWEST_HOUR] == own[Table.OUTBOX]


def test_relayed_run_that_is_there_already_needs_none_of_its_files(store):
    commit_run(store, "old", files={"a.csv": b"old\n"})
    run = prepare(store, "old", files={"a.csv": b"old\n"}, task_id="task")
    content = commit.encode_relayed([run])
    with undone_transaction(store) as transaction:
        assert commit.decode_relayed(content)(transaction) == [1]
        blobs.erase(transaction, blobs.require(transaction, digest_bytes(b"old\n")))
        assert commit.decode_relayed(content)(transaction) == [1]


def test_relayed_run_whose_file_is_gone_is_refused(store):
    commit_run(store, "old", files={"a.csv": b"old\n"})
    content = commit.encode_relayed([prepare(store, files={"a.csv": b"old\n"})])
    with undone_transaction(store) as transaction:
        blobs.erase(transaction, blobs.require(transaction, digest_bytes(b"old\n")))
        with pytest.raises(RelayRefusedError):
            commit.decode_relayed(content)(transaction)


def test_batch_that_is_signed_or_has_no_room_in_an_answer_is_not_relayed(store):
    run = prepare(store)
    signed = dataclasses.replace(run, signer=object())
    assert commit.encode_relayed([run, signed]) is None
    most = (509 - 5) // 9
    assert commit.encode_relayed([run] * most) is not None
    assert commit.encode_relayed([run] * (most + 1)) is None
    answer = msgspec.msgpack.encode([2**64 - 1] * most)
    assert len(answer) <= 509


def test_discarded_run_leaves_nothing_staged_and_writes_nothing_when_there_was_nothing(store):
    stage = Stage(store.environment, b"owner")
    stage.feed(b"a stream")
    stage.finish()
    run = prepare(store, files={"a.csv": b"new\n"})
    (new,) = run.intake.new_blobs
    before = store.environment.last_flush_s
    run.discard(store.environment)
    assert store.environment.last_flush_s == before, "nothing was staged, so nothing was written"
    run.intake.new_blobs.append(
        msgspec.structs.replace(
            new, stream=b"", staged_segment=stage.segment, staged_mark=stage.mark, staged_bytes=8
        )
    )
    run.discard(store.environment)
    with store.environment.read() as transaction:
        assert list(blobs.iter_uploads(transaction)) == []
        assert transaction.count(Table.SEGMENTS) == 0


def test_ids_are_scanned_a_line_each_and_a_missing_prompt_has_none():
    assert commit.RunIds("w", "t", "c", None).text == "w\nt\nc"
    assert commit.RunIds("w", "t", "c", "p").text == "w\nt\nc\np"

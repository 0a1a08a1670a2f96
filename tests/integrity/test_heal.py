"""Quarantine and healing: from a source, from another store, from git, from the next identical put."""

import subprocess
import threading

import msgspec
import pytest

from cas import IntegrityError, StorageError, blobs, catalog, heal
from cas.digest import digest_bytes
from cas.lmdbenv import SUSPECT_FILE, Table
from cas.staging import Stage
from tests.gc.keeping import collect, commit, flip_byte, pretend_export
from tests.store.stores import open_store

CONTENT = b"time,pnl\n" + b"1,2.5\n" * 500
DIGEST = digest_bytes(CONTENT)


def spoil_stream(store, digest=DIGEST):
    """Change a byte in the middle of a blob's stored stream."""
    with store.environment.read() as transaction:
        blob = blobs.require(transaction, digest)
    flip_byte(store, Table.SEGMENTS, blobs.segment_key(blob.segment, 0), blob.offset + blob.stored_bytes // 2)


def drop_row(store, digest=DIGEST):
    with store.environment.write() as transaction:
        transaction.delete(Table.BLOBS, digest)


def spoil_row(store, digest=DIGEST):
    flip_byte(store, Table.BLOBS, digest, 3)


def drop_segment(store, digest=DIGEST):
    with store.environment.write() as transaction:
        blob = blobs.require(transaction, digest)
        transaction.delete(Table.SEGMENTS, blobs.segment_key(blob.segment, 0))


DAMAGES = [spoil_stream, drop_row, spoil_row, drop_segment]


def content_source(item):
    return [CONTENT[:100], CONTENT[100:]] if item.digest == DIGEST else None


@pytest.fixture
def run(store):
    return commit(store, "run", files={"t.csv": CONTENT, "other": b"other"})


@pytest.mark.parametrize("damage", DAMAGES)
def test_heal_from_a_source_makes_the_run_whole(store, run, damage):
    damage(store)
    with pytest.raises(IntegrityError):
        store.read_file("run", "t.csv")
    done = store.heal([content_source])
    assert DIGEST.hex() in done.damaged
    assert DIGEST.hex() in done.healed
    assert store.read_file("run", "t.csv") == CONTENT
    if damage is not drop_segment:  # which takes the other file along
        assert done.ok
        collect(store)
        assert store.verify().ok


@pytest.mark.parametrize("damage", DAMAGES)
def test_heal_without_a_source_names_the_runs_and_the_next_put_heals(store, run, damage):
    damage(store)
    done = store.heal()
    lost = {item["digest"]: item for item in done.lost}
    assert lost[DIGEST.hex()]["runs"] == ["run@1"]
    with pytest.raises(IntegrityError):
        store.read_file("run", "t.csv")
    commit(store, "next", files={"same.csv": CONTENT, "other": b"other"})
    assert store.read_file("run", "t.csv") == CONTENT
    assert store.heal().ok
    collect(store)
    assert store.verify().ok


def test_put_of_content_whose_row_is_damaged_heals_without_a_quarantine(store, run):
    spoil_row(store)
    commit(store, "next", files={"same.csv": CONTENT})
    assert store.read_file("run", "t.csv") == CONTENT


def test_heal_takes_nothing_from_a_source_that_is_wrong(store, run):
    spoil_stream(store)
    wrong = [
        lambda item: [b"x" * item.size_bytes],
        lambda item: [CONTENT[:-1]],
        lambda item: [CONTENT, b"more"],
        lambda item: None,
    ]
    done = store.heal(wrong)
    assert not done.healed
    with pytest.raises(IntegrityError):
        store.read_file("run", "t.csv")


def test_heal_source_that_fails_means_it_has_nothing(store, run):
    spoil_stream(store)

    def fails(item):
        raise IntegrityError("broken as well")

    assert store.heal([fails, content_source]).ok


def test_heal_from_another_store(store, run, tmp_path):
    store.backup(tmp_path / "copy")
    spoil_stream(store)
    with open_store(tmp_path, store_path=tmp_path / "copy", read_only=True) as other:
        assert store.heal([heal.store_source(other.environment)]).ok
    assert store.read_file("run", "t.csv") == CONTENT


def test_heal_from_git(store, run, tmp_path):
    from gitexport import Exporter
    from gitexport.healing import git_source
    from gitexport.repository import GitRepository

    repository = tmp_path / "repo.git"
    subprocess.run(["git", "init", "-q", "--bare", repository], check=True)
    Exporter(store, repository=repository).run(push=False)
    spoil_stream(store)
    drop_row(store, digest_bytes(b"other"))
    done = store.heal([git_source(GitRepository.open(repository))])
    assert (done.ok, len(done.healed)) == (True, 2)
    assert store.read_file("run", "t.csv") == CONTENT
    assert store.read_file("run", "other") == b"other"


def test_heal_does_not_miss_what_a_collected_run_gave_up(store, run):
    pretend_export(store)
    store.forget(["run"])
    collect(store)
    assert store.heal([content_source]).damaged == []  # what was given up is not missing


def test_heal_lifts_the_quarantine_of_a_blob_that_reads_well(store, run):
    with store.environment.write() as transaction:
        blob = blobs.require(transaction, DIGEST)
        row = msgspec.structs.replace(blob, ruleset=blobs.QUARANTINED)
        transaction.put(Table.BLOBS, DIGEST, blobs.encode(row))
    assert store.heal().lifted == [DIGEST.hex()]
    with store.environment.read() as transaction:
        assert not blobs.require(transaction, DIGEST).is_quarantined


def test_heal_streams_a_large_blob(store, monkeypatch):
    import random

    monkeypatch.setattr("cas.heal.LARGE_FILE_BYTES", 1000)
    monkeypatch.setattr("cas.blobs.PART_BYTES", 4096)
    content = random.Random(7).randbytes(50_000)
    commit(store, "large", files={"f": content})
    spoil_stream(store, digest_bytes(content))
    assert not store.heal([lambda item: [content[:-1] + b"?"]]).healed
    assert store.heal([lambda item: [content[i : i + 1000] for i in range(0, 50_000, 1000)]]).ok
    with store.environment.read() as transaction:
        assert blobs.require(transaction, digest_bytes(content)).part_count > 10
    assert store.read_file("large", "f") == content
    collect(store)
    assert store.verify().ok


def test_heal_on_a_disk_that_refuses_says_so_instead_of_calling_the_blob_lost(store, monkeypatch):
    monkeypatch.setattr(heal, "LARGE_FILE_BYTES", 100)
    large = bytes(range(256)) * 10
    commit(store, "large", files={"a": large})
    spoil_stream(store, digest_bytes(large))

    def refuse(stage, part):
        raise StorageError("the disk is full", kind="disk_full")

    monkeypatch.setattr(Stage, "_write", refuse)
    with pytest.raises(StorageError, match="the disk is full"):
        heal.heal(store.environment, [lambda item: [large]])


def test_commit_that_counts_on_a_blob_quarantined_meanwhile_stores_it_again(store, run, monkeypatch):
    spoil_stream(store)
    prepare = type(store)._prepare
    done = []

    def prepare_then_quarantine(self, *arguments):
        prepared = prepare(self, *arguments)
        if not done:
            done.append(store.heal())
        return prepared

    monkeypatch.setattr(type(store), "_prepare", prepare_then_quarantine)
    commit(store, "next", files={"same.csv": CONTENT})
    assert store.read_file("next", "same.csv") == CONTENT


def test_blob_that_could_not_be_looked_at_for_a_moment_is_not_taken_for_a_damaged_one(
    store, run, monkeypatch
):
    real, refusals = (
        blobs.check_entry,
        [StorageError("too many readers", kind="readers_full", retryable=True)],
    )

    def check(transaction, blob):
        if blob.digest == DIGEST and refusals:
            raise refusals.pop()
        real(transaction, blob)

    for look in (store.verify, store.heal):
        refusals[:] = [StorageError("too many readers", kind="readers_full", retryable=True)]
        monkeypatch.setattr(blobs, "check_entry", check)
        with pytest.raises(StorageError) as caught:
            look()
        assert caught.value.kind == "readers_full"
    assert store.verify().ok
    assert store.heal().damaged == []


def test_run_that_holds_a_lost_blob_twice_is_named_once(store):
    commit(store, "twice", files={"a": CONTENT, "b": CONTENT})
    commit(store, "once", files={"a": CONTENT})
    spoil_stream(store)
    (lost,) = store.heal().lost
    assert lost["runs"] == ["twice@1", "once@1"]


def test_damaged_blob_that_no_run_holds_is_not_what_the_next_put_counts_on(store, run):
    orphan = b"of a run whose manifest is gone\n" * 100
    sequence = commit(store, "gone", files={"o": orphan})["manifest_id"]
    assert sequence
    spoil_stream(store, digest_bytes(orphan))
    with store.environment.write() as transaction:
        key = catalog.sequence_key(catalog.find_revision(transaction, "gone", 1))
        transaction.delete(Table.MANIFESTS, key)
    done = store.heal()
    assert done.damaged == [digest_bytes(orphan).hex()]
    (lost,) = done.lost
    assert (lost["digest"], lost["size_bytes"], lost["runs"]) == (digest_bytes(orphan).hex(), len(orphan), [])
    commit(store, "again", files={"o": orphan})
    assert store.read_file("again", "o") == orphan


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError, TimeoutError])
@pytest.mark.parametrize("when", ["asked", "read"])
def test_heal_asks_the_next_source_when_the_system_refuses_one(store, run, error, when):
    def refused(_):
        if when == "asked":
            raise error
        yield CONTENT[:100]
        raise error

    def asked(item):
        return refused(item) if when == "read" else next(refused(item))

    spoil_stream(store)
    assert store.heal([asked, content_source]).healed == [DIGEST.hex()]
    assert store.read_file("run", "t.csv") == CONTENT


def test_heal_in_a_store_that_a_failed_write_has_marked_leaves_the_way_to_a_verify(store, run):
    mark = store.environment.directory / SUSPECT_FILE
    spoil_stream(store)
    mark.write_text("a write failed\n")
    assert not store.verify().ok
    refused = []

    def source(item):
        thread = threading.Thread(target=lambda: refused.append(refusal(store)))
        thread.start()
        thread.join()
        return content_source(item)

    assert store.heal([source]).ok
    assert refused == ["store_suspect"]  # whoever else writes meanwhile
    assert mark.exists()
    assert refusal(store) == "store_suspect"
    assert store.verify().mark_lifted
    assert refusal(store) is None


def refusal(store):
    try:
        commit(store, "other", files={"o": b"other"})
    except StorageError as error:
        return error.kind
    return None


def test_heal_of_a_sound_store_writes_nothing(store, run):
    before = store.environment.used_bytes()
    done = store.heal([content_source])
    assert done.as_dict() == {
        "ok": True,
        "damaged": [],
        "healed": [],
        "lifted": [],
        "lost": [],
        "repaired": 0,
    }
    assert store.environment.used_bytes() == before

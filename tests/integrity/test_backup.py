"""Backup and restore: consistent while writers write, verified, and never over anything."""

import threading

import pytest

from cas import IntegrityError, StorageError, restore_store
from cas.lmdbenv import DATA_FILE
from tests.gc.keeping import commit, rows_of
from tests.integrity.test_heal import CONTENT, spoil_stream
from tests.store.stores import open_store


def test_backup_holds_every_row_and_opens_as_a_store(store, tmp_path):
    commit(store, "a")
    commit(store, "b")
    done = store.backup(tmp_path / "backups" / "monday")
    assert (done["runs"], done["blobs"]) == (2, 2)
    with open_store(tmp_path, store_path=tmp_path / "backups" / "monday", read_only=True) as copy:
        assert rows_of(copy) == rows_of(store)
        assert copy.verify().ok


def test_backup_is_private_and_holds_nothing_else(store, tmp_path):
    commit(store, "a")
    store.backup(tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir() if path.name != "lock.mdb") == [
        ".gitignore",
        DATA_FILE,
    ]
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0
    assert (tmp_path / "copy" / DATA_FILE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("obstacle", ["file", "folder", "link"])
def test_backup_onto_something_is_refused(store, tmp_path, obstacle):
    target = tmp_path / "target"
    if obstacle == "file":
        target.write_text("mine")
    elif obstacle == "folder":
        target.mkdir()
        (target / "mine").write_text("mine")
    else:
        target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError) as caught:
        store.backup(target)
    assert caught.value.kind == "target_exists"
    assert not list(tmp_path.glob(".target*"))


def test_backup_of_a_damaged_store_is_refused_and_leaves_nothing(store, tmp_path):
    commit(store, "a", files={"t": CONTENT})
    spoil_stream(store)
    with pytest.raises(IntegrityError, match="blobs_match"):
        store.backup(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert not list(tmp_path.glob(".copy*"))


def test_backup_while_writers_write_is_a_state_that_was(store, tmp_path):
    going_on = threading.Event()
    acknowledged = []

    def write():
        number = 0
        while not going_on.is_set():
            commit(store, f"w{number}", task="t")
            acknowledged.append(f"w{number}")
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not acknowledged:
            continue
        before = len(acknowledged)
        done = store.backup(tmp_path / "copy")
    finally:
        going_on.set()
        writer.join()
    assert before <= done["runs"] <= len(acknowledged)
    with open_store(tmp_path, store_path=tmp_path / "copy", read_only=True) as copy:
        found = [run["correlation_id"] for run in copy.list_artifacts(limit=100_000)]
        assert found[::-1] == acknowledged[: len(found)]


def test_restore_makes_a_store_that_goes_on(store, tmp_path):
    commit(store, "a", task="t")
    head = store.show("a")["commit_sha"]
    store.backup(tmp_path / "copy")
    config = store.config.replace(store_path=tmp_path / "restored")
    assert restore_store(tmp_path / "copy", config)["runs"] == 1
    with open_store(tmp_path, store_path=tmp_path / "restored") as restored:
        assert rows_of(restored) == rows_of(store)
        commit(restored, "b", task="t")
        assert restored.history("ai/generated/wf/t")[0]["parent"] == head


def test_restore_over_a_store_is_refused(store, tmp_path):
    commit(store, "a")
    store.backup(tmp_path / "copy")
    with pytest.raises(StorageError, match="not an empty folder"):
        restore_store(tmp_path / "copy", store.config)
    assert store.show("a")


def test_restore_of_a_damaged_backup_is_refused(store, tmp_path):
    commit(store, "a", files={"t": CONTENT})
    store.backup(tmp_path / "copy")
    with open_store(tmp_path, store_path=tmp_path / "copy") as copy:
        spoil_stream(copy)
    config = store.config.replace(store_path=tmp_path / "restored")
    with pytest.raises(IntegrityError):
        restore_store(tmp_path / "copy", config)
    assert not (tmp_path / "restored").exists()


def test_restore_from_nowhere_is_refused(store, tmp_path):
    config = store.config.replace(store_path=tmp_path / "restored")
    with pytest.raises(StorageError) as caught:
        restore_store(tmp_path / "nothing", config)
    assert caught.value.kind == "not_a_store"


def test_restore_from_nowhere_names_the_folder(store, tmp_path):
    config = store.config.replace(store_path=tmp_path / "restored")
    with pytest.raises(StorageError) as caught:
        restore_store(tmp_path / "nothing", config)
    assert (caught.value.kind, caught.value.subject) == ("not_a_store", str(tmp_path / "nothing"))


def test_backup_has_no_free_pages_and_tells_its_size(store, tmp_path):
    commit(store, "a", files={"t": CONTENT})
    done = store.backup(tmp_path / "copy")
    assert done["bytes"] == (tmp_path / "copy" / DATA_FILE).stat().st_size < store.environment.file_bytes()
    assert (tmp_path / "copy" / ".gitignore").read_text() == "*\n"


def test_restore_leaves_the_backup_as_it_is(store, tmp_path):
    commit(store, "a")
    store.backup(tmp_path / "copy")
    data = tmp_path / "copy" / DATA_FILE
    with open_store(tmp_path, store_path=tmp_path / "copy", read_only=True):
        restore_store(tmp_path / "copy", store.config.replace(store_path=tmp_path / "one"))
    before = data.read_bytes()
    restore_store(tmp_path / "copy", store.config.replace(store_path=tmp_path / "two"))
    assert data.read_bytes() == before

"""Compaction: a smaller file with the same rows, never under anyone's feet."""

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from cas import (
    ArtifactStoreConfig,
    IntegrityError,
    StateError,
    StorageError,
    StoreSuspectError,
    compact_store,
)
from cas.lmdbenv import DATA_FILE, SUSPECT_FILE
from tests.gc.keeping import collect, commit, pretend_export, rows_of
from tests.store.stores import open_store


@pytest.fixture
def emptied(tmp_path):
    """The config of a closed store from which much was removed, and its rows."""
    import random

    noise = random.Random(1)
    with open_store(tmp_path) as store:
        for number in range(30):
            commit(store, f"r{number}", files={"f": noise.randbytes(200_000)})
        pretend_export(store)
        store.forget([f"r{number}" for number in range(28)])
        collect(store)
        return store.config, rows_of(store)


def test_compaction_shrinks_the_file_and_keeps_every_row(emptied, tmp_path):
    config, rows = emptied
    done = compact_store(config)
    assert done["after_bytes"] < 1_000_000 < done["before_bytes"]
    assert (config.store_dir / DATA_FILE).stat().st_mode & 0o077 == 0
    with open_store(tmp_path) as store:
        assert rows_of(store) == rows
        commit(store, "next")
        assert store.verify().ok
        assert store.environment.file_bytes() >= store.environment.used_bytes()
    with open_store(tmp_path) as store:
        assert store.show("next")
        assert len(store.list_artifacts()) == 3


def test_compaction_leaves_no_temporary_and_removes_old_ones(emptied):
    config, _ = emptied
    (config.store_dir / "compact-dead").mkdir()
    compact_store(config)
    assert not list(config.store_dir.glob("compact-*"))


def test_compaction_of_a_store_this_process_has_open_is_refused(emptied, tmp_path):
    config, _ = emptied
    with open_store(tmp_path), pytest.raises(StateError, match="in use"):
        compact_store(config)
    compact_store(config)


def _hold_open(directory, read_only, pipe):
    with open_store(directory, read_only=read_only) as store:
        pipe.send("open")
        pipe.recv()
        if not read_only:
            commit(store, "from the other process")
    pipe.send("closed")
    pipe.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_compaction_of_a_store_another_process_has_open_is_refused(emptied, tmp_path, read_only):
    config, _ = emptied
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_hold_open, args=(tmp_path, read_only, theirs), daemon=True
    )
    process.start()
    theirs.close()  # or nobody would hear that the process has ended
    assert mine.recv() == "open"
    with pytest.raises(StateError, match="in use"):
        compact_store(config)
    mine.send("go on")
    assert mine.recv() == "closed"
    process.join()
    compact_store(config)
    with open_store(tmp_path) as store:
        assert bool(store.get_artifact_by_correlation_id("from the other process")) != read_only


def test_store_that_opens_during_a_compaction_waits_and_gets_the_new_file(emptied, tmp_path, monkeypatch):
    from cas.lmdbenv import compaction

    config, _ = emptied
    copy = compaction._copy
    mine, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_hold_open, args=(tmp_path, False, theirs), daemon=True)

    def start_then_copy(*arguments):
        process.start()
        theirs.close()
        copy(*arguments)

    monkeypatch.setattr(compaction, "_copy", start_then_copy)
    compact_store(config)
    assert mine.recv() == "open"
    mine.send("go on")
    assert mine.recv() == "closed"
    process.join()
    with open_store(tmp_path) as store:
        assert store.show("from the other process")
        assert store.verify().ok


def test_compaction_that_fails_leaves_the_store_as_it_was(emptied, tmp_path, monkeypatch):
    from cas.lmdbenv import compaction

    config, rows = emptied
    before = (config.store_dir / DATA_FILE).stat()

    def fail(old, new):
        raise IntegrityError("differs")

    monkeypatch.setattr(compaction, "_check_same", fail)
    with pytest.raises(IntegrityError):
        compact_store(config)
    after = (config.store_dir / DATA_FILE).stat()
    assert (before.st_ino, before.st_size) == (after.st_ino, after.st_size)
    with open_store(tmp_path) as store:
        assert rows_of(store) == rows


def test_compaction_of_a_suspect_store_is_refused(emptied):
    config, _ = emptied
    (config.store_dir / SUSPECT_FILE).write_text("a write failed\n")
    with pytest.raises(StoreSuspectError):
        compact_store(config)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_compaction_after_a_forked_child_has_gone_works(emptied, tmp_path):
    config, _ = emptied
    with open_store(tmp_path) as store:
        child = os.fork()
        if child == 0:
            store.list_artifacts()
            os._exit(0)
        os.waitpid(child, 0)
    assert compact_store(config)["after_bytes"] < 1_000_000


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.EACCES, "permission_denied"), (errno.EIO, "io_error"), (errno.ENOTDIR, "not_a_store")],
)
def test_suspect_mark_that_cannot_be_looked_for_is_a_storage_error(
    emptied, tmp_path, monkeypatch, code, kind
):
    config, _ = emptied
    stat = Path.stat

    def refuse(self, **options):
        if self.name == SUSPECT_FILE:
            raise OSError(code, os.strerror(code))
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(StorageError) as caught:
        compact_store(config)
    assert (caught.value.kind, caught.value.subject) == (kind, str(config.store_dir))
    with open_store(tmp_path) as store, pytest.raises(StorageError) as caught:
        store.environment.suspect_mark()
    assert (caught.value.kind, caught.value.subject) == (kind, str(config.store_dir))


def test_compaction_below_a_name_that_is_too_long_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError) as caught:
        compact_store(ArtifactStoreConfig(store_path=tmp_path / ("n" * 300)))
    assert caught.value.kind == "not_a_store"

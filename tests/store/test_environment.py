"""The store file: made whole or not at all, shared in a process, refused when it is not one or may have lost bytes."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
import threading
from pathlib import Path

import lmdb
import pytest

from cas import (
    ArtifactStore,
    IntegrityError,
    ReadOnlyStoreError,
    StateError,
    StorageError,
    StoreSuspectError,
)
from cas.lmdbenv import (
    DATA_FILE,
    LOCK_FILE,
    SUSPECT_FILE,
    Table,
    creation,
    environment,
    faults,
    hold_alone,
    registry,
)
from tests.store.stores import commit, dump, open_store


def test_store_folder_is_private_under_any_umask(tmp_path):
    old = os.umask(0)
    try:
        with open_store(tmp_path) as store:
            commit(store)
            folder = store.environment.directory
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in (DATA_FILE, LOCK_FILE):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert (folder / ".gitignore").read_text() == "*\n"


def test_creation_leaves_nothing_beside_the_store(tmp_path):
    with open_store(tmp_path / "a" / "b"):
        assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [".cas"]


@pytest.mark.parametrize("step", ["rename", "fsync"])
def test_creation_that_fails_leaves_no_store(tmp_path, monkeypatch, step):
    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    if step == "rename":
        monkeypatch.setattr("pathlib.Path.rename", fail)
    else:
        monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError) as caught:
        open_store(tmp_path / "repo")
    assert (caught.value.kind, caught.value.retryable) == ("disk_full", True)
    monkeypatch.undo()
    assert not (tmp_path / "repo").exists() or list((tmp_path / "repo").iterdir()) == []
    with open_store(tmp_path / "repo") as store:
        commit(store)


def test_creation_by_many_threads_makes_one_store(tmp_path):
    barrier, ids = threading.Barrier(6), []

    def create():
        barrier.wait()
        with open_store(tmp_path) as store:
            ids.append(store.meta.store_id)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 6
    assert len(set(ids)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [".cas"]


def test_creation_follows_a_link_and_fills_an_empty_folder(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    with open_store(tmp_path, store_path=tmp_path / "link") as store:
        commit(store)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / DATA_FILE).is_file()


@pytest.mark.parametrize(
    ("obstacle", "says"), [("file", "is not a folder"), ("full", "is not empty"), ("above", "not a folder")]
)
def test_creation_where_something_else_stands_is_refused(tmp_path, obstacle, says):
    target = tmp_path / "target"
    if obstacle == "full":
        target.mkdir()
        (target / "precious.txt").write_text("mine")
    else:
        target.write_text("mine")
    path = target / "store" if obstacle == "above" else target
    with pytest.raises(StorageError, match=says) as caught:
        open_store(tmp_path, store_path=path)
    assert caught.value.kind == "not_a_store"
    assert (target / "precious.txt" if obstacle == "full" else target).read_text() == "mine"
    assert [child.name for child in tmp_path.iterdir()] == ["target"]


def test_mount_point_as_store_is_refused_with_a_hint(tmp_path, monkeypatch):
    (tmp_path / "volume").mkdir()
    monkeypatch.setattr("pathlib.Path.is_mount", lambda _: True)

    def rename(self, target):
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr("pathlib.Path.rename", rename)
    with pytest.raises(StorageError, match="mount point") as caught:
        open_store(tmp_path, store_path=tmp_path / "volume")
    assert "below a mount point" in caught.value.hint


def test_network_file_system_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(creation, "file_system_type", lambda _: "nfs4")
    with pytest.raises(StorageError) as caught:
        open_store(tmp_path)
    assert caught.value.kind == "network_filesystem"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shown", "real"),
    [("donn\u00e9es", "donn\u00e9es"), (r"two\040words", "two words"), ("latin\udce9", "latin\udce9")],
    ids=["accented", "blank", "not-utf8"],
)
def test_file_system_is_told_below_a_mount_point_of_any_name(monkeypatch, shown, real):
    mounts = f"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:9 / /mnt/{shown} rw - nfs4 host:/ rw\n"
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: mounts)
    assert creation.file_system_type(Path(f"/mnt/{real}/store")) == "nfs4"
    assert creation.file_system_type(Path("/mnt/other")) == "ext4"


def test_mark_that_cannot_be_lifted_is_a_storage_error(tmp_path, monkeypatch):
    def unlink(self, missing_ok=False):
        raise PermissionError(errno.EACCES, "no")

    with open_store(tmp_path) as store:
        (store.environment.directory / SUSPECT_FILE).touch()
        monkeypatch.setattr("pathlib.Path.unlink", unlink)
        with pytest.raises(StorageError) as caught:
            store.verify()
        monkeypatch.undo()
    assert caught.value.kind == "permission_denied"


@pytest.mark.parametrize("settings", [{"create": False}, {"read_only": True}])
def test_opening_without_creating_says_there_is_no_store(tmp_path, settings):
    with pytest.raises(StorageError) as caught:
        open_store(tmp_path, **settings)
    assert caught.value.kind == "not_a_store"
    assert list(tmp_path.iterdir()) == []


def test_one_process_shares_the_open_file(tmp_path):
    with open_store(tmp_path) as one, open_store(tmp_path) as two:
        assert one.environment is two.environment
        commit(one)
        one.close()
        one.close()
        assert two.get_artifact_by_correlation_id("1")
        with pytest.raises(StateError):
            commit(one)
        with pytest.raises(StateError):
            one.list_artifacts()
    with open_store(tmp_path) as three:
        assert three.get_artifact_by_correlation_id("1")


def test_one_process_cannot_open_one_store_in_two_ways(tmp_path):
    asked = "for writing, with durability 'full'"
    with open_store(tmp_path):
        for settings in ({"durability": "relaxed"}, {"read_only": True}):
            with pytest.raises(StateError, match=f"already has the store open {asked}"):
                open_store(tmp_path, **settings)
    with open_store(tmp_path, read_only=True), pytest.raises(StateError, match="open for reading only, with"):
        open_store(tmp_path)
    with open_store(tmp_path, durability="relaxed") as store:
        commit(store)


def test_read_only_store_reads_and_refuses_to_write(tmp_path):
    with open_store(tmp_path) as store:
        first = commit(store)
    with open_store(tmp_path, read_only=True) as store:
        before = dump(store)
        assert store.show("latest")["commit_sha"] == first["commit_sha"]
        assert commit(store) == first, "what is there already needs no write"
        with pytest.raises(ReadOnlyStoreError):
            commit(store, "other")
        with pytest.raises(ReadOnlyStoreError):
            store.revert_to_tag("corr_1")
        assert dump(store) == before
        assert store.verify().ok


def test_object_format_is_fixed_when_the_store_is_made(tmp_path):
    with open_store(tmp_path, object_format="sha256") as store:
        assert len(commit(store)["commit_sha"]) == 64
    with open_store(tmp_path, object_format="sha1") as store:
        assert store.object_format == "sha256"
        assert len(commit(store, "other")["commit_sha"]) == 64


@pytest.mark.parametrize("keep_bytes", [0, 100, 4096, 8192, 20000])
def test_truncated_file_is_refused_before_it_is_mapped(tmp_path, keep_bytes):
    with open_store(tmp_path) as store:
        for number in range(50):
            commit(store, f"c{number}")
        data = store.environment.directory / DATA_FILE
    os.truncate(data, keep_bytes)
    with pytest.raises(IntegrityError, match="truncated"):
        open_store(tmp_path)


def test_file_of_something_else_is_refused(tmp_path):
    (tmp_path / ".cas").mkdir()
    (tmp_path / ".cas" / DATA_FILE).write_bytes(os.urandom(100_000))
    with pytest.raises(IntegrityError):
        open_store(tmp_path)


def test_store_of_a_later_format_is_refused(tmp_path):
    from cas import meta

    with open_store(tmp_path) as store, store.environment.write() as transaction:
        encoded = meta.msgspec.msgpack.encode({**meta.msgspec.to_builtins(store.meta), "format": 2})
        transaction.put(Table.META, b"store", encoded)
    with pytest.raises(StorageError) as caught:
        open_store(tmp_path)
    assert caught.value.kind == "unknown_format"
    with open_store(tmp_path / "other") as store:
        commit(store)


def test_suspect_store_reads_but_refuses_commits_until_cleared(store):
    commit(store)
    before = dump(store)
    (store.environment.directory / SUSPECT_FILE).touch()
    with pytest.raises(StoreSuspectError):
        commit(store, "other")
    with pytest.raises(StoreSuspectError):
        store.revert_to_tag("corr_1")
    assert store.show("latest")["revision"] == 1
    assert dump(store) == before
    store.environment.clear_suspect()
    assert commit(store, "other")["success"]


def test_input_output_error_of_a_write_marks_the_store_suspect(store, monkeypatch):
    monkeypatch.setattr(faults, "_is_full", lambda _: False)
    before = dump(store)

    def fail(*_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(environment.Environment, "_keep_headroom", fail)
    with pytest.raises(StorageError) as caught:
        commit(store)
    assert caught.value.kind == "io_error"
    monkeypatch.undo()
    with pytest.raises(StoreSuspectError):
        commit(store)
    assert dump(store) == before


def test_input_output_error_on_a_full_disk_is_a_full_disk(store, monkeypatch):
    monkeypatch.setattr(faults, "_is_full", lambda _: True)

    def fail(*_):
        raise OSError(errno.EIO, "short write")

    with monkeypatch.context() as patch:
        patch.setattr(environment.Environment, "_keep_headroom", fail)
        with pytest.raises(StorageError) as caught:
            commit(store)
    assert (caught.value.kind, caught.value.retryable) == ("disk_full", True)
    assert commit(store)["success"]


def test_full_disk_while_the_file_is_extended_changes_nothing(store, monkeypatch):
    commit(store)
    before = dump(store)

    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(StorageError) as caught:
        commit(store, "big", files={"big": os.urandom(15_000_000)})
    assert caught.value.kind == "disk_full"
    assert dump(store) == before
    assert commit(store, "small")["success"], "what fits in the room made ahead still goes in"


def test_full_map_is_told_by_name_and_changes_nothing(tmp_path):
    with open_store(tmp_path, map_size_bytes=2_000_000) as store:
        commit(store)
        before = dump(store)
        with pytest.raises(StorageError) as caught:
            commit(store, "big", files={"big": os.urandom(3_000_000)})
        assert caught.value.kind == "map_full"
        assert dump(store) == before
        assert commit(store, "small")["success"]


def test_commit_does_not_change_the_size_of_the_file(store):
    commit(store)
    data = store.environment.directory / DATA_FILE
    size_bytes = data.stat().st_size
    for number in range(20):
        commit(store, f"c{number}", files={"f": os.urandom(10_000)})
    assert data.stat().st_size == size_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel's page cache")
def test_room_written_ahead_of_need_is_not_kept_in_the_page_cache(store):
    commit(store)
    kind = creation.file_system_type(store.environment.directory)
    if kind not in {"ext4", "xfs", "btrfs"}:
        pytest.skip(f"the page cache is all that {kind} has, or it may not drop pages")
    path = store.environment.directory / DATA_FILE
    used_bytes, size_bytes = store.environment.used_bytes(), path.stat().st_size
    assert size_bytes - used_bytes >= environment.HEADROOM_LOW_BYTES
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size_bytes) as mapped:
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        resident = (ctypes.c_ubyte * (size_bytes // mmap.PAGESIZE))()
        assert ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), resident) == 0
    ahead = resident[used_bytes // mmap.PAGESIZE :]
    assert sum(page & 1 for page in ahead) < len(ahead) / 10


def test_readers_of_a_killed_process_are_cleared_when_the_table_is_full(store, monkeypatch):
    commit(store)
    raw, cleared = store.environment._raw, []

    class Full:
        def __getattr__(self, name):
            return getattr(raw, name)

        def begin(self, **arguments):
            if not cleared:
                raise lmdb.ReadersFullError("full")
            return raw.begin(**arguments)

        def reader_check(self):
            cleared.append(1)
            return raw.reader_check()

    monkeypatch.setattr(store.environment, "_raw", Full())
    assert store.show("latest")["revision"] == 1
    assert cleared == [1]


def test_a_store_is_not_pickled(store):
    import pickle

    with pytest.raises(StateError) as caught:
        pickle.dumps(store)
    assert "config" in caught.value.hint


def test_default_config_opens_below_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ArtifactStore() as store:
        assert store.environment.directory == tmp_path / ".cas"
    assert "closed" in repr(store)
    assert "Key" not in repr(store.config)


def test_opening_a_store_that_is_being_compacted_is_refused_when_the_time_is_over(tmp_path):
    with open_store(tmp_path) as store:
        folder = store.environment.directory
    open_files = set(Path("/proc/self/fd").iterdir())
    with hold_alone(folder) as alone:
        assert alone
        for read_only in (False, True):
            with pytest.raises(StateError) as caught:
                open_store(tmp_path, read_only=read_only, open_timeout=0.1)
            assert (caught.value.kind, caught.value.retryable) == ("store_in_use", True)
            assert caught.value.subject == str(folder)
    assert set(Path("/proc/self/fd").iterdir()) == open_files
    with open_store(tmp_path, open_timeout=0) as store:
        commit(store)


def test_opening_a_store_that_is_being_compacted_waits_for_its_end(tmp_path):
    with open_store(tmp_path) as store:
        folder = store.environment.directory
    opened = []
    opening = threading.Thread(target=lambda: opened.append(open_store(tmp_path, open_timeout=60)))
    with hold_alone(folder):
        opening.start()
        opening.join(0.3)
        assert opening.is_alive()
        assert opened == []
    opening.join()
    with opened[0] as store:
        commit(store)


def test_threads_that_fork_at_once_let_transactions_in_again(tmp_path, monkeypatch):
    both_inside = threading.Barrier(2)
    before_fork = environment.Environment.before_fork

    def meet(self):
        before_fork(self)
        both_inside.wait(60)

    def fork():
        registry._before_fork()
        registry._after_fork_in_parent()

    monkeypatch.setattr(environment.Environment, "before_fork", meet)
    store = open_store(tmp_path)
    threads = [threading.Thread(target=fork) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = threading.Thread(target=store.list_artifacts, daemon=True)
    reader.start()
    reader.join(60)
    assert not reader.is_alive()  # closing would not end either
    store.close()

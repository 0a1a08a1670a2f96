"""A backup step by step: what is refused, what is synced before the folder has its name, and what a failure leaves."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

import pytest

from cas import InvalidFileError, StorageError, StoreSuspectError, backup, check
from cas.check import Fault, Report
from cas.errors import IntegrityError
from cas.lmdbenv import DATA_FILE, SUSPECT_FILE, Table, create_environment, open_environment
from cas.lmdbenv.registry import close_environment
from tests.gc.keeping import commit
from tests.store.stores import open_store

MAP_BYTES = 1 << 30


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "repo") as opened:
        commit(opened, "a")
        commit(opened, "b", files={"x": b"1" * 500, "y": b"2" * 500})
        yield opened


def copied(store, directory, verify=check.verify):
    return backup.back_up(store.environment, directory, verify)


def restored(source, directory, verify=check.verify):
    return backup.restore(source, directory, verify, map_size_bytes=MAP_BYTES)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_backup_and_restore_tell_what_they_hold(store, tmp_path):
    for told, folder in (
        (copied(store, tmp_path / "copy"), tmp_path / "copy"),
        (restored(tmp_path / "copy", tmp_path / "again"), tmp_path / "again"),
    ):
        assert told == {
            "directory": str(folder), "runs": 2, "blobs": 3, "bytes": (folder / DATA_FILE).stat().st_size,
        }  # fmt: skip


def test_backup_is_private_under_any_umask(store, tmp_path):
    old = os.umask(0)
    try:
        copied(store, tmp_path / "copy")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "copy").iterdir()}
    assert set(modes.values()) == {0o600}
    assert {".gitignore", DATA_FILE} <= set(modes)
    assert (tmp_path / "copy" / ".gitignore").read_text() == "*\n"


def test_backup_into_the_store_itself_is_refused(store):
    for directory in (store.environment.directory, store.environment.directory / "copy"):
        with pytest.raises(InvalidFileError, match="lies in the folder of the store") as caught:
            copied(store, directory)
        assert caught.value.subject == str(directory)


@pytest.mark.parametrize("obstacle", ["file", "full", "link", "dangling"])
def test_backup_onto_something_is_refused_by_name_and_leaves_it(store, tmp_path, obstacle):
    target = tmp_path / "target"
    if obstacle == "file":
        target.write_text("mine")
    elif obstacle == "full":
        target.mkdir()
        (target / "mine").touch()
    elif obstacle == "link":
        (tmp_path / "empty").mkdir()
        target.symlink_to("empty")
    else:
        target.symlink_to("nowhere")
    before = names_in(tmp_path)
    with pytest.raises(StorageError, match="is not an empty folder") as caught:
        copied(store, target)
    error = caught.value
    assert (error.kind, error.subject) == ("target_exists", str(target))
    assert "Choose a new folder" in error.hint
    assert names_in(tmp_path) == before


def test_empty_folder_becomes_the_backup(store, tmp_path):
    (tmp_path / "copy").mkdir()
    copied(store, tmp_path / "copy")
    assert DATA_FILE in names_in(tmp_path / "copy")


def test_relative_folder_counts_from_the_present_one(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = copied(store, Path("deep/down/copy"))
    assert told["directory"] == str(tmp_path / "deep" / "down" / "copy")
    assert names_in(tmp_path / "deep" / "down") == ["copy"]


def test_copy_is_made_hidden_beside_its_place_and_verified_there(store, tmp_path):
    seen = []

    def verify(environment):
        seen.append(environment)
        assert environment.read_only
        assert environment.durability == "full"
        assert environment.map_size_bytes == store.environment.map_size_bytes
        assert names_in(tmp_path) == sorted([environment.directory.name, "repo"])
        assert stat.S_IMODE(environment.directory.stat().st_mode) == 0o700
        return check.verify(environment)

    copied(store, tmp_path / "copy", verify)
    (environment,) = seen
    assert environment.is_gone
    assert environment.directory.parent == tmp_path
    assert re.fullmatch(r"\.copy\.[0-9a-f]{8}\.part", environment.directory.name)


def test_everything_is_synced_before_the_name_and_the_name_after(store, tmp_path, monkeypatch):
    steps, fsync, rename = [], os.fsync, Path.rename

    def synced(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append(("sync", path.name if path.is_file() else str(path.relative_to(tmp_path).parent)))
        fsync(descriptor)

    def renamed(self, target):
        steps.append(("rename", target.name))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    (tmp_path / "there").mkdir()
    copied(store, tmp_path / "there" / "new" / "copy")
    at = steps.index(("rename", "copy"))
    before, after = steps[:at], steps[at + 1 :]
    assert {("sync", DATA_FILE), ("sync", ".gitignore")} <= set(before)
    assert before[-1] == ("sync", "there/new"), "the folder itself, once its files are there"
    assert after == [("sync", "there"), ("sync", ".")]


def test_suspect_store_and_backup_are_not_copied(store, tmp_path):
    copied(store, tmp_path / "copy")
    (store.environment.directory / SUSPECT_FILE).touch()
    with pytest.raises(StoreSuspectError):
        copied(store, tmp_path / "other")
    (tmp_path / "copy" / SUSPECT_FILE).touch()
    with pytest.raises(StoreSuspectError):
        restored(tmp_path / "copy", tmp_path / "again")
    assert names_in(tmp_path) == ["copy", "repo"]


def test_mark_that_the_check_of_the_copy_left_does_not_stay(store, tmp_path):
    def verify(environment):
        (environment.directory / SUSPECT_FILE).touch()
        return check.verify(environment)

    copied(store, tmp_path / "copy", verify)
    assert SUSPECT_FILE not in names_in(tmp_path / "copy")


def report(*levels):
    faults = [
        Fault(check=f"c{n}", level=level, subject=f"s{n}", detail="p") for n, level in enumerate(levels)
    ]
    return Report(faults=faults)


def test_copy_that_breaks_invariants_is_refused_and_only_such_a_one(store, tmp_path):
    with pytest.raises(IntegrityError) as caught:
        copied(store, tmp_path / "copy", lambda _: report("should", "must", "must"))
    assert caught.value.message == "the copy breaks 2 invariants, the first: c1 of s1"
    assert caught.value.subject == "s1"
    assert "cas verify --heal" in caught.value.hint
    assert names_in(tmp_path) == ["repo"]
    copied(store, tmp_path / "copy", lambda _: report("should"))
    assert names_in(tmp_path) == ["copy", "repo"]


def test_copy_that_is_no_store_of_ours_is_refused(tmp_path):
    create_environment(tmp_path / "strange", {b"key": b"value"})
    strange = open_environment(tmp_path / "strange", map_size_bytes=MAP_BYTES, durability="full")
    try:
        with strange.read() as transaction:
            assert transaction.get(Table.META, b"store") is None
        with pytest.raises(StorageError):
            backup.back_up(strange, tmp_path / "copy", check.verify)
    finally:
        close_environment(strange)
    assert names_in(tmp_path) == ["strange"]


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, "disk_full"), (errno.EIO, "io_error")])
def test_disk_that_fails_while_the_copy_is_finished_leaves_nothing(store, tmp_path, monkeypatch, code, kind):
    def fail(*_):
        raise OSError(code, "no")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(StorageError) as caught:
        copied(store, tmp_path / "copy")
    assert (caught.value.kind, caught.value.subject) == (kind, str(tmp_path / "copy"))
    assert names_in(tmp_path) == ["repo"]


def test_path_that_cannot_be_a_folder_is_refused(store, tmp_path):
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file" / "copy", tmp_path / ("n" * 300)):
        with pytest.raises(InvalidFileError) as caught:
            copied(store, directory)
        assert caught.value.subject == str(directory)


def test_restore_opens_the_backup_for_reading_only_with_the_given_map(store, tmp_path, monkeypatch):
    copied(store, tmp_path / "copy")
    opened, real = [], backup.open_environment

    def open_it(directory, **options):
        opened.append((directory, options))
        return real(directory, **options)

    monkeypatch.setattr(backup, "open_environment", open_it)
    restored(tmp_path / "copy", tmp_path / "again")
    options = {"map_size_bytes": MAP_BYTES, "durability": "full", "read_only": True}
    assert opened[0] == (tmp_path / "copy", options)
    assert opened[1][1] == options
    with open_store(tmp_path / "x", store_path=tmp_path / "copy") as copy:
        commit(copy, "next")  # the backup is not held open any more


def test_restore_gives_the_backup_back_when_it_fails(store, tmp_path):
    copied(store, tmp_path / "copy")

    def verify(_):
        raise IntegrityError("damaged")

    with pytest.raises(IntegrityError):
        restored(tmp_path / "copy", tmp_path / "again", verify)
    with open_store(tmp_path / "x", store_path=tmp_path / "copy") as copy:
        commit(copy, "next")


def test_restore_from_nowhere_says_what_to_name(tmp_path):
    with pytest.raises(StorageError) as caught:
        restored(tmp_path / "nothing", tmp_path / "again")
    error = caught.value
    assert (error.kind, error.subject) == ("not_a_store", str(tmp_path / "nothing"))
    assert "`cas backup`" in error.hint


def test_restore_to_a_network_file_system_is_refused(store, tmp_path, monkeypatch):
    from cas.lmdbenv import creation

    copied(store, tmp_path / "copy")
    asked = []
    monkeypatch.setattr(creation, "file_system_type", lambda path: asked.append(path) or "nfs4")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError) as caught:
        restored(tmp_path / "copy", Path("again"))
    assert caught.value.kind == "network_filesystem"
    assert asked == [tmp_path]

"""How lmdb is asked to open a store's file: each switch, and the tables."""

from __future__ import annotations

import os

import lmdb
import pytest

from cas.lmdbenv import Table
from cas.lmdbenv.creation import create_environment
from cas.lmdbenv.opening import open_database, open_tables

MAP_BYTES = 64 * 1024 * 1024


@pytest.fixture
def folder(tmp_path):
    create_environment(tmp_path / "store", {b"key": b"value"})
    (tmp_path / "store" / "lock.mdb").unlink()
    return tmp_path / "store"


def opened(folder, *, durability="full", read_only=False):
    return open_database(folder, MAP_BYTES, durability=durability, read_only=read_only)


@pytest.mark.parametrize(("durability", "metasync"), [("full", True), ("group", True), ("relaxed", False)])
def test_only_relaxed_durability_leaves_out_the_flush_of_the_meta_page(folder, durability, metasync):
    with opened(folder, durability=durability) as raw:
        assert raw.flags() | {"metasync": metasync} == raw.flags()
        assert raw.flags()["sync"]


def test_database_is_opened_as_the_store_needs_it(folder):
    with opened(folder) as raw:
        flags = raw.flags()
        expected = {"readonly": False, "lock": True, "readahead": False, "meminit": True, "writemap": False}
        assert {name: flags[name] for name in expected} == expected
        assert raw.info()["map_size"] == MAP_BYTES
        assert raw.max_readers() == 1024
        for number in range(16):
            raw.open_db(b"more%d" % number)
        with pytest.raises(lmdb.DbsFullError):
            raw.open_db(b"one too many")


def test_lock_file_is_made_private(folder):
    old = os.umask(0)
    try:
        opened(folder).close()
    finally:
        os.umask(old)
    assert (folder / "lock.mdb").stat().st_mode & 0o777 == 0o600


def test_reading_takes_part_in_the_locks_where_it_may_write_the_folder(folder):
    with opened(folder, read_only=True) as raw:
        assert raw.flags()["readonly"]
        assert raw.flags()["lock"]
        with pytest.raises(lmdb.ReadonlyError):
            raw.begin(write=True)


@pytest.mark.parametrize(("read_only", "locks"), [(True, False), (False, True)])
def test_reading_goes_without_locks_where_the_folder_may_not_be_written(
    folder, monkeypatch, read_only, locks
):
    asked = []

    def access(path, mode):
        asked.append((path, mode))
        return False

    monkeypatch.setattr(os, "access", access)
    with opened(folder, read_only=read_only) as raw:
        assert bool(raw.flags()["lock"]) == locks
    assert asked == ([(folder, os.W_OK)] if read_only else [])


def test_missing_store_is_not_made(tmp_path):
    with pytest.raises(lmdb.Error):
        opened(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_every_table_has_a_handle_of_its_own(folder):
    with opened(folder) as raw:
        tables = open_tables(raw)
        assert set(tables) == set(Table)
        with raw.begin(write=True) as transaction:
            for table, handle in tables.items():
                transaction.put(b"name", table.value, db=handle)
            found = {
                table: transaction.get(b"name", db=raw.open_db(table.value, txn=transaction))
                for table in Table
            }
    assert found == {table: table.value for table in Table}


def test_missing_table_is_an_error_and_not_made(tmp_path):
    (tmp_path / "store").mkdir()
    lmdb.open(str(tmp_path / "store"), max_dbs=16).close()
    with opened(tmp_path / "store") as raw:
        with pytest.raises(lmdb.NotFoundError):
            open_tables(raw)
        with raw.begin() as transaction:
            assert transaction.stat()["entries"] == 0

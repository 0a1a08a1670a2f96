"""Runs whose files come one by one, when their commit does not go through at once."""

import io

import pytest

from cas import artifactwriter, commit, intake, names
from cas.errors import InvalidFileError, InvalidNameError, StorageError
from cas.lmdbenv import Table
from tests.store.stores import commit as commit_run

LARGE_BYTES = 100_000
LARGE = bytes(range(256)) * 1000
FILES = {"known.csv": b"1,2\n", "new.csv": b"3,4\n", "large.csv": LARGE, "path.csv": LARGE[::-1]}


@pytest.fixture
def full_disk(monkeypatch):
    """Give a list; what is put into it makes one commit fail."""
    apply_all, full = commit.apply_all, []

    def full_once(*arguments):
        if full:
            raise full.pop()
        return apply_all(*arguments)

    monkeypatch.setattr(intake, "LARGE_FILE_BYTES", LARGE_BYTES)
    monkeypatch.setattr(artifactwriter, "LARGE_FILE_BYTES", LARGE_BYTES)
    monkeypatch.setattr(commit, "apply_all", full_once)
    return full


def start(store, tmp_path):
    commit_run(store, "old", files={"known.csv": FILES["known.csv"]})
    run = store.open_run("wf", "t", "c1")
    (tmp_path / "path.csv").write_bytes(FILES["path.csv"])
    run.add_bytes("known.csv", FILES["known.csv"])
    run.add_file(tmp_path / "path.csv")
    for name in ("new.csv", "large.csv"):
        with run.open_file(name) as file:
            file.write(FILES[name])
    return run


def count_uploads(store):
    with store.environment.read() as transaction:
        return sum(1 for _ in transaction.scan_keys(Table.META, b"upload:"))


def test_commit_that_failed_can_be_repeated(store, tmp_path, full_disk):
    with start(store, tmp_path) as run:
        full_disk.append(StorageError("the disk is full", kind="disk_full"))
        with pytest.raises(StorageError, match="full"):
            run.commit({"attempt": 1})
        run.add_bytes("late.csv", b"5,6\n")
        assert run.commit({"attempt": 2})["success"]
    for name, content in (FILES | {"late.csv": b"5,6\n"}).items():
        assert store.read_file("c1", name) == content
    assert count_uploads(store) == 0
    assert store.verify().ok


def test_run_discarded_after_a_failed_commit_leaves_nothing_open(store, tmp_path, full_disk):
    run = start(store, tmp_path)
    spools = [source for source in run._sources.values() if hasattr(source, "rollover")]
    full_disk.append(StorageError("the disk is full", kind="disk_full"))
    with pytest.raises(StorageError, match="full"), run:
        run.commit()
    assert [spool.closed for spool in spools] == [True]
    assert count_uploads(store) == 0


def test_small_file_is_not_held_beside_its_compressed_stream(store):
    with store.open_run("wf", "t", "c1") as run:
        with run.open_file("small.csv") as file:
            file.write(b"7,8\n")
        assert file.closed
        run.commit()
    assert store.read_file("c1", "small.csv") == b"7,8\n"


def test_names_of_a_growing_run_are_each_checked_a_bounded_number_of_times(store, monkeypatch):
    real, checked = names.check_artifact_name, []

    def check(name):
        checked.append(name)
        real(name)

    monkeypatch.setattr(names, "check_artifact_name", check)
    with store.open_run("wf", "t", "c1") as run:
        for number in range(100):
            run.add_bytes(f"part/{number}.csv", b"1\n")
        run.commit()
    assert max(checked.count(name) for name in set(checked)) <= 3


@pytest.mark.parametrize("second", ["a/x.csv", "A/y.csv", "a", "a/X.csv", "a/x.csv/y"])
def test_name_that_meets_one_of_a_growing_run_is_refused_and_another_is_not(store, second):
    with store.open_run("wf", "t", "c1") as run:
        run.add_bytes("a/x.csv", b"1\n")
        with pytest.raises(InvalidNameError) as caught:
            run.add_bytes(second, b"2\n")
        assert caught.value.subject == second
        run.add_bytes("a/y.csv", b"3\n")
        assert run.commit()["files"] == ["a/x.csv", "a/y.csv"]


@pytest.mark.parametrize("data", [5, "text", None, [1, 2]], ids=repr)
def test_content_that_is_no_bytes_is_refused_and_the_run_goes_on(store, data):
    with store.open_run("wf", "t", "c1") as run:
        with pytest.raises(InvalidFileError, match="must be bytes"):
            run.add_bytes("a.bin", data)
        run.add_bytes("b.bin", b"1")
        assert run.commit()["files"] == ["b.bin"]


def test_file_closed_inside_its_block_is_refused_by_name(store):
    with store.open_run("wf", "t", "c1") as run:
        with (
            pytest.raises(InvalidFileError, match="closed before") as caught,
            run.open_file("a.txt") as file,
            io.TextIOWrapper(file) as text,
        ):
            text.write("lost with the file that the wrapper closes")
        assert caught.value.subject == "a.txt"
        with run.open_file("a.txt") as file:
            file.write(b"kept")
        run.commit()
    assert store.read_file("c1", "a.txt") == b"kept"

"""Runs whose files come one by one, when their commit does not go through at once."""

import io

import pytest

from cas import artifactwriter, commit, intake, names
from cas.errors import InvalidFileError, InvalidNameError, SecretDetectedError, StateError, StorageError
from cas.lmdbenv import Table
from tests.secrets.corpus import B62, Maker
from tests.store.stores import commit as commit_run
from tests.store.stores import open_store

LARGE_BYTES = 100_000
LARGE = bytes(range(256)) * 1000
LEAK = f'api_key = "{Maker("artifact writer").of(B62, 36)}"\n'.encode()
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


@pytest.fixture
def gated(tmp_path, full_disk):
    """A store with the secret gate, in which a file of over 100,000 bytes is a large one."""
    with open_store(tmp_path / "gated", scan_for_secrets=True) as opened:
        yield opened


def add(run, way, name, content, tmp_path):
    if way == "bytes":
        run.add_bytes(name, content)
    elif way == "path":
        (tmp_path / "source").write_bytes(content)
        run.add_file(tmp_path / "source", name)
    else:
        with run.open_file(name) as file:
            file.write(content)


@pytest.mark.parametrize("padding", [b"", b"# nothing\n" * 20_000], ids=["small", "large"])
@pytest.mark.parametrize("way", ["bytes", "path", "opened"])
def test_secret_in_a_file_is_found_under_its_name_however_it_comes(gated, tmp_path, way, padding):
    with gated.open_run("wf", "t", "c1") as run:
        add(run, way, "clean.py", b"FAST = 10\n" + padding, tmp_path)
        with pytest.raises(SecretDetectedError) as caught:
            add(run, way, "leak.py", padding + LEAK, tmp_path)
        assert {finding.name for finding in caught.value.findings} == {"leak.py"}
        assert caught.value.findings[0].line == padding.count(b"\n") + 1
        with pytest.raises(SecretDetectedError):
            run.commit()
    assert gated.get_artifact_by_correlation_id("c1") is None
    assert count_uploads(gated) == 0


def test_secret_in_the_metadata_or_an_id_is_found_when_the_run_is_committed(gated):
    for ids, metadata in ((("wf", "t", "c1"), {"note": LEAK.decode()}), (("wf", LEAK.decode(), "c1"), None)):
        with gated.open_run(*ids) as run:
            run.add_bytes("a.py", b"FAST = 10\n")
            with pytest.raises(SecretDetectedError) as caught:
                run.commit(metadata)
            assert {finding.name for finding in caught.value.findings} == {"metadata and ids"}
    assert gated.list_artifacts() == []


def test_secret_in_a_file_name_is_found_on_the_line_of_its_place(gated):
    leak = LEAK.decode().replace('"', "").strip()
    with gated.open_run("wf", "t", "c1") as run:
        for name in ("a.py", leak, "z.py"):
            run.add_bytes(name, b"FAST = 10\n")
        with pytest.raises(SecretDetectedError) as caught:
            run.commit()
    places = {(finding.name, finding.line, finding.column) for finding in caught.value.findings}
    assert places == {("file names", 2, leak.index("= ") + 3)}


def test_failed_commit_of_a_gated_run_can_be_repeated(gated, tmp_path, full_disk):
    with start(gated, tmp_path) as run:
        full_disk.append(StorageError("the disk is full", kind="disk_full"))
        with pytest.raises(StorageError, match="full"):
            run.commit()
        assert run.commit()["success"]
    for name, content in FILES.items():
        assert gated.read_file("c1", name) == content
    assert gated.verify().ok


@pytest.mark.parametrize("way", ["bytes", "path", "opened"])
def test_file_over_the_limit_is_refused_by_its_name(tmp_path, way):
    with open_store(tmp_path / "store", max_file_bytes=10) as store, store.open_run("wf", "t", "c1") as run:
        add(run, way, "fits.csv", b"x" * 10, tmp_path)
        with pytest.raises(InvalidFileError) as caught:
            add(run, way, "long.csv", b"x" * 11, tmp_path)
        assert caught.value.subject == "long.csv"
        assert run.commit()["files"] == ["fits.csv"]


def test_file_more_than_a_run_may_have_is_refused_and_the_others_stay(tmp_path):
    with open_store(tmp_path, max_files=2) as store, store.open_run("wf", "t", "c1") as run:
        run.add_bytes("a", b"1")
        run.add_bytes("b", b"2")
        with pytest.raises(InvalidFileError, match="may have 2 files"):
            run.add_bytes("c", b"3")
        run.commit()
        assert store.read_file("c1", "b") == b"2"


@pytest.mark.parametrize(("size_bytes", "staged_count"), [(LARGE_BYTES, 0), (LARGE_BYTES + 1, 1)])
def test_written_file_is_staged_on_the_disk_when_it_is_large(store, full_disk, size_bytes, staged_count):
    with store.open_run("wf", "t", "c1") as run:
        with run.open_file("f.csv") as file:
            file.write(bytes(size_bytes))
        assert count_uploads(store) == staged_count
        run.commit()
    assert store.read_file("c1", "f.csv") == bytes(size_bytes)


def test_run_that_has_ended_says_how(store):
    with store.open_run("wf", "t", "c1") as run:
        run.add_bytes("a", b"1")
        run.commit()
        with pytest.raises(StateError, match="the run is committed"):
            run.commit()
    with pytest.raises(StateError, match="the run is committed"):
        run.add_bytes("b", b"2")
    with store.open_run("wf", "t", "c2") as run:
        run.add_bytes("a", b"1")
    run.discard()
    with pytest.raises(StateError, match="the run is discarded"):
        run.commit()
    assert store.get_artifact_by_correlation_id("c2") is None


def test_error_of_a_gated_run_tells_no_secret_that_was_handed_in(gated):
    leak = LEAK.decode().replace('"', "").strip()
    with gated.open_run("wf", "t", "c1") as run, pytest.raises(SecretDetectedError) as caught:
        run.add_bytes(f"../{leak}", b"FAST = 10\n")
    assert leak.partition("= ")[2] not in str(caught.value)

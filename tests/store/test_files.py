"""Content: large files, what a refused run leaves behind, reads, checkouts, and the secret gate before the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas import (
    IntegrityError,
    InvalidFileError,
    NotFoundError,
    SecretDetectedError,
    StorageError,
    blobs,
    catalog,
    checkout,
    codec,
    intake,
    manifest,
    metrics,
)
from cas.errors import StateError
from cas.lmdbenv import Environment, Table
from cas.staging import Stage
from tests.store.stores import FILES, commit, dump, open_store, row_counts


@pytest.fixture
def large_limit(monkeypatch):
    """Treat files above 100 KB as large, in parts of 64 KB, so that tests of large files stay quick."""
    monkeypatch.setattr(intake, "LARGE_FILE_BYTES", 100_000)
    monkeypatch.setattr(blobs, "PART_BYTES", 65_536)
    return 100_000


@pytest.fixture
def large_file(tmp_path, large_limit):
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(300_000) + bytes(500_000))
    return path


def count_transactions(monkeypatch):
    real, counted = Environment.write, []

    def write(self, *arguments, **named):
        counted.append(1)
        return real(self, *arguments, **named)

    monkeypatch.setattr(Environment, "write", write)
    return counted


def test_large_file_is_stored_in_parts_and_read_back(store, large_file):
    commit(store, files=[large_file])
    assert store.read_file("corr_1", "large.bin") == large_file.read_bytes()
    counts = row_counts(store)
    assert counts["SEGMENTS"] > 4
    assert counts["BLOBS"] == 1
    with store.environment.read() as transaction:
        assert list(blobs.iter_uploads(transaction)) == []
    assert store.verify().ok


def test_stored_bytes_of_a_large_file_are_counted(store, large_file):
    commit(store, files=[large_file])
    with store.environment.read() as transaction:
        (blob,) = blobs.iter_blobs(transaction)
        assert metrics.totals(transaction)["commit_stored_bytes"] == blob.stored_bytes > 300_000


def test_content_purged_while_it_is_read_is_said_to_be_purged(store):
    commit(store, files={"a.txt": b"content\n"})
    with store.environment.read() as transaction:
        (blob,) = blobs.iter_blobs(transaction)
    store.purge(blob.digest.hex())
    with pytest.raises(IntegrityError, match="was purged") as caught:
        list(blobs.iter_content(store.environment, blob))
    assert caught.value.kind == "purged"


def test_checkout_interrupted_while_it_replaces_a_folder_leaves_that_in_its_place(
    store, tmp_path, monkeypatch
):
    commit(store)
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine.txt").write_text("old")
    rename = Path.rename

    def interrupted(self, to):
        if to == target and not target.exists() and self.suffix == ".part":
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.checkout("corr_1", target, overwrite=True)
    assert (target / "mine.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.suffix in {".old", ".part"}] == []


def test_large_file_takes_a_transaction_for_each_part_and_one_for_its_run(store, large_file, monkeypatch):
    counted = count_transactions(monkeypatch)
    commit(store, files=[large_file])
    assert len(counted) == row_counts(store)["SEGMENTS"] + 1


def test_large_file_committed_again_is_not_staged_again(store, large_file, monkeypatch):
    first = commit(store, files=[large_file])
    before = dump(store)
    counted = count_transactions(monkeypatch)
    assert commit(store, files=[large_file]) == first
    assert counted == []
    assert dump(store) == before
    commit(store, "other", files={"same.bin": large_file})
    assert len(counted) == 1, "another run with a known file stages nothing"
    assert row_counts(store)["BLOBS"] == 1
    assert store.verify().ok


def test_large_file_twice_in_a_run_is_one_blob(store, large_file):
    commit(store, files={"a": large_file, "b": large_file})
    assert row_counts(store)["BLOBS"] == 1
    assert store.read_file("corr_1", "b") == large_file.read_bytes()
    assert store.verify().ok


def test_large_file_beside_a_refused_one_leaves_no_trace(store, large_file, tmp_path):
    before = dump(store)
    with pytest.raises(InvalidFileError):
        commit(store, files=[large_file, tmp_path / "missing"])
    assert dump(store) == before


def test_refused_run_tells_its_own_reason_when_the_clean_up_fails_too(
    store, large_file, tmp_path, monkeypatch
):
    def fail(self):
        raise StorageError("the disk refused this as well")

    monkeypatch.setattr(Stage, "discard", fail)
    with pytest.raises(InvalidFileError):
        commit(store, files=[large_file, tmp_path / "missing"])
    with store.environment.read() as transaction:
        assert len(list(blobs.iter_uploads(transaction))) == 1, "the garbage collector finds what is left"


def test_large_file_of_a_run_that_cannot_be_looked_up_leaves_no_trace(store, large_file, monkeypatch):
    def fail(*_):
        raise IntegrityError("a row is damaged")

    before = dump(store)
    monkeypatch.setattr(catalog, "find_content", fail)
    with pytest.raises(IntegrityError):
        commit(store, files=[large_file])
    assert dump(store) == before


def test_large_file_of_a_batch_whose_next_run_fails_leaves_no_trace(store, large_file, monkeypatch):
    normalise = manifest.normalise_metadata

    def fail_for_the_next(metadata, max_bytes):
        if metadata == {"next": 1}:
            raise StorageError("the disk refused")
        return normalise(metadata, max_bytes)

    monkeypatch.setattr(manifest, "normalise_metadata", fail_for_the_next)
    ids = {"workflow_id": "w", "task_id": "t"}
    before = dump(store)
    with pytest.raises(StorageError):
        store.commit_many(
            [
                {**ids, "correlation_id": "1", "files": [large_file]},
                {**ids, "correlation_id": "2", "files": {"a": b"1"}, "metadata": {"next": 1}},
            ]
        )
    assert dump(store) == before


@pytest.fixture
def little_memory(monkeypatch):
    """Let a run hold 1,000 bytes of streams in memory, and a segment have 1,000."""
    monkeypatch.setattr(intake, "HELD_BYTES", 1000)
    monkeypatch.setattr(intake, "LEAST_STAGED_BYTES", 100)
    monkeypatch.setattr(blobs, "MOST_JOINED_BYTES", 1000)


def make_files(folder, count=12):
    for number in range(count):
        (folder / f"{number}.bin").write_bytes(os.urandom(400))
    return {path.name: path for path in sorted(folder.glob("*.bin"))}


@pytest.mark.parametrize(("by_path", "segment_count"), [(True, 1 + 10), (False, 6)], ids=["paths", "bytes"])
def test_run_of_many_files_is_stored_in_pieces_that_memory_can_hold(
    store, tmp_path, little_memory, by_path, segment_count
):
    files = make_files(tmp_path)
    contents = {name: path.read_bytes() for name, path in files.items()}
    run = commit(store, files=files if by_path else contents)
    with store.environment.read() as transaction:
        lengths = [
            len(transaction.view(Table.SEGMENTS, key)) for key in transaction.scan_keys(Table.SEGMENTS)
        ]
        assert not list(blobs.iter_uploads(transaction))
    assert max(lengths) <= 1000
    assert len(lengths) == segment_count
    assert {name: store.read_file("1", name) for name in contents} == contents
    assert store.verify().ok
    assert commit(store, files=files) == run
    store.gc()
    assert store.verify().ok


def test_run_of_many_files_that_is_refused_leaves_no_trace(store, tmp_path, little_memory):
    files = make_files(tmp_path) | {"missing.bin": tmp_path / "missing.bin"}
    before = dump(store)
    with pytest.raises(InvalidFileError):
        commit(store, files=files)
    assert dump(store) == before


def test_growing_run_of_many_files_is_stored_in_pieces_that_memory_can_hold(store, tmp_path, little_memory):
    files = make_files(tmp_path)
    with store.open_run("wf", "t", "grown") as run:
        for path in files.values():
            run.add_file(path)
        run.commit()
    assert all(store.read_file("grown", name) == path.read_bytes() for name, path in files.items())
    assert store.verify().ok


def test_large_file_of_a_run_interrupted_before_its_commit_leaves_no_trace(store, large_file, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    before = dump(store)
    monkeypatch.setattr("cas.commit.prepare", interrupt)
    with pytest.raises(KeyboardInterrupt):
        commit(store, files=[large_file])
    assert dump(store) == before


def test_large_file_is_committed_although_the_store_is_closed_right_after(store, large_file, monkeypatch):
    apply = store._write_prepared

    def close_after(*arguments):
        done = apply(*arguments)
        store.close()
        return done

    monkeypatch.setattr(store, "_write_prepared", close_after)
    assert commit(store, files=[large_file])["success"]


def test_large_file_failing_in_the_commit_leaves_no_trace(store, large_file, monkeypatch):
    before = dump(store)

    def fail(*_):
        raise StorageError("no")

    monkeypatch.setattr("cas.outbox.enqueue", fail)
    with pytest.raises(StorageError):
        commit(store, files=[large_file])
    assert dump(store) == before


@pytest.mark.parametrize("size_bytes", [99_999, 100_000, 100_001, 65_536 * 3, 1_048_576, 1_048_577])
def test_file_of_any_size_near_a_limit_reads_back(store, tmp_path, large_limit, size_bytes):
    path = tmp_path / "sized.bin"
    path.write_bytes(os.urandom(size_bytes))
    result = commit(store, files=[path])
    assert store.read_file("corr_1", "sized.bin") == path.read_bytes()
    again = commit(store, files={"sized.bin": path.read_bytes()})
    assert again == result, "the same bytes from memory are the same blob"
    assert store.verify().ok


def make_secret():
    return (
        b"api_key = '" + b"k3y9" * 6 + b"'\n"
    )  # in pieces: no scanner of this repository should find it here


@pytest.mark.parametrize("place", ["start", "middle", "end"])
@pytest.mark.parametrize("size", ["small", "large"])
def test_secret_never_touches_the_disk(tmp_path, large_limit, place, size):
    secret = make_secret()
    filler = b"1,2,3\n" * (50_000 if size == "large" else 50)
    data = {"start": secret + filler, "middle": filler + secret + filler, "end": filler + secret}[place]
    (tmp_path / "run.py").write_bytes(data)
    with open_store(tmp_path, scan_for_secrets=True) as store:
        before = dump(store)
        written, real = [], Environment.write
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Environment, "write", lambda *a, **k: written.append(1) or real(*a, **k))
            with pytest.raises(SecretDetectedError) as caught:
                commit(store, files=[tmp_path / "run.py"])
        assert written == [], "what was staged and freed again would still be in the file"
        assert dump(store) == before
        assert b"k3y9" not in (store.environment.directory / "data.mdb").read_bytes()
        assert "k3y9" not in repr(caught.value) + str(caught.value.as_dict()) + str(caught.value.__dict__)


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"note": make_secret().decode()}},
        {"files": {make_secret().decode().strip().replace(" ", "") + ".txt": b"x"}},
        {"correlation_id": make_secret().decode()},
        {"workflow_id": make_secret().decode()},
    ],
    ids=["metadata", "file name", "correlation_id", "workflow_id"],
)
@pytest.mark.parametrize("raise_errors", [True, False])
def test_secret_anywhere_in_a_run_always_raises(tmp_path, change, raise_errors):
    with open_store(tmp_path, scan_for_secrets=True, raise_errors=raise_errors) as store:
        before = dump(store)
        with pytest.raises(SecretDetectedError):
            commit(store, **change)
        assert dump(store) == before
        commit(store)
        before = dump(store)
        with pytest.raises(SecretDetectedError):
            store.revert_to_tag("corr_1", reason=make_secret().decode())
        assert dump(store) == before


def test_checkout_writes_the_files_of_a_run(store, tmp_path):
    files = {**FILES, "deep/er/x": b"", "deep/y": b"y"}
    commit(store, files=files)
    written = store.checkout("latest", tmp_path / "a" / "out")
    assert written == [*files, "metadata.json"]
    for name, data in files.items():
        assert (tmp_path / "a" / "out" / name).read_bytes() == data
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["out"]


@pytest.fixture
def steps(monkeypatch):
    """What is synced, by path, and what is renamed, in order."""
    found, fsync, rename = [], os.fsync, Path.rename

    def synced(descriptor):
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    def renamed(self, to):
        found.append((self, to))
        return rename(self, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    return found


def test_checkout_is_on_the_disk_before_it_gets_its_name_and_so_is_the_name(store, tmp_path, steps):
    commit(store, files={**FILES, "deep/er/x": b"x"})
    steps.clear()
    written = store.checkout("latest", tmp_path / "new" / "er" / "out")
    renames = [step for step in steps if isinstance(step, tuple)]
    ((temporary, target),) = renames
    assert target == tmp_path / "new" / "er" / "out"
    at = steps.index(renames[0])
    inside = {temporary / name for name in (*written, "deep/er", "deep", ".")}
    assert set(steps[:at]) == inside
    assert steps[at + 1 :] == [tmp_path / "new" / "er", tmp_path / "new", tmp_path]


def test_backup_has_the_names_of_its_new_folders_on_the_disk(store, tmp_path, steps):
    commit(store)
    steps.clear()
    store.backup(tmp_path / "new" / "er" / "copy")
    ((at, renamed),) = [(at, step) for at, step in enumerate(steps) if isinstance(step, tuple)]
    assert renamed[1] == tmp_path / "new" / "er" / "copy"
    assert steps[at + 1 :] == [tmp_path / "new" / "er", tmp_path / "new", tmp_path]


def test_checkout_that_need_not_be_synced_waits_for_no_disk(store, tmp_path, steps):
    commit(store)
    steps.clear()
    store.checkout("latest", tmp_path / "out", sync=False)
    assert [step for step in steps if not isinstance(step, tuple)] == []
    assert (tmp_path / "out" / "strategy.py").read_bytes() == FILES["strategy.py"]


def test_checkout_whose_disk_fails_at_the_end_leaves_the_folder_as_it_was(store, tmp_path, monkeypatch):
    commit(store)
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")

    def fail(_descriptor):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError):
        store.checkout("latest", out, overwrite=True)
    monkeypatch.undo()
    assert [path.name for path in out.iterdir()] == ["mine"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cas", "out"]


def test_checkout_of_an_imported_run_without_files_is_an_empty_folder(store, tmp_path):
    commit(store)
    run = msgspec.structs.replace(store._run("latest"), files=(), with_metadata_file=False)
    assert checkout.check_out(store.environment, run, tmp_path / "out", tmp_path, overwrite=False) == []
    assert list((tmp_path / "out").iterdir()) == []


def test_checkout_replaces_a_folder_only_when_told(store, tmp_path):
    commit(store)
    out = tmp_path / "out"
    out.mkdir()
    store.checkout("latest", out)
    (out / "mine").write_text("mine")
    with pytest.raises(InvalidFileError):
        store.checkout("latest", out)
    assert (out / "mine").exists()
    store.checkout("latest", out, overwrite=True)
    assert not (out / "mine").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cas", "out"]


def test_checkout_spares_what_comes_into_its_folder_meanwhile(store, tmp_path):
    commit(store)
    out = tmp_path / "out"

    def come(*_):
        out.mkdir(exist_ok=True)
        (out / "mine").write_text("mine")

    with pytest.raises(InvalidFileError, match="not empty"):
        store.checkout("latest", out, progress=come)
    assert [path.name for path in out.iterdir()] == ["mine"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cas", "out"]


@pytest.mark.parametrize("obstacle", ["file", "link", "above"])
def test_checkout_into_something_else_is_refused(store, tmp_path, obstacle):
    commit(store)
    target = tmp_path / "target"
    if obstacle == "link":
        (tmp_path / "elsewhere").mkdir()
        target.symlink_to(tmp_path / "elsewhere")
    else:
        target.write_text("mine")
    with pytest.raises((InvalidFileError, StorageError)):
        store.checkout("latest", target / "below" if obstacle == "above" else target, overwrite=True)
    if obstacle == "link":
        assert list((tmp_path / "elsewhere").iterdir()) == []
    else:
        assert target.read_text() == "mine"


def place_of(kind, tmp_path):
    """Return a folder that a checkout must not replace."""
    if kind == "current":
        return tmp_path / "here"
    if kind in {"project", "above"}:
        return tmp_path if kind == "project" else tmp_path.parent
    if kind == "store":
        return tmp_path / ".cas"
    folder = tmp_path / "other"
    inner = {"repository": ".git", "repository below": "deep/er/.git", "other store": ".cas"}[kind]
    (folder / inner).mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    "kind", ["project", "above", "store", "current", "repository", "repository below", "other store"]
)
def test_checkout_never_replaces_a_folder_that_holds_more_than_a_run(store, tmp_path, monkeypatch, kind):
    commit(store)
    here = tmp_path / "here" / "below"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    folder = place_of(kind, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidFileError, match=r"not replaced|of the store") as caught:
        store.checkout("latest", folder, overwrite=True)
    assert caught.value.subject == str(folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_checkout_never_replaces_the_repository_that_exports_go_to(tmp_path):
    bare = tmp_path / "bare.git"
    (bare / "objects").mkdir(parents=True)
    (bare / "HEAD").write_text("ref: refs/heads/main\n")
    with open_store(bare, store_path=tmp_path / "store") as store:
        commit(store)
        with pytest.raises(InvalidFileError, match="not replaced"):
            store.checkout("latest", bare, overwrite=True)
        assert (bare / "HEAD").exists()


@pytest.mark.parametrize("where", [".cas/inner", ".cas/inner/deep", "link/inner"])
def test_nothing_is_put_into_the_folder_of_the_store(store, tmp_path, where):
    commit(store)
    (tmp_path / "link").symlink_to(tmp_path / ".cas")
    before = sorted(tmp_path.rglob("*"))
    for write in (store.checkout, lambda _, folder: store.backup(folder)):
        with pytest.raises(InvalidFileError, match="lies in the folder of the store"):
            write("latest", tmp_path / where)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["x" * 300, "file/below", "file/below/deep", "loop/below"])
def test_folder_that_cannot_be_made_is_named_and_not_called_a_store(store, tmp_path, name):
    commit(store)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    for write in (store.checkout, lambda _, folder: store.backup(folder)):
        with pytest.raises(InvalidFileError, match="cannot be made") as caught:
            write("latest", tmp_path / name)
        assert caught.value.subject == str(tmp_path / name)


@pytest.mark.parametrize("folder", ["", "a\0b", "\ud800", b"bytes", 5, None], ids=ascii)
def test_folder_that_is_no_path_is_refused(store, folder):
    commit(store)
    for write in (store.checkout, lambda _, folder: store.backup(folder)):
        with pytest.raises(InvalidFileError, match=r"path"):
            write("latest", folder)


def test_checkout_of_a_damaged_run_leaves_the_folder_as_it_was(store, tmp_path):
    commit(store)
    with store.environment.write() as transaction:
        key, stream = next(transaction.scan(Table.SEGMENTS))
        transaction.put(Table.SEGMENTS, key, stream[:-6] + bytes([stream[-6] ^ 1]) + stream[-5:])
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(IntegrityError):
        store.checkout("latest", out, overwrite=True)
    assert [path.name for path in out.iterdir()] == ["mine"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cas", "out"]


def test_checkout_over_a_folder_goes_on_where_the_current_folder_was_removed(store, tmp_path, monkeypatch):
    commit(store)
    out, gone = tmp_path / "out", tmp_path / "gone"
    out.mkdir()
    (out / "mine").write_text("mine")
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    store.checkout("latest", out, overwrite=True)
    assert not (out / "mine").exists()
    with pytest.raises(InvalidFileError):
        store.checkout("latest", "relative")


def test_read_of_an_unknown_file_names_those_there(store):
    commit(store)
    with pytest.raises(NotFoundError) as caught:
        store.read_file("latest", "absent.csv")
    assert caught.value.subject == "absent.csv"
    assert "trades.csv" in caught.value.hint


def test_content_begun_before_the_close_ends_with_a_typed_error(tmp_path, large_file):
    with open_store(tmp_path) as store:
        commit(store, files=[large_file])
        content = store.iter_file("latest", "large.bin")
        next(content)
    with pytest.raises(StateError):
        list(content)


def test_content_given_up_halfway_holds_no_snapshot(store, large_file):
    commit(store, files=[large_file])
    content = store.iter_file("latest", "large.bin")
    next(content)
    assert "no active readers" in store.environment._raw.readers()
    with store.environment.write() as transaction:
        transaction.put(Table.COUNTERS, b"a", b"b")
    content.close()


@given(st.binary(max_size=3000), st.integers(0, 20))
def test_inflate_gives_back_exactly_what_was_deflated(data, extra):
    stream = codec.deflate(data)
    assert codec.inflate(stream, len(data)) == data
    assert b"".join(codec.iter_inflated([stream[:7], stream[7:]], len(data))) == data
    wrong = [(stream[:-1], len(data)), (stream + b"x", len(data)), (stream, len(data) + extra + 1)]
    if data:
        wrong.append((stream, len(data) - 1))
    for damaged, size_bytes in wrong:
        with pytest.raises(IntegrityError):
            codec.inflate(damaged, size_bytes)
        with pytest.raises(IntegrityError):
            list(codec.iter_inflated([damaged], size_bytes))


@pytest.mark.parametrize("size_bytes", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_stream_made_in_pieces_inflates_in_pieces_of_any_size(size_bytes):
    data = bytes(size_bytes)
    deflater = codec.Deflater()
    stream = b"".join([deflater.feed(data[:1000]), deflater.feed(data[1000:]), deflater.finish()])
    for part_bytes in (1, 5, len(stream)):
        parts = [stream[at : at + part_bytes] for at in range(0, len(stream), part_bytes)]
        assert b"".join(codec.iter_inflated(parts, size_bytes)) == data


@pytest.mark.parametrize("size_bytes", [2**63, 2**64 - 1])
def test_inflate_of_a_damaged_size_is_refused(size_bytes):
    stream = codec.deflate(b"x")
    with pytest.raises(IntegrityError):
        codec.inflate(stream, size_bytes)
    with pytest.raises(IntegrityError):
        list(codec.iter_inflated([stream], size_bytes))

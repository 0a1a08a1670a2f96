"""Files on their way in, without a store around them: names, sizes, what is scanned and how it is reported."""

import errno
import os
import random

import pytest

from cas import blobs, inputfile, intake
from cas.codec import inflate
from cas.digest import digest_bytes
from cas.errors import InvalidFileError, InvalidInputError, InvalidNameError, SecretDetectedError
from cas.intake import Gate, RunIntake
from cas.objects import object_id, pack_entry_header
from cas.secretscan import SecretScanner
from tests.secrets.corpus import B62, Maker
from tests.store.stores import commit as commit_run
from tests.store.stores import open_store

LEAK = f'api_key = "{Maker("intake").of(B62, 36)}"\n'.encode()
WAIVED = LEAK.replace(b"\n", b"  # cas: allow-secret\n")
SCANNER = SecretScanner()
LARGE_BYTES = 5000
CHUNK_BYTES = 2000
NOISE = random.Random(2).randbytes(7001)


@pytest.fixture
def small_limits(monkeypatch):
    """Let a file of over 5,000 bytes be a large one, which is read 2,000 bytes at a time."""
    monkeypatch.setattr(intake, "LARGE_FILE_BYTES", LARGE_BYTES)
    monkeypatch.setattr(inputfile, "CHUNK_BYTES", CHUNK_BYTES)


def gate(scanner=None, max_file_bytes=10_000, object_format="sha1"):
    return Gate(scanner, object_format, max_file_bytes, 10)


def take_in(store, sources, texts=None, on_read=None, **how):
    return intake.take_in(store.environment, gate(**how), sources, texts or {}, on_read)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a", "a"),
        ("x/y/a.csv", "a.csv"),
        ("x/a/", "a"),
        ("x/a/.", "a"),
        ("/", "/"),
        (".", "."),
        ("x/..", ".."),
    ],
)
def test_file_is_named_by_the_last_part_of_its_path(path, name):
    assert intake.name_of(path) == name


def test_path_that_is_none_is_refused():
    with pytest.raises(InvalidNameError) as caught:
        intake.name_of("")
    assert caught.value.subject == ""
    for path, says in ((5, "not int"), (b"a", "not bytes"), (None, "not NoneType")):
        with pytest.raises(InvalidInputError, match=says):
            intake.name_of(path)

    class BytesPath:
        def __fspath__(self):
            return b"a"

    with pytest.raises(InvalidInputError, match="must be text, not bytes"):
        intake.name_of(BytesPath())


def test_files_are_named_by_a_mapping_or_by_their_paths():
    assert intake.named_sources({"a": b"1", "b/c": "p"}, 2) == {"a": b"1", "b/c": "p"}
    assert intake.named_sources(["x/a", "y/b"], 2) == {"a": "x/a", "b": "y/b"}
    for files, says in (
        ("x/a", "must be a list of paths or a mapping"),
        (b"x", "must be a list of paths or a mapping"),
        (5, "not int"),
        ([], "at least one file"),
        ({}, "at least one file"),
        (["a", "b", "c"], "may have 2 files, and more were given"),
    ):
        with pytest.raises(InvalidInputError, match=says):
            intake.named_sources(files, 2)
    with pytest.raises(InvalidNameError):
        intake.named_sources(["x/a", "y/a"], 2)


def test_names_of_any_number_are_checked():
    many = {f"f{number}": b"" for number in range(300)}
    assert len(intake.named_sources(many, 300)) == 300
    for files in ({"../a": b""}, many | {"../a": b""}, {"a": b"", "A": b""}):
        for _ in range(2):
            with pytest.raises(InvalidNameError):
                intake.named_sources(files, 400)


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_small_file_is_ready_for_a_pack(store, object_format):
    found = take_in(
        store, {"a": NOISE[:4000], "b": bytearray(b"1"), "c": memoryview(b"22")}, object_format=object_format
    )
    assert [(entry.name, entry.size_bytes) for entry in found.entries] == [("a", 4000), ("b", 1), ("c", 2)]
    assert (found.raw_bytes, found.waivers, found.rescanned) == (4003, (), ())
    new = found.new_blobs[0]
    assert (new.digest, new.size_bytes) == (digest_bytes(NOISE[:4000]), 4000)
    assert new.oid == found.entries[0].oid == object_id("blob", NOISE[:4000], object_format)
    assert inflate(new.stream, 4000) == NOISE[:4000]
    assert new.crc32 == blobs.entry_crc32(pack_entry_header("blob", 4000), new.stream)
    assert (new.ruleset, new.staged_segment, new.part_count) == (blobs.NOT_SCANNED, None, 1)


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_large_file_is_staged_as_the_same_blob(store, tmp_path, object_format, monkeypatch):
    monkeypatch.setattr(blobs, "PART_BYTES", 3000)
    (tmp_path / "a").write_bytes(NOISE)
    read = []
    run = RunIntake(store.environment, gate(object_format=object_format), read.append)
    new = run.take("a", tmp_path / "a")
    assert (new.digest, new.oid) == (digest_bytes(NOISE), object_id("blob", NOISE, object_format))
    assert (new.size_bytes, new.stream, new.part_count) == (7001, b"", 3)
    assert read == [2000, 2000, 2000, 1001] * 2
    with store.environment.write() as transaction:
        blobs.add(transaction, [new])
        blob = blobs.find(transaction, new.digest)
        assert blob.stored_bytes == new.staged_bytes
        blobs.check_entry(transaction, blob)
        assert blobs.read(transaction, blob) == NOISE


@pytest.mark.usefixtures("small_limits")
def test_known_large_file_is_read_once_and_not_staged(store, tmp_path):
    (tmp_path / "a").write_bytes(NOISE)
    commit_run(store, files={"a": NOISE})
    read = []
    found = take_in(store, {"a": tmp_path / "a"}, on_read=read.append)
    assert found.new_blobs == []
    assert read == [2000, 2000, 2000, 1001, 7001]
    with store.environment.read() as transaction:
        assert list(blobs.iter_uploads(transaction)) == []


def test_bytes_that_were_read_are_told_file_by_file(store, tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    read = []
    take_in(store, {"a": tmp_path / "a", "b": b"123"}, on_read=read.append)
    assert read == [5, 3]


def test_files_keep_their_order_over_several_batches(store, tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "_BATCH_BYTES", 10)
    monkeypatch.setattr(intake, "LARGE_FILE_BYTES", 50)
    (tmp_path / "large").write_bytes(b"x" * 60)
    sources = {
        "a": b"1" * 6,
        "large": tmp_path / "large",
        "b": b"2" * 6,
        "c": b"3",
        "d": b"4" * 11,
        "e": b"5",
    }
    found = take_in(store, sources)
    assert [entry.name for entry in found.entries] == list(sources)
    assert [entry.size_bytes for entry in found.entries] == [6, 60, 6, 1, 11, 1]


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("size_bytes", [4, 6000])
def test_file_over_the_limit_is_refused_with_its_name_before_it_is_read(store, tmp_path, size_bytes):
    (tmp_path / "a").write_bytes(bytes(size_bytes))
    for source in (tmp_path / "a", bytes(size_bytes), memoryview(bytes(size_bytes))):
        assert take_in(store, {"n": source}, max_file_bytes=size_bytes).raw_bytes == size_bytes
        with pytest.raises(
            InvalidFileError, match=f"'n' is {size_bytes} bytes, more than the {size_bytes - 1}"
        ) as caught:
            take_in(store, {"n": source}, max_file_bytes=size_bytes - 1)
        assert caught.value.subject == "n"


def refused(store, source):
    with pytest.raises(InvalidFileError) as caught:
        take_in(store, {"n": source})
    assert caught.value.subject == "n"
    return caught.value


def test_source_that_is_no_file_is_refused_with_its_reason(store, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "real").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "fifo")
    for source, says in (
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "link", "is a symbolic link"),
        (tmp_path / "folder", "is not a regular file"),
        (tmp_path / "fifo", "is not a regular file"),
        ("a\0b", "is not a valid path"),
        (tmp_path / "real" / "below", f"cannot be read: {os.strerror(errno.ENOTDIR)}"),
        (5, "content must be a path or bytes, not int"),
    ):
        assert refused(store, source).message.endswith(says)

    def deny(*_):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "open", deny)
    assert refused(store, tmp_path / "real").message.endswith("is not readable")


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("size_bytes", [100, 7000])
@pytest.mark.parametrize("change", ["grow", "shrink", "touch"])
def test_file_that_changes_while_it_is_read_is_refused_and_may_be_tried_again(
    store, tmp_path, monkeypatch, size_bytes, change
):
    path = tmp_path / "a"
    path.write_bytes(NOISE[:size_bytes])
    pread, reads = os.pread, []

    def changing(descriptor, count, offset):
        found = pread(descriptor, count, offset)
        if not reads:
            if change == "touch":
                os.utime(path, ns=(5, 5))
            else:
                os.truncate(path, size_bytes + (1 if change == "grow" else -1))
        reads.append(offset)
        return found

    monkeypatch.setattr(os, "pread", changing)
    error = refused(store, path)
    assert error.retryable
    assert "changed while it was read" in error.message
    with store.environment.read() as transaction:
        assert list(blobs.iter_uploads(transaction)) == []


@pytest.mark.usefixtures("small_limits")
def test_large_file_that_is_another_at_the_second_reading_is_refused(store, tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(NOISE)
    pread, offsets = os.pread, []

    def changing(descriptor, count, offset):
        offsets.append(offset)
        found = pread(descriptor, count, offset)
        return bytes(len(found)) if offsets.count(0) == 2 else found

    monkeypatch.setattr(os, "pread", changing)
    assert refused(store, path).retryable
    with store.environment.read() as transaction:
        assert list(blobs.iter_uploads(transaction)) == []


@pytest.mark.usefixtures("small_limits")
def test_file_refused_after_it_was_staged_leaves_nothing_when_the_others_go_on(store, tmp_path):
    (tmp_path / "a").write_bytes(NOISE)
    (tmp_path / "b").write_bytes(NOISE[::-1])
    run = RunIntake(store.environment, gate(), lambda _: os.utime(tmp_path / "a", ns=(5, 5)))
    with pytest.raises(InvalidFileError, match="changed while it was read"):
        run.take("a", tmp_path / "a")
    kept = run.take("b", tmp_path / "b")
    run.complete({"b": kept})
    with store.environment.read() as transaction:
        assert list(blobs.iter_uploads(transaction)) == [kept.staged_segment]


def findings(store, sources, texts=None):
    with pytest.raises(SecretDetectedError) as caught:
        take_in(store, sources, texts, scanner=SCANNER, max_file_bytes=100_000)
    return [(found.name, found.line) for found in caught.value.findings]


def test_secret_is_reported_where_it_is_and_all_of_them_are(store):
    text = LEAK.decode().replace('"', "").strip()
    assert findings(store, {"a": b"\n" + LEAK}) == [("a", 2)]
    assert findings(store, {"a": b"1"}, {"metadata": LEAK, "ids": b"x"}) == [("metadata", 1)]
    assert findings(store, {"a": b"1", text: b"2"}) == [("file names", 2)]
    assert findings(store, {"a": LEAK, "b": b"1", "c": LEAK}, {"ids": LEAK}) == [
        ("ids", 1),
        ("a", 1),
        ("c", 1),
    ]


@pytest.mark.usefixtures("small_limits")
def test_secret_in_a_large_file_is_reported_and_nothing_is_staged(store, tmp_path):
    (tmp_path / "a").write_bytes(b"# nothing\n" * 1000 + LEAK)
    read = []
    run = RunIntake(store.environment, gate(scanner=SCANNER, max_file_bytes=100_000), read.append)
    new = run.take("a.py", tmp_path / "a")
    assert (new.staged_segment, new.stream, new.ruleset) == (None, b"", blobs.NOT_SCANNED)
    assert sum(read) == 2 * (tmp_path / "a").stat().st_size
    with pytest.raises(SecretDetectedError) as caught:
        run.complete({"a.py": new})
    assert [(found.name, found.line) for found in caught.value.findings] == [("a.py", 1001)]
    assert RunIntake(store.environment, gate()).scan(LEAK, "a.py") is False


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("padding", [b"", b"# nothing\n" * 1000], ids=["small", "large"])
def test_clean_scan_is_remembered_and_one_with_a_waiver_is_not(store, tmp_path, padding):
    (tmp_path / "clean").write_bytes(padding + b"FAST = 1\n")
    (tmp_path / "waived").write_bytes(padding + WAIVED)
    found = take_in(
        store,
        {"clean.py": tmp_path / "clean", "waived.py": tmp_path / "waived"},
        scanner=SCANNER,
        max_file_bytes=100_000,
    )
    clean, waived = found.new_blobs
    assert clean.ruleset == intake.scan_mark(SCANNER, "clean.py")
    assert waived.ruleset == blobs.NOT_SCANNED
    ((name, line),) = [(waiver.name, waiver.line) for waiver in found.waivers]
    assert (name, line) == ("waived.py", padding.count(b"\n") + 1)


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("padding", [b"", b"# nothing\n" * 1000], ids=["small", "large"])
def test_known_blob_is_scanned_when_it_was_not_under_these_rules_and_then_noted(tmp_path, padding):
    data = padding + b"FAST = 1\n"
    (tmp_path / "a").write_bytes(data)
    mark = intake.scan_mark(SCANNER, "a.py")
    with open_store(tmp_path / "store") as store:
        commit_run(store, files={"a.py": data})
        found = take_in(store, {"a.py": tmp_path / "a"}, scanner=SCANNER, max_file_bytes=100_000)
        assert (found.new_blobs, found.rescanned) == ([], ((digest_bytes(data), mark),))
        with store.environment.write() as transaction:
            blobs.remember_scan(transaction, digest_bytes(data), mark)
        again = take_in(store, {"a.py": tmp_path / "a"}, scanner=SCANNER, max_file_bytes=100_000)
        assert (again.new_blobs, again.rescanned) == ([], ())
        assert take_in(store, {"a.py": tmp_path / "a"}, max_file_bytes=100_000).rescanned == ()


def test_mark_of_a_scan_depends_on_the_kind_of_the_name():
    mark = intake.scan_mark(SCANNER, "a.py")
    assert len(mark) == blobs.RULESET_BYTES
    assert mark == intake.scan_mark(SCANNER, "b.py") == gate(scanner=SCANNER).ruleset("c.py")
    assert mark != intake.scan_mark(SCANNER, "a.env")
    assert gate().ruleset("a.py") == blobs.NOT_SCANNED

"""Packs and indexes written by us: equal to git's byte for byte, whole or absent, and clean after a kill."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cas.errors import ExportError, IntegrityError, StateError, StorageError
from cas.objects import pack_entry_header
from gitexport.pack import KEEP_TEXT, PackWriter, index_bytes, sweep_temporaries

ROOT = Path(__file__).parents[2]
LONG = random.Random(7).randbytes(2 * 1024 * 1024)  # more than a writer holds back
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "LC_ALL": "C",
}


def git(directory, *args, stdin=b"", check=True):
    done = subprocess.run(
        ["git", *args], cwd=directory, env=CLEAN, input=stdin, capture_output=True, check=False, timeout=60
    )
    assert not check or done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(params=["sha1", "sha256"])
def object_format(request):
    return request.param


@pytest.fixture
def repository(tmp_path, object_format):
    path = tmp_path / "r.git"
    git(tmp_path, "init", "-q", "--bare", f"--object-format={object_format}", str(path))
    return path


def blob(content, object_format="sha1"):
    oid = hashlib.new(object_format, b"blob %d\0" % len(content) + content).digest()
    return ("blob", oid, len(content), [zlib.compress(content, 1)])


def write(repository, contents, object_format="sha1", **finish):
    with PackWriter(repository / "objects", len(contents), object_format) as writer:
        for content in contents:
            writer.add(*blob(content, object_format))
        return writer.finish(**finish)


def files(repository):
    return sorted(path.name for path in (repository / "objects" / "pack").iterdir())


def test_pack_of_many_blobs_equals_git_index_pack_and_passes_fsck(repository, object_format):
    contents = [
        b"",
        b"a",
        *(b"%d\n" % number * (number % 50 + 1) for number in range(700)),
        os.urandom(3_000_000),
    ]
    receipt = write(repository, contents, object_format)
    own = receipt.path.with_suffix(".idx").read_bytes()
    git(
        repository,
        "index-pack",
        f"--object-format={object_format}",
        "-o",
        str(repository / "theirs.idx"),
        receipt.path,
    )
    assert own == (repository / "theirs.idx").read_bytes()
    assert receipt.object_count == len(contents)
    assert receipt.size_bytes == receipt.path.stat().st_size
    assert (
        receipt.path.name
        == f"pack-{receipt.path.read_bytes()[-len(blob(b'', object_format)[1]) :].hex()}.pack"
    )
    receipt.release_keep()
    (repository / "theirs.idx").unlink()
    git(repository, "fsck", "--strict", "--full")
    oid = blob(contents[-1], object_format)[1].hex()
    assert git(repository, "cat-file", "blob", oid) == contents[-1]


def test_pack_files_are_read_only_and_keep_goes_when_released(repository, object_format):
    receipt = write(repository, [b"x"], object_format)
    stem = receipt.path.stem
    assert files(repository) == [f"{stem}.idx", f"{stem}.keep", f"{stem}.pack"]
    umask = os.umask(0)
    os.umask(umask)
    assert receipt.path.stat().st_mode & 0o777 == 0o444 & ~umask
    receipt.release_keep()
    receipt.release_keep()
    assert files(repository) == [f"{stem}.idx", f"{stem}.pack"]


def test_empty_pack_is_accepted_by_git(repository, object_format):
    receipt = write(repository, [], object_format, keep=False)
    git(
        repository,
        "index-pack",
        f"--object-format={object_format}",
        "-o",
        str(repository / "i.idx"),
        receipt.path,
    )
    assert (repository / "i.idx").read_bytes() == receipt.path.with_suffix(".idx").read_bytes()


def test_pack_written_twice_is_found_to_exist_and_changes_nothing(repository, object_format):
    first = write(repository, [b"one", b"two"], object_format, keep=False)
    before = first.path.stat()
    second = write(repository, [b"one", b"two"], object_format, keep=True)
    assert (first.existed, second.existed) == (False, True)
    assert second.path == first.path
    assert second.keep_path.exists()
    second.release_keep()
    assert os.path.samestat(before, first.path.stat())
    assert len(files(repository)) == 2


def test_pack_without_index_from_an_earlier_crash_is_completed(repository, object_format):
    first = write(repository, [b"one"], object_format, keep=False)
    first.path.with_suffix(".idx").unlink()
    second = write(repository, [b"one"], object_format, keep=False)
    assert not second.existed
    git(repository, "fsck", "--strict")


def test_pack_next_to_a_foreign_keep_leaves_it_alone(repository, object_format):
    first = write(repository, [b"one"], object_format, keep=False)
    first.keep_path.write_text("mine\n")
    second = write(repository, [b"one"], object_format, keep=True)
    second.release_keep()
    assert first.keep_path.read_text() == "mine\n"
    assert sweep_temporaries(repository / "objects") == []


def test_damaged_stream_is_refused_and_nothing_is_published(repository, object_format):
    kind, oid, size, parts = blob(b"content", object_format)
    crc = zlib.crc32(pack_entry_header(kind, size) + parts[0])
    writer = PackWriter(repository / "objects", 2, object_format)
    writer.add(kind, oid, size, parts, crc)
    other = blob(b"other", object_format)
    with pytest.raises(IntegrityError) as caught:
        writer.add(*other, crc ^ 1)
    assert caught.value.subject == other[1].hex()
    assert files(repository) == []
    with pytest.raises(StateError):
        writer.finish()


def test_entries_given_whole_make_the_same_pack(repository, object_format):
    contents = [b"", b"one", os.urandom(3 * 1024 * 1024), b"two"]
    receipts = []
    for whole in (False, True):
        with PackWriter(repository / "objects", len(contents), object_format) as writer:
            for content in contents:
                kind, oid, size, (stream,) = blob(content, object_format)
                header = pack_entry_header(kind, size)
                if whole:
                    writer.add_entries([(oid, zlib.crc32(header + stream), header, memoryview(stream))])
                else:
                    writer.add(kind, oid, size, [stream])
            receipts.append(writer.finish(keep=False))
    first, second = receipts
    assert (second.path, second.size_bytes, second.existed) == (first.path, first.size_bytes, True)
    assert git(repository, "cat-file", "-p", blob(b"two", object_format)[1].hex()) == b"two"
    git(repository, "fsck", "--strict")
    with pytest.raises(StateError):
        writer.add_entries([(b"\1" * len(oid), 0, b"more", b"")])


def entry(content, object_format):
    """Return an object as a whole entry, its stream in a buffer that the caller may change."""
    kind, oid, size, (stream,) = blob(content, object_format)
    header = pack_entry_header(kind, size)
    return oid, zlib.crc32(header + stream), header, bytearray(stream)


def test_buffers_of_entries_may_change_once_they_are_taken(repository, object_format):
    taken = [entry(content, object_format) for content in (b"one", LONG, b"two")]
    with PackWriter(repository / "objects", 3, object_format) as writer:
        writer.add_entries((oid, crc, header, memoryview(stream)) for oid, crc, header, stream in taken)
        for _, _, _, stream in taken:
            stream[:] = bytes(len(stream))
        writer.finish(keep=False)
    git(repository, "fsck", "--strict")


@pytest.mark.parametrize("before", [[b"one"], [b"one", LONG]], ids=["held", "begun"])
def test_failing_entries_leave_nothing(repository, object_format, before):
    def entries():
        for content in before:
            yield entry(content, object_format)
        raise OSError(5, "Input/output error")

    writer = PackWriter(repository / "objects", len(before), object_format)
    with pytest.raises(OSError, match="Input/output"):
        writer.add_entries(entries())
    assert files(repository) == []
    for go_on in (writer.seal, writer.finish, lambda: writer.add_entries([])):
        with pytest.raises(StateError):
            go_on()


def test_entry_that_does_not_fit_is_refused_and_the_pack_discarded(repository, object_format):
    one, two = entry(b"one", object_format), entry(b"two", object_format)
    for entries in ([one, two], [(one[0][:-1], *one[1:])]):
        writer = PackWriter(repository / "objects", 1, object_format)
        with pytest.raises(StateError, match="does not fit"):
            writer.add_entries(entries)
        assert files(repository) == []
        with pytest.raises(StateError):
            writer.finish()


def test_sealed_pack_is_invisible_until_it_is_finished(repository, object_format):
    writer = PackWriter(repository / "objects", 1, object_format)
    writer.add(*blob(b"a", object_format))
    writer.seal()
    writer.seal()
    assert not list((repository / "objects" / "pack").glob("pack-*"))
    receipt = writer.finish(keep=False)
    assert receipt.path.stat().st_size == receipt.size_bytes
    git(repository, "fsck", "--strict")
    dropped = PackWriter(repository / "objects", 1, object_format)
    dropped.add(*blob(b"b", object_format))
    dropped.seal()
    dropped.discard()
    with pytest.raises(StateError):
        dropped.seal()
    assert [path.suffix for path in sorted((repository / "objects" / "pack").iterdir())] == [".idx", ".pack"]


def test_count_other_than_announced_is_refused(repository, object_format):
    writer = PackWriter(repository / "objects", 2, object_format)
    writer.add(*blob(b"a", object_format))
    with pytest.raises(StateError, match="1 of 2"):
        writer.finish()
    assert files(repository) == []
    full = PackWriter(repository / "objects", 1, object_format)
    full.add(*blob(b"a", object_format))
    with pytest.raises(StateError):
        full.add(*blob(b"b", object_format))
    full.discard()
    assert files(repository) == []


def test_object_added_twice_is_refused(repository, object_format):
    with pytest.raises(IntegrityError, match="twice"):
        write(repository, [b"same", b"other", b"same"], object_format)
    assert files(repository) == []


def test_failing_stream_leaves_nothing(repository, object_format):
    def parts():
        yield b"x"
        raise OSError(5, "Input/output error")

    writer = PackWriter(repository / "objects", 1, object_format)
    with pytest.raises(OSError, match="Input/output"):
        writer.add("blob", b"\1" * len(blob(b"", object_format)[1]), 1, parts())
    assert files(repository) == []


def test_stream_parts_are_copied_before_the_next_is_asked_for(repository, object_format):
    content = os.urandom(100_000)
    stream = zlib.compress(content)

    def parts():
        window = bytearray(1000)
        for at in range(0, len(stream), 1000):
            piece = stream[at : at + 1000]
            window[: len(piece)] = piece
            yield memoryview(window)[: len(piece)]
        window[:] = b"\0" * len(window)

    kind, oid, size, _ = blob(content, object_format)
    with PackWriter(repository / "objects", 1, object_format) as writer:
        writer.add(kind, oid, size, parts())
        writer.finish(keep=False)
    git(repository, "fsck", "--strict")


def test_prune_in_the_middle_takes_nothing(repository, object_format):
    writer = PackWriter(repository / "objects", 1, object_format)
    writer.add(*blob(b"a", object_format))
    git(repository, "prune", "--expire=now")
    writer.seal()
    git(repository, "gc", "-q", "--prune=now")
    receipt = writer.finish()
    assert git(repository, "cat-file", "-p", blob(b"a", object_format)[1].hex()) == b"a"
    receipt.release_keep()


def test_temporary_file_that_somebody_removed_is_reported_as_retryable(repository, object_format):
    writer = PackWriter(repository / "objects", 1, object_format)
    writer.add(*blob(b"a", object_format))
    (temporary,) = (repository / "objects" / "pack").iterdir()
    temporary.unlink()
    with pytest.raises(ExportError) as caught:
        writer.finish()
    assert caught.value.retryable
    assert caught.value.kind == "file_vanished"
    assert files(repository) == []


def test_keep_shields_unreferenced_objects_from_gc(repository, object_format):
    receipt = write(repository, [b"precious"], object_format)
    oid = blob(b"precious", object_format)[1].hex()
    git(repository, "gc", "-q", "--prune=now")
    git(repository, "repack", "-q", "-a", "-d")
    assert git(repository, "cat-file", "-e", oid) == b""
    receipt.release_keep()


def test_unwritable_folder_is_a_storage_error(tmp_path):
    (tmp_path / "pack").write_text("a file, not a folder")
    with pytest.raises(StorageError):
        PackWriter(tmp_path, 1)


KILLED = """
import os, signal, sys, zlib, hashlib
from pathlib import Path
import gitexport.pack as pack
step = sys.argv[2]
content = b"killed"
writer = pack.PackWriter(Path(sys.argv[1]), 1)
oid = hashlib.sha1(b"blob 6\\0killed").digest()
writer.add("blob", oid, 6, [zlib.compress(content, 1)])
writer._flush()
count = 0
def maybe_die(*args):
    global count
    count += 1
    if count == int(step):
        os.kill(os.getpid(), signal.SIGKILL)
if step == "0":
    os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(lambda event, args: maybe_die() if event in ("os.rename", "os.link", "os.remove", "open") else None)
writer.finish()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("step", range(9))
def test_killed_writer_leaves_only_what_the_sweep_removes(tmp_path, step):
    git(tmp_path, "init", "-q", "--bare", "r.git")
    repository = tmp_path / "r.git"
    subprocess.run(
        [sys.executable, "-c", KILLED, str(repository / "objects"), str(step)],
        cwd=ROOT,
        env=CLEAN | {"PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )
    left = files(repository)
    sweep_temporaries(repository / "objects")
    swept = files(repository)
    complete = [name for name in left if name.endswith((".pack", ".idx"))]
    assert swept == (complete if len(complete) == 2 else [])
    git(repository, "fsck", "--strict")
    receipt = write(repository, [b"killed"], keep=False)
    assert files(repository) == [receipt.path.with_suffix(".idx").name, receipt.path.name]


def test_sweep_spares_living_writers_and_other_programs(repository, object_format):
    living = PackWriter(repository / "objects", 1, object_format)
    kept = write(repository, [b"kept"], object_format)
    folder = repository / "objects" / "pack"
    (folder / "tmp_pack_a1b2c3").write_bytes(b"git's own")
    (folder / "pack-0123.keep").write_bytes(b"")
    (folder / "cas_pack_dead").write_bytes(b"PACK")
    (folder / f"pack-{'0' * 40}.keep").write_bytes(KEEP_TEXT)
    (folder / "cas_pack_link").symlink_to("tmp_pack_a1b2c3")
    removed = sweep_temporaries(repository / "objects")
    assert sorted(path.name for path in removed) == ["cas_pack_dead", f"pack-{'0' * 40}.keep"]
    assert kept.keep_path.exists()
    living.add(*blob(b"a", object_format))
    living.finish(keep=False)


def test_index_with_large_offsets_equals_git(tmp_path):
    git(tmp_path, "init", "-q", "--bare", "r.git")
    contents = [os.urandom(40) for _ in range(60)]
    receipt = write(tmp_path / "r.git", contents, keep=False)
    theirs = tmp_path / "theirs.idx"
    git(tmp_path / "r.git", "index-pack", "--index-version=2,0x400", "-o", str(theirs), receipt.path)
    offset, oids, crcs, offsets = 12, b"", [], []
    for kind, oid, size, parts in map(blob, contents):
        entry = pack_entry_header(kind, size) + parts[0]
        oids, offset = oids + oid, offset + len(entry)
        crcs.append(zlib.crc32(entry))
        offsets.append(offset - len(entry))
    trailer = receipt.path.read_bytes()[-20:]
    # git sends every offset above its limit to the 64-bit table
    assert index_bytes(oids, crcs, offsets, trailer, large_offset=0x401) == theirs.read_bytes()


def test_index_beyond_two_gibibytes_uses_the_64_bit_table():
    table = index_bytes(b"\1" * 20 + b"\2" * 20, [1, 2], [12, 2**31], b"\0" * 20)
    assert table[-48:-40] == (2**31).to_bytes(8, "big")
    assert table[-56:-48] == (12).to_bytes(4, "big") + (2**31).to_bytes(4, "big")


@settings(max_examples=30, deadline=None)
@given(contents=st.lists(st.binary(max_size=300), unique=True, max_size=40))
def test_index_of_any_objects_equals_git(tmp_path_factory, contents):
    folder = tmp_path_factory.mktemp("any")
    (folder / "objects").mkdir()
    receipt = write(folder, contents, keep=False)
    git(folder, "index-pack", "-o", str(folder / "theirs.idx"), receipt.path)
    assert (folder / "theirs.idx").read_bytes() == receipt.path.with_suffix(".idx").read_bytes()

"""Answers of `cat-file --batch` read from a pipe: cut anywhere, left unread, missing, silent and ended early."""

import contextlib
import fcntl
import os
import resource
import threading

import pytest

from cas.errors import GitCommandFailedError
from gitexport import objectstream
from gitexport.objectstream import PipeReader, iter_streams

LONG = bytes(range(256)) * 2000  # more than a chunk, and more than a pipe holds


class EndedError(Exception):
    """Stands for the error that the caller makes of git's end."""


@pytest.fixture
def reading():
    """Give a reader of a pipe that another thread fills with the given pieces, and then closes."""
    descriptors, threads = [], []

    def reader(*pieces, silence_s=20.0, close=True):
        source, sink = os.pipe()
        descriptors.append(source)

        def fill():
            with contextlib.suppress(BrokenPipeError):  # the test is over
                for piece in pieces:
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(sink, view) :]
            if close:
                os.close(sink)

        if not close:
            descriptors.append(sink)
        threads.append(threading.Thread(target=fill))
        threads[-1].start()
        return PipeReader(source, silence_s, EndedError)

    yield reader
    for descriptor in descriptors:  # first, or a thread whose pipe nobody reads would write for ever
        os.close(descriptor)
    for thread in threads:
        thread.join()


def answer(oid, kind, content):
    return b"%s %s %d\n%s\n" % (oid.encode(), kind.encode(), len(content), content)


ANSWERS = (
    answer("a1", "blob", b"one\ntwo\n")
    + answer("b2", "tree", b"")
    + b"c3 missing\n"
    + answer("d4", "tag", LONG)
)


@pytest.mark.parametrize("size", [1, 7, 300_000, len(ANSWERS)])
def test_iter_streams_gives_each_object_its_header_and_content(reading, size):
    size = max(size, len(ANSWERS) // 2000)  # a byte at a time only as far as that is quick
    reader = reading(*(ANSWERS[at : at + size] for at in range(0, len(ANSWERS), size)))
    found = [
        (stream.oid, stream.kind, stream.size_bytes, b"".join(stream))
        for stream in iter_streams(["a1", "b2", "c3", "d4"], reader)
    ]
    assert found == [
        ("a1", "blob", 8, b"one\ntwo\n"), ("b2", "tree", 0, b""), ("c3", "missing", 0, b""),
        ("d4", "tag", len(LONG), LONG),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_iter_streams_puts_together_what_comes_in_small_pieces(reading, monkeypatch, size):
    monkeypatch.setattr(objectstream, "_CHUNK_BYTES", size)
    reader = reading(answer("a1", "blob", b"abc\n") + b"c3 missing\n" + answer("a1", "blob", b"d"))
    found = [b"".join(stream) for stream in iter_streams(["a1", "c3", "a1"], reader)]
    assert found == [b"abc\n", b"", b"d"]


def test_iter_streams_skips_what_is_left_unread(reading):
    streams = iter_streams(
        ["d4", "d4", "a1"], reading(answer("d4", "blob", LONG) * 2, answer("a1", "blob", b"end"))
    )
    assert next(streams).size_bytes == len(LONG)
    half_read = next(streams)
    next(iter(half_read))
    assert b"".join(next(streams)) == b"end"
    assert list(streams) == []


def test_stream_yields_chunks_of_at_most_256_kib_and_only_once(reading):
    stream = next(iter_streams(["d4"], reading(answer("d4", "blob", LONG))))
    chunks = list(stream)
    assert b"".join(chunks) == LONG
    assert all(0 < len(chunk) <= 256 * 1024 for chunk in chunks)
    assert list(stream) == []


@pytest.mark.parametrize("said", [b"", b"a1 blob 5", b"a1 blob 5\nab", b"a1 blob 2\nab"])
def test_git_that_ends_early_gives_the_callers_error(reading, said):
    with pytest.raises(EndedError):
        list(iter_streams(["a1"], reading(said)))


def test_git_that_is_silent_gives_a_timeout(reading):
    with pytest.raises(GitCommandFailedError, match=r"said nothing for 0\.05 s") as caught:
        list(iter_streams(["a1"], reading(b"a1 bl", silence_s=0.05, close=False)))
    assert caught.value.kind == "git_timeout"


def test_pipe_of_a_program_with_many_open_files_is_read(high_descriptor):
    source, sink = os.pipe()
    os.write(sink, b"line\n")
    os.close(sink)
    assert PipeReader(high_descriptor(source), 20.0, EndedError).read_line() == b"line"


@pytest.fixture
def high_descriptor():
    """Moves a descriptor to a number that select() does not take."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    moved = []

    def move(descriptor):
        moved.append(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 1500))
        os.close(descriptor)
        return moved[-1]

    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 2000), limits[1]))
    yield move
    for descriptor in moved:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_read_some_gives_what_is_there_up_to_the_limit(reading):
    reader = reading(b"line\nabcdef")
    assert reader.read_line() == b"line"
    got = b""
    while len(got) < 6:
        piece = reader.read_some(min(4, 6 - len(got)))
        assert 1 <= len(piece) <= 4
        got += piece
    assert got == b"abcdef"

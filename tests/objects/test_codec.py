"""Streams: what is stored inflates to exactly the recorded content, whole and in parts, and nothing else does."""

import tracemalloc
import zlib

import pytest

from cas.codec import (
    CHUNK_BYTES,
    STORED_BYTES,
    Deflater,
    crc32,
    deflate,
    inflate,
    iter_inflated,
    stored_head,
    stored_tail,
)
from cas.digest import digest_bytes
from cas.errors import IntegrityError

CONTENT = b"".join(b"%d;%d\n" % (number, number * number) for number in range(2000))
INCOMPRESSIBLE = bytes((number * number * 40_503 >> 7) & 255 for number in range(5000))
LONG = bytes(3 * CHUNK_BYTES)


def pieces(stream, size):
    return [stream[at : at + size] for at in range(0, len(stream), size)]


@pytest.mark.parametrize("content", [b"", b"x", CONTENT, INCOMPRESSIBLE])
def test_deflate_makes_a_zlib_stream_of_the_content(content):
    assert zlib.decompress(deflate(content)) == content
    assert inflate(deflate(content), len(content)) == content


@pytest.mark.parametrize(
    "content", [b"", b"x", CONTENT, INCOMPRESSIBLE, bytes(range(256)) * 255, bytes(STORED_BYTES)]
)
def test_stored_block_makes_a_zlib_stream_that_is_not_compressed(content):
    stream = stored_head(len(content)) + stored_tail(content)
    size = len(content).to_bytes(2, "little")
    assert stream[:7] == b"\x78\x01\x01" + size + bytes(255 - byte for byte in size)
    assert stream[7:-4] == content
    assert stream[-4:] == zlib.adler32(content).to_bytes(4, "big")
    assert zlib.decompress(stream) == inflate(stream, len(content)) == content


def test_stored_block_of_more_than_a_stored_block_holds_is_refused():
    with pytest.raises(ValueError, match="holds 65535 bytes, not 65536"):
        stored_head(STORED_BYTES + 1)


def test_deflate_of_text_is_much_smaller():
    assert len(deflate(CONTENT)) < len(CONTENT) // 2


def test_deflater_makes_a_zlib_stream_of_the_joined_pieces():
    deflater = Deflater()
    parts = [deflater.feed(piece) for piece in pieces(CONTENT, 700)]
    stream = b"".join([*parts, deflater.finish()])
    assert zlib.decompress(stream) == CONTENT
    assert len(stream) < len(CONTENT) // 2


def test_crc32_continues_from_the_given_value():
    assert crc32(CONTENT) == zlib.crc32(CONTENT)
    assert crc32(CONTENT[900:], crc32(CONTENT[:900])) == zlib.crc32(CONTENT)


def refused(stream, size_bytes):
    """The error of the whole reading, after checking that the reading in parts refuses too."""
    for size in (1, 100, len(stream)):
        with pytest.raises(IntegrityError):
            list(iter_inflated(pieces(stream, size), size_bytes))
    with pytest.raises(IntegrityError) as caught:
        inflate(stream, size_bytes)
    return str(caught.value)


@pytest.mark.parametrize("wrong", [-1, 1, 100])
def test_inflate_of_another_size_than_recorded_is_refused(wrong):
    assert f"{len(CONTENT) + wrong} bytes" in refused(deflate(CONTENT), len(CONTENT) + wrong)


def test_inflate_to_a_recorded_size_beyond_any_memory_is_refused():
    refused(deflate(CONTENT), 2**63 - 1)
    refused(deflate(CONTENT), 2**64)


def test_inflate_of_nothing_recorded_refuses_a_stream_of_something():
    refused(deflate(b"x"), 0)


@pytest.mark.parametrize("missing", [1, 4, 5, 60])
def test_inflate_of_a_stream_cut_short_is_refused(missing):
    refused(deflate(CONTENT)[:-missing], len(CONTENT))


def test_inflate_of_a_stream_without_its_checksum_is_refused():
    stream = deflate(CONTENT)[:-4]
    assert len(zlib.decompressobj().decompress(stream)) == len(CONTENT)
    refused(stream, len(CONTENT))


def test_inflate_of_a_stream_with_stray_bytes_is_refused():
    refused(deflate(CONTENT) + b"\0", len(CONTENT))


@pytest.mark.parametrize("stream", [b"plain text, no stream", deflate(CONTENT)[:40] + bytes(40)])
def test_inflate_of_something_else_is_refused_as_no_stream(stream):
    assert "not a valid zlib stream" in refused(stream, len(CONTENT))


def test_inflate_stops_one_byte_past_the_recorded_size():
    stream = deflate(LONG)
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError):
            inflate(stream, 1000)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < CHUNK_BYTES


@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("content", [b"", b"x", CONTENT, INCOMPRESSIBLE])
def test_iter_inflated_joins_to_the_content_however_it_is_cut(content, size):
    assert b"".join(iter_inflated(pieces(deflate(content), size), len(content))) == content


def test_iter_inflated_yields_at_most_a_chunk_and_nothing_empty():
    for content in (LONG, LONG[:-1], LONG + b"x", LONG[: 2 * CHUNK_BYTES]):
        chunks = list(iter_inflated([deflate(content)], len(content)))
        assert b"".join(chunks) == content
        assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks)


def test_iter_inflated_yields_before_it_asks_for_the_next_part():
    stream = deflate(CONTENT)
    asked = []

    def parts():
        for piece in pieces(stream, 500):
            asked.append(piece)
            yield piece

    next(iter_inflated(parts(), len(CONTENT)))
    assert len(asked) * 500 < len(stream)


def test_iter_inflated_stops_as_soon_as_too_much_has_come():
    asked = []

    def parts():
        for piece in pieces(deflate(INCOMPRESSIBLE), 50):
            asked.append(piece)
            yield piece

    with pytest.raises(IntegrityError, match="more than the recorded 100 bytes"):
        list(iter_inflated(parts(), 100))
    assert len(asked) < 10


def test_digest_is_blake3():
    assert digest_bytes(b"x") != digest_bytes(b"")
    assert digest_bytes(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"

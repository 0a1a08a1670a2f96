"""Streams that are stored instead of compressed: any zlib reads them."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas.codec import STORED_BYTES, inflate, stored_head, stored_tail


@given(st.binary(max_size=300) | st.integers(0, STORED_BYTES).map(bytes))
def test_stored_block_of_any_small_data_inflates_to_it(data: bytes) -> None:
    stream = stored_head(len(data)) + stored_tail(data)
    assert zlib.decompress(stream) == inflate(stream, len(data)) == data
    assert len(stream) == len(data) + 11


def test_stored_block_of_more_than_a_stored_block_holds_is_refused() -> None:
    assert inflate(stored_head(STORED_BYTES) + stored_tail(bytes(STORED_BYTES)), STORED_BYTES) == bytes(
        STORED_BYTES
    )
    with pytest.raises(ValueError, match="65536"):
        stored_head(STORED_BYTES + 1)

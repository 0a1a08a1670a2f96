"""The stored stores, unpacked for a test."""

from __future__ import annotations

import json
import lzma

import pytest

from tests.format.make_store import FOLDER, FORMATS


@pytest.fixture(params=FORMATS)
def stored(request, tmp_path):
    """A folder with a stored store in it, and what was told when it was made."""
    (tmp_path / ".cas").mkdir(mode=0o700)
    packed = (FOLDER / f"{request.param}.mdb.xz").read_bytes()
    (tmp_path / ".cas" / "data.mdb").write_bytes(lzma.decompress(packed))
    return tmp_path, json.loads((FOLDER / f"{request.param}.json").read_text())

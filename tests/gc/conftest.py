"""A store of the test's own."""

import pytest

from tests.store.stores import open_store


@pytest.fixture
def store(tmp_path):
    """An empty store, without the secret gate."""
    with open_store(tmp_path) as opened:
        yield opened

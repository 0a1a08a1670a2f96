"""A store of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.store.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cas import ArtifactStore


@pytest.fixture
def store(tmp_path) -> Iterator[ArtifactStore]:
    """An empty store, without the secret gate."""
    with open_store(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory) -> Iterator[ArtifactStore]:
    """A store that the tests of a module share; each uses IDs of its own."""
    with open_store(tmp_path_factory.mktemp("shared")) as opened:
        yield opened

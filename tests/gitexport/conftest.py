"""A repository of the test's own."""

from __future__ import annotations

import pytest

from gitexport.repository import GitRepository


@pytest.fixture
def repo(tmp_path):
    """An empty bare repository, as the product makes it."""
    return GitRepository.create_bare(tmp_path / "repo.git")

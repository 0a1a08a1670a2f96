"""Fixtures of the exporter's tests."""

from __future__ import annotations

import pytest

from cas import ArtifactStore, ArtifactStoreConfig
from tests.export.places import Clock, Place, run_git


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make_place(tmp_path, clock):
    """Makes a place; each with a store and a bare repository of its own unless told otherwise."""
    opened = []

    def make(name="place", *, bare=True, object_format="sha1", **settings):
        path = tmp_path / name / "repository"
        path.mkdir(parents=True)
        kind = ["--bare"] if bare else []
        run_git(path, "init", "--quiet", "--initial-branch=main", f"--object-format={object_format}", *kind)
        config = ArtifactStoreConfig(
            repo_path=path,
            store_path=tmp_path / name / "store",
            object_format=object_format,
            scan_for_secrets=False,
            **settings,
        )
        store = ArtifactStore(config, clock=clock)
        opened.append(store)
        return Place(store, path)

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def place(make_place):
    return make_place()


@pytest.fixture
def remote(tmp_path, place):
    """A bare repository that the place's repository knows as origin."""
    path = tmp_path / "remote.git"
    path.mkdir()
    run_git(path, "init", "--quiet", "--bare", "--initial-branch=main")
    place.git("remote", "add", "origin", str(path))
    return path

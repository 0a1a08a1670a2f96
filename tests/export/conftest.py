"""Fixtures of the exporter's tests."""

from __future__ import annotations

import pytest

from cas import ArtifactStore, ArtifactStoreConfig
from tests.export.places import Clock, Place, format_words, run_git


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ref_format():
    """How the repositories keep their refs; test_reftable.py runs the tests of its sisters with another one."""
    return "files"


@pytest.fixture
def init_words(ref_format):
    """Return the words of a ``git init`` for that format; older gits know no such option, and only one format."""
    return ["init", "--quiet", "--initial-branch=main", *format_words(ref_format)]


@pytest.fixture
def make_place(tmp_path, clock, init_words):
    """Makes a place; each with a store and a bare repository of its own unless told otherwise."""
    opened = []

    def make(name="place", *, bare=True, object_format="sha1", **settings):
        path = tmp_path / name / "repository"
        path.mkdir(parents=True)
        kind = ["--bare"] if bare else []
        run_git(path, *init_words, f"--object-format={object_format}", *kind)
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
def remote(tmp_path, place, init_words):
    """A bare repository that the place's repository knows as origin."""
    path = tmp_path / "remote.git"
    path.mkdir()
    run_git(path, *init_words, "--bare")
    place.git("remote", "add", "origin", str(path))
    return path

"""The scaffold of a store: left behind by a killed process, it goes with the next creation, and nothing else does."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cas.lmdbenv import hold_alone, scaffold
from tests.store.stores import open_store

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from pathlib import Path
from cas.lmdbenv import creation
from tests.store.stores import open_store

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(*{"made": (creation, "_fill_new"), "filled": (Path, "rename")}[sys.argv[2]], die)
open_store(Path(sys.argv[1]))
"""
LEFT = ".cas.new-abcd_123"


@pytest.fixture
def place(tmp_path):
    """Where a store is to be."""
    return tmp_path / ".cas"


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("step", ["made", "filled"])
def test_scaffold_of_a_killed_creation_goes_with_the_next_one(tmp_path, step):
    repository = tmp_path / "repo"
    repository.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, repository, step],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    (left,) = repository.iterdir()
    assert left.name.startswith(".cas.new-")
    assert names_in(left) == ["store"]
    open_store(repository).close()
    assert names_in(repository) == [".cas"]


def test_scaffold_is_private_beside_the_place_and_goes_at_the_end(place):
    with scaffold.scaffold(place) as inside:
        assert inside.name == "store"
        assert not inside.exists()
        outer = inside.parent
        assert outer.parent == place.parent
        assert outer.name.startswith(".cas.new-")
        assert stat.S_IMODE(outer.stat().st_mode) == 0o700
        inside.mkdir()
    assert names_in(place.parent) == []


def test_scaffold_is_removed_when_its_block_fails(place):
    def fail(inside):
        inside.mkdir()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), scaffold.scaffold(place) as inside:
        fail(inside)
    assert names_in(place.parent) == []


def test_scaffold_lets_go_of_its_lock_and_descriptor(place):
    before = set(Path("/proc/self/fd").iterdir())
    with scaffold.scaffold(place):
        pass
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_scaffold_that_somebody_holds_is_left_to_him(place):
    with scaffold.scaffold(place) as mine, scaffold.scaffold(place) as other:
        assert mine.parent.is_dir()
        assert other.parent.is_dir()
        assert mine != other


@pytest.mark.parametrize("inside", [None, "store"])
def test_scaffold_that_nobody_holds_is_removed(place, inside):
    (place.parent / LEFT).mkdir()
    if inside:
        (place.parent / LEFT / inside).mkdir()
        (place.parent / LEFT / inside / "data.mdb").touch()
    with scaffold.scaffold(place) as mine:
        assert names_in(place.parent) == [mine.parent.name]


@pytest.mark.parametrize(
    "name",
    [
        ".cas.new-",
        ".cas.new-abc",
        ".cas.new-ABCDEFGH",
        ".cas.new-abcd_1234",
        "x.cas.new-abcd_123",
        ".casXnew-abcd_123",
    ],
)
def test_folder_of_another_name_is_no_scaffold(place, name):
    (place.parent / name).mkdir()
    with scaffold.scaffold(place):
        pass
    assert names_in(place.parent) == [name]


def test_scaffold_of_another_store_stays(place):
    (place.parent / "other.new-abcd_123").mkdir()
    with scaffold.scaffold(place):
        pass
    assert names_in(place.parent) == ["other.new-abcd_123"]


@pytest.mark.parametrize("beside", [[], ["store"]])
def test_folder_that_holds_something_of_the_users_is_no_scaffold(place, beside):
    (place.parent / LEFT).mkdir()
    for name in ["data.mdb", *beside]:
        (place.parent / LEFT / name).touch()
    with scaffold.scaffold(place):
        pass
    assert names_in(place.parent / LEFT) == sorted(["data.mdb", *beside])


def test_link_and_file_of_a_scaffolds_name_stay(place, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / LEFT).symlink_to(tmp_path / "precious")
    (tmp_path / ".cas.new-00000000").touch()
    with scaffold.scaffold(place):
        pass
    assert names_in(tmp_path) == [".cas.new-00000000", LEFT, "precious"]


def test_scaffold_taken_for_left_over_before_it_was_held_is_made_again(place, monkeypatch):
    share, taken = scaffold.share_directory, []

    def remove_first(outer, wait_s):
        if not taken:
            taken.append(outer)
            outer.rmdir()
        elif len(taken) == 1:
            taken.append(outer)
            with hold_alone(outer) as alone:
                assert alone
                return share(outer, wait_s)
        elif len(taken) == 2:
            taken.append(outer)
            descriptor = share(outer, wait_s)
            outer.rmdir()
            return descriptor
        return share(outer, wait_s)

    before = set(Path("/proc/self/fd").iterdir())
    monkeypatch.setattr(scaffold, "share_directory", remove_first)
    with scaffold.scaffold(place) as inside:
        assert len(taken) == 3
        assert inside.parent.is_dir()
        assert inside.parent not in taken
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_scaffold_where_the_file_system_knows_no_locks_is_made_and_nothing_removed(place, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "no locks")

    (place.parent / LEFT).mkdir()
    monkeypatch.setattr("fcntl.flock", flock)
    with scaffold.scaffold(place) as inside:
        inside.mkdir()
    assert names_in(place.parent) == [LEFT]

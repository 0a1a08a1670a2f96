"""Files and folders that belong to a living process: made beside a sweeper that may come at any moment."""

from __future__ import annotations

import fcntl
import os

import pytest

from gitexport.heldfile import (
    create_held,
    create_held_at,
    create_held_folder,
    is_same_file,
    remove_held,
    remove_stale,
    remove_stale_folder,
    start_writeback,
)

PREFIX = "cas_test_"


@pytest.fixture
def before_the_lock(monkeypatch):
    """Runs something between the making of a file and its lock, the first time that one is locked."""
    lock = fcntl.flock

    def arrange(act):
        waiting = [act]

        def flock(descriptor, operation):
            if waiting:
                waiting.pop()()
            return lock(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", flock)

    return arrange


def sweep(folder):
    """Sweep as an exporter of another store does; tells how much went."""
    return [path for path in folder.glob(f"{PREFIX}*") if remove_stale(path) or remove_stale_folder(path)]


def test_file_swept_before_it_is_locked_is_made_again(tmp_path, before_the_lock):
    swept = []
    before_the_lock(lambda: swept.extend(sweep(tmp_path)))
    path, descriptor = create_held(tmp_path, PREFIX, 0o600)
    assert len(swept) == 1
    assert is_same_file(path, descriptor)
    assert sweep(tmp_path) == []
    remove_held(path, descriptor)
    assert list(tmp_path.iterdir()) == []


def test_file_under_a_fixed_name_swept_before_it_is_locked_is_made_again(tmp_path, before_the_lock):
    path = tmp_path / f"{PREFIX}journal"
    before_the_lock(lambda: sweep(tmp_path))
    descriptor = create_held_at(path, 0o600)
    assert is_same_file(path, descriptor)
    with pytest.raises(FileExistsError):
        create_held_at(path, 0o600)
    remove_held(path, descriptor)


def test_file_that_a_sweeper_holds_is_not_taken_for_held(tmp_path, before_the_lock):
    """The sweeper has the lock and has not removed the file yet."""
    sweepers = []

    def take():
        (path,) = tmp_path.glob(f"{PREFIX}*")
        sweepers.append((path, os.open(path, os.O_RDONLY)))
        fcntl.flock(sweepers[0][1], fcntl.LOCK_EX | fcntl.LOCK_NB)

    before_the_lock(take)
    path, descriptor = create_held(tmp_path, PREFIX, 0o600)
    ((doomed, sweeper),) = sweepers
    assert path != doomed
    doomed.unlink(missing_ok=True)
    os.close(sweeper)
    assert is_same_file(path, descriptor)
    remove_held(path, descriptor)
    assert list(tmp_path.iterdir()) == []


def test_folder_swept_before_it_is_locked_is_made_again(tmp_path, before_the_lock):
    swept = []
    before_the_lock(lambda: swept.extend(sweep(tmp_path)))
    with create_held_folder(tmp_path, PREFIX) as (folder, descriptor):
        assert len(swept) == 1
        assert is_same_file(folder, descriptor)
        (folder / "view").write_text("x")
        assert sweep(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_writeback_leaves_the_content_alone_and_a_refusal_is_no_error(tmp_path):
    path = tmp_path / "f"
    with path.open("w+b") as file:
        file.write(b"x" * 100_000)
        file.flush()
        start_writeback(file.fileno(), 0, 100_000)
        start_writeback(file.fileno(), 50_000, 10**9)
        assert path.read_bytes() == b"x" * 100_000
    reader, writer = os.pipe()
    try:
        start_writeback(writer, 0, 1)  # ESPIPE
    finally:
        os.close(reader)
        os.close(writer)

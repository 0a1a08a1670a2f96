"""Kernel locks on folders and files: shared, held alone, waited for, and given back whatever happens."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading

import pytest

from cas import StateError
from cas.lmdbenv import locks
from tests.descriptors import open_descriptors

pytestmark = pytest.mark.usefixtures("no_descriptor_is_left")

UNSUPPORTED = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL]


def refuse(code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    return flock


def can_be_had(path, how=fcntl.LOCK_EX):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def is_inherited_by_programs(descriptor):
    return not fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_shared_folder_is_shared_and_closed_to_whoever_wants_it_alone(tmp_path):
    one, two = locks.share_directory(tmp_path, 0), locks.share_directory(tmp_path, 0)
    assert not is_inherited_by_programs(one)
    assert not can_be_had(tmp_path)
    os.close(one)
    assert not can_be_had(tmp_path)
    os.close(two)
    assert can_be_had(tmp_path)


def test_sharing_of_a_held_folder_is_refused_with_what_to_do(tmp_path):
    with locks.hold_alone(tmp_path), pytest.raises(StateError) as caught:
        locks.share_directory(tmp_path, 0)
    error = caught.value
    assert (error.kind, error.retryable, error.subject) == ("store_in_use", True, str(tmp_path))
    assert "--lock-wait" in error.hint


@pytest.mark.parametrize(("wait_s", "tries"), [(0, 1), (0.05, 2), (0.12, 4)])
def test_sharing_tries_again_until_the_time_is_over(tmp_path, monkeypatch, wait_s, tries):
    now, tried = [100.0], []

    def flock(_, how):
        tried.append(how)
        raise BlockingIOError

    monkeypatch.setattr(locks.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(locks.time, "sleep", lambda pause_s: now.__setitem__(0, now[0] + pause_s))
    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with pytest.raises(StateError):
        locks.share_directory(tmp_path, wait_s)
    assert tried == [fcntl.LOCK_SH | fcntl.LOCK_NB] * tries


def test_sharing_goes_on_once_the_folder_is_free(tmp_path):
    shared = []
    with locks.hold_alone(tmp_path):
        waiter = threading.Thread(target=lambda: shared.append(locks.share_directory(tmp_path, 60)))
        waiter.start()
        waiter.join(0.06)
        assert waiter.is_alive()
    waiter.join(60)
    assert not can_be_had(tmp_path)
    os.close(shared[0])


@pytest.mark.parametrize("code", UNSUPPORTED)
def test_sharing_where_there_are_no_locks_gives_no_descriptor(tmp_path, monkeypatch, code):
    monkeypatch.setattr(locks.fcntl, "flock", refuse(code))
    assert locks.share_directory(tmp_path, 0) == -1


def test_sharing_that_fails_otherwise_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.fcntl, "flock", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output") as caught:
        locks.share_directory(tmp_path, 0)
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("what", ["missing", "file"])
def test_only_a_folder_is_shared(tmp_path, what):
    path = tmp_path / "x"
    if what == "file":
        path.touch()
    with pytest.raises(OSError, match="x"):
        locks.share_directory(path, 0)


@pytest.mark.parametrize("what", ["folder", "file", "missing", "link"])
def test_whoever_holds_a_path_alone_is_the_only_one(tmp_path, what):
    path = tmp_path / "held"
    if what == "folder":
        path.mkdir()
    elif what == "file":
        path.write_text("content")
    elif what == "link":
        (tmp_path / "target").mkdir()
        path.symlink_to("target")
    before = open_descriptors()
    with locks.hold_alone(path) as mine, locks.hold_alone(path) as other:
        assert (mine, other) == (True, False)
        opened = sorted(open_descriptors() - before, key=int)
        assert len(opened) == 2
        assert not any(is_inherited_by_programs(int(descriptor)) for descriptor in opened)
        assert not can_be_had(path, fcntl.LOCK_SH)
    assert can_be_had(path)
    if what == "missing":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    if what == "file":
        assert path.read_text() == "content"


def test_file_held_alone_is_private_from_the_start(tmp_path):
    old = os.umask(0)
    try:
        with locks.hold_alone(tmp_path / "new"):
            pass
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_path_held_alone_is_given_back_when_the_block_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), locks.hold_alone(tmp_path):
        raise ZeroDivisionError
    assert can_be_had(tmp_path)


@pytest.mark.parametrize("hold", [locks.hold_alone, locks.hold_folder_alone], ids=["path", "folder"])
def test_child_forked_meanwhile_does_not_go_on_holding(tmp_path, hold):
    reading, writing = os.pipe()
    with hold(tmp_path):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    try:
        assert can_be_had(tmp_path)
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)


@pytest.mark.parametrize("hold", [locks.hold_alone, locks.hold_folder_alone], ids=["path", "folder"])
def test_holding_alone_where_there_are_no_locks_is_an_error(tmp_path, monkeypatch, hold):
    monkeypatch.setattr(locks.fcntl, "flock", refuse(errno.ENOLCK))
    with pytest.raises(OSError, match="No locks") as caught, hold(tmp_path):
        raise AssertionError("begun without the lock")
    assert caught.value.errno == errno.ENOLCK


def test_folder_held_alone_is_the_only_holders_and_closed_to_programs(tmp_path):
    before = open_descriptors()
    with locks.hold_folder_alone(tmp_path) as mine, locks.hold_folder_alone(tmp_path) as other:
        assert (mine, other) == (True, False)
        assert not any(is_inherited_by_programs(int(one)) for one in open_descriptors() - before)
    assert can_be_had(tmp_path)


@pytest.mark.parametrize("what", ["missing", "file", "link"])
def test_only_a_folder_that_is_there_is_held_as_one(tmp_path, what):
    path = tmp_path / "x"
    if what == "file":
        path.touch()
    elif what == "link":
        path.symlink_to(tmp_path)
    with pytest.raises(OSError, match="x"), locks.hold_folder_alone(path):
        raise AssertionError("begun without the lock")
    assert path.exists() == (what != "missing")


def test_writer_holds_the_file_itself_and_keeps_it_from_children(tmp_path):
    path = tmp_path / "data"
    path.touch()
    with locks.hold_to_write(path):
        (descriptor,) = locks._owned
        assert os.path.samestat(os.fstat(descriptor), path.stat())
        assert not is_inherited_by_programs(descriptor)
        assert not can_be_had(path, fcntl.LOCK_SH)
    assert locks._owned == {}
    assert can_be_had(path)


def test_writer_whose_block_fails_gives_the_file_back(tmp_path):
    path = tmp_path / "data"
    path.touch()
    with pytest.raises(ZeroDivisionError), locks.hold_to_write(path):
        raise ZeroDivisionError
    assert locks._owned == {}
    assert can_be_had(path)


def test_writer_whose_lock_fails_for_another_reason_is_told_and_leaves_nothing_open(tmp_path, monkeypatch):
    path = tmp_path / "data"
    path.touch()
    monkeypatch.setattr(locks.fcntl, "flock", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output"), locks.hold_to_write(path):
        raise AssertionError("begun without the lock")
    assert locks._owned == {}


def test_writer_waits_for_the_file(tmp_path):
    path, done = tmp_path / "data", []
    path.touch()

    def write():
        with locks.hold_to_write(path):
            done.append("written")

    with locks.hold_alone(path):
        writer = threading.Thread(target=write)
        writer.start()
        writer.join(0.05)
        assert done == []
    writer.join(60)
    assert done == ["written"]


@pytest.mark.parametrize("code", UNSUPPORTED)
def test_writer_where_there_are_no_locks_goes_on_without(tmp_path, monkeypatch, code):
    path, done = tmp_path / "data", []
    path.touch()
    monkeypatch.setattr(locks.fcntl, "flock", refuse(code))
    with locks.hold_to_write(path):
        done.append(code)
    assert done == [code]
    assert locks._owned == {}


def test_writer_of_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError), locks.hold_to_write(tmp_path / "data"):
        raise AssertionError("begun without the lock")


def test_inherited_locks_are_closed_all_of_them_and_forgotten(tmp_path, monkeypatch):
    one, two, gone = (os.open(tmp_path, os.O_RDONLY) for _ in range(3))
    os.close(gone)
    monkeypatch.setattr(locks, "_owned", {one: None, gone: None, two: None})
    locks.let_go_inherited()
    assert locks._owned == {}
    for descriptor in (one, two):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_block_that_ends_in_a_child_closes_nothing_of_the_childs(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with locks.owned(descriptor):
        locks.let_go_inherited()
        mine = os.open(tmp_path, os.O_RDONLY)
        assert mine == descriptor, "the number is given again"
    os.fstat(mine)
    os.close(mine)


def test_owned_lock_is_given_up_where_a_child_holds_a_copy(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    copy = os.dup(descriptor)
    with locks.owned(descriptor):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert can_be_had(tmp_path)
    os.close(copy)

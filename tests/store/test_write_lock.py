"""The lock that writers wait at: the kernel's own, so that whoever is killed in the queue leaves nobody behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cas.lmdbenv import DATA_FILE, LOCK_FILE, environment, locks
from tests.store.stores import commit

ROOT = Path(__file__).parents[2]
WAIT_S = 60
WRITER = """
import sys
from pathlib import Path
from tests.store.stores import commit, open_store

with open_store(Path(sys.argv[1])) as store:
    print("open", flush=True)
    sys.stdin.readline()
    commit(store, sys.argv[2])
"""
OPENER = """
import sys
from pathlib import Path
from tests.store.stores import open_store

print("begun", flush=True)
open_store(Path(sys.argv[1])).close()
"""
# Where LMDB 0.9 keeps its write mutex: in the second cache line of the lock file. The bit by which somebody sleeping is
# told, as the kernel's documentation of robust futexes has it.
WRITE_MUTEX_AT = 64
WAITERS_BIT = 0x80000000


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def waiting_count(data_path):
    """Return how many wait for the lock on a file, as the kernel lists them (proc(5), /proc/locks)."""
    inode = str(data_path.stat().st_ino)
    lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return sum(" -> FLOCK " in line and line.split()[6].endswith(":" + inode) for line in lines)


def wait_until(holds):
    deadline_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.fixture
def data_path(store):
    return store.environment.directory / DATA_FILE


@pytest.fixture
def processes():
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(ended(start(*arguments)))


@contextlib.contextmanager
def ended(process):
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_writers_sleep_where_the_kernel_wakes_them_and_not_at_lmdbs_mutex(store, data_path, processes):
    writers = [processes(WRITER, data_path.parents[1], f"w{number}") for number in range(3)]
    for writer in writers:
        assert writer.stdout.readline() == "open\n"
    with store.environment.write():
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        opener = processes(OPENER, data_path.parents[1])
        wait_until(lambda: waiting_count(data_path) == 4)
        head = (data_path.parent / LOCK_FILE).read_bytes()
        mutex = int.from_bytes(head[WRITE_MUTEX_AT : WRITE_MUTEX_AT + 4], "little")
        assert mutex, "the write transaction holds it"
        assert not mutex & WAITERS_BIT
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait()
    assert [each.wait(WAIT_S) for each in [*writers[1:], opener]] == [0, 0, 0]
    assert [store.get_artifact_by_correlation_id(f"w{number}") is None for number in range(3)] == [
        True,
        False,
        False,
    ]


def test_lock_is_given_back_after_a_refused_write(store, data_path):
    with pytest.raises(KeyError), store.environment.write():
        raise KeyError
    with locks.hold_alone(data_path) as is_alone:
        assert is_alone
    assert commit(store)["success"]


def test_file_system_without_such_locks_commits(store, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "no locks here")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with store.environment.write() as transaction:
        assert transaction.is_stored is None


def test_lock_that_cannot_be_had_for_another_reason_is_told(data_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(locks.fcntl, "flock", fail)
    with pytest.raises(OSError, match="broken"), locks.hold_to_write(data_path):
        raise AssertionError("begun without the lock")


def test_child_forked_beside_a_writer_does_not_hold_its_lock(store, data_path, monkeypatch):
    monkeypatch.setattr(environment, "_FORK_WAIT_S", 0.05)
    begun, over = threading.Event(), threading.Event()

    def write():
        with store.environment.write():
            begun.set()
            over.wait(WAIT_S)

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(WAIT_S)
    (held,) = locks._owned
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.fstat(held)
            os.write(writing, b"held")
        except OSError as error:
            os.write(writing, str(error.errno).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == str(errno.EBADF).encode()
    os.close(reading)
    os.close(writing)
    with data_path.open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    over.set()
    writer.join()
    assert locks._owned == {}


def test_child_forked_inside_the_writers_own_thread_leaves_the_lock_to_its_parent(data_path):
    def fork_inside():
        with locks.hold_to_write(data_path):
            child = os.fork()
            if child == 0:
                return  # leaves the block as well
            assert os.waitpid(child, 0)[1] == 0
            with locks.hold_alone(data_path) as is_alone:
                assert not is_alone

    parent = os.getpid()
    code = 1
    try:
        fork_inside()
        code = len(locks._owned)
    finally:
        if os.getpid() != parent:
            os._exit(code)
    assert code == 0


def test_child_forked_while_a_thread_waits_does_not_share_what_it_waits_for(data_path):
    """Or it would hold the lock for as long as it lives, once the parent has got it and was killed."""
    over, had = threading.Event(), threading.Event()

    def wait():
        with locks.hold_to_write(data_path):
            had.set()
            over.wait(WAIT_S)

    waiter = threading.Thread(target=wait)
    reading, writing = os.pipe()
    with locks.hold_to_write(data_path):
        waiter.start()
        wait_until(lambda: waiting_count(data_path) == 1)
        child = os.fork()
        if child == 0:
            try:
                open_files = list(Path("/proc/self/fd").iterdir())
                held = [path for path in open_files if path.exists() and path.samefile(data_path)]
                os.write(writing, repr(held).encode())
            finally:
                os._exit(0)
    assert had.wait(WAIT_S)
    os.waitpid(child, 0)
    over.set()
    waiter.join()
    assert os.read(reading, 1000) == b"[]"
    os.close(reading)
    os.close(writing)


def test_one_thread_may_write_to_two_stores_at_once(tmp_path):
    paths = [tmp_path / "one", tmp_path / "two"]
    for path in paths:
        path.touch()
    with locks.hold_to_write(paths[0]):
        with locks.hold_to_write(paths[1]):
            assert len(locks._owned) == 2
        with locks.hold_alone(paths[0]) as is_alone:
            assert not is_alone
        with locks.hold_alone(paths[1]) as is_alone:
            assert is_alone
    assert locks._owned == {}

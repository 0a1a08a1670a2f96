"""Refs moved while others are at work on them: contests with a living git, kills at every step, locks waited for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from cas.errors import ConflictError, GitCommandFailedError
from cas.objects import Person, commit_bytes, object_id
from cas.testing.faults import wrapped_call
from gitexport.git import GitOptions
from gitexport.reflocks import JOURNAL_NAME
from gitexport.refs import RefChange, read_refs, update_refs
from gitexport.repository import GitRepository
from tests.gitexport.refplaces import BRANCH, CLEAN, commit, git, leftovers, values

ROOT = Path(__file__).parents[2]


def test_lock_of_another_program_is_waited_for_and_never_removed(repo):
    oid = commit(repo.path)
    locks = [repo.common_dir / "refs" / "heads" / "ai.lock", repo.common_dir / "refs" / "tags" / "t.lock"]
    for lock in locks:
        lock.touch()
    with pytest.raises(GitCommandFailedError) as caught:
        update_refs(repo, [RefChange("refs/tags/t", None, oid), RefChange(BRANCH, None, oid)])
    assert (caught.value.kind, caught.value.retryable) == ("ref_locked", True)
    assert caught.value.subject in map(str, locks)
    assert caught.value.hint
    assert all(lock.exists() for lock in locks)
    assert values(repo) == {}


class Contest:
    """Somebody using git on the same branches, and a record of who moved what with success."""

    def __init__(self, repo, names):
        self.repo = repo
        self.names = names
        self.moved = {"ours": [], "git": []}
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.move), threading.Thread(target=self.pack)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *args):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def move(self):
        number = 0
        while not self.stop.is_set():
            number += 1
            name = self.names[number % len(self.names)]
            old = git(self.repo.path, "rev-parse", name)
            new = commit(self.repo.path, f"git {number}", old)
            if git(self.repo.path, "update-ref", name, new, old, check=False) == 0:
                self.moved["git"].append((name, new))

    def pack(self):
        while not self.stop.is_set():
            git(self.repo.path, "pack-refs", "--all", "--prune", check=False)

    def lost(self):
        chains = {name: set(git(self.repo.path, "rev-list", name).split()) for name in self.names}
        return [
            (who, oid) for who, moves in self.moved.items() for name, oid in moves if oid not in chains[name]
        ]


def quick_commit(repo, parent, number):
    """Write a child commit without starting git, to be quick enough to win races against it."""
    tree = object_id("tree", b"")
    data = commit_bytes(tree, [bytes.fromhex(parent)], Person("a", "a@example.com"), number, f"ours {number}")
    oid = object_id("commit", data).hex()
    path = repo.common_dir / "objects" / oid[:2] / oid[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zlib.compress(b"commit %d\0" % len(data) + data))
    return oid


def contend(repo, moves_count):
    """Move two branches again and again while git moves and packs them as well; nothing may be lost."""
    start = commit(repo.path, "start")
    names = ["refs/heads/shared/a", "refs/heads/shared/b"]
    update_refs(repo, [RefChange(name, None, start) for name in names])
    with Contest(repo, names) as contest:
        for number in range(moves_count):
            name = names[number % 2]
            old = read_refs(repo, names)[name]
            new = quick_commit(repo, old, number)
            with contextlib.suppress(ConflictError, GitCommandFailedError):
                update_refs(repo, [RefChange(name, old, new)])
                contest.moved["ours"].append((name, new))
    assert contest.lost() == []
    assert contest.moved["git"]
    assert contest.moved["ours"]
    assert repo.fsck_strict() == ()
    assert leftovers(repo) == []


def test_increments_by_git_and_by_us_are_never_lost(repo):
    contend(repo, 120)


KILLED = """
import os, signal, sys
from pathlib import Path
from gitexport.refs import RefChange, update_refs
from gitexport.repository import GitRepository
path, oid, step = sys.argv[1], sys.argv[2], int(sys.argv[3])
repo = GitRepository.open(Path(path))
changes = [RefChange(f"refs/tags/t{n}", None, oid) for n in range(100)]
changes.append(RefChange("refs/heads/ai/generated/w/t", None, oid))
count = 0
def hook(event, args):
    global count
    if event in ("open", "os.rename", "os.remove") and str(path) in str(args[0]):
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
update_refs(repo, changes)
print(count)
"""


def run_killed(repo, oid, step):
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(repo.path), oid, str(step)],
        env=CLEAN
        | {"PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)])},
        capture_output=True,
        check=False,
        timeout=60,
        text=True,
    )


def test_killed_anywhere_moves_all_refs_or_none_and_the_next_run_completes(tmp_path):
    whole = GitRepository.create_bare(tmp_path / "whole")
    finished = run_killed(whole, commit(whole.path), -1)
    assert finished.returncode == 0, finished.stderr
    steps = int(finished.stdout)
    assert steps >= 5
    for step in range(1, steps + 1):
        repo = GitRepository.create_bare(tmp_path / f"killed{step}")
        oid = commit(repo.path)
        assert run_killed(repo, oid, step).returncode == -9
        assert len(values(repo)) in (0, 101)
        again = [RefChange(f"refs/tags/t{n}", None, oid) for n in range(100)]
        update_refs(repo, [*again, RefChange(BRANCH, None, oid)])
        assert len(values(repo)) == 101
        assert leftovers(repo) == []
        assert repo.fsck_strict() == ()


def test_journal_stays_while_a_lock_of_a_git_that_ran_out_of_time_is_not_settled(repo):
    oid = commit(repo.path)
    names = [f"refs/heads/w/t{number}" for number in range(3)]
    repo.update_refs([RefChange(name, None, oid) for name in names])
    foreign = repo.common_dir / f"{names[-1]}.lock"
    foreign.write_text(f"{oid}\n")
    patient, repo.options = repo.options, GitOptions(timeout_s=0.5)
    moves = [RefChange(name, oid, None) for name in names] + [RefChange("refs/worktree/own", None, oid)]
    with pytest.raises(GitCommandFailedError) as caught:
        update_refs(repo, moves)
    assert caught.value.kind == "git_timeout"
    repo.options = patient
    foreign.unlink()
    locks = list(repo.common_dir.rglob("*.lock"))
    assert locks
    for lock in locks:
        os.utime(lock, (1, 1))
    update_refs(repo, moves)
    assert values(repo) == {"refs/worktree/own": oid}
    assert leftovers(repo) == []


def test_git_killed_by_the_time_limit_leaves_no_lock_that_blocks_the_next_run(repo):
    oid, new = commit(repo.path, "1"), commit(repo.path, "2")
    names = [f"refs/heads/w/t{number}" for number in range(300)]
    repo.update_refs([RefChange(name, None, oid) for name in names])
    # git locks in the order of names, and waits for the last of them longer than it is given: however slow or quick
    # the machine is, it is killed inside its transaction.
    foreign = repo.common_dir / f"{max(names)}.lock"
    foreign.write_text(f"{oid}\n")
    patient, repo.options = repo.options, GitOptions(timeout_s=0.5)
    # a ref of one work tree in the batch sends it through git
    own = "refs/worktree/own"
    moves = [
        *(RefChange(name, oid, new) for name in names[1:]),
        RefChange(names[0], oid, None),
        RefChange(own, None, oid),
    ]
    with pytest.raises(GitCommandFailedError) as caught:
        update_refs(repo, moves)
    # On a slow machine it dies while it makes a lock; an empty one is settled after a minute.
    assert caught.value.kind in {"git_timeout", "ref_locked"}
    repo.options = patient
    assert values(repo) == dict.fromkeys(names, oid)
    assert foreign.exists()
    foreign.unlink()
    for lock in repo.common_dir.rglob("*.lock"):
        assert not lock.read_bytes(), lock
        os.utime(lock, (1, 1))
    update_refs(repo, moves)
    assert values(repo) == {**dict.fromkeys(names[1:], new), own: oid}
    assert leftovers(repo) == []


def kill_child_git(verb, once):
    """Kill a git of this process once a moment has come, as the system does when memory runs out."""
    ended = threading.Event()

    def look():
        while not ended.wait(0.001):
            if not once():
                continue
            for listed in Path("/proc/self/task").glob("*/children"):
                for number in listed.read_text().split():
                    if verb.encode() in Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0"):
                        os.kill(int(number), signal.SIGKILL)
                        return

    thread = threading.Thread(target=look)
    thread.start()
    return ended, thread


def age(*paths):
    for path in paths:
        os.utime(path, (1, 1))


def test_git_that_the_system_kills_in_its_transaction_blocks_no_later_run(repo):
    oid, new = commit(repo.path, "1"), commit(repo.path, "2")
    names = [f"refs/heads/w/t{number}" for number in range(9)]
    repo.update_refs([RefChange(name, None, oid) for name in names])
    foreign = repo.common_dir / f"{names[-1]}.lock"  # git waits for it, with all others locked
    foreign.write_text(f"{oid}\n")
    moves = [*(RefChange(name, oid, new) for name in names), RefChange("refs/worktree/own", None, oid)]
    ended, thread = kill_child_git("update-ref", (repo.common_dir / f"{names[-2]}.lock").exists)
    with pytest.raises(GitCommandFailedError) as caught:
        update_refs(repo, moves)
    ended.set()
    thread.join()
    assert caught.value.kind == "git_killed"
    assert caught.value.retryable
    foreign.unlink()
    age(*repo.common_dir.rglob("*.lock"))
    update_refs(repo, moves)
    assert values(repo) == {**dict.fromkeys(names, new), "refs/worktree/own": oid}
    assert leftovers(repo) == []


@contextlib.contextmanager
def held_up_in_pack_refs(repo, oid):
    """Let a ``git pack-refs`` of the product come to this object, and no further, with its files open.

    To write a ref down it reads what the ref points at, which is a pipe meanwhile that nobody writes to.
    """
    path = repo.common_dir / "objects" / oid[:2] / oid[2:]
    aside = path.with_name("aside")

    def hold_up():
        path.rename(aside)
        os.mkfifo(path)

    with wrapped_call(GitRepository, "pack_refs", before=hold_up, after=lambda: None):
        yield
    aside.replace(path)


def test_git_that_the_system_kills_while_it_packs_refs_blocks_no_later_run(repo):
    oid, new = commit(repo.path, "1"), commit(repo.path, "2")
    names = [f"refs/heads/w/t{number:02}" for number in range(60)]
    repo.update_refs([RefChange(name, None, oid) for name in names])
    moves = [RefChange(name, oid, new) for name in names]
    lock, written = repo.common_dir / "packed-refs.lock", repo.common_dir / "packed-refs.new"
    ended, thread = kill_child_git("pack-refs", written.exists)
    with held_up_in_pack_refs(repo, oid), pytest.raises(GitCommandFailedError) as caught:
        update_refs(repo, moves)
    ended.set()
    thread.join()
    assert caught.value.kind == "git_killed"
    with pytest.raises(
        GitCommandFailedError
    ) as caught:  # it may be another git's lock until it is a minute old
        update_refs(repo, moves)
    assert caught.value.kind == "ref_locked"
    age(lock, written, repo.common_dir / JOURNAL_NAME)
    update_refs(repo, moves)
    assert read_refs(repo, names) == dict.fromkeys(names, new)
    assert leftovers(repo) == []

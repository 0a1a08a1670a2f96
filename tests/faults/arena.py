"""Writers that are killed at any moment, as children of one process that reads what they acknowledge.

Run as a script: arena.py DISK WRITERS THREADS KILLS SEED [VARIANT]; prints one line of JSON: promises, kills, and how
many transactions were committed by one process for another. A promise is a line in a pipe, which outlives its writer.
Invariant: only children made here are killed, and always by SIGKILL. Writers from whom nothing comes for a while stand
still: then the arena ends as failed, and tells which of them live, what they wait for, and where each thread is.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import resource
import select
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from cas import groupcommit
from cas.groupcommit import GroupCommit
from tests.faults.workload import content, open_store, shrink_steps

# A commit takes milliseconds, and some seconds where sixteen writers share a busy processor.
SILENCE_S = 90


def write_for_ever(disk, pipe, name, threads_count, seed):
    """Commit until killed; every line tells of one run that is stored, or of a failure."""
    with open_store(disk) as store:

        def work(thread):
            rng = random.Random(f"{seed} {name} {thread}")
            number = 0
            while True:
                correlation_id = f"{name}-{thread}-{number}"
                files = {"a.csv": content(rng, rng.randrange(100, 3000)), "same": b"the same in all"}
                if number % 17 == 16:
                    files["large.csv"] = content(rng, 100_000)
                try:
                    done = store.commit_artifacts(
                        "wf", f"t{number % 3}", files, correlation_id=correlation_id
                    )
                    line = {
                        "id": correlation_id,
                        "sha": done["commit_sha"],
                        "relayed": store.commit_queue.relayed_count,
                    }
                except Exception as error:  # noqa: BLE001  told to the parent, whatever it is
                    line = {"failed": f"{type(error).__name__}: {error}"}
                os.write(pipe, json.dumps(line).encode() + b"\n")
                number += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(threads_count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def answer_too_early():
    """Answer another process's post before the flush, and end now and then in between."""
    real = GroupCommit._do_posts
    rng = random.Random(os.getpid())

    def done(self, turn, transaction):
        answers = real(self, turn, transaction)
        for name, answer in answers:
            turn.reply(name, answer)
        if answers and rng.random() < 0.2:
            os.kill(os.getpid(), signal.SIGKILL)
        return []

    GroupCommit._do_posts = done


def describe(process_id):
    """Return what the threads of a process do in the kernel, and what it waits for among its locks."""
    told = []
    with contextlib.suppress(OSError):  # ended meanwhile
        for task in Path(f"/proc/{process_id}/task").iterdir():
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            told.append(f"thread {task.name} {state} in {(task / 'wchan').read_text() or '?'}")
    locks = Path("/proc/locks").read_text().splitlines()
    return "; ".join(told + [line for line in locks if str(process_id) in line.split()])


def end_aloud(child):
    """Let a writer print its stacks and end; return the signal that it took."""
    for number in (signal.SIGABRT, signal.SIGKILL):
        os.kill(child, number)
        for _ in range(50):
            if os.waitpid(child, os.WNOHANG)[0]:
                return number.name
            time.sleep(0.1)
    return "nothing"


class Arena:
    """The writers that are alive, and what all of them promised."""

    def __init__(self, disk, threads_count, seed, variant):
        self._disk, self._threads_count, self._seed, self._variant = disk, threads_count, seed, variant
        self._reading, self._writing = os.pipe()
        self._rest = b""
        self._started_count = 0
        self.children = []
        self.promises = []
        self.failures = []
        self.relayed = {}

    def start(self):
        name = f"w{self._started_count}"
        self._started_count += 1
        child = os.fork()
        if child == 0:
            try:
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                faulthandler.enable()
                shrink_steps()
                if self._variant:
                    answer_too_early()
                if self._variant or self._started_count % 4:
                    groupcommit.RELAY_FLUSH_S = 0.0  # as on a slow disk; the others commit for themselves
                write_for_ever(self._disk, self._writing, name, self._threads_count, self._seed)
            except BaseException:  # noqa: BLE001  told before the end
                traceback.print_exc()
            finally:
                os._exit(1)
        self.children.append(child)

    def read(self, lines_count):
        """Take in so many lines, as they come."""
        silent_s = 0
        while lines_count > 0:
            if select.select([self._reading], [], [], 1)[0]:
                silent_s = 0
                lines_count -= self._take(os.read(self._reading, 65536))
                continue
            silent_s += 1
            if silent_s >= SILENCE_S:
                sys.exit(f"nothing came for {silent_s} s\n{self._tell()}")
            self.reap()

    def _take(self, chunk):
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "failed" in told:
                self.failures.append(told["failed"])
            else:
                self.promises.append([told["id"], told["sha"]])
                self.relayed[told["id"].partition("-")[0]] = told["relayed"]  # its last word counts
        return len(lines)

    def _tell(self):
        """End the writers; return what each was doing. Their stacks go to standard error."""
        return "".join([f"writer {child}: {describe(child)}\n" for child in self.children]) + "".join(
            [f"writer {child} was ended by {end_aloud(child)}\n" for child in self.children]
        )

    def kill(self, child):
        self.children.remove(child)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    def reap(self):
        """Replace writers that ended by themselves."""
        for child in list(self.children):
            if os.waitpid(child, os.WNOHANG)[0]:
                self.children.remove(child)
                self.start()

    def end(self):
        while self.children:
            self.kill(self.children[0])
        os.close(self._writing)
        while chunk := os.read(self._reading, 65536):
            self._take(chunk)


def main(disk, writers, threads, kills, seed, variant=""):
    rng = random.Random(seed)
    shrink_steps()
    open_store(disk).close()
    arena = Arena(Path(disk), int(threads), seed, variant)
    for _ in range(int(writers)):
        arena.start()
    for _ in range(int(kills)):
        arena.read(rng.randrange(1, 12))
        arena.kill(rng.choice(arena.children))
        arena.start()
        arena.reap()
    arena.end()
    result = {
        "promises": arena.promises,
        "failures": arena.failures,
        "writers": arena._started_count,
        "relayed": sum(arena.relayed.values()),
    }
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])

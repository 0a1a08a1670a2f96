"""A process that exports, or rolls up, in children of its own and kills each before a chosen step; driven by JSON.

A step is a moment at which the disk or a git process may change: opening, writing, syncing, linking, renaming or
removing a file, starting a process, committing a transaction of the store. They are counted through audit hooks and
wrappers, so nothing in the product knows of it. Each answer says whether the child was killed or came to its end.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import git.cmd  # noqa: F401  loaded once, so that a child costs only its export

from cas import ArtifactStore, ArtifactStoreConfig, outbox
from cas.lmdbenv import environment as environments
from gitexport import Exporter, archive_branches, batch

_RANDOM = re.compile(r"_?[0-9a-f]{16,}")
_EVENTS = {"os.rename", "os.link", "os.remove", "os.mkdir", "open", "subprocess.Popen"}


class Countdown:
    """Kills the process before its step number ``left``."""

    def __init__(self, left, folders):
        self.left = left
        self.folders = folders
        self.armed = False

    def step(self, label):
        if not self.armed:
            return
        if self.left == 0:
            self.armed = False
            Path(self.folders[0], "killed-before.txt").write_text(label)
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def hear(self, event, words):
        if event not in _EVENTS:
            return
        if event != "subprocess.Popen" and not str(words[0]).startswith(self.folders):
            return
        if event == "open" and not words[2] & os.O_CREAT:
            return
        name = "" if event == "subprocess.Popen" else f" {_RANDOM.sub('', Path(str(words[0])).name)}"
        self.step(event + name)

    def wrap(self, owner, name):
        inner = getattr(owner, name)

        def counted(*words, **settings):
            self.step(name)
            return inner(*words, **settings)

        setattr(owner, name, counted)


def receive_early():
    """Write the receipts of a batch before it is written: what the kills must not let pass."""
    real = batch.write_batch

    def write_batch(environment, repository, plan, **settings):
        with environment.write() as transaction:
            outbox.record_exported(transaction, [entry.sequence for entry in plan.write], 1)
        return real(environment, repository, plan, **settings)

    batch.write_batch = write_batch


def export(order):
    """Run one export or roll-up; the last thing a child does."""
    if order.get("broken"):
        receive_early()
    countdown = Countdown(order["step"], tuple(order["folders"]))
    for name in ("fsync", "writev", "pwrite"):
        countdown.wrap(os, name)
    sys.addaudithook(countdown.hear)
    committing = environments.Environment.write

    def write(environment, *words, **settings):
        countdown.step("transaction")
        return committing(environment, *words, **settings)

    environments.Environment.write = write
    config = ArtifactStoreConfig(**order["config"])
    with ArtifactStore(config, create=False) as store:
        countdown.armed = True
        if order["archive"] is None:
            Exporter(store).run(**order["run"])
        else:
            archive_branches(store, **order["archive"])
        countdown.armed = False


def main():
    """Answer orders until the input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                export(order)
            except BaseException as error:  # noqa: BLE001  told to the test
                Path(order["folders"][0], "killer-error.txt").write_text(repr(error))
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        answer = {"killed": os.WIFSIGNALED(status), "code": os.waitstatus_to_exitcode(status)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

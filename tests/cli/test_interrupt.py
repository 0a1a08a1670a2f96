"""Ctrl-C in the middle of long work: a real process, a real signal, and nothing half-done after it.

The process sends the signal to itself, at a chosen system call that an audit hook sees; so no test depends on time.
"""

import subprocess
import sys

import pytest

from tests.store.stores import open_store

PROGRAM = """
import os, signal, sys
from cli.app import main

event, part, *words = sys.argv[1:]
seen = []

def hook(name, arguments):
    if name == event and part in str(arguments) and not seen:
        seen.append(name)
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(hook)
code = main(words)
sys.exit(code if seen else "the system call was not seen")
"""


@pytest.fixture
def interrupted(place):
    """Runs a command that is interrupted at a system call whose arguments hold a text."""

    def interrupt(event, part, *words):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, event, part, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 130, done.stderr
        assert done.stderr.splitlines()[-1] == "error: interrupted"

    return interrupt


def fill(place, run_count, file_count=2):
    with open_store(place, durability="relaxed", git_reader=None) as store:
        for number in range(run_count):
            files = {f"f{index}.csv": b"%d,%d\n" % (number, index) for index in range(file_count)}
            store.commit_artifacts("wf", f"t{number}", files, correlation_id=f"r{number}")


def test_interrupted_commit_stores_nothing_and_can_be_made_again(store, place, interrupted):
    for number in range(50):
        (place / f"f{number:02}.csv").write_text(f"{number}\n")
    names = [f"f{number:02}.csv" for number in range(50)]
    words = ("commit", "-w", "wf", "-t", "t", "-c", "many", *names)
    interrupted("open", "f25.csv", *words)
    assert store.ok("list", "--json").json["runs"] == []
    store.ok("verify", "--full")
    assert store.ok(*words, "--json").json["revision"] == 1


@pytest.mark.parametrize("part", [".pack", ".idx", "packed-refs"])
def test_interrupted_export_moves_all_refs_or_none_and_ends_the_same_when_run_again(
    store, place, interrupted, git, part
):
    fill(place, 20)
    git("init", "-q")
    interrupted("os.rename", part, "export", "--no-push")
    assert len(git("for-each-ref").splitlines()) in {0, 40}
    git("fsck", "--strict")
    store.ok("export", "--no-push")
    store.ok("export", "verify")
    assert len(git("for-each-ref").splitlines()) == 40
    assert not list((place / ".git" / "objects" / "pack").glob("*.keep"))


def test_interrupted_checkout_leaves_no_folder(store, place, interrupted):
    fill(place, 1, file_count=50)
    before = sorted(place.iterdir())
    interrupted("open", "f25.csv", "checkout", "latest", "out")
    assert sorted(place.iterdir()) == before
    assert "wrote 51 files" in store.ok("checkout", "latest", "out").out


def test_interrupted_import_takes_over_branches_whole_and_goes_on_when_run_again(
    store, place, interrupted, git
):
    fill(place, 5)
    git("init", "-q")
    store.ok("export", "--no-push")
    store.ok("init", "--store", "other")
    words = ("import", "--store", "other")
    interrupted("subprocess.Popen", "cat-file", *words)
    store.ok("verify", "--store", "other")
    store.ok(*words)
    assert store.ok("list", "--store", "other", "--json").json["count"] == 5
    store.ok("export", "verify", "--store", "other")


@pytest.mark.parametrize("event", ["os.mkdir", "os.chmod"])
def test_interrupted_restore_leaves_no_store(store, place, interrupted, event):
    fill(place, 3)
    store.ok("backup", "kept")
    before = sorted(place.iterdir())
    interrupted(event, "again", "restore", "kept", "--store", "again")
    assert sorted(place.iterdir()) == before
    store.ok("restore", "kept", "--store", "again")


@pytest.mark.parametrize("event", ["os.mkdir", "os.chmod"])
def test_interrupted_backup_leaves_no_folder(store, place, interrupted, event):
    fill(place, 3)
    before = sorted(place.iterdir())
    interrupted(event, "copy", "backup", "copy")
    assert sorted(place.iterdir()) == before
    store.ok("backup", "copy")

"""Ctrl-C in the middle of long work: a real process, a real signal, and nothing half-done after it."""

import random
import signal
import subprocess
from pathlib import Path

import pytest

from tests.store.stores import open_store

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks at open files below /proc")


@pytest.fixture
def interrupted(spawn):
    """Starts a command, interrupts it as soon as it is amid its work, and returns what it said."""

    def interrupt(is_amid, *words):
        process = spawn(*words)
        while process.poll() is None and not is_amid(process):
            continue
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err.decode()
        assert err.decode().splitlines()[-1] == "error: interrupted"

    return interrupt


def has_open(process, path):
    try:
        return any(link.readlink() == path for link in Path(f"/proc/{process.pid}/fd").iterdir())
    except OSError:  # it ended, or closed that file, while we looked
        return False


def fill(place, run_count, file_count=2):
    with open_store(place, durability="relaxed", git_reader=None) as store:
        for number in range(run_count):
            files = {f"f{index}.csv": b"%d,%d\n" % (number, index) for index in range(file_count)}
            store.commit_artifacts("wf", f"t{number}", files, correlation_id=f"r{number}")


def test_interrupted_commit_stores_nothing_and_can_be_made_again(store, place, interrupted):
    path = place / "noise.bin"
    path.write_bytes(random.Random(1).randbytes(48 * 1024 * 1024))
    words = ("commit", "-w", "wf", "-t", "t", "-c", "big", "noise.bin")
    interrupted(lambda process: has_open(process, path), *words)
    assert store.ok("list", "--json").json["runs"] == []
    store.ok("verify", "--full")
    assert store.ok(*words, "--json").json["revision"] == 1


def test_interrupted_export_moves_all_refs_or_none_and_ends_the_same_when_run_again(
    store, place, interrupted, git
):
    fill(place, 250)
    git("init", "-q")
    packs = place / ".git" / "objects" / "pack"
    interrupted(lambda _: any(packs.iterdir()), "export", "--no-push")
    assert len(git("for-each-ref").splitlines()) in {0, 500}
    subprocess.run(["git", "fsck", "--strict"], check=True, capture_output=True)
    store.ok("export", "--no-push")
    store.ok("export", "verify")
    assert len(git("for-each-ref").splitlines()) == 500
    assert not list(packs.glob("*.keep"))


def test_interrupted_checkout_leaves_no_folder(store, place, interrupted):
    fill(place, 1, file_count=1000)
    before = sorted(place.iterdir())
    interrupted(
        lambda process: process.stderr.readline().startswith(b"files: 0"), "checkout", "latest", "out"
    )
    assert sorted(place.iterdir()) == before
    assert "wrote 1,001 files" in store.ok("checkout", "latest", "out").out


def test_interrupted_backup_leaves_no_folder(store, place, interrupted):
    fill(place, 100)
    before = sorted(place.iterdir())
    interrupted(lambda _: sorted(place.iterdir()) != before, "backup", "copy")
    assert sorted(place.iterdir()) == before
    store.ok("backup", "copy")

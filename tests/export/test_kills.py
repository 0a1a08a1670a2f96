"""Killed before every single step, and run again: the same ids, nothing lost, nothing doubled, nothing left behind."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cas import outbox
from cas.catalog import sequence_key
from cas.lmdbenv import Table
from cas.outbox import Stage
from gitexport import batch, writer
from gitexport.pack import PackReceipt, PackWriter
from tests.export.places import assert_sound, hook, leftovers, refs_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def killer():
    """Exports in another process that is killed before a given step; tells whether it was."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.export.killer"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:

        def kill(place, step, *, broken=False, archive=None, **settings):
            config = place.store.config
            order = {
                "step": step,
                "broken": broken,
                "folders": [str(place.path.parent)],
                "config": {
                    "repo_path": str(config.repo_path),
                    "store_path": str(config.store_path),
                    "scan_for_secrets": False,
                    "object_format": config.object_format,
                },
                "run": {"push": False} | settings,
                "archive": archive,
            }
            process.stdin.write(json.dumps(order) + "\n")
            answer = json.loads(process.stdout.readline())
            assert answer["code"] in {0, -9}, (place.path.parent / "killer-error.txt").read_text()
            if answer["killed"]:
                kill.moments.append((place.path.parent / "killed-before.txt").read_text())
            return answer["killed"]

        kill.moments = []

        yield kill
        process.stdin.close()


def entries(place, stage):
    with place.store.environment.read() as transaction:
        return outbox.count_entries(transaction, stage)


def object_counts(place):
    """Return how often each object lies in the packs of a repository."""
    counts = {}
    for index in (place.path / "objects" / "pack").glob("*.idx"):
        with index.open("rb") as file:
            listed = subprocess.run(
                ["git", "show-index"], cwd=place.path, stdin=file, capture_output=True, check=True, text=True
            ).stdout
        for line in listed.splitlines():
            oid = line.split()[1]
            counts[oid] = counts.get(oid, 0) + 1
    return counts


def kill_everywhere(place, killer, make_runs, **settings):
    """Make some runs, export them with a kill before step 0, run again; then more runs and step 1; and so on."""
    step = 0
    while True:
        made = make_runs(step)
        killed = killer(place, step, **settings)
        refs = place.refs()
        for result in made:  # a run is in git with branch and all tags, or with none of them
            there = [refs.get(f"refs/tags/{tag}") is not None for tag in result["tags"]]
            assert settings.get("loose") or len(set(there)) == 1, f"step {step}"
        if not killed:
            return step
        summary = place.export(**settings)
        assert summary.state == "done", f"step {step}: {summary}"
        assert entries(place, Stage.WRITE) == 0
        assert leftovers(place.path) == [], f"step {step}"
        step += 1


def follow_each_other(moments, *wanted):
    """Tell whether some moments stand behind each other among all at which an export was killed."""
    return any(moments[at : at + len(wanted)] == list(wanted) for at in range(len(moments)))


def test_export_killed_at_every_step_ends_the_same(place, killer):
    def make_runs(step):
        shared = {"shared.csv": b"the same in every run\n", "own.csv": f"{step}\n".encode()}
        return [
            place.commit(f"t{step}", f"a{step}", files=shared, prompt=f"prompt of {step}"),
            place.commit(f"t{step}", f"b{step}", files=shared | {"more.csv": b"1\n"}),
            place.commit(f"u{step % 3}", f"c{step}", files=shared),
        ]

    steps = kill_everywhere(place, killer, make_runs)
    assert steps > 20
    # Killed before and after the pack is renamed, its index, the refs, and before the receipts.
    assert follow_each_other(killer.moments, "os.rename cas_pack", "os.rename cas_idx", "fsync")
    assert follow_each_other(killer.moments, "fsync", "os.rename packed-refs.cas", "fsync")
    assert killer.moments[-2:] == ["os.remove pack-.keep", "transaction"]
    place.assert_exported()
    assert max(object_counts(place).values()) == 1


def test_receipts_before_the_refs_are_noticed_by_a_kill(place, killer):
    """An exporter that was broken on purpose: killed in between, it leaves runs that count as exported and are not."""

    def broken_killer(place, step, **settings):
        return killer(place, step, broken=True, **settings)

    def make_runs(step):
        return [place.commit(f"t{step}", f"a{step}")]

    def export_and_look():
        kill_everywhere(place, broken_killer, make_runs)
        place.assert_exported()

    with pytest.raises((AssertionError, KeyError)):
        export_and_look()


def test_export_onto_loose_refs_killed_at_every_step_ends_the_same(place, killer):
    place.commit("t", "first")
    place.export()
    place.git("pack-refs", "--all")
    branch = "refs/heads/ai/generated/wf/t"

    def make_runs(step):
        tip = place.git("rev-parse", branch)
        place.git("update-ref", "--no-deref", branch, tip, tip)
        (place.path / branch).parent.mkdir(parents=True, exist_ok=True)
        (place.path / branch).write_text(tip + "\n")
        return [place.commit("t", f"r{step}")]

    steps = kill_everywhere(place, killer, make_runs)
    assert steps > 10
    place.assert_exported()


def test_push_killed_at_every_step_ends_the_same(place, remote, killer):
    def make_runs(step):
        return [place.commit(f"t{step}", f"a{step}"), place.commit("t", f"b{step}")]

    steps = kill_everywhere(place, killer, make_runs, push=True)
    assert steps > 20
    # Killed after the receipts of the export, before and after git pushes.
    assert follow_each_other(killer.moments, "transaction", "subprocess.Popen")
    assert killer.moments[-3:] == ["open packed-refs", "subprocess.Popen", "transaction"]
    place.assert_exported()
    place.assert_exported(remote)
    assert {place.state(result)["export_state"] for result in place.promised.values()} == {"pushed"}


@pytest.mark.parametrize("ending", ["exit 0", "exit 1"])
def test_exporter_killed_while_the_remote_is_at_work_goes_on(place, remote, tmp_path, ending):
    """The git that pushes outlives the exporter; whatever it comes to, the next export finds out."""
    os.mkfifo(tmp_path / "begun")
    os.mkfifo(tmp_path / "over")
    hook(remote, "pre-receive", f"echo > {tmp_path}/begun; cat {tmp_path}/over; {ending}")
    runs = [place.commit(f"t{number}") for number in range(3)]
    script = (
        "import sys; from pathlib import Path\n"
        "from cas import ArtifactStore, ArtifactStoreConfig; from gitexport import Exporter\n"
        "repo_path, store_path = map(Path, sys.argv[1:])\n"
        "config = ArtifactStoreConfig(repo_path=repo_path, store_path=store_path, scan_for_secrets=False)\n"
        "with ArtifactStore(config, create=False) as store: Exporter(store).run(push=True)\n"
    )
    command = [sys.executable, "-c", script, place.path, place.store.config.store_path]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}) as exporter:
        (tmp_path / "begun").read_text()
        exporter.kill()
    assert [place.state(run)["export_state"] for run in runs] == ["exported"] * 3
    (view,) = place.path.glob("cas-push-*")
    orphan = os.open(view, os.O_RDONLY)
    place.export()
    assert view.exists()  # the living git needs it
    with (tmp_path / "over").open("w"):
        (remote / "hooks" / "pre-receive").unlink()
    summary = place.export(push=True)
    assert (summary.state, summary.parked) == ("done", 0)
    assert refs_of(remote) == place.refs()
    fcntl.flock(orphan, fcntl.LOCK_EX)  # until the orphaned git has ended
    os.close(orphan)
    place.export()
    place.assert_exported()


def test_rebuild_killed_at_every_step_ends_the_same(place, killer):
    for number in range(4):
        place.commit(f"t{number % 2}", prompt=f"p{number}")
    place.export()
    expected = place.refs()
    step = 0
    while True:
        for name in place.refs():
            place.git("update-ref", "-d", name)
        place.git("prune", "--expire=now")
        for path in (place.path / "objects" / "pack").glob("pack-*"):
            path.unlink()
        killed = killer(place, step, rebuild=True)
        assert place.export(rebuild=True).state == "done"
        assert refs_of(place.path) == expected
        assert_sound(place.path)
        if not killed:
            break
        step += 1
    assert step > 20


def test_gc_that_prunes_at_once_at_any_moment_takes_nothing(place, monkeypatch):
    """Another program's gc runs at one moment of an export, at the next moment of the next one, and so on."""
    moment = 0
    passed = 0

    def between(owner, name):
        inner = getattr(owner, name)

        def wrapped(*words, **settings):
            nonlocal passed
            if passed == moment:
                place.git("gc", "--quiet", "--prune=now")
            passed += 1
            return inner(*words, **settings)

        monkeypatch.setattr(owner, name, wrapped)

    place.commit(files={"shared.csv": b"1\n"})
    place.export()
    for owner, name in (
        (batch, "make_plan"),
        (writer, "_find_missing"),
        (PackWriter, "add_entries"),
        (PackWriter, "seal"),
        (PackWriter, "finish"),
        (writer, "update_refs"),
        (writer, "_secure"),
        (writer, "gc_is_running"),
        (PackReceipt, "release_keep"),
        (writer, "_prove"),
        (outbox, "record_exported"),
    ):
        between(owner, name)
    while passed >= moment:
        # Git has this object, no ref holds it, and the run shares it; to the store it looks exported.
        place.git("hash-object", "-w", "--stdin", stdin=f"loose {moment}\n")
        loose = {"loose.csv": f"loose {moment}\n".encode(), "shared.csv": b"1\n"}
        place.commit(f"u{moment}", files=loose)
        with place.store.environment.write() as transaction:
            transaction.put(Table.META, b"exported_segment", sequence_key(1 << 40))
        passed = 0
        summary = place.export()
        assert summary.state == "done", f"moment {moment}: {summary}"
        moment += 1
    assert moment > 10
    place.assert_exported()

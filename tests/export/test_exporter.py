"""What an export does: same ids, each object once, limits, selections, trials, other exporters, writers beside it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading

import pytest

from cas import (
    ArtifactStore,
    ArtifactStoreError,
    ConflictError,
    GitCommandFailedError,
    LeaseHeldError,
    NotFoundError,
    WaitTimeoutError,
    outbox,
)
from gitexport import Exporter, blobcopy, export_status, lease, verify_export, writer
from gitexport import exporter as exporters
from tests.export.places import CLEAN, assert_sound, run_git


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("bare", [True, False])
def test_export_makes_exactly_the_promised_commits(make_place, object_format, bare):
    place = make_place(object_format=object_format, bare=bare)
    for number in range(6):
        place.commit(f"t{number % 3}", prompt=f"prompt {number % 2}", test_metrics={"net_pnl": number})
    summary = place.export()
    assert (summary.state, summary.exported, summary.pending, summary.failures) == ("done", 6, 0, [])
    assert summary.refs == 3 + 6 + 2  # branches, correlation tags, prompt tags
    place.assert_exported()
    assert verify_export(place.store).ok


def test_export_with_nothing_queued_changes_nothing(place):
    place.commit()
    place.export()
    before = place.refs()
    summary = place.export()
    assert (summary.state, summary.exported, summary.refs, summary.objects) == ("done", 0, 0, 0)
    assert place.refs() == before


def test_second_export_does_not_write_known_blobs_again(place):
    big = bytes(range(256)) * 400
    place.commit(files={"a.bin": big})
    first = place.export()
    place.commit(files={"b.bin": big, "c.bin": b"new"})
    second = place.export()
    assert first.objects == 1 + 1 + 4 + 1 + 1  # blob, metadata.json, trees, commit, tag
    assert second.objects == 1 + 1 + 4 + 1 + 1
    place.assert_exported()


def test_blob_of_a_parked_run_is_written_with_the_next_run_that_has_it(place):
    place.git("update-ref", "refs/tags/corr_a", place.git("hash-object", "-w", "--stdin", stdin="x"))
    place.commit("t1", "a", files={"data.csv": b"of both\n"})
    place.commit("t2", "b", files={"other.csv": b"later\n"})
    place.export()
    result = place.commit("t3", "c", files={"data.csv": b"of both\n"})
    assert place.export().exported == 1
    shown = place.git("show", f"{result['commit_sha']}:Backtest/codes/t3/data.csv")
    assert shown == "of both"
    assert_sound(place.path)


def test_blob_of_many_parts_is_exported_whole(place, tmp_path):
    source = tmp_path / "ticks.bin"
    source.write_bytes(random.Random(1).randbytes(18 * 1024 * 1024))
    result = place.commit(files={"ticks.bin": source, "small.csv": b"1\n"})
    place.export()
    place.assert_exported()
    shown = subprocess.run(
        ["git", "-C", place.path, "cat-file", "blob", f"{result['commit_sha']}:Backtest/codes/t1/ticks.bin"],
        env=CLEAN,
        check=True,
        capture_output=True,
    ).stdout
    assert shown == source.read_bytes()
    assert verify_export(place.store).ok


@pytest.mark.parametrize("deposits", [True, False])
def test_pages_given_back_amid_a_batch_change_nothing(place, monkeypatch, deposits):
    released = []
    give_back = type(place.store.environment).release_pages
    monkeypatch.setattr(
        type(place.store.environment), "release_pages", lambda self: released.append(give_back(self))
    )
    for module in (blobcopy, writer):
        monkeypatch.setattr(module, "ROWS_PER_RELEASE", 2)
    for number in range(6):
        place.commit(f"t{number % 2}", files={f"f{file}": b"%d %d" % (number, file) for file in range(3)})
    if not deposits:
        with place.store.environment.write() as transaction:
            for sequence in range(1, 7):
                outbox.enqueue(transaction, sequence)
    assert place.export().state == "done"
    place.assert_exported()
    looked_up = 0 if deposits else 6  # run by run
    assert len(released) >= looked_up + 9  # while 18 blobs are copied, two at a time


def test_limit_exports_the_oldest_first_and_says_that_more_is_queued(place):
    results = [place.commit(f"t{number}") for number in range(5)]
    summary = place.export(limit=2)
    assert (summary.exported, summary.pending, summary.state) == (2, 3, "pending")
    assert [place.state(result)["export_state"] for result in results] == ["exported"] * 2 + ["queued"] * 3
    assert place.export().state == "done"
    place.assert_exported()


def test_batches_follow_each_other_within_a_branch(place, monkeypatch):
    monkeypatch.setattr(exporters, "BATCH_RUNS", 2)
    for _ in range(7):
        place.commit("one")
    told = []
    summary = place.export(progress=lambda *words: told.append(words))
    assert summary.exported == 7
    assert told == [("export", 2, 7), ("export", 4, 7), ("export", 6, 7), ("export", 7, 7)]
    place.assert_exported()


def test_only_exports_what_a_run_stands_on(place):
    below, wanted, above = (place.commit("t", name) for name in ("below", "wanted", "above"))
    other = place.commit("u", "other")
    summary = place.export(only=["wanted"])
    assert summary.exported == 2
    states = [place.state(result)["export_state"] for result in (below, wanted, above, other)]
    assert states == ["exported", "exported", "queued", "queued"]
    with pytest.raises(NotFoundError):
        place.export(only=["nobody"])


def test_dry_run_says_what_an_export_then_does(place, monkeypatch):
    monkeypatch.setattr(exporters, "BATCH_RUNS", 2)
    for number in range(5):
        place.commit("one" if number != 2 else "two")
    planned = place.export(dry_run=True)
    assert (planned.exported, planned.refs, planned.dry_run) == (5, 2 + 2 + 5, True)
    assert place.refs() == {}
    done = place.export()
    assert done.exported == planned.exported
    place.assert_exported()


def test_dry_run_changes_nothing_even_where_it_finds_damage(place):
    place.commit("t", "a")
    place.git("update-ref", "refs/tags/corr_a", place.git("hash-object", "-w", "--stdin", stdin="x"))
    summary = place.export(dry_run=True)
    assert len(summary.failures) == 1
    assert export_status(place.store)["queued"] == 1
    place.export()
    planned = place.export(dry_run=True, retry_parked=True)
    assert len(planned.failures) == 1
    assert export_status(place.store)["queued"] == 0


def test_child_forked_during_an_export_does_not_keep_the_lease(place):
    directory = place.store.environment.directory
    living, ending = os.pipe()
    with lease.hold(directory, 0):
        child = os.fork()
        if child == 0:
            os.close(ending)
            os.read(living, 1)
            os._exit(0)
    os.close(living)
    assert lease.holder(directory) is None
    assert place.export().state == "done"
    os.close(ending)
    os.waitpid(child, 0)


def test_lease_is_held_by_one_exporter_and_free_when_it_dies(place):
    place.commit()
    directory = place.store.environment.directory
    script = (
        "import sys, time; from pathlib import Path; from gitexport import lease\n"
        "with lease.hold(Path(sys.argv[1]), 0): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        assert str(holder.pid) in lease.holder(directory)
        with pytest.raises(LeaseHeldError, match=str(holder.pid)):
            place.export()
        assert export_status(place.store)["lease_holder"] is not None
        holder.kill()
        holder.wait()
    assert lease.holder(directory) is None
    assert place.export().state == "done"


def test_two_exporters_at_once_take_turns(place):
    for number in range(20):
        place.commit(f"t{number}")
    summaries = []
    threads = [threading.Thread(target=lambda: summaries.append(place.export(wait_s=None))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(summary.exported for summary in summaries) == [0, 0, 20]
    place.assert_exported()


def test_writers_commit_while_exports_run(place):
    stop = threading.Event()
    failures = []

    def write(name):
        count = 0
        while not stop.is_set() or count < 20:
            count += 1
            try:
                result = place.store.commit_artifacts(
                    "wf", name, {"a.csv": f"{name} {count}".encode(), "same.csv": b"s"}, {}, f"{name}_{count}"
                )
            except ArtifactStoreError as error:
                failures.append(error)
                return
            place.promised[result["commit_sha"]] = result

    threads = [threading.Thread(target=write, args=(f"w{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(6):
        place.export()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert place.export().state == "done"
    assert len(place.promised) >= 60
    place.assert_exported()


def test_wait_for_export_returns_when_another_thread_exported(place):
    result = place.commit()
    with pytest.raises(WaitTimeoutError):
        place.store.wait_for_export(result["correlation_id"], timeout=0.01, state="exported")
    thread = threading.Thread(target=place.export)
    thread.start()
    state = place.store.wait_for_export(result["correlation_id"], timeout=60, state="exported")
    thread.join()
    assert state["export_state"] == "exported"


def test_status_tells_queue_age_and_last_export(place, clock):
    assert export_status(place.store)["queued_age_s"] is None
    place.commit()
    clock.now_ns += 3_600_000_000_000
    status = export_status(place.store)
    assert status["queued"] == 1
    assert 3600 <= status["queued_age_s"] < 3610
    place.export()
    status = export_status(place.store)
    assert (status["queued"], status["awaiting_push"], status["parked"]) == (0, 1, [])
    assert status["last_export_at_us"] is not None
    assert status["last_push_at_us"] is None


def test_stop_ends_between_batches(place, monkeypatch):
    monkeypatch.setattr(exporters, "BATCH_RUNS", 2)
    for number in range(6):
        place.commit(f"t{number}")
    answers = iter([False, True])
    summary = place.export(should_stop=lambda: next(answers, True))
    assert (summary.exported, summary.pending, summary.stopped) == (2, 4, True)
    assert place.export().exported == 4


def test_repository_of_another_format_is_refused(make_place, tmp_path):
    place = make_place()
    place.commit()
    other = tmp_path / "other"
    run_git(tmp_path, "init", "--quiet", "--bare", "--object-format=sha256", str(other))
    with pytest.raises(ConflictError, match="sha256"):
        Exporter(place.store, repository=other).run()


def test_missing_repository_leaves_everything_queued(make_place, tmp_path):
    place = make_place()
    place.commit()
    with pytest.raises(GitCommandFailedError) as caught:
        Exporter(place.store, repository=tmp_path / "nowhere").run()
    assert caught.value.kind == "not_a_repository"
    assert export_status(place.store)["queued"] == 1


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_signed_commits_are_accepted_by_git(make_place, tmp_path, kind):
    pytest.importorskip("cryptography", reason="the extra sign is not installed")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key], check=True)
    place = make_place(git_signing_key=key)
    result = place.commit()
    place.commit()
    place.export()
    place.assert_exported()
    allowed = tmp_path / "allowed"
    allowed.write_text(f"algo-agent@example.com {key.with_suffix('.pub').read_text()}")
    place.git("-c", f"gpg.ssh.allowedSignersFile={allowed}", "verify-commit", result["commit_sha"])


def test_exporter_of_a_reopened_store_goes_on(place):
    place.commit("t")
    place.export()
    place.commit("t")
    config = place.store.config
    with ArtifactStore(config, create=False) as again:
        assert Exporter(again, repository=place.path).run(push=False).exported == 1
    place.assert_exported()

"""Pushing exported runs: the right state for each run whatever the remote does."""

from __future__ import annotations

import itertools
import os
import re
import sys
from pathlib import Path

import pytest

from cas import ConfigError
from cas.catalog import sequence_key
from cas.digest import digest_bytes
from cas.health import measures
from cas.lmdbenv import DATA_FILE, Table
from gitexport import Exporter, delivery, export_status, verify_export
from tests.export.places import hook, refs_of, run_git


def states(place, runs):
    return [place.state(run)["export_state"] for run in runs]


def sleeper():
    """Return a pause that returns at once; after a hundred of them something is wrong."""
    calls = itertools.count()

    def pause(_seconds):
        assert next(calls) < 100

    return pause


def mapped_kilobytes(path):
    """Return how much of a file this process has mapped in."""
    sizes = re.findall(
        rf"^[0-9a-f]+-.*{re.escape(str(path))}$\n(?:^\w+:.*$\n)*?^Rss: +(\d+) kB$",
        Path("/proc/self/smaps").read_text(),
        re.MULTILINE,
    )
    assert sizes
    return sum(map(int, sizes))


@pytest.fixture
def runs(place):
    return [place.commit(f"t{number % 3}", prompt=f"{number}") for number in range(6)]


def test_damaged_manifest_keeps_no_other_run_from_the_remote(place, remote):
    older = place.commit("t1", "older")
    place.commit("t1", "bad")
    place.commit("t2", "other")
    place.export()
    with place.store.environment.write() as transaction:
        _, (key, value), _ = transaction.scan(Table.MANIFESTS)
        transaction.put(Table.MANIFESTS, key, value[:-3] + b"xyz")
    summary = place.export(push=True)
    assert (summary.state, summary.pushed, summary.parked) == ("parked", 2, 1)
    assert summary.failures[0]["label"] == "manifest 2"
    expected = place.refs() | {f"refs/heads/{older['branch']}": older["commit_sha"]}
    del expected["refs/tags/corr_bad"]
    assert refs_of(remote) == expected
    (parked,) = export_status(place.store)["parked"]
    assert (parked["stage"], parked["reason"]) == ("push", summary.failures[0]["reason"])


def put(place, table, key, value):
    with place.store.environment.write() as transaction:
        assert transaction.get(table, key)
        transaction.put(table, key, value)


def test_blob_with_a_damaged_row_keeps_no_run_from_the_remote(place, remote):
    """git has its content already; the row only says how much there is to push."""
    place.commit("t1", "bad", files={"x": b"of this run alone"})
    place.commit("t2", "good")
    place.export()
    put(place, Table.BLOBS, digest_bytes(b"of this run alone"), b"garbage")
    assert place.export(push=True).pushed == 2
    assert refs_of(remote) == place.refs()


def test_damaged_receipt_parks_its_run_and_keeps_no_other_from_the_remote(place, remote):
    older = place.commit("t1", "older")
    place.commit("t1", "bad")
    place.commit("t2", "other")
    place.export()
    put(place, Table.RECEIPTS, sequence_key(2), b"garbage")
    summary = place.export(push=True)
    assert (summary.state, summary.pushed, summary.parked) == ("parked", 2, 1)
    (failure,) = summary.failures
    assert (failure["label"], failure["reason"]) == ("manifest 2", "the receipt of manifest 2 is damaged")
    assert refs_of(remote)[f"refs/heads/{older['branch']}"] == older["commit_sha"]
    (parked,) = export_status(place.store)["parked"]
    assert (parked["stage"], parked["reason"]) == ("push", failure["reason"])


def test_run_queued_for_the_push_without_a_receipt_is_parked(place, remote):
    place.commit("t1", "bad")
    place.commit("t2", "other")
    place.export()
    with place.store.environment.write() as transaction:
        transaction.delete(Table.RECEIPTS, sequence_key(1))
    summary = place.export(push=True)
    assert (summary.state, summary.pushed, summary.parked) == ("parked", 1, 1)
    assert "without a receipt" in summary.failures[0]["reason"]


def test_runs_are_pushed_with_branch_and_tags(place, remote, runs):
    told = []
    summary = place.export(push=True, progress=lambda *words: told.append(words))
    assert (summary.state, summary.pushed) == ("done", 6)
    assert states(place, runs) == ["pushed"] * 6
    assert told[-1] == ("push", 6, 6)
    assert refs_of(remote) == place.refs()
    place.assert_exported(remote)
    assert verify_export(place.store, remote="origin").ok
    assert export_status(place.store)["last_push_at_us"] is not None


@pytest.mark.parametrize("gone", ["refs/tags/corr_t1x", "refs/heads/ai/generated/wf/t1"])
def test_run_that_git_lost_before_the_push_is_told_at_once_and_comes_with_a_rebuild(place, remote, gone):
    lost, kept = place.commit("t1", "t1x"), place.commit("t2", "t2x")
    place.export()
    place.git("update-ref", "-d", gone)
    if gone.startswith("refs/heads/"):
        place.git("update-ref", "-d", "refs/tags/corr_t1x")
    place.git("gc", "--quiet", "--prune=now")
    summary = place.export(push=True, pause=lambda _: pytest.fail("a second try"))
    assert (summary.state, states(place, [lost, kept])) == ("parked", ["parked", "pushed"])
    (parked,) = export_status(place.store)["parked"]
    assert "is gone from the repository" in parked["reason"]
    assert "--rebuild" in parked["reason"]
    assert place.export(push=True, rebuild=True).state == "done"
    assert states(place, [lost, kept]) == ["pushed", "pushed"]
    assert refs_of(remote) == place.refs()


def test_ref_that_was_deleted_before_the_push_goes_while_its_objects_are_there(place, remote):
    run = place.commit("t1", "t1x")
    place.export()
    whole = place.refs()
    place.git("update-ref", "-d", "refs/tags/corr_t1x")
    assert place.export(push=True).state == "done"
    assert (states(place, [run]), refs_of(remote)) == (["pushed"], whole)


def test_repository_without_a_remote_exports_and_says_that_nothing_was_pushed(place, runs):
    summary = place.export(push=True)
    assert summary.state == "done"
    (warning,) = summary.warnings
    assert warning.startswith(f"nothing was pushed: {place.path} has no remote 'origin'; `git remote add`")
    assert states(place, runs) == ["exported"] * 6


def test_remote_given_as_host_and_path_without_a_slash_is_pushed_to(make_place, tmp_path):
    run_git(tmp_path, "init", "--quiet", "--bare", "served.git")
    script = tmp_path / "ssh.sh"
    script.write_text(
        f'for last; do :; done\ncase "$1" in -G) exit 0;; esac\ncd {tmp_path}; exec sh -c "$last"\n'
    )
    place = make_place(git_ssh_command=f"sh {script}")
    run = place.commit()
    summary = Exporter(place.store, remote="somewhere:served.git").run(push=True)
    assert (summary.state, summary.warnings, summary.pushed) == ("done", [], 1)
    assert states(place, [run]) == ["pushed"]
    place.assert_exported(tmp_path / "served.git")


def test_remote_that_is_down_leaves_runs_exported_and_pushes_later(place, remote, runs):
    away = remote.rename(remote.with_name("away.git"))
    summary = place.export(push=True, pause=sleeper())
    assert (summary.state, summary.exported, summary.pushed) == ("pending", 6, 0)
    assert states(place, runs) == ["exported"] * 6
    assert place.state(runs[0])["attempts"] == 1
    away.rename(remote)
    assert place.export(push=True).state == "done"
    assert states(place, runs) == ["pushed"] * 6


def test_branch_that_a_hook_refuses_is_parked_and_the_others_land(place, remote, runs):
    hook(remote, "update", 'case "$1" in */t1) echo "t1 is frozen" >&2; exit 1;; esac')
    summary = place.export(push=True)
    assert (summary.state, summary.pushed, summary.parked) == ("parked", 4, 2)
    assert states(place, runs) == ["pushed", "parked", "pushed"] * 2
    assert "t1 is frozen" in place.state(runs[1])["reason"]
    assert not any("t1" in name or name.endswith(("corr_c1", "corr_c4")) for name in refs_of(remote))
    (remote / "hooks" / "update").unlink()
    assert place.export(push=True).pushed == 0
    assert place.export(push=True, retry_parked=True).pushed == 2
    assert refs_of(remote) == place.refs()


def test_tag_that_is_refused_keeps_its_branch_from_being_called_pushed(place, remote, runs):
    hook(remote, "update", 'case "$1" in */corr_c4) exit 1;; esac')
    place.export(push=True)
    assert states(place, runs) == ["pushed", "parked", "pushed"] * 2
    found = refs_of(remote)
    assert not {"refs/tags/corr_c1", "refs/tags/corr_c4", "refs/heads/ai/generated/wf/t1"} & found.keys()


def test_remote_that_refuses_everything_parks_nothing(place, remote):
    runs = [place.commit(f"t{number}") for number in range(8)]
    hook(remote, "pre-receive", 'echo "closed for repairs" >&2; exit 1')
    summary = place.export(push=True)
    assert (summary.state, summary.pushed, summary.parked) == ("pending", 0, 0)
    assert any("closed for repairs" in warning for warning in summary.warnings)
    assert states(place, runs) == ["exported"] * 8
    (remote / "hooks" / "pre-receive").unlink()
    assert place.export(push=True).state == "done"


def test_answer_that_is_lost_is_asked_for(place, remote, runs):
    hook(remote, "post-receive", "kill -9 $PPID")
    summary = place.export(push=True, pause=sleeper())
    assert (summary.state, summary.pushed) == ("done", 6)
    assert states(place, runs) == ["pushed"] * 6
    assert refs_of(remote) == place.refs()


def test_push_of_many_rounds_never_steps_back(place, remote, monkeypatch):
    monkeypatch.setattr(delivery, "_ROUND_RUNS", 2)
    runs = [place.commit("one") for _ in range(7)]
    summary = place.export(push=True)
    assert (summary.state, summary.pushed) == ("done", 7)
    assert states(place, runs) == ["pushed"] * 7
    place.assert_exported(remote)


def test_parked_run_retried_after_a_newer_one_was_pushed_lands(place, remote):
    old = place.commit("one")
    hook(remote, "update", "exit 1")
    place.export(push=True)
    assert states(place, [old]) == ["parked"]
    (remote / "hooks" / "update").unlink()
    new = place.commit("one")
    place.export(push=True)
    assert states(place, [old, new]) == ["parked", "pushed"]
    assert place.export(push=True, retry_parked=True).state == "done"
    assert states(place, [old, new]) == ["pushed", "pushed"]
    assert refs_of(remote) == place.refs()


def test_remote_branch_that_someone_moved_on_is_not_forced(place, remote, runs):
    place.export(push=True)
    theirs = run_git(remote, "commit-tree", run_git(remote, "mktree"), stdin="theirs\n")
    run_git(remote, "update-ref", "refs/heads/ai/generated/wf/t0", theirs)
    late = place.commit("t0")
    summary = place.export(push=True)
    assert (summary.state, states(place, [late])) == ("parked", ["parked"])
    assert refs_of(remote)["refs/heads/ai/generated/wf/t0"] == theirs


def test_run_that_the_remote_went_on_from_counts_as_pushed(place, remote):
    """A repository that was lost and is written again run by run, while the remote has them all."""
    first, second = place.commit("one"), place.commit("one")
    place.export(push=True)
    for name in place.refs():
        place.git("update-ref", "-d", name)
    run_git(remote, "update-ref", "-d", f"refs/tags/{first['tags'][0]}")
    summary = place.export(push=True, rebuild=True, limit=1)
    assert (summary.exported, summary.pushed, summary.failures) == (1, 1, [])
    assert (states(place, [first]), refs_of(remote).get(f"refs/tags/{first['tags'][0]}") is not None) == (
        ["pushed"],
        True,
    )
    summary = place.export(push=True)
    assert (summary.state, states(place, [first, second])) == ("done", ["pushed"] * 2)
    place.assert_exported(remote)


def test_run_that_somebody_built_on_counts_as_pushed_once_git_knows_it(place, remote, runs):
    place.export()
    place.git("push", "--quiet", "origin", "refs/*:refs/*")
    branch = f"refs/heads/{runs[3]['branch']}"
    tip = refs_of(remote)[branch]
    tree = run_git(remote, "rev-parse", f"{tip}^{{tree}}")
    theirs = run_git(remote, "commit-tree", tree, "-p", tip, stdin="on top\n")
    run_git(remote, "update-ref", branch, theirs)
    summary = place.export(push=True)
    assert (summary.pushed, summary.parked) == (4, 2)
    assert "fetch first" in place.state(runs[3])["reason"]
    place.git("fetch", "--quiet", "origin", branch)
    assert place.export(push=True, retry_parked=True).state == "done"
    assert states(place, runs) == ["pushed"] * 6
    assert refs_of(remote)[branch] == theirs


def test_only_pushes_what_was_asked_for(place, remote, runs):
    place.export()
    summary = place.export(push=True, only=["c0"])
    assert summary.pushed == 1
    assert states(place, runs) == ["pushed"] + ["exported"] * 5


def test_unknown_remote_is_refused_and_nothing_is_lost(place, runs):
    place.git("config", "remote.origin.url", "-oProxyCommand=x")
    place.git("config", "--add", "remote.origin.url", "second")
    with pytest.raises(ConfigError):
        place.export(push=True)
    assert states(place, runs) == ["exported"] * 6


def test_push_option_that_the_remote_does_not_take_is_told_without_trying_again(place, remote, runs):
    place.git("config", "push.pushOption", "ci.skip")
    summary = place.export(push=True, pause=lambda _: pytest.fail("another try is of no use"))
    assert (summary.state, summary.pushed) == ("pending", 0)
    assert "does not support push options" in summary.warnings[0]
    run_git(remote, "config", "receive.advertisePushOptions", "true")
    assert place.export(push=True).state == "done"


def test_stop_leaves_pushes_queued(place, remote, runs):
    place.export()
    answers = iter([False, False, True])
    summary = place.export(push=True, should_stop=lambda: next(answers, True))
    assert summary.pending + summary.pushed == 6
    assert place.export(push=True).state == "done"


def test_stop_between_pushes_is_no_failure_of_what_was_not_tried(make_place, tmp_path):
    remote = tmp_path / "remote.git"
    run_git(tmp_path, "init", "--quiet", "--bare", remote)
    place = make_place("stopped", push_refs=1)
    place.git("remote", "add", "origin", remote)
    runs = [place.commit(f"t{number}") for number in range(3)]
    summary = place.export(push=True, should_stop=lambda: remote.is_dir() and refs_of(remote) != {})
    assert (summary.pushed, summary.pending, summary.stopped) == (1, 2, True)
    assert (summary.failures, summary.failure_count) == ([], 0)
    assert [place.state(run)["attempts"] for run in runs] == [0, 0, 0]
    with place.store.environment.read() as transaction:
        assert measures(transaction, place.store.now_us())["push_success_rate"] == 1
    assert place.export(push=True).state == "done"


# As git's pkt-line protocol has it, see gitprotocol-common(5) and githooks(5).
_REFUSES_IN_LATIN = f"""#!{sys.executable}
import sys

def read():
    length = int(sys.stdin.buffer.read(4), 16)
    return sys.stdin.buffer.read(length - 4) if length else None

def write(*lines):
    for line in lines:
        sys.stdout.buffer.write(b"%04x" % (len(line) + 4) + line)
    sys.stdout.buffer.write(b"0000")
    sys.stdout.buffer.flush()

while read() is not None:
    continue
write(b"version=1\\0atomic\\n")
names = []
while (line := read()) is not None:
    names.append(line.split()[2])
write(*(b"ng " + name + b" refus\\xe9\\n" for name in names))
"""


def test_reason_of_the_remote_that_is_not_utf8_is_kept_readable(place, remote, runs):
    path = remote / "hooks" / "proc-receive"
    path.parent.mkdir(exist_ok=True)
    path.write_text(_REFUSES_IN_LATIN)
    path.chmod(0o755)
    run_git(remote, "config", "receive.procReceiveRefs", "refs")
    summary = place.export(push=True, pause=sleeper())
    assert summary.state == "parked", summary
    assert {item["reason"] for item in summary.failures} == {"[remote rejected] (refus\ufffd)"}
    assert [item["stage"] for item in export_status(place.store)["parked"]] == ["push"] * 6


def test_wait_for_export_waits_for_the_push(place, remote, runs):
    place.export(push=True)
    assert place.store.wait_for_export("c0", timeout=1)["pushed"] is True


def test_remote_compared_after_rebuild_that_does_not_answer_is_a_warning(place, remote, runs):
    place.export(push=True)
    remote.rename(remote.with_name("away.git"))
    summary = place.export(push=True, rebuild=True, pause=sleeper())
    assert any("could not be compared" in warning for warning in summary.warnings)
    assert states(place, runs) == ["pushed"] * 6


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is mapped")
def test_push_of_many_runs_gives_back_the_pages_it_has_read(place, remote):
    place.commit("large", files={"f": os.urandom(4_000_000)})
    place.export()
    data_path = place.store.environment.directory / DATA_FILE
    mapped = []

    def progress(*_):
        mapped.append(mapped_kilobytes(data_path))

    with place.store.environment.read() as transaction:
        assert sum(len(value) for _, value in transaction.scan(Table.SEGMENTS)) > 4_000_000
    assert mapped_kilobytes(data_path) > 3_500
    assert place.export(push=True, progress=progress).state == "done"
    assert mapped
    assert max(mapped) < 2_000

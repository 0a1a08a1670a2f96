"""`cas export`, its status and its proof."""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess

import pytest

from cas import intake
from cas.codec import deflate
from cli import failures
from gitexport.lease import LEASE_FILE


@pytest.fixture
def repository(store, git, place, monkeypatch):
    """A repository with a remote, as the target of exports."""
    git("init", "--quiet", "--bare", "remote.git")
    git("init", "--quiet", "--bare", "runs.git")
    git("remote", "add", "origin", str(place / "remote.git"), folder="runs.git")
    (place / "cas.toml").write_text('repo_path = "runs.git"\nstore_path = ".cas"\n')
    return store


def test_export_brings_the_promised_commit_into_git_and_pushes_it(repository, commit, git):
    made = commit()
    ended = repository.ok("export")
    assert "exported 1 commit" in ended.out
    assert "pushed 1" in ended.out
    for folder in ("runs.git", "remote.git"):
        assert git("rev-parse", made["branch"], folder=folder) == made["commit_sha"]
        assert git("rev-parse", "corr_abc123^{commit}", folder=folder) == made["commit_sha"]
    assert repository.ok("show", "abc123", "--json").json["export_state"] == "pushed"


def test_export_run_is_the_same_as_export_alone(repository, commit):
    commit()
    assert repository.ok("export", "run", "--json").json["exported"] == 1


@pytest.mark.parametrize(
    "words", [["--dry-run", "run"], ["--limit", "1", "status"], ["--no-push", "verify"]], ids=" ".join
)
def test_export_option_before_a_further_command_is_refused_and_not_lost(repository, commit, words):
    commit()
    ended = repository("export", *words)
    assert (ended.code, words[-1] in ended.err) == (2, True)
    assert repository.ok("export", "status", "--json").json["queued"] == 1


def test_export_again_has_nothing_to_do(repository, commit):
    commit()
    repository.ok("export")
    assert repository.ok("export", "--json").json["exported"] == 0


def test_export_without_push_leaves_the_remote_alone(repository, commit, git):
    commit()
    repository.ok("export", "--no-push")
    assert git("for-each-ref", folder="remote.git") == ""
    assert repository.ok("export", "status", "--json").json["awaiting_push"] == 1


def test_export_limit_ends_pending(repository, commit):
    commit("one")
    commit("two", content="2\n")
    ended = repository("export", "--limit", "1", "--no-push")
    assert ended.code == 8
    assert "1 still queued; run `cas export` again" in ended.out


def test_export_only_takes_the_named_run(repository, commit):
    commit("one", task="t1")
    commit("two", task="t2")
    assert repository("export", "--only", "two", "--json").json["exported"] == 1
    states = {
        run["correlation_id"]: run["export_state"] for run in repository.ok("list", "--json").json["runs"]
    }
    assert states == {"one": "queued", "two": "pushed"}


def test_export_dry_run_writes_nothing(repository, commit, git):
    commit()
    ended = repository.ok("export", "--dry-run")
    assert ended.out.startswith("would export 1 commit")
    assert git("for-each-ref", folder="runs.git") == ""


def test_export_without_a_repository_ends_failed_with_a_way_out(store, commit):
    commit()
    ended = store("export")
    assert ended.code == 9
    assert "is not a git repository" in ended.err
    assert "hint: " in ended.err


def test_export_tells_a_reason_that_many_share_once_and_on_one_line(repository, commit, place):
    for number in range(5):
        commit(f"c{number}", task=f"t{number}")
    (place / "remote.git").rename(place / "away.git")
    said = repository("export").err
    (line,) = [line for line in said.splitlines() if "ai/generated" in line]
    assert line.startswith(
        "warning: ai/generated/wf_rsi/t0, ai/generated/wf_rsi/t1, ai/generated/wf_rsi/t2 and 2 more - fatal: "
    )
    assert "\\n" not in said


def test_export_branch_that_git_knows_otherwise_is_parked_with_a_reason(repository, commit, git, place):
    made = commit()
    git("init", "--quiet", "work")
    author = ("-c", "user.name=p", "-c", "user.email=p@example.com")
    git(*author, "commit", "--quiet", "--allow-empty", "-m", "mine", folder="work")
    git("push", "--quiet", str(place / "runs.git"), f"HEAD:refs/heads/{made['branch']}", folder="work")
    ended = repository("export")
    assert ended.code == 9
    assert "1 parked" in ended.out
    status = repository.ok("export", "status")
    assert made["branch"] in repository.ok("export", "status", "--json").json["parked"][0]["branch"]
    assert "--retry-parked" in status.err
    git("update-ref", "-d", f"refs/heads/{made['branch']}", folder="runs.git")
    repository.ok("export", "--retry-parked")


def test_export_while_another_runs_ends_with_lease_held(repository, commit, place):
    commit()
    with (place / ".cas" / LEASE_FILE).open("a+") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        ended = repository("export", "--json")
    assert ended.code == 10
    assert ended.error["kind"] == "lease_held"
    repository.ok("export", "--wait", "1s")


def test_export_status_tells_queue_and_times(repository, commit, clock):
    commit()
    assert "queued for git  1" in repository.ok("export", "status").out
    repository.ok("export")
    clock.advance(120)
    out = repository.ok("export", "status").out
    assert "queued for git  0" in out
    assert "last push       2 min ago" in out


def test_export_verify_agrees_and_then_finds_a_moved_tag(repository, commit, git):
    commit("one")
    commit("two", content="2\n")
    repository.ok("export")
    assert repository.ok("export", "verify", "--remote").out.startswith("ok: git holds what the store holds")
    git("tag", "--force", "corr_one", "corr_two^{commit}", folder="runs.git")
    ended = repository("export", "verify", "--json")
    assert ended.code == 7
    assert "refs/tags/corr_one" in {fault["subject"] for fault in ended.json["faults"]}
    assert "corr_one" in repository("export", "verify").out


def test_export_verify_names_the_next_command_where_something_differs(repository, commit, git):
    commit()
    repository.ok("export")
    git("update-ref", "-d", "refs/tags/corr_abc123", folder="runs.git")
    ended = repository("export", "verify")
    assert (ended.code, "refs/tags/corr_abc123  is missing" in ended.out) == (7, True)
    assert "next: `cas export --rebuild`" in ended.err


def test_export_verify_tells_what_is_not_exported(repository, commit):
    commit()
    assert "not exported yet" in repository.ok("export", "verify").err


def test_export_switch_after_the_further_command_counts(repository, commit, place):
    commit()
    (place / "elsewhere").mkdir()
    assert repository("export", "status", "--store", "elsewhere").code == 3
    assert repository("export", "--store", "elsewhere", "status").code == 3


def test_export_follow_exports_what_comes_and_ends_clean_on_sigterm(repository, commit, spawn, git):
    made = commit()
    process = spawn("export", "--follow", "--interval", "1h", text=True)
    try:
        assert "exported 1 commit" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    assert git("rev-parse", made["branch"], folder="remote.git") == made["commit_sha"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("ends_at_once", [True, False], ids=["once", "follow"])
def test_export_that_is_ended_in_a_push_leaves_no_git_behind(
    repository, commit, spawn, place, git, name, ends_at_once
):
    made = commit()
    os.mkfifo(place / "pushing")
    hook = place / "remote.git" / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\necho $$ > {place}/pushing\nexec sleep 86399\n")
    hook.chmod(0o755)
    process = spawn("export", *(() if ends_at_once else ("--follow",)))
    sleeper = os.pidfd_open(int((place / "pushing").read_text()))
    number = getattr(signal, name)
    while process.poll() is None:
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):  # two at once may count as one
            process.wait(60 if ends_at_once else 0.2)
    process.communicate()
    assert process.returncode in {-number, 130 if name == "SIGINT" else -number}
    assert select.select([sleeper], [], [], 10)[0], "what git had started still runs"
    os.close(sleeper)
    hook.unlink()
    ended = repository.ok("export", "--json").json
    assert (ended["pushed"], ended["state"]) == (1, "done")
    assert git("rev-parse", made["branch"], folder="remote.git") == made["commit_sha"]
    assert list((place / "runs.git").glob("cas-push-*")) == []


def test_export_follow_as_json_writes_a_line_for_each_export_and_a_result(repository, commit, spawn):
    commit()
    process = spawn("export", "--follow", "--interval", "1h", "--json", text=True)
    try:
        first = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert (first["event"], first["state"], first["exported"], first["pushed"]) == ("export", "done", 1, 1)
    assert json.loads(out) == {"event": "result", "exports": 1}


def test_export_follow_as_json_tells_an_error_on_stderr_and_goes_on(repository, commit, spawn, place, git):
    made = commit()
    (place / "runs.git").rename(place / "away.git")
    process = spawn("export", "--follow", "--interval", "100ms", "--json", text=True)
    try:
        error = json.loads(process.stderr.readline())
        assert (error["kind"], error["retryable"]) == ("not_a_repository", False)
        (place / "away.git").rename(place / "runs.git")
        assert json.loads(process.stdout.readline())["exported"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    assert git("rev-parse", made["branch"], folder="runs.git") == made["commit_sha"]


def test_export_follow_without_a_pause_between_looks_is_refused(repository):
    ended = repository("export", "--follow", "--interval", "0s")
    assert (ended.code, "above 0" in ended.err) == (2, True)


def test_export_follow_takes_no_selection(repository):
    assert repository("export", "--follow", "--limit", "1").code == 2


@pytest.mark.parametrize(("words", "exported"), [(["--check", "full"], 0), (["--check", "crc"], 1), ([], 1)])
def test_export_inflates_files_that_have_a_deposit_only_when_told_to(
    repository, commit, monkeypatch, words, exported
):
    with monkeypatch.context() as patch:  # a compressor at fault: all that is noted of the stream fits it
        patch.setattr(intake, "deflate", lambda data: deflate(bytes(len(data))))
        commit()
    ended = repository("export", "--no-push", *words, "--json")
    assert (ended.code, ended.json["exported"], ended.json["parked"]) == (
        0 if exported else failures.EXPORT_FAILED,
        exported,
        1 - exported,
    )


def test_export_by_an_unknown_check_is_refused(repository, commit):
    commit()
    for words in (["--check", "none"], ["--check", "full", "status"]):
        assert repository("export", *words).code == 2
    assert repository.ok("export", "status", "--json").json["queued"] == 1


def test_archive_rolls_old_branches_up_and_pushes(repository, commit, git, clock):
    old = commit("one", task="t1")
    clock.advance(100 * 86_400)
    commit("two", task="t2")
    repository.ok("export")
    dry = repository.ok("export", "archive", "--older-than", "90d", "--dry-run")
    assert f"would roll up {old['branch']} of 2026-01-01T00:01:00Z with 1 tag" in dry.out
    assert "would roll up 1 branch, 2 refs" in dry.out
    assert git("rev-parse", old["branch"], folder="runs.git") == old["commit_sha"]
    ended = repository.ok("export", "archive", "--older-than", "90d", "--keep-newest", "1", "--delete-remote")
    assert "rolled up 1 branch, 2 refs" in ended.out
    assert "deleted 2 refs at the remote" in ended.out
    for folder in ("runs.git", "remote.git"):
        refs = git("for-each-ref", "--format=%(refname)", folder=folder)
        assert old["branch"] not in refs
        assert "refs/archive/cas/" in refs
        assert old["commit_sha"] in git("rev-list", "--all", folder=folder)
    assert repository.ok("export", "verify", "--remote").code == 0


def test_archive_as_json_has_a_line_for_each_branch_and_each_that_stays(repository, commit):
    commit("one", task="t1")
    repository.ok("export")
    waits = commit("two", task="t2")
    done = repository.ok("export", "archive", "--keep-newest", "0", "--json").json
    assert (done["state"], done["refs"], done["pushed"]) == ("done", 2, True)
    assert [item["branch"] for item in done["branches"]] == ["ai/generated/wf_rsi/t1"]
    assert done["left"] == [{"branch": waits["branch"], "reason": "has a commit that is not exported yet"}]
    people = repository.ok("export", "archive", "--keep-newest", "0")
    assert f"stays: {waits['branch']} has a commit that is not exported yet" in people.out


def test_archive_says_how_many_it_does_not_list(repository, commit, monkeypatch):
    monkeypatch.setattr("gitexport.archivesummary._LISTED", 1)
    for number in range(3):
        commit(f"c{number}", task=f"t{number}")
    ended = repository.ok("export", "archive", "--keep-newest", "0")
    assert "stays: ai/generated/wf_rsi/t0 has" in ended.out
    assert "... and 2 more" in ended.out
    repository.ok("export")
    dry = repository.ok("export", "archive", "--keep-newest", "0", "--dry-run")
    assert dry.out.splitlines()[-2:] == ["... and 2 more", "would roll up 3 branches, 6 refs"]


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "--older-than TIME"), (["--keep-newest", "0", "--delete-remote", "--no-push"], "--no-push")],
)
def test_archive_asked_for_nothing_or_the_impossible_is_a_usage_error(repository, words, said):
    ended = repository("export", "archive", *words)
    assert ended.code == 2
    assert said in ended.err


def test_archive_without_the_remote_ends_pending_and_with_a_wrong_ref_failed(repository, commit, git, place):
    commit("one", task="t1")
    repository.ok("export")
    (place / "remote.git").rename(place / "away.git")
    (place / "cas.toml").write_text('repo_path = "runs.git"\nstore_path = ".cas"\npush_timeout = 1\n')
    ended = repository("export", "archive", "--keep-newest", "0")
    assert ended.code == 8
    assert "run it again" in ended.out
    ref = git("for-each-ref", "--format=%(refname)", "refs/archive", folder="runs.git")
    git("update-ref", "-d", ref, folder="runs.git")
    blob = git("hash-object", "-w", "--stdin", folder="runs.git")
    git("update-ref", ref, blob, folder="runs.git")
    assert repository("export", "archive", "--keep-newest", "0").code == 9


def test_archive_beside_a_running_export_says_so(repository, commit, place):
    commit("one", task="t1")
    repository.ok("export")
    with (place / ".cas" / LEASE_FILE).open("r+b") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        assert repository("export", "archive", "--keep-newest", "0").code == 10

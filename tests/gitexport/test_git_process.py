"""How git is started and ended: its environment word by word, its time limits, and what its failures become."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from cas.errors import GitCommandFailedError
from gitexport import git as module
from gitexport.git import (
    ANY_EXIT,
    GitOptions,
    GitResult,
    command_failed,
    feed_git,
    one_line,
    run_git,
    stream_git,
)

OPTIONS = GitOptions()
FIXED = {
    "core.hooksPath": "/dev/null", "core.fsmonitor": "false", "gc.auto": "0", "maintenance.auto": "false",
    "core.logAllRefUpdates": "false", "core.fsync": "committed,reference", "core.filesRefLockTimeout": "2000",
    "core.packedRefsTimeout": "10000", "reftable.lockTimeout": "5000", "credential.helper": "",
    "push.gpgSign": "false", "push.negotiate": "false", "push.recurseSubmodules": "no", "push.followTags": "false",
    "advice.graftFileDeprecated": "false", "pack.window": "0",
}  # fmt: skip
ROOM = {
    "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1", "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "false",
    "SSH_ASKPASS": "false", "SSH_ASKPASS_REQUIRE": "never",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=15", "GIT_PROXY_COMMAND": "",
    "GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1", "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": "/dev/null", "GIT_OPTIONAL_LOCKS": "0", "GIT_ADVICE": "0", "GIT_COMMITTER_NAME": "cas-gitexport",
    "GIT_COMMITTER_EMAIL": "cas-gitexport@localhost",
}  # fmt: skip


def said_by(tmp_path, script, **settings):
    """What a shell says that git starts."""
    words = ["-c", f"alias.sh=!{script}", "sh"]
    return run_git(words, cwd=tmp_path, **{"options": OPTIONS} | settings)


def pairs(env):
    count = int(env["GIT_CONFIG_COUNT"])
    assert f"GIT_CONFIG_KEY_{count}" not in env
    return [(env[f"GIT_CONFIG_KEY_{index}"], env[f"GIT_CONFIG_VALUE_{index}"]) for index in range(count)]


def test_environment_of_git_is_the_same_everywhere():
    env = module._environment(OPTIONS, (), network=False)
    assert pairs(env) == list(FIXED.items())
    assert {
        name: text for name, text in env.items() if not name.startswith("GIT_CONFIG_K")
    }.items() >= ROOM.items()
    assert {name for name in env if not name.startswith(("GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"))} == {
        *ROOM,
        "GIT_CONFIG_COUNT",
    }


def test_environment_says_what_the_options_and_the_caller_add():
    options = GitOptions(ssh_command="ssh -i key", credential_helper="store", protocols=("https", "ssh"))
    env = module._environment(options, [("a.b", "c")], network=True)
    assert (env["GIT_SSH_COMMAND"], env["GIT_ALLOW_PROTOCOL"]) == ("ssh -i key", "https:ssh")
    assert pairs(env) == [*FIXED.items(), ("a.b", "c"), ("credential.helper", "store")]
    assert module._environment(options, (), network=False)["GIT_ALLOW_PROTOCOL"] == "none"


def test_inherited_variables_of_git_are_taken_away_and_others_are_not(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere")
    monkeypatch.setenv("GIT_TRACE2", "/nowhere")
    monkeypatch.setenv("OTHER_VARIABLE", "stays")
    shown = said_by(tmp_path, "env", extra_env={"CAS_SHOWN": "yes"}).stdout.decode().splitlines()
    assert not [line for line in shown if line.startswith(("GIT_INDEX_FILE", "GIT_TRACE2"))]
    assert {"OTHER_VARIABLE=stays", "CAS_SHOWN=yes", "LC_ALL=C"} <= set(shown)


def test_answer_holds_both_outputs_and_the_code(tmp_path):
    result = said_by(tmp_path, r"f() { cat; echo https://u:hunter2@h/ >&2; printf '\351' >&2; exit 3; }; f",
                     stdin=b"in\xff", accepted=(3,))  # fmt: skip
    assert result == GitResult(3, b"in\xff", "https://***@h/\n\ufffd")


@pytest.mark.parametrize(("code", "accepted"), [(0, (0,)), (1, (0, 1)), (255, ANY_EXIT)])
def test_code_that_is_accepted_is_no_failure(tmp_path, code, accepted):
    assert said_by(tmp_path, f"exit {code} #", accepted=accepted).exit_code == code


def test_code_that_is_not_accepted_is_a_failure_with_what_git_said(tmp_path):
    with pytest.raises(GitCommandFailedError) as caught:
        run_git(["rev-parse", "--verify", "none"], cwd=tmp_path, options=OPTIONS)
    assert caught.value.kind == "not_a_repository"
    assert caught.value.message.startswith("git rev-parse failed (exit 128): fatal: not a git repository")
    with pytest.raises(GitCommandFailedError):
        said_by(tmp_path, "true", accepted=(1,))


@pytest.mark.parametrize(("limit_s", "options_s", "shown"), [(0.05, 60.0, "0.05"), (None, 0.05, "0.05")])
def test_time_limit_is_the_calls_or_the_options(tmp_path, limit_s, options_s, shown):
    with pytest.raises(GitCommandFailedError) as caught:
        said_by(tmp_path, "sleep 60 #", timeout_s=limit_s, options=GitOptions(timeout_s=options_s))
    assert caught.value.kind == "git_timeout"
    assert caught.value.message == f"git -c did not end within {shown} s and was killed"
    assert caught.value.retryable


def test_limit_of_nothing_is_a_limit(tmp_path):
    with pytest.raises(GitCommandFailedError) as caught:
        said_by(tmp_path, "sleep 60 #", timeout_s=0)
    assert caught.value.kind == "git_timeout"


def test_git_runs_in_the_given_folder_in_a_session_of_its_own(tmp_path):
    script = f"{sys.executable} -c 'import os; print(os.getcwd(), os.getsid(0) == {os.getsid(0)})' #"
    assert said_by(tmp_path, script).stdout.decode().split() == [str(tmp_path), "False"]


def test_descriptors_are_inherited_by_name_alone(tmp_path):
    reader, writer = os.pipe()
    try:
        script = f"if test -e /proc/self/fd/{writer}; then echo there; fi #"
        os.set_inheritable(writer, False)
        assert said_by(tmp_path, script, pass_fds=[writer]).stdout == b"there\n"
        assert said_by(tmp_path, script).stdout == b""
    finally:
        os.close(reader)
        os.close(writer)


def test_git_that_cannot_be_started_is_told_as_what_it_is(tmp_path, monkeypatch):
    with pytest.raises(GitCommandFailedError) as caught:
        run_git(["x" * 300_000], cwd=tmp_path, options=OPTIONS)
    assert caught.value.message == "git could not be started: Argument list too long"
    assert caught.value.kind == GitCommandFailedError.kind
    from git.cmd import Git

    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(Git, "GIT_PYTHON_GIT_EXECUTABLE", str(tmp_path / "nothing"))
    with pytest.raises(GitCommandFailedError) as caught:
        run_git(["version"], cwd=tmp_path, options=OPTIONS)
    assert (caught.value.kind, caught.value.retryable) == ("git_missing", False)
    assert caught.value.hint


def test_lines_of_a_program_become_one():
    assert one_line("  a \n\n\t\nb\n") == "a / b"
    assert one_line("") == ""


@pytest.mark.parametrize(
    ("said", "kind", "retryable", "message"),
    [
        ("fatal: detected dubious ownership in '/x'\nTo add an exception:\n", "foreign_owner", False,
         "git fetch failed (exit 128): fatal: detected dubious ownership in '/x'"),
        ("fatal: not a git repository: '/x'\n", "not_a_repository", False,
         "git fetch failed (exit 128): fatal: not a git repository: '/x'"),
        ("fatal: unknown repository extension found:\n\trefstorage\n", "git_too_old", False,
         "git fetch failed (exit 128): fatal: unknown repository extension found: / refstorage"),
        ("fatal: Expected git repo version <= 1, found 2", "git_too_old", False,
         "git fetch failed (exit 128): fatal: Expected git repo version <= 1, found 2"),
        ("fatal: broken", GitCommandFailedError.kind, True, "git fetch failed (exit 128): fatal: broken"),
        ("", GitCommandFailedError.kind, True, "git fetch failed (exit 128): no message"),
    ],
)  # fmt: skip
def test_failure_has_a_kind_by_what_git_said(said, kind, retryable, message):
    error = command_failed("fetch", GitResult(128, b"", said))
    assert (error.kind, error.retryable, error.message) == (kind, retryable, message)
    assert bool(error.hint) or kind not in {"foreign_owner", "git_too_old"}


def test_failure_shows_the_end_of_what_git_said():
    message = command_failed("fsck", GitResult(1, b"", "a" * 10 + "b" * 2000)).message
    assert message == f"git fsck failed (exit 1): {'b' * 2000}"


def test_streaming_git_is_fed_and_its_group_killed_when_it_is_left(tmp_path):
    words = ["-c", "alias.sh=!f() { cat; echo $$; sleep 60; }; f", "sh"]
    with stream_git(words, cwd=tmp_path, options=OPTIONS, extra_env={"X": "y"}) as process:
        thread = threading.Thread(target=feed_git, args=(process, [b"one\n", b"two\n"]))
        thread.start()
        assert [process.stdout.readline() for _ in range(2)] == [b"one\n", b"two\n"]
        child = int(process.stdout.readline())
        thread.join()
    assert process.returncode == -9
    assert process.stdin.closed
    assert process.stdout.closed
    assert process.stderr.closed
    done = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(child)], capture_output=True, text=True, check=False
    )
    assert done.stdout[:1] in {"", "Z"}  # whatever else is said of it, such as that it was nice


def test_streaming_git_that_died_takes_no_more(tmp_path):
    with stream_git(["version"], cwd=tmp_path, options=OPTIONS) as process:
        process.wait()
        feed_git(process, [b"x" * 1_000_000])
        assert process.stdout.read().startswith(b"git version")
    with subprocess.Popen(["true"]) as other:
        feed_git(other, iter([pytest]))  # nothing to write to, so nothing is taken

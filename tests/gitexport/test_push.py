"""Pushing groups of refs to real remotes: files with hooks, git daemon, http; refusals, silence, lost answers."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import subprocess
import sys

import pytest

from benchmarks.servers import git_daemon, http_server
from cas.errors import ConfigError, GitCommandFailedError
from gitexport.git import GitOptions, run_git
from gitexport.heldfile import create_held_folder
from gitexport.push import HTTP_MAX_REFS, GroupOutcome, PushState, RefGroup, push
from gitexport.refs import RefChange, update_refs
from gitexport.repository import GitRepository
from gitexport.transfer import sweep_views
from tests.gitexport.processes import survivors
from tests.gitexport.refplaces import git

PUSHED, REJECTED, RETRY, UNKNOWN = PushState.PUSHED, PushState.REJECTED, PushState.RETRY, PushState.UNKNOWN


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.now_s = 0.0
        self.slept = []

    def __call__(self):
        return self.now_s

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["sha1", "sha256"])
def any_format(request):
    return request.param


@pytest.fixture
def local(tmp_path):
    return GitRepository.create_bare(tmp_path / "local.git")


@pytest.fixture
def remote(tmp_path):
    return GitRepository.create_bare(tmp_path / "remote.git")


def make_groups(repo, count, first=0):
    """Make runs: a commit, a branch and an annotated tag each, all in the local repository."""
    tree = git(repo.path, "mktree")
    groups, changes = [], []
    for number in range(first, first + count):
        oid = git(repo.path, "commit-tree", tree, stdin=f"run {number}")
        text = f"object {oid}\ntype commit\ntag corr_{number}\ntagger a <a@example.com> 1 +0000\n\nm\n"
        refs = (
            (f"refs/heads/ai/generated/w/t{number}", oid),
            (f"refs/tags/corr_{number}", git(repo.path, "mktag", stdin=text)),
        )
        groups.append(RefGroup(number, refs, 1000))
        changes += [RefChange(name, None, ref_oid) for name, ref_oid in refs]
    update_refs(repo, changes)
    return groups


def run(local, remote, groups, clock=None, **settings):
    clock = clock or Clock()
    url = str(getattr(remote, "path", remote))
    settings = {"timeout_s": 30, "deadline_s": 20} | settings
    return push(local, url, groups, clock=clock, sleep=clock.sleep, rng=random.Random(1), **settings)


def states(report):
    return {key: outcome.state for key, outcome in report.outcomes.items()}


def held(remote):
    return {name: value.oid for name, value in remote.list_refs().items()}


def refs_of(groups):
    return dict(ref for group in groups for ref in group.refs)


def hook(remote, name, script):
    path = remote.git_dir / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


# ---- what is pushed -------------------------------------------------------------------------------------------------


def test_groups_land_whole_and_nothing_else_does(tmp_path, any_format):
    local = GitRepository.create_bare(tmp_path / "l", any_format)
    remote = GitRepository.create_bare(tmp_path / "r", any_format)
    groups = make_groups(local, 5)
    settled = []
    report = run(
        local, remote, groups[:3], on_settled=lambda group, outcome: settled.append((group.key, outcome))
    )
    assert states(report) == {0: PUSHED, 1: PUSHED, 2: PUSHED}
    assert held(remote) == refs_of(groups[:3])
    assert settled == [(number, GroupOutcome(PUSHED)) for number in range(3)]
    assert (report.push_count, report.error) == (1, None)
    assert remote.fsck_strict() == ()
    assert local.fsck_strict() == ()


def test_push_repeated_finds_everything_there(local, remote):
    groups = make_groups(local, 3)
    run(local, remote, groups)
    report = run(local, remote, groups)
    assert set(states(report).values()) == {PUSHED}
    assert report.push_count == 1


def test_nothing_to_push_runs_no_git(local, remote):
    report = run(local, remote, [])
    assert (report.outcomes, report.push_count) == ({}, 0)


def test_pushed_oid_is_the_one_asked_for_not_where_the_local_ref_is(local, remote):
    groups = make_groups(local, 2)
    name = groups[0].refs[0][0]
    moved = [RefGroup(0, ((name, groups[1].refs[0][1]),))]
    run(local, remote, moved)
    assert held(remote) == {name: groups[1].refs[0][1]}


def test_budgets_cut_the_groups_into_batches(local, remote):
    groups = make_groups(local, 7)
    assert run(local, remote, groups, max_refs=4).push_count == 4
    assert held(remote) == refs_of(groups)
    assert run(local, remote, groups, max_bytes=3000).push_count == 3
    assert run(local, remote, groups, max_refs=1).push_count == 7


def test_shallow_configuration_of_the_repository_still_applies(local, remote):
    git(local.path, "config", "push.pushOption", "ci.skip")
    hook(remote, "pre-receive", 'test "$GIT_PUSH_OPTION_0" = ci.skip')
    git(remote.path, "config", "receive.advertisePushOptions", "true")
    assert states(run(local, remote, make_groups(local, 1))) == {0: PUSHED}


def test_remote_is_found_by_name_and_ext_is_refused(local, remote):
    git(local.path, "remote", "add", "origin", str(remote.path))
    groups = make_groups(local, 1)
    report = push(local, "origin", groups, timeout_s=30)
    assert states(report) == {0: PUSHED}
    assert local.list_refs(["refs/remotes"]) == {}
    for bad in ("ext::sh -c true", "nowhere"):
        with pytest.raises(ConfigError):
            push(local, bad, groups, timeout_s=30)


def test_stop_leaves_the_rest_for_another_try(local, remote):
    groups = make_groups(local, 4)
    asked = iter([False, True, True, True])
    report = run(local, remote, groups, max_refs=2, should_stop=lambda: next(asked))
    assert states(report) == {0: PUSHED, 1: RETRY, 2: RETRY, 3: RETRY}


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_ref_refused_by_the_update_hook_is_parked_with_its_whole_group(local, remote):
    groups = make_groups(local, 8)
    hook(
        remote,
        "update",
        'case "$1" in refs/tags/corr_3) echo "no entry for https://u:p@h/x" >&2; exit 1;; esac',
    )
    report = run(local, remote, groups)
    assert states(report) == dict.fromkeys(range(8), PUSHED) | {3: REJECTED}
    assert report.outcomes[3].permanent
    assert "hook declined" in report.outcomes[3].reason
    assert "no entry" in report.outcomes[3].reason
    assert "u:p" not in report.outcomes[3].reason
    assert held(remote) == refs_of(groups[:3] + groups[4:])
    assert report.push_count == 2


def test_several_culprits_of_the_update_hook_are_all_found(local, remote):
    groups = make_groups(local, 12)
    hook(remote, "update", 'case "$1" in refs/tags/corr_[159]) exit 1;; esac')
    report = run(local, remote, groups)
    bad = {1, 5, 9}
    assert states(report) == {number: REJECTED if number in bad else PUSHED for number in range(12)}
    assert held(remote) == refs_of([group for group in groups if group.key not in bad])
    assert report.push_count <= 8


def test_culprit_of_a_pre_receive_hook_is_found_by_halving(local, remote):
    groups = make_groups(local, 16)
    hook(remote, "pre-receive", "if grep -q corr_11; then echo too big; exit 1; fi")
    report = run(local, remote, groups)
    assert states(report) == dict.fromkeys(range(16), PUSHED) | {11: REJECTED}
    assert "too big" in report.outcomes[11].reason
    assert held(remote) == refs_of(groups[:11] + groups[12:])
    assert report.push_count <= 9


def test_remote_that_refuses_everything_parks_nobody(local, remote):
    groups = make_groups(local, 40)
    hook(remote, "pre-receive", "echo archived; exit 1")
    report = run(local, remote, groups)
    assert set(states(report).values()) == {RETRY}
    assert "archived" in report.error
    assert report.push_count <= 20
    assert len(report.outcomes) == 40
    assert held(remote) == {}


def test_single_run_refused_by_pre_receive_is_parked(local, remote):
    hook(remote, "pre-receive", "exit 1")
    report = run(local, remote, make_groups(local, 1))
    assert states(report) == {0: REJECTED}
    assert report.error is None


def test_branch_that_moved_at_the_remote_is_parked_and_not_overwritten(local, remote):
    groups = make_groups(local, 4)
    stranger = GitRepository.create_bare(local.path.parent / "stranger")
    other = make_groups(stranger, 1, first=100)[0].refs[0][1]
    name = groups[2].refs[0][0]
    git(stranger.path, "push", "-q", str(remote.path), f"{other}:{name}")
    report = run(local, remote, groups)
    assert states(report) == {0: PUSHED, 1: PUSHED, 2: REJECTED, 3: PUSHED}
    assert "fetch first" in report.outcomes[2].reason
    assert held(remote)[name] == other
    assert groups[2].refs[1][0] not in held(remote)


def test_tag_that_exists_elsewhere_is_parked_and_not_moved(local, remote):
    groups = make_groups(local, 3)
    run(local, remote, [RefGroup("x", ((groups[1].refs[1][0], groups[0].refs[1][1]),))])
    report = run(local, remote, groups)
    assert states(report) == {0: PUSHED, 1: REJECTED, 2: PUSHED}
    assert "already exists" in report.outcomes[1].reason
    assert groups[1].refs[0][0] not in held(remote)


def test_folder_conflict_at_the_remote_is_parked(local, remote):
    groups = make_groups(local, 4)
    first = groups[0].refs[0][1]
    run(local, remote, [RefGroup("x", ((groups[2].refs[0][0] + "/inside", first),))])
    report = run(local, remote, groups)
    assert states(report) == {0: PUSHED, 1: PUSHED, 2: REJECTED, 3: PUSHED}
    assert groups[2].refs[1][0] not in held(remote)


def test_remote_without_atomic_pushes_still_reports_whole_groups_only(local, remote):
    git(remote.path, "config", "receive.advertiseAtomic", "false")
    groups = make_groups(local, 4)
    hook(remote, "update", 'case "$1" in refs/tags/corr_1) exit 1;; esac')
    report = run(local, remote, groups)
    assert states(report) == {0: PUSHED, 1: REJECTED, 2: PUSHED, 3: PUSHED}
    assert groups[1].refs[0][0] in held(remote)  # a part has landed, and is not called pushed


def test_lock_at_the_remote_is_waited_out(local, remote, clock):
    groups = make_groups(local, 2)
    lock = remote.git_dir / "refs" / "tags" / "corr_1.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.touch()
    original = clock.sleep

    def sleep(seconds):
        original(seconds)
        lock.unlink(missing_ok=True)

    clock.sleep = sleep
    report = run(local, remote, groups, clock)
    assert set(states(report).values()) == {PUSHED}
    assert len(clock.slept) == 1


def test_lock_that_stays_at_the_remote_leaves_its_group_for_another_try(local, remote, clock):
    groups = make_groups(local, 2)
    lock = remote.git_dir / "refs" / "tags" / "corr_1.lock"
    lock.touch()
    report = run(local, remote, groups, clock, deadline_s=10)
    assert states(report) == {0: PUSHED, 1: RETRY}
    assert clock.now_s <= 10


PROC_RECEIVE = """#!{python}
import sys
talk = {talk!r}

def read():
    size = int(sys.stdin.buffer.read(4), 16)
    return sys.stdin.buffer.read(size - 4).decode() if size else None

def write(*lines):
    for line in lines:
        sys.stdout.buffer.write(b"%04x" % (len(line) + 4) + line.encode())
    sys.stdout.buffer.write(b"0000")
    sys.stdout.buffer.flush()

while read() is not None:
    pass
write("version=1\\n")
names = [line.split()[2] for line in iter(read, None)]
write(*("ng %s %s" % (name, talk[name]) if name in talk else "ok " + name for name in names))
"""


def answers(remote, talk):
    """Let the remote answer some refs with words of their own; the others are accepted."""
    git(remote.path, "config", "receive.procReceiveRefs", "refs")
    path = remote.git_dir / "hooks" / "proc-receive"
    path.parent.mkdir(exist_ok=True)
    path.write_text(PROC_RECEIVE.format(python=sys.executable, talk=talk))
    path.chmod(0o755)


def test_every_group_left_for_another_try_has_its_own_reason(local, remote, clock):
    groups = make_groups(local, 3)
    own = ["no room left, try again", "atomic push failure", "timed out at the second disk"]
    answers(remote, {name: own[group.key] for group in groups for name, _ in group.refs})
    report = run(local, remote, groups, clock, deadline_s=0)
    assert set(states(report).values()) == {RETRY}
    reasons = [report.outcomes[number].reason for number in range(3)]
    assert reasons == [f"[remote rejected] ({each})" for each in own]


def test_pack_too_large_for_the_remote_is_pushed_in_halves(local, remote, clock):
    git(remote.path, "config", "receive.maxInputSize", "1200")
    report = run(local, remote, make_groups(local, 8), clock, deadline_s=100)
    assert set(states(report).values()) == {PUSHED}
    assert report.push_count > 1


def test_single_run_too_large_for_the_remote_is_parked(local, remote, clock):
    git(remote.path, "config", "receive.maxInputSize", "10")
    report = run(local, remote, make_groups(local, 1), clock)
    assert states(report) == {0: REJECTED}
    assert "exceeds maximum allowed size" in report.outcomes[0].reason


# ---- silence --------------------------------------------------------------------------------------------------------


def test_remote_that_is_gone_is_tried_again_with_growing_waits(local, tmp_path, clock):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    groups = make_groups(local, 3)
    report = run(local, f"git://127.0.0.1:{port}/x", groups, clock, max_refs=2, deadline_s=30)
    assert set(states(report).values()) == {UNKNOWN} | {RETRY}
    assert report.error
    assert len(clock.slept) >= 3
    assert clock.slept == sorted(clock.slept)
    assert clock.now_s <= 30
    assert report.push_count == len(clock.slept) + 1  # the batches that follow do not try


def test_path_that_is_no_repository_is_not_tried_again(local, tmp_path, clock):
    report = run(local, tmp_path / "missing", make_groups(local, 2), clock)
    assert set(states(report).values()) == {RETRY}
    assert "does not appear to be a git repository" in report.error
    assert (report.push_count, clock.slept) == (1, [])


def test_remote_that_hangs_is_killed_with_all_its_children(local, remote, tmp_path, clock):
    hook(remote, "pre-receive", f"echo $$ > {tmp_path}/pid; sleep 1234.5")
    report = run(local, remote, make_groups(local, 1), clock, timeout_s=0.6, deadline_s=0)
    assert states(report) == {0: RETRY}
    assert "killed" in report.outcomes[0].reason
    assert survivors("sleep 1234.5", str(remote.path)) == []
    assert held(remote) == {}


def test_batch_too_slow_for_the_limit_is_pushed_in_halves(local, remote, clock):
    hook(remote, "pre-receive", 'if [ "$(wc -l)" -gt 4 ]; then sleep 1234; fi')
    groups = make_groups(local, 4)
    report = run(local, remote, groups, clock, timeout_s=1.5, deadline_s=100)
    assert set(states(report).values()) == {PUSHED}
    assert report.push_count == 3


def test_lost_answer_is_resolved_by_asking_the_remote(local, remote, clock):
    # The refs are in place when post-receive runs; killing receive-pack there loses the report.
    hook(remote, "post-receive", "kill -9 $PPID")
    groups = make_groups(local, 3)
    report = run(local, remote, groups, clock)
    assert set(states(report).values()) == {PUSHED}
    assert (report.push_count, clock.slept) == (1, [])
    assert held(remote) == refs_of(groups)


def test_remote_that_dies_before_the_refs_move_is_pushed_again(local, remote, tmp_path, clock):
    hook(remote, "pre-receive", f"if mkdir {tmp_path}/once; then kill -9 $PPID; fi")
    groups = make_groups(local, 3)
    report = run(local, remote, groups, clock)
    assert set(states(report).values()) == {PUSHED}
    assert (report.push_count, len(clock.slept)) == (2, 1)


def test_missing_object_is_reported_and_not_called_pushed(local, remote, clock):
    groups = [RefGroup("bad", (("refs/heads/x", "1" * 40),)), *make_groups(local, 1)]
    report = run(local, remote, groups, clock, deadline_s=3)
    assert states(report)["bad"] is not PUSHED
    assert "refs/heads/x" not in held(remote)


def views(repo):
    return sorted(path.name for path in repo.common_dir.glob("cas-push-*"))


def test_view_leaves_no_folder_behind(local, remote, tmp_path):
    hook(remote, "post-receive", f"ls {local.common_dir} > {tmp_path}/listed")
    run(local, remote, make_groups(local, 2))
    assert "cas-push-" in (tmp_path / "listed").read_text()
    assert views(local) == []


def test_view_of_a_killed_exporter_is_swept_and_a_living_one_is_not(local):
    with create_held_folder(local.common_dir, "cas-push-") as (folder, descriptor):
        (folder / "packed-refs").write_text("x")
        assert sweep_views(local) == []
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(descriptor,)) as child:
            os.set_inheritable(descriptor, False)
            left = local.common_dir / "cas-push-left"
            folder.rename(left)  # so that leaving the block does not remove it, as after a kill
            assert sweep_views(local) == []
            child.stdin.close()
    assert views(local) == ["cas-push-left"]
    assert sweep_views(local) == [left]
    (local.common_dir / "cas-push-file").write_text("somebody's")
    assert sweep_views(local) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_view_of_another_user_is_left_alone(local):
    theirs = local.common_dir / "cas-push-theirs"
    theirs.mkdir(mode=0)
    assert sweep_views(local) == []
    theirs.chmod(0o700)


# ---- other transports -----------------------------------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path, remote):
    with git_daemon(tmp_path) as url:
        yield f"{url}/remote.git"


def test_git_daemon_takes_groups_and_refuses_one(local, remote, daemon):
    groups = make_groups(local, 6)
    hook(remote, "update", 'case "$1" in refs/tags/corr_2) exit 1;; esac')
    report = run(local, daemon, groups)
    assert states(report) == dict.fromkeys(range(6), PUSHED) | {2: REJECTED}
    assert held(remote) == refs_of(groups[:2] + groups[3:])


def test_git_daemon_that_loses_the_answer_is_asked(local, remote, daemon, clock):
    hook(remote, "post-receive", "kill -9 $PPID")
    report = run(local, daemon, make_groups(local, 2), clock)
    assert set(states(report).values()) == {PUSHED}
    assert report.push_count == 1


@pytest.fixture
def web(tmp_path, remote):
    git(remote.path, "config", "http.receivepack", "true")
    with http_server(tmp_path) as server:
        yield server


def test_http_takes_groups_and_refuses_one(local, remote, web):
    groups = make_groups(local, 6)
    hook(remote, "update", 'case "$1" in refs/tags/corr_2) exit 1;; esac')
    report = run(local, web.url("remote.git"), groups)
    assert states(report) == dict.fromkeys(range(6), PUSHED) | {2: REJECTED}
    assert held(remote) == refs_of(groups[:2] + groups[3:])


def test_branch_that_is_ahead_at_a_remote_that_cannot_be_asked_is_tried_later(local, remote, web):
    groups = make_groups(local, 2)
    run(local, remote, groups)
    name, oid = groups[0].refs[0]
    ahead = git(remote.path, "commit-tree", git(remote.path, "mktree"), "-p", oid, stdin="later")
    git(remote.path, "update-ref", name, ahead)
    git(remote.path, "config", "http.uploadpack", "false")  # pushes are answered, questions are not
    assert states(run(local, web.url("remote.git"), groups)) == {0: RETRY, 1: PUSHED}
    git(remote.path, "config", "http.uploadpack", "true")
    assert states(run(local, web.url("remote.git"), groups)) == {0: REJECTED, 1: PUSHED}
    git(local.path, "fetch", "--quiet", str(remote.path), name)
    assert states(run(local, web.url("remote.git"), groups)) == {0: PUSHED, 1: PUSHED}
    assert held(remote)[name] == ahead


def test_http_push_of_many_refs_is_cut_smaller(local, remote, web):
    oid = make_groups(local, 1)[0].refs[0][1]
    groups = [RefGroup(number, ((f"refs/tags/t{number}", oid),)) for number in range(HTTP_MAX_REFS + 1)]
    report = run(local, web.url("remote.git"), groups, max_refs=10_000)
    assert report.count(PUSHED) == HTTP_MAX_REFS + 1
    assert report.push_count == 2


def test_http_that_loses_the_answer_is_asked(local, remote, web, clock):
    web.handler.lose_answers = True
    report = run(local, web.url("remote.git"), make_groups(local, 2), clock)
    assert set(states(report).values()) == {PUSHED}
    assert report.push_count == 1


def test_http_password_comes_from_the_given_helper_only(local, remote, web, tmp_path, clock):
    web.handler.password = "YTpi"  # a:b
    groups = make_groups(local, 1)
    git(local.path, "config", "credential.helper", "!echo username=a; echo password=b")
    report = run(local, web.url("remote.git"), groups, clock)
    assert states(report) == {0: RETRY}
    assert "could not read Username" in report.error
    assert clock.slept == []
    helper = GitOptions(credential_helper="!echo username=a; echo password=b; true")
    assert states(run(GitRepository.open(local.path, helper), web.url("remote.git"), groups)) == {0: PUSHED}


def test_http_header_of_the_repository_configuration_applies(local, remote, web):
    web.handler.password = "YTpi"
    git(local.path, "config", f"http.{web.url('remote.git')}.extraHeader", "Authorization: Basic YTpi")
    assert states(run(local, web.url("remote.git"), make_groups(local, 1))) == {0: PUSHED}


def test_password_in_the_url_is_masked_everywhere(local, remote, web, clock):
    web.handler.password = "YTpi"
    url = web.url("remote.git").replace("://", "://a:hunter2@")
    report = run(local, url, make_groups(local, 1), clock)
    assert report.error
    assert "hunter2" not in repr(report)


def test_ssh_command_comes_from_the_options_only(local, remote, tmp_path):
    script = tmp_path / "ssh.sh"
    script.write_text('for last; do :; done\ncase "$1" in -G) exit 0;; esac\nexec sh -c "$last"\n')
    git(local.path, "config", "core.sshCommand", f"touch {tmp_path}/pwned; false")
    groups = make_groups(local, 2)
    through = GitRepository.open(local.path, GitOptions(ssh_command=f"sh {script}"))
    report = run(through, f"ssh://somewhere{remote.path}", groups)
    assert set(states(report).values()) == {PUSHED}
    assert held(remote) == refs_of(groups)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("size", [3000])
def test_many_refs_are_pushed_without_quadratic_cost(local, remote, size):
    """Counts what git is asked to do: one process, wildcards only, whatever the number of refs."""
    oid = make_groups(local, 1)[0].refs[0][1]
    names = [f"refs/tags/corr_{hashlib.sha256(str(n).encode()).hexdigest()}" for n in range(size)]
    groups = [RefGroup(name, ((name, oid),)) for name in names]
    report = run(local, remote, groups, max_refs=size)
    assert report.count(PUSHED) == size
    assert report.push_count == 1
    assert len(held(remote)) == size


def test_push_never_forces_even_when_the_configuration_says_so(local, remote):
    groups = make_groups(local, 2)
    name = groups[0].refs[0][0]
    run(local, remote, groups[:1])
    git(local.path, "config", "remote.origin.url", str(remote.path))
    git(local.path, "config", "remote.origin.push", "+refs/*:refs/*")
    git(local.path, "config", "remote.origin.mirror", "true")
    report = push(local, "origin", [RefGroup("moved", ((name, groups[1].refs[0][1]),))], timeout_s=30)
    assert states(report) == {"moved": REJECTED}
    assert held(remote)[name] == groups[0].refs[0][1]


def test_git_refuses_a_transport_that_slipped_through(local):
    with pytest.raises(GitCommandFailedError):
        run_git(["ls-remote", "ext::sh -c true"], cwd=local.git_dir, options=GitOptions(), network=True)

"""What a remote can do to an export, over a path, git daemon and http: the state of every run, and the next export.

A trouble is caused, the export runs, the states are compared; the trouble is over, and the next export ends with
everything pushed. At no moment does the remote hold a part of a run that counts as pushed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
import secrets
import socket
from typing import Any

import pytest

from benchmarks.servers import git_daemon, http_server
from gitexport import export_status
from gitexport.repository import GitRepository
from tests.export.cutting import CuttingProxy
from tests.export.places import hook, refs_of, run_git

PUSHED, EXPORTED, PARKED = "pushed", "exported", "parked"
RUNS_COUNT = 5
TRANSPORTS = ("file", "git daemon", "http")


@dataclasses.dataclass
class Scene:
    """A store with runs, its repository, and a remote behind a transport."""

    place: Any
    remote: Any
    transport: str
    url: str
    server: Any = None
    runs: list = dataclasses.field(default_factory=list)

    def point_at(self, url):
        self.place.git("config", "remote.origin.url", url)

    def states(self):
        return [self.place.state(run)["export_state"] for run in self.runs]

    def reason(self, number):
        return self.place.state(self.runs[number])["reason"]

    def export(self, **settings):
        pauses = itertools.count()

        def pause(_seconds):
            assert next(pauses) < 100

        summary = self.place.export(push=True, pause=pause, **settings)
        self.assert_no_part_counts()
        return summary

    def assert_no_part_counts(self):
        """A run counts as pushed only where the remote has all its refs."""
        held = refs_of(self.remote)
        for run, state in zip(self.runs, self.states(), strict=True):
            names = [f"refs/heads/{run['branch']}", *(f"refs/tags/{tag}" for tag in run["tags"])]
            there = [held.get(name) == self.place.refs().get(name) for name in names]
            assert all(there) if state == PUSHED else not any(there), (run["branch"], state, there)

    def assert_next_export_completes(self):
        self.point_at(self.url)
        summary = self.export(retry_parked=True)
        assert (summary.state, self.states()) == ("done", [PUSHED] * RUNS_COUNT), summary
        assert refs_of(self.remote) == self.place.refs()
        self.place.assert_exported()
        assert (
            GitRepository.open(self.remote).fsck_strict() == ()
        )  # what its killed git left behind is its own


@pytest.fixture
def push_timeout():
    """Seconds for one push; four times as long is tried."""
    return 3


@pytest.fixture(params=TRANSPORTS)
def scene(request, make_place, tmp_path, push_timeout):
    place = make_place(push_timeout=push_timeout)
    remote = tmp_path / "served" / "remote.git"
    remote.mkdir(parents=True)
    run_git(remote, "init", "--quiet", "--bare", "--initial-branch=main")
    run_git(remote, "config", "http.receivepack", "true")
    with contextlib.ExitStack() as stack:
        server, url = None, str(remote)
        if request.param == "git daemon":
            url = stack.enter_context(git_daemon(remote.parent)) + "/remote.git"
        elif request.param == "http":
            server = stack.enter_context(http_server(remote.parent))
            url = server.url("remote.git")
        place.git("remote", "add", "origin", url)
        found = Scene(place, remote, request.param, url, server)
        noise = random.Random(1)
        found.runs = [
            place.commit(f"t{number}", prompt=f"p{number}", files={"trades.csv": noise.randbytes(20_000)})
            for number in range(RUNS_COUNT)
        ]
        yield found


def wait_for(path):
    """Return a line of a hook that waits until a file is there; however long, it ends with the test."""
    return f"while [ ! -e {path} ]; do sleep 0.05; done"


def test_remote_that_is_down(scene):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nowhere = {
        "file": str(scene.remote.with_name("away.git")),
        "git daemon": f"git://127.0.0.1:{port}/remote.git",
        "http": f"http://127.0.0.1:{port}/remote.git",
    }
    scene.point_at(nowhere[scene.transport])
    summary = scene.export()
    assert (summary.state, summary.exported, summary.pushed) == ("pending", RUNS_COUNT, 0)
    assert scene.states() == [EXPORTED] * RUNS_COUNT
    assert scene.reason(0)
    assert any(warning.startswith("push: ") for warning in summary.warnings)
    scene.assert_next_export_completes()


@pytest.mark.parametrize("push_timeout", [1])
def test_remote_that_hangs(scene, tmp_path):
    """The push is given up and killed; what the remote makes of it afterwards is found by the next export."""
    hook(scene.remote, "pre-receive", wait_for(tmp_path / "over") + "; exit 1")
    summary = scene.export()
    (tmp_path / "over").touch()
    assert (summary.state, summary.pushed, summary.parked) == ("pending", 0, 0)
    assert scene.states() == [EXPORTED] * RUNS_COUNT
    assert "killed" in scene.reason(0)
    (scene.remote / "hooks" / "pre-receive").unlink()
    scene.assert_next_export_completes()


def test_remote_that_is_too_slow_for_all_at_once(scene, tmp_path):
    hook(
        scene.remote,
        "pre-receive",
        f'if [ "$(wc -l)" -gt 9 ]; then {wait_for(tmp_path / "over")}; exit 1; fi',
    )
    summary = scene.export()
    (tmp_path / "over").touch()
    assert (summary.state, summary.pushed) == ("done", RUNS_COUNT)
    scene.assert_next_export_completes()


def test_remote_that_dies_before_the_refs_move(scene):
    hook(scene.remote, "pre-receive", "kill -9 $PPID")
    summary = scene.export()
    assert (summary.state, summary.pushed, summary.parked) == ("pending", 0, 0)
    assert scene.states() == [EXPORTED] * RUNS_COUNT
    assert refs_of(scene.remote) == {}
    (scene.remote / "hooks" / "pre-receive").unlink()
    scene.assert_next_export_completes()


def test_remote_that_dies_once_is_pushed_to_again_by_the_same_export(scene, tmp_path):
    hook(scene.remote, "pre-receive", f"if mkdir {tmp_path}/once; then kill -9 $PPID; fi")
    assert (scene.export().state, scene.states()) == ("done", [PUSHED] * RUNS_COUNT)
    scene.assert_next_export_completes()


@pytest.mark.parametrize("scene", ["git daemon", "http"], indirect=True)
def test_connection_that_breaks_in_the_middle_of_the_pack(scene):
    port = int(scene.url.split(":")[2].split("/")[0])
    proxy = CuttingProxy(port, 50_000)
    try:
        scene.point_at(scene.url.replace(f":{port}/", f":{proxy.port}/"))
        summary = scene.export()
    finally:
        proxy.close()
    assert proxy.cuts > 0
    assert (summary.state, summary.pushed, summary.parked) == ("pending", 0, 0)
    assert scene.states() == [EXPORTED] * RUNS_COUNT
    assert refs_of(scene.remote) == {}
    scene.assert_next_export_completes()


def test_hook_that_refuses_one_tag(scene):
    hook(scene.remote, "update", 'case "$1" in refs/tags/corr_c1) echo "no entry" >&2; exit 1;; esac')
    summary = scene.export()
    assert (summary.state, summary.pushed, summary.parked) == ("parked", RUNS_COUNT - 1, 1)
    assert scene.states() == [PUSHED, PARKED, PUSHED, PUSHED, PUSHED]
    assert "no entry" in scene.reason(1)
    assert [item["reason"] for item in export_status(scene.place.store)["parked"]] == [scene.reason(1)]
    assert scene.export().pushed == 0
    (scene.remote / "hooks" / "update").unlink()
    scene.assert_next_export_completes()


def test_hook_that_refuses_one_run_without_a_name(scene):
    hook(scene.remote, "pre-receive", "if grep -q corr_c3; then echo too big; exit 1; fi")
    summary = scene.export()
    assert (summary.state, summary.pushed, summary.parked) == ("parked", RUNS_COUNT - 1, 1)
    assert scene.states() == [PUSHED, PUSHED, PUSHED, PARKED, PUSHED]
    assert "too big" in scene.reason(3)
    (scene.remote / "hooks" / "pre-receive").unlink()
    scene.assert_next_export_completes()


def test_remote_that_refuses_everything(scene):
    hook(scene.remote, "pre-receive", 'echo "closed for repairs" >&2; exit 1')
    summary = scene.export()
    assert (summary.state, summary.pushed, summary.parked) == ("pending", 0, 0)
    assert scene.states() == [EXPORTED] * RUNS_COUNT
    assert any("closed for repairs" in warning for warning in summary.warnings)
    (scene.remote / "hooks" / "pre-receive").unlink()
    scene.assert_next_export_completes()


def test_branch_that_is_protected(scene):
    branch = scene.runs[2]["branch"]
    hook(
        scene.remote,
        "update",
        f'if [ "$1" = refs/heads/{branch} ]; then echo "GH006: protected" >&2; exit 1; fi',
    )
    summary = scene.export()
    assert (summary.state, summary.pushed, summary.parked) == ("parked", RUNS_COUNT - 1, 1)
    assert scene.states() == [PUSHED, PUSHED, PARKED, PUSHED, PUSHED]
    assert "GH006" in scene.reason(2)
    later = scene.place.commit("t2", "later")
    assert scene.export().pushed == 0
    assert scene.place.state(later)["export_state"] == PARKED
    (scene.remote / "hooks" / "update").unlink()
    scene.assert_next_export_completes()
    assert scene.place.state(later)["export_state"] == PUSHED


def test_branch_and_tag_of_others_at_the_remote_stay_theirs(scene):
    theirs = run_git(scene.remote, "commit-tree", run_git(scene.remote, "mktree"), stdin="theirs\n")
    taken = {f"refs/heads/{scene.runs[0]['branch']}": theirs, "refs/tags/corr_c4": theirs}
    for name, oid in taken.items():
        run_git(scene.remote, "update-ref", name, oid)
    summary = scene.export()
    assert (summary.state, summary.pushed, summary.parked) == ("parked", RUNS_COUNT - 2, 2)
    assert scene.states() == [PARKED, PUSHED, PUSHED, PUSHED, PARKED]
    assert {name: refs_of(scene.remote)[name] for name in taken} == taken
    for name in taken:
        run_git(scene.remote, "update-ref", "-d", name)
    scene.assert_next_export_completes()


def test_answer_that_is_lost(scene):
    if scene.transport == "http":
        scene.server.handler.lose_answers = True
    else:  # the refs are in place when the hook runs; killing receive-pack there loses its report
        hook(scene.remote, "post-receive", "kill -9 $PPID")
    assert (scene.export().state, scene.states()) == ("done", [PUSHED] * RUNS_COUNT)
    scene.assert_next_export_completes()


@pytest.mark.parametrize("scene", ["http"], indirect=True)
def test_password_that_is_wrong_is_told_without_being_told(scene):
    password = secrets.token_hex(12)
    scene.server.handler.password = "none that fits"
    scene.point_at(scene.url.replace("://", f"://robot:{password}@"))
    summary = scene.export()
    assert (summary.state, summary.parked, scene.states()) == ("pending", 0, [EXPORTED] * RUNS_COUNT)
    told = [repr(summary), *(scene.reason(number) for number in range(RUNS_COUNT))]
    told.append(repr(export_status(scene.place.store)))
    assert not [text for text in told if password in text]
    assert "403" in scene.reason(0) or "401" in scene.reason(0) or "Authentication" in scene.reason(0)
    scene.server.handler.password = None
    scene.assert_next_export_completes()

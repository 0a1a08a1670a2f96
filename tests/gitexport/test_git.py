"""git started in a clean room: nothing inherited, nothing hostile run, nothing left behind, typed answers."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cas.errors import (
    ConfigError,
    ConflictError,
    GitCommandFailedError,
    IntegrityError,
    InvalidNameError,
    NotFoundError,
)
from gitexport.git import MINIMUM_VERSION, GitOptions, git_version, mask_credentials, run_git
from gitexport.refvalues import RefChange, RefValue, check_oid, check_ref_name
from gitexport.repository import GitRepository
from gitexport.transfer import delete_once, push_once
from tests.gitexport.processes import survivors
from tests.gitexport.refplaces import CLEAN, git

ROOT = Path(__file__).parents[2]


def commit(directory, text="x", *parents):
    blob = git(directory, "hash-object", "-w", "--stdin", stdin=text)
    tree = git(directory, "mktree", stdin=f"100644 blob {blob}\tf\n")
    return git(directory, "commit-tree", tree, *(word for p in parents for word in ("-p", p)), stdin=text)


def tag(directory, target, name="t"):
    text = f"object {target}\ntype commit\ntag {name}\ntagger a <a@example.com> 1 +0000\n\nm\n"
    return git(directory, "mktag", stdin=text)


@pytest.fixture(params=["sha1", "sha256"])
def object_format(request):
    return request.param


@pytest.fixture
def bare(tmp_path, object_format):
    return GitRepository.create_bare(tmp_path / "bare.git", object_format)


def test_version_is_at_least_the_minimum():
    assert git_version() >= MINIMUM_VERSION


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("fatal: https://user:tok@host/x", "fatal: https://***@host/x"),
        ("https://user:p@ss:w@host/x y", "https://***@host/x y"),
        ("HTTP://token@host", "HTTP://***@host"),
        ("'ssh://git@host/p'", "'ssh://***@host/p'"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("authorization: basic dXNlcg==", "authorization: basic ***"),
        ("?access_token=abc&x=1", "?access_token=***&x=1"),
        ("PASSWORD=hunter2 rest", "PASSWORD=*** rest"),
        ("remote: ghp_0123456789abcdefghij here", "remote: *** here"),
        ("plain text at host: path/a@b", "plain text at host: path/a@b"),
    ],
)
def test_credentials_in_output_are_masked(dirty, clean):
    assert mask_credentials(dirty) == clean


def test_failure_text_masks_credentials(tmp_path):
    repository = GitRepository.create_bare(tmp_path / "r")
    with pytest.raises(GitCommandFailedError) as caught:
        repository.list_remote_refs("http://user:hunter2@127.0.0.1:1/x.git")
    assert "hunter2" not in str(caught.value)


def test_inherited_git_variables_do_not_take_part(tmp_path, monkeypatch):
    other = GitRepository.create_bare(tmp_path / "other")
    for name in ("GIT_DIR", "GIT_OBJECT_DIRECTORY", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_COMMON_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_NAMESPACE", "elsewhere")
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "alias.version")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "!touch pwned")
    repository = GitRepository.create(tmp_path / "r")
    assert repository.git_dir == tmp_path / "r" / ".git"
    assert GitRepository.open(tmp_path / "other").list_refs() == {}
    assert not (tmp_path / "trace").exists()
    assert other.fsck_strict() == ()


def test_user_and_system_configuration_do_not_take_part(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[core]\n\thooksPath = /nowhere\n[user]\n\tname = Hostile\n[broken\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    repository = GitRepository.create(tmp_path / "r")
    listed = run_git(
        ["config", "--list", "--name-only"], cwd=repository.git_dir, options=GitOptions()
    ).stdout.decode()
    assert "user.name" not in listed


def test_command_out_of_time_is_killed_with_its_children(tmp_path):
    marker = tmp_path / "pid"
    script = f"!echo $$ >{marker}; sleep 1077 & wait"
    with pytest.raises(GitCommandFailedError) as caught:
        run_git(["-c", f"alias.hang={script}", "hang"], cwd=tmp_path, options=GitOptions(), timeout_s=0.5)
    assert caught.value.kind == "git_timeout"
    assert caught.value.retryable
    assert survivors(str(marker), "sleep 1077") == []


def test_missing_git_is_reported_as_missing(tmp_path):
    script = """
import sys
from cas.errors import GitCommandFailedError
from gitexport.git import git_version
try:
    git_version()
except GitCommandFailedError as error:
    sys.exit(0 if error.kind == "git_missing" and not error.retryable else 3)
"""
    env = CLEAN | {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", script], env=env, cwd=ROOT, check=False).returncode == 0


def test_broken_configuration_of_the_user_is_not_read_even_when_git_is_first_started(tmp_path):
    (tmp_path / ".gitconfig").write_text("[broken\n")
    script = "from gitexport.git import git_version; assert git_version() >= (2, 36)"
    env = CLEAN | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "XDG_CONFIG_HOME"):
        env.pop(name, None)
    assert subprocess.run(["git", "version"], env=env, capture_output=True, check=False).returncode == 128
    assert subprocess.run([sys.executable, "-c", script], env=env, cwd=ROOT, check=False).returncode == 0


def test_open_reports_what_kind_of_repository_it_is(tmp_path, object_format):
    tree = GitRepository.create(tmp_path / "tree", object_format)
    assert (tree.is_bare, tree.object_format, tree.ref_format) == (False, object_format, "files")
    assert tree.git_dir == tree.common_dir == tmp_path / "tree" / ".git"
    git(tree.path, "update-ref", "refs/heads/main", commit(tree.path))
    git(tree.path, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "side")
    linked = GitRepository.open(tmp_path / "linked")
    assert linked.common_dir == tree.git_dir
    assert linked.git_dir == tree.git_dir / "worktrees" / "linked"
    assert not linked.is_bare
    assert linked.list_refs() == tree.list_refs()
    bare = GitRepository.create_bare(tmp_path / "bare", object_format)
    assert bare.is_bare
    assert GitRepository.open(tmp_path / "tree" / ".git").common_dir == tree.git_dir


def test_open_does_not_take_a_repository_around_the_folder(tmp_path):
    GitRepository.create(tmp_path / "r")
    inside = tmp_path / "r" / "inside"
    inside.mkdir()
    for path in (inside, tmp_path, tmp_path / "missing", Path(__file__)):
        with pytest.raises(GitCommandFailedError) as caught:
            GitRepository.open(path)
        assert caught.value.kind == "not_a_repository"
        assert caught.value.subject == str(path)
        assert not caught.value.retryable


_AS_ORDINARY_USER = """
import os, subprocess, sys, tempfile
from pathlib import Path
import git.cmd
from cas.errors import ArtifactStoreError
from gitexport.repository import GitRepository

if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
with tempfile.TemporaryDirectory() as name:
    for folder in ("around", "closed", "closed/within"):
        subprocess.run(["git", "init", "--quiet", f"{name}/{folder}"], check=True)
    os.chdir(f"{name}/around")
    os.chmod(f"{name}/closed", 0)
    for folder in ("closed", "closed/within"):
        try:
            print("opened", GitRepository.open(Path(name, folder)).git_dir)
        except ArtifactStoreError as error:
            print(type(error).__name__, error.kind, folder in error.message, "Permission denied" in error.message)
    os.chmod(f"{name}/closed", 0o700)
"""


def test_repository_that_may_not_be_entered_is_refused_and_no_other_is_taken(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _AS_ORDINARY_USER],
        cwd=ROOT,
        env=CLEAN | {"PYTHONPATH": str(ROOT), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["StorageError permission_denied True True"] * 2, done.stderr


def test_hint_where_no_repository_is_fits_what_is_there(tmp_path):
    GitRepository.create(tmp_path / "r")
    (tmp_path / "r" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "with files").mkdir()
    (tmp_path / "with files" / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    hints = {}
    for name in ("r/deep/er", "with files", "empty", "missing", "with files/notes.txt"):
        with pytest.raises(GitCommandFailedError) as caught:
            GitRepository.open(tmp_path / name)
        hints[name] = caught.value.hint
    assert f"inside the repository {tmp_path}/r:" in hints["r/deep/er"]
    assert f"`git init '{tmp_path}/with files'`" in hints["with files"]
    for name in ("empty", "missing"):
        assert f"`git init --bare {tmp_path}/{name}`" in hints[name]
    assert "not a file" in hints["with files/notes.txt"]
    for command in (hints["with files"], hints["empty"]):
        words = shlex.split(command.split("`")[1])
        subprocess.run([*words, "--quiet"], env=CLEAN, check=True)
        assert GitRepository.open(Path(words[-1])).list_refs() == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository away")
def test_repository_of_another_user_is_refused_until_trusted(tmp_path):
    path = tmp_path / "r"
    GitRepository.create_bare(path)
    for found in [path, *path.rglob("*")]:
        os.chown(found, 12345, 12345)
    with pytest.raises(GitCommandFailedError) as caught:
        GitRepository.open(path)
    assert caught.value.kind == "foreign_owner"
    assert "\n" not in caught.value.message
    assert "git_trust_foreign_owner" in (caught.value.hint or "")
    if git_version() >= (2, 38):
        assert GitRepository.open(path, GitOptions(trust_foreign_owner=True)).list_refs() == {}


def test_create_refuses_a_folder_that_is_not_empty(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConflictError):
        GitRepository.create(tmp_path)


def test_repository_made_by_a_newer_git_is_explained(tmp_path):
    repository = GitRepository.create_bare(tmp_path / "r")
    git(repository.path, "config", "core.repositoryFormatVersion", "1")
    git(repository.path, "config", "extensions.notYetInvented", "true")
    with pytest.raises(GitCommandFailedError) as caught:
        GitRepository.open(tmp_path / "r")
    assert caught.value.kind == "git_too_old"


@pytest.mark.parametrize(
    ("setting", "bits"), [("group", 0o660), ("all", 0o664), ("0640", 0o640), ("umask", 0)]
)
def test_shared_repository_bits_are_read(tmp_path, setting, bits):
    repository = GitRepository.create_bare(tmp_path / "r")
    git(repository.path, "config", "core.sharedRepository", setting)
    assert GitRepository.open(tmp_path / "r").shared_bits == bits


@dataclasses.dataclass
class Hostile:
    """A repository whose every setting and hook would start a program, and the proof that one ran."""

    opened: GitRepository
    remote: GitRepository
    oid: str
    run: str
    proof: Path


@pytest.fixture
def hostile(tmp_path):
    repository = GitRepository.create(tmp_path / "r")
    proof = tmp_path / "pwned"
    run = f"touch {proof}; false"
    hook = repository.git_dir / "hooks"
    hook.mkdir(exist_ok=True)
    for name in ("reference-transaction", "pre-push", "post-update", "fsmonitor-watchman"):
        (hook / name).write_text(f"#!/bin/sh\n{run}\n")
        (hook / name).chmod(0o755)
    remote = GitRepository.create_bare(tmp_path / "remote")
    settings = {
        "core.hooksPath": str(hook),
        "core.fsmonitor": run,
        "core.sshCommand": run,
        "core.gitProxy": run,
        "core.pager": run,
        "core.editor": run,
        "core.askPass": run,
        "credential.helper": f"!{run}",
        "credential.http://127.0.0.1:1.helper": f"!{run}",
        "gpg.program": run,
        "push.gpgSign": "true",
        "commit.gpgSign": "true",
        "filter.x.clean": run,
        "diff.external": run,
        "alias.push": f"!{run}",
        "alias.for-each-ref": f"!{run}",
        "hook.evil.command": run,
        "hook.evil.event": "reference-transaction",
        "protocol.ext.allow": "always",
        "remote.origin.url": str(remote.path),
        "remote.origin.receivepack": run,
        "remote.origin.uploadpack": run,
        "remote.origin.vcs": "evil",
        "remote.origin.mirror": "true",
        f"remote.file://{remote.path}.receivepack": run,
        f"remote.file://{remote.path}.uploadpack": run,
        "remote.proxy.url": "git://127.0.0.1:1/x",
        "remote.web.url": "http://127.0.0.1:1/x.git",
        "remote.evil.url": f"ext::sh -c '{run}'",
        "remote.rewritten.url": "safe:x",
        f"url.ext::sh -c '{run}' %.insteadOf": "safe:",
    }
    for key, value in settings.items():
        git(repository.path, "config", key, value)
    (repository.path / ".gitattributes").write_text("* filter=x diff=x\n")
    oid = commit(repository.path)
    yield Hostile(GitRepository.open(repository.path), remote, oid, run, proof)
    assert not proof.exists(), "a program was started"


def test_hostile_configuration_starts_no_program_when_refs_and_objects_are_used(hostile):
    hostile.opened.update_refs([RefChange("refs/heads/x", None, hostile.oid)])
    hostile.opened.pack_refs()
    assert hostile.opened.list_refs() == {"refs/heads/x": RefValue(hostile.oid)}
    assert hostile.opened.read_object(hostile.oid)[0] == "commit"
    assert hostile.opened.fsck_strict() == ()
    hostile.opened.checked_out_branches({"refs/heads/main"})


def test_hostile_configuration_starts_no_program_when_refs_are_pushed_and_deleted(hostile):
    hostile.opened.update_refs([RefChange("refs/heads/x", None, hostile.oid)])
    answer = push_once(
        hostile.opened, hostile.opened.push_url("origin"), {"refs/heads/x": hostile.oid}, timeout_s=30
    )
    assert answer.refs["refs/heads/x"].accepted, answer.text
    assert hostile.remote.list_refs() == {"refs/heads/x": RefValue(hostile.oid)}
    # a URL is the name of a remote, too, and settings of that name count for git
    answer = push_once(
        hostile.opened, f"file://{hostile.remote.path}", {"refs/heads/x": hostile.oid}, timeout_s=30
    )
    assert answer.refs["refs/heads/x"].accepted, answer.text
    assert hostile.opened.list_remote_refs(f"file://{hostile.remote.path}") == {"refs/heads/x": hostile.oid}
    answer = delete_once(
        hostile.opened, f"file://{hostile.remote.path}", {"refs/heads/x": hostile.oid}, timeout_s=30
    )
    assert answer.refs["refs/heads/x"].accepted, answer.text


def test_hostile_configuration_starts_no_program_when_a_remote_is_asked(hostile):
    for name in ("proxy", "web"):
        with pytest.raises(GitCommandFailedError):
            hostile.opened.list_remote_refs(hostile.opened.push_url(name), timeout_s=30)
    for name in ("evil", "rewritten"):
        with pytest.raises(ConfigError) as caught:
            hostile.opened.push_url(name)
        assert caught.value.subject == name
    # even past our own check, git itself refuses the transport
    with pytest.raises(GitCommandFailedError, match="transport 'ext' not allowed"):
        hostile.opened.list_remote_refs(f"ext::sh -c '{hostile.run}'")


def test_replacement_objects_do_not_change_what_is_read(bare):
    first, second = commit(bare.path, "one"), commit(bare.path, "two")
    git(bare.path, "replace", first, second)
    assert bare.read_object(first)[1].endswith(b"one")


def test_refs_are_listed_with_peeled_tags_and_symbolic_targets(bare):
    oid = commit(bare.path)
    annotated = tag(bare.path, oid)
    git(bare.path, "update-ref", "refs/heads/a/b", oid)
    git(bare.path, "update-ref", "refs/tags/t", annotated)
    git(bare.path, "symbolic-ref", "refs/heads/s", "refs/heads/a/b")
    assert bare.list_refs(peeled=True) == {
        "refs/heads/a/b": RefValue(oid),
        "refs/heads/s": RefValue(oid, None, "refs/heads/a/b"),
        "refs/tags/t": RefValue(annotated, oid),
    }
    assert set(bare.list_refs(["refs/heads/a/"])) == {"refs/heads/a/b"}
    assert bare.list_refs(["refs/heads/a/b", "refs/tags"]).keys() == {"refs/heads/a/b", "refs/tags/t"}


@pytest.mark.parametrize("character", ["\u0085", "\u2028", "\u2029"])
def test_ref_whose_name_holds_a_line_separator_is_listed_like_others(bare, character):
    oid = commit(bare.path)
    names = {f"refs/tags/a{character}b", "refs/tags/plain"}
    bare.update_refs([RefChange(name, None, oid) for name in sorted(names)])
    assert bare.list_refs().keys() == names
    assert bare.list_remote_refs(str(bare.path)).keys() == names
    refs = dict.fromkeys(names, oid)
    assert push_once(bare, str(bare.path), refs, timeout_s=30).refs.keys() == names


def test_refs_are_read_by_exact_name_however_many(bare):
    oid = commit(bare.path)
    names = [f"refs/heads/w/t{number}" for number in range(300)]
    bare.update_refs([RefChange(name, None, oid) for name in names])
    assert bare.read_refs(names[:2]) == {name: RefValue(oid) for name in names[:2]}
    assert bare.read_refs([*names, "refs/heads/missing"]).keys() == set(names)
    assert bare.read_refs(["refs/heads/w"]) == {}
    assert bare.read_refs([]) == {}


def test_checked_out_branches_are_found_in_every_work_tree(tmp_path):
    main, task, free = "refs/heads/main", "refs/heads/ai/generated/w/t", "refs/heads/free"
    repository = GitRepository.create(tmp_path / "r")
    assert repository.checked_out_branches({main, free}) == {main: repository.path}
    git(repository.path, "update-ref", main, commit(repository.path))
    other = tmp_path / "with\nnewline"
    git(repository.path, "worktree", "add", "-q", str(other), "-b", "ai/generated/w/t")
    git(repository.path, "worktree", "add", "-q", "--detach", str(tmp_path / "detached"))
    assert repository.checked_out_branches({main, task, free}) == {main: repository.path, task: other}
    assert repository.checked_out_branches({task, free}) == {task: other}
    assert repository.checked_out_branches({free}) == {}


def test_branch_under_a_head_that_is_a_symbolic_link_is_checked_out(tmp_path):
    repository = GitRepository.create(tmp_path / "r")
    head = repository.git_dir / "HEAD"
    head.unlink()
    head.symlink_to("refs/heads/main")
    assert repository.checked_out_branches({"refs/heads/main"}) == {"refs/heads/main": repository.path}


def test_refs_move_together_or_not_at_all(bare):
    first, second = commit(bare.path, "1"), commit(bare.path, "2")
    bare.update_refs([RefChange("refs/heads/a", None, first), RefChange("refs/heads/b", None, first)])
    with pytest.raises(ConflictError) as caught:
        bare.update_refs([RefChange("refs/heads/a", first, second), RefChange("refs/heads/b", second, first)])
    assert caught.value.subject == "refs/heads/b"
    with pytest.raises(ConflictError) as caught:
        bare.update_refs([RefChange("refs/heads/a", first, second), RefChange("refs/heads/b", None, second)])
    assert caught.value.subject == "refs/heads/b"
    assert bare.list_refs() == {"refs/heads/a": RefValue(first), "refs/heads/b": RefValue(first)}
    bare.update_refs([RefChange("refs/heads/a", first, None), RefChange("refs/heads/b", first, second)])
    assert bare.list_refs() == {"refs/heads/b": RefValue(second)}


def test_refused_moves_name_the_culprit(bare):
    oid = commit(bare.path)
    bare.update_refs([RefChange("refs/heads/ai", None, oid)])
    with pytest.raises(ConflictError) as caught:
        bare.update_refs([RefChange("refs/heads/ai/generated/w/t", None, oid)])
    assert caught.value.subject == "refs/heads/ai"
    missing = "1" * len(oid)
    with pytest.raises(IntegrityError):
        bare.update_refs([RefChange("refs/heads/x", None, missing)])
    blob = git(bare.path, "hash-object", "-w", "--stdin", stdin="b")
    with pytest.raises(IntegrityError):
        bare.update_refs([RefChange("refs/heads/x", None, blob)])
    lock = bare.git_dir / "refs" / "heads" / "x.lock"
    lock.touch()
    with pytest.raises(GitCommandFailedError) as locked:
        bare.update_refs([RefChange("refs/heads/x", None, oid)])
    assert (locked.value.kind, locked.value.subject, locked.value.retryable) == (
        "ref_locked",
        str(lock),
        True,
    )


def test_ref_update_whose_input_ends_early_changes_nothing(bare):
    oid = commit(bare.path)
    env = {"GIT_DIR": str(bare.git_dir)}
    cut = f"start\0create refs/heads/a\0{oid}\0create refs/heads/b\0{oid}\0prepare\0".encode()
    run_git(["update-ref", "--stdin", "-z"], cwd=bare.git_dir, options=GitOptions(), stdin=cut, extra_env=env)
    assert bare.list_refs() == {}
    assert list(bare.git_dir.rglob("*.lock")) == []


def test_objects_are_read_checked_and_peeled(bare, object_format):
    oid = commit(bare.path, "text")
    annotated = tag(bare.path, oid)
    missing = "0" * len(oid)
    kind, data = bare.read_object(oid)
    assert (kind, data.endswith(b"text")) == ("commit", True)
    with pytest.raises(NotFoundError):
        bare.read_object(missing)
    assert bare.missing_objects([oid, missing, annotated]) == {missing}
    assert bare.missing_objects([]) == set()
    assert bare.peel([oid, annotated, missing]) == {
        oid: ("commit", None),
        annotated: ("tag", oid),
        missing: ("missing", None),
    }
    for bad in ("HEAD", "--help", "abc", oid + "\n", oid.upper() + "g"):
        with pytest.raises(IntegrityError):
            bare.missing_objects([bad])


def test_objects_are_streamed_in_order_and_unread_ones_skipped(bare):
    contents = [os.urandom(1_000_000), b"", b"small", os.urandom(700_000)]
    oids = []
    for content in contents:
        (bare.path / "in").write_bytes(content)
        oids.append(git(bare.path, "hash-object", "-w", "in"))
    (bare.path / "in").unlink()
    asked = [oids[0], "f" * len(oids[0]), oids[1], oids[2], oids[3], oids[2]]
    seen = []
    for stream in bare.iter_object_bytes(asked):
        skip = stream.oid == oids[3]
        seen.append((stream.oid, stream.kind, stream.size_bytes, None if skip else b"".join(stream)))
    assert seen == [
        (oids[0], "blob", 1_000_000, contents[0]),
        ("f" * len(oids[0]), "missing", 0, b""),
        (oids[1], "blob", 0, b""),
        (oids[2], "blob", 5, b"small"),
        (oids[3], "blob", 700_000, None),
        (oids[2], "blob", 5, b"small"),
    ]


def test_stream_of_a_damaged_object_ends_in_an_error(bare):
    oid = git(bare.path, "hash-object", "-w", "--stdin", stdin="y" * 100_000)
    path = bare.git_dir / "objects" / oid[:2] / oid[2:]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(GitCommandFailedError):
        b"".join(chunk for stream in bare.iter_object_bytes([oid]) for chunk in stream)
    assert bare.fsck_strict() != ()


def test_stream_that_falls_silent_is_killed(tmp_path):
    repository = GitRepository.create_bare(tmp_path / "r")
    oid = git(repository.path, "hash-object", "-w", "--stdin", stdin="x")
    fifo = repository.git_dir / "objects" / oid[:2] / oid[2:]
    fifo.unlink()
    os.mkfifo(fifo)  # git waits for ever when it opens it
    impatient = GitRepository.open(repository.path, GitOptions(timeout_s=0.5))
    with pytest.raises(GitCommandFailedError) as caught:
        list(impatient.iter_object_bytes([oid]))
    assert caught.value.kind == "git_timeout"


def child_processes():
    listed = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {number for path in listed for number in path.read_text().split()}


def test_stream_left_early_leaves_no_process(bare):
    oid = git(bare.path, "hash-object", "-w", "--stdin", stdin="z" * 1000)
    before = child_processes()  # other tests' pools may have left helpers of Python's own
    streams = bare.iter_object_bytes([oid] * 50_000)
    next(streams)
    assert child_processes() - before
    streams.close()
    assert child_processes() <= before


def test_ancestry_is_told(bare):
    first = commit(bare.path, "1")
    second = commit(bare.path, "2", first)
    assert bare.is_ancestor(first, second)
    assert bare.is_ancestor(first, first)
    assert not bare.is_ancestor(second, first)
    with pytest.raises(GitCommandFailedError):
        bare.is_ancestor("1" * len(first), second)


def test_remotes_and_push_urls_are_resolved(tmp_path):
    repository = GitRepository.create(tmp_path / "r")
    for name, url in {
        "origin": "https://example.com/a",
        "near": "../sibling",
        "ssh": "git@host:x/y.git",
    }.items():
        git(repository.path, "remote", "add", name, url)
    git(repository.path, "config", "remote.origin.pushurl", "short:a")
    git(repository.path, "config", "url.https://long.example.com/.insteadOf", "short:")
    assert repository.remotes() == {"origin": "short:a", "near": "../sibling", "ssh": "git@host:x/y.git"}
    assert repository.push_url("origin") == "https://long.example.com/a"
    assert Path(repository.push_url("near")).resolve() == tmp_path / "sibling"
    assert repository.push_url("ssh") == "git@host:x/y.git"
    assert repository.push_url("/some/where") == "/some/where"
    git(repository.path, "config", "--add", "remote.origin.pushurl", "https://second.example.com/a")
    for remote in ("origin", "missing", "ext::sh -c x", "fd::3", "ftp://host/x", "--upload-pack=x/y", "-x:y"):
        with pytest.raises(ConfigError):
            repository.push_url(remote)
    with pytest.raises(ConfigError):
        GitRepository.open(repository.path, GitOptions(protocols=("ssh",))).push_url("/some/where")


def test_partial_clone_is_refused(tmp_path):
    source = GitRepository.create_bare(tmp_path / "source")
    git(source.path, "config", "uploadpack.allowFilter", "true")
    git(source.path, "update-ref", "refs/heads/main", commit(source.path))
    git(tmp_path, "clone", "-q", "--bare", "--filter=blob:none", f"file://{source.path}", "partial")
    with pytest.raises(GitCommandFailedError) as caught:
        GitRepository.open(tmp_path / "partial")
    assert caught.value.kind == "partial_clone"


@pytest.mark.parametrize("name", ["refs/heads/a", "refs/tags/corr_x@2", "refs/heads/a/b-c_d.e%2F"])
def test_ref_name_git_accepts_is_accepted(name):
    assert check_ref_name(name) == name
    assert subprocess.run(["git", "check-ref-format", name], check=False).returncode == 0


@pytest.mark.parametrize(
    "name",
    [
        *(
            "refs/heads/a b",
            "refs/heads/a..b",
            "refs/heads/.a",
            "refs/heads/a.lock",
            "refs/heads/a.",
            "refs/heads/a/",
        ),
        *(
            "refs/heads//a",
            "refs/heads/a~",
            "refs/heads/a^",
            "refs/heads/a:",
            "refs/heads/a?",
            "refs/heads/a[x",
        ),
        *(
            "refs/heads/a\\",
            "refs/heads/a\n",
            "refs/heads/a@{b",
            "refs/heads/a.lock/b",
            "refs/heads/\x7f",
            "refs/x",
        ),
    ],
)
def test_ref_name_git_refuses_is_refused(name):
    with pytest.raises(InvalidNameError):
        check_ref_name(name)


def test_oid_is_checked():
    assert check_oid("a" * 40) == "a" * 40
    for bad in ("", "a" * 39, "A" * 40, "a" * 41, "a" * 40 + "\n"):
        with pytest.raises(IntegrityError):
            check_oid(bad)


def test_interrupt_kills_git(tmp_path):
    script = f"""
import os, signal, sys, threading, traceback
from pathlib import Path
from gitexport.git import GitOptions, run_git
fifo = {str(tmp_path / "fifo")!r}
os.mkfifo(fifo)
main = threading.get_ident()

def interrupt():
    open(fifo).read()
    # On a busy machine git may say so before the call that started it has returned.
    while "communicate" not in [f.f_code.co_name for f, _ in traceback.walk_stack(sys._current_frames()[main])]:
        pass
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    run_git(["-c", "alias.hang=!echo up >" + fifo + "; sleep 1000", "hang"], cwd=Path("/"), options=GitOptions())
except KeyboardInterrupt:
    sys.exit(7)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=CLEAN | {"PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )
    assert done.returncode == 7
    assert survivors(f"up >{tmp_path}") == []

"""A repository's verbs one by one: what each asks of git, what it makes of the answer, and what it refuses."""

from __future__ import annotations

import os
import shutil

import pytest

from cas.errors import ConfigError, ConflictError, GitCommandFailedError, IntegrityError, NotFoundError
from gitexport import repository as module
from gitexport.git import GitOptions
from gitexport.refvalues import RefChange, RefValue
from gitexport.remoteurl import checked_url, is_address
from gitexport.repository import GitRepository
from tests.gitexport.refplaces import commit, git, tag

A, B, T = "refs/heads/a", "refs/heads/b", "refs/tags/t"


def fields(error):
    return error.kind, error.subject, error.retryable


@pytest.mark.parametrize("key", ["extensions.partialClone", "remote.up.promisor", "remote.a.b.promisor"])
def test_partial_clone_of_any_kind_is_refused(repo, key):
    git(repo.path, "config", key, "true")
    with pytest.raises(GitCommandFailedError) as caught:
        GitRepository(repo.path)
    assert fields(caught.value) == ("partial_clone", str(repo.path), False)
    assert caught.value.message == f"{repo.path} is a partial clone, which cannot tell what it lacks"


def test_setting_that_only_looks_like_a_promisor_is_none(repo):
    git(repo.path, "config", "remote.promisor.url", "/x")
    git(repo.path, "config", "branch.remote.x.promisor", "true")
    assert GitRepository.open(repo.path).is_bare


def test_repository_knows_where_it_is_by_absolute_paths(repo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = GitRepository.open(os.path.relpath(repo.path) and type(repo.path)("repo.git"))
    assert (opened.path, opened.git_dir, opened.common_dir) == (repo.path,) * 3
    assert opened.options == GitOptions()
    options = GitOptions(timeout_s=7)
    assert GitRepository.open(repo.path, options).options is options


def test_configured_hooks_are_switched_off_by_their_names(repo):
    assert repo._hook_config == ()
    for name in ("lint", "a.b"):
        git(repo.path, "config", f"hook.{name}.command", "false")
        git(repo.path, "config", f"hook.{name}.event", "pre-push")
    git(repo.path, "config", "hook.level", "1")
    opened = GitRepository.open(repo.path)
    assert opened._hook_config == (("hook.a.b.enabled", "false"), ("hook.lint.enabled", "false"))
    assert opened._run("config", "hook.lint.enabled").stdout == b"false\n"
    assert opened.run_remote(["config", "hook.lint.enabled"]).stdout == b"false\n"


@pytest.mark.parametrize(
    ("setting", "bits"),
    [
        ("", 0), ("umask", 0), ("false", 0), ("0", 0), ("group", 0o660), ("TRUE", 0o660), ("1", 0o660),
        ("all", 0o664), ("world", 0o664), ("everybody", 0o664), ("2", 0o664), ("0640", 0o640), ("0777", 0o666),
        ("0604", 0o604), ("640", 0), ("08", 0), ("06400", 0),
    ],
)  # fmt: skip
def test_shared_repository_adds_the_bits_that_git_adds(setting, bits):
    assert module._shared_bits(setting) == bits


def test_shared_repository_is_known_when_it_is_opened(repo):
    assert repo.shared_bits == 0
    git(repo.path, "config", "core.sharedRepository", "group")
    assert GitRepository.open(repo.path).shared_bits == 0o660


def test_new_repository_is_made_in_an_empty_folder_alone(tmp_path):
    made = GitRepository.create(tmp_path / "deep" / "er", "sha256")
    assert (made.is_bare, made.object_format, made.ref_format) == (False, "sha256", "files")
    assert git(made.path, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert sorted(path.name for path in made.git_dir.iterdir()) == ["HEAD", "config", "objects", "refs"]
    for create in (GitRepository.create, GitRepository.create_bare):
        with pytest.raises(ConflictError) as caught:
            create(made.path)
        assert caught.value.subject == str(made.path)
        assert caught.value.message == f"{made.path} is not empty"
    options = GitOptions(timeout_s=7)
    (tmp_path / "there").mkdir()
    assert GitRepository.create(tmp_path / "there", options=options).options is options
    assert GitRepository.create_bare(tmp_path / "bare", options=options).options is options


def test_repository_for_exports_leaves_repacking_to_its_owner(repo):
    assert repo.is_bare
    assert repo.object_format == "sha1"
    for key, value in (
        ("pack.window", "0"), ("gc.auto", "0"), ("maintenance.auto", "false"), ("receive.autogc", "false"),
    ):  # fmt: skip
        assert git(repo.path, "config", key) == value


def test_folder_that_is_no_repository_is_told_with_a_way_out(tmp_path):
    repository = GitRepository.create(tmp_path / "around")
    (repository.path / "in side").mkdir()
    (tmp_path / "full of").mkdir()
    (tmp_path / "full of" / "x").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    another = "or give another repository."
    for path, hint in (
        (
            repository.path / "in side",
            f"It lies inside the repository {repository.path}: give that one, or a folder outside of it.",
        ),
        (
            tmp_path / "full of",
            f"Run `git init '{tmp_path}/full of'`, which leaves the files there as they are; {another}",
        ),
        (tmp_path / "file", "Give the folder of a repository, not a file."),
        *(
            (
                tmp_path / name,
                f"Run `git init --bare {tmp_path}/{name}` for one that only holds exports; {another}",
            )
            for name in ("empty", "none")
        ),
    ):
        with pytest.raises(GitCommandFailedError) as caught:
            GitRepository.open(path)
        assert fields(caught.value) == ("not_a_repository", str(path), False)
        assert caught.value.hint == hint


def test_folder_within_a_bare_repository_is_none(repo):
    with pytest.raises(GitCommandFailedError) as caught:
        GitRepository.open(repo.path / "objects")
    assert fields(caught.value)[:2] == ("not_a_repository", str(repo.path / "objects"))


def test_move_that_git_refuses_is_told_by_its_reason(repo):
    one, two = commit(repo.path, "1"), commit(repo.path, "2")
    repo.update_refs([RefChange(A, None, one)])
    for change in (RefChange(A, two, one), RefChange(A, None, two), RefChange(A, two, None)):
        with pytest.raises(ConflictError) as caught:
            repo.update_refs([RefChange(B, None, one), change])
        assert caught.value.subject == A
    with pytest.raises(IntegrityError):
        repo.update_refs([RefChange(B, None, "1" * 40)])
    assert repo.list_refs() == {A: RefValue(one)}


def test_refs_are_listed_below_each_prefix(repo):
    oid = commit(repo.path)
    annotated = tag(repo.path, oid)
    for name, value in ((A, oid), (B, oid), (T, annotated), ("refs/notes/x", oid)):
        git(repo.path, "update-ref", name, value)
    assert repo.list_refs().keys() == {A, B, T, "refs/notes/x"}
    assert repo.list_refs(["refs/tags/", A]) == {A: RefValue(oid), T: RefValue(annotated)}
    assert repo.list_refs(["refs/tags"], peeled=True) == {T: RefValue(annotated, oid)}
    assert repo.list_refs([A], peeled=True) == {A: RefValue(oid, None, None)}
    assert repo.list_refs(["refs/none"]) == {}


def test_refs_are_read_in_parts_and_by_exact_names(repo, monkeypatch):
    oid = commit(repo.path)
    names = [f"refs/heads/n/{number}" for number in range(5)]
    repo.update_refs([RefChange(name, None, oid) for name in names])
    monkeypatch.setattr(module, "_PATTERN_COUNT", 2)
    assert repo.read_refs([*names, "refs/heads/none", "refs/heads/n"]) == dict.fromkeys(names, RefValue(oid))


def test_moves_are_made_together_and_locks_inherited(repo):
    one, two = commit(repo.path, "1"), commit(repo.path, "2")
    reader, writer = os.pipe()
    try:
        repo.update_refs([RefChange(A, None, one), RefChange(B, None, one)], pass_fds=(writer,))
        repo.update_refs([RefChange(A, one, two), RefChange(B, one, None), RefChange(T, None, two)])
    finally:
        os.close(reader)
        os.close(writer)
    assert repo.list_refs() == {A: RefValue(two), T: RefValue(two)}
    assert (repo.git_dir / A).exists()
    repo.pack_refs()
    assert not (repo.git_dir / A).exists()
    assert repo.list_refs() == {A: RefValue(two), T: RefValue(two)}
    repo.update_refs([])


def test_symbolic_ref_is_moved_itself_and_not_what_it_names(repo):
    oid = commit(repo.path)
    git(repo.path, "symbolic-ref", A, B)
    repo.update_refs([RefChange(A, None, oid)])
    assert repo.list_refs() == {A: RefValue(oid)}


def test_object_is_read_with_its_kind_whatever_it_holds(repo):
    data = "a\n\nmissing\n"
    oid = git(repo.path, "hash-object", "-w", "--stdin", stdin=data)
    assert repo.read_object(oid) == ("blob", data.encode())
    empty = git(repo.path, "hash-object", "-w", "--stdin")
    assert repo.read_object(empty) == ("blob", b"")
    with pytest.raises(NotFoundError) as caught:
        repo.read_object("1" * 40)
    assert (caught.value.subject, caught.value.message) == ("1" * 40, f"git has no object {'1' * 40}")
    with pytest.raises(IntegrityError):
        repo.read_object("HEAD")


def test_objects_are_peeled_and_a_tag_of_nothing_is_missing(repo):
    oid = commit(repo.path)
    annotated = tag(repo.path, oid)
    outer = git(
        repo.path, "mktag", stdin=f"object {annotated}\ntype tag\ntag o\ntagger a <a@b.c> 1 +0000\n\nm\n"
    )
    lost = commit(repo.path, "lost")
    hollow = tag(repo.path, lost)
    (repo.git_dir / "objects" / lost[:2] / lost[2:]).unlink()
    tree = git(repo.path, "mktree")
    assert repo.peel([oid, annotated, outer, hollow, tree, oid, "1" * 40]) == {
        oid: ("commit", None), annotated: ("tag", oid), outer: ("tag", oid), tree: ("tree", None),
        hollow: ("missing", repo.peel([hollow])[hollow][1]), "1" * 40: ("missing", None),
    }  # fmt: skip
    assert repo.peel([]) == {}
    assert repo.missing_objects([oid, lost, lost]) == {lost}


def test_question_that_git_leaves_out_is_an_error(repo):
    oid = commit(repo.path)
    with pytest.raises(GitCommandFailedError, match="answered 2 of 1 questions"):
        repo._check([f"{oid}\n{oid}"])


def test_content_is_streamed_and_a_silent_end_is_told(repo):
    one = git(repo.path, "hash-object", "-w", "--stdin", stdin="y" * 100_000)
    two = git(repo.path, "hash-object", "-w", "--stdin", stdin="two")
    found = [
        (stream.oid, stream.kind, b"".join(stream)) for stream in repo.iter_object_bytes([two, one, two])
    ]
    assert found == [(two, "blob", b"two"), (one, "blob", b"y" * 100_000), (two, "blob", b"two")]
    path = repo.git_dir / "objects" / one[:2] / one[2:]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(GitCommandFailedError) as caught:
        b"".join(chunk for stream in repo.iter_object_bytes([two, one]) for chunk in stream)
    assert one in caught.value.message
    assert caught.value.message.startswith("git cat-file failed (exit ")
    assert list(repo.iter_object_bytes([])) == []


def test_what_stands_on_what_is_told_and_no_for_what_is_not_here(repo):
    first = commit(repo.path, "1")
    second = commit(repo.path, "2", first)
    assert repo.stands_on(second, first)
    assert repo.stands_on(first, first)
    assert not repo.stands_on(first, second)
    assert not repo.stands_on("1" * 40, first)
    assert not repo.stands_on(first, "1" * 40)
    repo.options = GitOptions(timeout_s=0)
    with pytest.raises(GitCommandFailedError) as caught:
        repo.stands_on(second, first)
    assert caught.value.kind == "git_timeout"


def test_check_of_all_objects_tells_what_is_wrong_and_nothing_else(repo):
    assert repo.fsck_strict() == ()
    root = git(repo.path, "mktree", "--missing", stdin=f"100644 blob {'1' * 40}\tf\n")
    git(repo.path, "update-ref", A, git(repo.path, "commit-tree", root, stdin="m"))
    complaints = repo.fsck_strict()
    assert any("1" * 40 in line for line in complaints)
    assert all(line and not line.startswith("notice:") for line in complaints)
    shutil.rmtree(repo.git_dir / "objects")
    assert repo.fsck_strict() != ()


def test_remotes_are_told_with_the_url_a_push_begins_from(repo):
    assert repo.remotes() == {}
    for key, url in (
        ("a.url", "ssh://h/a"), ("a.pushurl", "ssh://h/push"), ("b.url", "/b"), ("dot.ted.url", "/c"),
        ("a.fetch", "+x"),
    ):  # fmt: skip
        git(repo.path, "config", f"remote.{key}", url)
    assert repo.remotes() == {"a": "ssh://h/push", "b": "/b", "dot.ted": "/c"}
    assert repo.push_url("dot.ted") == "/c"


def test_push_url_that_cannot_be_used_is_refused_by_name(repo):
    with pytest.raises(ConfigError) as caught:
        repo.push_url("origin")
    assert (caught.value.subject, caught.value.hint) == ("origin", "Remotes: none.")
    assert caught.value.message == f"no remote 'origin' in {repo.path}"
    for name in ("z", "b"):
        git(repo.path, "remote", "add", name, "/x")
    with pytest.raises(ConfigError) as caught:
        repo.push_url("origin")
    assert caught.value.hint == "Remotes: b, z."
    git(repo.path, "config", "--add", "remote.b.url", "/y")
    with pytest.raises(ConfigError) as caught:
        repo.push_url("b")
    assert (caught.value.subject, caught.value.message) == ("b", "remote 'b' has 2 push URLs; one is needed")
    # For git an empty URL means where it stands, so that every push would be found up to date.
    git(repo.path, "config", "remote.z.url", "")
    with pytest.raises(ConfigError) as caught:
        repo.push_url("z")
    assert (caught.value.subject, caught.value.message) == ("z", "remote 'z' has no URL")


def test_refs_of_a_remote_are_told_below_the_prefixes(repo, tmp_path):
    far = GitRepository.create_bare(tmp_path / "far.git")
    oid = commit(far.path)
    annotated = tag(far.path, oid)
    for name, value in ((A, oid), (T, annotated), ("refs/notes/x", oid)):
        git(far.path, "update-ref", name, value)
    assert repo.list_remote_refs(str(far.path)) == {A: oid, T: annotated, "refs/notes/x": oid}
    assert repo.list_remote_refs(str(far.path), ["refs/tags/", "refs/notes"]) == {
        T: annotated,
        "refs/notes/x": oid,
    }
    with pytest.raises(GitCommandFailedError) as caught:
        repo.list_remote_refs(str(far.path), timeout_s=0)
    assert caught.value.kind == "git_timeout"
    with pytest.raises(GitCommandFailedError):
        repo.list_remote_refs(str(tmp_path / "none"))


def test_command_for_a_remote_has_what_it_is_given(repo):
    result = repo.run_remote(["config", "--get", "x.y"], accepted=(1,), extra_env={"GIT_CONFIG_COUNT": "0"})
    assert result.exit_code == 1
    shown = repo.run_remote(["-c", "alias.env=!env", "env"], extra_env={"CAS_SHOWN": "yes"}).stdout.decode()
    assert "CAS_SHOWN=yes\n" in shown
    assert f"GIT_DIR={repo.git_dir}\n" in shown
    reader, writer = os.pipe()
    try:
        words = ["-c", f"alias.say=!echo said >/dev/fd/{writer}", "say"]
        repo.run_remote(words, pass_fds=(writer,))
        assert os.read(reader, 10) == b"said\n"
    finally:
        os.close(reader)
        os.close(writer)


def test_lines_end_where_git_ends_them():
    assert module._lines(b"") == []
    assert module._lines(b"a\n") == ["a"]
    assert module._lines("a\u2028b\nc\n".encode()) == ["a\u2028b", "c"]
    assert module._lines(b"a\n\n") == ["a", ""]


def test_heads_of_all_work_trees_are_known_without_git(tmp_path):
    repository = GitRepository.create(tmp_path / "r")
    git(repository.path, "update-ref", "refs/heads/main", commit(repository.path))
    git(repository.path, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "side")
    assert repository._heads() == {"refs/heads/main", "refs/heads/side"}
    assert repository.checked_out_branches(["refs/heads/side", "refs/heads/none"]) == {
        "refs/heads/side": tmp_path / "linked"
    }
    (repository.git_dir / "worktrees" / "linked" / "HEAD").unlink()
    assert repository._heads() == {"refs/heads/main"}
    repository.ref_format = "reftable"
    assert repository.checked_out_branches(["refs/heads/none"]) == {}


@pytest.mark.parametrize(
    ("remote", "answer"),
    [
        ("/x", True),
        ("h:x", True),
        ("ssh://h/x", True),
        ("./x", True),
        ("origin", False),
        ("-h:x", False),
        ("", False),
    ],
)
def test_address_is_what_holds_a_slash_or_a_colon(remote, answer):
    assert is_address(remote) is answer


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("ssh://h/x", "ssh://h/x"), ("SSH://h/x", "SSH://h/x"), ("user@h:x", "user@h:x"), ("h:x::y", "h:x::y"),
        ("/abs", "/abs"), ("rel/x", "{}/rel/x"), ("../x", "{}/../x"), ("./a:b", "{}/a:b"), ("file:///x", "file:///x"),
    ],
)  # fmt: skip
def test_url_of_an_allowed_transport_is_returned(tmp_path, url, checked):
    assert checked_url(url, "origin", tmp_path, ("ssh", "file")) == checked.format(tmp_path)


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("ext::sh", "ext"), ("https://h/x", "https"), ("HTTPS://h/x", "https"), ("fd::3", "fd"), ("ssh::x", "ssh"),
        ("git://h/x", "git"), ("-oProxy:x", "ssh"),
    ],
)  # fmt: skip
def test_url_of_another_transport_is_refused_by_name(tmp_path, url, transport):
    with pytest.raises(ConfigError) as caught:
        checked_url(url, "origin", tmp_path, ("ssh", "file"))
    assert caught.value.subject == "origin"
    assert caught.value.message == f"remote 'origin': transport {transport!r} is refused"

"""One push or deletion of exactly the refs that were given, and the view of them that git is shown."""

from __future__ import annotations

import pytest

from cas.errors import IntegrityError, InvalidNameError
from gitexport.refvalues import RefChange
from gitexport.repository import GitRepository
from gitexport.transfer import RefAnswer, _make_view, _view_environment, delete_once, push_once, sweep_views
from tests.gitexport.refplaces import commit, git, hook, leftovers, values

A, B, T = "refs/heads/a", "refs/heads/b", "refs/tags/t"
OK = RefAnswer(accepted=True, reason="")


@pytest.fixture
def local(tmp_path):
    return GitRepository.create_bare(tmp_path / "local.git")


@pytest.fixture
def far(tmp_path):
    return GitRepository.create_bare(tmp_path / "far.git")


def test_push_takes_the_given_refs_alone_at_the_given_ids(local, far):
    one, two = commit(local.path, "1"), commit(local.path, "2")
    local.update_refs([RefChange(A, None, two), RefChange(B, None, two)])
    answer = push_once(local, str(far.path), {A: one, T: two}, timeout_s=30)
    assert answer.refs == {A: OK, T: OK}
    assert values(far) == {A: one, T: two}
    assert list(local.common_dir.glob("cas-push-*")) == []
    assert leftovers(local) == []


def test_atomic_push_takes_all_or_none_and_another_what_it_can(local, far):
    one, two = commit(local.path, "1"), commit(local.path, "2")
    git(local.path, "push", "-q", str(far.path), f"{two}:{A}")
    answer = push_once(local, str(far.path), {A: one, B: one}, timeout_s=30)
    assert not answer.refs[A].accepted
    assert not answer.refs[B].accepted
    assert "atomic push failed" in answer.reason(B)
    assert values(far) == {A: two}
    answer = push_once(local, str(far.path), {A: one, B: one}, timeout_s=30, atomic=False)
    assert (answer.accepts(A), answer.accepts(B)) == (False, True)
    assert "non-fast-forward" in answer.reason(A)
    assert values(far) == {A: two, B: one}


def test_words_of_the_hooks_are_in_the_answer(local, far):
    hook(far, "pre-receive", "echo no entry; exit 1")
    answer = push_once(local, str(far.path), {A: commit(local.path)}, timeout_s=30)
    assert "remote: no entry" in answer.text
    assert "pre-receive hook declined" in answer.reason(A)


def test_hook_of_this_side_and_signing_do_not_take_part(local, far, tmp_path):
    hook(local, "pre-push", f"touch {tmp_path}/ran; exit 1")
    git(local.path, "config", "push.gpgSign", "true")
    assert push_once(local, str(far.path), {A: commit(local.path)}, timeout_s=30).accepts(A)
    assert not (tmp_path / "ran").exists()


def test_deletion_takes_refs_only_where_they_are_expected(local, far):
    one, two = commit(local.path, "1"), commit(local.path, "2")
    push_once(local, str(far.path), {A: one, B: two, T: one}, timeout_s=30)
    answer = delete_once(local, str(far.path), {A: two, B: two}, timeout_s=30, atomic=False)
    assert (answer.accepts(A), answer.accepts(B)) == (False, True)
    assert values(far) == {A: one, T: one}
    answer = delete_once(local, str(far.path), {A: two, T: one}, timeout_s=30)
    assert (answer.accepts(A), answer.accepts(T)) == (False, False)
    assert values(far) == {A: one, T: one}
    assert delete_once(local, str(far.path), {A: one, T: one}, timeout_s=30).refs == {A: OK, T: OK}
    assert values(far) == {}


def test_names_and_ids_are_checked_before_git_runs(local, far):
    oid = commit(local.path)
    for call in (push_once, delete_once):
        with pytest.raises(InvalidNameError):
            call(local, str(far.path), {"refs/heads/a..b": oid}, timeout_s=30)
        with pytest.raises(IntegrityError):
            call(local, str(far.path), {A: "HEAD"}, timeout_s=30)
    assert values(far) == {}


def test_view_shows_the_given_refs_and_no_other(tmp_path):
    local = GitRepository.create_bare(tmp_path / 'a "quoted" \\ name.git', "sha256")
    oid = commit(local.path)
    local.update_refs([RefChange(B, None, oid)])
    git(local.path, "config", "http.proxy", "http://nowhere")
    view = tmp_path / "view"
    view.mkdir()
    _make_view(view, local, {T: oid, A: oid})
    assert (view / "packed-refs").read_text() == f"# pack-refs with: sorted \n{oid} {A}\n{oid} {T}\n"
    assert (view / "HEAD").read_text() == "ref: refs/heads/none\n"
    assert _view_environment(view, local) == {
        "GIT_DIR": str(view), "GIT_OBJECT_DIRECTORY": str(local.common_dir / "objects"),
    }  # fmt: skip
    assert git(view, "config", "--file=config", "--includes", "http.proxy") == "http://nowhere"
    assert git(view, "config", "--file=config", "--includes", "core.bare") == "true"
    assert git(view, "config", "--file=config", "--includes", "extensions.objectformat") == "sha256"
    (local.common_dir / "shallow").write_text("")
    assert _view_environment(view, local)["GIT_SHALLOW_FILE"] == str(local.common_dir / "shallow")


def test_views_that_nobody_holds_are_swept(local):
    for name in ("cas-push-a", "cas-push-b"):
        (local.common_dir / name).mkdir()
    (local.common_dir / "cas-pus").mkdir()
    assert [path.name for path in sweep_views(local)] == ["cas-push-a", "cas-push-b"]
    assert (local.common_dir / "cas-pus").exists()
    assert sweep_views(local) == []

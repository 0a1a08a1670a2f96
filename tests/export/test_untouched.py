"""Never in the user's way: index, work tree, HEAD, stash, configuration; and their hostile settings have no effect."""

from __future__ import annotations

import os

import pytest

from cas import ConflictError
from gitexport import export_status
from tests.export.places import assert_sound, digest_of_tree, hook, refs_of, run_git


@pytest.fixture
def worked(make_place):
    """A repository with a work tree in the middle of somebody's work."""
    place = make_place(bare=False)
    (place.path / "README.md").write_text("one\n")
    (place.path / "other").mkdir()
    (place.path / "other" / "notes.txt").write_text("kept\n")
    place.git("add", ".")
    place.git("commit", "--quiet", "--message=Begin")
    (place.path / "README.md").write_text("stashed\n")
    place.git("stash", "--quiet")
    (place.path / "README.md").write_text("staged\n")
    place.git("add", ".")
    (place.path / "README.md").write_text("not staged\n")
    (place.path / "untracked.txt").write_text("untracked\n")
    return place


def snapshot(place):
    """Return all bytes that are the user's: everything but objects, refs, and the store's own lock files."""
    found = digest_of_tree(place.path)
    own = (
        ".git/reftable",
        ".git/objects",
        ".git/refs/heads/ai",
        ".git/refs/tags",
        ".git/packed-refs",
        ".git/logs/refs/heads/ai",
    )
    theirs = {name: digest for name, digest in found.items() if not name.startswith(own)}
    return theirs | {
        "HEAD": place.git("symbolic-ref", "HEAD"),
        "stash": place.git("stash", "list", "--format=%H"),
    }


def test_export_leaves_index_work_tree_head_stash_and_config_as_they_are(worked):
    before, status = snapshot(worked), worked.git("status", "--porcelain")
    for number in range(60):
        worked.commit(f"t{number % 40}")
    summary = worked.export()
    assert (summary.state, summary.warnings) == ("done", [])
    assert snapshot(worked) == before
    assert worked.git("status", "--porcelain") == status
    worked.assert_exported()


def test_rollback_of_a_checked_out_branch_moves_it_and_says_how_to_follow(worked):
    run = worked.commit("t1", "a")
    reverted = worked.store.revert_to_tag("corr_a", "main")
    before = {name: digest for name, digest in snapshot(worked).items() if name != ".git/refs/heads/main"}
    summary = worked.export()
    assert worked.refs()["refs/heads/main"] == reverted["commit_sha"]
    assert len(summary.warnings) == 1
    command = summary.warnings[0].split("`")[1]
    after = {name: digest for name, digest in snapshot(worked).items() if name != ".git/refs/heads/main"}
    assert {name for name in before | after if before.get(name) != after.get(name)} <= {
        ".git/logs/refs/heads/main",
        ".git/logs/HEAD",
    }
    worked.git(*command.removeprefix("git ").split(" "))
    assert (worked.path / "Backtest/codes/t1/trades.csv").read_bytes().startswith(b"x,y")
    assert (worked.path / "README.md").read_text() == "not staged\n"
    assert run["commit_sha"] in worked.git("log", "-1", "--format=%B", "main")


def test_rollback_of_a_checked_out_branch_is_parked_when_the_policy_refuses(make_place):
    place = make_place(bare=False, checked_out="refuse")
    place.git("commit", "--quiet", "--allow-empty", "--message=Begin")
    tip = place.refs()["refs/heads/main"]
    place.commit("t1", "a")
    place.store.revert_to_tag("corr_a", "main")
    summary = place.export()
    assert (summary.exported, summary.parked) == (1, 1)
    assert "is checked out in" in export_status(place.store)["parked"][0]["reason"]
    assert place.refs()["refs/heads/main"] == tip
    place.git("switch", "--quiet", "--create", "elsewhere")
    assert place.export(retry_parked=True).state == "done"


def test_branch_checked_out_below_a_path_that_is_not_utf8_is_parked_with_the_reason(make_place, tmp_path):
    place = make_place(bare=False, checked_out="refuse")
    place.git("commit", "--quiet", "--allow-empty", "--message=Begin")
    tree = tmp_path / b"caf\xe9".decode("utf-8", "surrogateescape")
    place.git("worktree", "add", "--quiet", "-b", "side", str(tree))
    place.commit("t1", "a")
    place.store.revert_to_tag("corr_a", "side")
    assert place.export().parked == 1
    assert export_status(place.store)["parked"][0]["reason"].endswith(
        f"is checked out in {tmp_path}/caf\\xe9"
    )


def test_branch_checked_out_in_another_worktree_is_found(worked, tmp_path):
    worked.commit("t1", "a")
    worked.export()
    worked.git("worktree", "add", "--quiet", str(tmp_path / "tree"), "ai/generated/wf/t1")
    worked.commit("t1", "b")
    (warning,) = worked.export().warnings
    assert str(tmp_path / "tree") in warning


def test_export_into_a_linked_worktree_reaches_the_common_repository(make_place, tmp_path):
    place = make_place(bare=False)
    place.git("commit", "--quiet", "--allow-empty", "--message=Begin")
    place.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"))
    main, place.path = place.path, tmp_path / "tree"
    place.commit()
    assert place.export().state == "done"
    assert_sound(main)
    assert "refs/tags/corr_c0" in refs_of(main)


@pytest.mark.parametrize("tree", ["around the repository", "absent"])
def test_repository_whose_work_tree_is_elsewhere_is_exported_to(make_place, tmp_path, tree):
    place = make_place(bare=False)
    place.git("config", "core.worktree", str(tmp_path if tree != "absent" else tmp_path / "absent"))
    place.commit()
    before = digest_of_tree(tmp_path) if tree != "absent" else None
    assert place.export().state == "done"
    assert "refs/tags/corr_c0" in refs_of(place.path)
    if before is not None:
        new = digest_of_tree(tmp_path).items() - before.items()
        assert {name.split("/")[1] for name, _ in new} == {"repository", "store"}
        assert all("/.git/" in f"/{name}" for name, _ in new if "/repository/" in f"/{name}")


@pytest.mark.parametrize("where", ["global", "repository", "environment"])
def test_hostile_settings_have_no_effect(make_place, tmp_path, monkeypatch, where):
    place = make_place(bare=False)
    remote = tmp_path / "remote.git"
    run_git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    place.git("remote", "add", "origin", str(remote))
    touched = tmp_path / "touched"
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {touched}\nexit 1\n")
    trap.chmod(0o755)
    settings = {
        "core.hooksPath": str(tmp_path / "hooks"),
        "core.fsmonitor": str(trap),
        "core.pager": str(trap),
        "core.sshCommand": str(trap),
        "core.askPass": str(trap),
        "credential.helper": f"!{trap}",
        "push.gpgSign": "true",
        "gpg.program": str(trap),
        "commit.gpgSign": "true",
        "tag.gpgSign": "true",
        "remote.origin.mirror": "true",
        "remote.origin.receivepack": str(trap),
        "push.followTags": "true",
        "alias.update-ref": f"!{trap}",
        "i18n.commitEncoding": "latin1",
    }
    for name in ("reference-transaction", "pre-push", "post-index-change", "pre-auto-gc"):
        (tmp_path / "hooks").mkdir(exist_ok=True)
        (tmp_path / "hooks" / name).write_text(trap.read_text())
        (tmp_path / "hooks" / name).chmod(0o755)
        hook(place.path / ".git", name, f"touch {touched}; exit 1")
    if where == "environment":
        for name, value in {
            "GIT_DIR": str(tmp_path / "nowhere"),
            "GIT_WORK_TREE": str(tmp_path),
            "GIT_INDEX_FILE": str(tmp_path / "index"),
            "GIT_OBJECT_DIRECTORY": str(tmp_path / "objects"),
            "GIT_EXTERNAL_DIFF": str(trap),
            "GIT_SSH_COMMAND": str(trap),
            "GIT_PAGER": str(trap),
            "GIT_NAMESPACE": "elsewhere",
            "LC_ALL": "de_DE.UTF-8",
            "LANGUAGE": "de",
        }.items():
            monkeypatch.setenv(name, value)
    elif where == "global":
        lines = [
            f'[{key.rpartition(".")[0]}]\n\t{key.rpartition(".")[2]} = "{value}"\n'
            for key, value in settings.items()
            if key.count(".") == 1
        ]
        (tmp_path / "gitconfig").write_text("".join(lines))
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    else:
        for key, value in settings.items():
            place.git("config", key, value)
    place.commit(prompt="p")
    place.commit("t1")
    summary = place.export(push=True)
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    assert (summary.state, summary.pushed) == ("done", 2), summary
    assert not touched.exists()
    assert set(refs_of(remote)) == {"refs/heads/ai/generated/wf/t1"} | {
        n for n in place.refs() if "/tags/" in n
    }


def test_remote_that_is_a_program_is_refused(place, tmp_path):
    from cas import ConfigError

    place.git("remote", "add", "origin", f"ext::sh -c touch% {tmp_path}/touched")
    run = place.commit()
    with pytest.raises(ConfigError, match="refused"):
        place.export(push=True)
    assert not (tmp_path / "touched").exists()
    assert place.state(run)["export_state"] == "exported"


def test_rollback_of_a_git_only_branch_keeps_every_other_path(worked):
    tree = worked.git("ls-tree", "-r", "HEAD")
    worked.git("switch", "--quiet", "--detach")
    run = worked.commit("t1", "a", files={"deep/er/x.csv": b"1\n"})
    worked.commit("t2", "b")
    reverted = worked.store.revert_to_tag("corr_a", "main", reason="try")
    assert worked.export().state == "done"
    assert worked.refs()["refs/heads/main"] == reverted["commit_sha"]
    listed = worked.git("ls-tree", "-r", "main").splitlines()
    assert sorted(line for line in listed if "Backtest/" not in line) == sorted(tree.splitlines())
    own = worked.git("ls-tree", "-r", run["commit_sha"]).splitlines()
    assert sorted(line for line in listed if "Backtest/" in line) == sorted(own)
    assert worked.git("rev-list", "--count", "main") == "2"
    worked.store.revert_to_tag("corr_b", "main")
    assert worked.export().state == "done"
    listed = worked.git("ls-tree", "-r", "--name-only", "main").splitlines()
    assert sorted(listed) == sorted(
        ["README.md", "other/notes.txt"]
        + [f"Backtest/codes/t2/{n}" for n in ("strategy.py", "trades.csv", "metadata.json")]
    )
    assert_sound(worked.path)


def test_rollback_whose_source_run_is_parked_brings_its_objects_along(place):
    place.git("update-ref", "refs/tags/corr_a", place.git("hash-object", "-w", "--stdin", stdin="x"))
    run = place.commit("t1", "a")
    reverted = place.store.revert_to_tag("corr_a", "restored")
    summary = place.export()
    assert (summary.exported, summary.parked) == (1, 1)
    assert place.refs()["refs/heads/restored"] == reverted["commit_sha"]
    assert place.git("ls-tree", "-r", "--name-only", "restored").count("\n") == 2
    assert run["commit_sha"] not in place.refs().values()
    assert_sound(place.path)


def test_rollback_onto_a_branch_with_a_file_in_the_way_is_refused(worked):
    worked.git("stash", "--quiet", "--include-untracked")
    (worked.path / "Backtest").write_text("a file\n")
    worked.git("add", ".")
    worked.git("commit", "--quiet", "--message=In the way")
    worked.commit("t1", "a")
    with pytest.raises(ConflictError, match="Backtest"):
        worked.store.revert_to_tag("corr_a", "main")


def test_rollback_of_a_moved_branch_is_parked(worked):
    worked.git("switch", "--quiet", "--detach")
    worked.commit("t1", "a")
    worked.store.revert_to_tag("corr_a", "main")
    tip = worked.git("commit-tree", "HEAD^{tree}", "-p", "main", stdin="meanwhile\n")
    worked.git("update-ref", "refs/heads/main", tip)
    summary = worked.export()
    assert (summary.exported, summary.parked) == (1, 1)
    assert worked.refs()["refs/heads/main"] == tip
    assert "moved by someone else" in summary.failures[0]["reason"]

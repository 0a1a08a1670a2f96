"""Refs moved in one transaction: the packed short cut, git's own way, leftovers of the killed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cas.errors import ConflictError, GitCommandFailedError, IntegrityError, InvalidNameError, StateError
from gitexport import reflocks, refs
from gitexport.packedrefs import HEADER, PackedEdit, PackedRefs
from gitexport.reflocks import JOURNAL_NAME, LOCK_TEXT, TEMPORARY_NAME, packed_refs_lock, ref_journal
from gitexport.refs import RefChange, read_refs, sweep_ref_leftovers, update_refs
from gitexport.repository import GitRepository
from tests.gitexport.refplaces import (
    BRANCH,
    CLEAN,
    commit,
    fill_packed,
    git,
    leftovers,
    loose,
    packed,
    tag,
    values,
)


@pytest.fixture(params=["sha1", "sha256"])
def bare(request, tmp_path):
    return GitRepository.create_bare(tmp_path / "bare.git", request.param)


def test_new_refs_are_written_as_git_pack_refs_would(bare):
    oid = commit(bare.path)
    annotated = tag(bare.path, oid)
    nested = tag(bare.path, oid)
    changes = [RefChange(f"refs/heads/ai/generated/w{n % 7}/t{n}", None, oid) for n in range(60)]
    changes += [RefChange(f"refs/tags/corr_{n}", None, annotated) for n in range(60)]
    changes.append(RefChange("refs/tags/nested", None, nested))
    update_refs(bare, changes)
    assert loose(bare) == []
    ours = packed(bare)
    assert f"{annotated} refs/tags/corr_0\n^{oid}\n" in ours
    git(bare.path, "update-ref", "refs/heads/zz", oid)
    git(bare.path, "pack-refs", "--all", "--prune")
    assert packed(bare).replace(f"{oid} refs/heads/zz\n", "") == ours
    git(bare.path, "update-ref", "-d", "refs/heads/zz")
    assert values(bare) == {change.name: change.new_oid for change in changes}
    assert bare.fsck_strict() == ()
    assert leftovers(bare) == []


def test_batch_repeated_changes_nothing(bare):
    oid = commit(bare.path)
    changes = [RefChange(BRANCH, None, oid), RefChange("refs/tags/t", None, tag(bare.path, oid))]
    update_refs(bare, changes)
    before = (bare.common_dir / "packed-refs").stat()
    update_refs(bare, changes)
    assert os.path.samestat(before, (bare.common_dir / "packed-refs").stat())


def test_packed_branch_moves_from_its_expected_value_only(bare):
    first = commit(bare.path, "1")
    second = commit(bare.path, "2", first)
    update_refs(bare, [RefChange(BRANCH, None, first), RefChange("refs/tags/a", None, tag(bare.path, first))])
    update_refs(
        bare, [RefChange(BRANCH, first, second), RefChange("refs/tags/b", None, tag(bare.path, second))]
    )
    assert loose(bare) == []
    assert values(bare)[BRANCH] == second
    for change in (RefChange(BRANCH, first, first), RefChange(BRANCH, None, first)):
        with pytest.raises(ConflictError) as caught:
            update_refs(bare, [RefChange("refs/heads/other", None, first), change])
        assert caught.value.subject == BRANCH
    with pytest.raises(ConflictError):
        update_refs(bare, [RefChange("refs/heads/gone", first, second)])
    assert "refs/heads/other" not in values(bare)
    assert bare.fsck_strict() == ()


def test_loose_branch_moves_by_git_and_keeps_the_batch_together(bare):
    first, second = commit(bare.path, "1"), commit(bare.path, "2")
    git(bare.path, "update-ref", BRANCH, first)
    update_refs(bare, [RefChange(BRANCH, first, second), RefChange("refs/tags/new", None, first)])
    assert values(bare) == {BRANCH: second, "refs/tags/new": first}
    with pytest.raises(ConflictError):
        update_refs(bare, [RefChange(BRANCH, first, first), RefChange("refs/tags/more", None, first)])
    assert "refs/tags/more" not in values(bare)
    assert leftovers(bare) == []


def test_big_batch_with_a_loose_ref_packs_first(repo):
    first, second = commit(repo.path, "1"), commit(repo.path, "2")
    git(repo.path, "update-ref", BRANCH, first)
    changes = [
        RefChange(BRANCH, first, second),
        *(RefChange(f"refs/tags/t{n}", None, first) for n in range(60)),
    ]
    update_refs(repo, changes)
    assert loose(repo) == []
    assert values(repo) == {change.name: change.new_oid for change in changes}


@pytest.mark.parametrize("pack", [False, True])
def test_refs_are_deleted_and_made_together(bare, pack):
    oid, new = commit(bare.path, "1"), commit(bare.path, "2")
    names = [BRANCH, "refs/heads/b", "refs/tags/kept"]
    git(bare.path, "update-ref", "--stdin", stdin="".join(f"create {name} {oid}\n" for name in names))
    git(bare.path, "update-ref", "refs/tags/t", tag(bare.path, oid))
    if pack:
        git(bare.path, "pack-refs", "--all", "--prune")
    moves = [
        RefChange(BRANCH, oid, None),
        RefChange("refs/heads/b", oid, None),
        RefChange("refs/tags/t", tag(bare.path, oid), None),
        RefChange("refs/archive/cas/x", None, new),
    ]
    for _ in range(2):  # what was deleted already counts as done
        update_refs(bare, moves)
        assert values(bare) == {"refs/tags/kept": oid, "refs/archive/cas/x": new}
    assert bare.fsck_strict() == ()
    assert leftovers(bare) == []


def test_deletions_leave_no_file_for_each_ref_behind(repo):
    """Many refs are deleted by one rewrite; git would make a lock, and with it a folder, for each of them."""
    oid = commit(repo.path)
    names = [f"refs/heads/ai/w{number}/t" for number in range(300)]
    update_refs(repo, [RefChange(name, None, oid) for name in names])
    update_refs(repo, [RefChange(name, oid, None) for name in names])
    assert values(repo) == {}
    assert not (repo.common_dir / "refs" / "heads" / "ai").exists()


def test_ref_to_delete_that_is_not_where_it_was_expected_stops_the_batch(repo):
    oid, new = commit(repo.path, "1"), commit(repo.path, "2")
    update_refs(repo, [RefChange(BRANCH, None, oid), RefChange("refs/heads/b", None, new)])
    with pytest.raises(ConflictError) as caught:
        update_refs(
            repo,
            [
                RefChange("refs/archive/cas/x", None, new),
                RefChange(BRANCH, oid, None),
                RefChange("refs/heads/b", oid, None),
            ],
        )
    assert caught.value.subject == "refs/heads/b"
    assert values(repo) == {BRANCH: oid, "refs/heads/b": new}


def test_branch_with_a_log_is_deleted_with_it(tmp_path):
    repo = GitRepository.create(tmp_path / "r")
    oid = commit(repo.path)
    git(repo.path, "update-ref", "--create-reflog", BRANCH, oid)
    git(repo.path, "pack-refs", "--all", "--prune")
    update_refs(repo, [RefChange(BRANCH, oid, None)])
    assert values(repo) == {}
    assert not (repo.common_dir / "logs" / BRANCH).exists()


def test_few_refs_in_a_large_file_become_loose_files(repo):
    oid = commit(repo.path)
    fill_packed(repo, 42_000, oid)
    update_refs(repo, [RefChange(BRANCH, None, oid)])
    assert loose(repo) == [BRANCH]
    update_refs(repo, [RefChange(f"refs/tags/t{n}", None, oid) for n in range(60)])
    assert loose(repo) == [BRANCH]
    assert read_refs(repo, [BRANCH, "refs/tags/t3"]) == {BRANCH: oid, "refs/tags/t3": oid}


def test_branch_with_a_log_moves_with_an_entry_in_it(tmp_path):
    repo = GitRepository.create(tmp_path / "r")
    first, second = commit(repo.path, "1"), commit(repo.path, "2")
    git(repo.path, "update-ref", "--create-reflog", BRANCH, first)
    git(repo.path, "pack-refs", "--all", "--prune")
    update_refs(repo, [RefChange(BRANCH, first, second)])
    assert [line.split()[0] for line in git(repo.path, "reflog", "show", BRANCH).splitlines()] == [
        second[:7],
        first[:7],
    ]
    update_refs(repo, [RefChange("refs/heads/quiet", None, first)])
    assert not (repo.common_dir / "logs" / "refs" / "heads" / "quiet").exists()


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(
    ("present", "wanted"),
    [
        ("refs/heads/ai", BRANCH),
        ("refs/heads/ai/generated", BRANCH),
        ("refs/heads/ai/generated/w", BRANCH),
        (BRANCH + "/inside", BRANCH),
    ],
)
def test_ref_in_the_way_is_named(repo, pack, present, wanted):
    oid = commit(repo.path)
    git(repo.path, "update-ref", present, oid)
    if pack:
        git(repo.path, "pack-refs", "--all", "--prune")
    before = packed(repo)
    with pytest.raises(ConflictError) as caught:
        update_refs(repo, [RefChange("refs/tags/t", None, oid), RefChange(wanted, None, oid)])
    assert caught.value.subject == present
    assert wanted in caught.value.message
    assert packed(repo) == before


def test_refs_of_one_batch_that_exclude_each_other_are_refused(repo):
    oid = commit(repo.path)
    with pytest.raises(ConflictError):
        update_refs(repo, [RefChange("refs/heads/a/b/c", None, oid), RefChange("refs/heads/a", None, oid)])
    assert values(repo) == {}
    similar = ["refs/heads/a/b", "refs/heads/a-b", "refs/heads/a.b/c", "refs/heads/a.c", "refs/heads/ab"]
    update_refs(repo, [RefChange(name, None, oid) for name in similar])
    assert sorted(values(repo)) == sorted(similar)


def test_empty_folders_left_by_deleted_refs_do_not_matter(repo):
    oid = commit(repo.path)
    (repo.common_dir / BRANCH / "empty" / "deeper").mkdir(parents=True)
    update_refs(repo, [RefChange(BRANCH, None, oid)])
    assert values(repo) == {BRANCH: oid}


def test_bad_input_is_refused_before_anything_happens(repo):
    oid = commit(repo.path)
    blob = git(repo.path, "hash-object", "-w", "--stdin", stdin="b")
    with pytest.raises(InvalidNameError):
        update_refs(repo, [RefChange("refs/heads/a..b", None, oid)])
    with pytest.raises(IntegrityError):
        update_refs(repo, [RefChange("refs/heads/a", None, "not an oid")])
    with pytest.raises(StateError):
        update_refs(repo, [RefChange("refs/heads/a", None, oid), RefChange("refs/heads/a", None, oid)])
    for bad in (blob, "1" * 40, tag(repo.path, oid)):
        with pytest.raises(IntegrityError) as caught:
            update_refs(repo, [RefChange("refs/tags/fine", None, oid), RefChange("refs/heads/a", None, bad)])
        assert caught.value.subject == "refs/heads/a"
    update_refs(repo, [])
    assert values(repo) == {}


def test_symbolic_ref_under_our_name_is_left_alone(repo):
    oid, other = commit(repo.path, "1"), commit(repo.path, "2")
    git(repo.path, "update-ref", "refs/heads/main", oid)
    git(repo.path, "symbolic-ref", BRANCH, "refs/heads/main")
    with pytest.raises(ConflictError) as caught:
        update_refs(repo, [RefChange(BRANCH, oid, other)])
    assert caught.value.subject == BRANCH
    assert values(repo)["refs/heads/main"] == oid
    assert read_refs(repo, [BRANCH]) == {BRANCH: oid}


def test_refs_of_another_storage_are_left_to_git_alone(repo):
    # As for reftable, which this machine's git may not have: git is asked and told, and no file of refs is touched.
    oid = commit(repo.path)
    names = ["refs/heads/a", "refs/tags/t"]
    repo.ref_format = "reftable"
    update_refs(repo, [RefChange(name, None, oid) for name in names])
    assert read_refs(repo, names) == dict.fromkeys(names, oid)
    assert not (repo.common_dir / "packed-refs").exists()
    with pytest.raises(ConflictError):
        update_refs(repo, [RefChange(names[0], None, oid[::-1])])
    update_refs(repo, [RefChange(name, oid, None) for name in names])
    assert values(repo) == {}
    assert leftovers(repo) == []


@pytest.mark.parametrize("header", [b"", b"# pack-refs with: peeled \n"])
def test_packed_refs_of_a_foreign_form_is_left_to_git(repo, header):
    oid = commit(repo.path)
    annotated = tag(repo.path, oid)
    lines = f"{oid} refs/heads/old\n{annotated} refs/tags/t\n".encode()
    (repo.common_dir / "packed-refs").write_bytes(header + lines)
    update_refs(repo, [RefChange("refs/heads/new", None, oid)])
    assert values(repo) == {"refs/heads/new": oid, "refs/heads/old": oid, "refs/tags/t": annotated}
    assert read_refs(repo, ["refs/tags/t", "refs/heads/x"]) == {"refs/tags/t": annotated}


def test_packed_refs_behind_a_symbolic_link_is_left_to_git(repo, tmp_path):
    oid = commit(repo.path)
    (tmp_path / "elsewhere").write_bytes(HEADER)
    (repo.common_dir / "packed-refs").symlink_to(tmp_path / "elsewhere")
    update_refs(repo, [RefChange("refs/heads/new", None, oid)])
    assert (repo.common_dir / "packed-refs").is_symlink()
    assert values(repo) == {"refs/heads/new": oid}


def test_permissions_of_the_file_are_kept(repo):
    oid = commit(repo.path)
    update_refs(repo, [RefChange("refs/heads/a", None, oid)])
    (repo.common_dir / "packed-refs").chmod(0o664)
    update_refs(repo, [RefChange("refs/heads/b", None, oid)])
    assert (repo.common_dir / "packed-refs").stat().st_mode & 0o777 == 0o664


def test_refs_of_a_linked_work_tree_go_to_the_common_directory(tmp_path):
    main = GitRepository.create(tmp_path / "r")
    oid = commit(main.path)
    git(main.path, "update-ref", "refs/heads/main", oid)
    git(main.path, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "side")
    linked = GitRepository.open(tmp_path / "linked")
    update_refs(linked, [RefChange(BRANCH, None, oid)])
    assert values(main)[BRANCH] == oid
    assert not (linked.git_dir / "packed-refs").exists()


def test_refs_are_read_like_git_reads_them(bare):
    first, second = commit(bare.path, "1"), commit(bare.path, "2")
    update_refs(bare, [RefChange(f"refs/tags/t{n}", None, first) for n in range(200)])
    git(bare.path, "update-ref", "refs/tags/t7", second)
    names = [BRANCH, *(f"refs/tags/t{n}" for n in range(210))]
    assert read_refs(bare, names) == {name: value.oid for name, value in bare.read_refs(names).items()}
    assert read_refs(bare, ["refs/tags/t7"]) == {"refs/tags/t7": second}


# ---- other programs at work -----------------------------------------------------------------------------------------


HOOKS = {}
sys.addaudithook(lambda event, args: HOOKS[event](args) if event in HOOKS else None)


@pytest.fixture
def at():
    """Call something once, in the moment an audited operation is about to happen."""

    def arm(event, when, action):
        def fire(args):
            if when(args):
                HOOKS.pop(event)
                action()

        HOOKS[event] = fire

    yield arm
    HOOKS.clear()


def publishing(args):
    return Path(args[0]).name == TEMPORARY_NAME


def test_ref_made_by_git_in_the_moment_of_the_rename_stands(repo, at):
    ours, theirs = commit(repo.path, "ours"), commit(repo.path, "theirs")
    at("os.rename", publishing, lambda: git(repo.path, "update-ref", BRANCH, theirs))
    with pytest.raises(ConflictError, match="same moment") as caught:
        update_refs(repo, [RefChange(BRANCH, None, ours), RefChange("refs/tags/t", None, ours)])
    assert caught.value.subject == BRANCH
    assert values(repo) == {BRANCH: theirs, "refs/tags/t": ours}
    assert leftovers(repo) == []


def test_ref_moved_by_git_in_the_moment_it_is_deleted_stands(repo, at):
    ours, theirs = commit(repo.path, "ours"), commit(repo.path, "theirs")
    update_refs(repo, [RefChange(BRANCH, None, ours), RefChange("refs/heads/b", None, ours)])
    at("os.rename", publishing, lambda: git(repo.path, "update-ref", BRANCH, theirs, ours))
    with pytest.raises(ConflictError, match="same moment") as caught:
        update_refs(
            repo,
            [
                RefChange("refs/archive/cas/x", None, ours),
                RefChange(BRANCH, ours, None),
                RefChange("refs/heads/b", ours, None),
            ],
        )
    assert caught.value.subject == BRANCH
    assert values(repo) == {BRANCH: theirs, "refs/archive/cas/x": ours}
    assert leftovers(repo) == []


def test_same_ref_made_by_git_in_the_moment_of_the_rename_is_no_conflict(repo, at, monkeypatch):
    ours = commit(repo.path, "ours")
    monkeypatch.setattr(refs, "POLL_S", "nothing is locked, so nothing is waited for")
    at("os.rename", publishing, lambda: git(repo.path, "update-ref", BRANCH, ours))
    update_refs(repo, [RefChange(BRANCH, None, ours)])
    assert values(repo) == {BRANCH: ours}


def test_git_in_the_middle_of_its_move_during_the_rename_is_waited_for(repo, at):
    ours = commit(repo.path, "ours")
    built_on_ours, foreign = commit(repo.path, "child", ours), commit(repo.path, "foreign")
    for number, (theirs, refused) in enumerate([(built_on_ours, False), (foreign, True)]):
        name = f"refs/heads/n{number}"
        lock = repo.common_dir / f"{name}.lock"

        def begin(lock=lock, theirs=theirs):
            lock.write_text(f"{theirs}\n")
            end = threading.Thread(target=os.rename, args=(lock, lock.with_suffix("")))
            at("os.remove", lambda args: str(args[0]).endswith("packed-refs.lock"), end.start)

        at("os.rename", publishing, begin)
        if refused:
            with pytest.raises(ConflictError, match="same moment"):
                update_refs(repo, [RefChange(name, None, ours)])
        else:
            update_refs(repo, [RefChange(name, None, ours)])
        assert values(repo)[name] == theirs


def test_folder_made_a_ref_by_git_in_the_moment_of_the_rename_is_reported(repo, at):
    oid = commit(repo.path)
    at("os.rename", publishing, lambda: git(repo.path, "update-ref", "refs/heads/ai", oid))
    with pytest.raises(ConflictError) as caught:
        update_refs(repo, [RefChange(BRANCH, None, oid)])
    assert caught.value.subject == "refs/heads/ai"


def test_packed_refs_rewritten_by_git_before_our_lock_loses_nothing(repo, at):
    first, second = commit(repo.path, "1"), commit(repo.path, "2")
    update_refs(repo, [RefChange("refs/heads/a", None, first)])

    def interfere():
        git(repo.path, "update-ref", "refs/heads/b", second)
        git(repo.path, "pack-refs", "--all", "--prune")
        git(repo.path, "update-ref", "-d", "refs/heads/a")

    at("os.link", lambda args: str(args[1]).endswith("packed-refs.lock"), interfere)
    update_refs(repo, [RefChange(BRANCH, None, first)])
    assert values(repo) == {BRANCH: first, "refs/heads/b": second}


def test_loose_ref_behind_one_that_is_not_there_is_read(repo):
    oid = commit(repo.path)
    git(repo.path, "update-ref", "refs/heads/b", oid)
    names = ["refs/heads/a", "refs/heads/b", "refs/heads/c"]
    assert read_refs(repo, names) == {"refs/heads/b": oid}
    update_refs(repo, [RefChange(name, None, oid) for name in names])
    assert values(repo) == dict.fromkeys(names, oid)


def test_packed_branch_without_a_log_moves_beside_one_that_has_one(repo):
    first, second = commit(repo.path, "1"), commit(repo.path, "2")
    update_refs(repo, [RefChange("refs/heads/a", None, first)])
    (repo.common_dir / "logs" / "refs" / "heads").mkdir(parents=True)
    (repo.common_dir / "logs" / "refs" / "heads" / "b").touch()
    update_refs(repo, [RefChange("refs/heads/a", first, second), RefChange("refs/heads/b", None, first)])
    assert loose(repo) == []
    assert values(repo) == {"refs/heads/a": second, "refs/heads/b": first}


def test_ref_may_name_an_object_by_what_is_known_of_it():
    def fits(name, **known):
        return refs._fits(RefChange(name, None, "c"), known)

    assert fits("refs/heads/a", c=None)
    assert fits("refs/tags/a", c=None)
    assert fits("refs/tags/a", c="behind")
    assert not fits("refs/heads/a", c="behind")
    assert not fits("refs/heads/a")
    assert not fits("refs/tags/a")


def test_objects_that_are_known_are_not_asked_for(repo, monkeypatch):
    oid = commit(repo.path)
    annotated = tag(repo.path, oid)
    monkeypatch.setattr(repo, "peel", lambda oids: pytest.fail("asked"))
    changes = [RefChange(BRANCH, None, oid), RefChange("refs/tags/t", None, annotated)]
    update_refs(repo, changes, known={oid: None, annotated: oid})
    assert packed(repo) == f"{HEADER.decode()}{oid} {BRANCH}\n{annotated} refs/tags/t\n^{oid}\n"


def test_file_of_many_pieces_is_written_whole(tmp_path):
    pieces = [memoryview(bytes([number % 256]) * (number % 7)) for number in range(500)]
    with (tmp_path / "f").open("wb") as file:
        refs._write_pieces(file.fileno(), pieces)
    assert (tmp_path / "f").read_bytes() == b"".join(pieces)


def test_pieces_that_are_taken_in_part_go_on_where_they_were(monkeypatch):
    written = []

    def writev(descriptor, buffers):
        assert descriptor == 7
        data = b"".join(buffers)[:3]
        written.append(data)
        return len(data)

    monkeypatch.setattr(refs.os, "writev", writev)
    refs._write_pieces(7, [b"ab", b"cdefg", b"", b"h"])
    assert written == [b"abc", b"def", b"gh"]


def test_large_file_is_rewritten_only_where_the_batch_is_large_enough(repo):
    path = repo.common_dir / "packed-refs"
    one = [RefChange(BRANCH, None, "1" * 40)]
    assert refs._rewrite_pays(repo, one)
    for size_bytes, count, pays in (
        (4_718_592, 1, True), (4_718_593, 1, False), (4_718_593, 2, True), (5_242_881, 2, False),
    ):  # fmt: skip
        with path.open("wb") as file:
            file.truncate(size_bytes)
        assert refs._rewrite_pays(repo, one * count) is pays
    path.unlink()
    for name in ("refs/bisect/x", "refs/worktree/x", "refs/rewritten/x"):
        assert not refs._rewrite_pays(repo, [*one, RefChange(name, None, "1" * 40)])
    repo.ref_format = "reftable"
    assert not refs._rewrite_pays(repo, one)


def test_look_tells_files_locks_and_what_is_in_the_way(repo):
    heads = repo.common_dir / "refs" / "heads"
    (heads / "d" / "inside").mkdir(parents=True)
    for name in ("a", "b.lock", "d/inside/x", "d/inside/y.lock", "file", "w.lock"):
        (heads / name).touch()
    (heads / "w").mkdir()
    look = refs._look(
        repo.common_dir,
        [f"refs/heads/{name}" for name in ("a", "b", "c", "d", "file/x", "w/t", "none/x")],
    )
    assert look.loose == {"refs/heads/a"}
    assert sorted(look.locks) == [heads / "b.lock", heads / "d" / "inside" / "y.lock", heads / "w.lock"]
    assert look.blocked == {"refs/heads/d": "refs/heads/d/inside/x", "refs/heads/file/x": "refs/heads/file"}


def test_folder_with_many_names_is_listed_and_tells_the_same(repo):
    heads = repo.common_dir / "refs" / "heads"
    (heads / "n7").touch()
    (heads / "n8").mkdir()
    (heads / "n9").symlink_to("n8")
    (heads / "other").touch()
    for count in (10, 49, 50, 60):
        names = [f"refs/heads/n{number}" for number in range(count)]
        assert refs._kinds(repo.common_dir, "refs/heads", names) == {
            "refs/heads/n7": False, "refs/heads/n8": True, "refs/heads/n9": False,
        }  # fmt: skip
        assert refs._kinds(repo.common_dir, "refs/none", [f"refs/none/n{n}" for n in range(count)]) == {}


def test_ref_in_the_way_is_told_with_a_hint(repo):
    oid = commit(repo.path)
    git(repo.path, "update-ref", "refs/heads/ai", oid)
    with pytest.raises(ConflictError) as caught:
        update_refs(repo, [RefChange(BRANCH, None, oid)])
    assert caught.value.message == f"ref refs/heads/ai exists, so {BRANCH} cannot be created"
    assert caught.value.hint
    assert refs._pending([RefChange("a", None, None)], {}) == []


def test_ref_that_is_elsewhere_is_told_where(repo):
    with pytest.raises(ConflictError) as caught:
        refs._pending([RefChange("refs/heads/a", "1" * 40, "2" * 40)], {"refs/heads/a": "3" * 40})
    assert caught.value.message == f"ref refs/heads/a is at {'3' * 40}, expected {'1' * 40}"
    with pytest.raises(ConflictError) as caught:
        refs._pending([RefChange("refs/heads/a", "1" * 40, "2" * 40)], {})
    assert caught.value.message == f"ref refs/heads/a is missing, expected {'1' * 40}"
    with pytest.raises(ConflictError) as caught:
        refs._pending([RefChange("refs/heads/a", None, "2" * 40)], {"refs/heads/a": "3" * 40})
    assert caught.value.message == f"ref refs/heads/a is at {'3' * 40}, expected none"
    with pytest.raises(ConflictError) as caught:
        refs._pending([RefChange("refs/heads/a", None, "2" * 40)], {"refs/heads/a": "ref: refs/heads/b"})
    assert caught.value.message == "ref refs/heads/a is symbolic (ref: refs/heads/b); it is left alone"


def test_new_file_has_the_bits_of_a_shared_repository(repo):
    oid = commit(repo.path)
    repo.shared_bits = 0o664
    update_refs(repo, [RefChange(BRANCH, None, oid)])
    assert (repo.common_dir / "packed-refs").stat().st_mode & 0o664 == 0o664


# ---- leftovers of the killed -----------------------------------------------------------------------------------------


def test_own_stale_lock_is_removed_and_a_living_one_is_not(repo):
    oid = commit(repo.path)
    lock = repo.common_dir / "packed-refs.lock"
    lock.write_bytes(LOCK_TEXT)
    assert sweep_ref_leftovers(repo) == [lock]
    lock.write_bytes(LOCK_TEXT)
    update_refs(repo, [RefChange(BRANCH, None, oid)])
    assert leftovers(repo) == []
    lock.write_bytes(LOCK_TEXT)
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert sweep_ref_leftovers(repo) == []
        assert lock.exists()
    lock.write_bytes(b"")  # as git's own looks
    assert sweep_ref_leftovers(repo) == []
    assert lock.exists()


def test_exporter_that_waits_in_vain_leaves_the_file_of_the_one_that_has_the_lock(repo):
    temporary = repo.common_dir / TEMPORARY_NAME
    with packed_refs_lock(repo.common_dir):
        temporary.write_bytes(b"being written")
        with pytest.raises(GitCommandFailedError), packed_refs_lock(repo.common_dir, wait_s=0):
            pass
        assert temporary.exists()
    assert leftovers(repo) == []


def test_locks_of_our_killed_git_are_told_from_those_of_others(repo):
    oid, other = commit(repo.path, "1"), commit(repo.path, "2")
    heads = repo.common_dir / "refs" / "heads"
    journal = repo.common_dir / JOURNAL_NAME
    moves = "".join(f"{oid} refs/heads/{name}\n" for name in ("ours", "theirs", "old", "absent"))
    journal.write_text("cas-gitexport: moving refs by git update-ref\n" + moves)
    (heads / "ours.lock").write_text(f"{oid}\n")
    (heads / "theirs.lock").write_text(f"{other}\n")
    (heads / "old.lock").touch()
    os.utime(heads / "old.lock", (1, 1))
    (heads / "unnamed.lock").write_text(f"{oid}\n")
    removed = sweep_ref_leftovers(repo)
    assert {path.name for path in removed} == {"ours.lock", "old.lock", JOURNAL_NAME}
    assert leftovers(repo) == ["theirs.lock", "unnamed.lock"]


@pytest.mark.parametrize(("kept_chars", "zeroes_count"), [(0, 0), (0, 41), (9, 0), (9, 32)])
def test_young_torn_lock_is_reported_until_it_is_known_to_be_dead(repo, kept_chars, zeroes_count):
    oid = commit(repo.path)
    lock = repo.common_dir / "refs" / "heads" / "x.lock"
    lock.write_text(oid[:kept_chars] + zeroes_count * "\0")
    journal = repo.common_dir / JOURNAL_NAME
    journal.write_text(f"cas-gitexport: moving refs by git update-ref\n{oid} refs/heads/x\n")
    with pytest.raises(GitCommandFailedError) as caught:
        update_refs(repo, [RefChange("refs/heads/x", None, oid)])
    assert (caught.value.kind, caught.value.subject) == ("ref_locked", str(lock))
    os.utime(lock, (1, 1))
    update_refs(repo, [RefChange("refs/heads/x", None, oid)])
    assert values(repo) == {"refs/heads/x": oid}
    assert leftovers(repo) == []


def test_what_our_git_left_when_it_was_killed_in_a_deletion_is_removed(repo):
    oid = commit(repo.path)
    names = [f"refs/heads/w/t{number}" for number in range(3)]
    repo.update_refs([RefChange(name, None, oid) for name in names])
    repo.pack_refs()
    journal = repo.common_dir / JOURNAL_NAME
    journal.write_text(
        "\n".join(["cas-gitexport: moving refs by git update-ref", *(f" {name}" for name in names), ""])
    )
    words = "".join(f"delete {name} {oid}\n" for name in names)
    with subprocess.Popen(
        ["git", "update-ref", "--stdin"],
        cwd=repo.path,
        env=CLEAN,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdin.write(f"start\n{words}prepare\n".encode())
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(2)] == [b"start: ok\n", b"prepare: ok\n"]
        process.kill()
    left = {"packed-refs.lock", "packed-refs.new", *(f"t{number}.lock" for number in range(3))}
    locks = [path for path in repo.common_dir.rglob("*") if path.name in left]
    assert {path.name for path in locks} == left
    with pytest.raises(GitCommandFailedError) as caught:  # it may be another git's that is at work
        update_refs(repo, [RefChange(name, oid, None) for name in names])
    assert caught.value.kind == "ref_locked"
    assert all(path.exists() for path in locks)
    for path in locks:
        past_s = path.stat().st_mtime - 61
        os.utime(path, (past_s, past_s))
    os.utime(journal, (1, 1))
    update_refs(repo, [RefChange(name, oid, None) for name in names])
    assert values(repo) == {}
    assert leftovers(repo) == []
    assert not [path for path in locks if path.exists()]


@pytest.mark.parametrize("whose", ["older than the journal", "an exporter's", "of a batch without deletions"])
def test_lock_on_packed_refs_that_is_not_of_our_killed_git_stays(repo, whose):
    oid = commit(repo.path)
    journal = repo.common_dir / JOURNAL_NAME
    moved = oid if whose == "of a batch without deletions" else ""
    journal.write_text(f"cas-gitexport: moving refs by git update-ref\n{moved} refs/heads/x\n")
    os.utime(journal, (1, 1))
    lock = repo.common_dir / "packed-refs.lock"
    lock.write_bytes(LOCK_TEXT if whose == "an exporter's" else b"")
    os.utime(lock, (0, 0) if whose == "older than the journal" else (2, 2))
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert sweep_ref_leftovers(repo) == [journal]
    assert lock.exists()


def test_interrupt_is_not_hidden_by_the_lock_it_leaves(repo):
    lock = repo.common_dir / "refs" / "heads" / "x.lock"
    gone = RefChange("refs/heads/x", commit(repo.path), None)

    def be_interrupted():
        with ref_journal(repo.common_dir, [gone]):
            lock.touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    with pytest.raises(GitCommandFailedError):  # the journal stays until it is known whose the lock was
        sweep_ref_leftovers(repo)
    os.utime(lock, (1, 1))
    assert sweep_ref_leftovers(repo) == [lock, repo.common_dir / JOURNAL_NAME]
    assert leftovers(repo) == []


def test_journal_cut_short_is_dropped(repo):
    journal = repo.common_dir / JOURNAL_NAME
    for content in (b"cas-gitexp", b"", bytes(range(256))):
        journal.write_bytes(content)
        assert sweep_ref_leftovers(repo) == [journal]


def test_journal_leads_to_no_file_outside_of_the_refs(repo):
    outside = repo.common_dir.parent / "outside.lock"
    journal = repo.common_dir / JOURNAL_NAME
    for content, oid in (("", ""), ("a" * 40, "a" * 40)):
        outside.write_text(content)
        os.utime(outside, (1, 1))
        journal.write_text(
            "cas-gitexport: moving refs by git update-ref\n"
            f"{oid} ../outside\n{oid} refs/heads/../../../outside\n{oid} {outside.with_suffix('')}\n"
        )
        assert sweep_ref_leftovers(repo) == [journal]
        assert outside.read_text() == content


# ---- the file itself ------------------------------------------------------------------------------------------------

PARTS = st.text(alphabet="ab-./_", min_size=1, max_size=6)
NAMES = st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: "refs/heads/" + "/".join(parts))


def rendered(refs):
    lines = [
        f"{oid} {name}\n" + (f"^{peeled}\n" if peeled else "") for name, (oid, peeled) in sorted(refs.items())
    ]
    return HEADER + "".join(lines).encode()


VALUES = st.tuples(
    st.integers(0, 9).map(lambda digit: str(digit) * 40),
    st.none() | st.integers(0, 9).map(lambda digit: str(digit) * 40),
)


@settings(max_examples=200, deadline=None)
@given(
    present=st.dictionaries(NAMES, VALUES, max_size=40),
    edits=st.dictionaries(NAMES, VALUES, max_size=12),
    parsed=st.booleans(),
    data=st.data(),
)
def test_packed_refs_behave_like_a_sorted_map(present, edits, parsed, data):
    refs = PackedRefs(rendered(present), 1000 if parsed else 0)
    assert refs.canonical
    asked = data.draw(st.lists(st.sampled_from([*present, *edits, "refs/heads/none"]), max_size=20))
    for name in asked:
        assert refs.find(name) == (present[name][0] if name in present else None)
        inside = sorted(other for other in present if other.startswith(name + "/"))
        assert refs.below(name) == (inside[0] if inside else None)
    pieces = refs.edited(PackedEdit(name, oid, peeled) for name, (oid, peeled) in edits.items())
    assert b"".join(pieces) == rendered(present | edits)


def test_malformed_packed_refs_is_refused(repo):
    oid = commit(repo.path)
    (repo.common_dir / "packed-refs").write_bytes(HEADER + b"nonsense\n")
    with pytest.raises(IntegrityError):
        update_refs(repo, [RefChange("refs/heads/a", None, oid)])


def test_stale_lock_is_removed_and_taken(repo):
    lock = repo.common_dir / "packed-refs.lock"
    lock.write_bytes(LOCK_TEXT)
    with packed_refs_lock(repo.common_dir):
        assert lock.read_bytes() == LOCK_TEXT
        assert leftovers(repo) == ["packed-refs.lock"]
        assert sweep_ref_leftovers(repo) == []
    assert leftovers(repo) == []
    assert list(repo.common_dir.glob("cas_lock_*")) == []


def test_lock_that_another_program_holds_is_named(repo):
    lock = repo.common_dir / "packed-refs.lock"
    lock.write_bytes(b"")
    with pytest.raises(GitCommandFailedError) as caught, packed_refs_lock(repo.common_dir, wait_s=0):
        pass
    assert (caught.value.kind, caught.value.subject) == ("ref_locked", str(lock))
    assert lock.exists()
    assert list(repo.common_dir.glob("cas_lock_*")) == []


def test_lock_that_was_taken_over_is_left_to_its_owner(repo):
    lock = repo.common_dir / "packed-refs.lock"
    with packed_refs_lock(repo.common_dir):
        lock.unlink()
        lock.write_bytes(b"theirs")
    assert lock.read_bytes() == b"theirs"


def test_file_that_a_killed_exporter_was_linking_is_swept(repo):
    left = repo.common_dir / "cas_lock_0f"
    left.write_bytes(b"")
    assert sweep_ref_leftovers(repo) == [left]
    assert not left.exists()


def deleted_by_a_killed_git(repo, *, age_s, new=False):
    """Leave what a git that was killed in a deletion leaves on ``packed-refs``, of some age."""
    journal = repo.common_dir / JOURNAL_NAME
    journal.write_text("cas-gitexport: moving refs by git update-ref\n refs/heads/x\n")
    os.utime(journal, (1, 1))
    left = [repo.common_dir / name for name in ("packed-refs.lock", *(["packed-refs.new"] if new else []))]
    for path in left:
        path.touch()
        past_s = path.stat().st_mtime - age_s
        os.utime(path, (past_s, past_s))
    return journal, left


@pytest.mark.parametrize("new", [False, True])
def test_lock_on_packed_refs_of_a_killed_git_is_removed_after_a_minute(repo, new):
    journal, left = deleted_by_a_killed_git(repo, age_s=61, new=new)
    assert set(sweep_ref_leftovers(repo)) == {journal, *left}
    assert leftovers(repo) == []


@pytest.mark.parametrize("new", [False, True])
def test_lock_on_packed_refs_that_is_young_may_be_another_gits(repo, new):
    journal, left = deleted_by_a_killed_git(repo, age_s=30, new=new)
    with pytest.raises(GitCommandFailedError) as caught:
        sweep_ref_leftovers(repo)
    assert (caught.value.kind, caught.value.subject) == ("ref_locked", str(left[0]))
    assert journal.exists()
    assert all(path.exists() for path in left)


def test_new_packed_refs_that_another_git_writes_keeps_its_lock(repo):
    _, (lock, new) = deleted_by_a_killed_git(repo, age_s=61, new=True)
    os.utime(new)
    with pytest.raises(GitCommandFailedError):
        sweep_ref_leftovers(repo)
    assert lock.exists()
    assert new.exists()


def test_journal_names_the_moves_and_is_gone_afterwards(repo):
    changes = [RefChange("refs/heads/a", None, "1" * 40), RefChange("refs/heads/b", "1" * 40, None)]
    journal = repo.common_dir / JOURNAL_NAME
    with ref_journal(repo.common_dir, changes) as descriptor:
        assert journal.read_text() == (
            f"cas-gitexport: moving refs by git update-ref\n{'1' * 40} refs/heads/a\n refs/heads/b\n"
        )
        assert os.fstat(descriptor).st_ino == journal.stat().st_ino
        assert journal.stat().st_mode & 0o777 == 0o600
        assert sweep_ref_leftovers(repo) == []
        with pytest.raises(GitCommandFailedError) as caught, ref_journal(repo.common_dir, changes):
            pass
        assert (caught.value.kind, caught.value.subject) == ("ref_locked", str(journal))
    assert not journal.exists()


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        (GitCommandFailedError("too slow", kind="git_timeout"), False),
        (GitCommandFailedError("refused"), True),
        (ConflictError("elsewhere"), True),
        (KeyboardInterrupt(), False),
    ],
)
def test_locks_are_removed_when_git_was_killed_and_not_when_it_ended_by_itself(repo, error, stays):
    lock = repo.common_dir / "refs" / "heads" / "x.lock"
    oid = "1" * 40
    lock.write_text(f"{oid}\n")
    with pytest.raises(type(error)), ref_journal(repo.common_dir, [RefChange("refs/heads/x", None, oid)]):
        raise error
    assert lock.exists() is stays
    assert not (repo.common_dir / JOURNAL_NAME).exists()


def test_lock_is_settled_after_a_minute(tmp_path):
    path = tmp_path / "x.lock"
    path.touch()
    now_s = path.stat().st_mtime
    for age_s, settled in ((55, False), (61, True)):
        os.utime(path, (now_s - age_s, now_s - age_s))
        assert reflocks._is_settled(path) is settled

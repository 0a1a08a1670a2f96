"""Rollbacks as git sees them: before and after the export and the push, on branches of both kinds, beside writers."""

from __future__ import annotations

import concurrent.futures
from pathlib import Path

import pytest

from cas import ArtifactStore, IntegrityError, NotFoundError, blobs
from cas.digest import digest_bytes
from cas.lmdbenv import Table
from gitexport import Exporter
from gitexport.verify import verify_export
from tests.export.places import assert_sound, run_git
from tests.gc.keeping import collect, flip_byte

OWN = "ai/generated/wf/t1"
FIRST = {"strategy.py": b"FAST = 5\n", "trades.csv": b"x,y\n1,2\n"}
SECOND = {"strategy.py": b"FAST = 9\n", "notes/plan.md": b"more\n"}


@pytest.fixture
def people(place):
    """A branch ``main`` that only git knows, with files beside the artifact root and below it."""
    blob = place.git("hash-object", "-w", "--stdin", stdin="# Trading\n")
    script = place.git("hash-object", "-w", "--stdin", stdin="#!/bin/sh\n")
    codes = place.git("mktree", stdin=f"100644 blob {blob}\told.py\n")
    folder = place.git("mktree", stdin=f"040000 tree {codes}\tcodes\n100755 blob {script}\trun.sh\n")
    root = place.git("mktree", stdin=f"100644 blob {blob}\tREADME.md\n040000 tree {folder}\tBacktest\n")
    commit = place.git("commit-tree", "-m", "People's own", root)
    place.git("update-ref", "refs/heads/main", commit)
    return commit


def listing(place, branch, folder=None):
    """Return path to (mode, oid) of what a branch holds in git."""
    lines = place.git("ls-tree", "-r", branch, *([] if folder is None else [folder])).splitlines()
    return {line.split("\t")[1]: tuple(line.split()[:3:2]) for line in lines}


def assert_holds(place, branch, tag, kept):
    """In git, the branch's artifact root is the tag's and everything else is as it was."""
    root = place.git("rev-parse", f"{branch}:Backtest/codes")
    assert root == place.git("rev-parse", f"{tag}^{{commit}}:Backtest/codes")
    others = {path: entry for path, entry in listing(place, branch).items() if "/codes/" not in path}
    assert others == kept
    assert place.store.verify_rollback(tag, branch).ok
    assert verify_export(place.store).ok


def two_runs(place):
    place.commit(correlation_id="a", files=FIRST)
    place.commit(correlation_id="b", files=SECOND)


def nothing(place):
    """The runs wait for their export."""


def export(place):
    place.export()


def push(place):
    summary = place.export(push=True)
    assert summary.state == "done"


def test_store_of_a_relative_path_keeps_to_its_repository_when_the_current_folder_changes(
    place, people, tmp_path, monkeypatch
):
    monkeypatch.chdir(place.path.parent)
    place.store.close()
    config = place.store.config.replace(
        repo_path=Path(place.path.name), store_path=place.store.config.store_dir
    )
    with ArtifactStore(config) as store:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        store.commit_artifacts("wf", "t1", {"a.py": b"1\n"}, correlation_id="a")
        step = store.revert_to_tag("corr_a", "main")
        assert store.history("main")[0]["parent"] == people
        assert Exporter(store).run(push=False).state == "done"
        assert place.git("rev-parse", "main") == step["commit_sha"]
        assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("state", [nothing, export, push])
@pytest.mark.parametrize("branch", [OWN, "main", "release/new"])
def test_rollback_is_the_tags_root_and_the_branchs_other_paths(place, remote, people, state, branch):
    two_runs(place)
    state(place)
    kept = {"README.md": ("100644",), "Backtest/run.sh": ("100755",)} if branch == "main" else {}
    before = listing(place, "main")
    tip = people if branch == "main" else None
    if branch == OWN:
        tip = place.store.history(OWN)[0]["commit_sha"]
    result = place.store.revert_to_tag("corr_a", branch, reason="drawdown")
    push(place)
    assert place.git("rev-parse", branch) == result["commit_sha"]
    parents = place.git("rev-list", "--parents", "-n", "1", branch).split()[1:]
    assert parents == ([] if tip is None else [tip])
    assert_holds(place, branch, "corr_a", {path: before[path] for path in kept})
    assert run_git(remote, "rev-parse", branch) == result["commit_sha"]
    assert_sound(place.path)
    assert_sound(remote)


@pytest.mark.parametrize("between", [nothing, export, push])
def test_rollbacks_in_a_row_each_stand_on_the_one_before(place, remote, people, between):
    two_runs(place)
    kept = {path: entry for path, entry in listing(place, "main").items() if "/codes/" not in path}
    shas = []
    for tag in ("corr_a", "corr_b", "corr_a", "corr_b"):
        shas.append(place.store.revert_to_tag(tag, "main")["commit_sha"])
        between(place)
    push(place)
    assert place.git("rev-list", "main").split() == [*shas[::-1], people]
    assert_holds(place, "main", "corr_b", kept)
    assert place.store.revert_to_tag("corr_b", "main")["created"] is False
    for tag, sha in zip(("corr_a", "corr_b"), shas, strict=False):
        assert place.git("rev-parse", f"{sha}:Backtest/codes") == place.git(
            "rev-parse", f"{tag}^{{commit}}:Backtest/codes"
        )


def test_rollback_of_a_branch_that_people_moved_on_keeps_their_work(place, people):
    two_runs(place)
    place.store.revert_to_tag("corr_a", "main")
    place.export()
    blob = place.git("hash-object", "-w", "--stdin", stdin="new\n")
    old = place.git("ls-tree", "main").replace("README.md", "READ.md")
    root = place.git("mktree", stdin=f"{old}\n100644 blob {blob}\tNEW\n")
    theirs = place.git("commit-tree", "-p", "main", "-m", "People go on", root)
    place.git("update-ref", "refs/heads/main", theirs)
    proof = place.store.verify_rollback("corr_a", "main")
    assert (proof.ok, proof.read_from) == (True, "git")
    result = place.store.revert_to_tag("corr_b", "main")
    place.export()
    assert place.git("rev-parse", "main^") == theirs
    assert place.git("rev-parse", "main") == result["commit_sha"]
    assert {"READ.md", "NEW", "Backtest/run.sh"} < set(listing(place, "main"))
    assert place.store.verify_rollback("corr_b", "main").ok


def damage(place):
    with place.store.environment.read() as transaction:
        blob = blobs.require(transaction, digest_bytes(FIRST["strategy.py"]))
    flip_byte(place.store, Table.SEGMENTS, blobs.segment_key(blob.segment, 0), blob.offset + 4)
    return IntegrityError, "is damaged"


def purge(place):
    place.store.purge(digest_bytes(FIRST["strategy.py"]).hex())
    return IntegrityError, "purged"


def forget(place):
    place.store.forget(["corr_a"])
    return NotFoundError, "forgotten"


def collect_forgotten(place):
    place.store.forget(["corr_a"])
    collect(place.store)
    return NotFoundError, "removed from the store"


@pytest.mark.parametrize("branch", [OWN, "main", "release/new"])
@pytest.mark.parametrize("deed", [damage, purge, forget, collect_forgotten])
def test_rollback_to_content_that_is_not_whole_is_refused_and_moves_nothing(place, people, deed, branch):
    two_runs(place)
    place.export()
    error, words = deed(place)
    refs, history = place.refs(), place.store.history(OWN)
    with pytest.raises(error, match=words):
        place.store.revert_to_tag("corr_a", branch)
    assert place.store.history(OWN) == history
    if branch != OWN:
        with pytest.raises(NotFoundError):
            place.store.history(branch)
    place.export()
    assert place.refs() == refs


def write(store, name, commits):
    for number in range(25):
        files = {"f": f"{name} {number}".encode()}
        result = store.commit_artifacts("wf", "t1", files, correlation_id=f"{name}{number}")
        commits.append(result["commit_sha"])


def take_back(store, branch, rollbacks):
    for number in range(12):
        result = store.revert_to_tag(f"corr_{'ab'[number % 2]}", branch)
        assert result["certificate"]["ok"]
        if result["created"]:
            rollbacks.append(result["commit_sha"])


def test_rollbacks_while_writers_write_lose_no_commit_of_either(place, people):
    """Four threads commit to the very branch that a fifth takes back, a sixth takes back another, and exports run."""
    two_runs(place)
    store = place.store
    commits, own_rollbacks, main_rollbacks = [], [], []
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        work = [pool.submit(write, store, name, commits) for name in "wxyz"]
        work.append(pool.submit(take_back, store, OWN, own_rollbacks))
        work.append(pool.submit(take_back, store, "main", main_rollbacks))
        place.export()
        for each in work:
            each.result()
    own = [step["commit_sha"] for step in store.history(OWN, limit=1000)]
    assert {*commits, *own_rollbacks} <= set(own)
    assert len(own) == len(set(own)) == 102 + len(own_rollbacks)
    assert [step["parent"] for step in store.history(OWN, limit=1000)] == [*own[1:], None]
    place.export()
    assert place.git("rev-list", OWN).split() == own
    assert place.git("rev-list", "main").split() == [*main_rollbacks[::-1], people]
    assert store.verify().ok
    assert verify_export(store).ok

"""Purging what git holds already: told, never pushed, and looked for in git's objects."""

import subprocess

import pytest

from cas import ArtifactStore, ArtifactStoreConfig
from cas.digest import digest_bytes
from gitexport import Exporter, archive_branches
from tests.secrets.corpus import B62, Maker
from tests.store.stores import make_clock

VALUE = Maker("purge in git").of(B62, 36)
LEAK = f'api_key = "{VALUE}"\n'.encode()


def git(*words, folder):
    return subprocess.run(
        ["git", "-C", folder, *words], check=True, capture_output=True, text=True, errors="replace"
    ).stdout.strip()


@pytest.fixture
def places(tmp_path):
    """A repository with a remote, both empty."""
    for name in ("repo", "remote"):
        subprocess.run(["git", "init", "-q", "--bare", tmp_path / name], check=True)
    git("remote", "add", "origin", str(tmp_path / "remote"), folder=tmp_path / "repo")
    return tmp_path


def opened(places):
    config = ArtifactStoreConfig(
        repo_path=places / "repo", store_path=places / "store", scan_for_secrets=False, auto_push=True
    )
    return ArtifactStore(config, clock=make_clock())


def commit(store, correlation_id, data):
    return store.commit_artifacts("w", "t", {"a.py": data}, correlation_id=correlation_id)["commit_sha"]


def test_purge_after_export_lists_what_git_holds_and_pushes_none_of_it(places):
    with opened(places) as store:
        commit(store, "c0", b"A = 1\n")
        Exporter(store).run()
        leaked, later = commit(store, "c1", LEAK), commit(store, "c2", b"A = 2\n")
        Exporter(store).run(push=False)
        result = store.purge(digest_bytes(LEAK).hex())
        assert result["git"] == {
            "branches": ["ai/generated/w/t"],
            "tags": ["corr_c1"],
            "commits": [leaked],
            "later_commits": [later],
            "paths": ["Backtest/codes/t/a.py"],
        }
        assert result["held"] == 2
        commit(store, "c3", b"A = 3\n")
        Exporter(store).run(retry_parked=True)
        assert store.export_status("c3")["export_state"] != "pushed"
    assert "corr_c0" in git("tag", folder=places / "remote")
    assert "corr_c1" not in git("tag", folder=places / "remote")
    everything = git("cat-file", "--batch-all-objects", "--batch", folder=places / "remote")
    assert VALUE not in everything


def test_purge_before_export_keeps_the_content_out_of_git(places):
    with opened(places) as store:
        commit(store, "c0", b"A = 1\n")
        commit(store, "c1", LEAK)
        store.purge(digest_bytes(LEAK).hex())
        Exporter(store).run(retry_parked=True)
        states = [store.export_status(run)["export_state"] for run in ("c0", "c1")]
        assert states == ["pushed", "parked"]
    everything = git("cat-file", "--batch-all-objects", "--batch", folder=places / "repo")
    assert VALUE not in everything
    assert "corr_c1" not in git("tag", folder=places / "repo")


def test_purge_from_a_rolled_up_branch_is_done_by_dropping_the_archive_and_a_rebuild(places):
    """As docs/security.md says: what the archive held besides comes back as branches, what was purged does not."""
    repository = places / "repo"
    with opened(places) as store:
        leaked = commit(store, "c0", LEAK)
        kept = store.commit_artifacts("w", "other", {"a.py": b"A = 1\n"}, correlation_id="c1")
        Exporter(store).run(push=False)
        git("remote", "remove", "origin", folder=repository)
        archive = archive_branches(store, keep_newest=0).archive
        store.purge(digest_bytes(LEAK).hex())
        git("update-ref", "-d", archive, folder=repository)
        git("gc", "-q", "--prune=now", folder=repository)
        summary = Exporter(store).run(rebuild=True)
        assert summary.state == "parked"
        refs = git("for-each-ref", "--format=%(refname:short)", folder=repository).split()
        assert refs == [kept["branch"], "corr_c1"]
        objects = git("cat-file", "--batch-all-objects", "--batch-check", folder=repository)
        assert leaked not in objects
        assert kept["commit_sha"] in objects
        assert archive_branches(store, keep_newest=0, push=False).state == "done"


def test_archive_with_a_purged_run_is_not_pushed(places):
    """It was made while there was no remote, so that nothing of it had to be pushed before."""
    repository = places / "repo"
    with opened(places) as store:
        commit(store, "c0", LEAK)
        store.commit_artifacts("w", "other", {"a.py": b"A = 1\n"}, correlation_id="c1")
        git("remote", "remove", "origin", folder=repository)
        Exporter(store).run()
        archive = archive_branches(store, keep_newest=0).archive
        store.purge(digest_bytes(LEAK).hex())
        git("remote", "add", "origin", str(places / "remote"), folder=repository)
        free = store.commit_artifacts("w", "free", {"a.py": b"A = 2\n"}, correlation_id="c2")
        summary = Exporter(store).run()
        states = [store.export_status(run)["export_state"] for run in ("c0", "c1", "c2")]
        assert (states, summary.state) == (["parked", "parked", "pushed"], "parked")
        assert archive in store.export_status("c1")["reason"]
        rolled_up = archive_branches(store, keep_newest=9)
        assert rolled_up.state == "parked"
        assert not rolled_up.pushed
        assert VALUE not in remote_holds(places)
        git("update-ref", "-d", archive, folder=repository)
        Exporter(store).run(rebuild=True)
        assert store.export_status("c1")["export_state"] == "pushed"
    assert git("for-each-ref", "--format=%(refname:short)", folder=places / "remote").split() == [
        free["branch"],
        "ai/generated/w/other",
        "corr_c1",
        "corr_c2",
    ]
    assert VALUE not in remote_holds(places)


@pytest.mark.parametrize("left", ["nothing", "older", "all", "more", "archive"])
def test_later_run_goes_only_where_the_purged_one_still_is(places, left):
    """Only the remote was rewritten, so that the next run of the branch would bring the purged file back to it."""
    remote, branch = places / "remote", "refs/heads/ai/generated/w/t"
    with opened(places) as store:
        kept, leaked = commit(store, "c0", b"A = 1\n"), commit(store, "c1", LEAK)
        Exporter(store).run()
        if left == "archive":
            assert archive_branches(store, keep_newest=0, delete_remote=True).remote_refs == 3
        store.purge(digest_bytes(LEAK).hex())
        if left in {"nothing", "older"}:
            git("update-ref", *([branch, kept] if left == "older" else ["-d", branch]), folder=remote)
            git("update-ref", "-d", "refs/tags/corr_c1", folder=remote)
            git("gc", "-q", "--prune=now", folder=remote)
        later = commit(store, "c2", b"A = 2\n")
        free = store.commit_artifacts("w", "free", {"a.py": b"A = 3\n"}, correlation_id="c3")
        if (
            left == "more"
        ):  # the remote has gone on: the push of the run has arrived before, and its answer was lost
            Exporter(store).run(push=False)
            git("push", "-q", str(remote), branch, folder=places / "repo")
        Exporter(store).run()
        Exporter(store).run(retry_parked=True)
        states = [store.export_status(run)["export_state"] for run in ("c2", "c3")]
    goes = left in {"all", "more", "archive"}
    assert states == ["pushed" if goes else "parked", "pushed"]
    shown = git("for-each-ref", "--format=%(objectname)", folder=remote)
    assert (later in shown, free["commit_sha"] in shown) == (goes, True)
    assert (VALUE in remote_holds(places), leaked in remote_holds(places)) == (goes, goes)


def test_branch_with_a_purged_run_is_not_rolled_up(places):
    with opened(places) as store:
        leaked = commit(store, "c0", LEAK)
        commit(store, "c1", b"A = 1\n")
        free = store.commit_artifacts("w", "free", {"a.py": b"A = 2\n"}, correlation_id="c2")
        Exporter(store).run()
        store.purge(digest_bytes(LEAK).hex())
        summary = archive_branches(store, keep_newest=0)
    assert [branch["branch"] for branch in summary.branches] == [free["branch"]]
    reason = f"has a purged file in commit {leaked[:12]}"
    assert summary.left == [{"branch": "ai/generated/w/t", "reason": reason}]


def test_later_run_waits_while_a_remote_cannot_be_asked_for_the_purged_one(places):
    with opened(places) as store:
        commit(store, "c0", LEAK)
        Exporter(store).run()
        store.purge(digest_bytes(LEAK).hex())
        commit(store, "c1", b"A = 2\n")
        (places / "remote").rename(places / "away")
        summary = Exporter(store).run()
        assert (summary.state, summary.pending, summary.pushed) == ("pending", 1, 0)
        assert summary.warnings
        (places / "away").rename(places / "remote")
        assert Exporter(store).run().state == "done"


def remote_holds(places):
    return git("cat-file", "--batch-all-objects", "--batch", folder=places / "remote")


def test_purged_run_above_one_that_waits_for_the_push_stays_here(places):
    with opened(places) as store:
        kept, leaked = commit(store, "c0", b"A = 1\n"), commit(store, "c1", LEAK)
        commit(store, "c2", b"A = 2\n")
        Exporter(store).run(push=False)
        store.purge(digest_bytes(LEAK).hex())
        summary = Exporter(store).run()
        states = [store.export_status(run)["export_state"] for run in ("c0", "c1", "c2")]
    assert (states, summary.state) == (["pushed", "parked", "parked"], "parked")
    assert git("rev-parse", "ai/generated/w/t", folder=places / "remote") == kept
    assert VALUE not in remote_holds(places)
    assert leaked not in remote_holds(places)


def test_purged_run_does_not_come_back_by_a_rebuild_after_history_was_rewritten(places):
    """The local repository still has the objects, unreachable or not; docs/security.md has the steps."""
    with opened(places) as store:
        kept = commit(store, "c0", b"A = 1\n")
        commit(store, "c1", LEAK)
        commit(store, "c2", b"A = 2\n")
        Exporter(store).run()
        written = store.purge(digest_bytes(LEAK).hex())["git"]
        for folder in (places / "repo", places / "remote"):
            git("update-ref", f"refs/heads/{written['branches'][0]}", kept, folder=folder)
            for tag in (*written["tags"], "corr_c2"):
                git("update-ref", "-d", f"refs/tags/{tag}", folder=folder)
        git("gc", "-q", "--prune=now", folder=places / "remote")
        assert VALUE not in remote_holds(places)
        Exporter(store).run(rebuild=True)
        Exporter(store).run(rebuild=True, retry_parked=True)
        states = [store.export_status(run)["export_state"] for run in ("c0", "c1", "c2")]
    assert states == ["pushed", "parked", "parked"]
    for folder in ("repo", "remote"):
        assert git("rev-parse", "ai/generated/w/t", folder=places / folder) == kept
        assert git("tag", folder=places / folder) == "corr_c0"
    assert VALUE not in remote_holds(places)


def test_purged_run_does_not_come_back_when_the_remote_alone_was_rewritten(places):
    with opened(places) as store:
        kept = commit(store, "c0", b"A = 1\n")
        commit(store, "c1", LEAK)
        source = store.commit_artifacts("w", "other", {"a.py": LEAK}, correlation_id="c3")
        store.commit_artifacts("w", "other", {"a.py": b"A = 3\n"}, correlation_id="c4")
        store.revert_to_tag("corr_c1", target_branch="back")
        Exporter(store).run()
        store.purge(digest_bytes(LEAK).hex())
        git("update-ref", "refs/heads/ai/generated/w/t", kept, folder=places / "remote")
        for name in (
            "heads/back",
            f"heads/{source['branch']}",
            "tags/corr_c1",
            "tags/corr_c3",
            "tags/corr_c4",
        ):
            git("update-ref", "-d", f"refs/{name}", folder=places / "remote")
        git("gc", "-q", "--prune=now", folder=places / "remote")
        Exporter(store).run(rebuild=True)
        assert store.export_status("c4")["export_state"] == "parked"
    assert git("for-each-ref", "--format=%(refname:short)", folder=places / "remote").split() == [
        "ai/generated/w/t",
        "corr_c0",
    ]
    assert VALUE not in remote_holds(places)

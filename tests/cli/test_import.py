"""`cas import`."""

import pytest


@pytest.fixture
def old(store, git, place):
    """A repository with one branch as the replaced system made it."""
    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.name", "a")
    git("config", "user.email", "a@example.com")
    git("commit", "--quiet", "--allow-empty", "--message=Begin")

    def run(task="t1", tag="corr_a", content="FAST = 5\n"):
        git("checkout", "--quiet", "-b", f"ai/generated/wf/{task}", "main")
        folder = place / "Backtest" / "codes" / task
        folder.mkdir(parents=True)
        (folder / "strategy.py").write_text(content)
        git("add", "Backtest")
        git("commit", "--quiet", f"--message=Add artifacts for wf/{task}")
        git("tag", tag)
        commit = git("rev-parse", "HEAD")
        git("checkout", "--quiet", "main")
        return commit

    return run


def test_import_takes_over_a_run_under_its_own_commit_id(store, old):
    commit = old()
    assert "took over 1 commit" in store.ok("import").out
    assert store.ok("show", "corr_a", "--json").json["commit_sha"] == commit
    assert "1 were there already" in store.ok("import").out


def test_import_dry_run_writes_nothing(store, old):
    old()
    assert "would take over 1 commit" in store.ok("import", "--dry-run").out
    assert store("show", "corr_a").code == 3


def test_import_of_a_secret_ends_with_its_exit_code(store, old):
    old(content="aws_access_key_id = 'AKIA" + "Q3K7WZ4TUVB2NXY5'\n")
    ended = store("import")
    assert ended.code == 5
    assert "AKIAQ3" not in ended.out + ended.err
    assert store.ok("import", "--allow-secrets", "--json").json["commits"] == 1


def test_import_of_a_branch_that_stays_out_says_why(store, old, git):
    old()
    git("branch", "ai/generated/wf/empty", "main")
    ended = store("import")
    assert ended.code == 4
    assert "stays out: it never held" in ended.err
    assert store("import", "--branch", "nobody").code == 4


def test_import_of_a_run_without_a_tag_leaves_a_rollback_to_it_refused_with_a_way_out(store, old, git):
    commit = old(tag="corr_a")
    git("tag", "-d", "corr_a")
    store.ok("import")
    for words in (["revert", commit[:12]], ["revert", "latest"], ["verify", "--rollback", "latest"]):
        ended = store(*words)
        assert (ended.code, "has no tag" in ended.err) == (3, True), ended.err
    assert f"`cas checkout {commit} DIR`" in ended.err

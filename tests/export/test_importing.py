"""Taking over repositories of the replaced system, made by the git commands that it ran."""

from __future__ import annotations

import json
import resource
import shlex
import shutil

import pytest

from cas import ArtifactStore, InvalidInputError, StorageError, intake
from cas.repair import Repair, repair_catalog
from gitexport import Exporter, export_status, verify_export
from gitexport.importing import import_repository
from gitexport.lease import WORK_PREFIX
from tests.export.places import assert_sound, digest_of_tree, refs_of, run_git

KEY = "AKIA" + "Q3K7WZ4TUVB2NXY5"


class OldSystem:
    """Makes runs as the replaced system did: a branch from where HEAD is, files, one commit, tags, back to main."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        (path / "README.md").write_text("strategies\n")
        (path / "Backtest").mkdir()
        (path / "Backtest" / "engine.py").write_text("run = print\n")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message=Begin")

    def git(self, *words, **settings):
        return run_git(self.path, *words, **settings)

    def run(
        self,
        task="task_coder_001",
        correlation_id="corr_abc123",
        *,
        workflow="wf_rsi_strategy",
        files=None,
        metadata=None,
        prompt="7a8b9c0d1e2f3a4b",
        annotated=False,
        tags=True,
        stay=False,
        force=False,
    ):
        branch = f"ai/generated/{workflow}/{task}"
        exists = f"refs/heads/{branch}" in refs_of(self.path)
        self.git("checkout", "--quiet", *([] if exists else ["-b"]), branch)
        folder = self.path / "Backtest" / "codes" / task
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (
            files or {"strategy.py": "FAST = 5\n", "trades.csv": f"pnl\n{correlation_id}\n"}
        ).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        document = {
            "workflow_id": workflow,
            "task_id": task,
            "correlation_id": correlation_id,
            "prompt_hash": prompt,
            "commit_timestamp": "2025-11-07T14:30:00Z",
            "agent_version": "coder-v1.0",
            "llm_version": "gpt-4",
            "test_metrics": {"total_trades": 12, "net_pnl": 120.5},
            "files": ["strategy.py"],
        }
        if metadata is not False:
            (folder / "metadata.json").write_text(metadata or json.dumps(document, indent=2))
        self.git("add", "Backtest/codes")
        self.git(
            "commit", "--quiet", f"--message=Add artifacts for {workflow}/{task}\n\nWorkflow: {workflow}\n"
        )
        kind = ["--annotate", "--message=run"] if annotated else []
        if tags:
            tag = correlation_id if correlation_id.startswith("corr_") else f"corr_{correlation_id}"
            self.git("tag", *(["--force"] if force else []), *kind, tag)
            if prompt and f"refs/tags/prompt_{prompt[:12]}" not in refs_of(self.path):
                self.git("tag", *kind, f"prompt_{prompt[:12]}")
        commit = self.git("rev-parse", "HEAD")
        if not stay:
            self.git("checkout", "--quiet", "main")
        return commit


@pytest.fixture
def old(tmp_path):
    return OldSystem(tmp_path / "old")


@pytest.fixture
def store(old, make_place, clock):
    place = make_place()
    config = place.store.config.replace(
        repo_path=old.path, store_path=old.path.parent / "imported", scan_for_secrets=True, checked_out="warn"
    )
    with ArtifactStore(config, clock=clock) as opened:
        yield opened


def dump(store):
    from cas.lmdbenv import Table

    with store.environment.read() as transaction:
        return {table: list(transaction.scan(table)) for table in Table}


@pytest.mark.parametrize("annotated", [True, False])
def test_run_is_found_under_its_old_names(old, store, tmp_path, annotated):
    commit = old.run(annotated=annotated)
    before = digest_of_tree(old.path)
    summary = import_repository(store)
    assert digest_of_tree(old.path) == before
    assert (summary.branches, summary.commits, summary.refused, summary.remarks) == (1, 1, [], [])
    run = store.get_artifact_by_correlation_id("abc123")
    assert run["commit_sha"] == commit
    assert run["tags"] == ["corr_abc123", "prompt_7a8b9c0d1e2f"]
    assert (run["agent_version"], run["test_metrics"]["net_pnl"], run["prompt_hash"]) == (
        "coder-v1.0",
        120.5,
        "7a8b9c0d1e2f3a4b",
    )
    assert store.show("prompt_7a8b9c0d1e2f")["commit_sha"] == commit
    assert store.show(commit[:10])["correlation_id"] == "corr_abc123"
    assert [
        item["commit_sha"] for item in store.list_artifacts("wf_rsi_strategy", where="net_pnl > 100")
    ] == [commit]
    store.checkout("corr_abc123", tmp_path / "out")
    task = "Backtest/codes/task_coder_001"
    assert digest_of_tree(tmp_path / "out").keys() == {"strategy.py", "trades.csv", "metadata.json"}
    for name in ("strategy.py", "metadata.json"):
        assert (tmp_path / "out" / name).read_text().strip() == old.git("show", f"{commit}:{task}/{name}")
    assert store.export_status("abc123")["export_state"] == "exported"
    assert store.verify().ok
    assert verify_export(store).ok


def test_second_import_adds_nothing(old, store):
    for number in range(3):
        old.run(f"t{number}", f"c{number}", prompt=f"prompt{number}")
    assert import_repository(store).commits == 3
    before = dump(store)
    summary = import_repository(store)
    assert (summary.commits, summary.present, summary.refused) == (0, 3, [])
    assert dump(store) == before
    old.run("t1", "later")
    summary = import_repository(store)
    assert (summary.commits, summary.present) == (1, 3)


def test_new_runs_continue_an_imported_branch(old, store):
    first = old.run("t1", "a")
    import_repository(store)
    result = store.commit_artifacts("wf_rsi_strategy", "t1", {"strategy.py": b"FAST = 6\n"}, {}, "b")
    assert Exporter(store).run(push=False).state == "done"
    assert old.git("rev-parse", f"{result['commit_sha']}^") == first
    assert refs_of(old.path)["refs/heads/ai/generated/wf_rsi_strategy/t1"] == result["commit_sha"]
    assert import_repository(store).commits == 0
    assert_sound(old.path)


def test_rollback_to_an_imported_run_keeps_every_other_path(old, store):
    old.run("t1", "a")
    old.run("t1", "b", files={"strategy.py": "FAST = 9\n"})
    import_repository(store)
    store.revert_to_tag("corr_a", "ai/generated/wf_rsi_strategy/t1")
    result = store.revert_to_tag("corr_a", "main")
    old.git("checkout", "--quiet", "--detach")
    summary = Exporter(store).run(push=False)
    assert (summary.state, summary.exported) == ("done", 2), summary.failures
    for branch in ("main", "ai/generated/wf_rsi_strategy/t1"):
        assert old.git("show", f"{branch}:README.md") == "strategies"
        assert old.git("show", f"{branch}:Backtest/engine.py") == "run = print"
        assert old.git("show", f"{branch}:Backtest/codes/t1/strategy.py") == "FAST = 5"
    assert old.git("rev-parse", "main") == result["commit_sha"]
    assert_sound(old.path)


def test_branch_with_several_commits_becomes_a_history(old, store):
    commits = [old.run("t1", f"c{number}") for number in range(3)]
    branch = "ai/generated/wf_rsi_strategy/t1"
    old.git("checkout", "--quiet", branch)
    (old.path / "notes.txt").write_text("by a person\n")
    old.git("add", ".")
    old.git("commit", "--quiet", "--message=A note")
    commits.append(old.git("rev-parse", "HEAD"))
    old.git("checkout", "--quiet", "main")
    import_repository(store)
    assert [step["commit_sha"] for step in store.history(branch)] == commits[::-1]
    assert store.get_artifact_by_correlation_id("c2", revision=1)["commit_sha"] == commits[2]
    assert store.get_artifact_by_correlation_id("c2")["commit_sha"] == commits[3]
    # Both revisions have the same content, and the row that tells which one has it can hold but one.
    assert store.verify().ok
    assert repair_catalog(store.environment) == Repair()


def test_branches_made_one_from_the_other_keep_apart(old, store):
    commits = {name: old.run(name, name, stay=True) for name in ("t1", "t2", "t3")}
    old.git("checkout", "--quiet", "main")
    assert import_repository(store).commits == 3
    for name, commit in commits.items():
        assert store.get_artifact_by_correlation_id(name)["commit_sha"] == commit
        assert len(store.history(f"ai/generated/wf_rsi_strategy/{name}")) == 1
    store.revert_to_tag("corr_t3", "restored")
    assert Exporter(store).run(push=False).state == "done"
    assert old.git("ls-tree", "--name-only", "restored:Backtest/codes").split() == ["t1", "t2", "t3"]
    assert_sound(old.path)


def test_two_branches_on_one_commit_are_both_imported(old, store):
    commit = old.run("t1", "a")
    old.git("branch", "ai/generated/other/t1", commit)
    summary = import_repository(store)
    assert (summary.commits, summary.refused) == (2, [])
    assert import_repository(store).commits == 0
    assert store.show("corr_a")["commit_sha"] == commit
    assert store.verify().ok
    assert verify_export(store).ok


@pytest.mark.parametrize(
    "metadata", [False, "{not json", "[1]", '{"test_metrics": {"sharpe": NaN}, "workflow_id": 5}']
)
def test_run_without_readable_metadata_is_found_by_its_tag(old, store, metadata):
    commit = old.run("t1", "a", metadata=metadata)
    summary = import_repository(store)
    assert summary.commits == 1
    assert store.get_artifact_by_correlation_id("a")["commit_sha"] == commit
    assert bool(summary.remarks) == (metadata is False or not metadata.startswith('{"'))
    assert store.verify().ok
    assert verify_export(store).ok


def test_run_without_tag_or_metadata_gets_a_name_of_its_own(old, store):
    commit = old.run("t1", "a", metadata=False, tags=False)
    import_repository(store)
    assert store.get_artifact_by_correlation_id(f"git-{commit[:12]}")["commit_sha"] == commit


def test_tag_that_was_moved_leads_where_it_points(old, store):
    first = old.run("t1", "a")
    second = old.run("t1", "a", files={"strategy.py": "FAST = 7\n"}, force=True)
    import_repository(store)
    assert store.show("corr_a")["commit_sha"] == second
    assert store.get_artifact_by_correlation_id("a")["commit_sha"] == second
    assert (
        store.get_artifact_by_correlation_id(f"corr_a~{first[:12]}")
        or store.show(first)["commit_sha"] == first
    )
    assert verify_export(store).ok


def test_commit_with_several_tags_is_found_by_each(old, store):
    commit = old.run("t1", "a")
    old.git("tag", "corr_again", commit)
    import_repository(store)
    assert {store.show(tag)["commit_sha"] for tag in ("corr_a", "corr_again")} == {commit}
    assert store.verify().ok


def test_odd_names_are_left_out_with_a_remark_and_stay_in_git(old, store, tmp_path):
    folder = old.path / "Backtest" / "codes" / "t1"
    folder.mkdir(parents=True)
    (folder / b"caf\xe9.csv".decode("utf-8", "surrogateescape")).write_text("latin\n")
    (folder / "CON").write_text("device\n")
    (folder / "link").symlink_to("strategy.py")
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "x.csv").write_text("1\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    commit = old.run("t1", "a")
    summary = import_repository(store)
    assert (summary.commits, len(summary.remarks)) == (1, 3)
    assert {item["name"] for item in store.list_files("corr_a")} == {
        "strategy.py",
        "trades.csv",
        "deep/er/x.csv",
        "run.sh",
    }
    store.checkout("corr_a", tmp_path / "out")
    assert verify_export(store).ok
    assert store.show("corr_a")["commit_sha"] == commit


def test_secret_keeps_its_branch_out_unless_it_is_allowed(old, store):
    old.run("t1", "a", files={"strategy.py": f"aws_access_key_id = '{KEY}'\n"})
    old.run("t2", "b")
    summary = import_repository(store)
    assert (summary.commits, [item["branch"] for item in summary.refused]) == (
        1,
        ["ai/generated/wf_rsi_strategy/t1"],
    )
    assert summary.findings[0]["name"] == "strategy.py"
    assert KEY not in json.dumps(summary.as_dict())
    assert store.get_artifact_by_correlation_id("a") is None
    summary = import_repository(store, on_secret="allow")
    assert (summary.commits, summary.refused, len(summary.findings) > 0) == (1, [], True)


def test_dry_run_tells_and_writes_nothing(old, store):
    old.run("t1", "a")
    before = dump(store)
    assert import_repository(store, dry_run=True).commits == 1
    assert dump(store) == before


def test_branches_that_cannot_be_imported_are_named(old, store):
    commit = old.run("t1", "a")
    old.git("branch", "ai/generated/short", commit)
    old.git("branch", "ai/generated/wf/never", "main")
    store.commit_artifacts("wf_rsi_strategy", "t1", {"x.csv": b"1"}, {}, "own")
    summary = import_repository(store)
    reasons = {item["branch"].removeprefix("ai/generated/"): item["reason"] for item in summary.refused}
    assert reasons.keys() == {"short", "wf/never", "wf_rsi_strategy/t1"}
    assert "runs of its own" in reasons["wf_rsi_strategy/t1"]
    assert "never held" in reasons["wf/never"]
    with pytest.raises(InvalidInputError):
        import_repository(store, branches=["ai/generated/nobody/t"])


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        ("-5", "1970-01-01T00:00:00"),
        ("253402300800", "9999-12-31T23:59:59"),
        ("9" * 20, "9999-12-31T23:59:59"),
    ],
)
def test_commit_with_a_time_that_is_no_date_is_taken_with_a_remark(old, store, seconds, shown):
    tree = old.git("rev-parse", f"{old.run('t1', 'a')}^{{tree}}")
    person = f"A Person <person@example.com> {seconds} +0000"
    commit = old.git(
        "hash-object", "-t", "commit", "-w", "--stdin", "--literally",
        stdin=f"tree {tree}\nauthor {person}\ncommitter {person}\n\nodd\n",
    )  # fmt: skip
    old.git("update-ref", "refs/heads/ai/generated/wf/t1", commit)
    summary = import_repository(store)
    assert (summary.commits, summary.refused) == (2, [])
    assert {
        "commit": commit,
        "remark": f"its time, {seconds}, is no date of the years 1970 to 9999",
    }.items() <= (next(item for item in summary.remarks if item["commit"] == commit).items())
    (listed,) = store.list_artifacts("wf")
    assert (listed["commit_sha"], listed["commit_timestamp"][:19]) == (commit, shown)
    assert store.verify().ok


@pytest.mark.parametrize(
    "work", [import_repository, lambda store: Exporter(store).run(push=False)], ids=["import", "export"]
)
def test_files_of_a_killed_import_are_removed_by_whatever_comes_next(old, store, work):
    left = store.environment.directory / f"{WORK_PREFIX}0f3k"
    left.mkdir()
    (left / "blob").write_text(f"aws_access_key_id = '{KEY}'\n")
    work(store)
    assert not left.exists()


def test_disk_that_takes_no_large_file_is_a_storage_error_and_leaves_nothing(old, store):
    old.run("t1", "a", files={"large.bin": "x" * (intake.LARGE_FILE_BYTES + 1)})
    before, after = dump(store), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, after[1]))
    try:
        with pytest.raises(StorageError):
            import_repository(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, after)
    assert list(store.environment.directory.glob(f"{WORK_PREFIX}*")) == []
    assert dump(store) == before
    assert import_repository(store).commits == 1


def test_ordinary_clone_whose_runs_only_the_remote_has_is_told_with_a_way_out(old, store, tmp_path):
    old.run("t1", "a")
    clone = tmp_path / "a clone"
    run_git(tmp_path, "clone", "--quiet", old.path, clone)
    with pytest.raises(InvalidInputError, match="1 are only known of a remote") as caught:
        import_repository(store, clone)
    words = shlex.split(caught.value.hint.partition("mirror: git ")[2])
    run_git(tmp_path, *words, "--quiet")
    assert import_repository(store, clone).commits == 1


def test_branch_whose_history_a_shallow_clone_cuts_off_stays_out_until_it_is_whole(old, store, tmp_path):
    old.run("t1", "a")
    old.run("t1", "b")
    first = old.run("t2", "c")
    for _ in range(2):  # so that not the tip of main is what the runs of t1 began from
        old.git("commit", "--quiet", "--allow-empty", "--message=Go on")
    shallow = tmp_path / "shallow"
    run_git(
        tmp_path,
        "clone",
        "--quiet",
        "--bare",
        "--depth=2",
        "--no-tags",
        "--no-single-branch",
        old.path.as_uri(),
        shallow,
    )
    summary = import_repository(store, shallow)
    assert (summary.commits, store.show("corr_c")["commit_sha"]) == (1, first)
    (refused,) = summary.refused
    assert refused["branch"].endswith("/t1")
    assert "`git fetch --unshallow`" in refused["reason"]
    run_git(shallow, "fetch", "--quiet", "--unshallow")
    assert import_repository(store, shallow).commits == 2


def test_names_of_refs_that_are_not_utf8_are_told_and_keep_nothing_else_out(old, store):
    commit = old.run("t1", "a")
    latin = b"caf\xe9".decode("utf-8", "surrogateescape")
    old.git("branch", f"ai/generated/wf/{latin}", commit)
    old.git("tag", f"corr_{latin}", commit)
    old.git("tag", f"people-{latin}", commit)
    dry = import_repository(store, dry_run=True)
    summary = import_repository(store)
    assert (dry.refused, dry.remarks) == (summary.refused, summary.remarks)
    assert summary.refused == [
        {"branch": "ai/generated/wf/caf\\xe9", "reason": "the name is not UTF-8, and a run's IDs are"}
    ]
    (remark,) = summary.remarks
    assert (remark["commit"], remark["remark"]) == (
        commit,
        "tag corr_caf\\xe9 is not UTF-8 and stays in git alone",
    )
    assert store.show("corr_a")["commit_sha"] == commit
    with pytest.raises(InvalidInputError):
        import_repository(store, branches=[f"ai/generated/wf/{latin}x"])


def test_tag_of_the_store_is_not_taken_by_an_imported_commit(old, store):
    store.commit_artifacts("wf", "own", {"x.csv": b"1"}, {}, "abc123")
    old.run()
    (refused,) = import_repository(store).refused
    assert "corr_abc123" in refused["reason"]
    assert store.verify().ok


def test_lost_repository_is_rebuilt_where_its_foundation_stands(old, store, tmp_path):
    old.run("t1", "a", annotated=True)
    old.run("t2", "b")
    import_repository(store)
    run = store.commit_artifacts("wf_rsi_strategy", "t1", {"strategy.py": b"FAST = 6\n"}, {}, "c")
    Exporter(store).run(push=False)
    refs = refs_of(old.path)
    run_git(
        tmp_path,
        "clone",
        "--quiet",
        "--bare",
        "--single-branch",
        "--no-tags",
        "--branch=main",
        str(old.path),
        "clone.git",
    )
    shutil.rmtree(old.path / ".git")
    run_git(tmp_path, "clone", "--quiet", "--bare", str(tmp_path / "clone.git"), str(old.path / ".git"))
    run_git(old.path, "config", "core.bare", "false")
    summary = Exporter(store).run(push=False, rebuild=True)
    assert summary.state == "done", summary.failures
    assert refs_of(old.path) == refs
    assert run["commit_sha"] in refs.values()
    assert_sound(old.path)


def test_lost_repository_without_the_foundation_says_what_is_missing(old, store):
    old.run("t1", "a")
    import_repository(store)
    shutil.rmtree(old.path / ".git")
    run_git(old.path, "init", "--quiet", "--initial-branch=main")
    summary = Exporter(store).run(push=False, rebuild=True)
    assert (summary.exported, summary.parked) == (0, 1)
    assert "fetch them from another clone" in export_status(store)["parked"][0]["reason"]
    assert refs_of(old.path) == {}


def test_remote_that_has_an_imported_branch_counts_as_pushed(old, store, tmp_path):
    run_git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "remote.git")
    old.git("remote", "add", "origin", str(tmp_path / "remote.git"))
    old.run("t1", "a")
    old.git("push", "--quiet", "--all")
    old.git("push", "--quiet", "--tags")
    old.run("t2", "b")
    import_repository(store)
    assert [store.export_status(name)["export_state"] for name in ("a", "b")] == ["pushed", "exported"]
    assert Exporter(store).run(push=True).pushed == 1
    assert (
        refs_of(tmp_path / "remote.git").items()
        >= {
            name: oid for name, oid in refs_of(old.path).items() if name.startswith("refs/tags/corr_")
        }.items()
    )


def test_large_file_before_a_secret_leaves_nothing_in_the_store(old, store):
    old.run("t1", "a", files={"big.csv": "0123456789abcdef\n" * 1_200_000})
    old.run("t1", "b", files={"strategy.py": f"aws_access_key_id = '{KEY}'\n", "big.csv": "pnl\n"})
    before = dump(store)
    assert len(import_repository(store).refused) == 1
    assert dump(store) == before


def test_large_file_is_imported_and_old_repository_may_be_bare(old, store, tmp_path):
    old.run("t1", "a", files={"big.csv": "0123456789abcdef\n" * 1_200_000})
    assert import_repository(store).commits == 1
    assert store.read_file("corr_a", "big.csv").startswith(b"0123456789abcdef\n")
    assert store.verify().ok

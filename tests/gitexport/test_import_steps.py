"""Steps of an import one by one: which branches, how many of their commits, in which groups, and what is told."""

from __future__ import annotations

import json

import pytest

from cas import catalog, intake, manifest, outbox
from cas.errors import ConflictError, InvalidInputError, LeaseHeldError
from cas.outbox import Stage
from gitexport import importing, lease
from gitexport.importing import import_repository
from gitexport.repository import GitRepository
from tests.gitexport.refplaces import git, tag
from tests.store.stores import commit as store_run
from tests.store.stores import dump, open_store

KEY = "AKIA" + "Q3K7WZ4TUVB2NXY5"
PREFIX = "ai/generated/wf"


@pytest.fixture
def repo(tmp_path):
    return GitRepository.create_bare(tmp_path / "old.git")


@pytest.fixture
def store(tmp_path, repo):
    with open_store(repo.path, store_path=tmp_path / "s", auto_push=False) as opened:
        yield opened


def tree(repo, **entries):
    """Write a tree of files by their texts, and of trees, whose ids stand behind a slash."""
    lines = []
    for name, value in entries.items():
        if value.startswith("/"):
            lines.append(f"040000 tree {value[1:]}\t{name}")
        else:
            oid = git(repo.path, "hash-object", "-w", "--stdin", stdin=value)
            lines.append(f"100644 blob {oid}\t{name}")
    return git(repo.path, "mktree", stdin="".join(f"{line}\n" for line in lines))


def old_run(repo, task, *parents, correlation_id=None, **files):
    """Commit a run of a task as the replaced system did, let its branch name it, and return its id."""
    if correlation_id is not None:
        files["metadata.json"] = json.dumps({"correlation_id": correlation_id, "agent_version": "v1"})
    codes = tree(repo, **{task: "/" + tree(repo, **files)})
    root = tree(repo, Backtest="/" + tree(repo, codes="/" + codes), README="x")
    oid = git(
        repo.path, "commit-tree", root, *(w for p in parents for w in ("-p", p)), stdin=f"{task}\n\nbody\n"
    )
    git(repo.path, "update-ref", f"refs/heads/{PREFIX}/{task}", oid)
    return oid


def line_of(repo, task, count):
    """Commit some runs of a task one on the other; return their ids."""
    commits = []
    for number in range(count):
        commits.append(old_run(repo, task, *commits[-1:], correlation_id=f"{task}{number}", x=f"{number}"))
    return commits


def refused(summary):
    return {item["branch"].removeprefix(f"{PREFIX}/"): item["reason"] for item in summary.refused}


def states(store):
    with store.environment.read() as transaction:
        return [outbox.States(transaction)[sequence] for sequence, _ in catalog.iter_rows(transaction)]


def test_summary_counts_what_was_taken_over(repo, store):
    old_run(repo, "t1", correlation_id="a", x="1", y="22")
    (run,) = [old_run(repo, "t2", z="333")]
    told = []
    summary = import_repository(store, progress=lambda *words: told.append(words))
    assert (summary.branches, summary.commits, summary.present, summary.files, summary.raw_bytes) == (
        2,
        2,
        0,
        3,
        6,
    )
    assert (summary.refused, summary.findings, summary.dry_run) == ([], [], False)
    assert summary.remarks == [
        {"branch": f"{PREFIX}/t2", "commit": run, "remark": "there is no metadata.json"}
    ]
    assert summary.duration_s > 0
    assert told == [("import", 1, 2), ("import", 2, 2)]
    assert states(store) == ["exported", "exported"]
    assert store.verify().ok
    told.clear()
    summary = import_repository(store, progress=lambda *words: told.append(words))
    assert (summary.branches, summary.commits, summary.present, summary.files) == (0, 0, 2, 0)
    assert told == [("import", 1, 2), ("import", 2, 2)]


def test_manifest_says_what_the_commit_says(repo, store):
    oid = old_run(repo, "t1", correlation_id="a", x="1")
    annotated = tag(repo.path, oid)
    git(repo.path, "update-ref", "refs/tags/corr_a", annotated)
    git(repo.path, "update-ref", "refs/tags/prompt_p1", oid)
    import_repository(store)
    run = store.get_artifact_by_correlation_id("a")
    assert (run["commit_sha"], run["branch"], run["revision"]) == (oid, f"{PREFIX}/t1", 1)
    assert (run["tags"], run["prompt_hash"], run["agent_version"]) == (["corr_a", "prompt_p1"], "p1", "v1")
    with store.environment.read() as transaction:
        ((_, row),) = catalog.iter_rows(transaction)
        loaded = manifest.decode(row.manifest)
    assert row.tree_oid.hex() == git(repo.path, "rev-parse", f"{oid}^{{tree}}")
    assert [(name, oid.hex()) for name, oid in row.tags] == [("corr_a", annotated), ("prompt_p1", oid)]
    assert (loaded.author_name, loaded.author_email, loaded.parent) == ("a", "a@example.com", None)
    assert [name for name, _ in loaded.tag_objects] == ["corr_a"]
    assert loaded.with_metadata_file
    assert json.loads(loaded.metadata_file)["correlation_id"] == "a"
    assert loaded.commit == repo.read_object(oid)[1]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_long_branch_is_taken_over_group_by_group(repo, store, monkeypatch, size):
    monkeypatch.setattr(importing, "_GROUP_COMMITS", size)
    commits = line_of(repo, "t1", 5)
    told = []
    summary = import_repository(store, progress=lambda *words: told.append(words[1:]))
    assert (summary.branches, summary.commits, summary.refused, summary.remarks) == (1, 5, [], [])
    assert told == [(min(done, 5), 5) for done in range(size, 5 + size, size)]
    assert [step["commit_sha"] for step in store.history(f"{PREFIX}/t1")] == commits[::-1]
    with store.environment.read() as transaction:
        parents = [manifest.decode(row.manifest).parent for _, row in catalog.iter_rows(transaction)]
    assert [parent and parent.hex() for parent in parents] == [None, *commits[:-1]]


def test_remarks_of_a_long_branch_are_told_once(repo, store, monkeypatch):
    monkeypatch.setattr(importing, "_GROUP_COMMITS", 1)
    commits = [old_run(repo, "t1", x="1")]
    commits.append(old_run(repo, "t1", commits[0], x="2"))
    summary = import_repository(store)
    assert [item["commit"] for item in summary.remarks] == commits


def test_branch_is_gone_on_with_from_what_is_known(repo, store):
    commits = line_of(repo, "t1", 2)
    import_repository(store)
    commits.append(old_run(repo, "t1", commits[-1], correlation_id="new", x="new"))
    summary = import_repository(store)
    assert (summary.commits, summary.present, summary.branches) == (1, 2, 1)
    assert [step["commit_sha"] for step in store.history(f"{PREFIX}/t1")] == commits[::-1]


def test_branch_whose_history_was_written_anew_is_refused(repo, store):
    first, _ = line_of(repo, "t1", 2)
    import_repository(store)
    old_run(repo, "t1", first, correlation_id="other", x="other")
    reason = "the store has runs of its own on this branch, which do not stand on the repository's commits"
    assert refused(import_repository(store)) == {"t1": reason}
    store_run(store, "mine", task_id="t2")
    line_of(repo, "t2", 1)
    assert refused(import_repository(store)) == {"t1": reason, "t2": reason}


def test_branch_that_the_store_went_on_with_is_present(repo, store):
    line_of(repo, "t1", 1)
    import_repository(store)
    store_run(store, "next", task_id="t1")
    summary = import_repository(store)
    assert (summary.present, summary.commits, summary.refused) == (1, 0, [])


def test_only_the_branches_that_are_named_are_taken_over(repo, store):
    for task in ("t1", "t2", "t3"):
        line_of(repo, task, 1)
    summary = import_repository(store, branches=[f"{PREFIX}/t3", f"{PREFIX}/t1"])
    assert (summary.branches, summary.commits) == (2, 2)
    with pytest.raises(InvalidInputError) as caught:
        import_repository(store, branches=[f"{PREFIX}/t2", f"{PREFIX}/none"])
    assert caught.value.subject == f"{PREFIX}/none"
    assert caught.value.message == f"there is no branch '{PREFIX}/none' below ai/generated in {repo.path}"
    assert import_repository(store, branches=[]).commits == 0


def test_branches_of_another_form_are_told_and_the_others_go(repo, store):
    (oid,) = line_of(repo, "t1", 1)
    git(repo.path, "update-ref", "refs/heads/ai/generated/short", oid)
    git(repo.path, "update-ref", f"refs/heads/{PREFIX}/never", oid)
    summary = import_repository(store)
    assert summary.commits == 1
    assert summary.refused == [
        {
            "branch": "ai/generated/short",
            "reason": "the name has not the form ai/generated/<workflow>/<task>",
        },
        {"branch": f"{PREFIX}/never", "reason": "it never held Backtest/codes/never"},
    ]


def test_repository_of_another_format_is_refused(store, tmp_path):
    wide = GitRepository.create_bare(tmp_path / "wide.git", "sha256")
    with pytest.raises(ConflictError) as caught:
        import_repository(store, wide.path)
    assert caught.value.subject == str(wide.path)
    assert caught.value.message == f"{wide.path} uses sha256 ids, the store sha1"


def test_repository_without_branches_has_nothing_to_import(store):
    summary = import_repository(store)
    assert (summary.branches, summary.commits, summary.refused) == (0, 0, [])


def test_import_waits_for_the_lease_as_long_as_was_said(store):
    with lease.hold(store.environment.directory, 0), pytest.raises(LeaseHeldError):
        import_repository(store, wait_s=0)


def test_dry_run_counts_and_leaves_nothing(repo, store, monkeypatch):
    monkeypatch.setattr(intake, "LARGE_FILE_BYTES", 1000)
    line_of(repo, "t1", 2)
    old_run(repo, "t2", big="0123456789\n" * 500)
    before = dump(store)
    told = []
    summary = import_repository(store, dry_run=True, progress=lambda *words: told.append(words[1:]))
    assert (summary.dry_run, summary.branches, summary.commits, summary.files) == (True, 2, 3, 3)
    assert told == [(2, 3), (3, 3)]
    assert dump(store) == before
    assert list(store.environment.directory.glob(f"{lease.WORK_PREFIX}*")) == []


def test_commit_or_file_that_is_missing_keeps_its_branch_out(repo, store):
    line_of(repo, "t1", 1)
    (oid,) = line_of(repo, "t2", 1)
    blob = git(repo.path, "rev-parse", f"{oid}:Backtest/codes/t2/x")
    (repo.common_dir / "objects" / blob[:2] / blob[2:]).unlink()
    reason = f"file {blob} is missing"
    assert refused(import_repository(store, dry_run=True)) == {"t1": reason, "t2": reason}
    work = importing._Import(store, repo, "refuse", None, dry_run=False)
    branch = importing.parse_branch(f"{PREFIX}/t1", "ai/generated")
    with pytest.raises(importing._Refused, match=f"commit {'1' * 40} is missing"):
        list(work._groups(branch, ["1" * 40]))


def reading(store, repo, tmp_path, *texts):
    work = importing._Import(store, repo, "refuse", None, dry_run=False)
    oids = {git(repo.path, "hash-object", "-w", "--stdin", stdin=text): text for text in texts}
    folder = tmp_path / "work"
    folder.mkdir()
    found = work._read_files(set(oids), folder)
    for oid, content in found.items():
        assert (content if isinstance(content, bytes) else content.read_bytes()) == oids[oid].encode()
    assert found.keys() == oids.keys()
    return [isinstance(found[oid], bytes) for oid in sorted(oids)], sorted(
        path.name for path in folder.iterdir()
    )


def test_large_files_wait_in_files_and_small_ones_in_memory(repo, store, tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "LARGE_FILE_BYTES", 5)
    in_memory, files = reading(store, repo, tmp_path, "12345", "123456")
    assert sorted(in_memory) == [False, True]
    assert files == [git(repo.path, "hash-object", "--stdin", stdin="123456")]


def test_files_beyond_what_is_held_wait_in_files(repo, store, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "_HELD_BYTES", 5)
    in_memory, files = reading(store, repo, tmp_path, "aa", "bb", "cc", "d")
    assert (sum(in_memory), len(files)) == (3, 1)


@pytest.mark.parametrize(("times", "refusals"), [(0, 0), (2, 0), (3, 1)])
def test_blob_that_is_collected_meanwhile_is_taken_in_again_a_few_times(
    repo, store, monkeypatch, times, refusals
):
    line_of(repo, "t1", 1)
    add, calls = importing._add_blobs, []

    def lose(transaction, taken):
        calls.append(taken)
        if len(calls) <= times:
            raise importing._BlobGoneError
        add(transaction, taken)

    monkeypatch.setattr(importing, "_add_blobs", lose)
    summary = import_repository(store)
    assert len(calls) == min(times + 1, 3)
    assert summary.commits == 1 - refusals
    assert (
        list(refused(summary).values())
        == ["its files were collected while they were imported; import again"] * refusals
    )


@pytest.fixture
def guarded(tmp_path, repo):
    with open_store(repo.path, store_path=tmp_path / "g", auto_push=False, scan_for_secrets=True) as opened:
        yield opened


def test_secret_keeps_its_branch_out_and_is_told_once(repo, guarded):
    first = old_run(repo, "t1", x=f"aws_access_key_id = '{KEY}'\n")
    old_run(repo, "t1", first, x=f"aws_access_key_id = '{KEY}'\n", y="more")
    line_of(repo, "t2", 1)
    before = dump(guarded)
    summary = import_repository(guarded, branches=[f"{PREFIX}/t1"])
    assert (summary.commits, list(refused(summary))) == (0, ["t1"])
    assert [(item["branch"], item["name"], item["line"]) for item in summary.findings] == [
        (f"{PREFIX}/t1", "x", 1)
    ]
    assert dump(guarded) == before
    summary = import_repository(guarded, on_secret="allow")
    assert (summary.commits, summary.refused, len(summary.findings)) == (3, [], 1)


def test_secret_at_the_end_of_a_long_branch_keeps_out_its_beginning(repo, guarded, monkeypatch):
    monkeypatch.setattr(importing, "_GROUP_COMMITS", 1)
    first = old_run(repo, "t1", x="1")
    old_run(repo, "t1", first, x=f"aws_access_key_id = '{KEY}'\n")
    before = dump(guarded)
    assert import_repository(guarded).commits == 0
    assert dump(guarded) == before


def test_what_the_remote_shows_counts_as_pushed(repo, store, tmp_path):
    for task in ("t1", "t2", "t3"):
        (oid,) = line_of(repo, task, 1)
        git(repo.path, "update-ref", f"refs/tags/corr_{task}0", oid)
    far = GitRepository.create_bare(tmp_path / "far.git")
    git(repo.path, "remote", "add", "origin", str(far.path))
    git(
        repo.path,
        "push",
        "-q",
        "origin",
        f"refs/heads/{PREFIX}/t1",
        "refs/tags/corr_t10",
        f"refs/heads/{PREFIX}/t2",
    )
    assert import_repository(store, dry_run=True).commits == 3
    import_repository(store)
    assert states(store) == ["pushed", "exported", "exported"]
    with store.environment.read() as transaction:
        assert [number for number, _ in outbox.iter_entries(transaction, Stage.PUSH)] == [2, 3]


def test_remote_that_does_not_answer_is_found_out_by_the_next_push(repo, store, tmp_path):
    line_of(repo, "t1", 1)
    work = importing._Import(store, repo, "refuse", None, dry_run=False)
    assert work._remote_refs() is None
    git(repo.path, "remote", "add", "origin", str(tmp_path / "none"))
    assert work._remote_refs() is None
    git(repo.path, "remote", "set-url", "origin", "ext::sh -c true")
    assert work._remote_refs() is None
    import_repository(store)
    assert states(store) == ["exported"]
    git(repo.path, "remote", "set-url", "origin", str(repo.path))
    assert work._remote_refs().keys() == {f"refs/heads/{PREFIX}/t1"}


def test_tag_of_another_run_of_the_store_keeps_the_branch_out(repo, store):
    (oid,) = line_of(repo, "t1", 1)
    store_run(store, "taken", task_id="other")
    git(repo.path, "update-ref", "refs/tags/corr_taken", oid)
    assert refused(import_repository(store)) == {"t1": "tag corr_taken is one of another run of the store"}


def test_two_branches_on_one_commit_share_its_tags(repo, store):
    (oid,) = line_of(repo, "t1", 1)
    git(repo.path, "update-ref", "refs/tags/corr_t10", oid)
    git(repo.path, "update-ref", "refs/heads/ai/generated/zz/t1", oid)
    assert import_repository(store).commits == 2
    with store.environment.read() as transaction:
        tags = [[name for name, _ in row.tags] for _, row in catalog.iter_rows(transaction)]
    assert tags == [["corr_t10"], []]

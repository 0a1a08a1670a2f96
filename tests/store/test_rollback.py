"""Rollback: a new commit with the tag's artifact root and everything else of the branch kept."""

from __future__ import annotations

import dataclasses

import pytest

from cas import (
    ConflictError,
    GitCommandFailedError,
    IntegrityError,
    InvalidIdError,
    InvalidInputError,
    InvalidNameError,
    NotFoundError,
    blobs,
    gitform,
    outbox,
    records,
    rollback,
)
from cas.digest import digest_bytes
from cas.gitreader import BranchTip
from cas.lmdbenv import Table
from cas.objects import MODE_EXECUTABLE, MODE_FILE, MODE_TREE, TreeEntry, parse_tree
from tests.gc.keeping import collect
from tests.store.stores import FILES, commit, dump, open_store

BRANCH = "ai/generated/wf/task"


@dataclasses.dataclass
class Reader:
    """A repository as far as a rollback asks for one; counts how often it was asked."""

    tips: dict[str, BranchTip]
    asked: list[str] = dataclasses.field(default_factory=list)

    def branch_tip(self, repo_path, branch):
        self.asked.append(branch)
        return self.tips.get(branch)


class BrokenReader:
    def branch_tip(self, repo_path, branch):
        raise GitCommandFailedError("git is not installed")


def make_tip(number=1, *, artifact_root=None, object_format="sha1"):
    oid = bytes([number]) * (20 if object_format == "sha1" else 32)
    return BranchTip(
        commit_oid=oid,
        object_format=object_format,
        root_entries=(TreeEntry(MODE_FILE, b"README.md", oid), TreeEntry(MODE_TREE, b"src", oid)),
        backtest_entries=(TreeEntry(MODE_EXECUTABLE, b"run.sh", oid),),
        artifact_root=artifact_root,
    )


def loaded(store, sequence):
    with store.environment.read() as transaction:
        return records.load(transaction, sequence)


def artifact_root(store, sequence):
    return gitform.tree_form(loaded(store, sequence)[0]).artifact_root


def export(store, *sequences):
    """Write receipts as an exporter does that has proved these commits in git."""
    with store.environment.write() as transaction:
        outbox.record_exported(transaction, sequences, 1)


def test_revert_own_branch_moves_forward_to_the_tags_files(store):
    first = commit(store)
    second = commit(store, files={"strategy.py": b"changed\n"})
    result = store.revert_to_tag("corr_1", BRANCH)
    assert result["success"] is True
    assert (result["reverted_to"], result["branch"], result["error"]) == ("corr_1", BRANCH, None)
    assert result["certificate"]["files"] == len(FILES)
    assert result["certificate"]["bytes"] == sum(map(len, FILES.values()))
    history = store.history(BRANCH)
    assert [step["commit_sha"] for step in history] == [
        *(result["commit_sha"], second["commit_sha"], first["commit_sha"])
    ]
    assert history[0]["parent"] == second["commit_sha"]
    assert history[0]["kind"] == "rollback"
    assert artifact_root(store, 3) == artifact_root(store, 1)
    assert store.read_file(BRANCH, "strategy.py") == FILES["strategy.py"]
    assert store.verify().ok


def test_commit_after_a_rollback_continues_the_branch(store):
    commit(store)
    commit(store, metadata=None)
    rolled = store.revert_to_tag("corr_1", BRANCH)
    third = commit(store, metadata={"n": 3})
    assert store.history(BRANCH)[0]["parent"] == rolled["commit_sha"]
    assert store.show(BRANCH)["commit_sha"] == third["commit_sha"]


def test_revert_new_branch_is_an_orphan_commit(store):
    commit(store)
    result = store.revert_to_tag("corr_1")
    assert result["created"] is True
    assert result["branch"] == "main"
    manifest, row = loaded(store, 2)
    assert manifest.parent is None
    assert row.commit_oid.hex() == result["commit_sha"]
    assert row.tags == ()
    assert store.export_status("corr_1")["export_state"] == "queued"


def test_revert_twice_or_to_the_present_state_makes_no_commit(store):
    first = commit(store)
    once = store.revert_to_tag("corr_1")
    before = dump(store)
    again = store.revert_to_tag("corr_1")
    assert again == {**once, "created": False}
    present = store.revert_to_tag("corr_1", BRANCH)
    assert (present["created"], present["commit_sha"]) == (False, first["commit_sha"])
    assert dump(store) == before


def test_revert_back_and_forth_keeps_every_step(store):
    commit(store, "a", task_id="one")
    commit(store, "b", task_id="two")
    shas = [store.revert_to_tag(tag)["commit_sha"] for tag in ("corr_a", "corr_b", "corr_a", "corr_b")]
    assert len(set(shas)) == 4
    assert [step["commit_sha"] for step in store.history("main")] == shas[::-1]
    assert [step["reverted_to"] for step in store.history("main")] == ["corr_b", "corr_a"] * 2
    assert store.list_artifacts()[0]["correlation_id"] == "b", "a rollback is no artifact"
    assert store.verify().ok


def test_revert_two_new_branches_in_one_second_share_a_commit_and_stay_sound(tmp_path):
    with open_store(tmp_path, clock=lambda: 10**18) as store:
        commit(store)
        left, right = (store.revert_to_tag("corr_1", branch) for branch in ("left", "right"))
        assert left["commit_sha"] == right["commit_sha"]
        assert store.verify().ok
        assert store.show(left["commit_sha"])["reverted_to"] == "corr_1"


@pytest.mark.parametrize("tag", ["corr_1", "prompt_7a8b9c0d1e2f"])
def test_revert_reads_the_files_of_either_kind_of_tag(store, tag):
    commit(store, prompt_hash="7a8b9c0d1e2f3a4b")
    assert store.revert_to_tag(tag, "release", reason="P&L broke\nbadly")["success"]
    step = store.history("release")[0]
    assert step["reason"] == "P&L broke\nbadly"
    assert 'Reason: "P&L broke\\nbadly"\n' in gitform.message(loaded(store, 2)[0])


def test_revert_to_an_older_revision_uses_its_tag(store):
    for number in range(3):
        commit(store, files={"f": b"%d" % number})
    store.revert_to_tag("corr_1@2")
    assert store.read_file("main", "f") == b"1"


@pytest.mark.parametrize(
    "tag", ["corr_strateg_1", "strategy_1", "corr_strategy_1@2", "corr_strategy_1@1", "corr_strategy_1@01"]
)
def test_revert_unknown_tag_lists_near_matches(store, tag):
    commit(store, "strategy_1")
    commit(store, "strategy_2", task_id="two")
    before = dump(store)
    with pytest.raises(NotFoundError) as caught:
        store.revert_to_tag(tag)
    assert caught.value.subject == tag
    assert "corr_strategy_1" in caught.value.hint
    assert dump(store) == before


def test_near_matches_of_many_tags_are_tags(tmp_path):
    # The content keys of a correlation ID hold digests; a few hundred of them hold a zero byte in every position.
    with open_store(tmp_path) as store:
        store.commit_many(
            [
                {
                    "workflow_id": "wf",
                    "task_id": "t",
                    "files": {"f": b"%d" % n},
                    "correlation_id": f"c{n % 7}",
                }
                for n in range(700)
            ]
        )
        with store.environment.read() as transaction:
            tags = [name for name, _ in records.catalog.iter_tags(transaction)]
        assert len(tags) == len(set(tags)) == 700
        assert store.verify().ok


@pytest.mark.parametrize("tag", ["", None, 7, "\ud800"], ids=ascii)
def test_revert_tag_that_is_no_text_is_refused(store, tag):
    with pytest.raises(InvalidIdError):
        store.revert_to_tag(tag)


@pytest.mark.parametrize(
    "branch",
    ["", None, "a..b", "-x", "a b", "x.lock", "/x", "a//b", "HEAD", "@", "a\nb", "\ud800"],
    ids=ascii,
)
def test_revert_branch_name_that_git_refuses_is_refused(store, branch):
    commit(store)
    before = dump(store)
    with pytest.raises(InvalidNameError):
        store.revert_to_tag("corr_1", branch)
    assert dump(store) == before


@pytest.mark.parametrize(
    "branch", ["ai", "ai/generated", "ai/generated/wf", "ai/generated/new", f"{BRANCH}/x", "main/x"]
)
def test_revert_branch_that_would_be_a_folder_of_another_is_refused(store, branch):
    commit(store)
    store.revert_to_tag("corr_1", "main")
    before = dump(store)
    with pytest.raises(InvalidNameError, match="cannot stand beside") as caught:
        store.revert_to_tag("corr_1", branch)
    assert caught.value.subject == branch
    assert dump(store) == before


def test_revert_branch_below_which_another_stands_is_refused(store):
    commit(store)
    store.revert_to_tag("corr_1", "release/2025")
    with pytest.raises(InvalidNameError, match="release/2025"):
        store.revert_to_tag("corr_1", "release")


@pytest.mark.parametrize("reason", [7, "\ud800", b"why"], ids=ascii)
def test_revert_reason_that_cannot_be_kept_is_refused(store, reason):
    commit(store)
    with pytest.raises(InvalidInputError):
        store.revert_to_tag("corr_1", reason=reason)


def test_revert_damaged_blob_is_refused_and_the_branch_unchanged(store):
    commit(store)
    commit(store, files={"strategy.py": b"new"})
    with store.environment.write() as transaction:
        key, stream = next(transaction.scan(Table.SEGMENTS))
        transaction.put(Table.SEGMENTS, key, stream[:9] + bytes([stream[9] ^ 1]) + stream[10:])
    before = dump(store)
    for branch in (BRANCH, "main"):
        with pytest.raises(IntegrityError):
            store.revert_to_tag("corr_1", branch)
    assert dump(store) == before


def test_revert_to_a_file_with_any_flipped_bit_is_refused(store):
    """Also where the content still comes out right, as with a bit of the stream's checksum: git gets these bytes."""
    commit(store, files={"f": b"a,b\n" * 3})
    commit(store, files={"f": b"new"})
    with store.environment.read() as transaction:
        size_bytes = blobs.require(transaction, digest_bytes(b"a,b\n" * 3)).stored_bytes
    key = blobs.segment_key(1, 0)
    accepted = []
    for place in range(size_bytes):
        for bit in range(8):
            with store.environment.write() as transaction:
                sound = transaction.get(Table.SEGMENTS, key)
                spoiled = sound[:place] + bytes([sound[place] ^ 1 << bit]) + sound[place + 1 :]
                transaction.put(Table.SEGMENTS, key, spoiled)
            try:
                store.revert_to_tag("corr_1", BRANCH)
            except IntegrityError:
                pass
            else:
                accepted.append((place, bit))
            with store.environment.write() as transaction:
                transaction.put(Table.SEGMENTS, key, sound)
    assert accepted == []
    assert len(store.history(BRANCH)) == 2


def test_revert_git_only_branch_keeps_its_other_paths(tmp_path):
    reader = Reader({"main": make_tip()})
    with open_store(tmp_path, git_reader=reader) as store:
        commit(store)
        result = store.revert_to_tag("corr_1")
        assert reader.asked == ["main"]
        manifest, _ = loaded(store, 2)
        assert manifest.parent == b"\1" * 20
        form = gitform.tree_form(manifest)
        trees = {tree.oid: parse_tree(tree.data) for tree in form.objects}
        root = {entry.name: entry for entry in trees[form.root]}
        assert set(root) == {b"README.md", b"src", b"Backtest"}
        assert (root[b"src"].mode, root[b"src"].oid) == (MODE_TREE, b"\1" * 20)
        folder = {entry.name: entry for entry in trees[root[b"Backtest"].oid]}
        assert set(folder) == {b"run.sh", b"codes"}
        assert folder[b"run.sh"].mode == MODE_EXECUTABLE
        assert folder[b"codes"].oid == artifact_root(store, 1)
        assert store.history("main")[0]["commit_sha"] == result["commit_sha"]
        assert store.verify().ok


def test_revert_git_branch_that_has_the_state_is_left_alone(tmp_path):
    reader = Reader({})
    with open_store(tmp_path, git_reader=reader) as store:
        commit(store)
        reader.tips["main"] = make_tip(artifact_root=artifact_root(store, 1))
        before = dump(store)
        result = store.revert_to_tag("corr_1")
        assert (result["created"], result["commit_sha"]) == (False, "01" * 20)
        assert dump(store) == before


def test_revert_second_rollback_before_export_builds_on_the_first(tmp_path):
    reader = Reader({"main": make_tip()})
    with open_store(tmp_path, git_reader=reader) as store:
        commit(store, "a", task_id="one")
        commit(store, "b", task_id="two")
        first = store.revert_to_tag("corr_a")
        reader.tips["main"] = make_tip(
            2
        )  # the queued export will report that conflict; nothing is guessed here
        store.revert_to_tag("corr_b")
        manifest, _ = loaded(store, 4)
        assert manifest.parent.hex() == first["commit_sha"]
        assert [entry.name for entry in manifest.root_entries] == [b"README.md", b"src"]


def test_revert_after_export_continues_what_people_committed(tmp_path):
    reader = Reader({"main": make_tip()})
    with open_store(tmp_path, git_reader=reader) as store:
        commit(store, "a", task_id="one")
        commit(store, "b", task_id="two")
        first = store.revert_to_tag("corr_a")
        export(store, 1, 2, 3)
        reader.tips["main"] = dataclasses.replace(make_tip(), commit_oid=bytes.fromhex(first["commit_sha"]))
        assert store.revert_to_tag("corr_a")["created"] is False
        reader.tips["main"] = make_tip(9)
        store.revert_to_tag("corr_b")
        assert loaded(store, 4)[0].parent == b"\x09" * 20


def test_revert_repository_of_another_object_format_is_a_conflict(tmp_path):
    with open_store(tmp_path, git_reader=Reader({"main": make_tip(object_format="sha256")})) as store:
        commit(store)
        before = dump(store)
        with pytest.raises(ConflictError) as caught:
            store.revert_to_tag("corr_1")
        assert caught.value.subject == "main"
        assert dump(store) == before


def test_revert_without_git_works_for_own_branches_only(tmp_path):
    with open_store(tmp_path, git_reader=BrokenReader()) as store:
        commit(store)
        commit(store, metadata=None)
        assert store.revert_to_tag("corr_1", BRANCH)["success"]
        with pytest.raises(GitCommandFailedError):
            store.revert_to_tag("corr_1", "main")


def test_revert_to_a_run_without_files_of_another_task_replaces_the_whole_root(store):
    commit(store, "a", task_id="one", files={"f": b"1"})
    commit(store, "b", task_id="two", files={"g": b"2"})
    store.revert_to_tag("corr_a")
    store.revert_to_tag("corr_b")
    assert [entry["name"] for entry in store.list_files("main")] == ["g"]
    assert artifact_root(store, 4) == artifact_root(store, 2)


def forget_and_collect(store):
    store.forget(["corr_a"])
    collect(store)


def forget_only(store):
    store.forget(["corr_a"])


def purge_file(store):
    store.purge(digest_bytes(b"1").hex())


@pytest.mark.parametrize("deed", [forget_only, forget_and_collect, purge_file])
@pytest.mark.parametrize("branch", ["main", BRANCH])
def test_revert_to_content_that_goes_in_that_very_moment_is_refused(store, monkeypatch, deed, branch):
    """Between the reading of the tag's files and the write transaction, somebody removes them."""
    commit(store, "a", files={"f": b"1"})
    commit(store, "b", files={"f": b"2"})
    export(store, 1, 2)
    find_base = rollback.find_base

    def removed_meanwhile(*words, **settings):
        deed(store)
        return find_base(*words, **settings)

    monkeypatch.setattr(rollback, "find_base", removed_meanwhile)
    with pytest.raises((NotFoundError, IntegrityError)):
        store.revert_to_tag("corr_a", branch)
    assert store.show(BRANCH)["correlation_id"] == "b"
    if branch == "main":
        with pytest.raises(NotFoundError):
            store.history(branch)
    assert store.verify().ok


def near(store, tag):
    with store.environment.read() as transaction:
        return rollback.near_tags(transaction, tag)


def test_near_tags_are_the_closest_three_also_when_others_begin_more_alike(store):
    for correlation_id in ("aab-9", "aab-8", "aab-7", "ab-123456", "zz"):
        commit(store, correlation_id)
    assert near(store, "corr_aab-123456")[0] == "corr_ab-123456"
    assert near(store, "aab-123456") == near(store, "corr_aab-123456")
    assert near(store, "corr_aab-1") == ["corr_aab-9", "corr_aab-8", "corr_aab-7"]
    assert near(store, "corr_azzzzzzzzzzzzzzzzzzzzzzz") == ["corr_aab-7", "corr_aab-8", "corr_aab-9"]
    assert near(store, "corr_qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq") == []
    commit(store, "p", prompt_hash="0123456789abcdef")
    assert near(store, "prompt_0123456789ac") == ["prompt_0123456789ab"]


def test_near_tags_leave_out_what_was_forgotten(store):
    commit(store, "strategy_1")
    export(store, 1)
    store.forget(["strategy_1"])
    assert near(store, "corr_strategy_2") == []

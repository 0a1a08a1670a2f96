"""Entries: what a manifest becomes in git, its objects complete and its ids those that were promised."""

import msgspec
import pytest

from cas import gitform, manifest, records
from cas.errors import IntegrityError
from cas.manifest import BaseEntry
from cas.objects import MODE_FILE, MODE_SUBMODULE, MODE_TREE
from gitexport.entries import load_entry, rollback_entry
from tests.store.stores import FILES, commit, open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("entries")) as opened:
        commit(opened, prompt_hash="0123456789abcdef")
        commit(opened, files={"a/b.csv": b"1\n"})
        opened.revert_to_tag("corr_1", "main")
        yield opened


def loaded(store, sequence):
    with store.environment.read() as transaction:
        return load_entry(transaction, sequence), *records.load(transaction, sequence)


def test_entry_of_a_run_names_its_branch_its_tags_and_its_commit(store):
    entry, run, row = loaded(store, 1)
    assert (entry.sequence, entry.branch, entry.short_branch) == (
        1, "refs/heads/ai/generated/wf/task", "ai/generated/wf/task",
    )  # fmt: skip
    assert (entry.commit, entry.parent) == (row.commit_oid.hex(), None)
    assert entry.tags == tuple((f"refs/tags/{tag}", oid.hex()) for tag, oid in row.tags)
    assert [name for name, _ in entry.tags] == ["refs/tags/corr_1", "refs/tags/prompt_0123456789ab"]
    assert (entry.label, entry.is_rollback, entry.needs) == ("corr_1@1", False, ())
    assert entry.files == run.files
    following, _, second = loaded(store, 2)
    assert (following.parent, following.label) == (entry.commit, "corr_1@2")
    assert following.commit == second.commit_oid.hex()


def test_objects_of_a_run_are_all_that_its_refs_reach_but_the_files(store):
    entry, run, row = loaded(store, 2)
    form = gitform.tree_form(run)
    made = {item.oid for item in entry.objects}
    assert made == {item.oid for item in form.objects} | {row.commit_oid} | {oid for _, oid in row.tags}
    assert len(made) == len(entry.objects)
    assert form.root in made
    assert not made & {file.oid for file in run.files}


def test_entry_of_a_rollback_brings_the_files_of_the_run_it_goes_back_to(store):
    entry, rollback, row = loaded(store, 3)
    run = loaded(store, 1)[1]
    assert (entry.branch, entry.parent, entry.tags) == ("refs/heads/main", None, ())
    assert (entry.label, entry.is_rollback) == ("rollback of main to corr_1", True)
    assert entry.commit == row.commit_oid.hex()
    assert entry.files == run.files
    assert {file.name for file in entry.files} == set(FILES)
    made = {item.oid for item in entry.objects}
    assert rollback.artifact_root in made
    assert {row.tree_oid, row.commit_oid} <= made
    assert entry.needs == ()


def rolled_back(**changes):
    """A rollback on a branch that holds other things as well, and its row."""
    draft = manifest.RollbackManifest(
        **{
            "format": manifest.MANIFEST_FORMAT, "object_format": "sha1", "branch": "main", "parent": b"\x09" * 20,
            "author_name": "Ann", "author_email": "ann@example.org", "created_at_us": 1_762_525_800_000_000,
            "tag": "corr_1", "source": b"\x01" * 20, "artifact_root": b"\x02" * 20,
            "root_entries": (
                BaseEntry(MODE_FILE, b"README.md", b"\x03" * 20), BaseEntry(MODE_SUBMODULE, b"lib", b"\x04" * 20),
            ),
            "backtest_entries": (BaseEntry(MODE_TREE, b"data", b"\x05" * 20),),
        }
        | changes
    )  # fmt: skip
    tree = gitform.tree_form(draft)
    form = gitform.commit_form(draft, tree.root, None)
    return draft, manifest.ManifestRow(manifest.encode(draft), form.oid, tree.root, ())


def test_rollback_needs_what_git_alone_has_and_no_submodule(store):
    draft, row = rolled_back()
    entry = rollback_entry(9, draft, row, None)
    assert entry.needs == ("03" * 20, "05" * 20, "02" * 20)
    assert (entry.parent, entry.files, entry.sequence) == ("09" * 20, (), 9)
    assert {item.oid for item in entry.objects} == {
        *(item.oid for item in gitform.tree_form(draft).objects),
        row.commit_oid,
    }
    run = loaded(store, 1)[1]
    draft, row = rolled_back(artifact_root=gitform.tree_form(run).artifact_root)
    entry = rollback_entry(9, draft, row, run)
    assert entry.needs == ("03" * 20, "05" * 20)
    assert entry.files == run.files
    made = {item.oid for item in entry.objects}
    assert gitform.tree_form(run).root not in made, "the root of the run's own commit is not part of this one"
    assert {row.tree_oid, draft.artifact_root} <= made


def test_rollback_that_does_not_hold_its_tags_tree_is_damage(store):
    draft, row = rolled_back()
    with pytest.raises(IntegrityError, match="rollback of main to corr_1 does not hold") as caught:
        rollback_entry(9, draft, row, loaded(store, 1)[1])
    assert caught.value.subject == row.commit_oid.hex()


def test_manifest_whose_ids_are_not_what_it_gives_makes_no_entry(store):
    draft, row = rolled_back()
    for changes in ({"commit_oid": b"\x01" * 20}, {"tree_oid": b"\x01" * 20}):
        with pytest.raises(IntegrityError):
            rollback_entry(9, draft, msgspec.structs.replace(row, **changes), None)
    with store.environment.read() as transaction, pytest.raises(IntegrityError):
        load_entry(transaction, 77)

"""What a manifest is in git, without git: trees, message and tags of every kind of manifest, and rows that lie."""

import json

import msgspec
import pytest

from cas import gitform
from cas.errors import IntegrityError
from cas.manifest import (
    MANIFEST_FORMAT,
    BaseEntry,
    FileEntry,
    ImportedManifest,
    ManifestRow,
    RollbackManifest,
    RunManifest,
    metadata_file_bytes,
)
from cas.objects import (
    MODE_FILE,
    MODE_SUBMODULE,
    MODE_TREE,
    Person,
    TreeEntry,
    build_tree,
    commit_bytes,
    object_id,
    parse_tree,
    tag_bytes,
    tree_bytes,
)

ANN = Person("Ann", "ann@example.org")
CREATED_S = 1_762_525_800
ONE, TWO, THREE, FOUR = (bytes([number]) * 20 for number in (1, 2, 3, 4))


def run(**changes):
    fields = {
        "format": MANIFEST_FORMAT, "object_format": "sha1", "branch": "ai/generated/w/t", "parent": None,
        "author_name": "Ann", "author_email": "ann@example.org", "created_at_us": CREATED_S * 1_000_000 + 999_999,
        "workflow_id": "w", "task_id": "t x", "correlation_id": "corr_c", "revision": 1, "prompt_hash": None,
        "metadata": b"{}", "files": (FileEntry("a/b.csv", 3, b"", ONE), FileEntry("c.py", 4, b"", TWO)),
        "with_metadata_file": False,
    }  # fmt: skip
    return RunManifest(**(fields | changes))


def tree_id(*entries):
    return object_id("tree", tree_bytes(entries))


def rollback(**changes):
    fields = {
        "format": MANIFEST_FORMAT, "object_format": "sha1", "branch": "main", "parent": ONE, "author_name": "Ann",
        "author_email": "ann@example.org", "created_at_us": CREATED_S * 1_000_000, "tag": "corr_c", "source": TWO,
        "artifact_root": THREE,
    }  # fmt: skip
    return RollbackManifest(**(fields | changes))


def row_of(manifest, signature=None):
    tree = gitform.tree_form(manifest)
    commit = gitform.commit_form(manifest, tree.root, signature)
    tags = tuple(
        (name, gitform.tag_form(manifest, commit.oid, name).object.oid) for name in ("corr_c", "prompt_p")
    )
    return ManifestRow(b"", commit.oid, tree.root, tags, signature)


# ---- trees ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("with_metadata_file", [False, True])
def test_tree_of_a_run_holds_its_files_below_its_task(object_format, with_metadata_file):
    wide = 32 if object_format == "sha256" else 20
    files = (FileEntry("a/b.csv", 3, b"", b"\1" * wide), FileEntry("c.py", 4, b"", b"\2" * wide))
    manifest = run(object_format=object_format, files=files, with_metadata_file=with_metadata_file)
    paths = {"t%20x/a/b.csv": (MODE_FILE, b"\1" * wide), "t%20x/c.py": (MODE_FILE, b"\2" * wide)}
    data = metadata_file_bytes(manifest)
    if with_metadata_file:
        paths["t%20x/metadata.json"] = (MODE_FILE, object_id("blob", data, object_format))
    form = gitform.tree_form(manifest)
    artifact_root, inner = build_tree(paths, object_format)
    root, outer = build_tree({"Backtest/codes": (MODE_TREE, artifact_root)}, object_format)
    assert (form.root, form.artifact_root) == (root, artifact_root)
    blobs = [item for item in form.objects if item.kind == "blob"]
    assert [(blob.oid, blob.data) for blob in blobs] == (
        [(object_id("blob", data, object_format), data)] if with_metadata_file else []
    )
    assert [item for item in form.objects if item.kind == "tree"] == inner + outer


def test_tree_of_a_rollback_keeps_what_stands_beside_the_artifact_root():
    manifest = rollback(
        root_entries=(BaseEntry(MODE_FILE, b"README", ONE),),
        backtest_entries=(BaseEntry(MODE_FILE, b"notes", TWO),),
    )
    form = gitform.tree_form(manifest)
    folder = (TreeEntry(MODE_FILE, b"notes", TWO), TreeEntry(MODE_TREE, b"codes", THREE))
    root = (TreeEntry(MODE_FILE, b"README", ONE), TreeEntry(MODE_TREE, b"Backtest", tree_id(*folder)))
    assert (form.root, form.artifact_root) == (tree_id(*root), THREE)
    assert [(item.kind, item.data) for item in form.objects] == [
        ("tree", tree_bytes(folder)),
        ("tree", tree_bytes(root)),
    ]


TASK = tree_bytes(
    [TreeEntry(MODE_FILE, b"a.py", ONE), TreeEntry(MODE_FILE, b"metadata.json", object_id("blob", b"{}"))]
)
CODES = tree_bytes([TreeEntry(MODE_TREE, b"t", object_id("tree", TASK)), TreeEntry(MODE_FILE, b"other", TWO)])
BACKTEST = tree_bytes(
    [TreeEntry(MODE_TREE, b"codes", object_id("tree", CODES)), TreeEntry(MODE_FILE, b"notes", THREE)]
)
ROOT = tree_bytes(
    [
        TreeEntry(MODE_TREE, b"Backtest", object_id("tree", BACKTEST)),
        TreeEntry(MODE_FILE, b"README", FOUR),
        TreeEntry(MODE_SUBMODULE, b"vendor", b"\x09" * 20),
    ]
)
ROOT_ID = object_id("tree", ROOT)


def imported(trees=(ROOT, BACKTEST, CODES, TASK), **changes):
    root = object_id("tree", trees[0]) if trees else ONE
    fields = msgspec.structs.asdict(run(files=(FileEntry("a.py", 3, b"", ONE),), with_metadata_file=True))
    fields |= {"commit": commit_bytes(root, [], ANN, 5, "m\n"), "trees": trees, "metadata_file": b"{}"}
    return ImportedManifest(**(fields | changes))


def test_tree_of_an_imported_run_is_what_was_imported():
    form = gitform.tree_form(imported())
    assert (form.root, form.artifact_root) == (ROOT_ID, object_id("tree", CODES))
    assert [(item.kind, item.data) for item in form.objects] == [
        *(("tree", data) for data in (ROOT, BACKTEST, CODES, TASK)), ("blob", b"{}"),
    ]  # fmt: skip
    assert all(item.oid == object_id(item.kind, item.data) for item in form.objects)
    assert {item.kind for item in gitform.tree_form(imported(with_metadata_file=False)).objects} == {"tree"}


@pytest.mark.parametrize(
    "trees",
    [
        (tree_bytes([TreeEntry(MODE_FILE, b"README", FOUR)]),),
        (tree_bytes([TreeEntry(MODE_FILE, b"Backtest", FOUR)]),),
        (tree_bytes([TreeEntry(MODE_TREE, b"Backtest", object_id("tree", b""))]), b""),
    ],
)
def test_tree_of_an_imported_run_without_artifacts_has_an_empty_artifact_root(trees):
    form = gitform.tree_form(imported(trees))
    assert form.artifact_root == object_id("tree", b"")
    assert [item.data for item in form.objects if item.oid == form.artifact_root][-1] == b""
    assert form.root == object_id("tree", trees[0])


def test_tree_of_an_imported_run_that_holds_none_is_refused():
    with pytest.raises(IntegrityError, match="holds no tree") as caught:
        gitform.tree_form(imported(()))
    assert caught.value.subject == "ai/generated/w/t"


def test_foreign_oids_are_what_the_trees_name_and_nobody_holds():
    assert gitform.foreign_oids(imported()) == {TWO, THREE, FOUR}
    assert gitform.foreign_oids(imported(files=())) == {ONE, TWO, THREE, FOUR}
    assert gitform.foreign_oids(run()) == set()
    assert gitform.foreign_oids(rollback()) == set()


def test_kept_entries_are_what_stands_beside_the_artifact_root():
    outer, inner = gitform.kept_entries(imported())
    assert outer == [entry for entry in parse_tree(ROOT) if entry.name != b"Backtest"]
    assert inner == [TreeEntry(MODE_FILE, b"notes", THREE)]
    lone = tree_bytes([TreeEntry(MODE_FILE, b"README", FOUR)])
    assert gitform.kept_entries(imported((lone,))) == (parse_tree(lone), [])
    assert gitform.kept_entries(run()) == ([], [])


def test_imported_run_of_the_other_format_is_read_in_that_format():
    wide = {number: bytes([number]) * 32 for number in range(1, 6)}

    def id_of(data):
        return object_id("tree", data, "sha256")

    task = tree_bytes([TreeEntry(MODE_FILE, b"a.py", wide[1])])
    codes = tree_bytes([TreeEntry(MODE_TREE, b"t", id_of(task))])
    backtest = tree_bytes(
        [TreeEntry(MODE_TREE, b"codes", id_of(codes)), TreeEntry(MODE_FILE, b"notes", wide[2])]
    )
    root = tree_bytes(
        [TreeEntry(MODE_TREE, b"Backtest", id_of(backtest)), TreeEntry(MODE_FILE, b"README", wide[3])]
    )
    manifest = imported(
        (root, backtest, codes, task),
        object_format="sha256",
        files=(FileEntry("a.py", 3, b"", wide[1]),),
        commit=commit_bytes(id_of(root), [], ANN, 5, "m\n"),
    )
    form = gitform.tree_form(manifest)
    assert (form.root, form.artifact_root) == (id_of(root), id_of(codes))
    assert all(item.oid == object_id(item.kind, item.data, "sha256") for item in form.objects)
    assert gitform.foreign_oids(manifest) == {wide[2], wide[3]}
    assert gitform.kept_entries(manifest) == (
        [TreeEntry(MODE_FILE, b"README", wide[3])],
        [TreeEntry(MODE_FILE, b"notes", wide[2])],
    )


def test_artifact_root_is_found_beside_other_folders_and_files():
    other = tree_bytes(
        [TreeEntry(MODE_TREE, b"A", THREE), TreeEntry(MODE_TREE, b"Backtest", object_id("tree", BACKTEST))]
    )
    form = gitform.tree_form(imported((other, BACKTEST, CODES, TASK)))
    assert form.artifact_root == object_id("tree", CODES)


# ---- commit and message ---------------------------------------------------------------------------------------------


def message_lines(**changes):
    text = gitform.message(run(**changes))
    assert text.endswith("\n")
    return text.splitlines()


def test_message_of_a_run_names_workflow_task_and_correlation():
    assert message_lines() == [
        "Add artifacts for w/t x", "", "Workflow: w", "Task: t x", "Correlation ID: corr_c",
    ]  # fmt: skip


def test_message_of_a_run_names_what_it_has_besides():
    metadata = {
        "test_metrics": {"pnl": 1.5, "name": "x y", "a\nb": None, "deep": {"k": "é"}}, "agent_version": "a1",
        "llm_version": {"name": "l"}, "note": "n",
    }  # fmt: skip
    assert message_lines(metadata=json.dumps(metadata).encode(), revision=2, prompt_hash="p q")[4:] == [
        "Correlation ID: corr_c", "Revision: 2", "Prompt Hash: p q", "Test Metrics:", "  pnl: 1.5", "  name: x y",
        '  "a\\nb": null', '  deep: {"k": "\\u00e9"}', "Agent: a1", 'LLM: {"name": "l"}',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("metrics", "lines"),
    [(None, []), ({}, []), ([], ["Test Metrics: []"]), ("x", ["Test Metrics: x"]), (0, ["Test Metrics: 0"])],
)
def test_message_of_a_run_with_odd_metrics_stays_on_one_line(metrics, lines):
    metadata = json.dumps({"test_metrics": metrics, "agent_version": None}).encode()
    assert message_lines(metadata=metadata)[5:] == lines


@pytest.mark.parametrize("text", ["a\nb", " a", "a ", "a\x7f", "a\u2028b", "a\u200bb", "\ufeffa", "a\xa0b"])
def test_message_writes_text_that_would_leave_its_line_as_json(text):
    lines = message_lines(workflow_id=text, task_id=text, correlation_id=text, prompt_hash=text)
    quoted = json.dumps(text)
    assert lines == [
        f"Add artifacts for {quoted}/{quoted}", "", f"Workflow: {quoted}", f"Task: {quoted}",
        f"Correlation ID: {quoted}", f"Prompt Hash: {quoted}",
    ]  # fmt: skip


def test_message_of_a_rollback_names_where_it_goes_back_to():
    plain = f"Revert artifacts to corr_c\n\nReverts-To: corr_c\nSource-Commit: {TWO.hex()}\n"
    assert gitform.message(rollback()) == plain
    assert gitform.message(rollback(reason="bad\nday")) == plain + 'Reason: "bad\\nday"\n'


@pytest.mark.parametrize("manifest", [run(), run(parent=FOUR), rollback(), rollback(parent=None)])
@pytest.mark.parametrize("signature", [None, "armored"])
def test_commit_is_made_of_tree_parent_author_time_and_message(manifest, signature):
    commit = gitform.commit_form(manifest, THREE, signature)
    parents = [] if manifest.parent is None else [manifest.parent]
    data = commit_bytes(THREE, parents, ANN, CREATED_S, gitform.message(manifest), signature)
    assert (commit.kind, commit.data, commit.oid) == ("commit", data, object_id("commit", data))


def test_commit_of_a_sha256_run_has_an_id_of_that_format():
    commit = gitform.commit_form(run(object_format="sha256"), b"\3" * 32, None)
    assert commit.oid == object_id("commit", commit.data, "sha256")
    tag = gitform.tag_form(run(object_format="sha256"), commit.oid, "corr_c").object
    assert tag.oid == object_id("tag", tag.data, "sha256")


def test_commit_of_an_imported_run_is_taken_as_it_is_unless_it_names_another_tree():
    commit = gitform.commit_form(imported(), ROOT_ID, None)
    assert commit.data == imported().commit
    with pytest.raises(IntegrityError, match="names another tree") as caught:
        gitform.commit_form(imported(), FOUR, None)
    assert caught.value.subject == FOUR.hex()


class Echo:
    def sign(self, payload):
        return payload.decode()


def test_sign_signs_the_commit_without_a_signature():
    assert gitform.sign(run(), THREE, Echo()) == gitform.commit_form(run(), THREE, None).data.decode()


@pytest.mark.parametrize(
    ("manifest", "subject"), [(run(), "Add artifacts for w/t x"), (rollback(), "Revert artifacts to corr_c")]
)
def test_tag_is_annotated_with_the_subject(manifest, subject):
    form = gitform.tag_form(manifest, FOUR, "corr_c")
    data = tag_bytes(FOUR, "commit", "corr_c", ANN, CREATED_S, subject + "\n")
    assert (form.name, form.object.kind, form.object.data) == ("corr_c", "tag", data)
    assert form.object.oid == object_id("tag", data)


# ---- rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", [run(with_metadata_file=True), rollback()])
@pytest.mark.parametrize("signature", [None, "armored"])
def test_check_row_gives_every_object_of_a_true_row(manifest, signature):
    row = row_of(manifest, signature)
    form = gitform.check_row(manifest, row)
    assert (form.tree.root, form.commit.oid) == (row.tree_oid, row.commit_oid)
    assert tuple((tag.name, tag.object.oid) for tag in form.tags) == row.tags


@pytest.mark.parametrize("field", ["tree_oid", "commit_oid"])
def test_check_row_with_another_id_is_refused_and_names_the_commit(field):
    row = msgspec.structs.replace(row_of(run()), **{field: FOUR})
    with pytest.raises(IntegrityError, match=f"stored commit {row.commit_oid.hex()[:12]} is not") as caught:
        gitform.check_row(run(), row)
    assert caught.value.subject == row.commit_oid.hex()
    assert "cas verify" in caught.value.hint


def test_check_row_with_another_signature_is_refused():
    with pytest.raises(IntegrityError):
        gitform.check_row(run(), msgspec.structs.replace(row_of(run(), "armored"), signature="other"))


def test_check_row_with_another_tag_is_refused_and_names_it():
    row = row_of(run())
    row = msgspec.structs.replace(row, tags=(row.tags[0], ("prompt_p", FOUR)))
    with pytest.raises(IntegrityError, match="stored tag prompt_p is not") as caught:
        gitform.check_row(run(), row)
    assert caught.value.subject == "prompt_p"


def test_check_row_of_an_imported_run_takes_annotated_and_lightweight_tags():
    tag = tag_bytes(object_id("commit", imported().commit), "commit", "v1", ANN, 7, "old\n")
    manifest = imported(tag_objects=(("v1", tag),))
    commit = object_id("commit", manifest.commit)
    row = ManifestRow(b"", commit, ROOT_ID, (("v1", object_id("tag", tag)), ("light", commit)))
    form = gitform.check_row(manifest, row)
    assert [(item.name, item.object.kind, item.object.oid) for item in form.tags] == [
        ("v1", "tag", object_id("tag", tag)), ("light", "commit", commit),
    ]  # fmt: skip
    with pytest.raises(IntegrityError, match="stored tag light"):
        gitform.check_row(manifest, msgspec.structs.replace(row, tags=(("light", FOUR),)))


# ---- objects that wait for an export ---------------------------------------------------------------------------------


@pytest.fixture(params=["sha1", "sha256"])
def waiting(request):
    """A run with its row, and what it left for its export."""
    wide = 32 if request.param == "sha256" else 20
    # Ids may hold any byte: such as end the name of an entry, or a line.
    files = (
        FileEntry("a/b.csv", 3, b"", b"\0\n" * (wide // 2)),
        FileEntry("a/same.csv", 3, b"", b"\0\n" * (wide // 2)),
        FileEntry("c.py", 4, b"", b"\2" * wide),
    )
    manifest = run(object_format=request.param, files=files, with_metadata_file=True)
    form = gitform.check_row(manifest, row_of(manifest, "sig"))
    return (
        manifest,
        row_of(manifest, "sig"),
        [*form.tree.objects, form.commit, *(t.object for t in form.tags)],
    )


def test_waiting_objects_are_given_back_with_their_ids(waiting):
    manifest, row, objects = waiting
    assert gitform.decode_objects(gitform.encode_objects(objects), manifest, row) == objects


def test_waiting_objects_are_all_there_or_do_not_count(waiting):
    manifest, row, objects = waiting
    for left_out in range(len(objects)):
        encoded = gitform.encode_objects([*objects[:left_out], *objects[left_out + 1 :]])
        assert gitform.decode_objects(encoded, manifest, row) is None, objects[left_out].kind
    more = msgspec.structs.replace(objects[0], data=b"more")
    assert gitform.decode_objects(gitform.encode_objects([*objects, more]), manifest, row) is None
    for encoded in (b"", b"\x90", b"\xc1", gitform.encode_objects(objects)[:-1]):
        assert gitform.decode_objects(encoded, manifest, row) is None


def test_waiting_objects_of_another_kind_or_run_do_not_count(waiting):
    manifest, row, objects = waiting
    other = msgspec.structs.replace(objects[0], kind="tag")
    assert gitform.decode_objects(gitform.encode_objects([other, *objects[1:]]), manifest, row) is None
    encoded = gitform.encode_objects(objects)
    wide = len(row.tree_oid)
    for files in (
        manifest.files[:-1],
        (*manifest.files, FileEntry("d", 1, b"", b"\4" * wide)),
        (*manifest.files[:-1], FileEntry("c.py", 4, b"", b"\4" * wide)),
    ):
        assert gitform.decode_objects(encoded, msgspec.structs.replace(manifest, files=files), row) is None
    for changed in (
        {"commit_oid": b"\4" * wide},
        {"tree_oid": b"\4" * wide},
        {"tags": (("corr_c", b"\4" * wide),)},
    ):
        assert gitform.decode_objects(encoded, manifest, msgspec.structs.replace(row, **changed)) is None

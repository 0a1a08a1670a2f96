"""The git form of a manifest: its trees, commit and annotated tags, as ids and as bytes.

Invariant: every function is pure in the manifest and the stored row, so the id told at commit time is the id that an
export produces, on any machine, at any time. A change of any byte made here changes commit ids and needs a new
manifest format number. This module must not read clocks, configuration or the store.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

import msgspec

from cas import manifest as manifests
from cas import names
from cas.errors import IntegrityError
from cas.manifest import ImportedManifest, RollbackManifest, RunManifest
from cas.objects import (
    MODE_FILE,
    MODE_SUBMODULE,
    MODE_TREE,
    GitObject,
    Person,
    TreeEntry,
    build_tree,
    commit_bytes,
    file_tree_bytes,
    folder_tree_bytes,
    object_id,
    parse_tree,
    tag_bytes,
    tree_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas.manifest import Manifest, ManifestRow
    from cas.objects import Signer

# How the message of a run's commit and of its tags begins.
RUN_SUBJECT: Final = "Add artifacts for "
_ROOT_FOLDER, _CODES_FOLDER = names.ARTIFACT_ROOT.split("/")
_SHORT_OID_CHARS: Final = 12
_ENCODER: Final = msgspec.msgpack.Encoder()
_OBJECTS_DECODER: Final = msgspec.msgpack.Decoder(
    list[tuple[Literal["blob", "tree", "commit", "tag"], bytes]]
)
# In trees one after the other: mode and name, and the oid behind them; in C, for each run of an export.
_NAMED: Final = {
    "sha1": re.compile(rb"[^\0]+\0(.{20})", re.DOTALL),
    "sha256": re.compile(rb"[^\0]+\0(.{32})", re.DOTALL),
}
# Control characters, line and paragraph separators, invisible and direction-changing marks, and blanks at either end.
_AWKWARD_IN_LINE: Final = re.compile(
    r"[\x00-\x1f\x7f-\xa0\xad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]|\A | \Z"
)


class TreeForm(NamedTuple):
    """The root tree of a commit, the artifact root inside it, and every object made for them.

    ``objects`` holds the trees, and the blob of the generated metadata file; the run's own blobs are in the store.
    """

    root: bytes
    artifact_root: bytes
    objects: list[GitObject]


class TagForm(NamedTuple):
    """One annotated tag: its name, and the tag object."""

    name: str
    object: GitObject


class Form(NamedTuple):
    """Everything a manifest is in git, besides the run's own blobs."""

    tree: TreeForm
    commit: GitObject
    tags: tuple[TagForm, ...]


def tree_form(manifest: Manifest) -> TreeForm:
    """Return the tree of a manifest's commit.

    Raises:
        IntegrityError: An imported manifest holds no tree, or one that is none.
    """
    if isinstance(manifest, ImportedManifest):
        return _imported_tree(manifest)
    return _run_tree(manifest) if isinstance(manifest, RunManifest) else _rollback_tree(manifest)


def _run_tree(manifest: RunManifest) -> TreeForm:
    files = {entry.name: entry.oid for entry in manifest.files}
    objects: list[GitObject] = []
    if manifest.with_metadata_file:
        blob = _object("blob", manifests.metadata_file_bytes(manifest), manifest)
        files[names.METADATA_NAME] = blob.oid
        objects.append(blob)
    if any("/" in name for name in files):
        entries = {name: (MODE_FILE, oid) for name, oid in files.items()}
        folder, trees = build_tree(entries, manifest.object_format)
        objects += trees
    else:  # nearly every run: one folder, whose entries need no path taken apart
        data = file_tree_bytes({name.encode(): oid for name, oid in files.items()})
        objects.append(_object("tree", data, manifest))
        folder = objects[-1].oid
    artifact_root = _enclosing(names.task_directory(manifest.task_id), folder, manifest)
    outer = _enclosing(_CODES_FOLDER, artifact_root.oid, manifest)
    root = _enclosing(_ROOT_FOLDER, outer.oid, manifest)
    return TreeForm(root.oid, artifact_root.oid, [*objects, artifact_root, outer, root])


def _enclosing(name: str, folder: bytes, manifest: Manifest) -> GitObject:
    """Return the tree that holds a folder and nothing else."""
    return _object("tree", folder_tree_bytes(name.encode(), folder), manifest)


def _imported_tree(manifest: ImportedManifest) -> TreeForm:
    trees = [_object("tree", data, manifest) for data in manifest.trees]
    if not trees:
        raise IntegrityError("an imported manifest holds no tree", subject=manifest.branch)
    known = {tree.oid: tree for tree in trees}
    objects = list(known.values())
    folder: GitObject | None = trees[0]
    for name in (_ROOT_FOLDER, _CODES_FOLDER):
        folder = None if folder is None else known.get(_folder_oid(folder, name, manifest))
    if folder is None:  # the commit removed every artifact
        folder = _tree_object([], manifest)
        objects.append(folder)
    if manifest.with_metadata_file:
        objects.append(_object("blob", manifest.metadata_file, manifest))
    return TreeForm(trees[0].oid, folder.oid, objects)


def _folder_oid(tree: GitObject, name: str, manifest: Manifest) -> bytes:
    found = parse_tree(tree.data, manifest.object_format)
    return next(
        (entry.oid for entry in found if entry.name == name.encode() and entry.mode == MODE_TREE), b""
    )


def foreign_oids(manifest: Manifest) -> set[bytes]:
    """Return the oids that an imported run's trees name and the store does not hold: paths beside its own files."""
    if not isinstance(manifest, ImportedManifest):
        return set()
    held = {item.oid for item in _imported_tree(manifest).objects} | {entry.oid for entry in manifest.files}
    named = (
        entry.oid
        for data in manifest.trees
        for entry in parse_tree(data, manifest.object_format)
        if entry.mode != MODE_SUBMODULE  # a submodule's commit lives in another repository
    )
    return {oid for oid in named if oid not in held}


def kept_entries(manifest: RunManifest) -> tuple[list[TreeEntry], list[TreeEntry]]:
    """Return what an imported run's root tree and its folder ``Backtest`` hold beside the artifact root."""
    if not isinstance(manifest, ImportedManifest):
        return [], []
    trees = {item.oid: item for item in _imported_tree(manifest).objects}
    root = trees[object_id("tree", manifest.trees[0], manifest.object_format)]
    outer = parse_tree(root.data, manifest.object_format)
    folder = trees.get(_folder_oid(root, _ROOT_FOLDER, manifest))
    inner = [] if folder is None else parse_tree(folder.data, manifest.object_format)
    return (
        [entry for entry in outer if entry.name != _ROOT_FOLDER.encode()],
        [entry for entry in inner if entry.name != _CODES_FOLDER.encode()],
    )


def _rollback_tree(manifest: RollbackManifest) -> TreeForm:
    kept = [TreeEntry(entry.mode, entry.name, entry.oid) for entry in manifest.backtest_entries]
    codes = TreeEntry(MODE_TREE, _CODES_FOLDER.encode(), manifest.artifact_root)
    folder = _tree_object([*kept, codes], manifest)
    outer = [TreeEntry(entry.mode, entry.name, entry.oid) for entry in manifest.root_entries]
    root = _tree_object([*outer, TreeEntry(MODE_TREE, _ROOT_FOLDER.encode(), folder.oid)], manifest)
    return TreeForm(root.oid, manifest.artifact_root, [folder, root])


def _tree_object(entries: list[TreeEntry], manifest: Manifest) -> GitObject:
    return _object("tree", tree_bytes(entries), manifest)


def _object(kind: str, data: bytes, manifest: Manifest) -> GitObject:
    return GitObject(kind, object_id(kind, data, manifest.object_format), data)


def commit_form(manifest: Manifest, root: bytes, signature: str | None) -> GitObject:
    """Return the commit object of a manifest.

    Args:
        manifest: What is committed.
        root: Raw oid of its root tree.
        signature: The stored signature, None for an unsigned commit.

    Raises:
        IntegrityError: An imported commit has another root tree.
    """
    if isinstance(manifest, ImportedManifest):
        return _imported_commit(manifest, root)
    data = commit_bytes(
        root,
        [] if manifest.parent is None else [manifest.parent],
        Person(manifest.author_name, manifest.author_email),
        manifests.timestamp_s(manifest),
        message(manifest),
        signature,
    )
    return GitObject("commit", object_id("commit", data, manifest.object_format), data)


def _imported_commit(manifest: ImportedManifest, root: bytes) -> GitObject:
    if not manifest.commit.startswith(b"tree %s\n" % root.hex().encode()):
        raise IntegrityError(
            "an imported commit names another tree than it was stored with", subject=root.hex()
        )
    return _object("commit", manifest.commit, manifest)


def sign(manifest: Manifest, root: bytes, signer: Signer) -> str:
    """Return the signature of a manifest's commit, to be stored in its row."""
    return signer.sign(commit_form(manifest, root, None).data)


def tag_form(manifest: Manifest, commit: bytes, name: str) -> TagForm:
    """Return the annotated tag ``name`` on a manifest's commit."""
    data = tag_bytes(
        commit,
        "commit",
        name,
        Person(manifest.author_name, manifest.author_email),
        manifests.timestamp_s(manifest),
        _subject(manifest) + "\n",
    )
    return TagForm(name, GitObject("tag", object_id("tag", data, manifest.object_format), data))


def _imported_tag(manifest: ImportedManifest, commit: GitObject, name: str) -> TagForm:
    """Return a tag as it was imported; a lightweight one is the commit itself."""
    data = dict(manifest.tag_objects).get(name)
    return TagForm(name, commit if data is None else _object("tag", data, manifest))


def message(manifest: Manifest) -> str:
    """Return the commit message of a manifest."""
    return _run_message(manifest) if isinstance(manifest, RunManifest) else _rollback_message(manifest)


def _run_message(manifest: RunManifest) -> str:
    metadata = manifests.peek_metadata(manifest.metadata)
    lines = [
        _subject(manifest),
        "",
        f"Workflow: {_line(manifest.workflow_id)}",
        f"Task: {_line(manifest.task_id)}",
        f"Correlation ID: {_line(manifest.correlation_id)}",
    ]
    if manifest.revision > 1:
        lines.append(f"Revision: {manifest.revision}")
    if manifest.prompt_hash is not None:
        lines.append(f"Prompt Hash: {_line(manifest.prompt_hash)}")
    lines += _metric_lines(metadata.get("test_metrics"))
    for label, key in (("Agent", "agent_version"), ("LLM", "llm_version")):
        if metadata.get(key) is not None:
            lines.append(f"{label}: {_value(metadata[key])}")
    return "\n".join(lines) + "\n"


def _metric_lines(metrics: object) -> list[str]:
    if metrics is None or metrics == {}:
        return []
    if not isinstance(metrics, dict):
        return [f"Test Metrics: {_value(metrics)}"]
    named = cast("dict[str, object]", metrics)
    return ["Test Metrics:", *(f"  {_line(name)}: {_value(value)}" for name, value in named.items())]


def _rollback_message(manifest: RollbackManifest) -> str:
    lines = [
        _subject(manifest),
        "",
        f"Reverts-To: {manifest.tag}",
        f"Source-Commit: {manifest.source.hex()}",
    ]
    if manifest.reason is not None:
        lines.append(f"Reason: {_line(manifest.reason)}")
    return "\n".join(lines) + "\n"


def _subject(manifest: Manifest) -> str:
    if isinstance(manifest, RunManifest):
        return f"{RUN_SUBJECT}{_line(manifest.workflow_id)}/{_line(manifest.task_id)}"
    return f"Revert artifacts to {manifest.tag}"


def _line(text: str) -> str:
    """Return text that stays on its line: anything else is written as a JSON string.

    The rule is spelled out in code points, because ``str.isprintable`` and ``str.strip`` follow the Unicode version of
    the Python that runs, and a commit id must not.
    """
    if text.isascii() and text.isprintable() and text[:1] != " " != text[-1:]:
        return text  # within ASCII no Unicode version decides, and nearly every line is
    return json.dumps(text) if _AWKWARD_IN_LINE.search(text) else text


def _value(value: object) -> str:
    if isinstance(value, str):
        return _line(value)
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)  # what JSON writes, without its machinery: metrics are numbers
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def encode_objects(objects: Sequence[GitObject]) -> bytes:
    """Return a run's git objects as they wait for its export: kinds and contents, without the ids, which these give."""
    return _ENCODER.encode([(item.kind, item.data) for item in objects])


def decode_objects(encoded: bytes, run: RunManifest, row: ManifestRow) -> list[GitObject] | None:
    """Return the objects that a run's commit made, each with the id that its bytes have now.

    Returns:
        None where there are none, or not those of the run: the commit, the root tree and the tags must be the promised
        ones, and what the trees name must be the other objects and the run's files, all of them and nothing else.
    """
    try:
        contents = _OBJECTS_DECODER.decode(encoded) if encoded else []
    except msgspec.MsgspecError:
        return None
    objects = [GitObject(kind, object_id(kind, data, run.object_format), data) for kind, data in contents]
    oids = {item.oid for item in objects}
    promised = {row.commit_oid, row.tree_oid, *[oid for _, oid in row.tags]}
    trees = b"".join([item.data for item in objects if item.kind == "tree"])
    named = _NAMED[run.object_format].findall(trees)
    if not promised <= oids or promised.union(named) != oids.union([entry.oid for entry in run.files]):
        return None
    return objects


def check_row(manifest: Manifest, row: ManifestRow) -> Form:
    """Rebuild every object of a stored row and compare the ids; the exporter calls this before it writes anything.

    Raises:
        IntegrityError: The row's ids are not those of its manifest.
    """
    tree = tree_form(manifest)
    commit = commit_form(manifest, tree.root, row.signature)
    if tree.root != row.tree_oid or commit.oid != row.commit_oid:
        raise IntegrityError(
            f"stored commit {row.commit_oid.hex()[:_SHORT_OID_CHARS]} is not what its manifest gives",
            subject=row.commit_oid.hex(),
            hint="Run `cas verify --full`; nothing was exported from this run.",
        )
    if isinstance(manifest, ImportedManifest):
        tags = tuple(_imported_tag(manifest, commit, name) for name, _ in row.tags)
    else:
        tags = tuple(tag_form(manifest, commit.oid, name) for name, _ in row.tags)
    for tag, (name, oid) in zip(tags, row.tags, strict=True):
        if tag.object.oid != oid:
            raise IntegrityError(f"stored tag {name} is not what its manifest gives", subject=name)
    return Form(tree, commit, tags)

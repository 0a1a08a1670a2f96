"""The git form of a manifest: its trees, commit and annotated tags, as ids and as bytes.

Invariant: every function is pure in the manifest and the stored row, so the id told at commit time is the id that an
export produces, on any machine, at any time. A change of any byte made here changes commit ids and needs a new
manifest format number. This module must not read clocks, configuration or the store.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from cas import manifest as manifests
from cas import names
from cas.errors import IntegrityError
from cas.manifest import RollbackManifest, RunManifest
from cas.objects import (
    MODE_FILE,
    MODE_TREE,
    GitObject,
    Person,
    TreeEntry,
    build_tree,
    commit_bytes,
    object_id,
    tag_bytes,
    tree_bytes,
)

if TYPE_CHECKING:
    from cas.manifest import Manifest, ManifestRow
    from cas.objects import Signer

_ROOT_FOLDER, _CODES_FOLDER = names.ARTIFACT_ROOT.split("/")
_SHORT_OID_CHARS: Final = 12
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
    """Return the tree of a manifest's commit."""
    return _run_tree(manifest) if isinstance(manifest, RunManifest) else _rollback_tree(manifest)


def _run_tree(manifest: RunManifest) -> TreeForm:
    folder = names.task_directory(manifest.task_id)
    files = {f"{folder}/{entry.name}": (MODE_FILE, entry.oid) for entry in manifest.files}
    objects: list[GitObject] = []
    if manifest.with_metadata_file:
        data = manifests.metadata_file_bytes(manifest)
        blob = GitObject("blob", object_id("blob", data, manifest.object_format), data)
        files[f"{folder}/{names.METADATA_NAME}"] = (MODE_FILE, blob.oid)
        objects.append(blob)
    artifact_root, trees = build_tree(files, manifest.object_format)
    root, outer = build_tree({names.ARTIFACT_ROOT: (MODE_TREE, artifact_root)}, manifest.object_format)
    return TreeForm(root, artifact_root, objects + trees + outer)


def _rollback_tree(manifest: RollbackManifest) -> TreeForm:
    kept = [TreeEntry(entry.mode, entry.name, entry.oid) for entry in manifest.backtest_entries]
    codes = TreeEntry(MODE_TREE, _CODES_FOLDER.encode(), manifest.artifact_root)
    folder = _tree_object([*kept, codes], manifest)
    outer = [TreeEntry(entry.mode, entry.name, entry.oid) for entry in manifest.root_entries]
    root = _tree_object([*outer, TreeEntry(MODE_TREE, _ROOT_FOLDER.encode(), folder.oid)], manifest)
    return TreeForm(root.oid, manifest.artifact_root, [folder, root])


def _tree_object(entries: list[TreeEntry], manifest: Manifest) -> GitObject:
    data = tree_bytes(entries)
    return GitObject("tree", object_id("tree", data, manifest.object_format), data)


def commit_form(manifest: Manifest, root: bytes, signature: str | None) -> GitObject:
    """Return the commit object of a manifest.

    Args:
        manifest: What is committed.
        root: Raw oid of its root tree.
        signature: The stored signature, None for an unsigned commit.
    """
    data = commit_bytes(
        root,
        [] if manifest.parent is None else [manifest.parent],
        Person(manifest.author_name, manifest.author_email),
        manifests.timestamp_s(manifest),
        message(manifest),
        signature,
    )
    return GitObject("commit", object_id("commit", data, manifest.object_format), data)


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


def message(manifest: Manifest) -> str:
    """Return the commit message of a manifest."""
    return _run_message(manifest) if isinstance(manifest, RunManifest) else _rollback_message(manifest)


def _run_message(manifest: RunManifest) -> str:
    metadata = manifests.load_metadata(manifest.metadata)
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
        return f"Add artifacts for {_line(manifest.workflow_id)}/{_line(manifest.task_id)}"
    return f"Revert artifacts to {manifest.tag}"


def _line(text: str) -> str:
    """Return text that stays on its line: anything else is written as a JSON string.

    The rule is spelled out in code points, because ``str.isprintable`` and ``str.strip`` follow the Unicode version of
    the Python that runs, and a commit id must not.
    """
    return json.dumps(text) if _AWKWARD_IN_LINE.search(text) else text


def _value(value: object) -> str:
    return _line(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=True, allow_nan=False)


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
    tags = tuple(tag_form(manifest, commit.oid, name) for name, _ in row.tags)
    for tag, (name, oid) in zip(tags, row.tags, strict=True):
        if tag.object.oid != oid:
            raise IntegrityError(f"stored tag {name} is not what its manifest gives", subject=name)
    return Form(tree, commit, tags)

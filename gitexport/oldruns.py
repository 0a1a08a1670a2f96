"""A commit of the replaced system as a run: its IDs, metadata and files, read leniently.

Invariant: nothing is made up: what a commit does not say is left out, and what cannot be held by a run (a link, a name
no file system agrees on) is named in the remarks. Pure: no git, no store, no clock.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from typing import TYPE_CHECKING, Final

from cas import manifest, names
from cas.errors import IntegrityError, InvalidIdError, InvalidInputError, InvalidNameError
from cas.objects import MODE_SUBMODULE, MODE_SYMLINK, MODE_TREE, parse_tree
from gitexport.branchwalk import ROOT_PARTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cas.config import ObjectFormat
    from cas.objects import TreeEntry

# What the store writes into metadata.json by itself; the rest of the file is the run's own metadata.
_OWN_KEYS: Final = frozenset(
    {"workflow_id", "task_id", "correlation_id", "prompt_hash", "commit_timestamp", "files"}
)
_PERSON: Final = re.compile(rb"(?:author|committer) (.*?) ?<([^>\n]*)> (-?\d{1,25}) [+-]\d+")
_LAST_S: Final = (
    253_402_300_799  # the end of the year 9999, the last that dates in programs and in JSON can tell
)


@dataclasses.dataclass(frozen=True, slots=True)
class OldBranch:
    """A branch of the replaced system: its name, and the task folder it stands for."""

    name: str
    workflow_id: str
    task_id: str
    folder: bytes


@dataclasses.dataclass(slots=True)
class OldRun:
    """What one commit holds of a run.

    Attributes:
        commit_oid: Raw id.
        commit: The commit object.
        trees: Tree objects from the root, which is the first, to the task's folder and below.
        files: Name -> raw oid of each file.
        metadata_oid: Raw oid of ``metadata.json``, None when there is none.
        remarks: What could not be taken over.
    """

    commit_oid: bytes
    commit: bytes
    author_name: str
    author_email: str
    created_at_us: int
    trees: tuple[bytes, ...] = ()
    files: dict[str, bytes] = dataclasses.field(default_factory=dict[str, bytes])
    metadata_oid: bytes | None = None
    remarks: list[str] = dataclasses.field(default_factory=list[str])


@dataclasses.dataclass(frozen=True, slots=True)
class OldMetadata:
    """What a ``metadata.json`` says: IDs where they are text, and the rest as stored JSON."""

    correlation_id: str | None = None
    prompt_hash: str | None = None
    metadata: bytes = b"{}"
    remark: str | None = None


def parse_branch(name: str, prefix: str) -> OldBranch | str:
    """Return what a branch name of the form ``<prefix>/<workflow>/<task>`` stands for, or why it stands for none."""
    parts = name.removeprefix(f"{prefix}/").split("/")
    if not name.startswith(f"{prefix}/") or len(parts) != 2:  # noqa: PLR2004  workflow and task
        return f"the name has not the form {prefix}/<workflow>/<task>"
    if shown_name(name) != name:
        return "the name is not UTF-8, and a run's IDs are"
    workflow_id, task_id = (_id_of(part) for part in parts)
    return OldBranch(name, workflow_id, task_id, parts[1].encode())


def shown_name(name: str) -> str:
    """Return a ref's name as it can be written anywhere, bytes that are not UTF-8 by their numbers."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _id_of(component: str) -> str:
    """Return the ID that gives this component, or the component itself when none does."""
    try:
        return names.unescape_id(component)
    except InvalidIdError:
        return component


def parse_commit(oid: str, data: bytes) -> OldRun:
    """Return author and time of a commit; its files are added by `add_trees`.

    Raises:
        IntegrityError: It has no author git could have written.
    """
    header = data.split(b"\n\n", 1)[0]
    found = {match[0].split(b" ", 1)[0]: match for match in _PERSON.finditer(header)}
    author = found.get(b"author")
    if author is None:
        raise IntegrityError(f"commit {oid} has no readable author", subject=oid)
    committed_s = int(found.get(b"committer", author)[3])
    shown_s = min(max(0, committed_s), _LAST_S)
    remarks = (
        [] if shown_s == committed_s else [f"its time, {committed_s}, is no date of the years 1970 to 9999"]
    )
    return OldRun(
        commit_oid=bytes.fromhex(oid),
        commit=data,
        author_name=author[1].decode("utf-8", "replace").strip() or "unknown",
        author_email=author[2].decode("utf-8", "replace").strip(),
        created_at_us=shown_s * 1_000_000,
        remarks=remarks,
    )


def root_of(run: OldRun) -> str:
    """Return the id of a commit's root tree."""
    return run.commit.split(b"\n", 1)[0].removeprefix(b"tree ").decode("ascii", "replace")


def add_trees(run: OldRun, folder: bytes, trees: Mapping[str, bytes], object_format: ObjectFormat) -> None:
    """Fill in a run's trees and files.

    Raises:
        IntegrityError: The root tree is missing.
    """
    root = root_of(run)
    if root not in trees:
        raise IntegrityError(f"the tree of commit {run.commit_oid.hex()} is missing", subject=root)
    found = [trees[root]]
    current: bytes | None = trees[root]
    for part in (*ROOT_PARTS, folder):
        entry = None if current is None else _entry(current, part, object_format)
        current = None if entry is None else trees.get(entry.oid.hex())
        if current is not None:
            found.append(current)
    if current is not None:
        for path, entry in _walk(current, b"", trees, found, object_format):
            _add_file(run, path, entry)
    run.trees = tuple(dict.fromkeys(found))


def texts_of(
    branch: OldBranch, run: OldRun, tags: Mapping[str, bytes | None], object_format: ObjectFormat
) -> dict[str, bytes]:
    """Return what a commit says besides its files and their names, by the name to report.

    Args:
        branch: Its branch.
        run: The commit, with its trees.
        tags: The tags on it, each with its object where it has one.
        object_format: Of its ids.
    """
    ids = (branch.name, branch.workflow_id, branch.task_id, *tags, run.author_name, run.author_email)
    messages = (run.commit, *(data for data in tags.values() if data is not None))
    entries = dict.fromkeys(entry.name for tree in run.trees for entry in parse_tree(tree, object_format))
    return {
        "commit message": b"\n".join(data.partition(b"\n\n")[2] for data in messages),
        "ids": "\n".join(ids).encode("utf-8", "surrogateescape"),
        "names in trees": b"\n".join(entries),
    }


def _entry(tree: bytes, name: bytes, object_format: ObjectFormat) -> TreeEntry | None:
    entries = parse_tree(tree, object_format)
    return next((entry for entry in entries if entry.name == name and entry.mode == MODE_TREE), None)


def _walk(
    tree: bytes, prefix: bytes, trees: Mapping[str, bytes], found: list[bytes], object_format: ObjectFormat
) -> Iterator[tuple[bytes, TreeEntry]]:
    for entry in parse_tree(tree, object_format):
        path = prefix + entry.name
        below = trees.get(entry.oid.hex()) if entry.mode == MODE_TREE else None
        if below is not None:
            found.append(below)
            yield from _walk(below, path + b"/", trees, found, object_format)
        else:
            yield path, entry


def _add_file(run: OldRun, path: bytes, entry: TreeEntry) -> None:
    if path == names.METADATA_NAME.encode() and entry.mode not in {MODE_SYMLINK, MODE_SUBMODULE}:
        run.metadata_oid = entry.oid
        return
    shown = path.decode("utf-8", "backslashreplace")
    if entry.mode in {MODE_TREE, MODE_SYMLINK, MODE_SUBMODULE}:
        run.remarks.append(f"{shown!a} is no regular file")
        return
    try:
        name = path.decode("utf-8")
        names.check_artifact_names([*run.files, name])
    except (UnicodeDecodeError, InvalidNameError):
        run.remarks.append(f"{shown!a} is no name for an artifact")
        return
    run.files[name] = entry.oid


def parse_metadata(data: bytes | None, max_bytes: int) -> OldMetadata:
    """Return what a ``metadata.json`` says; one that cannot be read says nothing, and a remark tells so."""
    if data is None:
        return OldMetadata(remark="there is no metadata.json")
    try:
        # NaN and infinities, which JSON does not have and Python writes, become "no value".
        loaded: object = json.loads(data, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return OldMetadata(remark="metadata.json is not JSON")
    if not isinstance(loaded, dict):
        return OldMetadata(remark="metadata.json is not a JSON object")
    document: dict[str, object] = loaded  # pyright: ignore[reportUnknownVariableType]
    own = {key: value for key, value in document.items() if key not in _OWN_KEYS and value is not None}
    remark = None
    try:
        metadata = manifest.normalise_metadata(own, max_bytes)
    except InvalidInputError as error:
        metadata, remark = b"{}", error.message
    return OldMetadata(
        correlation_id=_text(document.get("correlation_id")),
        prompt_hash=_text(document.get("prompt_hash")),
        metadata=metadata,
        remark=remark,
    )


def _text(value: object) -> str | None:
    try:
        return names.check_id(value, "id")
    except InvalidIdError:
        return None

"""The objects of an archive: commits that hold rolled-up branches as parents, and the list of refs each one carries.

Invariant: the same branches on top of the same commit give the same bytes, so a run that is repeated after a kill makes
nothing twice. A list has the form of git's ``packed-refs``, with the commit behind each tag, so that it can be read by
people and programs without this one. Pure: no file, no git, no store.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Final

from cas.objects import GitObject, commit_bytes, file_tree_bytes, object_id
from gitexport.packedrefs import HEADER, PackedEdit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cas.config import ObjectFormat
    from cas.objects import Person

LIST_NAME: Final = "packed-refs"
# git reads the parents of a commit whole, and hosts draw them; a list of so many branches is about 100 KB.
PARENTS_PER_COMMIT: Final = 500


@dataclasses.dataclass(frozen=True, slots=True)
class RolledBranch:
    """A branch that is rolled up, with the tags that go with it; oids in hex.

    Attributes:
        name: Full ref name.
        commit: Where it stood.
        created_at_us: When that commit was made.
        tags: Full ref name, oid, and the commit behind an annotated tag or None, of each tag.
    """

    name: str
    commit: str
    created_at_us: int
    tags: tuple[tuple[str, str, str | None], ...]

    @property
    def short_name(self) -> str:
        """The name as people write it."""
        return self.name.removeprefix("refs/heads/")


@dataclasses.dataclass(frozen=True, slots=True)
class ArchiveForm:
    """A stretch of an archive: its new objects, and its commits in order, the newest last; oids in hex."""

    objects: tuple[GitObject, ...]
    commits: tuple[str, ...]


def list_bytes(branches: Sequence[RolledBranch]) -> bytes:
    """Return the list of the refs of some branches."""
    edits = [PackedEdit(branch.name, branch.commit) for branch in branches]
    edits += [PackedEdit(*tag) for branch in branches for tag in branch.tags]
    return HEADER + b"".join(edit.lines() for edit in sorted(edits, key=lambda edit: edit.name.encode()))


def parse_list(data: bytes) -> dict[str, str]:
    """Return the refs of a list, name to oid; the objects behind tags are left out."""
    lines = (line for line in data.decode("utf-8", "replace").split("\n") if line[:1] not in {"", "#", "^"})
    return {name: oid for oid, _, name in (line.partition(" ") for line in lines)}


def root_tree(object_format: ObjectFormat) -> bytes:
    """Return the raw oid of the tree that an archive begins with: an empty list."""
    return _tree(HEADER, object_format)[1].oid


def build_archive(
    branches: Sequence[RolledBranch],
    tip: str | None,
    person: Person,
    store_id: str,
    begun_at_s: int,
    object_format: ObjectFormat,
) -> ArchiveForm:
    """Return the commits that roll up some branches, in their order, on top of an archive.

    Args:
        branches: In the order in which they are rolled up.
        tip: The newest commit of the archive, in hex; None for one that begins.
        person: Author and committer.
        store_id: Whose archive it is; stands in the message of its first commit.
        begun_at_s: Time of that commit, in seconds since the epoch; later ones have the time of their newest branch.
        object_format: Id format.
    """
    objects: dict[bytes, GitObject] = {}
    commits: list[str] = []

    def add(data: bytes, parents: Sequence[str], timestamp_s: int, message: str) -> str:
        blob, tree = _tree(data, object_format)
        content = commit_bytes(
            tree.oid, [bytes.fromhex(parent) for parent in parents], person, timestamp_s, message
        )
        commit = GitObject("commit", object_id("commit", content, object_format), content)
        objects.update({item.oid: item for item in (blob, tree, commit)})
        commits.append(commit.oid.hex())
        return commits[-1]

    if tip is None:
        tip = add(HEADER, [], begun_at_s, f"Begin an archive of branches\n\nStore: {store_id}\n")
    for part in _parts(branches):
        parents = [tip, *dict.fromkeys(branch.commit for branch in part)]
        newest_s = max(branch.created_at_us for branch in part) // 1_000_000
        tip = add(list_bytes(part), parents, newest_s, _message(part))
    return ArchiveForm(tuple(objects.values()), tuple(commits))


def _tree(data: bytes, object_format: ObjectFormat) -> tuple[GitObject, GitObject]:
    blob = GitObject("blob", object_id("blob", data, object_format), data)
    content = file_tree_bytes({LIST_NAME.encode(): blob.oid})
    return blob, GitObject("tree", object_id("tree", content, object_format), content)


def _parts(branches: Sequence[RolledBranch]) -> Iterator[list[RolledBranch]]:
    rest = iter(branches)
    while part := list(itertools.islice(rest, PARENTS_PER_COMMIT)):
        yield part


def _message(part: Sequence[RolledBranch]) -> str:
    count = len(part)
    tag_count = sum(len(branch.tags) for branch in part)
    return (
        f"Roll up {count} {'branch' if count == 1 else 'branches'}\n\n"
        f"The parents but the first are their commits; the file {LIST_NAME} lists them with {tag_count} "
        f"{'tag' if tag_count == 1 else 'tags'}.\n"
    )

"""Prompt tags of other stores: such a tag names the first commit made from a prompt, whichever store made it.

Invariant: nothing is overwritten. A run whose prompt tag another store has made before goes into git without it, and is
found by query, like later runs of one store. Only an annotated tag by that very name and with the message that stores
write, on a commit that this store does not know, counts as another store's; whatever else stands in the place of a tag
was put there by somebody, and is told.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from cas import gitform, names, records
from cas.errors import GitCommandFailedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cas import ArtifactStore
    from gitexport.entries import Entry
    from gitexport.repository import GitRepository

_PROMPT_TAGS: Final = f"refs/tags/{names.PROMPT_PREFIX}"
_MOST_BYTES: Final = 64 * 1024  # of a tag object; ours have some hundred
_FORM: Final = re.compile(
    rb"object ([0-9a-f]{40,64})\ntype commit\ntag ([^\n]+)\ntagger [^\n]+\n\n%s[^\n]+\n"
    % gitform.RUN_SUBJECT.encode()
)


def is_prompt_tag(name: str) -> bool:
    """Tell whether a full ref name is that of a prompt tag."""
    return name.startswith(_PROMPT_TAGS)


class PromptTags:
    """Tells which prompt tags of a repository are other stores'; keeps nothing between calls."""

    def __init__(self, store: ArtifactStore, repository: GitRepository) -> None:
        self._store = store
        self._repository = repository

    def others(self, tags: Iterable[tuple[str, str]], refs: Mapping[str, str]) -> set[str]:
        """Return those prompt tags that another store has made; one git process if any stands elsewhere, else none.

        Args:
            tags: Full name and oid that this store would give; other tags are not looked at.
            refs: What the repository has, full name to oid.

        Raises:
            GitCommandFailedError: git is missing, said nothing for too long, or was killed.
        """
        held = {name: refs[name] for name, oid in tags if is_prompt_tag(name) and refs.get(name, oid) != oid}
        found: set[str] = set()
        streams = self._repository.iter_object_bytes(list(held.values())) if held else iter(())
        try:
            for name, stream in zip(held, streams, strict=True):
                if (
                    stream.kind == "tag"
                    and stream.size_bytes <= _MOST_BYTES
                    and self._fits(name, b"".join(stream))
                ):
                    found.add(name)
        except GitCommandFailedError as error:
            if error.kind != GitCommandFailedError.kind:
                raise
            # An object that git cannot read is no other store's tag, and git ended at it.
        return found

    def _fits(self, name: str, tag: bytes) -> bool:
        form = _FORM.fullmatch(tag)
        if form is None or form[2].decode("utf-8", "replace") != name.removeprefix("refs/tags/"):
            return False
        with self._store.environment.read() as transaction:
            return records.find_commit(transaction, bytes.fromhex(form[1].decode())) is None

    def leave(self, entries: Sequence[Entry], refs: Mapping[str, str]) -> list[Entry]:
        """Return the entries without those prompt tags that are another store's.

        Raises:
            GitCommandFailedError: As `others`.
        """
        others = self.others((tag for entry in entries for tag in entry.tags), refs)
        return [_without(entry, others) for entry in entries]


def _without(entry: Entry, left: set[str]) -> Entry:
    gone = {oid for name, oid in entry.tags if name in left}
    if not gone:
        return entry
    return msgspec.structs.replace(
        entry,
        tags=tuple(tag for tag in entry.tags if tag[0] not in left),
        objects=tuple(item for item in entry.objects if item.kind != "tag" or item.oid.hex() not in gone),
    )

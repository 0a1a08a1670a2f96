"""Tags of the replaced system: which lie on which commit, and what correlation ID and revision a commit gets by them.

Invariant: a tag found in git leads to the same commit in the store; a commit whose tag was moved away keeps its own
place under an ID that nobody else has. Pure but for looking names up in a snapshot.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cas import catalog, names
from cas.errors import InvalidIdError
from gitexport.oldruns import shown_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cas.lmdbenv import ReadTransaction
    from gitexport.oldruns import OldMetadata
    from gitexport.refvalues import RefValue

_SHORT_OID_CHARS = 12
_LEAST_LATER_REVISION = 2


@dataclasses.dataclass(frozen=True, slots=True)
class OldTag:
    """One tag: name, what the ref holds (raw oid), and whether that is a tag object of its own."""

    name: str
    oid: bytes
    is_annotated: bool


class TagBook:
    """The correlation and prompt tags of a repository, by the commit behind them; others are people's own.

    A tag whose name is not UTF-8 has no place in the store, and is only told of.
    """

    def __init__(self, refs: Mapping[str, RefValue]) -> None:
        self._names: set[str] = set()
        self._by_commit: dict[str, list[OldTag]] = {}
        self._left_out: dict[str, list[str]] = {}
        for full_name, value in refs.items():
            name, commit = full_name.removeprefix("refs/tags/"), value.peeled or value.oid
            if not name.startswith((names.CORRELATION_PREFIX, names.PROMPT_PREFIX)):
                continue
            shown = shown_name(name)
            if shown != name:
                self._left_out.setdefault(commit, []).append(shown)
                continue
            self._names.add(name)
            tag = OldTag(name, bytes.fromhex(value.oid), value.peeled is not None)
            self._by_commit.setdefault(commit, []).append(tag)

    def of(self, commit: str) -> list[OldTag]:
        """Return the tags on a commit, in name order."""
        return sorted(self._by_commit.get(commit, []), key=lambda tag: tag.name)

    def remarks(self, commit: str) -> list[str]:
        """Return what is to be told of a commit's tags."""
        return [f"tag {name} is not UTF-8 and stays in git alone" for name in self._left_out.get(commit, [])]

    def identity(
        self, transaction: ReadTransaction, commit: str, tags: Sequence[OldTag], said: OldMetadata
    ) -> tuple[str, int, str | None]:
        """Return correlation ID, revision and prompt hash of a commit.

        Args:
            transaction: Sees the runs imported so far.
            commit: Its hex id.
            tags: Those of its tags that no other manifest has.
            said: What its ``metadata.json`` says.
        """
        found = [tag.name for tag in tags]
        correlations = [name for name in found if name.startswith(names.CORRELATION_PREFIX)]
        prompts = [name for name in found if name.startswith(names.PROMPT_PREFIX)]
        prompt_hash = said.prompt_hash
        if prompt_hash is None and prompts:
            prompt_hash = prompts[0].removeprefix(names.PROMPT_PREFIX) or None
        if correlations:
            return (*self._tagged(transaction, correlations, said), prompt_hash)
        return (*self._untagged(transaction, commit, said), prompt_hash)

    @staticmethod
    def _tagged(transaction: ReadTransaction, correlations: list[str], said: OldMetadata) -> tuple[str, int]:
        named = None if said.correlation_id is None else names.correlation_tag(said.correlation_id)
        tag = next((name for name in correlations if _split(name)[0] == named), correlations[0])
        base, revision = _split(tag)
        if said.correlation_id is not None and named == base:
            return said.correlation_id, revision
        try:
            correlation_id = names.unescape_id(base)
        except InvalidIdError:
            correlation_id = base
        if names.correlation_tag(correlation_id) == base:
            return correlation_id, revision
        return correlation_id, _next_revision(transaction, correlation_id)

    def _untagged(self, transaction: ReadTransaction, commit: str, said: OldMetadata) -> tuple[str, int]:
        short = commit[:_SHORT_OID_CHARS]
        correlation_id = said.correlation_id or f"git-{short}"
        taken = catalog.latest_revision(transaction, correlation_id) is not None
        if not taken and names.correlation_tag(correlation_id) in self._names:
            # Its tag was moved to a commit that comes later, which is what the ID has to lead to.
            correlation_id = f"{correlation_id}~{short}"
        return correlation_id, _next_revision(transaction, correlation_id)


def _split(tag: str) -> tuple[str, int]:
    """Return a correlation tag without its revision, and that."""
    base, mark, number = tag.rpartition("@")
    if mark and number.isascii() and number.isdecimal() and number == str(int(number)):
        revision = int(number)
        if _LEAST_LATER_REVISION <= revision < 2**32:
            return base, revision
    return tag, 1


def _next_revision(transaction: ReadTransaction, correlation_id: str) -> int:
    latest = catalog.latest_revision(transaction, correlation_id)
    return 1 if latest is None else latest[0] + 1

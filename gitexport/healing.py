"""A source for healing the store: the blobs that git holds.

Invariant: reads only; what it gives is checked by `cas.heal` against the digest before it enters the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cas.heal import Wanted
    from gitexport.repository import GitRepository


def git_source(repository: GitRepository) -> Callable[[Wanted], Iterable[bytes] | None]:
    """Return a source that asks a repository for a blob by its oid; one git process for each blob.

    An error of git reaches the healing as such, which then asks its next source.
    """

    def content(item: Wanted) -> Iterable[bytes] | None:
        if repository.missing_objects([item.oid.hex()]):
            return None
        return _chunks(repository, item.oid.hex())

    return content


def _chunks(repository: GitRepository, oid: str) -> Iterator[bytes]:
    for stream in repository.iter_object_bytes([oid]):
        if stream.kind == "blob":
            yield from stream

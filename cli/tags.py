"""Tags: the tag that a word points at, for the commands that go by tags.

Invariant: a tag stands for itself, whatever else is called so; every other word means what it means to `cas show`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cas import ArtifactStore


def tag_of(store: ArtifactStore, text: str) -> str:
    """Return the tag of the run that a word points at; of a rollback, the tag that it went back to.

    Args:
        store: The open store.
        text: A tag, or anything else that points at a run (`cas help names`).

    Raises:
        NotFoundError: Nothing is called that, near matches are in the hint; or the run has no tag.
        InvalidInputError: More than one id begins so.
    """
    from cas import catalog, names
    from cas.errors import NotFoundError
    from cli.shown import strings

    with store.environment.read() as transaction:
        if catalog.find_tag(transaction, names.check_id(text, "tag")) is not None:
            return text
    record = store.show(text)
    if "reverted_to" in record:
        return str(record["reverted_to"])
    tags = strings(record["tags"])
    if not tags:  # taken over from a repository in which it had none
        raise NotFoundError(
            f"the run {record['correlation_id']} has no tag, and a branch is taken back to a tag",
            subject=text,
            hint=f"`cas checkout {record['commit_sha']} DIR` writes its files; committed again, they get one.",
        )
    return tags[0]

"""Orders: the runs of a store as plain git commits, so that any tool can be told to make the same ones.

Invariant: author, time, message, files and tags come from the store's own manifests; whoever follows an order makes the
very ids that the store has promised.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cas import gitform, names, records
from cas.manifest import metadata_file_bytes, timestamp_s

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cas import ArtifactStore


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """One run as a git commit: everything an exporter has to know besides the files' content."""

    branch: str
    tags: tuple[str, ...]
    folder: tuple[str, ...]
    files: tuple[tuple[str, str], ...]  # name, path of the input file
    metadata_file: bytes
    message: str
    tag_message: str
    timestamp_s: int
    author: tuple[str, str]


def orders_of(store: ArtifactStore, paths: Mapping[str, Mapping[str, Path]]) -> list[Order]:
    """Return the orders of all runs of a store, in its own order.

    Args:
        store: An open store.
        paths: Correlation ID → name → input file.
    """
    made: list[Order] = []
    for sequence in range(1, int(str(store.stats()["manifests"])) + 1):
        with store.environment.read() as transaction:
            run, row = records.load_run(transaction, sequence)
        if run.parent is not None:
            raise AssertionError("the runs of this benchmark have a branch each")
        made.append(
            Order(
                branch=run.branch,
                tags=tuple(name for name, _ in row.tags),
                folder=(*names.ARTIFACT_ROOT.split("/"), names.task_directory(run.task_id)),
                files=tuple((entry.name, str(paths[run.correlation_id][entry.name])) for entry in run.files),
                metadata_file=metadata_file_bytes(run),
                message=gitform.message(run),
                tag_message=gitform.message(run).partition("\n")[0] + "\n",
                timestamp_s=timestamp_s(run),
                author=(run.author_name, run.author_email),
            )
        )
    return made

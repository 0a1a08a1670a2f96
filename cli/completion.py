"""Completion of IDs, tags, branches, file names and settings in bash, zsh and fish.

Invariant: quick, read-only and silent: whatever fails, nothing is offered and nothing is written. The newest names come
first where there are more than a person would read.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Final

import typer

from cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Generator

    from cas import ArtifactStore

_MOST_COUNT: Final = 60
_RECENT_COUNT: Final = 20
_LITERAL_SIGNS: Final = frozenset("_-.,:/@%+")


@contextlib.contextmanager
def _quiet_store(ctx: typer.Context) -> Generator[ArtifactStore | None, None, None]:
    """Open the store that the line so far means, or give None."""
    store: ArtifactStore | None = None
    with contextlib.suppress(Exception):
        session = ctx.ensure_object(Session)
        session.lock_wait_s = 0.0  # who pressed a key does not wait for a compaction
        store = session.open_for_reading()
    if store is None:
        yield None
        return
    with store, contextlib.suppress(Exception):
        yield store


def complete_ref(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer ``latest``, correlation IDs of recent runs, tags and branches."""
    found = ["latest"] if "latest".startswith(incomplete) else []
    with _quiet_store(ctx) as store:
        if store is not None:
            found += [str(record["correlation_id"]) for record in store.list_artifacts(limit=_RECENT_COUNT)]
            found += _tags(store, incomplete)
            found += _branches(store, incomplete)
    return _plain(found, incomplete)


def complete_tag(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer tags."""
    found: list[str] = []
    with _quiet_store(ctx) as store:
        if store is not None:
            found += _tags(store, incomplete)
    return _plain(found, incomplete)


def complete_branch(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer branches of the store, and main."""
    found = ["main"]
    with _quiet_store(ctx) as store:
        if store is not None:
            found += _branches(store, incomplete)
    return _plain(found, incomplete)


def complete_workflow(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the workflow IDs of recent runs."""
    found: list[str] = []
    with _quiet_store(ctx) as store:
        if store is not None:
            found += [str(record["workflow_id"]) for record in store.list_artifacts(limit=10 * _RECENT_COUNT)]
    return _plain(found, incomplete)


def complete_file_name(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the files of the run that stands before on the line."""
    found: list[str] = []
    ref = ctx.params.get("ref")
    with _quiet_store(ctx) as store:
        if store is not None and isinstance(ref, str):
            found += [str(file["name"]) for file in store.list_files(ref)]
    return _plain(found, incomplete)


def _tags(store: ArtifactStore, prefix: str) -> list[str]:
    from cas import catalog

    with store.environment.read() as transaction:
        return [name for name, _ in itertools.islice(catalog.iter_tags(transaction, prefix), _MOST_COUNT)]


def _branches(store: ArtifactStore, prefix: str) -> list[str]:
    from cas import catalog

    with store.environment.read() as transaction:
        return [name for name, _ in itertools.islice(catalog.iter_branches(transaction, prefix), _MOST_COUNT)]


def _plain(found: list[str], incomplete: str) -> list[str]:
    """Return each once, without those that a shell would not take literally: it puts what is offered into the line."""
    fitting = (name for name in found if name.startswith(incomplete) and _is_literal(name))
    return list(dict.fromkeys(fitting))[:_MOST_COUNT]


def _is_literal(name: str) -> bool:
    """Tell whether bash, zsh and fish take a name for itself: no blank, quote, glob, expansion or option."""
    return not name.startswith("-") and all(sign.isalnum() or sign in _LITERAL_SIGNS for sign in name)

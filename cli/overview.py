"""``cas`` alone: where you are, and the next useful command.

Invariant: quick and read-only; a place without a store is an answer, not an error.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cli.figures import (
    age_text,
    count_text,
    duration_text,
    list_of,
    mapping_of,
    number_of,
    size_text,
    whole_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cas import ArtifactStore, ArtifactStoreConfig
    from cas.records import Record
    from cli.output import Content
    from cli.session import Session


def show_overview(session: Session) -> None:
    """Write the overview of the store that the settings mean here."""
    from cas.lmdbenv import is_store

    config = session.settings.config
    place: dict[str, object] = {"store_path": str(config.store_dir), "repo_path": str(config.repo_path)}
    if not is_store(config.store_dir):
        _show_nothing(session, place)
        return
    with session.open_for_reading() as store:
        state = _state(store)
    following = _next_command(state, config)
    if session.as_json:
        session.output.document({**place, "exists": True, **state, "next": following})
        return
    session.output.fields(_fields(place, state, session.now_us()))
    session.output.note()
    session.output.note(f"next: {following}")


def _show_nothing(session: Session, place: Mapping[str, object]) -> None:
    if session.as_json:
        session.output.document({**place, "exists": False, "next": "cas init"})
        return
    session.output.line(f"There is no store at {place['store_path']}.")
    session.output.line()
    session.output.line("cas init    makes one here")
    session.output.line("cas demo    shows in a folder of its own what it is for")
    session.output.line("cas --help  lists the commands")


def _state(store: ArtifactStore) -> dict[str, object]:
    from cas.lmdbenv import SUSPECT_FILE
    from gitexport import export_status

    newest: list[Record] = store.list_artifacts(limit=1)
    status = export_status(store)
    return {
        "stats": store.stats(),
        "last_commit": newest[0] if newest else None,
        "queued": status["queued"],
        "queued_age_s": status["queued_age_s"],
        "awaiting_push": status["awaiting_push"],
        "parked": len(list_of(status["parked"])),
        "last_export_at_us": status["last_export_at_us"],
        "last_push_at_us": status["last_push_at_us"],
        "suspect": (store.environment.directory / SUSPECT_FILE).exists(),
        "pushes": store.config.auto_push,
    }


def _next_command(state: Mapping[str, object], config: ArtifactStoreConfig) -> str:
    if state["suspect"]:
        return "cas verify --full"
    if state["parked"]:
        return "cas export status"
    if state["last_commit"] is None:
        return "cas commit --workflow W --task T --correlation-id ID FILES..."
    if state["queued"]:
        return "cas export" if _may_be_repository(config.repo_path) else f"git init {config.repo_path}"
    if state["awaiting_push"] and state["pushes"]:
        return "cas export" if _has_remote(config) else "cas doctor"
    return "cas list"


def _may_be_repository(path: Path) -> bool:
    """Tell it by what lies there, without asking git: a repository with a work tree, or a bare one."""
    # Unlike a path's own methods, these say no where one may not look.
    return os.path.exists(path / ".git") or os.path.isfile(path / "HEAD")  # noqa: PTH110, PTH113


def _has_remote(config: ArtifactStoreConfig) -> bool:
    from cas.errors import ArtifactStoreError
    from gitexport.options import git_options
    from gitexport.repository import GitRepository

    try:
        repository = GitRepository.open(config.repo_path, git_options(config))
        return config.remote_name in repository.remotes()
    except ArtifactStoreError:
        return False  # `cas doctor` says what is the matter with git


def _fields(
    place: Mapping[str, object], state: Mapping[str, object], now_us: int
) -> list[tuple[str, Content | Sequence[Content]]]:
    from cli.output import Cell
    from cli.shown import ago

    stats = mapping_of(state["stats"])
    commits, files = whole_of(stats["manifests"]), whole_of(stats["blobs"])
    stored = size_text(number_of(stats["stored_bytes"]))
    fields: list[tuple[str, Content | Sequence[Content]]] = [
        ("store", Cell(str(place["store_path"]), "name")),
        ("exports to", str(place["repo_path"])),
        ("holds", f"{count_text(commits, 'commit')}, {count_text(files, 'distinct file')}, {stored}"),
        ("last commit", _last_commit(state["last_commit"], now_us)),
        ("last export", ago(state["last_export_at_us"], now_us)),
        ("last push", ago(state["last_push_at_us"], now_us)),
        ("backlog", _backlog(state)),
        ("disk", f"{size_text(number_of(stats['disk_free_bytes']))} free"),
    ]
    if state["suspect"]:
        fields.append(("state", Cell("an earlier write failed; commits are refused", "bad")))
    return fields


def _last_commit(record: object, now_us: int) -> Content | Sequence[Content]:
    from cli.output import Cell

    run = mapping_of(record)
    if not run:
        return "never"
    place = f" ({run['workflow_id']}/{run['task_id']}), {age_text(whole_of(run['created_at_us']), now_us)}"
    return (Cell(str(run["correlation_id"]), "name"), place)


def _backlog(state: Mapping[str, object]) -> Content | Sequence[Content]:
    from cli.output import Cell

    parts: list[Content] = []
    if state["queued"]:
        age = (
            f" for {duration_text(number_of(state['queued_age_s']))}"
            if state["queued_age_s"] is not None
            else ""
        )
        parts.append(Cell(f"{state['queued']} queued{age}", "warn"))
    if state["awaiting_push"]:
        parts.append(Cell(f"{state['awaiting_push']} awaiting push", "warn" if state["pushes"] else ""))
    if state["parked"]:
        parts.append(Cell(f"{state['parked']} parked", "bad"))
    joined: list[Content] = []
    for part in parts:
        joined += [", ", part] if joined else [part]
    return joined or Cell("none", "good")

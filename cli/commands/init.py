"""``cas init``: make a store.

Invariant: an existing store is left as it is; a folder with something else in it is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from cas import ArtifactStoreConfig
    from cas.config import ObjectFormat

app = new_verb("init")


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas init",
        "cas init ~/research",
        "cas init --repo /srv/git/runs.git --store /var/lib/cas/runs",
    ),
)
def init(
    ctx: typer.Context,
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Project folder; the store becomes DIR/.cas.  [default: .]"),
    ] = None,
) -> None:
    """Make a store.

    The store is a folder of its own, `.cas` beside your files unless --store or a setting says otherwise. It needs a
    local disk; the git repository that exports go to may be anywhere, and need not exist yet. The store folder hides
    itself from `git status`. Doing it again changes nothing.
    """
    from cas import ArtifactStore
    from cas.lmdbenv import is_store
    from cli import settings

    session = ctx.ensure_object(Session)
    if directory is not None:
        session.flags.setdefault("repo_path", (str(directory), "DIR"))
    loaded = settings.load(session.flags, config_file=session.config_file, search_upward=False)
    config = loaded.config.replace(raise_errors=True)
    created = not is_store(config.store_dir)
    with ArtifactStore(config, clock=session.clock) as store:
        report: dict[str, object] = {
            "created": created,
            "store_path": str(config.store_dir),
            "repo_path": str(config.repo_path),
            "store_id": store.meta.store_id,
            "object_format": store.object_format,
        }
        warning = _format_warning(config, store.object_format)
        if warning:
            report["warnings"] = [warning]
    if session.as_json:
        session.output.document(report)
        return
    session.output.line(
        "made a store at " if created else "there is a store already at ", str(config.store_dir)
    )
    session.output.line(f"exports will go to {config.repo_path}")
    if warning:
        session.output.warn(warning)
    session.output.note("next: cas commit --workflow W --task T --correlation-id ID FILES...")


def _format_warning(config: ArtifactStoreConfig, object_format: ObjectFormat) -> str | None:
    """Return what to say of a repository whose ids are of another kind; it need not be there, nor git, for a store."""
    from cas.errors import ArtifactStoreError
    from gitexport.options import git_options
    from gitexport.repository import GitRepository

    try:
        repository = GitRepository.open(config.repo_path, git_options(config))
    except ArtifactStoreError:
        return None
    if repository.object_format == object_format:
        return None
    return (
        f"{config.repo_path} uses {repository.object_format} ids, the store {object_format}, so no run can be exported "
        f"there: remove {config.store_dir} while it is empty and run "
        f"`cas init -o object_format={repository.object_format}`, or export to another repository"
    )

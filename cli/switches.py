"""Switches: the options that every command takes, before or after its name.

Invariant: a switch means the same everywhere; a later one overrides an earlier one. The options are made once and
added to each command when it is loaded, so that no command can forget or change one.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.quantities import parse_duration
from cli.session import Session

SWITCH_NAMES: Final = frozenset({"as_json", "quiet", "lock_wait", "repo", "store", "config_file", "options"})


def _remember(ctx: typer.Context, name: str, value: object) -> None:
    if value not in (None, False):
        setattr(ctx.ensure_object(Session), name, value)


def _set_json(ctx: typer.Context, value: bool) -> None:
    _remember(ctx, "as_json", value)


def _set_quiet(ctx: typer.Context, value: bool) -> None:
    _remember(ctx, "quiet", value)


def _set_lock_wait(ctx: typer.Context, value: float | None) -> None:
    if value is not None:
        ctx.ensure_object(Session).lock_wait_s = value


def _set_config_file(ctx: typer.Context, value: Path | None) -> None:
    _remember(ctx, "config_file", value)


def _set_repo(ctx: typer.Context, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Session).flags["repo_path"] = (value, "--repo")


def _set_store(ctx: typer.Context, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Session).flags["store_path"] = (value, "--store")


def _set_options(ctx: typer.Context, value: list[str] | None) -> None:
    for item in value or ():
        key, mark, text = item.partition("=")
        if not mark or not key:
            raise typer.BadParameter(f"{item!r} is not of the form KEY=VALUE")
        ctx.ensure_object(Session).flags[key] = (text, f"-o {key}")


_LOCK_WAIT: Final[Any] = typer.Option(
    "--lock-wait",
    "--wait",
    metavar="TIME",
    parser=parse_duration,
    callback=_set_lock_wait,
    expose_value=False,
    show_default=False,
    help="How long to wait for another process at work on this store.  "
    "[default: setting open_timeout to open it, else 0s]",
)


def _switches(
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            callback=_set_json,
            expose_value=False,
            help="Write JSON to stdout: one document, or JSON Lines of long work; errors as JSON to stderr.",
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", callback=_set_quiet, expose_value=False, help="No remarks and no progress."
        ),
    ] = False,
    lock_wait: Annotated[
        float | None,
        _LOCK_WAIT,
    ] = None,
    repo: Annotated[
        str | None,
        typer.Option(
            "--repo",
            metavar="DIR",
            callback=_set_repo,
            expose_value=False,
            help="Git repository that exports go to (setting repo_path); the store is DIR/.cas unless --store says.",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="DIR",
            callback=_set_store,
            expose_value=False,
            help="Folder of the store (setting store_path).",
        ),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            callback=_set_config_file,
            expose_value=False,
            help="Read this file instead of the nearest cas.toml or pyproject.toml.",
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-o",
            metavar="KEY=VALUE",
            callback=_set_options,
            expose_value=False,
            help="Set any setting for this call; `cas help config` lists them.",
        ),
    ] = None,
) -> None:
    """Carry the options; never called."""


@functools.cache
def switch_parameters() -> tuple[Any, ...]:
    """Return the switches as parameters that can be added to any command."""
    carrier = typer.Typer(add_completion=False, rich_markup_mode=None)
    carrier.command()(_switches)
    return tuple(typer.main.get_command(carrier).params)

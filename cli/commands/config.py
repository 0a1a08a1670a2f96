"""``cas config``: the settings, where each comes from, and a file to begin with.

Invariant: shows what a command would use in this place; a credential helper's or command's text is shown as it is set.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.figures import list_of, size_text
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from cli.output import Content
    from cli.settings import Setting

app = new_verb(
    "config",
    group=True,
    epilog=examples("cas config show", "cas config show --origin", "cas config init", "cas help config"),
)


@app.callback()
def config(ctx: typer.Context) -> None:
    """Show the settings and where each comes from.

    A flag goes before an environment variable CAS_<KEY>, that before cas.toml or [tool.cas] of pyproject.toml in the
    nearest folder upward, and that before the default. `cas config` alone is `cas config show`.
    """
    if ctx.invoked_subcommand is None:
        show(ctx, origin=False)


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas config show", "cas config show --origin", "CAS_DURABILITY=group cas config show --json"
    ),
)
def show(
    ctx: typer.Context,
    origin: Annotated[
        bool,
        typer.Option("--origin", help="Show where each value comes from: default, file, variable or flag."),
    ] = False,
) -> None:
    """Show every setting as a command would use it here."""
    from cli.output import Cell, Column

    session = ctx.ensure_object(Session)
    loaded = session.settings
    if session.as_json:
        session.output.document(
            {
                "file": None if loaded.file is None else str(loaded.file),
                "settings": {
                    item.key: {"value": _plain(_open_value(item)), "origin": item.origin}
                    for item in loaded.settings
                },
            }
        )
        return
    columns = [Column("SETTING"), Column("VALUE", least=12, folds=True)]
    if origin:
        columns.append(Column("FROM"))
    rows: list[list[Content]] = []
    for item in loaded.settings:
        changed = item.origin != "default"
        row: list[Content] = [Cell(item.key, "name" if changed else ""), _shown(item)]
        source = loaded.file.name if loaded.file and item.origin == str(loaded.file) else item.origin
        rows.append([*row, Cell(source, "" if changed else "dim")] if origin else row)
    if origin and loaded.file is not None:
        session.output.fields([(loaded.file.name, str(loaded.file))])
        session.output.line()
    session.output.table(columns, rows)


@app.command(
    cls=VerbCommand, name="init", epilog=examples("cas config init", "cas config init settings/cas.toml")
)
def init_file(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write; it must not exist.")] = Path(
        "cas.toml"
    ),
) -> None:
    """Write a file with every setting, its meaning and its default, all commented out."""
    from cas.errors import InvalidFileError
    from cli.topics import settings_file_text

    session = ctx.ensure_object(Session)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(settings_file_text())
    except FileExistsError as error:
        raise InvalidFileError(
            f"{file} exists already", subject=str(file), hint="Edit it, or name another file."
        ) from error
    except OSError as error:
        raise InvalidFileError(f"{file} cannot be written: {error.strerror}", subject=str(file)) from error
    if session.as_json:
        session.output.document({"file": str(file.absolute())})
    else:
        session.output.line(f"wrote {file}")


def _open_value(item: Setting) -> object:
    """Return a setting's value as it may be shown: a URL as its scheme and host."""
    if item.key != "on_exported_url" or item.value is None:
        return item.value
    from gitexport.webhook import masked

    return masked(str(item.value))


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return list_of(value) if list_of(value) or value == () else value


def _shown(item: Setting) -> str:
    if item.value is None or item.value == ():
        return "-"
    if isinstance(item.value, bool):
        return "true" if item.value else "false"
    if list_of(item.value):
        return ", ".join(str(part) for part in list_of(item.value))
    if item.key.endswith("_bytes") and isinstance(item.value, int):
        return f"{item.value} ({size_text(item.value)})"
    return str(_open_value(item))

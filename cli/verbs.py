"""Verbs: how a command's module becomes a command with help, examples and the common switches.

A module ``cli/commands/<verb>.py`` holds ``app``, a Typer with one command, or with a callback and further commands.
Invariant: every command made here takes the switches and lists them apart from its own options.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from cli.switches import SWITCH_NAMES, switch_parameters

# Lines longer than this are hard to read, however wide the terminal is.
LIMITS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def _write_parameters(command: Any, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  typer's own types are private
    sections: dict[str, list[tuple[str, str]]] = {
        "Arguments": [],
        "Options": [],
        "Options of every command": [],
    }
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is None:
            continue
        if param.param_type_name == "argument":
            sections["Arguments"].append((record[0].partition(" <")[0].strip("[]"), record[1]))
        elif param.name in SWITCH_NAMES or param.name == "help":
            sections["Options of every command"].append(record)
        else:
            sections["Options"].append(record)
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


class VerbCommand(TyperCommand):
    """A command whose help sets its own options apart from the switches."""

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write arguments, options and switches, each under a heading."""
        _write_parameters(self, ctx, formatter)


class VerbGroup(TyperGroup):
    """A command with further commands, such as ``cas export status``."""

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write options, switches and the further commands, each under a heading."""
        _write_parameters(self, ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, (each.help or "").partition("\n\n")[0]) for name, each in self.commands.items()]
            )


def new_verb(name: str, *, group: bool = False, epilog: str | None = None) -> typer.Typer:
    """Return the Typer that a command's module fills.

    Args:
        name: The verb.
        group: Whether further commands follow.
        epilog: Examples of a group; a single command gives its own.
    """
    return typer.Typer(
        name=name,
        cls=VerbGroup if group else None,
        add_completion=False,
        rich_markup_mode=None,
        invoke_without_command=group,
        context_settings=LIMITS,
        epilog=epilog,
        pretty_exceptions_enable=False,
    )


def examples(*lines: str) -> str:
    """Return the end of a help text: a heading and lines that are not wrapped."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


@functools.cache
def load_verb(name: str) -> Any:  # noqa: ANN401
    """Return the command of a verb, with the switches added to it and to its further commands."""
    module = importlib.import_module(f"cli.commands.{name}")
    command = typer.main.get_command(module.app)
    command.name = name
    for each in (command, *getattr(command, "commands", {}).values()):
        each.params.extend(switch_parameters())
    return command

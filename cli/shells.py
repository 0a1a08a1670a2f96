"""Shells: the script by which bash, zsh or fish asks ``cas`` for completions, shown or installed.

Invariant: the shell is named by the caller, never guessed; installing writes to the home folder only, in the files that
the shell reads, and nowhere else. What is offered is `cli.completion`'s business.
"""

from __future__ import annotations

from typing import Final

import typer

from cli.session import Session

SHELLS: Final = ("bash", "zsh", "fish")
COMPLETE_VARIABLE: Final = "_CAS_COMPLETE"


def _checked(shell: str) -> str:
    if shell not in SHELLS:
        raise typer.BadParameter(f"{shell!r} is none of {', '.join(SHELLS)}")
    return shell


def show_completion(ctx: typer.Context, shell: str | None) -> None:
    """Write the script of a shell to stdout, and end."""
    if shell is None or ctx.resilient_parsing:
        return
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # not in its __all__

    script = get_completion_script(prog_name="cas", complete_var=COMPLETE_VARIABLE, shell=_checked(shell))
    ctx.ensure_object(Session).output.block(script)
    raise typer.Exit(0)


def install_completion(ctx: typer.Context, shell: str | None) -> None:
    """Put the script of a shell where it is read at the next start, and end."""
    if shell is None or ctx.resilient_parsing:
        return
    from typer.completion import install  # type: ignore[attr-defined]  # not in its __all__

    _, path = install(shell=_checked(shell), prog_name="cas", complete_var=COMPLETE_VARIABLE)
    output = ctx.ensure_object(Session).output
    output.line(f"installed {shell} completion in {path}")
    output.note("It takes effect in the next shell.")
    raise typer.Exit(0)

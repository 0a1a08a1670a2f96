"""The root of ``cas``: finds a verb's module, runs it, and turns every error into one line, a hint and an exit code.

Invariant: a command's module is imported when the command is called, not before; ``cas --help`` imports none of them
and nothing of the store. Whatever happens, the process ends with a code of `cli.failures` and without a trace on the
terminal, unless CAS_DEBUG asks for one.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperGroup

from cli import failures
from cli.session import Session
from cli.shells import install_completion, show_completion
from cli.switches import switch_parameters
from cli.verbs import LIMITS, load_verb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Verb(NamedTuple):
    """A command: where it stands in the help, and the line it has there."""

    section: str
    summary: str


VERBS: Final = {
    "init": Verb("Set up", "Make a store."),
    "config": Verb("Set up", "Show the settings and where each comes from."),
    "doctor": Verb("Set up", "Check everything the store needs, and say what to do."),
    "demo": Verb("Set up", "Run a small story in a folder of its own."),
    "commit": Verb("Runs", "Store the files of one run."),
    "list": Verb("Runs", "List runs, newest first."),
    "show": Verb("Runs", "Show one run."),
    "cat": Verb("Runs", "Write one file of a run to stdout."),
    "checkout": Verb("Runs", "Write the files of a run to a folder."),
    "log": Verb("Runs", "Show the history of a branch."),
    "diff": Verb("Runs", "Show what differs between two runs."),
    "browse": Verb("Runs", "Look at runs in a browser."),
    "revert": Verb("Runs", "Take a branch back to a tag by a new commit."),
    "listen": Verb("Runs", "Store the runs whose tests pass, as events tell."),
    "export": Verb("Git", "Bring queued runs into git, and push them."),
    "import": Verb("Git", "Take over a repository of the replaced system."),
    "pin": Verb("Keeping", "Keep a run from being forgotten, or list what is pinned."),
    "unpin": Verb("Keeping", "Take the pin off a run."),
    "forget": Verb("Keeping", "Forget runs, by name or by policy."),
    "undelete": Verb("Keeping", "Bring forgotten runs back, or list them."),
    "gc": Verb("Keeping", "Remove the files of forgotten runs, and whatever else nothing references."),
    "backup": Verb("Keeping", "Write a consistent, verified copy of the store into a new folder."),
    "restore": Verb("Keeping", "Make the store from a backup."),
    "verify": Verb("Care", "Check that the store holds what it acknowledged."),
    "scan": Verb("Care", "Look for credentials in files."),
    "purge": Verb("Care", "Take a file with a credential out of the store for good."),
    "stats": Verb("Care", "Show sizes, counts and the export backlog."),
    "metrics": Verb("Care", "Write counts and figures in Prometheus text."),
    "alerts": Verb("Care", "Say what is wrong with commits and pushes."),
    "help": Verb("Care", "Explain a command or a topic."),
}
_EPILOG: Final = """
\b
Examples:
  cas init
  cas commit --workflow wf --task t1 --correlation-id abc123 a.py trades.csv
  cas list --where "net_pnl > 100"
  cas export

`cas` alone shows where you are; `cas help` lists topics that explain more.
"""


class Root(TyperGroup):
    """The command ``cas``, whose verbs are loaded on demand."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002  typer's own type is private
        """Return the verbs in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002
        """Return a verb's command, or None."""
        return load_verb(cmd_name) if cmd_name in VERBS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002
        """Write the verbs by section, without loading them."""
        for section in dict.fromkeys(verb.section for verb in VERBS.values()):
            with formatter.section(section):
                width = max(map(len, VERBS))
                formatter.write_dl(
                    [
                        (name.ljust(width), verb.summary)
                        for name, verb in VERBS.items()
                        if verb.section == section
                    ]
                )

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:  # noqa: ANN401
        """Complete verbs without loading them, and options as ever."""
        from typer._click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=verb.summary)
            for name, verb in VERBS.items()
            if name.startswith(incomplete)
        ]
        return found if found or not incomplete.startswith("-") else super().shell_complete(ctx, incomplete)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401
        """Return the verb that was typed, or say which one may have been meant."""
        if args[0] not in VERBS and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(args[0], VERBS, 2, cutoff=0.6)
            meant = f" Did you mean {' or '.join(near)}?" if near else ""
            ctx.fail(f"There is no command {args[0]!r}.{meant}")
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Run a command line and end the process with its exit code."""
        del prog_name, standalone_mode, windows_expand_args
        words = list(sys.argv[1:] if args is None else args)
        session = extra.setdefault("obj", Session())
        self._main_shell_completion({}, "cas", complete_var)

        def call() -> None:
            with self.make_context("cas", words, **extra) as context:
                self.invoke(context)

        # The words are looked at as well: a line that cannot be parsed has set no switch.
        sys.exit(run_to_exit_code(call, session, as_json="--json" in words))


def run_to_exit_code(call: Callable[[], None], session: Session, *, as_json: bool = False) -> int:
    """Run a command, tell its error, and return its exit code."""
    from cli.report import tell

    try:
        call()
        session.output.flush()
    except typer.Exit as error:
        return _settled(error.exit_code)
    except BrokenPipeError:
        _drop_output()
        return failures.BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort, Exception) as error:  # noqa: BLE001  the last station of every error
        session.as_json = session.as_json or as_json
        code = failures.BROKEN_PIPE
        with contextlib.suppress(BrokenPipeError):
            code = tell(error, session)
        return _settled(code)
    return failures.OK


def _settled(code: int) -> int:
    """Return an exit code once the output is handed on; that it cannot be changes no code but that of success."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop_output()
        return code or (failures.BROKEN_PIPE if isinstance(error, BrokenPipeError) else failures.STORAGE)
    return code


def _open_closed_streams() -> None:
    """Give streams that were closed at the start a place to go.

    A file of the store would get such a number else, and what is written to the stream.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is that one
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8"))


def _drop_output() -> None:
    """Give the interpreter somewhere to flush to when it ends, as the reader is gone."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _show_version(ctx: typer.Context, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("cas-gitexport")
        except PackageNotFoundError:  # run from a source tree that is not installed
            from cas import __version__ as found
        session = ctx.ensure_object(Session)
        if session.as_json:
            session.output.document({"version": found})
        else:
            session.output.line(f"cas {found}")
        raise typer.Exit(0)


app = typer.Typer(
    name="cas",
    cls=Root,
    rich_markup_mode=None,
    invoke_without_command=True,
    context_settings=LIMITS,
    epilog=_EPILOG,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def cas(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001  handled by its callback
        bool, typer.Option("--version", callback=_show_version, help="Show the version and exit.")
    ] = False,
    show: Annotated[  # noqa: ARG001  handled by its callback
        str | None,
        typer.Option(
            "--show-completion",
            metavar="SHELL",
            callback=show_completion,
            help="Write the completion script of bash, zsh or fish and exit.",
        ),
    ] = None,
    install: Annotated[  # noqa: ARG001  handled by its callback
        str | None,
        typer.Option(
            "--install-completion",
            metavar="SHELL",
            callback=install_completion,
            help="Install that script for this user and exit.",
        ),
    ] = None,
) -> None:
    """Store backtest runs durably, under git commit ids that are known before git sees them.

    A run is a set of files with metadata. `cas commit` stores it on this machine in one durable step; `cas export`
    brings whole batches into git later and pushes them.
    """
    if ctx.invoked_subcommand is None:
        from cli.overview import show_overview

        show_overview(ctx.ensure_object(Session))


def root_command() -> Root:
    """Return the command ``cas`` with its switches."""
    command = typer.main.get_command(app)
    if not isinstance(command, Root):
        raise TypeError("the root command lost its class")
    # Typer's own options for completion guess the shell from the running processes; ours are told.
    guessing = {"install_completion", "show_completion"}
    command.params = [param for param in command.params if param.name not in guessing]
    command.params.extend(switch_parameters())
    return command


def main(arguments: Sequence[str] | None = None, session: Session | None = None) -> int:
    """Run ``cas`` and return its exit code; the entry point of the script.

    Args:
        arguments: The words after ``cas``; None means those of the process.
        session: State to begin with; injected in tests.
    """
    _open_closed_streams()
    try:
        root_command().main(args=arguments, obj=session or Session())
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else failures.OK
    return failures.OK

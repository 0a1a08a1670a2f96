"""``cas browse``: a page on this machine to look at runs with a browser.

Invariant: read-only; the address is told once the server listens, and it is told nowhere but on stdout, since whoever
knows it may read the store. Ends cleanly on SIGTERM and Ctrl-C.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from cli.browse.server import Server

app = new_verb("browse")

_LAST_PORT = (1 << 16) - 1


@app.command(
    cls=VerbCommand,
    epilog=examples("cas browse", "cas browse --port 8765 --no-open", "cas browse --json --no-open"),
)
def browse(
    ctx: typer.Context,
    port: Annotated[
        int,
        typer.Option(
            "--port", min=0, max=_LAST_PORT, metavar="N", help="Port to listen on; 0 takes a free one."
        ),
    ] = 0,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Name or address to listen on; others than this machine's own let other machines in.",
        ),
    ] = "127.0.0.1",
    open_: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open",
            show_default=False,
            help="Open the page in a browser.  [default: when stdout is a terminal and there is a screen]",
        ),
    ] = None,
) -> None:
    """Look at runs in a browser: a page served on this machine, read-only.

    Runs with filter and order by any metric, a run's files, code, curves and trades, two runs compared, histories of
    branches, the export. Prints the address, which holds a token of this start; keep it to yourself. With --json url,
    host and port are one line. Ends on SIGTERM or Ctrl-C.
    """
    from cli import settings
    from cli.signals import stop_signal

    server_type = _server_type()
    session = ctx.ensure_object(Session)
    output = session.output
    with session.open_for_reading() as store, stop_signal() as stopping:
        server = server_type(store, host, port, _teller(session))
        server.start()
        try:
            if session.as_json:
                output.event("serving", {"url": server.url, "host": host, "port": server.port})
            else:
                output.line(server.url)
            output.flush()
            if server.is_open_to_others:
                output.warn("other machines can reach this address, and what they get is not encrypted")
            output.note("Whoever has this address may read the store. Ctrl-C ends it.")
            if open_ is None:
                open_ = output.is_terminal and not session.as_json and settings.has_screen()
            with _opened(server.url) if open_ else contextlib.nullcontext():
                stopping.wait_for_ever()
        finally:
            server.stop()


def _server_type() -> type[Server]:
    from cas.errors import ConfigError

    try:
        from cli.browse.server import Server as server_type  # noqa: N813
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the package {(error.name or '').partition('.')[0]} is not installed",
            subject="browse",
            hint="pip install 'cas-gitexport[browse]'",
        ) from error
    return server_type


def _teller(session: Session) -> Callable[[BaseException], None]:
    """Return what tells an unforeseen error at the terminal, with its trace when traces are asked for."""
    import traceback

    from cli import settings

    def tell(error: BaseException) -> None:
        session.output.warn(f"a page failed: {type(error).__name__}; CAS_DEBUG=1 shows the trace")
        if settings.shows_traces():
            session.output.traceback("".join(traceback.format_exception(error)))

    return tell


@contextlib.contextmanager
def _opened(url: str) -> Generator[None]:
    """Open an address in the user's browser while the block runs.

    By way of a file that the user alone can read: the words of a process are shown to everyone on the machine.
    """
    import tempfile
    import webbrowser
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="cas-browse-") as folder:
        page = Path(folder) / "open.html"
        page.touch(mode=0o600)
        page.write_text(
            f'<!doctype html><meta http-equiv="refresh" content="0; url={url}">', encoding="utf-8"
        )
        webbrowser.open(page.as_uri())
        yield

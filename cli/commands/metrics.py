"""``cas metrics``: the store's counts and figures in Prometheus text, once, into a file, or served.

Invariant: a file is replaced whole or stays as it was; serving reads the store only when it is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from cas.lmdbenv import Environment

app = new_verb("metrics")

_FILE_MODE = 0o644  # the exporter that collects such files runs as another user


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas metrics",
        "cas metrics --textfile /var/lib/node_exporter/cas.prom",
        "cas metrics --serve :9464",
    ),
)
def metrics(
    ctx: typer.Context,
    textfile: Annotated[
        Path | None,
        typer.Option(
            "--textfile", metavar="FILE", help="Write to this file, replaced at once, for the node exporter."
        ),
    ] = None,
    serve: Annotated[
        str | None,
        typer.Option(
            "--serve",
            metavar="[HOST]:PORT",
            help="Serve /metrics until stopped; without HOST on this machine only.",
        ),
    ] = None,
) -> None:
    """Write counts and figures in Prometheus text.

    Counts are those since the store was made, added up over all processes; they never fall. With --json the text
    stands under "text"; of --serve it tells the address, in one line.
    """
    from cas.exposition import render

    session = ctx.ensure_object(Session)
    if textfile is not None and serve is not None:
        raise typer.BadParameter("--textfile and --serve exclude each other")
    address = None if serve is None else _parse_address(serve)
    with session.open_for_reading() as store:
        if address is not None:
            _serve(session, store.environment, address)
            return
        text = render(store.environment, store.now_us)
    if textfile is not None:
        _replace(textfile, text)
    elif session.as_json:
        session.output.document({"text": text.decode()})
    else:
        session.output.block(text.decode())


def _parse_address(text: str) -> tuple[str, int]:
    host, mark, port = text.rpartition(":")
    if not mark or not port.isdecimal() or not 0 <= int(port) < 1 << 16:
        raise typer.BadParameter(f"{text!r} is not of the form :PORT or HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def _replace(path: Path, text: bytes) -> None:
    import os
    import tempfile

    from cas.errors import InvalidInputError

    try:
        # Not ending in .prom, so that the collector does not read it half-written.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".writing", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                os.fchmod(file.fileno(), _FILE_MODE)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error.strerror}", subject=str(path)) from error


def _serve(session: Session, environment: Environment, address: tuple[str, int]) -> None:
    from cas.errors import InvalidInputError
    from cas.exposition import new_registry
    from cli.signals import stop_signal

    registry = new_registry(environment, session.now_us)
    from prometheus_client import start_http_server

    with stop_signal() as stopping:  # before anybody is told that it serves, and so may stop it
        try:
            server, thread = start_http_server(address[1], addr=address[0], registry=registry)
        except OSError as error:
            raise InvalidInputError(f"cannot serve on {address[0]}:{address[1]}: {error.strerror}") from error
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        url = f"http://{host}:{server.server_port}/metrics"
        if session.as_json:
            session.output.event("serving", {"url": url, "host": address[0], "port": server.server_port})
        else:
            session.output.note(f"serving {url}")
        stopping.wait_for_ever()
        server.shutdown()
        server.server_close()
        thread.join()

"""``cas cat``: one file of a run to stdout, byte for byte.

Invariant: stdout holds the stored bytes and nothing else; a damaged file ends with an error code, whatever was written.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cli.completion import complete_file_name, complete_ref
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

app = new_verb("cat")


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas cat latest trades.csv",
        "cas cat abc123 strategy.py > strategy.py",
        "cas cat abc123 metadata.json",
    ),
)
def cat(
    ctx: typer.Context,
    ref: Annotated[
        str,
        typer.Argument(metavar="REF", help="Which run; see `cas help names`.", autocompletion=complete_ref),
    ],
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of the file in the run.", autocompletion=complete_file_name
        ),
    ],
) -> None:
    """Write one file of a run to stdout, byte for byte.

    The bytes are checked against their digest while they are written; with damage the command fails, so look at the
    exit code before you use the output. With --json the content is Base64.
    """
    session = ctx.ensure_object(Session)
    with session.open_for_reading() as store:
        if session.as_json:
            import base64

            content = store.read_file(ref, name)
            encoded = base64.b64encode(content).decode("ascii")
            session.output.document({"ref": ref, "name": name, "size_bytes": len(content), "base64": encoded})
        else:
            session.output.raw(store.iter_file(ref, name))

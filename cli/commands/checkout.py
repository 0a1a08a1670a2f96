"""``cas checkout``: the files of a run in a folder.

Invariant: the folder is complete and verified, or as it was before; without ``--force`` nothing is replaced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.completion import complete_ref
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

app = new_verb("checkout")


@app.command(
    cls=VerbCommand, epilog=examples("cas checkout latest out", "cas checkout corr_abc123@2 /tmp/run --force")
)
def checkout(
    ctx: typer.Context,
    ref: Annotated[
        str,
        typer.Argument(metavar="REF", help="Which run; see `cas help names`.", autocompletion=complete_ref),
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make; it may exist empty.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace the folder with everything that is in it.")
    ] = False,
    no_sync: Annotated[
        bool,
        typer.Option("--no-sync", help="Do not wait for the disk; a power cut may leave files empty."),
    ] = False,
) -> None:
    """Write the files of a run to a folder.

    Every file is checked against its digest and brought to the disk before the folder appears under its name: it is
    complete, or it is as it was, also after a power cut. For a rollback the files are those it went back to.
    Even --force never replaces a folder that is or holds the store, a git repository or the current folder.
    """
    from cli.figures import count_text

    session = ctx.ensure_object(Session)
    with session.open_for_reading() as store, session.output.progress() as progress:
        written = store.checkout(ref, directory, overwrite=force, sync=not no_sync, progress=progress)
    if session.as_json:
        session.output.document({"ref": ref, "directory": str(directory.absolute()), "files": written})
    else:
        session.output.line(f"wrote {count_text(len(written), 'file')} to {directory}")

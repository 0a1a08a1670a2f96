"""``cas backup``: a consistent, verified copy of the store.

Invariant: the folder appears only when the copy was verified and is durable.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

app = new_verb("backup")


@app.command(cls=VerbCommand, epilog=examples("cas backup /mnt/backup/cas-2026-01-31"))
def backup(
    ctx: typer.Context,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to make; it must not exist, or be empty.")
    ],
) -> None:
    """Write a consistent, verified copy of the store into a new folder.

    Commits and exports may go on meanwhile; the copy holds what was acknowledged when it began. It is a store itself:
    `cas --store DIR list` reads it, `cas restore` makes it the store again, and `cas verify --heal --from DIR` mends
    the store from it.
    """
    from cli.figures import count_text, size_text, whole_of

    session = ctx.ensure_object(Session)
    with session.open_for_reading() as store, session.output.progress() as progress:
        done = store.backup(directory, progress=progress)
    if session.as_json:
        session.output.document(done)
        return
    session.output.line(
        f"copied {count_text(whole_of(done['runs']), 'commit')} and "
        f"{count_text(whole_of(done['blobs']), 'stored file')} ({size_text(whole_of(done['bytes']))}) "
        f"to {done['directory']}, all verified"
    )

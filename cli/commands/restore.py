"""``cas restore``: make the store from a backup.

Invariant: nothing that exists is overwritten.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

app = new_verb("restore")


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas restore /mnt/backup/cas-2026-01-31", "cas restore /mnt/backup/cas-2026-01-31 --store /data/cas"
    ),
)
def restore(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the backup.")],
) -> None:
    """Make the store from a backup.

    The backup is copied to where the settings say the store is, and verified there. A store that is there already is
    left alone: move it away first. Runs that git has and the backup has not are not lost; `cas export` tells.
    """
    from cas import restore_store
    from cli.figures import count_text, size_text, whole_of

    session = ctx.ensure_object(Session)
    with session.output.progress() as progress:
        done = restore_store(source, session.settings.config, progress=progress)
    if session.as_json:
        session.output.document(done)
        return
    session.output.line(
        f"restored {count_text(whole_of(done['runs']), 'commit')} and "
        f"{count_text(whole_of(done['blobs']), 'stored file')} ({size_text(whole_of(done['bytes']))}) "
        f"to {done['directory']}, all verified"
    )
    session.output.note("next: cas export status")

"""``cas unpin``: take the pin off a run.

Invariant: nothing is forgotten by it; a policy may from then on.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cli.completion import complete_ref
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

app = new_verb("unpin")


@app.command(cls=VerbCommand, epilog=examples("cas unpin abc123", "cas unpin corr_abc123@2 latest"))
def unpin(
    ctx: typer.Context,
    refs: Annotated[
        list[str],
        typer.Argument(metavar="REF...", help="Runs to unpin.", autocompletion=complete_ref),
    ],
) -> None:
    """Take the pin off a run."""
    session = ctx.ensure_object(Session)
    with session.open_for_writing(scans=False) as store:
        done = {ref: store.unpin(ref) for ref in refs}
    if session.as_json:
        session.output.document({"unpinned": done})
        return
    for ref, was_pinned in done.items():
        session.output.line(f"{ref} is not pinned any more" if was_pinned else f"{ref} was not pinned")

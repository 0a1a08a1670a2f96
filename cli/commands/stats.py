"""``cas stats``: sizes, counts and the export backlog.

Invariant: shows the figures of the library under its own names in ``--json``.
"""

from __future__ import annotations

import typer

from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

app = new_verb("stats")


@app.command(cls=VerbCommand, epilog=examples("cas stats", "cas stats --json"))
def stats(ctx: typer.Context) -> None:
    """Show sizes, counts and the export backlog of the store.

    Cheap: no file content is read. With --json: manifests, blobs, stored_bytes, index_bytes, queued, awaiting_push,
    parked, backlog_age_s, used_bytes, file_bytes, disk_free_bytes.
    """
    from cli.figures import duration_text, number_of, size_text

    session = ctx.ensure_object(Session)
    with session.open_for_reading() as store:
        figures = store.stats()
    if session.as_json:
        session.output.document(figures)
        return
    number = {key: number_of(value) for key, value in figures.items()}
    oldest = f", the oldest for {duration_text(number['backlog_age_s'])}" if number["queued"] else ""
    session.output.fields(
        [
            ("commits", f"{number['manifests']:,.0f}"),
            ("stored files", f"{number['blobs']:,.0f}"),
            ("file content", f"{size_text(number['stored_bytes'])}, compressed"),
            ("index", size_text(number["index_bytes"])),
            ("store file", f"{size_text(number['file_bytes'])}, {size_text(number['used_bytes'])} in use"),
            ("disk", f"{size_text(number['disk_free_bytes'])} free"),
            ("queued for git", f"{number['queued']:,.0f}{oldest}"),
            ("awaiting push", f"{number['awaiting_push']:,.0f}"),
            ("parked", f"{number['parked']:,.0f}"),
        ]
    )

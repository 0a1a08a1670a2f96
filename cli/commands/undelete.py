"""``cas undelete``: bring forgotten runs back, or list them.

Invariant: a run comes back with the ids it had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas.records import Record
    from cli.output import Cell, Output

app = new_verb("undelete")


@app.command(
    cls=VerbCommand,
    epilog=examples("cas undelete", "cas undelete abc123", "cas undelete corr_abc123@2"),
)
def undelete(
    ctx: typer.Context,
    refs: Annotated[
        list[str] | None,
        typer.Argument(metavar="REF", help="Runs to bring back; none lists what was forgotten."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="Most runs to list.")] = 50,
) -> None:
    """Bring forgotten runs back, or list them.

    A run comes back as it was, ids and all, as long as its files are in the store. After `cas gc` has removed them,
    the same files can be committed again under the same correlation ID: that gives the same run.
    """
    session = ctx.ensure_object(Session)
    if not refs:
        with session.open_for_reading() as store:
            found = store.list_forgotten(limit)
        if session.as_json:
            session.output.document({"runs": found, "count": len(found)})
        else:
            _show(session.output, found)
        return
    with session.open_for_writing(scans=False) as store:
        runs = [store.undelete(ref) for ref in refs]
    if session.as_json:
        session.output.document({"runs": runs, "count": len(runs)})
        return
    for run in runs:
        session.output.line(f"{run['correlation_id']}, revision {run['revision']}, is back")


def _show(output: Output, found: Sequence[Record]) -> None:
    from cli.figures import written_time_text
    from cli.output import Cell, Column

    if not found:
        output.note("Nothing was forgotten.")
        return
    columns = [
        Column("CORRELATION ID", least=24),
        Column("REV", "right", keep=2),
        Column("FORGOTTEN (UTC)", keep=1),
        Column("WHY", least=12),
        Column("UNDELETE"),
    ]
    rows: list[list[str | Cell]] = [
        [
            Cell(str(run["correlation_id"]), "name"),
            str(run["revision"]),
            written_time_text(run["forgotten_at"]),
            str(run["forgotten_because"]),
            Cell("possible", "good") if run["can_undelete"] else Cell("files gone", "bad"),
        ]
        for run in found
    ]
    output.table(columns, rows)

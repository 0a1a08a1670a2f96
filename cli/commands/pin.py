"""``cas pin``: keep a run from being forgotten, or list what is pinned.

Invariant: a pin changes nothing about the run itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.completion import complete_ref
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas.records import Record
    from cli.output import Cell, Output

app = new_verb("pin")


@app.command(
    cls=VerbCommand,
    epilog=examples("cas pin", "cas pin abc123", 'cas pin corr_abc123@2 --note "live since March"'),
)
def pin(
    ctx: typer.Context,
    refs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REF", help="Runs to pin; none lists what is pinned.", autocompletion=complete_ref
        ),
    ] = None,
    note: Annotated[
        str | None, typer.Option("--note", metavar="TEXT", help="Why; a second pin replaces it.")
    ] = None,
) -> None:
    """Keep a run from being forgotten, or list what is pinned.

    A pinned run stays, whatever `cas forget` or the policy of `cas gc` says, until `cas unpin`.
    """
    session = ctx.ensure_object(Session)
    if not refs:
        with session.open_for_reading() as store:
            found = store.list_pins()
        if session.as_json:
            session.output.document({"runs": found, "count": len(found)})
        else:
            _show(session.output, found)
        return
    with session.open_for_writing(scans=note is not None) as store:
        runs = [store.pin(ref, note=note) for ref in refs]
    if session.as_json:
        session.output.document({"runs": runs, "count": len(runs)})
        return
    for run in runs:
        session.output.line(f"{run['correlation_id']}, revision {run['revision']}, is pinned")


def _show(output: Output, found: Sequence[Record]) -> None:
    from cli.figures import written_time_text
    from cli.output import Cell, Column

    if not found:
        output.note("Nothing is pinned: `cas pin REF` pins a run.")
        return
    columns = [
        Column("CORRELATION ID", least=24),
        Column("REV", "right", keep=2),
        Column("PINNED (UTC)", keep=1),
        Column("NOTE", least=12),
    ]
    rows: list[list[str | Cell]] = [
        [
            Cell(str(run["correlation_id"]), "name"),
            str(run["revision"]),
            written_time_text(run["pinned_at"]),
            str(run["note"] or ""),
        ]
        for run in found
    ]
    output.table(columns, rows)

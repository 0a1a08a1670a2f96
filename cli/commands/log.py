"""``cas log``: the history of a branch.

Invariant: commits and rollbacks of one branch, newest first, as the store knows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.completion import complete_ref
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from cas import ArtifactStore
    from cas.records import Record
    from cli.output import Content

app = new_verb("log")


@app.command(
    cls=VerbCommand,
    epilog=examples("cas log", "cas log ai/generated/wf_rsi/t1", "cas log main --limit 5", "cas log abc123"),
)
def log(
    ctx: typer.Context,
    ref: Annotated[
        str,
        typer.Argument(
            metavar="BRANCH|REF",
            help="A branch, or anything that names a run: its branch is shown.",
            autocompletion=complete_ref,
        ),
    ] = "latest",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="Most steps to show.")] = 50,
) -> None:
    """Show the history of a branch, newest first: commits and rollbacks, when, by whom, what and why."""
    from cli.figures import short_oid, written_time_text
    from cli.output import Cell, Column
    from cli.shown import state_cell, strings

    session = ctx.ensure_object(Session)
    with session.open_for_reading() as store:
        branch, steps = _history(store, ref, limit)
    if session.as_json:
        session.output.document({"branch": branch, "steps": steps})
        return
    columns = [
        Column("COMMIT"),
        Column("WHEN (UTC)", keep=1),
        Column("WHO", keep=3, least=12),
        Column("WHAT", least=24, folds=True),
        Column("TAGS", least=12, keep=2),
        Column("EXPORT"),
    ]
    rows: list[list[Content]] = [
        [
            Cell(short_oid(step["commit_sha"]), "name"),
            written_time_text(step["commit_timestamp"]),
            str(step["author"]).partition(" <")[0],
            _what(step),
            ", ".join(strings(step["tags"])),
            state_cell(step["export_state"]),
        ]
        for step in steps
    ]
    session.output.note(f"branch {branch}")
    session.output.table(columns, rows)


def _history(store: ArtifactStore, ref: str, limit: int) -> tuple[str, list[Record]]:
    from cas import NotFoundError

    try:
        return ref, store.history(ref, limit)
    except NotFoundError:
        branch = str(store.show(ref)["branch"])
        return branch, store.history(branch, limit)


def _what(step: Record) -> str:
    if step["kind"] == "commit":
        return f"{step['correlation_id']}, revision {step['revision']}"
    reason = f": {step['reason']}" if step["reason"] else ""
    return f"rollback to {step['reverted_to']}{reason}"

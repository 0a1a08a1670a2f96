"""``cas list``: runs, newest first or in another order.

Invariant: shows what the library lists, one row per run; nothing is computed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.completion import complete_ref, complete_workflow
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas.records import Record
    from cli.output import Cell, Output

app = new_verb("list")
_METRIC_COUNT: Final = 4  # more columns push the names off an ordinary terminal

Workflow = Annotated[
    str | None,
    typer.Option(
        "--workflow",
        "-w",
        metavar="ID",
        help="Only runs of this workflow.",
        autocompletion=complete_workflow,
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="EXPR",
        help="Comparisons of metrics and metadata (< <= = != >= > ~) joined by and, or, not.",
    ),
]
Sort = Annotated[
    str,
    typer.Option(
        "--sort", "-s", metavar="time|METRIC", help="By commit time, or by any metric or metadata value."
    ),
]
Ascending = Annotated[
    bool, typer.Option("--ascending", help="Oldest or least first; runs without the value stay last.")
]
After = Annotated[
    str | None,
    typer.Option(
        "--after",
        metavar="REF",
        help="Go on behind this run; unlike --offset, pages stay apart while runs are added.",
        autocompletion=complete_ref,
    ),
]


@app.command(
    cls=VerbCommand,
    name="list",
    epilog=examples(
        "cas list",
        "cas list --workflow wf_rsi --limit 5",
        'cas list --where "net_pnl > 100 and win_rate >= 0.5"',
        "cas list --sort sharpe --limit 10",
        "cas list --since 2026-01-31 --json",
    ),
)
def list_runs(  # noqa: PLR0913, PLR0917  each is an option
    ctx: typer.Context,
    workflow: Workflow = None,
    task: Annotated[
        str | None, typer.Option("--task", "-t", metavar="ID", help="Only runs of this task.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", "-p", metavar="TEXT", help="Only runs made from this prompt digest."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only runs of this time or later; ISO 8601, UTC."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Only runs before this time.")
    ] = None,
    where: Where = None,
    sort: Sort = "time",
    ascending: Ascending = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, metavar="N", help="Most runs to list.")] = 50,
    offset: Annotated[int, typer.Option("--offset", min=0, metavar="N", help="Runs to skip first.")] = 0,
    after: After = None,
) -> None:
    """List runs, newest first.

    Columns: when it was committed (UTC), its correlation ID, workflow and task, revision, a few of its test metrics,
    and how far its export is: queued, exported, pushed or parked. On a narrow terminal metrics go first; --json has
    everything.
    """
    from cli.figures import short_oid

    session = ctx.ensure_object(Session)
    with session.open_for_reading() as store:
        # One more than asked for tells whether there are others.
        found = store.list_artifacts(
            workflow,
            limit + 1 if limit else 0,
            task_id=task,
            prompt_hash=prompt,
            since=since,
            until=until,
            where=where,
            offset=offset,
            sort=sort,
            ascending=ascending,
            after=after,
        )
    runs, more = found[:limit], len(found) > limit
    if session.as_json:
        following = {"more": more, "next": runs[-1]["commit_sha"] if more and runs else None}
        document = {"runs": runs, "count": len(runs), "limit": limit, "offset": offset, **following}
        session.output.document(document)
    elif runs:
        show_runs(session.output, runs, sorted_by=None if sort == "time" else sort)
        if more:
            last = short_oid(runs[-1]["commit_sha"])
            session.output.note(
                f"There are more: --after {last}, --offset {offset + limit} or a greater --limit."
            )
    else:
        session.output.note("No runs match." if _filtered(ctx) else "No runs yet: `cas commit` stores one.")


def _filtered(ctx: typer.Context) -> bool:
    return any(
        ctx.params[name]
        for name in ("workflow", "task", "prompt", "since", "until", "where", "offset", "after")
    )


def show_runs(output: Output, runs: Sequence[Record], *, sorted_by: str | None = None) -> None:
    """Write a table of runs; a metric that they are sorted by is among the columns."""
    from cli.figures import metric_text, metrics_of, time_text, whole_of
    from cli.output import Column
    from cli.shown import state_cell

    metrics = _common_metrics(runs, sorted_by)
    columns = [
        Column("WHEN (UTC)", keep=2),
        Column("CORRELATION ID", least=24),
        Column("WORKFLOW/TASK", least=20, keep=1),
        Column("REV", "right", keep=3),
        *(Column(name, "right", keep=4 + rank) for rank, name in enumerate(metrics)),
        Column("EXPORT"),
    ]
    rows: list[list[str | Cell]] = []
    for run in runs:
        values = metrics_of(run)
        rows.append(
            [
                time_text(whole_of(run["created_at_us"]), seconds=False),
                name_cell(run["correlation_id"]),
                f"{run['workflow_id']}/{run['task_id']}",
                str(run["revision"]),
                *(metric_text(values.get(name)) for name in metrics),
                state_cell(run["export_state"]),
            ]
        )
    output.table(columns, rows)


def name_cell(name: object) -> Cell:
    """Return a name as a person would copy it."""
    from cli.output import Cell

    return Cell(str(name), "name")


def _common_metrics(runs: Sequence[Record], sorted_by: str | None) -> list[str]:
    """Return the metrics that most of these runs have, as many as fit a screen, in the order they were given.

    One that they are sorted by comes first, however few have it.
    """
    from cli.figures import metrics_of

    counts: dict[str, int] = {}
    for run in runs:
        for name, value in metrics_of(run).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                counts[name] = counts.get(name, 0) + 1
    best = sorted(counts, key=lambda name: (name != sorted_by, -counts[name]))[:_METRIC_COUNT]
    return sorted((name for name in counts if name in best), key=lambda name: name != sorted_by)

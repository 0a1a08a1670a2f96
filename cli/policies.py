"""Options that several commands share to say which runs to keep.

Invariant: the options mean the same in `cas forget` and `cas gc`; what they add up to is judged by the library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.quantities import parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas import RetentionPolicy
    from cas.records import Record
    from cli.output import Cell, Output

KeepLast = Annotated[
    int | None,
    typer.Option("--keep-last", min=1, metavar="N", help="Keep the newest N runs of each group."),
]
KeepWithin = Annotated[
    float | None,
    typer.Option(
        "--keep-within",
        metavar="TIME",
        parser=parse_duration,
        help="Keep runs committed within this time, such as 30d.",
    ),
]
KeepBest = Annotated[
    int | None,
    typer.Option("--keep-best", min=1, metavar="N", help="Keep the best N runs of each group; needs --by."),
]
By = Annotated[str | None, typer.Option("--by", metavar="METRIC", help="The metric --keep-best ranks by.")]
Lowest = Annotated[bool, typer.Option("--lowest", help="The lowest value of the metric is the best.")]
Per = Annotated[
    str,
    typer.Option(
        "--per",
        metavar="workflow|task|store",
        show_default=False,
        help="What forms a group.  [default: workflow]",
    ),
]
KeepTag = Annotated[
    list[str] | None,
    typer.Option("--keep-tag", metavar="PATTERN", help="Keep runs with such a tag (* and ?). Repeatable."),
]


def policy_of(
    keep_last: int | None,
    keep_within: float | None,
    keep_best: int | None,
    by: str | None,
    lowest: bool,
    per: str,
    keep_tag: Sequence[str] | None,
) -> RetentionPolicy | None:
    """Return the policy that the options add up to; None when none was given.

    Raises:
        InvalidInputError: They make no sense together.
    """
    if not (keep_last or keep_within is not None or keep_best or by or keep_tag):
        return None
    from cas import RetentionPolicy

    return RetentionPolicy(
        keep_last=keep_last,
        keep_within_s=keep_within,
        keep_best=keep_best,
        by=by,
        lowest=lowest,
        per=per,  # type: ignore[arg-type]  # checked by the class
        keep_tags=tuple(keep_tag or ()),
    )


def show_decisions(output: Output, runs: Sequence[Record], *, dry_run: bool) -> None:
    """Write what becomes of each run and why, those that go first."""
    from cli.figures import count_text
    from cli.output import Cell, Column

    rows: list[list[str | Cell]] = []
    for run in sorted(runs, key=lambda run: run["action"] != "forget"):
        goes = run["action"] == "forget"
        rows.append(
            [
                Cell("forget" if goes else "keep", "warn" if goes else "good"),
                Cell(str(run["correlation_id"]), "name"),
                str(run["revision"]),
                str(run["reason"]),
            ]
        )
    columns = [
        Column("ACTION"),
        Column("CORRELATION ID", least=24),
        Column("REV", "right", keep=1),
        Column("WHY", least=40),
    ]
    if rows:
        output.table(columns, rows)
    gone = sum(1 for run in runs if run["action"] == "forget")
    verb = "would forget" if dry_run else "forgot"
    output.line(f"{verb} {count_text(gone, 'run')}, {'keep' if dry_run else 'kept'} {len(runs) - gone:,}")

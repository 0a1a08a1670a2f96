"""``cas forget``: hide runs, by name or by policy.

Invariant: nothing is removed here; a forgotten run comes back by `cas undelete` until `cas gc` has run.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cli import failures
from cli.completion import complete_ref, complete_workflow
from cli.policies import By, KeepBest, KeepLast, KeepTag, KeepWithin, Lowest, Per, policy_of, show_decisions
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

app = new_verb("forget")


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas forget abc123",
        "cas forget --keep-last 100 --keep-best 10 --by sharpe --dry-run",
        "cas forget --keep-within 90d --workflow wf_rsi",
    ),
)
def forget(  # noqa: PLR0913, PLR0917  every option of a command is a parameter
    ctx: typer.Context,
    refs: Annotated[
        list[str] | None,
        typer.Argument(metavar="REF", help="Runs to forget by name.", autocompletion=complete_ref),
    ] = None,
    keep_last: KeepLast = None,
    keep_within: KeepWithin = None,
    keep_best: KeepBest = None,
    by: By = None,
    lowest: Lowest = False,
    per: Per = "workflow",
    keep_tag: KeepTag = None,
    workflow: Annotated[
        str | None,
        typer.Option(
            "--workflow",
            "-w",
            metavar="ID",
            help="Look at this workflow only; other runs stay.",
            autocompletion=complete_workflow,
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="EXPR", help="Look at runs that match only; other runs stay."),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", "-r", metavar="TEXT", help="Why; kept with each run.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be forgotten.")] = False,
) -> None:
    """Forget runs, by name or by policy.

    With a policy, every run that no rule keeps is forgotten. Whatever the policy, runs stay that are pinned, that are
    not in git yet, and that a branch was taken back to. Forgotten runs are not listed or found any more; `cas undelete`
    brings them back until `cas gc` removes their files. Their commits and tags in git stay. A run that was named and
    has to stay ends with exit code 4.
    """
    session = ctx.ensure_object(Session)
    policy = policy_of(keep_last, keep_within, keep_best, by, lowest, per, keep_tag)
    if bool(refs) == (policy is not None):
        raise typer.BadParameter("name runs, or give a policy such as --keep-last 100; not both")
    with session.open_for_writing() as store:
        runs = store.forget(
            refs or (), policy=policy, workflow_id=workflow, where=where, reason=reason, dry_run=dry_run
        )
    gone = sum(1 for run in runs if run["action"] == "forget")
    if session.as_json:
        session.output.document({"dry_run": dry_run, "forgotten": gone, "runs": runs})
    else:
        show_decisions(session.output, runs, dry_run=dry_run)
        if gone and not dry_run:
            session.output.note("next: `cas undelete REF` brings one back, `cas gc` removes their files")
    if refs and gone < len(runs):
        raise typer.Exit(failures.INVALID_INPUT)

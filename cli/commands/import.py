"""``cas import``: take over a repository of the replaced system, with its commit ids.

Invariant: everything is done by `gitexport`; no value of a credential is written.
"""
# ruff: noqa: N999  a command's module has the command's name

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import failures
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from cli.output import Output
    from gitexport import ImportSummary

app = new_verb("import")


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas import --dry-run",
        "cas import",
        "cas import --branch ai/generated/wf_rsi/t1 --allow-secrets",
    ),
)
def import_(
    ctx: typer.Context,
    repository: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="The repository to take over.  [default: setting repo_path]",
            show_default=False,
        ),
    ] = None,
    branch: Annotated[
        list[str] | None,
        typer.Option("--branch", "-b", metavar="NAME", help="Only this branch. Repeatable."),
    ] = None,
    allow_secrets: Annotated[
        bool, typer.Option("--allow-secrets", help="Take branches in which the secret gate finds something.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and scan everything, write nothing.")
    ] = False,
) -> None:
    """Take over a repository of the replaced system.

    Each branch <branch_prefix>/<workflow>/<task> becomes runs of the store under their own commit ids, so old tags,
    queries and rollbacks work, and new runs continue these branches. The repository is only read. Importing again
    adds what is new. Branches that stay out are named, and end with exit code 4; for a secret with 5.
    """
    from gitexport import import_repository

    session = ctx.ensure_object(Session)
    with session.open_for_writing() as store, session.output.progress() as progress:
        summary = import_repository(
            store,
            repository,
            branches=branch or None,
            on_secret="allow" if allow_secrets else "refuse",
            dry_run=dry_run,
            wait_s=session.lock_wait_s or 0.0,
            progress=progress,
        )
    if session.as_json:
        session.output.document(summary.as_dict())
    else:
        _show(session.output, summary)
    if summary.refused:
        found = summary.findings and not allow_secrets
        raise typer.Exit(failures.SECRET_DETECTED if found else failures.INVALID_INPUT)


def _show(output: Output, summary: ImportSummary) -> None:
    from cli.figures import count_text, duration_text, size_text

    for item in summary.remarks:
        output.warn(f"{item['branch']} {item['commit'][:12]}: {item['remark']}")
    for finding in summary.findings:
        output.warn(f"{finding['branch']}: {finding['name']}:{finding['line']} [{finding['rule']}]")
    for item in summary.refused:
        output.warn(f"{item['branch']} stays out: {item['reason']}")
    what = "would take over" if summary.dry_run else "took over"
    output.line(
        f"{what} {count_text(summary.commits, 'commit')} of "
        f"{count_text(summary.branches, 'branch', 'branches')} "
        f"({count_text(summary.files, 'file')}, {size_text(summary.raw_bytes)}) in "
        f"{duration_text(summary.duration_s)}; {summary.present:,} were there already"
    )

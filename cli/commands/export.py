"""``cas export``: bring queued runs into git and push them; the state of that; the proof; and rolling up old branches.

Invariant: everything is done by `gitexport`; this module shows it, and turns the outcome into an exit code.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Final, Literal, cast

import typer

from cli import failures
from cli.completion import complete_ref
from cli.quantities import parse_duration, parse_share
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cas import ArtifactStoreError
    from cli.output import Cell, Content, Output
    from gitexport import ArchiveSummary, ExportReport, ExportSummary

app = new_verb(
    "export",
    group=True,
    epilog=examples(
        "cas export",
        "cas export --no-push --limit 1000",
        "cas export --only abc123 --lock-wait 60s",
        "cas export --follow",
        "cas export status",
        "cas export verify --sample 10%",
        "cas export archive --older-than 90d --dry-run",
    ),
)

_NAMED_COUNT: Final = 3  # of those that were refused for one reason

Limit = Annotated[
    int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="Most runs to bring into git.")
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="ID",
        help="Only this run and what it stands on, by correlation ID. Repeatable.",
        autocompletion=complete_ref,
    ),
]
Push = Annotated[
    bool | None,
    typer.Option("--push/--no-push", help="Push afterwards, or do not.  [default: setting auto_push]"),
]
RetryParked = Annotated[bool, typer.Option("--retry-parked", help="Try again what was set aside.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")]
Rebuild = Annotated[
    bool,
    typer.Option(
        "--rebuild", help="Write again what a lost or restored repository lacks; ids stay the same."
    ),
]
Check = Annotated[
    Literal["deposit", "full", "crc"],
    typer.Option(
        "--check",
        metavar="LEVEL",
        help="What proves stored files before git sees them: the digest of all that a commit stored (deposit), of "
        "each file inflated (full), or CRC-32 alone where there is no deposit (crc).",
    ),
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Go on exporting what comes, until SIGTERM or Ctrl-C.")
]
Interval = Annotated[
    float,
    typer.Option(
        "--interval",
        metavar="TIME",
        parser=parse_duration,
        show_default=False,
        help="With --follow: how often to look for new runs.  [default: 10s]",
    ),
]

OlderThan = Annotated[
    float | None,
    typer.Option(
        "--older-than",
        metavar="TIME",
        parser=parse_duration,
        help="Only branches whose newest commit is older, such as 90d.",
    ),
]
KeepNewest = Annotated[
    int | None,
    typer.Option(
        "--keep-newest", min=0, metavar="N", help="Never the N branches that were committed to last."
    ),
]
PushArchive = Annotated[
    bool | None,
    typer.Option("--push/--no-push", help="Push the archive, or do not.  [default: setting auto_push]"),
]
DeleteRemote = Annotated[
    bool,
    typer.Option("--delete-remote", help="Delete rolled-up refs at the remote too, where nobody moved them."),
]
DryArchive = Annotated[
    bool, typer.Option("--dry-run", help="Say which branches would be rolled up; write nothing.")
]


@app.callback()
def export(
    ctx: typer.Context,
    limit: Limit = None,
    only: Only = None,
    push: Push = None,
    retry_parked: RetryParked = False,
    dry_run: DryRun = False,
    rebuild: Rebuild = False,
    check: Check = "deposit",
    follow: Follow = False,
    interval: Interval = 10.0,
) -> None:
    """Bring queued runs into git, and push them.

    Whole batches go into the repository in one git transaction, under exactly the commit ids that `cas commit` gave;
    index and work tree are never touched. Killed anywhere and run again, it ends in the same repository. Meant for a
    timer or cron; one export at a time per store.

    Exit code 0: nothing is left to do; 8: some is still queued, run it again; 9: git refused something, see
    `cas export status`; 10: another export is running. With --follow, 0 after a clean stop.
    """
    if ctx.invoked_subcommand is None:
        run(ctx, limit, only, push, retry_parked, dry_run, rebuild, check, follow, interval)
    elif any((limit, only, retry_parked, dry_run, rebuild, check != "deposit", follow)) or push is not None:
        raise typer.BadParameter(
            f"options of an export go after the further command: cas export {ctx.invoked_subcommand} ..."
        )


@app.command(
    cls=VerbCommand,
    epilog=examples("cas export run", "cas export run --retry-parked", "cas export run --dry-run --json"),
)
def run(
    ctx: typer.Context,
    limit: Limit = None,
    only: Only = None,
    push: Push = None,
    retry_parked: RetryParked = False,
    dry_run: DryRun = False,
    rebuild: Rebuild = False,
    check: Check = "deposit",
    follow: Follow = False,
    interval: Interval = 10.0,
) -> None:
    """Export once, or with --follow again and again; the same as `cas export` alone."""
    from cli.signals import unwound_by_sigterm
    from gitexport import Exporter

    session = ctx.ensure_object(Session)
    if interval <= 0:
        raise typer.BadParameter("--interval has to be above 0")
    if follow:
        if any((limit, only, retry_parked, dry_run, rebuild)) or push is not None:
            raise typer.BadParameter("--follow exports everything; it takes only --check and --interval")
        _follow(session, interval, check)
        return
    with (
        session.open_for_writing(scans=False) as store,
        session.output.progress() as progress,
        unwound_by_sigterm(),
    ):
        summary = Exporter(store, check=check).run(
            limit=limit,
            only=only or None,
            push=push,
            retry_parked=retry_parked,
            dry_run=dry_run,
            rebuild=rebuild,
            wait_s=session.lock_wait_s or 0.0,
            progress=progress,
        )
    if session.as_json:
        session.output.document(summary.as_dict())
    else:
        show_summary(session.output, summary, dry_run=dry_run)
    code = failures.export_code(summary.state)
    if code and not dry_run:
        raise typer.Exit(code)


def _follow(session: Session, interval_s: float, check: Literal["deposit", "full", "crc"]) -> None:
    from cli.signals import stop_signal
    from gitexport.worker import ExportWorker

    output, exports = session.output, itertools.count()

    def tell(summary: ExportSummary) -> None:
        next(exports)
        if session.as_json:
            output.event("export", summary.as_dict())
        else:
            show_summary(output, summary)

    def tell_error(error: ArtifactStoreError) -> None:
        if session.as_json:
            output.error(error.message, error.hint, error.as_dict())
        else:
            output.warn(error.message)

    with session.open_for_writing(scans=False) as store, stop_signal() as stopping:
        ExportWorker(
            store,
            interval_s=interval_s,
            check=check,
            on_summary=tell,
            on_error=tell_error,
            stopping=stopping,
        ).follow()
    if session.as_json:
        output.event("result", {"exports": next(exports)})


def show_summary(output: Output, summary: ExportSummary, *, dry_run: bool = False) -> None:
    """Write what an export did and what is left."""
    from cli.figures import count_text, duration_text, size_text
    from cli.output import Cell

    for warning in summary.warnings:
        output.warn(warning)
    for line in _refusals(summary):
        output.warn(line)
    if dry_run:
        output.line(
            f"would export {count_text(summary.exported, 'commit')} with {count_text(summary.refs, 'ref')}"
        )
        return
    output.line(
        f"exported {count_text(summary.exported, 'commit')} with {count_text(summary.refs, 'ref')} "
        f"({size_text(summary.pack_bytes)}), pushed {summary.pushed:,}, in {duration_text(summary.duration_s)}"
    )
    if summary.pending:
        output.line(Cell(f"{summary.pending:,} still queued", "warn"), "; run `cas export` again")
    if summary.parked:
        output.line(Cell(f"{summary.parked:,} parked", "bad"), "; `cas export status` says why")


def _refusals(summary: ExportSummary) -> Iterator[str]:
    """Yield a line for each reason: a remote that is down has the same for thousands."""
    by_reason: dict[str, list[str]] = {}
    for failure in summary.failures:
        by_reason.setdefault(failure["reason"], []).append(failure["label"])
    for reason, labels in by_reason.items():
        left = len(labels) - _NAMED_COUNT
        more = f" and {left:,} more" if left > 0 else ""
        yield f"{', '.join(labels[:_NAMED_COUNT])}{more} - {reason}"
    unlisted = summary.failure_count - len(summary.failures)
    if unlisted:
        yield f"{unlisted:,} more were refused"


@app.command(cls=VerbCommand, epilog=examples("cas export status", "cas export status --json"))
def status(ctx: typer.Context) -> None:
    """Show the queue, what is parked and why, and when the last export and push were."""
    from gitexport import export_status

    session = ctx.ensure_object(Session)
    with session.open_for_reading() as store:
        state = export_status(store)
    if session.as_json:
        session.output.document(state)
    else:
        _show_status(session.output, state, session.now_us())


def _show_status(output: Output, state: Mapping[str, object], now_us: int) -> None:
    from cli.figures import duration_text, number_of
    from cli.output import Cell, Column
    from cli.shown import ago

    age_s = state["queued_age_s"]
    oldest = "" if age_s is None else f", the oldest for {duration_text(number_of(age_s))}"
    parked = cast("list[dict[str, object]]", state["parked"])
    output.fields(
        [
            ("queued for git", f"{state['queued']}{oldest}"),
            ("awaiting push", str(state["awaiting_push"])),
            ("parked", Cell(str(len(parked)), "bad" if parked else "")),
            ("last export", ago(state["last_export_at_us"], now_us)),
            ("last push", ago(state["last_push_at_us"], now_us)),
            ("running now", str(state.get("lease_holder") or "none")),
        ]
    )
    if not parked:
        return
    output.line()
    columns = [
        Column("PARKED", least=12),
        Column("BRANCH", least=12, keep=1),
        Column("TRIES", "right", keep=2),
        Column("REASON", least=30, folds=True),
    ]
    rows: list[list[Content]] = [
        [
            str(item["correlation_id"] or item["branch"]),
            str(item["branch"]),
            str(item["attempts"]),
            str(item["reason"]),
        ]
        for item in parked
    ]
    output.table(columns, rows)
    output.note("next: clear the reason, then `cas export --retry-parked`")


@app.command(
    cls=VerbCommand,
    epilog=examples("cas export verify", "cas export verify --sample 10% --max-duration 5m --remote"),
)
def verify(
    ctx: typer.Context,
    sample: Annotated[
        float,
        typer.Option(
            "--sample",
            metavar="SHARE",
            parser=parse_share,
            show_default=False,
            help="Share of the runs to compare.  [default: 100%]",
        ),
    ] = 1.0,
    max_duration: Annotated[
        float | None,
        typer.Option("--max-duration", metavar="TIME", parser=parse_duration, help="Stop after this long."),
    ] = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="Ask the remote as well for what was recorded as pushed.")
    ] = False,
) -> None:
    """Prove that git holds, byte for byte, what the store holds.

    Commits, trees and tags are compared with those that the store computes, files with their digests, all read through
    git itself. A difference ends with exit code 7.
    """
    from gitexport import verify_export

    session = ctx.ensure_object(Session)
    name = session.settings.config.remote_name if remote else None
    with session.open_for_reading() as store, session.output.progress() as progress:
        report = verify_export(
            store, remote=name, sample=sample, max_duration_s=max_duration, progress=progress
        )
    if session.as_json:
        session.output.document(report.as_dict())
    else:
        _show_report(session.output, report)
    if not report.ok:
        raise typer.Exit(failures.DAMAGED)


def _show_report(output: Output, report: ExportReport) -> None:
    from cli.figures import count_text, size_text
    from cli.output import Cell, Column

    compared = (
        f"{count_text(report.run_count, 'commit')}, {count_text(report.object_count, 'object')}, "
        f"{size_text(report.byte_count)}"
    )
    if report.ok:
        part = "" if report.complete else "; only a part was compared"
        output.line(Cell("ok: ", "good"), f"git holds what the store holds: {compared}{part}")
    else:
        output.line(Cell("differs: ", "bad"), f"{count_text(len(report.faults), 'fault')} in {compared}")
        rows: list[list[str | Cell]] = [[fault.label, fault.subject, fault.detail] for fault in report.faults]
        columns = [
            Column("RUN", least=12),
            Column("WHERE", least=12),
            Column("WHAT", least=30, folds=True),
        ]
        output.table(columns, rows)
        output.note(
            "next: `cas export --rebuild` writes again what is missing; what cannot be read has to be moved away first"
        )
    if report.not_exported:
        output.note(f"{count_text(report.not_exported, 'commit')} not exported yet: cas export")


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas export archive --older-than 90d --dry-run",
        "cas export archive --older-than 90d --keep-newest 1000",
        "cas export archive --older-than 90d --delete-remote",
    ),
)
def archive(
    ctx: typer.Context,
    older_than: OlderThan = None,
    keep_newest: KeepNewest = None,
    push: PushArchive = None,
    delete_remote: DeleteRemote = False,
    dry_run: DryArchive = False,
) -> None:
    """Roll old branches and their tags up into one ref; every commit id stays reachable.

    A branch that is rolled up becomes a parent of a commit under refs/archive/cas, whose file `packed-refs` lists it
    with its tags; then the refs go, all in one transaction. Runs and files in the store are not concerned, and a new
    commit or rollback brings its branch back, on top of where it stood. --older-than and --keep-newest both have to
    allow it; one of them is needed, and `--keep-newest 0` takes every branch.

    A branch stays, and is listed with the reason, when a commit of it is not exported yet, not pushed yet where there
    is a remote, or parked; when it is checked out; when a file of it was purged; when somebody moved it or its tags.

    The archive is pushed. The remote keeps its refs unless --delete-remote is given: then those that the remote's
    archive holds are deleted there, of earlier calls too, each only where it still is as it was pushed. A clone fetches
    refs/archive/* only when told to: `git fetch origin 'refs/archive/*:refs/archive/*'`.

    Exit code 0: done, also where branches stay; 8: something is left, run it again; 9: the remote refused something, or
    the archive ref is not as it was made; 10: an export is running.
    """
    from cli.signals import unwound_by_sigterm
    from gitexport import archive_branches

    if older_than is None and keep_newest is None:
        raise typer.BadParameter("say which branches are old: --older-than TIME, --keep-newest N, or both")
    if delete_remote and push is False:
        raise typer.BadParameter("--delete-remote needs the archive at the remote: leave --no-push out")
    session = ctx.ensure_object(Session)
    with (
        session.open_for_writing(scans=False) as store,
        session.output.progress() as progress,
        unwound_by_sigterm(),
    ):
        summary = archive_branches(
            store,
            older_than_s=older_than,
            keep_newest=keep_newest,
            push=push,
            delete_remote=delete_remote,
            dry_run=dry_run,
            wait_s=session.lock_wait_s or 0.0,
            progress=progress,
        )
    if session.as_json:
        session.output.document(summary.as_dict())
    else:
        _show_archive(session.output, summary)
    code = failures.export_code(summary.state)
    if code and not dry_run:
        raise typer.Exit(code)


def _show_archive(output: Output, summary: ArchiveSummary) -> None:
    from cli.figures import count_text, duration_text
    from cli.output import Cell

    for warning in summary.warnings:
        output.warn(warning)
    for item in summary.left:
        output.line(Cell("stays: ", "warn"), f"{item['branch']} {item['reason']}")
    _show_unlisted(output, summary.left_count, len(summary.left))
    branches = count_text(summary.branch_count, "branch", "branches")
    refs = count_text(summary.refs, "ref")
    if summary.dry_run:
        _show_would_be_archived(output, summary)
        output.line(f"would roll up {branches}, {refs}")
        return
    output.line(f"rolled up {branches}, {refs}, in {duration_text(summary.duration_s)}")
    if summary.commit_sha is not None:
        output.line(f"archive {summary.archive} at {summary.commit_sha}")
    if summary.remote_refs:
        output.line(f"deleted {count_text(summary.remote_refs, 'ref')} at the remote")
    for item in summary.kept_at_remote:
        output.line(Cell("stays at the remote: ", "warn"), f"{item['ref']}: {item['reason']}")
    _show_unlisted(output, summary.kept_count, len(summary.kept_at_remote))
    if summary.pending is not None:
        output.line(Cell(f"not complete: {summary.pending}", "warn"), "; run it again")
    if summary.refused is not None:
        output.line(Cell(summary.refused, "bad"))


def _show_would_be_archived(output: Output, summary: ArchiveSummary) -> None:
    from cli.figures import count_text, list_of

    for branch in summary.branches:
        tags = count_text(len(list_of(branch["tags"])), "tag")
        output.line(f"would roll up {branch['branch']} of {branch['committed_at']} with {tags}")
    _show_unlisted(output, summary.branch_count, len(summary.branches))


def _show_unlisted(output: Output, count: int, listed_count: int) -> None:
    if count > listed_count:
        output.line(f"... and {count - listed_count:,} more")

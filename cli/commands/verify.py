"""``cas verify``: does the store hold what it acknowledged?

Invariant: changes nothing, except that a full verify that finds nothing lifts the suspect mark.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import failures
from cli.quantities import parse_duration, parse_share
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas.check import Fault, Report
    from cli.output import Output

app = new_verb("verify")


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas verify", "cas verify --full", "cas verify --sample 5% --max-duration 60s", "cas verify --json"
    ),
)
def verify(
    ctx: typer.Context,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Everything, from the disk and not from memory; lifts the mark of a failed write when all is well.",
        ),
    ] = False,
    sample: Annotated[
        float,
        typer.Option(
            "--sample",
            metavar="SHARE",
            parser=parse_share,
            show_default=False,
            help="Share of files and runs to read.  [default: 100%]",
        ),
    ] = 1.0,
    max_duration: Annotated[
        float | None,
        typer.Option("--max-duration", metavar="TIME", parser=parse_duration, help="Stop after this long."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Choose another sample; the same N picks the same.")
    ] = 0,
) -> None:
    """Check that the store holds what it acknowledged.

    Every stored file is read and compared with its digest and its git id, every run with the commit id it promised, and
    every name with what it points at. Commits and exports may go on meanwhile. Damage ends with exit code 7 and names
    the runs it touches. Whether git holds the same is checked by `cas export verify`.
    """
    session = ctx.ensure_object(Session)
    if full and (sample < 1 or max_duration is not None):
        raise typer.BadParameter("--full checks everything; leave out --sample and --max-duration")
    if full:
        _forget_cached_pages(session.settings.config.store_dir)
    with session.open_for_reading() as store:
        with session.output.progress() as progress:
            report = store.verify(sample=sample, max_duration_s=max_duration, seed=seed, progress=progress)
        lifted, suspect = _settle_mark(store.environment.directory, report, full=full)
        if lifted:
            store.environment.clear_suspect()
    if session.as_json:
        session.output.document({**report.as_dict(), "suspect": suspect})
    else:
        _show(session.output, report, lifted=lifted, suspect=suspect)
    if not report.ok:
        raise typer.Exit(failures.DAMAGED)


def _forget_cached_pages(store_dir: Path) -> None:
    """Ask the kernel to drop the data file from memory, so that what is read is what the disk holds."""
    from cas.lmdbenv import DATA_FILE

    path = store_dir / DATA_FILE
    if not path.exists() or not hasattr(os, "posix_fadvise"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _settle_mark(directory: Path, report: Report, *, full: bool) -> tuple[bool, bool]:
    """Return whether the suspect mark is to be lifted, and whether it stays."""
    from cas.lmdbenv import SUSPECT_FILE

    marked = (directory / SUSPECT_FILE).exists()
    lifted = marked and full and report.ok and report.complete
    return lifted, marked and not lifted


def _show(output: Output, report: Report, *, lifted: bool, suspect: bool) -> None:
    from cli.figures import count_text, size_text
    from cli.output import Cell

    checked = (
        f"{count_text(report.manifest_count, 'commit')} and {count_text(report.blob_count, 'stored file')} "
        f"({size_text(report.byte_count)})"
    )
    if report.ok:
        part = "" if report.complete else "; only a part was looked at"
        output.line(Cell("ok: ", "good"), f"{checked} checked{part}")
    else:
        output.line(Cell("damaged: ", "bad"), f"{count_text(len(report.faults), 'fault')} in {checked}")
        _show_faults(output, report.faults)
        output.note(
            "next: restore a copy of the store, or put the same files in again; "
            "`cas export verify` tells what git has"
        )
    if lifted:
        output.line("the mark of an earlier failed write is lifted; commits are accepted again")
    if suspect:
        output.warn("an earlier write failed, so commits are refused until `cas verify --full` finds nothing")


def _show_faults(output: Output, faults: Sequence[Fault]) -> None:
    from cli.output import Cell, Column

    columns = [Column("LEVEL"), Column("CHECK"), Column("WHERE", least=12), Column("WHAT", least=12)]
    output.table(
        columns,
        [
            [
                Cell(fault.level, "bad" if fault.level == "must" else "warn"),
                fault.check,
                fault.subject,
                fault.detail,
            ]
            for fault in faults
        ],
    )

"""``cas verify``: does the store hold what it acknowledged?

Invariant: changes nothing, except that a complete verify that finds nothing lifts the suspect mark, and that --heal
does what it says.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli import failures
from cli.completion import complete_branch, complete_tag
from cli.quantities import parse_duration, parse_share
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cas.check import Fault, Report
    from cas.heal import Healing, Wanted
    from cli.output import Output

    Source = Callable[[Wanted], Iterable[bytes] | None]

app = new_verb("verify")
_NAMED_RUNS: Final = 5
_MENDED: Final = frozenset(
    {"blobs_match", "manifests_complete", "names_resolve", "catalog_matches", "segments_referenced"}
)

Full = Annotated[
    bool,
    typer.Option(
        "--full",
        help="Everything, from the disk and not from memory, as is done in any case after a failed write.",
    ),
]
Sample = Annotated[
    float,
    typer.Option(
        "--sample",
        metavar="SHARE",
        parser=parse_share,
        show_default=False,
        help="Share of files and runs to read.  [default: 100%]",
    ),
]
Rollback = Annotated[
    str | None,
    typer.Option(
        "--rollback",
        metavar="TAG",
        help="Only this: does --branch hold exactly what the tag does? All of it is hashed again.",
        autocompletion=complete_tag,
    ),
]
Branch = Annotated[
    str | None,
    typer.Option(
        "--branch",
        "-b",
        metavar="NAME",
        help="With --rollback: the branch.  [default: main]",
        autocompletion=complete_branch,
    ),
]
Copies = Annotated[
    list[Path] | None,
    typer.Option("--from", metavar="DIR", help="With --heal: a backup or another store. Repeatable."),
]


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas verify",
        "cas verify --full",
        "cas verify --sample 5% --max-duration 60s",
        "cas verify --heal --from /mnt/backup/cas-2026-01-31",
        "cas verify --rollback corr_abc123 --branch main",
    ),
)
def verify(
    ctx: typer.Context,
    full: Full = False,
    sample: Sample = 1.0,
    max_duration: Annotated[
        float | None,
        typer.Option("--max-duration", metavar="TIME", parser=parse_duration, help="Stop after this long."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Choose another sample; the same N picks the same.")
    ] = 0,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, metavar="N", help="How many read at the same time."),
    ] = None,
    heal: Annotated[
        bool,
        typer.Option("--heal", help="First mend what is damaged, from --from and the git repository."),
    ] = False,
    copies: Copies = None,
    rollback: Rollback = None,
    branch: Branch = None,
) -> None:
    """Check that the store holds what it acknowledged.

    Every stored file is read and compared with its digest and its git id, every run with the commit id it promised, and
    every name with what it points at. Commits and exports may go on meanwhile. Damage ends with exit code 7 and names
    the runs it touches. Whether git holds the same is checked by `cas export verify`.

    With --rollback, one rollback is proved: the tag's files are hashed again, and compared with what the branch holds
    now. Another state there, such as a later commit, ends with exit code 11.
    """
    session = ctx.ensure_object(Session)
    if (full or heal) and (sample < 1 or max_duration is not None):
        raise typer.BadParameter(
            "--full and --heal look at everything; leave out --sample and --max-duration"
        )
    if copies and not heal:
        raise typer.BadParameter("--from belongs to --heal")
    if branch is not None and rollback is None:
        raise typer.BadParameter("--branch belongs to --rollback")
    if rollback is not None:
        if full or heal or sample < 1 or max_duration is not None:
            raise typer.BadParameter("--rollback is a check of its own; leave out the other options")
        _verify_rollback(session, rollback, branch or "main")
        return
    healing = _heal(session, copies or [], threads) if heal else None
    with session.open_for_reading() as store:
        if full:
            store.environment.drop_cached()
        with session.output.progress() as progress:
            report = store.verify(
                sample=sample, max_duration_s=max_duration, seed=seed, threads=threads, progress=progress
            )
        suspect = store.environment.suspect_mark() is not None
    if session.as_json:
        healed = {} if healing is None else {"healing": healing.as_dict()}
        session.output.document({**report.as_dict(), "suspect": suspect, **healed})
    else:
        if healing is not None:
            _show_healing(session.output, healing)
        _show(session.output, report, suspect=suspect)
    if not report.ok:
        raise typer.Exit(failures.DAMAGED)


def _verify_rollback(session: Session, tag: str, branch: str) -> None:
    from cli.figures import count_text, size_text
    from cli.output import Cell
    from cli.tags import tag_of

    with session.open_for_reading() as store, session.output.patient_progress("bytes") as progress:
        tag = tag_of(store, tag)
        certificate = store.verify_rollback(tag, branch, progress=progress)
    if session.as_json:
        session.output.document(certificate.as_dict())
    elif certificate.ok:
        read = f"{count_text(certificate.file_count, 'file')}, {size_text(certificate.byte_count)}"
        session.output.line(Cell("ok: ", "good"), f"{branch} holds exactly {tag} ({read}, all hashed again)")
        session.output.fields(
            [
                ("commit", Cell(certificate.commit_oid.hex() if certificate.commit_oid else "", "name")),
                ("artifact root", certificate.artifact_root.hex()),
                ("known from", certificate.read_from),
            ]
        )
    else:
        for text in certificate.damage:
            session.output.line(Cell("damaged: ", "bad"), text)
        for text in certificate.differences:
            session.output.line(Cell("differs: ", "warn"), text)
    if not certificate.ok:
        raise typer.Exit(failures.DAMAGED if certificate.damage else failures.CHECK_FAILED)


def _heal(session: Session, copies: Sequence[Path], threads: int | None) -> Healing:
    """Mend the store from copies of it, and from the git repository if there is one."""
    from cas import ArtifactStore, GitCommandFailedError, StorageError
    from cas.heal import store_source
    from gitexport.healing import git_source
    from gitexport.options import git_options
    from gitexport.repository import GitRepository

    with contextlib.ExitStack() as opened:
        store = opened.enter_context(session.open_for_writing(scans=False))
        config = store.config.replace(git_signing_key=None)
        sources: list[Source] = []
        for path in copies:
            copy = ArtifactStore(config.replace(store_path=path), read_only=True, create=False)
            sources.append(store_source(opened.enter_context(copy).environment))
        try:
            sources.append(git_source(GitRepository.open(config.repo_path, git_options(config))))
        except (GitCommandFailedError, StorageError) as error:
            session.output.note(f"git is not asked: {error.message}")
        with session.output.progress() as progress:
            return store.heal(sources, threads=threads, progress=progress)


def _show_healing(output: Output, healing: Healing) -> None:
    from cli.figures import count_text, list_of
    from cli.output import Cell

    if not healing.damaged:
        output.line("nothing had to be mended")
        return
    output.line(
        f"mended {len(healing.healed):,} of {count_text(len(healing.damaged), 'damaged file')}, "
        f"and {count_text(healing.repaired, 'row')} of the catalog"
    )
    for item in healing.lost:
        runs = ", ".join(map(str, list_of(item["runs"]))) or "no run"
        output.line(Cell("lost: ", "bad"), f"{str(item['digest'])[:12]} of {runs}")


def _show(output: Output, report: Report, *, suspect: bool) -> None:
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
        output.note(f"next: {_next_step(report.faults)}")
    if report.purged:
        output.line(
            f"{count_text(len(report.purged), 'file')} purged on purpose; what refers to them cannot be read"
        )
    if report.mark_lifted:
        output.line("the mark of an earlier failed write is lifted; commits are accepted again")
    if suspect:
        output.warn("an earlier write failed, so commits are refused until `cas verify --full` finds nothing")


def _next_step(faults: Sequence[Fault]) -> str:
    if all(fault.check == "segments_referenced" for fault in faults):
        return "`cas gc`; nothing is lost"
    if all(_can_be_mended(fault) for fault in faults):
        return (
            "`cas verify --heal` mends from git and, with --from, from a backup; "
            "what it cannot mend, committing the same files again does"
        )
    return "`cas verify --heal` mends files and the catalog; nothing mends the rest of the damage: restore a backup"


def _can_be_mended(fault: Fault) -> bool:
    """Tell whether healing may mend a fault: files come from elsewhere, the catalog from the manifests."""
    return fault.check in _MENDED or (
        fault.check == "rows_intact" and fault.subject.startswith(("blobs ", "catalog "))
    )


def _what(fault: Fault) -> str:
    if not fault.runs:
        return fault.detail
    more = " and others" if len(fault.runs) > _NAMED_RUNS else ""
    return f"{fault.detail}; held by {', '.join(fault.runs[:_NAMED_RUNS])}{more}"


def _show_faults(output: Output, faults: Sequence[Fault]) -> None:
    from cli.figures import short_oid
    from cli.output import Cell, Column

    columns = [
        Column("LEVEL"),
        Column("CHECK"),
        Column("WHERE", least=12),
        Column("WHAT", least=30, folds=True),
    ]
    output.table(
        columns,
        [
            [
                Cell(fault.level, "bad" if fault.level == "must" else "warn"),
                fault.check,
                short_oid(fault.subject) if fault.check == "blobs_match" else fault.subject,
                _what(fault),
            ]
            for fault in faults
        ],
    )

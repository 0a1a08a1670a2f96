"""``cas scan``: look for credentials in files, without a store, or in everything a store holds.

Invariant: nothing is changed but the baseline file that was asked for and, with ``--all``, the store's notes of clean
files; no value of a credential is ever written. A file that cannot be read is an error, never a clean file.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from cli import failures
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from cas import Finding, SecretScanner
    from cas.rescan import RescanReport
    from cli.output import Output
    from cli.progress import Progress

app = new_verb("scan")
_CHUNK_BYTES: Final = 1024 * 1024
_SKIPPED_FOLDERS: Final = frozenset(
    {".git", ".cas"}
)  # objects there are compressed; a store was scanned already

Found = list[tuple[str, "Finding"]]


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas scan strategy.py",
        "cas scan . --write-baseline .cas-baseline.json",
        "cas scan . --baseline .cas-baseline.json",
        "cas scan src --sarif > findings.sarif",
        "cas scan --all",
    ),
)
def scan(
    ctx: typer.Context,
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", help="Files, and folders with all below.")
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Scan the store instead: every file and every run, by the present rules."),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="With --all: read files too that these rules found clean before.")
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option("--baseline", metavar="FILE", help="Leave out the findings in this file."),
    ] = None,
    write_baseline: Annotated[
        Path | None,
        typer.Option(
            "--write-baseline",
            metavar="FILE",
            help="Write what is found to this file, as looked at; exit code 0.",
        ),
    ] = None,
    sarif: Annotated[bool, typer.Option("--sarif", help="Write one SARIF 2.1.0 document to stdout.")] = False,
) -> None:
    """Look for credentials in files, with the rules of `cas commit` and without a store.

    Shows file, line, column and rule of each finding, never its value, and ends with exit code 5 if there is one. The
    comment `cas: allow-secret` on a line waives it; findings that were looked at are waived by a baseline, which holds
    fingerprints only and can be kept in git (setting secret_baseline). Links inside folders, and the folders .git and
    .cas, are left out.

    With --all every file and run of the store is scanned, and the runs, branches and tags that hold a finding are
    listed; `cas purge` takes such a file out.
    """
    session = ctx.ensure_object(Session)
    if everything:
        if paths or baseline or write_baseline or sarif:
            raise typer.BadParameter("--all scans the store; leave out paths, --baseline and --sarif")
        _scan_store(session, fresh=fresh)
        return
    if not paths or fresh:
        raise typer.BadParameter("--fresh goes with --all" if fresh else "name files or folders, or --all")
    from cas.secretscan import SecretScanner
    from cas.secretscan import write_baseline as write_baseline_file

    config = session.settings.config
    if write_baseline is not None or baseline is not None:
        config = config.replace(secret_baseline=None if write_baseline is not None else baseline)
    files = list(_files(paths))
    with _progress(session.output, sarif=sarif) as progress:
        found = _scan_all(SecretScanner(config), files, progress)
    if write_baseline is not None:
        write_baseline_file(write_baseline.absolute(), [finding for _, finding in found])
    _show(session, found, len(files), sarif=sarif, baseline=write_baseline)
    if found and write_baseline is None:
        raise typer.Exit(failures.SECRET_DETECTED)


def _progress(output: Output, *, sarif: bool) -> AbstractContextManager[Progress | None]:
    """Return the progress to show; a SARIF document stands alone on stdout, whatever form is asked for besides."""
    return contextlib.nullcontext() if sarif and output.as_json else output.progress()


def _scan_store(session: Session, *, fresh: bool) -> None:
    from cli.figures import count_text, size_text

    output = session.output
    with session.open_for_writing() as store, output.progress() as progress:
        report = store.scan_all(fresh=fresh, progress=progress)
    if session.as_json:
        output.document(report.as_dict())
    else:
        _show_located(output, report)
        output.note(
            f"{count_text(report.run_count, 'commit')}, {count_text(report.blob_count, 'file')} scanned "
            f"({size_text(report.byte_count)}), {report.known_count} known clean, "
            f"{count_text(len(report.located), 'finding')}"
        )
        if report.located:
            output.note("next: rotate each credential, then `cas purge --secret FINGERPRINT --dry-run`")
    if report.unreadable:
        raise typer.Exit(failures.DAMAGED)
    if report.located:
        raise typer.Exit(failures.SECRET_DETECTED)


def _show_located(output: Output, report: RescanReport) -> None:
    from cli.output import Cell

    for item in report.located:
        finding = item.finding
        output.line(
            Cell(f"{finding.name}:{finding.line}:{finding.column}", "name"),
            f": {finding.description} [{finding.rule}] {finding.fingerprint}",
        )
        for run in item.runs:
            named = ", ".join(cast("list[str]", run["tags"]))
            output.line(f"  {run['branch']} {str(run['commit_sha'])[:12]} {named} ({run['export_state']})")
    for what in report.unreadable:
        output.warn(
            f"{what} could not be read or took too long, so it was not scanned; `cas verify` tells more"
        )


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that are meant, folders in name order; links inside folders are not followed."""
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112  a path's own method raises where the path cannot be looked at
            yield path
            continue
        for folder, names, files in os.walk(path, onerror=_refuse):
            names[:] = sorted(name for name in names if name not in _SKIPPED_FOLDERS)
            for name in sorted(files):
                file = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):  # removed since the folder was listed
                    if stat.S_ISREG(file.lstat().st_mode):
                        yield file


def _refuse(error: OSError) -> None:
    from cas.errors import InvalidFileError

    path = str(error.filename)
    raise InvalidFileError(f"{path!r} cannot be read: {error.strerror}", subject=path) from error


def _scan_all(scanner: SecretScanner, files: Sequence[Path], progress: Progress | None) -> Found:
    found: Found = []
    for number, file in enumerate(files, 1):
        in_name = scanner.scan(file.name.encode("utf-8", "surrogateescape"), "file names")
        findings = [*in_name, *_scan_one(scanner, file)]
        found += [(_shown(scanner, file), finding) for finding in findings]
        if progress is not None:
            progress("scan", number, len(files))
    return found


def _shown(scanner: SecretScanner, file: Path) -> str:
    """Return a path as it may be told: without the parts that hold a credential themselves."""
    return scanner.shown_name(str(Path(*map(scanner.shown_name, file.parts))))


def _scan_one(scanner: SecretScanner, file: Path) -> list[Finding]:
    """Return the findings in a file, under the name that `cas commit` would store it by; memory stays bounded."""
    stream = scanner.stream(file.name)
    try:
        with file.open("rb") as opened:
            while chunk := opened.read(_CHUNK_BYTES):
                stream.feed(chunk)
    except OSError as error:
        error.filename = str(file)
        _refuse(error)
    return stream.finish()


def _show(session: Session, found: Found, file_count: int, *, sarif: bool, baseline: Path | None) -> None:
    output = session.output
    if sarif:
        from cas import __version__
        from cli.sarif import sarif_document

        output.whole_document(sarif_document(found, __version__))
    elif session.as_json:
        findings = [{"path": path, **finding.as_dict()} for path, finding in found]
        written = None if baseline is None else str(baseline)
        output.document({"files": file_count, "findings": findings, "baseline": written})
    else:
        _show_text(output, found, file_count, baseline)


def _show_text(output: Output, found: Found, file_count: int, baseline: Path | None) -> None:
    from cli.figures import count_text
    from cli.output import Cell

    for path, finding in found:
        output.line(
            Cell(f"{path}:{finding.line}:{finding.column}", "name"),
            f": {finding.description} ",
            f"[{finding.rule}]",
        )
    scanned = f"{count_text(file_count, 'file')} scanned, {count_text(len(found), 'finding')}"
    output.note(scanned if baseline is None else f"{scanned}, written to {baseline}")
    if found and baseline is None:
        output.note(
            "Remove each credential and rotate it; a false alarm is waived by a comment `cas: allow-secret`."
        )

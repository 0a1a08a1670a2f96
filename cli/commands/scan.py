"""``cas scan``: look for credentials in files, without a store.

Invariant: nothing is changed but the baseline file that was asked for, and no value of a credential is ever written. A
file that cannot be read is an error, never a clean file.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli import failures
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cas import Finding, SecretScanner
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
    ),
)
def scan(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Files, and folders with all below.")],
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

    Shows file, line, column and rule of each finding, never its value, and ends with exit code 5 if there is one. A
    line is waived by a comment `cas: allow-secret` on it; findings that were looked at are waived by a baseline, which
    holds fingerprints only and can be kept in git (setting secret_baseline). Links inside folders, and the folders .git
    and .cas, are left out.
    """
    from cas.secretscan import SecretScanner
    from cas.secretscan import write_baseline as write_baseline_file

    session = ctx.ensure_object(Session)
    config = session.settings.config
    if write_baseline is not None or baseline is not None:
        config = config.replace(secret_baseline=None if write_baseline is not None else baseline)
    files = list(_files(paths))
    with session.output.progress() as progress:
        found = _scan_all(SecretScanner(config), files, progress)
    if write_baseline is not None:
        write_baseline_file(write_baseline.absolute(), [finding for _, finding in found])
    _show(session, found, len(files), sarif=sarif, baseline=write_baseline)
    if found and write_baseline is None:
        raise typer.Exit(failures.SECRET_DETECTED)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that are meant, folders in name order; links inside folders are not followed."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, names, files in os.walk(path, onerror=_refuse):
            names[:] = sorted(name for name in names if name not in _SKIPPED_FOLDERS)
            for name in sorted(files):
                file = Path(folder, name)
                if stat.S_ISREG(file.lstat().st_mode):
                    yield file


def _refuse(error: OSError) -> None:
    from cas.errors import InvalidFileError

    path = str(error.filename)
    raise InvalidFileError(f"{path!r} cannot be read: {error.strerror}", subject=path) from error


def _scan_all(scanner: SecretScanner, files: Sequence[Path], progress: Progress | None) -> Found:
    found: Found = []
    for number, file in enumerate(files, 1):
        found += [(str(file), finding) for finding in _scan_one(scanner, file)]
        if progress is not None:
            progress("scan", number, len(files))
    return found


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

        output.document(sarif_document(found, __version__))
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

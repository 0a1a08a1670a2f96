"""``cas commit``: store the files of one run.

Invariant: the run is durable when the command ends well, and nothing is stored otherwise. Metadata and names are taken
as given; whatever is refused is refused by the library.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cli.completion import complete_workflow
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cli.output import Output

app = new_verb("commit")


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas commit --workflow wf --task t1 --correlation-id abc123 a.py trades.csv",
        "cas commit -w wf -t t1 -c abc123 --metadata metrics.json out/*.csv",
        "cas commit -w wf -t t1 -c abc123 --set test_metrics.net_pnl=120.5 s.py",
        "cas commit -w wf -t t1 -c abc123 --name report/equity.csv=/tmp/eq.csv",
    ),
)
def commit(
    ctx: typer.Context,
    workflow: Annotated[
        str,
        typer.Option("--workflow", "-w", metavar="ID", help="Workflow ID.", autocompletion=complete_workflow),
    ],
    task: Annotated[str, typer.Option("--task", "-t", metavar="ID", help="Task ID.")],
    correlation_id: Annotated[
        str | None,
        typer.Option(
            "--correlation-id", "-c", metavar="ID", help="ID of the run, with or without the prefix corr_."
        ),
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Files of the run; each is stored under its last part."),
    ] = None,
    prompt_hash: Annotated[
        str | None, typer.Option("--prompt-hash", "-p", metavar="TEXT", help="Digest of the prompt.")
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option(
            "--metadata",
            "-m",
            metavar="FILE|-|JSON",
            help="A JSON object: in a file, on stdin (-), or written out.",
        ),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="One metadata value; dots nest, and a VALUE that is JSON is taken as JSON. Repeatable.",
        ),
    ] = None,
    named: Annotated[
        list[str] | None,
        typer.Option(
            "--name", metavar="NAME=PATH", help="Store the file PATH under NAME, such as a/b.csv. Repeatable."
        ),
    ] = None,
) -> None:
    """Store the files of one run.

    The run is durable on this machine when the command returns, and its git commit id is known; `cas export` brings it
    into git. The same call again stores nothing and prints the same; other content under the same correlation ID
    becomes the next revision. Files, names and metadata are searched for credentials first.
    """
    session = ctx.ensure_object(Session)
    sources = _sources(files or (), named or ())
    given = _metadata(metadata, pairs or ())
    _check_given(session, sources, correlation_id)
    with session.open_for_writing() as store, session.output.patient_progress("bytes") as progress:
        result = store.commit_artifacts(
            workflow_id=workflow,
            task_id=task,
            files=sources,
            metadata=given,
            correlation_id=correlation_id,
            prompt_hash=prompt_hash,
            progress=progress,
        )
    if session.as_json:
        session.output.document(result)
    else:
        _show(session.output, result)


def _check_given(session: Session, sources: dict[str, Path], correlation_id: str | None) -> None:
    """Refuse in the terminal's words what the library would refuse in its own."""
    from cas.errors import InvalidIdError, InvalidInputError

    if not sources:
        raise InvalidInputError("a run needs at least one file", hint="Name the files after the options.")
    if correlation_id is None and session.settings.config.require_correlation_id:
        raise InvalidIdError(
            "the run has no correlation ID",
            subject="correlation_id",
            hint="Give one with --correlation-id, or have one made up: -o require_correlation_id=false",
        )


def _show(output: Output, result: dict[str, object]) -> None:
    from cli.output import Cell

    output.fields(
        [
            ("branch", Cell(str(result["branch"]), "name")),
            ("commit", Cell(str(result["commit_sha"]), "name")),
            ("tags", ", ".join(cast("list[str]", result["tags"]))),
            ("revision", str(result["revision"])),
            ("export", str(result["export_state"])),
        ]
    )


def _sources(files: Sequence[Path], named: Sequence[str]) -> dict[str, Path]:
    """Return name to path; a name that is given twice and a folder are refused by name."""
    from cas.errors import InvalidFileError, InvalidInputError, InvalidNameError

    sources: dict[str, Path] = {}
    pairs = [(path.name, path) for path in files]
    for item in named:
        name, mark, place = item.partition("=")
        if not mark or not name or not place:
            raise InvalidInputError(
                f"--name {item!r} is not of the form NAME=PATH", subject=item, hint="--name a.csv=out/a.csv"
            )
        pairs.append((name, Path(place)))
    for name, path in pairs:
        if os.path.isdir(path):  # noqa: PTH112  a path's own method raises where the path cannot be looked at
            raise InvalidFileError(
                f"{str(path)!r} is a folder",
                subject=str(path),
                hint=f"Name its files, such as {path}/*, or give each a name: --name sub/a.csv={path}/a.csv",
            )
        if name in sources:
            raise InvalidNameError(
                f"two files are called {name!r}: {str(sources[name])!r} and {str(path)!r}",
                subject=name,
                hint=f"Give one another name: --name other/{name}={path}",
            )
        sources[name] = path
    return sources


def _metadata(source: str | None, pairs: Sequence[str]) -> dict[str, object]:
    metadata = {} if source is None else _json_object(source)
    for item in pairs:
        _set(metadata, item)
    return metadata


def _json_object(source: str) -> dict[str, object]:
    from cas.errors import InvalidMetadataError

    if source.lstrip().startswith("{"):
        text, where = source, "--metadata"
    elif source == "-":
        text, where = _text_of(lambda: typer.get_binary_stream("stdin").read(), "stdin"), "stdin"
    else:
        text, where = _text_of(Path(source).read_bytes, source), source
    try:
        loaded: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidMetadataError(f"metadata in {where} is not JSON: {error}", subject=where) from error
    if not isinstance(loaded, dict):
        raise InvalidMetadataError(f"metadata in {where} is not a JSON object", subject=where)
    return cast("dict[str, object]", loaded)


def _text_of(read: Callable[[], bytes], where: str) -> str:
    """Return what a file or stdin holds."""
    from cas.errors import InvalidMetadataError

    try:
        return read().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InvalidMetadataError(
            f"metadata in {where!r} cannot be read: {why}",
            subject=where,
            hint="--metadata takes a file, - for stdin, or a JSON object.",
        ) from error


def _set(metadata: dict[str, object], item: str) -> None:
    """Set one value; dots in the key walk into nested objects."""
    from cas.errors import InvalidMetadataError

    key, mark, text = item.partition("=")
    if not mark or not all(key.split(".")):
        raise InvalidMetadataError(
            f"--set {item!r} is not of the form KEY=VALUE",
            subject=item,
            hint="--set test_metrics.win_rate=0.5",
        )
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        value = text  # plain words need no quotes
    *parents, last = key.split(".")
    target = metadata
    for part in parents:
        inner = target.setdefault(part, {})
        if not isinstance(inner, dict):
            raise InvalidMetadataError(f"--set {key}: {part!r} holds a value already", subject=key)
        target = cast("dict[str, object]", inner)
    target[last] = value

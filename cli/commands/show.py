"""``cas show``: one run, or one rollback.

Invariant: read-only; every value comes from the record of the library.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cli.completion import complete_ref
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

app = new_verb("show")


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas show latest", "cas show abc123 --files", "cas show corr_abc123@2", "cas show 3f9a12 --json"
    ),
)
def show(
    ctx: typer.Context,
    ref: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            help="latest, latest~N, a correlation ID, tag, branch, or the beginning of a commit or manifest id.",
            autocompletion=complete_ref,
        ),
    ],
    files: Annotated[
        bool, typer.Option("--files", "-f", help="Show the digest and git id of each file too.")
    ] = False,
) -> None:
    """Show one run: names, commit, tags, metrics, files, and how far its export is.

    `cas help names` tells what a REF may be.
    """
    from cli.figures import mapping_of
    from cli.output import Column
    from cli.shown import file_row, run_fields, step_fields

    session = ctx.ensure_object(Session)
    output = session.output
    with session.open_for_reading() as store:
        record = store.show(ref)
        listed = store.list_files(ref) if "correlation_id" in record else []
    if session.as_json:
        output.document({**record, "file_entries": listed})
        return
    if "correlation_id" not in record:
        output.fields(step_fields(record))
        return
    output.fields(run_fields(record, session.now_us()))
    output.line()
    columns = [Column("FILE"), Column("SIZE", "right")]
    columns += [Column("DIGEST", keep=1), Column("GIT ID", keep=2)] if files else []
    output.table(columns, [file_row(file, ids=files) for file in listed])
    known = {"agent_version", "llm_version", "test_metrics"}
    other = {key: value for key, value in mapping_of(record["metadata"]).items() if key not in known}
    if other:
        output.line()
        for line in json.dumps(other, indent=2, ensure_ascii=False).splitlines():
            output.line(line)

"""``cas revert``: take a branch back to a tag by a new commit.

Invariant: history is never rewritten; the certificate of the library, what was read back and matched, is shown.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cli.completion import complete_branch, complete_tag
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

app = new_verb("revert")


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas revert corr_abc123",
        "cas revert abc123",
        'cas revert corr_abc123@2 --branch main --reason "drawdown in live trading"',
    ),
)
def revert(
    ctx: typer.Context,
    tag: Annotated[
        str,
        typer.Argument(
            metavar="TAG",
            help="A correlation or prompt tag; any other REF means the tag of that run.",
            autocompletion=complete_tag,
        ),
    ],
    branch: Annotated[
        str,
        typer.Option(
            "--branch", "-b", metavar="NAME", help="The branch to move.", autocompletion=complete_branch
        ),
    ] = "main",
    reason: Annotated[
        str | None, typer.Option("--reason", "-r", metavar="TEXT", help="Why; kept in the history.")
    ] = None,
) -> None:
    """Take a branch back to a tag by a new commit.

    The folder Backtest/codes/ of the branch becomes the tag's exactly; every other path stays, and history is not
    rewritten. Each file of the tag is read back against its digest first, and hashed again once the branch has moved,
    which `cas verify --rollback` does at any later time. The commit is durable and its id known at once; `cas export`
    brings it into git. A branch that holds the state already gets no new commit.

    A correlation ID means its newest revision; `cas help names` tells what else a REF may be.
    """
    from cli.figures import count_text, list_of, mapping_of, size_text, whole_of
    from cli.output import Cell
    from cli.tags import tag_of

    session = ctx.ensure_object(Session)
    with session.open_for_writing() as store, session.output.patient_progress("bytes") as progress:
        tag = tag_of(store, tag)
        result = store.revert_to_tag(tag, branch, reason=reason, progress=progress)
    if session.as_json:
        session.output.document(result)
        return
    certificate = mapping_of(result["certificate"])
    if not result["created"]:
        session.output.line(f"{branch} is at {tag} already; nothing to do")
        return
    count, size_bytes = whole_of(certificate["files"]), whole_of(certificate["bytes"])
    session.output.fields(
        [
            ("branch", Cell(branch, "name")),
            ("went back to", tag),
            ("commit", Cell(str(result["commit_sha"]), "name")),
            (
                "hashed again",
                f"{count_text(count, 'file')}, {size_text(size_bytes)}"
                + (", all matched" if certificate["ok"] else ""),
            ),
        ]
    )
    for text in (*list_of(certificate["damage"]), *list_of(certificate["differences"])):
        session.output.warn(str(text))
    session.output.note("next: cas export")

"""``cas purge``: take a file with a credential out of the store for good.

Invariant: no value of a credential is written; git is not touched, only told about. Nothing is removed without a
word from the caller: the target is a whole fingerprint or digest, never the beginning of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from cli.output import Output

app = new_verb("purge")

Rows = list[dict[str, object]]


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas scan --all",
        "cas purge --secret FINGERPRINT --dry-run",
        "cas purge --secret FINGERPRINT",
    ),
)
def purge(
    ctx: typer.Context,
    secret: Annotated[
        str,
        typer.Option(
            "--secret",
            metavar="FINGERPRINT|DIGEST",
            help="What to remove: the fingerprint of a finding, or the digest of a file, both written out.",
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
) -> None:
    """Take a file with a credential out of the store for good.

    Its bytes are removed and cannot be stored again. Runs that held it keep their ids and history; reading that file is
    refused from then on, and exports that would send it out are set aside. git and the remote are not touched: the
    branches, tags, commits and paths to rewrite there are listed, and so is what to rotate. Bytes stay in freed pages
    of the data file, and in backups, until the file is compacted.
    """
    session = ctx.ensure_object(Session)
    output = session.output
    with session.open_for_writing() as store, output.progress() as progress:
        result = store.purge(secret, dry_run=dry_run, progress=progress)
    if session.as_json:
        output.document(result)
    else:
        _show(output, result)


def _rows(result: dict[str, object], key: str) -> Rows:
    return cast("Rows", result[key])


def _show(output: Output, result: dict[str, object]) -> None:
    from cli.figures import size_text
    from cli.output import Cell

    verb = "would remove" if result["dry_run"] else "removed"
    for blob in _rows(result, "blobs"):
        done = "removed before" if blob["purged_before"] and result["dry_run"] else verb
        named = ", ".join(cast("list[str]", blob["names"]))
        digest = str(blob["digest"])[:12]
        output.line(
            Cell(f"{done}: ", "good"), f"{digest} {named} ({size_text(cast('int', blob['size_bytes']))})"
        )
    for run in _rows(result, "runs"):
        output.line(f"  in {run['branch']} {str(run['commit_sha'])[:12]} ({run['export_state']})")
    git = cast("dict[str, list[str]]", result["git"])
    if git["commits"]:
        output.line("git holds it as well; rewrite there, here and on every remote and clone:")
        for key in ("branches", "tags", "commits", "later_commits", "paths"):
            for value in git[key]:
                output.line(f"  {key.replace('_', ' ')}: {value}")
    for item in _rows(result, "rotate"):
        output.line(f"rotate: {item['rule']} {item['fingerprint']}")
    for item in _rows(result, "remaining"):
        output.warn(
            f"the {item['where']} of {item['branch']} {str(item['commit_sha'])[:12]} holds it too and cannot be "
            "purged: ids depend on it"
        )
    if result["held"]:
        output.note(f"{result['held']} queued exports are set aside for good")
    if not result["dry_run"]:
        output.note("next: `cas gc --compact` clears freed pages; old backups still hold the bytes")

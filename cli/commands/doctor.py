"""``cas doctor``: check everything the store needs, and say what to do.

Invariant: read-only; ends with an error code only when something does not work, not for a warning.
"""

from __future__ import annotations

import typer

from cli import failures
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

app = new_verb("doctor")


@app.command(
    cls=VerbCommand,
    epilog=examples("cas doctor", "cas doctor --store /var/lib/cas/runs", "cas doctor --json"),
)
def doctor(ctx: typer.Context) -> None:
    """Check everything the store needs, and say what to do.

    Looks at Python, lmdb, git, the settings, the secret gate, the store with its permissions, file system and disk, the
    repository, its remote, and the export. Each line is ok, warn or fail; with a fail the exit code is 11.
    """
    from cli.doctor import run_checks
    from cli.output import Cell, Style

    session = ctx.ensure_object(Session)
    results = list(run_checks(session))
    worst = next((status for status in ("fail", "warn") if any(r.status == status for r in results)), "ok")
    if session.as_json:
        session.output.document({"status": worst, "checks": [result._asdict() for result in results]})
    else:
        styles: dict[str, Style] = {"ok": "good", "warn": "warn", "fail": "bad"}
        width = max(len(result.check) for result in results)
        for result in results:
            mark = Cell(f"{result.status:<4}", styles[result.status])
            session.output.line(mark, f"  {result.check:<{width}}  {result.detail}")
            if result.hint and result.status != "ok":
                session.output.line(Cell(f"      {'':<{width}}  {result.hint}", "dim"))
    if worst == "fail":
        raise typer.Exit(failures.CHECK_FAILED)

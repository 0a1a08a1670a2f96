"""``cas alerts``: the rules of the contract, evaluated now; the exit code says how bad it is.

Invariant: the rules are the library's; the webhook gets what ``--json`` shows, and is not called when nothing fires.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cli import failures
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

app = new_verb("alerts")

_CODES = {
    "info": failures.ALERT_INFO,
    "warning": failures.ALERT_WARNING,
    "critical": failures.ALERT_CRITICAL,
}


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas alerts", "cas alerts --json", "cas alerts --webhook https://ops.example.com/hooks/cas"
    ),
)
def alerts(
    ctx: typer.Context,
    webhook: Annotated[
        str | None,
        typer.Option(
            "--webhook", metavar="URL", help="Post what fires as JSON, signed if on_exported_secret is set."
        ),
    ] = None,
) -> None:
    """Say what is wrong with commits and pushes.

    Critical: more than 5 % of the commits of an hour failed, three at least. Warning: more than 10 % of its pushes did,
    three at least. Info: a secret was detected, or a rollback performed. The running hour and the one before it are
    looked at. Exit code 0: nothing; 12: info; 13: warning; 14: critical.
    """
    from cas import health

    session = ctx.ensure_object(Session)
    if webhook is not None:
        from gitexport.webhook import check_url

        check_url(webhook)
    with session.open_for_reading() as store, store.environment.read() as transaction:
        fired = health.evaluate(transaction, session.now_us())
        store_id = store.meta.store_id
    worst = max((alert.severity for alert in fired), key=health.SEVERITIES.index, default=None)
    document: dict[str, object] = {
        "event": "alerts",
        "store_id": store_id,
        "at_us": session.now_us(),
        "severity": worst,
        "alerts": [alert.as_dict() for alert in fired],
    }
    if session.as_json:
        session.output.document(document)
    else:
        _show(session, [(alert.severity, alert.reason) for alert in fired])
    if webhook is not None and fired:
        _post(session, webhook, document)
    if worst is not None:
        raise typer.Exit(_CODES[worst])


def _post(session: Session, url: str, document: dict[str, object]) -> None:
    """Post what fires; that nobody took it is a warning, as the exit code has to say how bad things are."""
    from cas.errors import ExportError
    from gitexport import webhook

    secret = webhook.read_secret(session.settings.config.on_exported_secret)
    try:
        webhook.post(url, webhook.encode_payload(document), secret=secret)
    except ExportError as error:
        session.output.warn(error.message)


def _show(session: Session, fired: list[tuple[str, str]]) -> None:
    from cli.output import Cell, Style

    styles: dict[str, Style] = {"info": "", "warning": "warn", "critical": "bad"}
    for severity, reason in fired:
        session.output.line(Cell(f"{severity:<8}", styles[severity]), "  ", reason)
    if not fired:
        session.output.line(Cell("ok: ", "good"), "nothing fires")

"""``cas help``: a command's help, or a topic.

Invariant: a topic goes before a command of the same name, whose own help is ``cas <command> --help``.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cli.session import Session
from cli.topics import TOPICS
from cli.verbs import VerbCommand, examples, load_verb, new_verb

app = new_verb("help")
_WIDEST_COLUMNS = 100  # longer lines are hard to read


def _complete_subject(incomplete: str) -> list[str]:
    from cli.app import VERBS

    return [name for name in (*TOPICS, *VERBS) if name.startswith(incomplete)]


@app.command(
    cls=VerbCommand,
    name="help",
    epilog=examples("cas help names", "cas help exit-codes", "cas help config", "cas help commit"),
)
def help_(
    ctx: typer.Context,
    subject: Annotated[
        str | None,
        typer.Argument(metavar="TOPIC|COMMAND", help="What to explain.", autocompletion=_complete_subject),
    ] = None,
) -> None:
    """Explain a command or a topic; alone, list them all."""
    session = ctx.ensure_object(Session)
    root = ctx.find_root()
    if subject is None:
        text = root.get_help() + "\n\nTopics:\n"
        text += "".join(f"  {name:<12}{summary}\n" for name, (summary, _) in TOPICS.items())
    elif subject in TOPICS:
        text = TOPICS[subject][1](min(session.output.width, _WIDEST_COLUMNS))
    else:
        text = _command_help(ctx, subject)
    if session.as_json:
        session.output.document({"subject": subject, "text": text})
    else:
        session.output.block(text)


def _command_help(ctx: typer.Context, name: str) -> str:
    from cas.errors import NotFoundError
    from cli.app import VERBS

    if name not in VERBS:
        raise NotFoundError(
            f"there is no command or topic {name!r}",
            subject=name,
            hint="`cas help` lists commands and topics.",
        )
    command = load_verb(name)
    context: typer.Context = command.make_context(name, [], parent=ctx.find_root(), resilient_parsing=True)
    return context.get_help() + "\n"

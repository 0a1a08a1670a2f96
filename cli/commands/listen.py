"""``cas listen``: a service that stores the runs whose tests pass, as the events on Redis tell.

Invariant: it goes on until it is told to stop, whatever Redis or the disk do meanwhile; a stop ends between two events.
No line shows the password of a URL.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.quantities import parse_duration
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from cas.events.redisbus import RedisBusBase
    from cas.records import Record

app = new_verb("listen")


Redis = Annotated[
    str,
    typer.Option(
        "--redis",
        metavar="URL|@FILE",
        help="Where Redis is; @FILE reads the URL, with its password, from a file.",
    ),
]
Streams = Annotated[
    bool, typer.Option("--streams", help="Use Redis Streams, which lose no event, instead of pub/sub.")
]
Group = Annotated[str, typer.Option("--group", metavar="NAME", help="Consumer group on Streams.")]
Consumer = Annotated[
    str | None,
    typer.Option(
        "--consumer", metavar="NAME", help="This consumer's name on Streams.  [default: host and process]"
    ),
]
ClaimAfter = Annotated[
    float,
    typer.Option(
        "--claim-after",
        metavar="TIME",
        parser=parse_duration,
        show_default=False,
        help="Take over events that another consumer has had in work for so long.  [default: 60s]",
    ),
]
Workspace = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        metavar="DIR",
        help="Folder that the paths in events count from, and may not leave.  [default: setting repo_path]",
    ),
]
Health = Annotated[
    float,
    typer.Option(
        "--health",
        metavar="TIME",
        parser=parse_duration,
        show_default=False,
        help="How often a line about its health is written.  [default: 60s]",
    ),
]


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas listen --redis redis://localhost:6379/0 --streams",
        "cas listen --redis @/etc/cas/redis-url --workspace /srv/algo",
    ),
)
def listen(
    ctx: typer.Context,
    redis: Redis,
    streams: Streams = False,
    group: Group = "artifact-store",
    consumer: Consumer = None,
    claim_after: ClaimAfter = 60.0,
    workspace: Workspace = None,
    health: Health = 60.0,
) -> None:
    """Store the runs whose tests pass, as events tell.

    Each test.passed on test.results is stored and answered by artifact.committed, artifact.rejected or artifact.failed
    on workflow.events; runs that an export has pushed are told as artifact.pushed. A lost connection is made again
    after pauses that double up to 30 seconds. Ends cleanly on SIGTERM or Ctrl-C.
    """
    from cas.events import ArtifactEventHandler
    from cas.events.service import ListenService
    from cli.signals import stop_signal

    session = ctx.ensure_object(Session)

    def tell(line: str) -> None:
        if session.as_json:
            session.output.event("note", {"text": line})
        else:
            session.output.note(line)

    def tell_health(report: Record) -> None:
        session.output.event("health", report)

    bus = _open_bus(_read_url(redis), group if streams else None, consumer, claim_after)
    with session.open_for_writing() as store:
        handler = ArtifactEventHandler(store, bus, workspace=workspace)
        with stop_signal() as stopping:
            service = ListenService(
                store,
                bus,
                handler,
                wait=stopping.wait,
                should_stop=stopping.is_set,
                tell=tell,
                tell_health=tell_health if session.as_json else None,
                health_s=health,
            )
            service.run()
    if session.as_json:
        session.output.document(service.report())


def _read_url(text: str) -> str:
    if not text.startswith("@"):
        return text
    from cas.errors import ConfigError

    try:
        return Path(text[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{text[1:]} cannot be read", subject="redis") from error


def _open_bus(url: str, group: str | None, consumer: str | None, claim_after_s: float) -> RedisBusBase:
    if group is None:
        from cas.events.pubsub import RedisBus

        return RedisBus(url)
    from cas.events.streams import RedisStreamsBus

    return RedisStreamsBus(url, group=group, consumer=consumer, claim_after_s=claim_after_s)

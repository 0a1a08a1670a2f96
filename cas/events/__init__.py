"""Events of the orchestrator: their form, the buses that carry them, the handler that stores runs on ``test.passed``.

    from cas.events import ArtifactEventHandler, MemoryBus

The buses on Redis need the extra ``redis`` and stand in `cas.events.pubsub` and `cas.events.streams`; they are the only
modules of ``cas`` that open a socket, and nothing else of it imports them.
"""

from __future__ import annotations

from cas.events.bus import EventBus, MemoryBus, Subscriber
from cas.events.event import Channels, Event, EventType, decode, encode
from cas.events.handler import ArtifactEventHandler

__all__ = [
    "ArtifactEventHandler",
    "Channels",
    "Event",
    "EventBus",
    "EventType",
    "MemoryBus",
    "Subscriber",
    "decode",
    "encode",
]

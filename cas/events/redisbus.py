"""What the buses on Redis have in common: a connection, subscribers, and what becomes of a message.

Invariant: a message that is no event is counted and passed by; what a subscriber raises is handed back, not swallowed.
How an event is sent and received is the bus's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from cas.errors import InvalidInputError
from cas.events.bus import Subscribers
from cas.events.connection import Connection
from cas.events.event import decode, encode

if TYPE_CHECKING:
    from cas.events.bus import Subscriber
    from cas.events.event import Event


class RedisBusBase(ABC):
    """A bus on Redis. Publishing is thread-safe; `connect` and `poll` belong to one thread.

    Args:
        url: Where the server is; see `cas.events.connection.Connection`.

    Attributes:
        redelivers: An event whose subscriber raised comes again.
        malformed_count: Messages that were no events.
        failures: What subscribers raised since the last `poll` began.

    Raises:
        ConfigError: The URL is unusable, or the extra ``redis`` is not installed.
    """

    redelivers = False

    def __init__(self, url: str) -> None:
        self._connection = Connection(url)
        self._subscribers = Subscribers()
        self.malformed_count = 0
        self.failures: list[Exception] = []

    @property
    def shown(self) -> str:
        """Where the server is, without user, password and query."""
        return self._connection.shown

    def publish(self, channel: str, event: Event) -> None:
        """Send an event.

        Raises:
            ExportError: Redis does not answer.
        """
        self._connection.call(lambda client: self._send(client, str(channel), encode(event)))

    def publish_once(self, channel: str, event: Event) -> None:
        """Send an event unless one with its id was sent in the last week.

        Raises:
            ExportError: Redis does not answer.
        """
        self._connection.publish_once(
            event.event_id, lambda pipe: self._send(pipe, str(channel), encode(event))
        )

    def subscribe(self, channel: str, subscriber: Subscriber) -> None:
        """Call ``subscriber`` with each event of a channel, from within `poll`."""
        self._subscribers.add(channel, subscriber)

    def unsubscribe(self, channel: str, subscriber: Subscriber) -> None:
        """Stop calling ``subscriber``."""
        self._subscribers.remove(channel, subscriber)

    @abstractmethod
    def connect(self) -> None:
        """Make ready to receive; raises ExportError when Redis does not answer."""

    @abstractmethod
    def poll(self, timeout_s: float) -> int:
        """Deliver what comes within so many seconds; return how many messages came.

        Raises:
            ExportError: The connection is lost; the next call makes a new one.
        """

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @abstractmethod
    def _send(self, client: Any, channel: str, content: bytes) -> Any:  # noqa: ANN401  what Redis answers depends on the command
        """Send an encoded event, or queue the command that sends it."""

    def _hand_out(self, channel: str, content: bytes) -> list[Exception]:
        """Deliver one message; return what its subscribers raised."""
        try:
            event = decode(content)
        except InvalidInputError:
            self.malformed_count += 1
            return []
        return self._subscribers.deliver(channel, event)

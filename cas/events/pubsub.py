"""The orchestrator's bus: Redis pub/sub, one JSON text per event.

Pub/sub keeps nothing: an event that nobody listens to at the moment is gone, and so is one whose subscriber is killed.
Use `cas.events.streams` where none may be lost. Invariant: a message that is no event is counted and passed by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cas.errors import InvalidInputError
from cas.events.bus import Subscribers
from cas.events.connection import Connection
from cas.events.event import decode, encode

if TYPE_CHECKING:
    from cas.events.bus import Subscriber
    from cas.events.event import Event

_WORD_S: Final = 1.0  # a server on the same network answers in a thousandth of this


class RedisBus:
    """A bus on Redis pub/sub. Publishing is thread-safe; `poll` belongs to one thread.

    Args:
        url: Where the server is; see `cas.events.connection.Connection`.

    Attributes:
        malformed_count: Messages that were no events.
        failures: What subscribers raised since the last `poll` began.

    Raises:
        ConfigError: The URL is unusable, or the extra ``redis`` is not installed.
    """

    redelivers = False

    def __init__(self, url: str) -> None:
        self._connection = Connection(url)
        self._subscribers = Subscribers()
        self._listener: Any = None
        self._listened: set[str] = set()
        self._early: list[Any] = []
        self.malformed_count = 0
        self.failures: list[Exception] = []

    def publish(self, channel: str, event: Event) -> None:
        """Send an event to everyone who listens now.

        Raises:
            ExportError: Redis does not answer.
        """
        self._connection.call(lambda client: client.publish(str(channel), encode(event)))

    def publish_once(self, channel: str, event: Event) -> None:
        """Send an event unless one with its id was sent in the last week.

        Raises:
            ExportError: Redis does not answer.
        """
        self._connection.publish_once(event.event_id, lambda pipe: pipe.publish(str(channel), encode(event)))

    def subscribe(self, channel: str, subscriber: Subscriber) -> None:
        """Call ``subscriber`` with each event of a channel, from within `poll`."""
        self._subscribers.add(channel, subscriber)

    def unsubscribe(self, channel: str, subscriber: Subscriber) -> None:
        """Stop calling ``subscriber``."""
        self._subscribers.remove(channel, subscriber)

    def connect(self) -> None:
        """Begin to listen; events published from its return on are received.

        Raises:
            ExportError: Redis does not answer.
        """
        self._connection.call(self._listen)

    def poll(self, timeout_s: float) -> int:
        """Wait for one event and deliver it; return how many messages came, 0 or 1.

        Raises:
            ExportError: The connection is lost; the next call makes a new one. What was sent meanwhile is gone.
        """
        self.failures = []
        try:
            message = self._connection.call(lambda client: self._receive(client, timeout_s))
        except Exception:
            self._drop_listener()
            raise
        if message is None:
            return 0
        try:
            event = decode(message["data"])
        except InvalidInputError:
            self.malformed_count += 1
            return 1
        self.failures = self._subscribers.deliver(message["channel"].decode(), event)
        return 1

    def close(self) -> None:
        """Close the connection."""
        self._drop_listener()
        self._connection.close()

    def _receive(self, client: Any, timeout_s: float) -> Any:  # noqa: ANN401
        self._listen(client)
        if not self._listened:
            return None
        if self._early:
            return self._early.pop(0)
        return self._listener.get_message(ignore_subscribe_messages=True, timeout=timeout_s)

    def _listen(self, client: Any) -> None:  # noqa: ANN401
        if self._listener is None:
            self._listener = client.pubsub()
            self._listened = set()
        wanted = set(self._subscribers.channels())
        for channel in sorted(wanted - self._listened):
            self._listener.subscribe(channel)
            self._await_word()
        for channel in sorted(self._listened - wanted):
            self._listener.unsubscribe(channel)
        self._listened = wanted

    def _await_word(self) -> None:
        """Wait for the server's word that a subscription has begun; events that come before it are kept."""
        while True:
            message = self._listener.get_message(timeout=_WORD_S)
            if message is None or message["type"] == "subscribe":
                return
            if message["type"] == "message":
                self._early.append(message)

    def _drop_listener(self) -> None:
        listener, self._listener, self._listened = self._listener, None, set()
        if listener is not None:
            self._connection.call(lambda _: listener.close())

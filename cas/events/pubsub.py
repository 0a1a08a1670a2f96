"""The orchestrator's bus: Redis pub/sub, one JSON text per event.

Pub/sub keeps nothing: an event that nobody listens to at the moment is gone, and so is one whose subscriber is killed.
Use `cas.events.streams` where none may be lost. Invariant: a message that is no event is counted and passed by.
"""

from __future__ import annotations

from typing import Any, Final

from cas.events.redisbus import RedisBusBase

_WORD_S: Final = 1.0  # a server on the same network answers in a thousandth of this


class RedisBus(RedisBusBase):
    """A bus on Redis pub/sub; see the base class for its arguments and attributes."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._listener: Any = None
        self._listened: set[str] = set()
        self._early: list[Any] = []

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
        self.failures = self._hand_out(message["channel"].decode(), message["data"])
        return 1

    def close(self) -> None:
        """Close the connection."""
        try:
            self._drop_listener()
        finally:
            super().close()

    def _send(self, client: Any, channel: str, content: bytes) -> Any:  # noqa: ANN401
        return client.publish(channel, content)

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

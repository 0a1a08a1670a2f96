"""The bus that events travel on: what the handler asks of it, and one in memory.

Invariant: a subscriber that fails does not keep the others from getting the event.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from cas.events.event import Event

Subscriber = Callable[[Event], object]


@runtime_checkable
class EventBus(Protocol):
    """What carries events; any object with these methods will do.

    A bus that delivers an event again when its subscriber raised has a true attribute ``redelivers``. One that can
    recognise an event it has carried already has a method ``publish_once``.
    """

    def publish(self, channel: str, event: Event) -> None:
        """Send an event to everyone who subscribed to the channel."""
        ...

    def subscribe(self, channel: str, subscriber: Subscriber) -> None:
        """Call ``subscriber`` with each event of a channel."""
        ...

    def unsubscribe(self, channel: str, subscriber: Subscriber) -> None:
        """Stop calling ``subscriber``; one that is not subscribed is ignored."""
        ...


class Subscribers:
    """Who is to be called for which channel; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_channel: dict[str, list[Subscriber]] = {}

    def add(self, channel: str, subscriber: Subscriber) -> bool:
        """Add a subscriber; tell whether it is the channel's first."""
        with self._lock:
            listed = self._by_channel.setdefault(str(channel), [])
            listed.append(subscriber)
            return len(listed) == 1

    def remove(self, channel: str, subscriber: Subscriber) -> bool:
        """Remove a subscriber; tell whether the channel has none now."""
        with self._lock:
            listed = self._by_channel.get(str(channel), [])
            if subscriber in listed:
                listed.remove(subscriber)
            if not listed:
                self._by_channel.pop(str(channel), None)
            return not listed

    def channels(self) -> list[str]:
        """Return the channels with subscribers."""
        with self._lock:
            return sorted(self._by_channel)

    def deliver(self, channel: str, event: Event) -> list[Exception]:
        """Call the subscribers of a channel; return what they raised."""
        with self._lock:
            listed = list(self._by_channel.get(str(channel), ()))
        failures: list[Exception] = []
        for subscriber in listed:
            try:
                subscriber(event)
            except Exception as error:  # noqa: BLE001  the bus goes on, and hands it to who runs the bus
                failures.append(error)
        return failures


class MemoryBus:
    """A bus inside one process, for tests and small programs: `publish` calls the subscribers at once. Thread-safe.

    Attributes:
        failures: What subscribers raised, oldest first.
    """

    redelivers = False

    def __init__(self) -> None:
        self._subscribers = Subscribers()
        self.failures: list[Exception] = []

    def publish(self, channel: str, event: Event) -> None:
        """Call every subscriber of the channel; what they raise is kept in ``failures``."""
        self.failures += self._subscribers.deliver(channel, event)

    def subscribe(self, channel: str, subscriber: Subscriber) -> None:
        """Call ``subscriber`` with each event of a channel."""
        self._subscribers.add(channel, subscriber)

    def unsubscribe(self, channel: str, subscriber: Subscriber) -> None:
        """Stop calling ``subscriber``."""
        self._subscribers.remove(channel, subscriber)

"""The service behind ``cas listen``: polls a Redis bus, announces pushes, tells its health, survives a lost connection.

Invariant: it ends only when it is asked to, between two events; a failure of Redis or of the disk is told once, and
tried again after pauses that double.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from cas.errors import ArtifactStoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cas.events.handler import ArtifactEventHandler
    from cas.events.redisbus import RedisBusBase
    from cas.records import Record
    from cas.store import ArtifactStore

POLL_S: Final = 0.5  # how long a stop waits at most, and about how late a push is announced
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0


class ListenService:
    """Runs a handler on a Redis bus; owned by one thread.

    Args:
        store: An open store.
        bus: The bus, which the service closes.
        handler: The handler of both.
        wait: Sleeps so many seconds, less when it is to stop.
        should_stop: Tells whether to stop.
        tell: Takes a line about what happens.
        tell_health: Takes `report` every ``health_s`` seconds and at the end; None has it told as a line.
        health_s: Seconds between two words about its health.
        clock: Monotonic seconds; injected in tests.
    """

    def __init__(
        self,
        store: ArtifactStore,
        bus: RedisBusBase,
        handler: ArtifactEventHandler,
        *,
        wait: Callable[[float], object],
        should_stop: Callable[[], bool],
        tell: Callable[[str], object],
        tell_health: Callable[[Record], object] | None = None,
        health_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._bus = bus
        self._handler = handler
        self._wait = wait
        self._should_stop = should_stop
        self._tell = tell
        self._take_health = tell_health or self._tell_health_line
        self._health_s = health_s
        self._clock = clock
        self._pause_s = 0.0
        self._has_connected = False
        self._events_count = 0
        self._failures_count = 0

    def run(self) -> None:
        """Serve until asked to stop.

        Raises:
            StorageError: The store cannot be written at the beginning.
        """
        self._handler.start()
        health_at_s = self._clock() + self._health_s
        while not self._should_stop():
            self._step()
            if self._clock() >= health_at_s:
                self._tell_health()
                health_at_s = self._clock() + self._health_s
        self._handler.stop()
        try:
            self._bus.close()
        except ArtifactStoreError as error:
            self._tell(error.message)
        self._tell_health()

    def report(self) -> Record:
        """Return its state, and what was done: events received, published by type, malformed, and failures."""
        return {
            "state": "waiting for Redis" if self._pause_s else "listening",
            "received": self._events_count,
            "published": dict(self._handler.counts),
            "malformed": self._bus.malformed_count,
            "failures": self._failures_count,
        }

    def _step(self) -> None:
        try:
            self._bus.connect()
            if self._pause_s or not self._has_connected:
                self._tell(f"connected to {self._bus.shown}{' again' if self._has_connected else ''}")
                self._has_connected, self._pause_s = True, 0.0
            self._events_count += self._bus.poll(POLL_S)
            self._handler.announce_pushed()
        except ArtifactStoreError as error:
            self._tell_failures()
            self._back_off(error.message)
            return
        self._tell_failures()

    def _tell_failures(self) -> None:
        """Tell what subscribers raised, each once: a poll that never began leaves those of the last one behind."""
        failures, self._bus.failures = self._bus.failures, []
        for failure in failures:
            self._failures_count += 1
            # Of an unforeseen error only the name is told: its text could hold anything.
            known = failure.message if isinstance(failure, ArtifactStoreError) else type(failure).__name__
            self._tell(f"an event could not be handled: {known}")

    def _back_off(self, reason: str) -> None:
        if not self._pause_s:
            self._tell(f"{reason}; trying again")
        self._failures_count += 1
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s or FIRST_PAUSE_S)
        self._wait(self._pause_s)

    def _tell_health(self) -> None:
        try:
            self._store.flush_metrics()
        except ArtifactStoreError as error:
            self._tell(error.message)
        self._take_health(self.report())

    def _tell_health_line(self, report: Record) -> None:
        parts = [f"{report['received']} received"]
        parts += [f"{count} {name}" for name, count in sorted(self._handler.counts.items())] or [
            "nothing published"
        ]
        parts += [f"{report[name]} {name}" for name in ("malformed", "failures") if report[name]]
        self._tell(f"{report['state']}: {', '.join(parts)}")

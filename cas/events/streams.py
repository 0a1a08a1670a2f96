"""A bus that loses nothing: Redis Streams with a consumer group; a stream per channel, an event in the field ``event``.

Invariant: an event is acknowledged only after its subscribers returned, for the handler after the commit is durable.
What a dead consumer had in work is claimed by a living one. So an event comes at least once; the store makes that
harmless.
"""

from __future__ import annotations

import functools
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Final, cast

from cas.errors import ArtifactStoreError
from cas.events.redisbus import RedisBusBase

if TYPE_CHECKING:
    from collections.abc import Callable

FIELD: Final = "event"
DEFAULT_GROUP: Final = "artifact-store"
# Longer than a commit of very large files takes; claimed too early, an event is only worked on twice.
DEFAULT_CLAIM_AFTER_S: Final = 60.0
_BATCH_COUNT: Final = 16
# About what a stream keeps of the events published here; those of others are theirs to trim.
_KEPT_COUNT: Final = 100_000
_BUSY_GROUP: Final = "BUSYGROUP"


class RedisStreamsBus(RedisBusBase):
    """A bus on Redis Streams; see the base class for its attributes. What is malformed is acknowledged.

    Args:
        url: Where the server is; see `cas.events.connection.Connection`.
        group: Consumer group; the consumers of one group share the events.
        consumer: Name of this consumer, unlike that of every other one; None means host and process.
        claim_after_s: Seconds after which an unacknowledged event is taken over from another consumer.
        clock: Monotonic seconds; injected in tests.

    Raises:
        ConfigError: The URL is unusable, or the extra ``redis`` is not installed.
    """

    redelivers = True

    def __init__(
        self,
        url: str,
        *,
        group: str = DEFAULT_GROUP,
        consumer: str | None = None,
        claim_after_s: float = DEFAULT_CLAIM_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(url)
        self._group = group
        self._consumer = consumer or f"{socket.gethostname()}-{os.getpid()}"
        self._claim_after_s = claim_after_s
        self._clock = clock
        self._claim_at_s = clock()
        self._grouped: set[str] = set()
        self._own_done: set[str] = set()

    def connect(self) -> None:
        """Make the consumer groups that are missing.

        Raises:
            ExportError: Redis does not answer.
        """
        for channel in self._subscribers.channels():
            if channel not in self._grouped:
                self._connection.call(functools.partial(self._make_group, channel=channel))
                self._grouped.add(channel)

    def poll(self, timeout_s: float) -> int:
        """Deliver what this consumer left unfinished, what dead ones did, then what is new; return how many.

        Args:
            timeout_s: Longest wait for something new.

        Raises:
            ExportError: The connection is lost, or the stream is gone; the next call begins anew.
        """
        self.failures = []
        try:
            self.connect()
            count = self._finish_own() + self._claim()
            return count or self._read_new(timeout_s)
        except ArtifactStoreError:
            self._grouped.clear()  # a server that was set up anew has no groups
            raise

    def _send(self, client: Any, channel: str, content: bytes) -> Any:  # noqa: ANN401
        return client.xadd(channel, {FIELD: content}, maxlen=_KEPT_COUNT, approximate=True)

    def _make_group(self, client: Any, channel: str) -> None:  # noqa: ANN401
        try:
            client.xgroup_create(channel, self._group, id="0", mkstream=True)
        except Exception as error:
            if _BUSY_GROUP not in str(error):
                raise

    def _finish_own(self) -> int:
        """Deliver again, once, what an earlier process of this consumer's name had in work."""
        count = 0
        for channel in sorted(self._grouped - self._own_done):
            after = "0"
            while True:
                messages = [item for _, items in self._read({channel: after}, None) for item in items]
                if not messages:
                    break
                after = messages[-1][0].decode()
                count += self._deliver(channel, messages)
            self._own_done.add(channel)
        return count

    def _claim(self) -> int:
        """Take over what has been in work for too long, now and then."""
        if self._clock() < self._claim_at_s:
            return 0
        count = 0
        for channel in sorted(self._grouped):
            start: Any = "0-0"
            while True:
                claim = functools.partial(self._claim_from, channel=channel, start=start)
                answer = self._connection.call(claim)
                start, messages = answer[0], answer[1]
                count += self._deliver(channel, messages)
                if start in {b"0-0", "0-0"}:
                    break
        self._claim_at_s = self._clock() + self._claim_after_s / 2
        return count

    def _claim_from(self, client: Any, *, channel: str, start: Any) -> Any:  # noqa: ANN401
        idle_ms = int(self._claim_after_s * 1000)
        return client.xautoclaim(channel, self._group, self._consumer, idle_ms, start, count=_BATCH_COUNT)

    def _read_new(self, timeout_s: float) -> int:
        if not self._grouped:
            return 0
        answer = self._read(dict.fromkeys(sorted(self._grouped), ">"), max(1, int(timeout_s * 1000)))
        return sum(self._deliver(channel, messages) for channel, messages in answer)

    def _read(self, positions: dict[str, str], block_ms: int | None) -> list[tuple[str, Any]]:
        answer = self._connection.call(
            lambda client: client.xreadgroup(
                self._group, self._consumer, positions, count=_BATCH_COUNT, block=block_ms
            )
        )
        pairs = answer.items() if isinstance(answer, dict) else answer or ()  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        return [(name.decode(), messages) for name, messages in pairs]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]

    def _deliver(self, channel: str, messages: Any) -> int:  # noqa: ANN401
        count = 0
        for message_id, fields in messages:
            count += 1
            content = cast("dict[bytes, bytes]", fields or {}).get(FIELD.encode(), b"")
            failures = self._hand_out(channel, content)
            self.failures += failures
            if not failures:
                self._connection.call(
                    functools.partial(self._acknowledge, channel=channel, number=message_id)
                )
        return count

    def _acknowledge(self, client: Any, *, channel: str, number: Any) -> None:  # noqa: ANN401
        client.xack(channel, self._group, number)

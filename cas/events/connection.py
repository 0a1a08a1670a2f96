"""The connection to Redis that both buses use: made late, made again after a loss, and closed.

Invariant: no text that leaves this package shows the password of a URL. Needs the extra ``redis``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

from cas.errors import ConfigError, ExportError

if TYPE_CHECKING:
    from collections.abc import Callable

_SCHEMES: Final = ("redis://", "rediss://", "unix://")
_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 10.0  # much longer than a poll waits
# An event that a later process publishes again has the same id; after this long nobody publishes it again.
_ONCE_S: Final = 7 * 86400
_ONCE_PREFIX: Final = "cas:published:"


def masked(url: str) -> str:
    """Return a URL without its user and password, and without its query, which may hold them as well.

    A password that was not encoded may hold ``@``, ``/`` and ``?``; where that leaves a doubt, not even the host is
    shown.
    """
    scheme, slashes, rest = url.partition("//")
    address, _, query = rest.partition("?")
    if "@" in query:
        return f"{scheme}{slashes}***"
    _, sign, place = address.rpartition("@")
    return f"{scheme}{slashes}{'***@' if sign else ''}{place}"


class Connection:
    """A client of one Redis server. Thread-safe.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, with user and password as they come.

    Raises:
        ConfigError: The URL has another form, or the extra ``redis`` is not installed.
    """

    def __init__(self, url: str) -> None:
        if not url.startswith(_SCHEMES):
            raise ConfigError("the Redis URL must begin with redis://, rediss:// or unix://", subject="redis")
        try:
            import redis
        except ImportError as error:
            raise ConfigError(
                "the Redis bus needs the package redis", hint="pip install 'cas-gitexport[redis]'"
            ) from error
        module = cast("Any", redis)
        self._errors: tuple[type[Exception], ...] = (module.RedisError, OSError)
        self.shown = masked(url)
        try:
            self.client: Any = module.Redis.from_url(
                url, socket_connect_timeout=_CONNECT_S, socket_timeout=_ANSWER_S, health_check_interval=30
            )
        except ValueError:
            # Neither the URL nor the parser's words: what it took for a port may be the password.
            raise ConfigError("the Redis URL cannot be read", subject="redis") from None

    def __repr__(self) -> str:
        return f"<Connection {self.shown}>"

    def call(self, work: Callable[[Any], Any]) -> Any:  # noqa: ANN401  what Redis answers depends on the command
        """Return what ``work`` gets from the client.

        Raises:
            ExportError: Redis does not answer, or refused.
        """
        try:
            return work(self.client)
        except self._errors as error:
            raise ExportError(
                f"{self.shown}: {self._reason(error)}",
                kind="bus_failed",
                retryable=True,
                hint="Is the server up?",
            ) from None

    def publish_once(self, event_id: str, send: Callable[[Any], Any]) -> bool:
        """Send an event unless one with its id was sent in the last week, both in one Redis transaction.

        Args:
            event_id: The event's id.
            send: Queues the command that sends it.

        Returns:
            Whether it was sent now.

        Raises:
            ExportError: Redis does not answer, or refused; nothing was sent, or the answer was lost.
        """
        key = _ONCE_PREFIX + event_id

        def work(client: Any) -> bool:  # noqa: ANN401
            with client.pipeline() as pipe:
                pipe.watch(key)
                if pipe.exists(key):
                    return False
                pipe.multi()
                pipe.set(key, b"1", ex=_ONCE_S)
                send(pipe)
                pipe.execute()
            return True

        return bool(self.call(work))

    def close(self) -> None:
        """Close every socket."""
        self.call(lambda client: client.close())

    @staticmethod
    def _reason(error: Exception) -> str:
        """Return the kind of an error: its text may hold the address with the password."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()

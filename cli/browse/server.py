"""The server of the page: a socket, a thread with uvicorn, and an end that waits for the answers at hand.

Invariant: the socket listens before its address is told, and nothing of the server outlives `Server.stop`. It keeps no
log of requests: an address holds the token.
"""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Final

import uvicorn

from cas.errors import InvalidInputError
from cli.browse.guard import Guard, is_loopback, new_token
from cli.browse.site import Site, new_application

if TYPE_CHECKING:
    from collections.abc import Callable

    from cas import ArtifactStore

_GRACE_S: Final = 3  # for answers on their way when the server ends; a long download is cut off
_MAX_REQUESTS: Final = 64  # at a time; a browser opens six connections


class Server:
    """A server of one store; made listening, to be started and stopped once.

    Args:
        store: The store, open for reading.
        host: Name or address to listen on.
        port: Port, or 0 for a free one.
        tell: Called with an error nobody foresaw while a page was made.

    Attributes:
        token: The secret part of the address.
        port: The port it listens on.
        url: The address to open.
        is_open_to_others: Whether other machines can reach it.

    Raises:
        InvalidInputError: It cannot listen there.
    """

    def __init__(
        self, store: ArtifactStore, host: str, port: int, tell: Callable[[BaseException], None]
    ) -> None:
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.is_open_to_others = not is_loopback(host)
        self.token = new_token()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.port}/{self.token}/"
        site = Site(store, f"/{self.token}", tell)
        config = uvicorn.Config(
            Guard(new_application(site), self.token, host),
            http="h11",
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MAX_REQUESTS,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="cas-browse", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the answers at hand or a few seconds."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise InvalidInputError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            subject=f"{host}:{port}",
            hint="Without --port a free one is taken.",
        ) from error

"""The guard: which requests are answered at all, and the headers that every answer carries.

Invariant: an answer other than a refusal goes only to a request that reads (GET, HEAD), names a host that no foreign
web page can claim, does not come from another site, and knows the token of this start. It must not look at the store.
docs/decisions.md, D16, says against whom each of these stands.
"""

from __future__ import annotations

import ipaddress
import secrets
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_BYTES: Final = 16  # 128 bits: not to be guessed while a process runs
# Nothing may be loaded but this server's own style, script and icon; nothing inline, no frame around or inside.
CONTENT_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",  # the address holds the token
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
_OWN_SITES: Final = frozenset({"same-origin", "none"})


def new_token() -> str:
    """Return the secret part of the address of one start."""
    return secrets.token_urlsafe(TOKEN_BYTES)


class Guard:
    """Wraps the application: refuses, or hands on with the token taken off the path.

    Args:
        app: What answers the requests that pass.
        token: The first part of every path.
        host: The name or address that the server was asked to listen on.
    """

    def __init__(self, app: ASGIApp, token: str, host: str) -> None:
        self._app = app
        self._prefix = f"/{token}"
        self._host = host.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return  # neither a websocket nor a lifespan event has anything to get here
        from starlette.responses import PlainTextResponse, RedirectResponse

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                extra = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *(each for each in extra if each[0] not in given)]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            status, text = refusal
            headers = {"allow": "GET, HEAD"} if status == 405 else None  # noqa: PLR2004
            await PlainTextResponse(text + "\n", status, headers)(scope, receive, send_guarded)
        elif scope["path"] == self._prefix:
            await RedirectResponse(self._prefix + "/", 307)(scope, receive, send_guarded)
        else:
            await self._app({**scope, "root_path": self._prefix}, receive, send_guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return status and text of a refusal; None for a request that passes."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if not self._is_own_host(host):
            return 421, "This server answers to its own address only."
        if scope["method"] not in {"GET", "HEAD"}:
            return 405, "This page is read-only."
        if not _is_own_site(headers, host):
            return 403, "Requests of other sites are refused."
        head = scope["path"][: len(self._prefix)]
        rest = scope["path"][len(self._prefix) :]
        if not secrets.compare_digest(head.encode(), self._prefix.encode()) or rest[:1] not in {"", "/"}:
            return 403, "Open the address that `cas browse` has printed: it ends in a token of this start."
        return None

    def _is_own_host(self, text: str) -> bool:
        """Tell whether a Host header names this machine in a way that a foreign name cannot be made to point at.

        The port is left out of it: behind a forwarded port (``ssh -L``) it is another one.
        """
        name = host_name(text)
        if name in {"localhost", self._host}:
            return name != ""
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self._host)


def host_name(text: str) -> str:
    """Return the name or address of a Host header, without its port and brackets, in lower case."""
    if text.startswith("["):
        return text[1:].partition("]")[0].lower()
    return text.rpartition(":")[0].lower() if ":" in text else text.lower()


def is_loopback(host: str) -> bool:
    """Tell whether a name or address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_own_site(headers: Mapping[str, str], host: str) -> bool:
    """Tell whether a request was made by this site's pages, or by a person who opens an address.

    Opening an address from elsewhere, as a link in a terminal or a file does, is a navigation of a whole window, and
    gets nowhere without the token.
    """
    if headers.get("origin", f"http://{host}") != f"http://{host}":
        return False
    if headers.get("sec-fetch-site", "none") in _OWN_SITES:
        return True
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"

"""Posting JSON to a URL: signed, retried, bounded in time, never following a redirect.

Invariant: the secret leaves this machine only as an HMAC, and no error text shows more of a URL than scheme and host.
A post whose ``delivery`` the receiver knows is a repetition.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Final

from cas.errors import ConfigError, ExportError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TIMEOUT_S: Final = 10.0
PAUSES_S: Final = (1.0, 4.0)  # two more tries: a receiver that restarts is back by then
LEAST_SECRET_BYTES: Final = 16
_SHOWN: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#]*@)?([^/?#@]*)(.*)", re.DOTALL)
_RETRIED_STATUS: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: a signed body is for the receiver that was named."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Return nothing, which makes the redirect an error."""


def masked(url: str) -> str:
    """Return the scheme and host of a URL: user, password, path and query may each be what lets one post."""
    parts = _SHOWN.fullmatch(url)
    if parts is None:
        return "***"
    scheme, host, rest = parts.groups()
    return f"{scheme}{host}{'/***' if rest.strip('/') else rest}"


def check_url(url: str) -> str:
    """Return a URL that can be posted to.

    Raises:
        ConfigError: It is not http or https, or names no host.
    """
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        raise ConfigError("the webhook's URL cannot be read") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"[\x00-\x20\x7f]", url):
        raise ConfigError(f"{masked(url)} is no http or https URL")
    return url


def read_secret(path: Path | None) -> bytes | None:
    """Return the shared secret in a file, without the line's end; None without a file.

    Raises:
        ConfigError: It cannot be read, or is shorter than 16 bytes.
    """
    if path is None:
        return None
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", subject="on_exported_secret") from error
    if len(secret) < LEAST_SECRET_BYTES:
        raise ConfigError(f"{path} holds less than {LEAST_SECRET_BYTES} bytes", subject="on_exported_secret")
    return secret


def encode_payload(payload: Mapping[str, object]) -> bytes:
    """Return the JSON of a payload, as it is signed and sent."""
    return json.dumps(payload, separators=(",", ":"), default=str).encode()


def signature(secret: bytes, sent_at_s: int, body: bytes) -> str:
    """Return ``sha256=`` and the HMAC of time and body, in hexadecimal.

    Args:
        secret: The shared secret.
        sent_at_s: Seconds since the epoch, as in the header ``X-Cas-Timestamp``; a receiver refuses old ones.
        body: The body.
    """
    signed = str(sent_at_s).encode() + b"." + body
    return "sha256=" + hmac.new(secret, signed, hashlib.sha256).hexdigest()


def signed_headers(secret: bytes | None, sent_at_s: int, body: bytes) -> dict[str, str]:
    """Return the headers that carry time and signature."""
    headers = {"X-Cas-Timestamp": str(sent_at_s)}
    if secret is not None:
        headers["X-Cas-Signature"] = signature(secret, sent_at_s, body)
    return headers


def post(
    url: str,
    body: bytes,
    *,
    secret: bytes | None = None,
    timeout_s: float = TIMEOUT_S,
    pause: Callable[[float], object] = time.sleep,
    clock_s: Callable[[], float] = time.time,
) -> None:
    """Post JSON, and again after a pause while the receiver does not answer or is busy.

    Args:
        url: http or https; checked before.
        body: JSON.
        secret: Signs the body; None sends it unsigned.
        timeout_s: Seconds one try may take.
        pause: Waits so many seconds; may return early.
        clock_s: Seconds since the epoch.

    Raises:
        ExportError: Refused, or not taken in three tries.
    """
    opener = urllib.request.build_opener(_NoRedirect)
    reason = ""
    for pause_s in (*PAUSES_S, None):
        headers = {"Content-Type": "application/json", "User-Agent": "cas-gitexport"}
        headers |= signed_headers(secret, int(clock_s()), body)
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310  checked before
        try:
            with opener.open(request, timeout=timeout_s):
                return
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"status {error.code}"
            if error.code < _SERVER_ERROR and error.code not in _RETRIED_STATUS:
                break
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = type(getattr(error, "reason", error)).__name__  # its text may hold the URL
        if pause_s is not None:
            pause(pause_s)
    raise ExportError(f"{masked(url)} did not take the post: {reason}", kind="webhook_failed", retryable=True)

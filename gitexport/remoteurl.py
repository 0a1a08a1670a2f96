"""URLs of remotes: which transport one means, and whether it may be used.

Invariant: a URL that passes names no program to run and cannot be taken for an option. Pure: nothing is looked up.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_HELPER_URL: Final = re.compile(r"[A-Za-z0-9+.-]+::")
_SCHEME: Final = re.compile(r"([A-Za-z0-9+.-]+)://")
# host:path, which git takes for ssh unless a slash stands before the colon
_SCP_LIKE: Final = re.compile(r"[^/:]+:")


def checked_remote(remote: object) -> str:
    """Return what a caller names as a remote.

    Raises:
        ConfigError: It is no text.
    """
    if not isinstance(remote, str):
        raise ConfigError(f"remote must be a name or a URL, not {type(remote).__name__}", subject="remote")
    return remote


def is_address(remote: str) -> bool:
    """Tell whether something that is no remote's name can be an address: a URL, a path, or ``host:path``.

    Raises:
        ConfigError: It is no text.
    """
    remote = checked_remote(remote)
    return not remote.startswith("-") and ("/" in remote or ":" in remote)


def checked_url(url: str, remote: str, folder: Path, protocols: Collection[str]) -> str:
    """Return the URL git is to be given; a relative path becomes absolute.

    Args:
        url: As configured.
        remote: What the user called the remote.
        folder: What a relative path starts from.
        protocols: Transports that may be used.

    Raises:
        ConfigError: No URL, another transport, or a program (``ext::`` and the like).
    """
    if not url:  # to git the folder it is started in, where every ref is as it was pushed
        raise ConfigError(f"remote {remote!r} has no URL", subject=remote)
    scheme = _SCHEME.match(url)
    if _HELPER_URL.match(url):
        protocol = url.partition("::")[0]
    elif scheme:
        protocol = scheme[1].lower()
    elif _SCP_LIKE.match(url):
        protocol = "ssh"
    else:
        protocol = "file"
        url = str(folder / url)
    if _HELPER_URL.match(url) or protocol not in protocols or url.startswith("-"):
        raise ConfigError(f"remote {remote!r}: transport {protocol!r} is refused", subject=remote)
    return url

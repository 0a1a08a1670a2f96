"""Downloads: a file's bytes, as they were stored, for the disk and never for the browser to show.

Invariant: the last bytes leave only after the whole content was compared with its digest, so that a damaged file
ends as a broken download and not as a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.responses import StreamingResponse

from cli.browse.filepage import find_file
from cli.browse.site import required_parameter, run_ref

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from cli.browse.site import Site


def send(site: Site, request: Request) -> Response:
    """Answer with a file as an attachment of no type that a browser runs."""
    # The run's own tag, so that words such as `latest` mean the same run throughout.
    ref, name = run_ref(site.run(required_parameter(request, "ref"))), required_parameter(request, "name")
    file = find_file(site, ref, name)
    held_back = _held_back(site.store.iter_file(ref, name))
    first = next(held_back)  # a small damaged file is told by an error page, as nothing was sent yet
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{quote(name.rpartition('/')[2], safe='')}",
        "content-length": str(file["size_bytes"]),
        "content-security-policy": "default-src 'none'; sandbox",
    }
    return StreamingResponse(_chain(first, held_back), headers=headers, media_type="application/octet-stream")


def _held_back(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield chunks one behind, so that the last is yielded when the end was reached without an error."""
    last = b""
    for chunk in chunks:
        if last:
            yield last
        last = chunk
    yield last


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest

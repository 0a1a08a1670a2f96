"""The export's page: what is queued, what is parked and why, and when git and the remote last got something.

Invariant: shows what `gitexport.export_status` tells; nothing is computed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cli.figures import duration_text, list_of, number_of
from gitexport import export_status

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from cli.browse.site import Site

_PARKED_SHOWN: Final = 200


def show(site: Site, _request: Request) -> Response:
    """Answer with the state of the export."""
    state = export_status(site.store)
    parked = list_of(state["parked"])
    age_s = state["queued_age_s"]
    return site.render(
        "export.html",
        state=state,
        queued_age=None if age_s is None else duration_text(number_of(age_s)),
        parked=parked[:_PARKED_SHOWN],
        parked_count=len(parked),
    )

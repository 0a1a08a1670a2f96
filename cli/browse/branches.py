"""Branches: their list, and the history of one.

Invariant: a page decodes the steps it shows; those before it are passed over by their keys.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Final

from cas import catalog, marks, names, records
from cas.errors import NotFoundError
from cli.browse.site import required_parameter, run_ref, whole_parameter

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from cas.records import Record
    from cli.browse.site import Site

PAGE_STEPS: Final = 50


def show_log(site: Site, request: Request) -> Response:
    """Answer with some steps of a branch, newest first; forgotten ones are left out."""
    branch, page = required_parameter(request, "branch"), whole_parameter(request, "page")
    names.check_id(branch, "branch")
    first = (page - 1) * PAGE_STEPS
    with site.store.environment.read() as transaction:
        if catalog.branch_head(transaction, branch) is None:
            raise NotFoundError(f"the store has no branch {branch!r}", subject=branch)
        hidden = marks.Hidden(transaction)
        shown = (number for number in catalog.branch_sequences(transaction, branch) if number not in hidden)
        # One more than is shown tells whether there are others.
        chosen = list(itertools.islice(shown, first, first + PAGE_STEPS + 1))
        steps = [records.history_record(transaction, sequence) for sequence in chosen[:PAGE_STEPS]]
    return site.render(
        "log.html",
        branch=branch,
        steps=[_with_ref(step) for step in steps],
        page=page,
        more=len(chosen) > PAGE_STEPS,
        link=functools.partial(site.url, "log", branch=branch),
    )


def _with_ref(step: Record) -> Record:
    return {**step, "ref": run_ref(step) if step["kind"] == "commit" else step["reverted_to"]}


def show_branches(site: Site, request: Request) -> Response:
    """Answer with some branches in the order of their names, and the newest step of each."""
    prefix, page = request.query_params.get("prefix", ""), whole_parameter(request, "page")
    if prefix:
        names.check_id(prefix, "prefix")
    first = (page - 1) * PAGE_STEPS
    with site.store.environment.read() as transaction:
        found = catalog.iter_branches(transaction, prefix)
        chosen = list(itertools.islice(found, first, first + PAGE_STEPS + 1))
        rows = [
            {"name": name, "head": records.history_record(transaction, sequence)}
            for name, sequence in chosen[:PAGE_STEPS]
        ]
    return site.render(
        "branches.html",
        prefix=prefix,
        rows=rows,
        page=page,
        more=len(chosen) > PAGE_STEPS,
        link=functools.partial(site.url, "branches", prefix=prefix),
    )

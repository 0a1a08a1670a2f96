"""A run's page: names, metrics, export, curves, trades, code, files, metadata; or a rollback's step.

Invariant: a part whose file is damaged says so in its place, and the rest of the page stands.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from cas.errors import InvalidInputError, NotFoundError, StorageError
from cli.browse import contents, plots, tables
from cli.browse.site import required_parameter, run_ref
from cli.figures import mapping_of, metrics_of, whole_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from cas.records import Record
    from cli.browse.site import Site

_TRADES_SHOWN: Final = 20
_SHOWN_ELSEWHERE: Final = frozenset({"agent_version", "llm_version", "test_metrics"})


def show(site: Site, request: Request) -> Response:
    """Answer with the page of what ``ref`` points at."""
    record = site.store.show(required_parameter(request, "ref"))
    if "correlation_id" not in record:
        return site.render("step.html", step=record)
    ref = run_ref(record)
    files = site.store.list_files(ref)
    return site.render(
        "run.html",
        run=record,
        ref=ref,
        previous=_previous_ref(site, ref),
        metrics=metrics_of(record),
        export=site.store.export_status(str(record["correlation_id"]), revision=whole_of(record["revision"])),
        files=files,
        curves=_part(lambda: _curves(site, ref, files)),
        trades=_part(lambda: _trades(site, ref, files)),
        code=_part(lambda: _code(site, ref, files)),
        metadata=_metadata_lines(record),
    )


def _metadata_lines(record: Record) -> list[Markup]:
    """Return the caller's metadata as lines of JSON, without what the page shows elsewhere."""
    metadata = mapping_of(record["metadata"])
    other = {name: value for name, value in metadata.items() if name not in _SHOWN_ELSEWHERE}
    text = json.dumps(other, indent=2, ensure_ascii=False)
    return contents.highlighted(text, "metadata.json") if other else []


def _part(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a part of the page; when what it shows is damaged, the reason under ``error``."""
    try:
        return {"error": None, **make()}
    except StorageError as error:
        return {"error": error.message}


def _previous_ref(site: Site, ref: str) -> str | None:
    """Return the run before this one on its branch; None for the first."""
    try:
        return run_ref(site.run(f"{ref}~1"))
    except (NotFoundError, InvalidInputError):
        return None


def _curves(site: Site, ref: str, files: list[Record]) -> dict[str, Any]:
    curve = site.curve(ref, files)
    if curve is None or isinstance(curve, str):
        return {"plots": [], "why_not": curve}
    named = [(curve.column, curve)]
    drawn = (plots.equity_plot(named), plots.drawdown_plot(named))
    return {"plots": [plot for plot in drawn if plot is not None], "why_not": None, "curve": curve}


def _trades(site: Site, ref: str, files: list[Record]) -> dict[str, Any]:
    for file in files:
        name = str(file["name"])
        if "trade" not in PurePosixPath(name).stem.lower() or not tables.is_table_name(name):
            continue
        if whole_of(file["size_bytes"]) > contents.MAX_READ_BYTES:
            return {"name": name, "table": None, "why_not": f"{name} is too large to be shown here."}
        try:
            page = tables.read_page(site.store.iter_file(ref, name), offset=0, limit=_TRADES_SHOWN)
        except tables.UnreadableTableError as error:
            return {"name": name, "table": None, "why_not": f"{name} cannot be shown: {error}."}
        return {"name": name, "table": page, "why_not": None}
    return {"name": None, "table": None, "why_not": None}


def _code(site: Site, ref: str, files: list[Record]) -> dict[str, Any]:
    for file in files:
        name = str(file["name"])
        if contents.is_code_name(name) and whole_of(file["size_bytes"]) <= contents.MAX_HIGHLIGHTED_BYTES:
            return {"name": name, "text": contents.read_text(site.store.iter_file(ref, name), name)}
    return {"name": None, "text": None}

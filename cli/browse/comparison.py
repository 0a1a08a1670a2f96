"""Two runs compared: curves over each other, metrics side by side, files and code.

Invariant: what differs in files is what the library's diff says; nothing is compared here but numbers of metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cas.errors import InvalidInputError, StorageError
from cli.browse import contents, plots
from cli.browse.curves import Curve
from cli.browse.site import run_ref
from cli.figures import list_of, mapping_of, metrics_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from cas.records import Record
    from cli.browse.site import Site

_SIDES = ("A", "B")


def show(site: Site, request: Request) -> Response:
    """Answer with the page of two runs: ``a`` and ``b``, or two of ``pick``."""
    given = request.query_params
    words = [given[side] for side in ("a", "b") if given.get(side)] or given.getlist("pick")
    if len(words) != len(_SIDES):
        raise InvalidInputError(
            f"two runs can be compared, not {len(words)}", hint="Choose two in the list of runs."
        )
    runs = [site.run(word) for word in words]
    refs = [run_ref(run) for run in runs]
    error, found = None, None
    try:
        found = site.store.diff(*refs)
    except StorageError as damage:
        error = damage.message
    return site.render(
        "diff.html",
        sides=list(zip(_SIDES, runs, refs, strict=True)),
        metrics=_side_by_side(*(metrics_of(run) for run in runs)),
        plots=_plots(site, refs),
        found=found,
        changed=[] if found is None else _changes(list_of(found["changed"])),
        error=error,
    )


def _side_by_side(left: Mapping[str, object], right: Mapping[str, object]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys((*left, *right)):
        mine, theirs = left.get(name), right.get(name)
        rows.append({"name": name, "left": mine, "right": theirs, "change": _difference(mine, theirs)})
    return rows


def _difference(mine: object, theirs: object) -> float | None:
    numbers = [
        each for each in (mine, theirs) if isinstance(each, int | float) and not isinstance(each, bool)
    ]
    return numbers[1] - numbers[0] if len(numbers) == len(_SIDES) else None


def _plots(site: Site, refs: list[str]) -> dict[str, Any]:
    """Return the plots of the runs that have a curve, and what is to be said about the others."""
    named: list[tuple[str, Curve]] = []
    remarks: list[str] = []
    for side, ref in zip(_SIDES, refs, strict=True):
        try:
            curve = site.curve(ref, site.store.list_files(ref))
        except StorageError as error:
            curve = error.message
        if isinstance(curve, Curve):
            named.append((side, curve))
        else:
            remarks.append(f"{side}: {curve or 'no equity curve among its files.'}")
    drawn = (plots.equity_plot(named), plots.drawdown_plot(named)) if named else ()
    return {"plots": [plot for plot in drawn if plot is not None], "remarks": remarks}


def _changes(changed: list[object]) -> list[dict[str, Any]]:
    """Return the changed files, programs first."""
    return sorted((_change(mapping_of(item)) for item in changed), key=lambda change: not change["is_code"])


def _change(change: Record) -> dict[str, Any]:
    """Return a changed file with the lines of its diff, each with the class that gives it its colour."""
    text = mapping_of(change.get("text"))
    kinds = {"+": "added", "-": "removed", "@": "place"}
    lines = [(kinds.get(str(line)[:1], ""), str(line)) for line in list_of(text.get("lines"))[2:]]
    table = mapping_of(change.get("table"))
    return {
        **change,
        "is_code": contents.is_code_name(str(change["name"])),
        "lines": lines,
        "truncated": bool(text.get("truncated")),
        "table": table or None,
    }

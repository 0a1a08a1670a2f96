"""A file's page: text with numbered lines, rows of a table, or that it is binary or too large.

Invariant: the file is one that the run's manifest names; nothing else can be asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cas.errors import InvalidInputError, NotFoundError
from cli.browse import contents, tables
from cli.browse.site import required_parameter, run_ref, whole_parameter
from cli.figures import whole_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from cas.records import Record
    from cli.browse.site import Site

PAGE_ROWS: Final = 100


def find_file(site: Site, ref: str, name: str) -> Record:
    """Return the entry of a run's file.

    Raises:
        NotFoundError: There is no such run or file.
    """
    for file in site.store.list_files(ref):
        if file["name"] == name:
            return file
    raise NotFoundError(f"{ref} has no file {name!r}", subject=name, hint="The run's page lists its files.")


def show(site: Site, request: Request) -> Response:
    """Answer with the page of a file, or of some rows of a table."""
    run = site.run(required_parameter(request, "ref"))
    ref, name = run_ref(run), required_parameter(request, "name")
    file = find_file(site, ref, name)
    values: dict[str, Any] = {"table": None, "text": None, "why_not": None}
    if whole_of(file["size_bytes"]) > contents.MAX_READ_BYTES:
        values["why_not"] = "It is too large to be shown here; download it instead."
    elif tables.is_table_name(name) and request.query_params.get("as") != "text":
        try:
            values |= _table(site, request, ref, file)
        except tables.UnreadableTableError as error:
            values["why_not"] = f"It cannot be shown as rows: {error}."
    else:
        values["text"] = contents.read_text(site.store.iter_file(ref, name), name)
        if values["text"] is None:
            values["why_not"] = "It is binary; download it instead."
    return site.render(
        "file.html", run=run, ref=ref, file=file, is_table=tables.is_table_name(name), **values
    )


def _table(site: Site, request: Request, ref: str, file: Record) -> dict[str, Any]:
    page = whole_parameter(request, "page")
    is_sortable = whole_of(file["size_bytes"]) <= tables.MAX_SORTED_BYTES
    column = whole_parameter(request, "column", 0)
    if column and not is_sortable:
        raise InvalidInputError("the table is too large to be ordered here", subject=str(file["name"]))
    is_descending = request.query_params.get("order") == "desc"
    found = tables.read_page(
        site.store.iter_file(ref, str(file["name"])),
        offset=(page - 1) * PAGE_ROWS,
        limit=PAGE_ROWS,
        sort=column - 1 if column else None,
        descending=is_descending,
    )
    order = "desc" if is_descending else "asc"

    def link(**changed: object) -> str:
        given = {"column": column or "", "order": order if column else "", "page": page} | changed
        return site.url("file", ref=ref, name=file["name"], **given)

    return {
        "table": found,
        "page": page,
        "pages": max(1, -(-found.total // PAGE_ROWS)),
        "first": (page - 1) * PAGE_ROWS + 1,
        "column": column,
        "order": order,
        "is_sortable": is_sortable,
        "link": link,
    }

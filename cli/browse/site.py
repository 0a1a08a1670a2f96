"""The site: what all pages share, the routes, and what is answered when a page cannot be shown.

Invariant: every text reaches a page through autoescaping; every error becomes a page with its reason, and an unforeseen
one is told at the terminal too. It must not write to the store, and serves no file but those of runs and its own.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from importlib import resources
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from cas import names
from cas.errors import (
    ArtifactStoreError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from cli.browse import contents, curves
from cli.browse.ranking import Rankings
from cli.browse.templates import new_templates
from cli.figures import whole_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from cas import ArtifactStore
    from cas.records import Record
    from cli.browse.curves import Curve

    Page = Callable[["Site", Request], Response]

_MAX_KEPT_CURVES: Final = 64  # a reduced curve takes up to 0.4 MB
_ASSETS: Final = {
    "style.css": "text/css; charset=utf-8",
    "browse.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_MAX_PAGE: Final = 10_000_000


class Site:
    """What the pages work with; shared by all threads.

    Args:
        store: The store, open for reading.
        prefix: What every path begins with.
        tell: Called with an error nobody foresaw.
    """

    def __init__(self, store: ArtifactStore, prefix: str, tell: Callable[[BaseException], None]) -> None:
        self.store = store
        self.prefix = prefix
        self.tell = tell
        self.rankings = Rankings()
        self._curves: OrderedDict[str, Curve | str] = OrderedDict()
        self._lock = threading.Lock()
        self._templates = new_templates(self.url)

    def url(self, page: str = "", /, **parameters: object) -> str:
        """Return the address of a page; parameters that are None or empty are left out."""
        given = [(name, str(value)) for name, value in parameters.items() if value not in (None, "")]
        return f"{self.prefix}/{page}" + (f"?{urlencode(given)}" if given else "")

    def render(self, template: str, status: int = 200, /, **values: object) -> Response:
        """Return a page."""
        text = self._templates.get_template(template).render(
            now_us=self.store.now_us(), store_path=str(self.store.config.store_dir), **values
        )
        return HTMLResponse(text, status)

    def run(self, ref: str) -> Record:
        """Return the record of the run that a word points at; for a rollback, of the run it went back to.

        Raises:
            NotFoundError: Nothing is called that.
        """
        record = self.store.show(ref)
        return record if "correlation_id" in record else self.store.show(str(record["reverted_to"]))

    def curve(self, ref: str, files: list[Record]) -> Curve | str | None:
        """Return the equity curve of a run, why it cannot be plotted, or None when it has no such file.

        Raises:
            IntegrityError: The file is damaged.
        """
        name = curves.find_curve_name([str(file["name"]) for file in files])
        if name is None:
            return None
        file = next(each for each in files if each["name"] == name)
        digest = str(file["digest"])
        with self._lock:
            if digest in self._curves:
                self._curves.move_to_end(digest)
                return self._curves[digest]
        found: Curve | str
        if whole_of(file["size_bytes"]) > contents.MAX_READ_BYTES:
            found = "The equity curve is too large to be plotted here."
        else:
            try:
                found = curves.read_curve(self.store.iter_file(ref, name))
            except curves.NoCurveError as error:
                found = f"The equity curve cannot be plotted: {error}."
        with self._lock:
            self._curves[digest] = found
            while len(self._curves) > _MAX_KEPT_CURVES:
                self._curves.popitem(last=False)
        return found


def run_ref(record: Mapping[str, object]) -> str:
    """Return the word that points at exactly this revision of a run: its correlation tag."""
    return names.correlation_tag(str(record["correlation_id"]), whole_of(record["revision"]))


def whole_parameter(request: Request, name: str, default: int = 1) -> int:
    """Return a positive whole number of the address.

    Raises:
        InvalidInputError: It is none.
    """
    text = request.query_params.get(name, "")
    if not text:
        return default
    is_whole = text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_PAGE))
    if not is_whole or not 0 < int(text) <= _MAX_PAGE:
        raise InvalidInputError(f"{name} must be a whole number from 1 to {_MAX_PAGE:,}", subject=name)
    return int(text)


def required_parameter(request: Request, name: str) -> str:
    """Return a text of the address.

    Raises:
        InvalidInputError: It is missing.
    """
    text = request.query_params.get(name, "")
    if not text:
        raise InvalidInputError(f"the address lacks {name}", subject=name)
    return text


def new_application(site: Site) -> Starlette:
    """Return the application: the pages, and the site's own files."""
    from cli.browse import branches, comparison, download, exports, filepage, listing, runpage

    pages: dict[str, Page] = {
        "/": listing.show,
        "/run": runpage.show,
        "/file": filepage.show,
        "/raw": download.send,
        "/diff": comparison.show,
        "/log": branches.show_log,
        "/branches": branches.show_branches,
        "/export": exports.show,
    }
    routes = [Route(path, _endpoint(site, page)) for path, page in pages.items()]
    folder = resources.files("cli.browse") / "assets"
    for name, media_type in _ASSETS.items():
        routes.append(Route(f"/assets/{name}", _asset((folder / name).read_bytes(), media_type)))

    def show_nothing(*_: object) -> Response:
        return _error_page(site, NotFoundError("there is no such page", hint="Begin at the list of runs."))

    return Starlette(routes=routes, exception_handlers={404: _endpoint(site, show_nothing)})


def _endpoint(site: Site, page: Page) -> Any:  # noqa: ANN401  starlette's handlers have several forms
    async def answer(request: Request, *_: object) -> Response:
        return await run_in_threadpool(_answered, site, page, request)

    return answer


def _answered(site: Site, page: Page, request: Request) -> Response:
    try:
        return page(site, request)
    except ArtifactStoreError as error:
        return _error_page(site, error)
    except Exception as error:  # noqa: BLE001  the last station of every error of a page
        site.tell(error)
        unforeseen = ArtifactStoreError(
            f"{type(error).__name__} while this page was made",
            hint="This is a defect; the terminal tells more.",
        )
        return _error_page(site, unforeseen)


def _error_page(site: Site, error: ArtifactStoreError) -> Response:
    statuses = (
        (NotFoundError, 404),
        (InvalidInputError, 400),
        (IntegrityError, 410 if error.kind == "purged" else 500),
        (StorageError, 503),
    )
    status = next((number for kind, number in statuses if isinstance(error, kind)), 500)
    return site.render("error.html", status, error=error)


def _asset(content: bytes, media_type: str) -> Any:  # noqa: ANN401
    async def answer(_: Request) -> Response:
        return Response(content, media_type=media_type, headers={"cache-control": "no-cache"})

    return answer

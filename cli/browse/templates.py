"""Templates: the environment in which pages are written, and the filters they use.

Invariant: every text that is put into a page is escaped, and has lost whatever would hide or turn it; markup is made
here and in the templates alone. Pure: the clock comes with the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from cli.browse.tables import number_of
from cli.figures import (
    age_text,
    count_text,
    metric_text,
    printable,
    short_oid,
    size_text,
    time_text,
    written_time_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_LONG_NUMBER_CHARS: Final = 10  # longer ones are the tail of binary fractions more often than not
_STATE_CLASSES: Final = {"queued": "warn", "exported": "calm", "pushed": "good", "parked": "bad"}


def new_templates(url: Callable[..., str]) -> Environment:
    """Return the environment of all pages.

    Args:
        url: Makes the address of a page of its name and parameters.
    """
    templates = Environment(
        loader=PackageLoader("cli.browse", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., object]] = {
        "exact": escape,
        "size": size_text,
        "metric": metric_text,
        "short": short_oid,
        "counted": count_text,
        "when": _when,
        "written_time": written_time_text,
        "rounded": _rounded,
        "state_class": _state_class,
    }
    for name, function in filters.items():
        templates.filters[name] = function
    templates.globals["url"] = url  # pyright: ignore[reportArgumentType]
    return templates


def _state_class(state: object) -> str:
    """Return the class that gives an export state its colour."""
    return _STATE_CLASSES.get(str(state), "calm")


def _when(at_us: object, now_us: int) -> Markup:
    """Return a moment as a person reads it, with its age on hovering."""
    if not isinstance(at_us, int):
        return Markup("never")
    age, text = age_text(at_us, now_us), time_text(at_us, seconds=False)
    return Markup('<time title="{}">{}</time>').format(age, text)


def _rounded(cell: str) -> str | Markup:
    """Return a number of a table in few characters; one that was shortened shows itself whole on hovering."""
    number = number_of(cell)
    if number is None or len(cell) <= _LONG_NUMBER_CHARS:
        return cell
    return Markup('<span title="{}">{}</span>').format(cell, f"{number:.6g}")


def _finalized(value: Any) -> Any:  # noqa: ANN401
    """Take from every text that is put into a page what would hide or turn it; markup is the product's own."""
    return printable(value) if type(value) is str else value

"""The benchmarks there are: one name, one module, one question.

To add one, write `benchmarks/NAME.py` and put NAME into one of the two lists. Its docstring's first paragraph is the
question, the rest how it is asked. It has

    measure(plan: Plan) -> dict        figures, with `parameters` (`sync_mode` and `input` among them) and `skipped`
    tables(result) -> list[Table]      the tables of the page, made from what `measure` returned
    charts(result) -> list[Chart]      optional: the pictures above them
    headlines(result) -> list[Headline]   optional: its lines in the README

Invariant: the order here is the order in which they are measured and shown. This module measures nothing.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import ModuleType

# What `make bench` measures, within a quarter of an hour in all.
STANDARD: Final = (
    *("commit", "commit_stages", "bulk", "four_processes", "stored_bytes", "restore", "list_newest"),
    *("export", "export_stages", "push", "beside", "signing", "signatures"),
    *("writers", "sizes", "codecs", "layouts", "browse"),
    *("metering", "secret_speed", "secret_quality"),
)
# What takes longer, each by a target of its own.
APART: Final = ("refs", "queries", "upkeep", "scale", "scale_million")
NAMES: Final = (*STANDARD, *APART)


def module_of(name: str) -> ModuleType:
    """Return the module of a benchmark."""
    return importlib.import_module(f"benchmarks.{name}")


def question_of(name: str) -> tuple[str, str]:
    """Return a benchmark's question and how it is asked: the first paragraph of its module's text, and the rest."""
    question, _, method = (inspect.getdoc(module_of(name)) or "").partition("\n\n")
    return " ".join(question.split()), " ".join(method.split())


def parts_of(name: str, part: str, result: dict[str, Any]) -> list[Any]:
    """Return what a benchmark makes of its result: `tables`, `charts` or `headlines`; nothing where it has no such."""
    maker = getattr(module_of(name), part, None)
    return [] if maker is None else list(maker(result))

"""The list of runs: filtered, ordered by a metric, a page at a time.

Invariant: a page decodes the runs it shows; which ones these are comes from `cli.browse.ranking`. A filter that cannot
be read is shown with the place in it, and the form keeps what was typed.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from cas import predicate, records
from cas.errors import QueryError
from cas.query import Selection
from cli.browse.ranking import Question
from cli.browse.site import run_ref, whole_parameter
from cli.figures import metrics_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from cas.records import Record
    from cli.browse.site import Site

PAGE_RUNS: Final = 50
_METRIC_COLUMNS: Final = 8
# Runs whose metrics become columns, and whose names are offered: the newest, whatever the filter, so that they stay
# while one looks around.
_KNOWN_RUNS: Final = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What the form of the list holds."""

    where: str
    workflow: str
    task: str
    prompt: str
    sort: str
    order: str
    page: int

    @property
    def is_filtered(self) -> bool:
        """Whether some runs are left out."""
        return any((self.where.strip(), self.workflow, self.task, self.prompt))

    def parameters(self, **changed: object) -> dict[str, object]:
        """Return the parameters of the same question with some of them changed; defaults are left out."""
        given: dict[str, object] = dataclasses.asdict(self) | changed
        if given["order"] == "desc":
            given["order"] = ""
        if given["page"] == 1:
            given["page"] = ""
        return given


def show(site: Site, request: Request) -> Response:
    """Answer with a page of the list."""
    given = request.query_params
    asked = Asked(
        where=given.get("where", ""),
        workflow=given.get("workflow", ""),
        task=given.get("task", ""),
        prompt=given.get("prompt", ""),
        sort=given.get("sort", ""),
        order="asc" if given.get("order") == "asc" else "desc",
        page=whole_parameter(request, "page"),
    )
    try:
        question = _question(asked)
    except QueryError as error:
        return _render(site, asked, [], 0, error)
    with site.store.environment.read() as transaction:
        sequences, total = site.rankings.page(
            transaction,
            question,
            offset=(asked.page - 1) * PAGE_RUNS,
            limit=PAGE_RUNS,
            descending=asked.order == "desc",
        )
        runs = [records.run_record(transaction, sequence) for sequence in sequences]
    return _render(site, asked, runs, total, None)


def _question(asked: Asked) -> Question:
    selection = Selection(
        workflow_id=asked.workflow or None,
        task_id=asked.task or None,
        prompt_hash=asked.prompt or None,
        where=predicate.parse(asked.where) if asked.where.strip() else None,
    )
    return Question(selection, asked.where, asked.sort or None)


def _render(site: Site, asked: Asked, runs: list[Record], total: int, error: QueryError | None) -> Response:
    newest = site.store.list_artifacts(limit=_KNOWN_RUNS)
    counts = _metric_counts([*newest, *runs])
    pages = max(1, -(-total // PAGE_RUNS))

    def link(**changed: object) -> str:
        return site.url(**asked.parameters(**changed))

    return site.render(
        "runs.html",
        200 if error is None else 400,
        asked=asked,
        error=error,
        runs=[{**run, "ref": run_ref(run), "metrics": metrics_of(run)} for run in runs],
        metrics=_columns(counts, asked.sort),
        known={
            "metrics": counts,
            "workflows": dict.fromkeys(run["workflow_id"] for run in newest),
            "tasks": dict.fromkeys(run["task_id"] for run in newest),
        },
        total=total,
        first=(asked.page - 1) * PAGE_RUNS + 1,
        pages=pages,
        link=link,
    )


def _metric_counts(runs: Sequence[Record]) -> dict[str, int]:
    """Return how many of some runs have each metric as a number, in the order they were given."""
    counts: dict[str, int] = {}
    for run in runs:
        for name, value in metrics_of(run).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                counts[name] = counts.get(name, 0) + 1
    return counts


def _columns(counts: Mapping[str, int], sort: str) -> list[str]:
    """Return the metrics that most runs have, and the one to sort by."""
    best = sorted(counts, key=lambda name: -counts[name])[:_METRIC_COLUMNS]
    columns = [name for name in counts if name in best]
    return [*columns, sort] if sort and sort not in columns else columns

"""Parts of screens that several commands share: export states, a run's head, its metrics.

Invariant: a state looks the same on every screen. Pure: gives cells and lines, prints nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cli.figures import age_text, list_of, metric_text, metrics_of, short_oid, size_text, time_text, whole_of
from cli.output import Cell, Content, Style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STATE_STYLES: Final[dict[str, Style]] = {"queued": "warn", "exported": "", "pushed": "good", "parked": "bad"}


def state_cell(state: object) -> Cell:
    """Return an export state as it looks everywhere."""
    return Cell(str(state), _STATE_STYLES.get(str(state), ""))


def strings(value: object) -> list[str]:
    """Return the texts of a record's list."""
    return [str(item) for item in list_of(value)]


def run_fields(record: Mapping[str, object], now_us: int) -> list[tuple[str, Content | Sequence[Content]]]:
    """Return the head of a run's screen."""
    created_at_us = whole_of(record["created_at_us"])
    fields: list[tuple[str, Content | Sequence[Content]]] = [
        ("run", (Cell(str(record["correlation_id"]), "name"), f", revision {record['revision']}")),
        ("workflow", str(record["workflow_id"])),
        ("task", str(record["task_id"])),
        ("committed", f"{time_text(created_at_us)} UTC ({age_text(created_at_us, now_us)})"),
        ("branch", str(record["branch"])),
        ("commit", Cell(str(record["commit_sha"]), "name")),
        ("tags", ", ".join(strings(record["tags"]))),
        ("export", state_cell(record["export_state"])),
    ]
    for key, name in (("prompt_hash", "prompt"), ("agent_version", "agent"), ("llm_version", "llm")):
        if record.get(key) is not None:
            fields.append((name, str(record[key])))
    metrics = ", ".join(f"{name} {metric_text(value)}" for name, value in metrics_of(record).items())
    if metrics:
        fields.append(("metrics", metrics))
    return fields


def step_fields(record: Mapping[str, object]) -> list[tuple[str, Content | Sequence[Content]]]:
    """Return the screen of a rollback."""
    return [
        ("rollback", (Cell(str(record["branch"]), "name"), f" to {record['reverted_to']}")),
        ("committed", str(record["commit_timestamp"])),
        ("commit", Cell(str(record["commit_sha"]), "name")),
        ("parent", short_oid(record["parent"])),
        ("source", short_oid(record["source_commit"])),
        ("reason", str(record["reason"] or "-")),
        ("export", state_cell(record["export_state"])),
    ]


def file_row(file: Mapping[str, object], *, ids: bool) -> list[Content]:
    """Return the row of a file: name, size, and with ``ids`` its digest and git id."""
    row: list[Content] = [Cell(str(file["name"]), "name"), size_text(whole_of(file["size_bytes"]))]
    return [*row, str(file["digest"]), str(file["oid"])] if ids else row


def ago(moment_us: object, now_us: int) -> str:
    """Return how long ago a recorded moment was; ``never`` when there is none."""
    return age_text(moment_us, now_us) if isinstance(moment_us, int) else "never"

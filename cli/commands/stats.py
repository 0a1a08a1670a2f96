"""``cas stats``: sizes, counts, rates and the export backlog, with small charts on a terminal.

Invariant: shows the figures of the library under its own names in ``--json``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cli.output import Content, Output

app = new_verb("stats")


@app.command(cls=VerbCommand, epilog=examples("cas stats", "cas stats --charts", "cas stats --json"))
def stats(
    ctx: typer.Context,
    charts: Annotated[
        bool | None,
        typer.Option("--charts/--no-charts", help="Draw charts, or do not.  [default: on a terminal]"),
    ] = None,
) -> None:
    """Show sizes, counts and the export backlog of the store.

    Rates and commit times are those of a day, secrets of a week, rollbacks and growth of 30 days. Cheap: no file
    content is read. With --json: manifests, blobs, stored_bytes, index_bytes, queued, awaiting_push, parked,
    backlog_age_s, used_bytes, file_bytes, disk_free_bytes, commit_success_rate, avg_commit_time and its
    commit_time_p50 and commit_time_p99 (seconds), push_success_rate, secret_detections, rollback_frequency,
    storage_growth, last_commit_at_us, last_export_at_us, last_push_at_us, charts.
    """
    session = ctx.ensure_object(Session)
    drawn = session.as_json or (session.output.is_terminal if charts is None else charts)
    with session.open_for_reading() as store:
        figures = store.stats()
        if drawn:
            from cas.stats import charts as chart_data

            figures["charts"] = chart_data(store.environment, session.now_us())
    if session.as_json:
        session.output.document(figures)
        return
    session.output.fields([*_sizes(figures), *_measures(figures)])
    if drawn:
        _draw(session.output, figures)


def _sizes(figures: Mapping[str, object]) -> list[tuple[str, Content]]:
    from cli.figures import duration_text, number_of, size_text

    number = {key: number_of(value) for key, value in figures.items()}
    oldest = f", the oldest for {duration_text(number['backlog_age_s'])}" if number["queued"] else ""
    return [
        ("commits", f"{number['manifests']:,.0f}"),
        ("stored files", f"{number['blobs']:,.0f}"),
        ("file content", f"{size_text(number['stored_bytes'])}, compressed"),
        ("index", size_text(number["index_bytes"])),
        ("store file", f"{size_text(number['file_bytes'])}, {size_text(number['used_bytes'])} in use"),
        ("disk", f"{size_text(number['disk_free_bytes'])} free"),
        ("queued for git", f"{number['queued']:,.0f}{oldest}"),
        ("awaiting push", f"{number['awaiting_push']:,.0f}"),
        ("parked", f"{number['parked']:,.0f}"),
    ]


def _measures(figures: Mapping[str, object]) -> list[tuple[str, Content]]:
    from cli.figures import mapping_of, number_of, size_text

    grown = {key: size_text(number_of(value)) for key, value in mapping_of(figures["storage_growth"]).items()}
    times = [
        f"{name} {_time_text(figures[key])}"
        for name, key in (("mean", "avg_commit_time"), ("p50", "commit_time_p50"), ("p99", "commit_time_p99"))
    ]
    return [
        ("commits ok", _rate_text(figures["commit_success_rate"])),
        ("commit time", ", ".join(times) if figures["avg_commit_time"] is not None else "-"),
        ("pushes ok", _rate_text(figures["push_success_rate"])),
        ("secrets", f"{number_of(figures['secret_detections']):,.0f} found in a week"),
        ("rollbacks", f"{number_of(figures['rollback_frequency']):,.0f} in 30 days"),
        ("growth", f"{grown['raw_bytes']} taken in, {grown['stored_bytes']} stored in 30 days"),
    ]


def _rate_text(rate: object) -> str:
    return f"{rate:.1%} in a day" if isinstance(rate, int | float) else "-"


def _time_text(duration_s: object) -> str:
    from cli.figures import number_of

    seconds = number_of(duration_s)
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _draw(output: Output, figures: Mapping[str, object]) -> None:
    from cli.charts import bars, columns
    from cli.figures import list_of, mapping_of, whole_of
    from cli.output import Cell

    data = {
        key: [whole_of(item) for item in list_of(value)]
        for key, value in mapping_of(figures["charts"]).items()
    }
    labels = [f"<= {_time_text(bound / 1_000_000)}" for bound in data["latency_bounds_us"]]
    labels.append(f"> {labels[-1].removeprefix('<= ')}")
    output.line()
    output.line(Cell("commit time, a day", "head"))
    plain = not output.has_blocks
    counted = list(zip(labels, data["latency_counts"], strict=True))
    for line in bars(counted, min(output.width, 80), plain=plain):
        output.line(line)
    output.line()
    for title, key in (("commits by day", "commits_by_day"), ("stored bytes by day", "stored_bytes_by_day")):
        output.line(Cell(f"{title:<22}", "dim"), columns(data[key], plain=plain))
    backlog: list[int] = []
    for change in data["backlog_by_day"]:
        backlog.append(max(0, (backlog[-1] if backlog else 0) + change))
    output.line(Cell(f"{'backlog by day':<22}", "dim"), columns(backlog, plain=plain))

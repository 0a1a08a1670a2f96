"""``cas diff``: what differs between two runs.

Invariant: shows what the library found; nothing is computed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.completion import complete_ref
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cas.records import Record
    from cli.output import Cell, Output, Style

app = new_verb("diff")
_LINE_STYLES: dict[str, Style] = {"+": "good", "-": "bad", "@": "name"}


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas diff abc123 def456", "cas diff corr_abc123 corr_abc123@2", "cas diff latest~1 latest --json"
    ),
)
def diff(
    ctx: typer.Context,
    left: Annotated[str, typer.Argument(metavar="A", help="One run.", autocompletion=complete_ref)],
    right: Annotated[str, typer.Argument(metavar="B", help="The other run.", autocompletion=complete_ref)],
) -> None:
    """Show what differs between two runs.

    Metrics side by side, metadata, files added, removed and changed; for a CSV file the first row that differs, for
    text a unified diff. Long files are only said to differ.
    """
    session = ctx.ensure_object(Session)
    with session.open_for_reading() as store:
        found = store.diff(left, right)
    if session.as_json:
        session.output.document(found)
    else:
        _show(session.output, found)


def _show(output: Output, found: Record) -> None:
    from cli.figures import list_of, mapping_of

    if found["identical"]:
        output.line("the same files, metrics and metadata")
        return
    _show_values(output, "METRIC", mapping_of(found["metrics"]))
    _show_values(output, "METADATA", mapping_of(found["metadata"]))
    for name in list_of(found["removed"]):
        output.line(_mark("- ", "bad"), str(name))
    for name in list_of(found["added"]):
        output.line(_mark("+ ", "good"), str(name))
    for change in list_of(found["changed"]):
        _show_file(output, mapping_of(change))


def _mark(text: str, style: Style) -> Cell:
    from cli.output import Cell

    return Cell(text, style)


def _show_values(output: Output, title: str, values: Mapping[str, object]) -> None:
    from cli.figures import mapping_of, metric_text
    from cli.output import Column

    rows: list[list[str | Cell]] = []
    for name, value in values.items():
        sides = mapping_of(value)
        rows.append([name, *(metric_text(sides.get(key)) for key in ("left", "right", "change"))])
    if rows:
        columns = [
            Column(title, least=12),
            Column("A", "right", least=8),
            Column("B", "right", least=8),
            Column("CHANGE", "right"),
        ]
        output.table(columns, rows)
        output.line()


def _show_file(output: Output, change: Mapping[str, object]) -> None:
    from cli.figures import list_of, mapping_of, size_text, whole_of

    sizes = " to ".join(size_text(whole_of(change[key])) for key in ("left_bytes", "right_bytes"))
    output.line(_mark("~ ", "warn"), f"{change['name']} ({sizes})")
    table, text = mapping_of(change.get("table")), mapping_of(change.get("text"))
    if table and table["row"] is not None:
        columns = ", ".join(map(str, list_of(table["columns"])))
        output.line(f"    first differs in row {table['row']}: {columns}")
        for side, style in (("left", "bad"), ("right", "good")):
            row = table[side]
            shown = "(no more rows)" if row is None else ",".join(map(str, list_of(row)))
            output.line("    ", _mark(("- " if side == "left" else "+ ") + shown, style))  # type: ignore[arg-type]
    elif table:
        output.line("    the same rows, written in another way")
    for line in list_of(text.get("lines"))[2:]:
        output.line("    ", _mark(str(line), _LINE_STYLES.get(str(line)[:1], "")))
    if text.get("truncated"):
        output.line("    ...")

"""Output: the only module that writes to the terminal.

Invariant: data goes to stdout and talk to stderr; with ``--json`` stdout holds one JSON document, or, of long work,
JSON Lines whose last is the result; stderr holds JSON as well, one line per error. Colour appears on a terminal only,
and never under NO_COLOR. No text from outside reaches a terminal with its control characters. It must not read the
environment or decide what is shown.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from cli.figures import printable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from typing import TextIO

    from rich.console import Console
    from rich.text import Text

    from cli.progress import Progress, Unit
    from cli.settings import TerminalWishes

Style = Literal["", "good", "warn", "bad", "dim", "name", "head"]
_STYLES: Final[dict[Style, str]] = {
    "": "",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "dim": "dim",
    "name": "cyan",
    "head": "bold",
}
# A log or a pipe has no width: rows stay on one line, however long, so that they can be searched.
_NO_WIDTH_COLUMNS: Final = 1000
_COLUMN_GAP: Final = 2


class Cell(NamedTuple):
    """A piece of text and how it looks where colour is wanted."""

    text: str
    style: Style = ""


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: Heading.
        align: Side of its cells.
        keep: Rank of importance: when the table is too wide, columns go in falling order of it; 0 always stays.
        least: Columns below which its cells are not cut with an ellipsis; 0 means that they are never cut.
        folds: Whether a cell that is too long goes on in further lines instead of being cut.
    """

    title: str
    align: Literal["left", "right"] = "left"
    keep: int = 0
    least: int = 0
    folds: bool = False


Content = str | Cell


class Output:
    """Where a command's results, notes and errors go.

    Args:
        as_json: Write JSON instead of text.
        quiet: Leave out notes and progress; errors are written all the same.
        wishes: What the environment says about colour and width.
    """

    def __init__(self, *, as_json: bool, quiet: bool, wishes: TerminalWishes) -> None:
        self.as_json = as_json
        self._quiet = quiet
        self._wishes = wishes
        self._has_events = False

    # --- data, on stdout -----------------------------------------------------------------------------------------

    def document(self, data: Mapping[str, object]) -> None:
        """Write the JSON document of a command, or the result line of long work; ASCII only, for any encoding."""
        if self._has_events:
            self.event("result", data)
        else:
            self.whole_document(data)

    def whole_document(self, data: Mapping[str, object]) -> None:
        """Write a JSON document whose form is not ours."""
        self._write(sys.stdout, json.dumps(data, indent=2, allow_nan=False, default=str) + "\n")

    def event(self, name: str, data: Mapping[str, object]) -> None:
        """Write one line of JSON Lines, at once; the key ``event`` says what it is."""
        self._has_events = True
        self._write(sys.stdout, json.dumps({"event": name, **data}, allow_nan=False, default=str) + "\n")
        self.flush()

    def line(self, *pieces: Content) -> None:
        """Write one line of text."""
        self._write_pieces(sys.stdout, pieces)

    def block(self, text: str) -> None:
        """Write text of the product's own as it is, lines and all."""
        self._write(sys.stdout, text if text.endswith("\n") else text + "\n")

    def fields(self, pairs: Iterable[tuple[str, Content | Sequence[Content]]]) -> None:
        """Write names and values, the values aligned."""
        listed = list(pairs)
        width = max((len(name) for name, _ in listed), default=0)
        for name, value in listed:
            pieces = (value,) if isinstance(value, str | Cell) else tuple(value)
            self._write_pieces(sys.stdout, (Cell(name.ljust(width), "dim"), "  ", *pieces))

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[Content]]) -> None:
        """Write a table that fits the terminal: unimportant columns go first, then long cells are cut or folded."""
        from rich.table import Table

        cells = [[_cell(content) for content in row] for row in rows]
        widths = _fitting(columns, cells, self.width)
        # Gaps are columns of their own: versions of rich differ in whether a width holds the padding.
        table = Table(box=None, pad_edge=False, padding=0, header_style="bold", expand=False)
        for place, (index, width) in enumerate(widths.items()):
            if place > 0:
                table.add_column(width=_COLUMN_GAP)
            column = columns[index]
            table.add_column(
                column.title,
                justify=column.align,
                no_wrap=not column.folds,
                overflow="fold" if column.folds else "ellipsis",
                width=width,
            )
        for row in cells:
            shown = [part for index in widths for part in ("", _rich(row[index]))]
            table.add_row(*shown[1:])
        # What cannot shrink is never cut: such a table is wider than the terminal, which then breaks its lines.
        self._print_rich(sys.stdout, table, max(self.width, _total(widths.values()) + _COLUMN_GAP))

    def raw(self, chunks: Iterable[bytes]) -> None:
        """Write bytes exactly, without a line end of ours."""
        stream = getattr(sys.stdout, "buffer", None)
        self.flush()
        for chunk in chunks:
            if stream is None:
                self._write(sys.stdout, chunk.decode("utf-8", "replace"))
            else:
                with _told():
                    stream.write(chunk)
        self.flush()

    def flush(self) -> None:
        """Hand on what was written so far.

        Raises:
            StorageError: It cannot be written, as on a full disk.
        """
        with _told():
            sys.stdout.flush()

    # --- talk, on stderr -----------------------------------------------------------------------------------------

    def note(self, *pieces: Content) -> None:
        """Write a remark; nothing with ``--quiet`` or ``--json``."""
        if not self._quiet and not self.as_json:
            self._write_pieces(sys.stderr, pieces)

    def warn(self, text: str) -> None:
        """Write a warning; with ``--json`` it belongs into the document instead."""
        if not self.as_json:
            self._write_pieces(sys.stderr, (Cell("warning: ", "warn"), text))

    def error(self, message: str, hint: str | None, fields: Mapping[str, object]) -> None:
        """Write an error and what to do next, or its JSON form.

        Args:
            message: One line.
            hint: The next step; may have several lines.
            fields: The JSON document.
        """
        if self.as_json:
            self._write(sys.stderr, json.dumps(fields, default=str) + "\n")
            return
        self._write_pieces(sys.stderr, (Cell("error: ", "bad"), message))
        for number, line in enumerate((hint or "").splitlines()):
            self._write_pieces(sys.stderr, (Cell("hint: " if number == 0 else "      ", "dim"), line))

    def traceback(self, text: str) -> None:
        """Write the trace of an unexpected error."""
        if not self.as_json:
            self._write(sys.stderr, text)

    @contextlib.contextmanager
    def progress(self) -> Generator[Progress | None, None, None]:
        """Show progress while the block runs: a bar on a terminal, lines elsewhere, None when not wanted."""
        self._has_events = self.as_json
        if self._quiet:
            yield None
            return
        from cli.progress import BarProgress, JsonProgress, LineProgress

        if self.as_json:
            yield JsonProgress(self.event)
        elif self._draws:
            with BarProgress(self._console(sys.stderr, self.width)) as bar:
                yield bar
        else:
            yield LineProgress(self.note)

    @contextlib.contextmanager
    def patient_progress(self, unit: Unit) -> Generator[Progress | None, None, None]:
        """Show progress of work that is mostly short, once it has lasted a while; None when not wanted.

        With ``--json`` nothing is shown: the command's output is one document, however long it takes.
        """
        if self._quiet or self.as_json:
            yield None
            return
        from cli.progress import BAR_PATIENCE_S, LINE_PATIENCE_S, BarProgress, LineProgress, PatientProgress

        with contextlib.ExitStack() as shown:
            if self._draws:
                bar = BarProgress(self._console(sys.stderr, self.width), unit=unit)
                yield PatientProgress(lambda: shown.enter_context(bar), BAR_PATIENCE_S)
            else:
                lines = LineProgress(self.note, unit=unit)
                yield PatientProgress(lambda: lines, LINE_PATIENCE_S)

    # --- how -----------------------------------------------------------------------------------------------------

    @property
    def width(self) -> int:
        """Columns of the terminal; a great number where there is none."""
        if self._wishes.columns:
            return self._wishes.columns
        if self._is_terminal(sys.stdout):
            import shutil

            return shutil.get_terminal_size().columns
        return _NO_WIDTH_COLUMNS

    @property
    def has_blocks(self) -> bool:
        """Whether stdout's encoding has the characters that charts are drawn with."""
        try:
            "▏█▁".encode(sys.stdout.encoding or "ascii")
        except UnicodeEncodeError:
            return False
        return True

    @property
    def is_terminal(self) -> bool:
        """Whether a person is looking at stdout."""
        return self._is_terminal(sys.stdout)

    @property
    def _draws(self) -> bool:
        return self._is_terminal(sys.stderr) and not self._wishes.is_dumb

    @staticmethod
    def _is_terminal(stream: TextIO) -> bool:
        try:
            return stream.isatty()
        except ValueError:  # closed already
            return False

    def _has_color(self, stream: TextIO) -> bool:
        return self._is_terminal(stream) if self._wishes.color is None else self._wishes.color

    def _console(self, stream: TextIO, width: int) -> Console:
        from rich.console import Console

        color = self._has_color(stream)
        return Console(
            file=stream,
            width=width,
            color_system="standard" if color else None,
            force_terminal=color or self._is_terminal(stream),
            no_color=not color,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
            _environ={},
        )

    def _write_pieces(self, stream: TextIO, pieces: Sequence[Content]) -> None:
        cells = [_cell(piece) for piece in pieces]
        if self._has_color(stream) and any(cell.style for cell in cells):
            from rich.text import Text

            text = Text.assemble(*((cell.text, _STYLES[cell.style]) for cell in cells))
            self._print_rich(stream, text, _NO_WIDTH_COLUMNS)
        else:
            self._write(stream, "".join(cell.text for cell in cells).rstrip() + "\n")

    def _print_rich(self, stream: TextIO, item: object, width: int) -> None:
        """Render first, then write without the blanks that fill a row to its full width."""
        with contextlib.closing(io.StringIO()) as buffer:
            console = self._console(stream, width)
            console.file = buffer
            console.print(item, soft_wrap=False)
            for line in buffer.getvalue().splitlines():
                self._write(stream, line.rstrip() + "\n")

    @staticmethod
    def _write(stream: TextIO, text: str) -> None:
        with _told(is_data=stream is sys.stdout):
            try:
                stream.write(text)
            except UnicodeEncodeError:
                encoding = stream.encoding or "ascii"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


@contextlib.contextmanager
def _told(*, is_data: bool = True) -> Generator[None]:
    """Turn a refusal to take data into an error of ours; talk that is not taken is dropped: there is nobody to tell."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if is_data:
            from cas.errors import StorageError

            raise StorageError(f"the output cannot be written: {error.strerror}") from error


def _cell(content: Content) -> Cell:
    text, style = (content.text, content.style) if isinstance(content, Cell) else (content, "")
    return Cell(printable(text), style)


def _rich(cell: Cell) -> Text:
    from rich.text import Text

    return Text(cell.text, style=_STYLES[cell.style])


def _column_width(column: Column, cells: Iterable[Cell]) -> int:
    from rich.cells import cell_len

    return max([cell_len(column.title), *(cell_len(cell.text) for cell in cells)])


def _fitting(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> dict[int, int]:
    """Return the indexes of the columns that are shown, in their order, with their widths.

    Columns that always stay are placed first, then the others in order of importance while there is room, each with the
    least it needs; the room that is left goes to the columns that could use it, from left to right.
    """
    longest = [_column_width(column, (row[index] for row in rows)) for index, column in enumerate(columns)]
    least = [
        min(full, column.least) if column.least else full
        for column, full in zip(columns, longest, strict=True)
    ]
    chosen = [index for index, column in enumerate(columns) if column.keep == 0]
    for index in sorted(
        set(range(len(columns))) - set(chosen), key=lambda index: (columns[index].keep, index)
    ):
        if _total([least[number] for number in (*chosen, index)]) <= width:
            chosen.append(index)
    widths = {index: least[index] for index in sorted(chosen)}
    room = width - _total(widths.values())
    for index, width_now in list(widths.items()):
        extra = min(max(room, 0), longest[index] - width_now)
        widths[index] = width_now + extra
        room -= extra
    return widths


def _total(widths: Iterable[int]) -> int:
    listed = list(widths)
    return sum(listed) + _COLUMN_GAP * max(len(listed) - 1, 0)

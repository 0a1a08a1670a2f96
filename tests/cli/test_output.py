"""Output: streams, colour, tables that fit."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cli.output import Cell, Column, Output
from cli.settings import TerminalWishes


class Screen(io.StringIO):
    """A stream that says it is a terminal, or not."""

    def __init__(self, *, terminal):
        super().__init__()
        self._terminal = terminal

    def isatty(self):
        return self._terminal


@pytest.fixture
def screen(monkeypatch):
    def make(*, terminal, **options):
        out, err = Screen(terminal=terminal), Screen(terminal=terminal)
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", err)
        wishes = TerminalWishes(options.pop("color", None), options.pop("columns", 80))
        return Output(as_json=False, quiet=False, wishes=wishes, **options), out, err

    return make


def test_output_color_appears_on_a_terminal_only(screen):
    output, out, _ = screen(terminal=True)
    output.line(Cell("good", "good"))
    assert out.getvalue() == "\x1b[32mgood\x1b[0m\n"
    output, out, _ = screen(terminal=False)
    output.line(Cell("good", "good"))
    assert out.getvalue() == "good\n"


def test_output_no_color_keeps_a_terminal_plain(screen):
    output, out, err = screen(terminal=True, color=False)
    output.table([Column("A")], [[Cell("x", "bad")]])
    output.error("failed", "do this", {})
    assert "\x1b" not in out.getvalue() + err.getvalue()


def test_output_forced_color_reaches_a_pipe(screen):
    output, out, _ = screen(terminal=False, color=True)
    output.table([Column("A")], [[Cell("x", "bad")]])
    assert "\x1b[1;31m" in out.getvalue()


def test_output_markup_in_data_is_only_text(screen):
    output, out, _ = screen(terminal=True, color=False)
    output.table([Column("A")], [["[red]x[/red] :smile:"]])
    output.line("[bold]y", Cell("[/nothing]", "good"))
    assert "[red]x[/red] :smile:" in out.getvalue()
    assert "[bold]y[/nothing]" in out.getvalue()


def test_output_text_that_the_encoding_lacks_is_escaped(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    Output(as_json=False, quiet=False, wishes=TerminalWishes()).line("gr\u00fc\u00df")
    assert raw.getvalue() == b"gr\\xfc\\xdf\n"


def test_output_document_is_ascii_whatever_it_holds(screen):
    output, out, _ = screen(terminal=False)
    output.document({"id": "\u202e\ud800gr\u00fc\u00df"})
    assert out.getvalue().isascii()


names = st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1, max_size=40)


@given(st.lists(st.tuples(names, names, names), min_size=1, max_size=5), st.integers(36, 200))
def test_output_table_with_room_for_what_must_stay_fits_the_width(rows, columns):
    layout = [Column("ID", least=12), Column("PLACE", keep=2), Column("WHAT", least=12)]
    out = Screen(terminal=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        Output(as_json=False, quiet=False, wishes=TerminalWishes(False, columns)).table(layout, rows)
    lines = out.getvalue().splitlines()
    assert len(lines) == len(rows) + 1
    assert max(map(cell_len, lines)) <= columns


def test_output_column_that_may_not_shrink_is_never_cut(screen):
    output, out, _ = screen(terminal=True, color=False, columns=20)
    output.table([Column("COMMIT"), Column("EXTRA", keep=1)], [["c" * 40, "x"]])
    assert out.getvalue().splitlines()[1] == "c" * 40


def test_output_patient_progress_shows_nothing_of_short_work(screen):
    for terminal in (True, False):
        output, out, err = screen(terminal=terminal)
        with output.patient_progress("bytes") as progress:
            progress("read", 1, 2)
            progress("read", 2, 2)
        assert out.getvalue() + err.getvalue() == ""


def test_output_patient_progress_draws_a_bar_or_lines_once_it_takes_long(screen, monkeypatch):
    monkeypatch.setattr("cli.progress.BAR_PATIENCE_S", 0.0)
    monkeypatch.setattr("cli.progress.LINE_PATIENCE_S", 0.0)
    output, out, err = screen(terminal=True)
    with output.patient_progress("bytes") as progress:
        progress("read", 1 << 20, 2 << 20)
    assert "1.0 MiB/2.0 MiB" in err.getvalue()
    assert err.getvalue().endswith(("\x1b[2K", "\x1b[1A\x1b[2K"))  # nothing stays on the screen
    assert out.getvalue() == ""
    output, _, err = screen(terminal=False)
    with output.patient_progress("bytes") as progress:
        progress("read", 1 << 20, 2 << 20)
    assert err.getvalue() == "read: 1.0 MiB of 2.0 MiB\n"

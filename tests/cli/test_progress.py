"""Progress as lines, and as a bar."""

import io

from rich.console import Console

from cli.progress import BarProgress, JsonProgress, LineProgress, PatientProgress


class Seconds:
    """A clock in seconds."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_line_progress_tells_begin_end_and_every_ten_seconds():
    lines, clock = [], Seconds()
    progress = LineProgress(lines.append, clock)
    for done in range(101):
        progress("export", done, 100)
        clock.now += 0.5
    assert lines[0] == "export: 0 of 100"
    assert lines[-1] == "export: 100 of 100"
    assert len(lines) == 6
    assert lines[1] == "export: 20 of 100, 2/s, 40 s left"


def test_line_progress_new_phase_begins_anew():
    lines = []
    progress = LineProgress(lines.append, Seconds())
    progress("export", 1, 1)
    progress("export", 1, 1)
    progress("push", 0, 2)
    assert lines == ["export: 1 of 1", "push: 0 of 2"]


def test_line_progress_without_a_total_tells_the_rate():
    lines, clock = [], Seconds()
    progress = LineProgress(lines.append, clock)
    progress("walk", 0, 0)
    clock.now += 20
    progress("walk", 60, 0)
    assert lines == ["walk: 0", "walk: 60, 3/s"]


def test_json_progress_tells_rate_and_time_left_every_second():
    events, clock = [], Seconds()
    progress = JsonProgress(lambda name, fields: events.append((name, fields)), clock)
    for done in range(0, 101, 10):
        progress("export", done, 100)
        clock.now += 0.5
    assert {name for name, _ in events} == {"progress"}
    assert [fields["done"] for _, fields in events] == [0, 20, 40, 60, 80, 100]
    assert events[1][1] == {"phase": "export", "done": 20, "total": 100, "rate_per_s": 20.0, "left_s": 4.0}
    assert events[0][1]["rate_per_s"] is None


def test_bar_progress_draws_phase_share_and_leaves_nothing():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    with BarProgress(console) as progress:
        progress("export", 0, 10)
        progress("export", 4, 10)
        progress("push", 1, 0)
    drawn = screen.getvalue()
    assert "export" in drawn
    assert "4/10" in drawn
    assert drawn.endswith(("\x1b[2K", "\x1b[1A\x1b[2K"))


def test_progress_of_bytes_tells_sizes():
    lines, clock = [], Seconds()
    progress = LineProgress(lines.append, clock, unit="bytes")
    progress("read", 0, 8 << 20)
    clock.now += 10
    progress("read", 2 << 20, 8 << 20)
    assert lines[1] == "read: 2.0 MiB of 8.0 MiB, 204.8 KiB/s, 30 s left"
    screen = io.StringIO()
    with BarProgress(
        Console(file=screen, force_terminal=True, width=80, color_system=None), unit="bytes"
    ) as bar:
        bar("read", 2 << 20, 8 << 20)
    assert "2.0 MiB/8.0 MiB" in screen.getvalue()


def test_patient_progress_begins_once_and_not_before_its_time():
    lines, begun, clock = [], [], Seconds()

    def begin():
        begun.append(clock.now)
        return LineProgress(lines.append, clock)

    progress = PatientProgress(begin, 5.0, clock)
    for done in range(1, 21):
        progress("read", done, 20)
        clock.now += 0.5
    assert begun == [105.0]
    assert lines == ["read: 11 of 20", "read: 20 of 20"]

"""Progress of long work: phase, share, rate and the time that is left.

Invariant: a bar is drawn on a terminal only; elsewhere a phase gives one line when it begins, one when it ends, and one
every ten seconds between, or every second as JSON. Work that is mostly short shows nothing before it has lasted a
while. The callables have the form that the library's ``progress`` parameters take.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self

from cli.figures import duration_text, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from rich.console import Console
    from rich.progress import Task, TaskID

_LINE_INTERVAL_S: Final = 10.0
_EVENT_INTERVAL_S: Final = 1.0
# A person who waits longer than this wonders what is going on.
BAR_PATIENCE_S: Final = 0.7
LINE_PATIENCE_S: Final = _LINE_INTERVAL_S

Unit = Literal["items", "bytes"]


class Progress(Protocol):
    """Told about work: phase, items done, items in all (0 when unknown)."""

    def __call__(self, phase: str, done: int, total: int, /) -> None:
        """Take note of ``done`` items of a phase."""
        ...


class _PacedProgress:
    """Progress that is told now and then.

    Args:
        interval_s: Seconds between two tellings of one phase.
        clock: Seconds, rising; injected in tests.
    """

    def __init__(self, interval_s: float, clock: Callable[[], float]) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._phase = ""
        self._started_at_s = 0.0
        self._told_at_s = 0.0
        self._told: tuple[int, int] | None = None

    def __call__(self, phase: str, done: int, total: int, /) -> None:
        """Tell when there is something to tell."""
        now_s = self._clock()
        first = phase != self._phase
        if first:
            self._phase, self._started_at_s, self._told = phase, now_s, None
        ended = total > 0 and done >= total
        if self._told != (done, total) and (first or ended or now_s - self._told_at_s >= self._interval_s):
            self._told_at_s, self._told = now_s, (done, total)
            elapsed_s = now_s - self._started_at_s
            rate = done / elapsed_s if done > 0 and elapsed_s > 0 else None
            self._tell(done, total, rate, (total - done) / rate if rate and total else None)

    def _tell(self, done: int, total: int, rate: float | None, left_s: float | None) -> None:
        raise NotImplementedError


class LineProgress(_PacedProgress):
    """Progress as plain lines.

    Args:
        write: Takes one line of text.
        clock: Seconds, rising; injected in tests.
        unit: What is counted.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        unit: Unit = "items",
    ) -> None:
        super().__init__(_LINE_INTERVAL_S, clock)
        self._write = write
        self._unit: Unit = unit

    def _tell(self, done: int, total: int, rate: float | None, left_s: float | None) -> None:
        text = f"{self._phase}: {_amount(done, self._unit)}"
        if total:
            text += f" of {_amount(total, self._unit)}"
        if rate is not None and not 0 < total <= done:
            text += f", {_amount(rate, self._unit)}/s"
        if left_s:
            text += f", {duration_text(left_s)} left"
        self._write(text)


class JsonProgress(_PacedProgress):
    """Progress as events: ``phase, done, total, rate_per_s, left_s``, null where it is not known.

    Args:
        write: Takes the name of an event, and its fields.
        clock: Seconds, rising; injected in tests.
    """

    def __init__(
        self,
        write: Callable[[str, Mapping[str, object]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(_EVENT_INTERVAL_S, clock)
        self._write = write

    def _tell(self, done: int, total: int, rate: float | None, left_s: float | None) -> None:
        rounded = None if rate is None else round(rate, 1)
        left_s = None if left_s is None else round(left_s, 1)
        fields = {"phase": self._phase, "done": done, "total": total or None}
        self._write("progress", {**fields, "rate_per_s": rounded, "left_s": left_s})


def _amount(count: float, unit: Unit) -> str:
    return size_text(count) if unit == "bytes" else f"{count:.0f}"


class PatientProgress:
    """Progress that keeps silent for a while, as most work of its kind is over by then.

    Args:
        begin: Called once, when the time is over; returns the progress that is told from then on.
        patience_s: Seconds of silence.
        clock: Seconds, rising; injected in tests.
    """

    def __init__(
        self, begin: Callable[[], Progress], patience_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._begin = begin
        self._clock = clock
        self._silent_until_s = clock() + patience_s
        self._progress: Progress | None = None

    def __call__(self, phase: str, done: int, total: int, /) -> None:
        """Hand on what is told, once the time of silence is over."""
        if self._progress is None and self._clock() >= self._silent_until_s:
            self._progress = self._begin()
        if self._progress is not None:
            self._progress(phase, done, total)


class BarProgress:
    """Progress as a bar on a terminal; a context manager that leaves the terminal clean.

    Args:
        console: The terminal.
        unit: What is counted.
    """

    def __init__(self, console: Console, *, unit: Unit = "items") -> None:
        from rich.progress import (
            BarColumn,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress
        from rich.text import Text

        class Share(ProgressColumn):
            """How much is done, of how much."""

            def render(self, task: Task) -> Text:
                """Return the cell of a task."""
                total = "?" if task.total is None else _amount(task.total, unit)
                return Text(f"{_amount(task.completed, unit)}/{total}", style="progress.download")

        class Rate(ProgressColumn):
            """How much in a second."""

            def render(self, task: Task) -> Text:
                """Return the cell of a task."""
                speed = task.finished_speed or task.speed
                return Text(f"{_amount(speed, unit)}/s" if speed else "")

        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            Share(),
            Rate(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rich.stop()

    def __call__(self, phase: str, done: int, total: int, /) -> None:
        """Move the bar of a phase; a new phase gets a bar of its own."""
        task = self._tasks.get(phase)
        if task is None:
            task = self._tasks[phase] = self._rich.add_task(phase, total=total or None)
        self._rich.update(task, completed=done, total=total or None)

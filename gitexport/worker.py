"""Following the outbox: an export whenever something is queued, until told to stop.

Invariant: a stop ends between batches or pushes, with the work at hand complete, and nothing is lost when it does not
get the chance. For services (`cas export --follow`) and for programs that export from a thread of their own.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from typing import TYPE_CHECKING, Final

from cas import outbox
from cas.errors import ArtifactStoreError
from cas.outbox import Stage
from gitexport.exporter import Exporter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from cas import ArtifactStore
    from gitexport.blobcopy import CheckLevel
    from gitexport.summary import ExportSummary

DEFAULT_INTERVAL_S: Final = 10.0  # six pushes a minute, as many as hosts advise
_LEAST_PAUSE_S: Final = 1.0  # however short the interval
_LONGEST_PAUSE_S: Final = 300.0
_LONGEST_WAIT_S: Final = 24 * 3600.0  # the system counts milliseconds, up to 25 days of them


class StopSignal:
    """A flag that a thread can sleep on and a signal handler can set: `threading.Event` may deadlock in a handler."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._is_set = False

    def set(self) -> None:
        """Set the flag and wake who waits; safe in threads and signal handlers, repeatable."""
        self._is_set = True
        with contextlib.suppress(OSError):  # full: whoever waits wakes up in any case
            os.write(self._writer, b"x")

    def is_set(self) -> bool:
        """Tell whether the flag is set."""
        return self._is_set

    def wait(self, timeout_s: float) -> bool:
        """Sleep until the flag is set or the time (at most a day) is over; tell whether it is set."""
        if not self._is_set:
            waiting = select.poll()  # select() takes no descriptor from 1024 on
            waiting.register(self._reader, select.POLLIN)
            waiting.poll(min(max(0.0, timeout_s), _LONGEST_WAIT_S) * 1000)
        return self._is_set

    def __del__(self) -> None:
        for descriptor in (self._reader, self._writer):
            with contextlib.suppress(OSError):
                os.close(descriptor)


class ExportWorker:
    """Exports a store again and again, in the caller's thread (`follow`) or in one of its own (`start`).

    Runs are exported within one interval of their commit. What cannot be pushed now is tried again after pauses that
    double up to five minutes, and does not slow down the export of new runs. Used once: it cannot be started again
    after it was stopped.

    Args:
        store: An open store; it must stay open until the worker has stopped.
        interval_s: Seconds between looks at the outbox.
        repository: The target; None means the store's ``repo_path``.
        check: How sure to be of stored bytes before git sees them, see `Exporter`.
        on_summary: Called after each export that did not fail, in the exporting thread.
        on_error: Called with each failure; the worker goes on, after a pause.
        stopping: A flag that ends the worker, when others share it; None means one of its own.
        clock: Monotonic seconds; injected in tests.
    """

    def __init__(
        self,
        store: ArtifactStore,
        *,
        interval_s: float = DEFAULT_INTERVAL_S,
        repository: Path | None = None,
        check: CheckLevel = "deposit",
        on_summary: Callable[[ExportSummary], None] | None = None,
        on_error: Callable[[ArtifactStoreError], None] | None = None,
        stopping: StopSignal | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._interval_s = interval_s
        self._exporter = Exporter(store, repository=repository, check=check)
        self._on_summary = on_summary
        self._on_error = on_error
        self._clock = clock
        self._stopping = stopping or StopSignal()
        self._thread: threading.Thread | None = None
        self._pause_s = interval_s
        self._push_at_s = clock()  # not before: pushes that failed a moment ago are spaced out
        self._write_at_s = clock()

    def follow(self) -> None:
        """Export until `stop` is called; returns with the work at hand complete."""
        while not self._stopping.is_set():
            self.step()
            self._stopping.wait(self._interval_s)

    def step(self) -> ExportSummary | None:
        """Export once if something is due; None when nothing was, or when it failed."""
        try:
            summary = self._export_due()
        except ArtifactStoreError as error:
            self._back_off()
            self._write_at_s = self._push_at_s
            if self._on_error is not None:
                self._on_error(error)
            return None
        if summary is not None and self._on_summary is not None:
            self._on_summary(summary)
        return summary

    def _export_due(self) -> ExportSummary | None:
        now_s = self._clock()
        if now_s < min(self._write_at_s, self._push_at_s):
            return None
        queued, awaiting = self._waiting()
        pushing = self._store.config.auto_push and now_s >= self._push_at_s
        if not (queued and now_s >= self._write_at_s) and not (awaiting and pushing):
            return None
        summary = self._exporter.run(
            wait_s=self._interval_s,
            push=pushing,
            should_stop=self._stopping.is_set,
            pause=self._stopping.wait,
        )
        # A push that left something behind, or could not begin, is not repeated at once.
        if pushing and self._waiting()[1]:
            self._back_off()
        elif pushing:
            self._pause_s = self._interval_s
            self._push_at_s = self._clock()
        return summary

    def _back_off(self) -> None:
        self._pause_s = min(max(2 * self._pause_s, _LEAST_PAUSE_S), _LONGEST_PAUSE_S)
        self._push_at_s = self._clock() + self._pause_s

    def _waiting(self) -> tuple[bool, bool]:
        """Tell whether something waits for git, and whether something waits for the remote."""
        with self._store.environment.read() as transaction:
            queued, awaiting = (
                any(True for _ in outbox.iter_entries(transaction, stage))
                for stage in (Stage.WRITE, Stage.PUSH)
            )
        return queued, awaiting

    def start(self) -> None:
        """Follow in a thread of its own."""
        if self._thread is None:
            self._thread = threading.Thread(target=self.follow, name="cas-export", daemon=True)
            self._thread.start()

    def request_stop(self) -> None:
        """Ask for the end without waiting for it; safe in a signal handler."""
        self._stopping.set()

    def stop(self, timeout_s: float | None = None) -> None:
        """Ask for the end, and wait for it when the worker has its own thread."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

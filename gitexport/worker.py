"""Following the outbox: an export whenever something is queued, until told to stop.

Invariant: a stop ends between batches or with the batch at hand completed, and nothing is lost when it does not get
the chance. For services (`cas export --follow`) and for programs that export from a thread of their own.
"""

from __future__ import annotations

import threading
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
    from gitexport.exporter import ExportSummary

DEFAULT_INTERVAL_S: Final = 5.0  # hosts advise at most six pushes a minute; --interval 10 keeps below that
_LONGEST_PAUSE_S: Final = 300.0


class ExportWorker:
    """Exports a store again and again, in the caller's thread (`follow`) or in one of its own (`start`).

    Args:
        store: An open store; it must stay open until the worker has stopped.
        interval_s: Seconds between looks at the outbox.
        repository: The target; None means the store's ``repo_path``.
        on_summary: Called after each export that did something.
        on_error: Called with each failure; the worker goes on, after a pause that doubles up to five minutes.
    """

    def __init__(
        self,
        store: ArtifactStore,
        *,
        interval_s: float = DEFAULT_INTERVAL_S,
        repository: Path | None = None,
        on_summary: Callable[[ExportSummary], None] | None = None,
        on_error: Callable[[ArtifactStoreError], None] | None = None,
    ) -> None:
        self._store = store
        self._interval_s = interval_s
        self._exporter = Exporter(store, repository=repository)
        self._on_summary = on_summary
        self._on_error = on_error
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self) -> None:
        """Export until `stop` is called; returns with the work at hand complete."""
        pause_s = self._interval_s
        while not self._stopping.is_set():
            pause_s = self._step(pause_s)
            self._stopping.wait(pause_s)

    def _step(self, pause_s: float) -> float:
        """Export what is queued, and return how long to pause."""
        if not self._has_work():
            return self._interval_s
        try:
            summary = self._exporter.run(wait_s=self._interval_s)
        except ArtifactStoreError as error:
            if self._on_error is not None:
                self._on_error(error)
            return min(2 * pause_s, _LONGEST_PAUSE_S)
        if self._on_summary is not None:
            self._on_summary(summary)
        return self._interval_s if summary.state == "done" else min(2 * pause_s, _LONGEST_PAUSE_S)

    def _has_work(self) -> bool:
        stages = [Stage.WRITE, Stage.PUSH] if self._store.config.auto_push else [Stage.WRITE]
        with self._store.environment.read() as transaction:
            return any(True for stage in stages for _ in outbox.iter_entries(transaction, stage))

    def start(self) -> None:
        """Follow in a thread of its own."""
        if self._thread is None:
            self._thread = threading.Thread(target=self.follow, name="cas-export", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Ask for the end, and wait for it when the worker has its own thread; callable from a signal handler."""
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

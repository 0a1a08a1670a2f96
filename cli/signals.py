"""Stopping services: SIGTERM and SIGINT set a flag that the service looks at; a second one ends it at once.

Invariant: the handlers of before are back when the block ends. Main thread only.
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Final

from gitexport.worker import StopSignal

if TYPE_CHECKING:
    from collections.abc import Generator

_LONG_S: Final = 3600.0


class Stopping(StopSignal):
    """The flag of a service."""

    def wait_for_ever(self) -> None:
        """Sleep until the flag is set."""
        while not self.wait(_LONG_S):
            continue


@contextlib.contextmanager
def stop_signal() -> Generator[Stopping]:
    """Yield a flag that SIGTERM and SIGINT set while the block runs."""
    stopping = Stopping()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, _: object) -> None:
        stopping.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Stopping services: SIGTERM and SIGINT set a flag that the service looks at; a second one ends it at once.

Invariant: the handlers of before are back when the block ends, and no program that was started in it outlives it: a
signal that ends the process unwinds the block first, as Ctrl-C does. Main thread only.
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Final

from gitexport.worker import StopSignal

if TYPE_CHECKING:
    from collections.abc import Generator

_LONG_S: Final = 3600.0


class _EndedError(BaseException):
    """SIGTERM on its way out of a block; an `Exception` would be told as a defect on the way."""


class Stopping(StopSignal):
    """The flag of a service."""

    def wait_for_ever(self) -> None:
        """Sleep until the flag is set."""
        while not self.wait(_LONG_S):
            continue


@contextlib.contextmanager
def unwound_by_sigterm() -> Generator[None]:
    """Let SIGTERM unwind the block before it ends the process, where it would end the process; else change nothing."""
    before = signal.getsignal(signal.SIGTERM)
    if before != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _unwind)
    try:
        yield
    except _EndedError:
        signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _unwind(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # what is on its way out is not interrupted again
    raise _EndedError


@contextlib.contextmanager
def stop_signal() -> Generator[Stopping]:
    """Yield a flag that SIGTERM and SIGINT set while the block runs."""
    with unwound_by_sigterm():
        yield from _stop_signal()


def _stop_signal() -> Generator[Stopping]:
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

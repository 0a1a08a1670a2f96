"""Waiting for other processes: calls that are made again while one is in the way.

Invariant: only what another process's presence refuses is tried again, and never beyond the time that was given.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE_S: Final = 0.1
_Result = TypeVar("_Result")
_IN_THE_WAY: Final = frozenset({"store_in_use", "gc_running"})


def when_free(
    call: Callable[[], _Result],
    wait_s: float,
    *,
    on_wait: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> _Result:
    """Return what a call returns, made again while another process is in the way.

    Args:
        call: Refuses with a StateError whose kind says that another process is at work.
        wait_s: Seconds after which the refusal stands.
        on_wait: Called once, when it turns out that there is something to wait for.
        clock: Monotonic seconds; injected in tests.
        sleep: Pauses; injected in tests.

    Raises:
        StateError: It is still in the way.
    """
    from cas.errors import StateError

    deadline_s = clock() + wait_s
    is_waiting = False
    while True:
        try:
            return call()
        except StateError as error:
            if error.kind not in _IN_THE_WAY or clock() >= deadline_s:
                raise
        if not is_waiting:
            is_waiting = True
            on_wait()
        sleep(_PAUSE_S)

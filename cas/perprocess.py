"""What a process has once for each open store, such as a queue or a meter; a forked child makes its own.

Invariant: all stores of a process that share an environment share the object, no other process does, and nothing here
keeps an environment alive. Thread-safe; a fork while another thread makes an object leaves no lock held in the child.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from cas.lmdbenv import Environment

_T = TypeVar("_T")


class PerProcess(Generic[_T]):
    """The objects of one kind; made once, in a module."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: weakref.WeakKeyDictionary[Environment, tuple[int, _T]] = weakref.WeakKeyDictionary()
        _ALL.append(self)

    def get(self, environment: Environment, make: Callable[[], _T]) -> _T:
        """Return the object of an environment, made by ``make`` if this process has none yet.

        Args:
            environment: The open store.
            make: Makes it; it must hold the environment weakly, or the environment is never closed.
        """
        known = self._made.get(environment)
        if known is not None and known[0] == os.getpid():
            return known[1]
        with self._lock:
            known = self._made.get(environment)
            if known is None or known[0] != os.getpid():
                known = self._made[environment] = (os.getpid(), make())
            return known[1]

    def forget_lock(self) -> None:
        """Begin with a free lock: the parent's may have been held by a thread that does not exist in the child."""
        self._lock = threading.Lock()


_ALL: Final[list[PerProcess[Any]]] = []


def _after_fork_in_child() -> None:
    for kind in _ALL:
        kind.forget_lock()


os.register_at_fork(after_in_child=_after_fork_in_child)

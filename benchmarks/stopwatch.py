"""Times functions of the product from outside, so that nothing in it knows of being measured.

Invariant: after `restore` every function is as it was. For one thread.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Stopwatch:
    """Adds up the time spent in functions it was put around."""

    def __init__(self) -> None:
        self.took_s: dict[str, float] = {}
        self._replaced: list[tuple[object, str, Any]] = []

    def around(self, name: str, owner: object, function_name: str) -> None:
        """Put it around a function of a module, class or object."""
        function: Callable[..., Any] = getattr(owner, function_name)
        self._replaced.append((owner, function_name, function))

        def timed(*arguments: Any, **named: Any) -> Any:
            started_s = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.took_s[name] = self.took_s.get(name, 0.0) + time.perf_counter() - started_s

        setattr(owner, function_name, timed)

    def read(self) -> dict[str, float]:
        """Return what was added up, and begin anew."""
        took_s, self.took_s = self.took_s, {}
        return took_s

    def restore(self) -> None:
        """Take it off every function."""
        while self._replaced:
            owner, function_name, function = self._replaced.pop()
            setattr(owner, function_name, function)

"""Who is inside an environment: what a fork, a close and a reopening wait for.

Invariant: a visit counts until it is taken out, and no longer than its owner keeps it. An interrupt may strike
anywhere, also before the first instruction of what should end a visit, and one that nobody could end any more would
keep the store open, and unusable in every child, for as long as the process lives.
"""

from __future__ import annotations

import threading
import weakref


class Visit:
    """One stay inside; its owner keeps it, and may enter and leave again and again."""

    __slots__ = ("__weakref__", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()


class Visits:
    """The visits of one environment; whoever calls holds its gate. Adding and taking out may be repeated."""

    __slots__ = ("_inside",)

    def __init__(self) -> None:
        self._inside: dict[int, weakref.ref[Visit]] = {}

    def add(self, visit: Visit) -> None:
        """Count a visit, once."""
        self._inside[id(visit)] = weakref.ref(visit)

    def take_out(self, visit: Visit) -> None:
        """Count a visit no more."""
        self._inside.pop(id(visit), None)

    def threads(self) -> set[int]:
        """Return the threads that are inside."""
        found = (known() for known in self._inside.values())
        return {visit.thread for visit in found if visit is not None}

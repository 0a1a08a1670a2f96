"""The time a user's pattern may take in one stretch of a file.

What no engine of linear time can express is run by a backtracking matcher: one window at a time, each of bounded cost,
and all of them together within this allowance. Invariant: a stretch is searched whole or an error is raised; nothing is
left out in silence. Processor time of the thread counts, so a busy machine does not shorten it.
"""

from __future__ import annotations

import time
from typing import Final

# Without Hyperscan a pattern such as ``[A-Za-z0-9+/]{86}==`` takes 1.8 s in base64, where it fails late at every byte,
# and 0.07 s in numbers; the rest is for machines that are several times slower.
NS_PER_MEBIBYTE: Final = 10_000_000_000
_MEBIBYTE: Final = 1024 * 1024


class PatternTooSlowError(Exception):
    """A user's pattern took more than its allowance; ``rule`` says which."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class Allowance:
    """What each pattern has left for one stretch; for one thread.

    Args:
        size_bytes: Length of the stretch; a short one has the allowance of a mebibyte.
    """

    def __init__(self, size_bytes: int) -> None:
        self._each_ns = NS_PER_MEBIBYTE * max(size_bytes, _MEBIBYTE) // _MEBIBYTE
        self._spent_ns: dict[str, int] = {}

    def spend(self, rule: str, started_ns: int) -> None:
        """Count what a pattern has taken since ``started_ns``, by `now_ns`.

        Raises:
            PatternTooSlowError: That is more than there was left.
        """
        spent_ns = self._spent_ns.get(rule, 0) + now_ns() - started_ns
        if spent_ns > self._each_ns:
            raise PatternTooSlowError(rule)
        self._spent_ns[rule] = spent_ns


def now_ns() -> int:
    """Return the processor time of this thread, in nanoseconds."""
    return time.thread_time_ns()

"""A clock that a test moves.

Invariant: two looks at it never show the same moment, unless it was set back on purpose. It reads no system clock.
"""

from __future__ import annotations

from typing import Final

SECOND_NS: Final = 1_000_000_000
FIRST_MOMENT_NS: Final = 1_762_525_800 * SECOND_NS  # 2025-11-07T14:30:00Z


class SimulatedClock:
    """Nanoseconds since the epoch, as `ArtifactStore` takes them; a look at it moves it on by one step.

    Args:
        now_ns: Where it begins.
        step_ns: How far each look moves it; commits carry whole seconds, so less than one may give equal timestamps.
    """

    def __init__(self, now_ns: int = FIRST_MOMENT_NS, step_ns: int = SECOND_NS) -> None:
        self.now_ns = now_ns
        self.step_ns = step_ns

    def __call__(self) -> int:
        """Return the moment, and move on."""
        self.now_ns += self.step_ns
        return self.now_ns

    def jump(self, seconds: float) -> None:
        """Move by so many seconds; backwards when negative."""
        self.now_ns = max(0, self.now_ns + round(seconds * SECOND_NS))

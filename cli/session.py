"""A session: what one call of ``cas`` shares between its parts: switches, settings, output, clock.

Invariant: nothing is read or opened before it is asked for, so that help and completion stay quick. Commands open the
store through here only: for reading without the secret rules and the signing key, which reading has no use for.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import TYPE_CHECKING

from cli import settings
from cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cas import ArtifactStore
    from cli.settings import Settings

_NANOSECONDS_PER_MICROSECOND = 1000


@dataclasses.dataclass
class Session:
    """State of one call; made by the root command, or by a test that injects a clock.

    Args:
        clock: Nanoseconds since the epoch.
        as_json: One JSON document instead of text.
        quiet: No notes and no progress.
        config_file: File to read instead of the nearest one.
        flags: Settings given by flags: key to the value as written and the flag's name.
    """

    clock: Callable[[], int] = time.time_ns
    as_json: bool = False
    quiet: bool = False
    config_file: Path | None = None
    flags: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict[str, tuple[str, str]])

    @functools.cached_property
    def output(self) -> Output:
        """The terminal."""
        return Output(as_json=self.as_json, quiet=self.quiet, wishes=settings.terminal_wishes())

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings of this call."""
        return settings.load(self.flags, config_file=self.config_file)

    def now_us(self) -> int:
        """Return the present time in microseconds since the epoch."""
        return self.clock() // _NANOSECONDS_PER_MICROSECOND

    def open_for_reading(self) -> ArtifactStore:
        """Open the store for reading only; it must exist.

        Raises:
            StorageError: There is no store, or it cannot be read.
        """
        from cas import ArtifactStore

        config = self.settings.config.replace(scan_for_secrets=False, git_signing_key=None, raise_errors=True)
        return ArtifactStore(config, clock=self.clock, read_only=True, create=False)

    def open_for_writing(self, *, scans: bool = True) -> ArtifactStore:
        """Open the store for reading and writing; it must exist.

        Args:
            scans: False for work that takes in nothing new, so that the secret rules need not be loaded.

        Raises:
            StorageError: There is no store, or it cannot be written.
        """
        from cas import ArtifactStore

        config = self.settings.config.replace(raise_errors=True)
        if not scans:
            config = config.replace(scan_for_secrets=False)
        return ArtifactStore(config, clock=self.clock, create=False)

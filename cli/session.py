"""A session: what one call of ``cas`` shares between its parts: switches, settings, output, clock.

Invariant: nothing is read or opened before it is asked for, so that help and completion stay quick. Commands open the
store through here only: for reading without the secret rules and the signing key, which reading has no use for.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import TYPE_CHECKING, TypeVar

from cli import settings
from cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cas import ArtifactStore, ArtifactStoreConfig
    from cli.settings import Settings

_Result = TypeVar("_Result")
_NANOSECONDS_PER_MICROSECOND = 1000


@dataclasses.dataclass
class Session:
    """State of one call; made by the root command, or by a test that injects a clock.

    Args:
        clock: Nanoseconds since the epoch.
        as_json: One JSON document instead of text.
        quiet: No notes and no progress.
        lock_wait_s: Seconds to wait for other processes; None when nothing was said about it.
        config_file: File to read instead of the nearest one.
        flags: Settings given by flags: key to the value as written and the flag's name.
    """

    clock: Callable[[], int] = time.time_ns
    as_json: bool = False
    quiet: bool = False
    lock_wait_s: float | None = None
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
            StateError: Another process has it for itself, longer than this one may wait.
        """
        config = self.settings.config.replace(scan_for_secrets=False, git_signing_key=None)
        return self._open(config, read_only=True)

    def open_for_writing(self, *, scans: bool = True) -> ArtifactStore:
        """Open the store for reading and writing; it must exist.

        Args:
            scans: False for work that takes in nothing new, so that the secret rules need not be loaded.

        Raises:
            StorageError: There is no store, or it cannot be written.
            StateError: Another process has it for itself, longer than this one may wait.
        """
        config = self.settings.config
        return self._open(config if scans else config.replace(scan_for_secrets=False), read_only=False)

    def when_free(self, call: Callable[[], _Result]) -> _Result:
        """Return what a call returns, made again while another process is in the way, as long as ``--lock-wait`` says.

        Raises:
            StateError: It is still in the way.
        """
        return self._wait_for(call, self.lock_wait_s or 0.0)

    def _open(self, config: ArtifactStoreConfig, *, read_only: bool) -> ArtifactStore:
        from cas import ArtifactStore

        # The waiting is done here, where a person can be told about it.
        config, wait_s = config.replace(open_timeout=0, raise_errors=True), config.open_timeout
        return self._wait_for(
            lambda: ArtifactStore(config, clock=self.clock, read_only=read_only, create=False),
            wait_s if self.lock_wait_s is None else self.lock_wait_s,
        )

    def _wait_for(self, call: Callable[[], _Result], wait_s: float) -> _Result:
        from cli.waiting import when_free

        return when_free(
            call,
            wait_s,
            on_wait=lambda: self.output.note("waiting for another process at work on this store"),
        )

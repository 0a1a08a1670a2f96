"""Hooks: tell a URL or a program of each batch that has arrived in git.

Invariant: the export never waits for a hook and never fails for one. Batches wait in memory for a thread of their own;
the end of an export gives it a bounded time after the lease is free. A kill loses what waits: whoever must not miss a
run asks the store (`cas list`) or listens for ``artifact.pushed``. The program gets no shell, and no words but its own.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import signal
import subprocess
import threading
import time
import uuid
from typing import TYPE_CHECKING, Final

from cas import records
from cas.errors import ArtifactStoreError, ConfigError, ExportError
from cas.manifest import RunManifest
from gitexport import webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from cas import ArtifactStore
    from cas.config import ArtifactStoreConfig
    from cas.lmdbenv import ReadTransaction

COMMAND_TIMEOUT_S: Final = 60.0
FINISH_S: Final = 30.0  # two slow tries; the export itself is over by then
_MOST_WAITING: Final = 100  # batches, each of up to a thousand runs; more are dropped with a warning
_KEPT_VARIABLES: Final = ("PATH", "HOME", "LANG", "TMPDIR")


class ExportHooks:
    """The hooks of one export; made when it begins, finished when it ends. Owned by the exporting thread.

    Args:
        store: An open store.
        pause: Waits so many seconds between tries; injected in tests.

    Raises:
        ConfigError: A hook's setting is unusable.
    """

    def __init__(self, store: ArtifactStore, *, pause: Callable[[float], object] = time.sleep) -> None:
        config = store.config
        self._store = store
        self._url = None if config.on_exported_url is None else webhook.check_url(config.on_exported_url)
        self._words = _words(config)
        self._secret = webhook.read_secret(config.on_exported_secret)
        self._pause = pause
        self._waiting: queue.Queue[bytes | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._warnings: list[str] = []

    @classmethod
    def of(cls, store: ArtifactStore) -> Self | None:
        """Return the hooks of a store, None when it has none."""
        config = store.config
        return cls(store) if config.on_exported_url or config.on_exported_command else None

    def batch(self, sequences: Sequence[int]) -> None:
        """Take a batch whose receipts are written; returns at once."""
        if not sequences:
            return
        try:
            with self._store.environment.read() as transaction:
                runs = [_run(transaction, sequence) for sequence in sequences]
        except ArtifactStoreError as error:
            self._warnings.append(f"hook: {error.message}")
            return
        payload: dict[str, object] = {
            "event": "exported",
            "delivery": uuid.uuid4().hex,
            "store_id": self._store.meta.store_id,
            "runs": runs,
        }
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="cas-hooks", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait(webhook.encode_payload(payload))
        except queue.Full:
            self._warnings.append(
                f"hook: a batch of {len(runs)} was dropped, as {_MOST_WAITING} wait already"
            )

    def finish(self, timeout_s: float = FINISH_S) -> list[str]:
        """Wait for what is under way, for a bounded time; return what went wrong."""
        if self._thread is not None:
            with contextlib.suppress(queue.Full):
                self._waiting.put(None, timeout=timeout_s)
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                self._warnings.append(f"hook: not done after {timeout_s:.0f} s; what was left is not told")
        return list(self._warnings)

    def _work(self) -> None:
        while (body := self._waiting.get()) is not None:
            for deliver in (self._post, self._run_command):
                try:
                    deliver(body)
                except (ArtifactStoreError, OSError) as error:
                    self._warnings.append(f"hook: {error}")

    def _post(self, body: bytes) -> None:
        if self._url is not None:
            webhook.post(self._url, body, secret=self._secret, pause=self._pause)

    def _run_command(self, body: bytes) -> None:
        if not self._words:
            return
        reason = ""
        for pause_s in (*webhook.PAUSES_S, None):
            code = run_program(self._words, body, self._secret)
            if code == 0:
                return
            reason = "took too long" if code is None else f"ended with {code}"
            if pause_s is not None:
                self._pause(pause_s)
        raise ExportError(f"{self._words[0]} {reason}", kind="hook_failed", retryable=True)


def run_program(
    words: Sequence[str], body: bytes, secret: bytes | None, *, timeout_s: float = COMMAND_TIMEOUT_S
) -> int | None:
    """Run a program with a body on its standard input; its output is thrown away.

    Time and signature are in ``CAS_TIMESTAMP`` and ``CAS_SIGNATURE``; of the caller's variables it has a few only.

    Returns:
        Its exit code; None when it was killed, with its children, after the time limit.

    Raises:
        OSError: It cannot be started.
    """
    headers = webhook.signed_headers(secret, int(time.time()), body)
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment |= {name.removeprefix("X-").replace("-", "_").upper(): text for name, text in headers.items()}
    with subprocess.Popen(  # noqa: S603  the user's own program, without a shell
        list(words),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            process.communicate(body, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
    return process.returncode


def _words(config: ArtifactStoreConfig) -> list[str]:
    try:
        words = shlex.split(config.on_exported_command or "")
    except ValueError as error:
        raise ConfigError(f"on_exported_command: {error}", subject="on_exported_command") from error
    return words


def _run(transaction: ReadTransaction, sequence: int) -> dict[str, object]:
    loaded, row = records.load(transaction, sequence)
    run: dict[str, object] = {
        "kind": "commit" if isinstance(loaded, RunManifest) else "rollback",
        "branch": loaded.branch,
        "commit_sha": row.commit_oid.hex(),
        "tags": [tag for tag, _ in row.tags],
    }
    if isinstance(loaded, RunManifest):
        run |= {
            "workflow_id": loaded.workflow_id,
            "task_id": loaded.task_id,
            "correlation_id": loaded.correlation_id,
            "revision": loaded.revision,
        }
    return run

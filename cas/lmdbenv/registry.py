"""The environments that this process has open: one for each store file, shared, and put right around a fork.

Invariant: a process has a store file open once, as LMDB demands; the last user closes it.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from cas.errors import StateError
from cas.lmdbenv.creation import DATA_FILE
from cas.lmdbenv.environment import Environment
from cas.lmdbenv.faults import storage_error

if TYPE_CHECKING:
    from pathlib import Path

    from cas.config import Durability

_open_lock = threading.Lock()
_open_environments: dict[tuple[int, int], Environment] = {}
# By the thread that forks: two may do so at once, and each has to let in again what it has kept out, no more.
_forking: Final[dict[int, list[Environment]]] = {}


def _after_fork_in_child() -> None:
    global _open_lock  # noqa: PLW0603  the parent's lock may have been held by a thread that does not exist here
    _open_lock = threading.Lock()
    _forking.clear()
    for environment in _open_environments.values():
        environment.after_fork_in_child()


def _before_fork() -> None:
    held = _forking[threading.get_ident()] = list(_open_environments.values())
    for environment in held:
        environment.before_fork()


def _after_fork_in_parent() -> None:
    for environment in _forking.pop(threading.get_ident(), ()):
        environment.after_fork_in_parent()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)


def open_environment(
    directory: Path,
    *,
    map_size_bytes: int,
    durability: Durability,
    read_only: bool = False,
    open_timeout_s: float = 60.0,
) -> Environment:
    """Open the store file in ``directory``, or share the one this process already has open.

    Raises:
        StorageError: No store there, no permission, or a damaged file.
        StateError: This process has it open with another durability, which LMDB fixes per process; or another one has
            been compacting it for ``open_timeout_s`` seconds.
    """
    try:
        status = (directory / DATA_FILE).stat()
    except OSError as error:
        raise storage_error(error, directory) from error
    identity = (status.st_dev, status.st_ino)
    with _open_lock:
        environment = _open_environments.get(identity)
        if environment is None:
            environment = Environment(
                directory,
                map_size_bytes=map_size_bytes,
                durability=durability,
                read_only=read_only,
                open_timeout_s=open_timeout_s,
            )
            # The file may have been compacted, that is replaced, between the look at it and the opening.
            status = (directory / DATA_FILE).stat()
            _open_environments[status.st_dev, status.st_ino] = environment
        elif environment.read_only != read_only or environment.durability != durability:
            raise StateError(
                f"this process already has the store open with durability {environment.durability!r}"
                f"{' for reading only' if environment.read_only else ''}",
                hint="Close the other ArtifactStore first, or use the same settings.",
                subject=str(directory),
            )
        environment.retain()
        return environment


def close_environment(environment: Environment) -> None:
    """Give up one use of an environment; the last one closes the file."""
    with _open_lock:
        if environment.release():
            for identity, known in list(_open_environments.items()):
                if known is environment:
                    del _open_environments[identity]

"""The environments that this process has open: one for each store file, shared, and put right around a fork.

Invariant: a process has a store file open once, as LMDB demands. It is closed when the last user has given it back and
no transaction is open any more.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from cas.errors import StateError
from cas.lmdbenv.creation import DATA_FILE
from cas.lmdbenv.environment import Environment
from cas.lmdbenv.faults import mapped_errors, storage_error
from cas.lmdbenv.locks import let_go_inherited
from cas.lmdbenv.place import file_identity

if TYPE_CHECKING:
    from pathlib import Path

    from cas.config import Durability

_open_lock = threading.Lock()
# Looked through by the file each has open now, which is another one once a forked child has found a compacted store.
_open_environments: Final[list[Environment]] = []
# By the thread that forks: two may do so at once, and each has to let in again what it has kept out, no more.
_forking: Final[dict[int, list[Environment]]] = {}


def _after_fork_in_child() -> None:
    global _open_lock  # noqa: PLW0603  the parent's lock may have been held by a thread that does not exist here
    _open_lock = threading.Lock()
    _forking.clear()
    let_go_inherited()
    for environment in _open_environments:
        environment.after_fork_in_child()


def _before_fork() -> None:
    held = _forking[threading.get_ident()] = _open_environments.copy()
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
        StateError: This process has it open with another durability, which LMDB fixes per process, or under a path
            from which it was moved; or another one has been compacting it for ``open_timeout_s`` seconds.
    """
    try:
        identity = file_identity(str(directory / DATA_FILE))
    except OSError as error:
        raise storage_error(error, directory) from error
    with _open_lock:
        _forget_closed()
        environment = next((each for each in _open_environments if each.place.identity == identity), None)
        if environment is not None:
            _check_shareable(environment, directory, durability=durability, read_only=read_only)
        if environment is None or not environment.retain():
            environment = Environment(
                directory,
                map_size_bytes=map_size_bytes,
                durability=durability,
                read_only=read_only,
                open_timeout_s=open_timeout_s,
            )
            _open_environments.append(environment)
            environment.retain()
        return environment


def _check_shareable(
    environment: Environment, directory: Path, *, durability: Durability, read_only: bool
) -> None:
    """Refuse an open environment that is not what is asked for.

    Raises:
        StateError: It has other settings, or its file has been moved since, so that its path leads elsewhere.
        StorageError: That path is out of reach.
    """
    if environment.read_only != read_only or environment.durability != durability:
        raise StateError(
            f"this process already has the store open for {'reading only' if environment.read_only else 'writing'}, "
            f"with durability {environment.durability!r}",
            hint="Close the other ArtifactStore first, or use the same settings.",
            subject=str(directory),
        )
    with mapped_errors(environment.directory):
        is_kept = environment.place.is_kept()
    if not is_kept:
        raise StateError(
            f"this process has the store open as {environment.directory}, from where it was moved",
            hint="Close the other ArtifactStore first.",
            subject=str(directory),
        )


def close_environment(environment: Environment) -> None:
    """Give up one use of an environment; after the last one the file is closed, see `Environment.release`."""
    with _open_lock:
        environment.release()
        _forget_closed()


def _forget_closed() -> None:
    _open_environments[:] = [environment for environment in _open_environments if not environment.is_gone]

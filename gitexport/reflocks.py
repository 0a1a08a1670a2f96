"""Locks around refs: git's own on ``packed-refs``, and a journal that tells whose a left-behind ref lock is.

Invariant: a lock is removed only if it is certain that the process that made it is dead and was ours. Our
``packed-refs.lock`` says so by its content and a free ``flock`` (see ``heldfile.py``). The locks that ``git
update-ref`` makes hold nothing but the new oid, so before git starts, a journal names the refs and oids it
will lock; git inherits the journal's descriptor, so the journal is free only when git is dead too. The one lock
of reftables does not even hold that, nor the one on ``packed-refs`` that git takes for deletions: such a lock counts
as our dead git's if it is younger than the journal and a minute old. This module moves no refs.

Killing this process alone leaves nothing: git then sees the end of its input, and commits or cleans up by
itself.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

from cas.errors import GitCommandFailedError, InvalidNameError
from gitexport.heldfile import (
    create_held,
    create_held_at,
    is_same_file,
    mapped_os_errors,
    remove_held,
    remove_stale,
    sync_folder,
    write_all,
)
from gitexport.refvalues import REFTABLE_LOCK, check_ref_name, lock_in_the_way

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from gitexport.refvalues import RefChange

LOCK_PREFIX: Final = "cas_lock_"
LOCK_TEXT: Final = b"cas-gitexport: rewriting packed-refs\n"
TEMPORARY_NAME: Final = "packed-refs.cas"  # written only under the lock, so one name is enough
JOURNAL_NAME: Final = "cas-refs.journal"
_PACKED_LOCK: Final = "packed-refs.lock"
_PACKED_NEW: Final = "packed-refs.new"  # what git writes under it
_JOURNAL_HEAD: Final = "cas-gitexport: moving refs by git update-ref"
_LOCK_WAIT_S: Final = 10.0  # as long as git is let wait for us (core.packedRefsTimeout in git.py)
POLL_S: Final = 0.01
# An empty or torn ``.lock`` of our own killed git, or that of its reftables, cannot be told from one that another git
# has just made; that one is filled or gone within milliseconds, or after a second of compaction, so a minute settles
# it.
_UNKNOWN_LOCK_AGE_S: Final = 60.0
_FILE_MODE: Final = 0o666  # the umask does the rest, as for git


@contextlib.contextmanager
def packed_refs_lock(common_dir: Path, wait_s: float = _LOCK_WAIT_S) -> Generator[None, None, None]:
    """Hold git's lock on ``packed-refs`` during the block.

    Raises:
        GitCommandFailedError: Another program held it all the time (kind ``ref_locked``).
        OSError: The lock cannot be made.
    """
    path = common_dir / _PACKED_LOCK
    deadline_s = time.monotonic() + wait_s
    # The lock appears with its content, and that synced: after a power cut an empty one could not be told from git's.
    own, descriptor = create_held(common_dir, LOCK_PREFIX, _FILE_MODE)
    try:
        write_all(descriptor, LOCK_TEXT)
        os.fsync(descriptor)
        _link_once_free(own, path, deadline_s)
        try:
            yield
        finally:  # under the lock: without it, the file of that name is another exporter's
            (common_dir / TEMPORARY_NAME).unlink(missing_ok=True)
    finally:
        if is_same_file(path, descriptor):
            path.unlink(missing_ok=True)
        remove_held(own, descriptor)


def _link_once_free(own: Path, path: Path, deadline_s: float) -> None:
    """Give the file the name of the lock, as soon as nobody has it; its first name goes.

    Raises:
        GitCommandFailedError: Another program had it all the time (kind ``ref_locked``).
    """
    while True:
        try:
            os.link(own, path)  # never replaces
            break
        except FileExistsError:
            if remove_stale(path, LOCK_TEXT):
                continue
            if time.monotonic() >= deadline_s:
                raise lock_in_the_way(str(path)) from None
            time.sleep(POLL_S)
    own.unlink(missing_ok=True)


@contextlib.contextmanager
def ref_journal(common_dir: Path, changes: Sequence[RefChange]) -> Generator[int, None, None]:
    """Keep a journal of the refs git is about to lock during the block; yields the descriptor git shall inherit.

    When git is killed inside the block (it ran out of time, the system ran out of memory, or we are interrupted), its
    locks are removed. The journal stays while one of them may be another git's; a later sweep settles that.

    Raises:
        GitCommandFailedError: Another living exporter moves refs in this repository (kind ``ref_locked``).
        OSError: The journal cannot be written.
    """
    path = common_dir / JOURNAL_NAME
    try:
        descriptor = create_held_at(path, 0o600)
    except FileExistsError:
        raise lock_in_the_way(str(path)) from None
    lines = [_JOURNAL_HEAD, *(f"{change.new_oid or ''} {change.name}" for change in changes), ""]
    settled = True
    try:
        write_all(descriptor, "\n".join(lines).encode())
        os.fsync(descriptor)
        sync_folder(common_dir)
        yield descriptor
    except BaseException as error:
        killed = isinstance(error, GitCommandFailedError) and error.kind in {"git_timeout", "git_killed"}
        if killed or not isinstance(error, Exception):
            settled = _remove_locks(path, []) is None
        raise
    finally:
        if settled:
            remove_held(path, descriptor)
        else:
            os.close(descriptor)


def sweep_locks(common_dir: Path) -> list[Path]:
    """Remove lock files that killed runs of ours left, and return them; a listing when there are none.

    Args:
        common_dir: The repository's common directory.

    Raises:
        GitCommandFailedError: A lock may be another program's (kind ``ref_locked``); a minute later it is
            known.
        StorageError: A file cannot be read or removed.
    """
    removed: list[Path] = []
    with mapped_os_errors(common_dir):
        lock = common_dir / _PACKED_LOCK
        if lock.exists() and remove_stale(lock, LOCK_TEXT):
            removed.append(lock)
        removed += [path for path in common_dir.glob(f"{LOCK_PREFIX}*") if remove_stale(path)]
        journal = common_dir / JOURNAL_NAME
        if journal.exists() and remove_stale(journal, before=lambda path: _settle(path, removed)):
            removed.append(journal)
    return removed


def _settle(journal: Path, removed: list[Path]) -> None:
    unknown = _remove_locks(journal, removed)
    if unknown is not None:
        raise lock_in_the_way(str(unknown))


def _remove_locks(journal: Path, removed: list[Path]) -> Path | None:
    """Remove the locks a journal tells of; the caller holds the journal, so the git that made them is dead.

    Returns:
        A lock that may as well be another git's, or None; a minute later it is known.
    """
    head, *lines = journal.read_text("utf-8", "replace").split("\n")
    if head != _JOURNAL_HEAD:  # cut short: git was not started before the journal was whole
        return None
    unknown: Path | None = None
    deletes = False
    for line in lines:
        oid, _, name = line.partition(" ")
        lock = journal.parent / f"{name}.lock"
        if not _is_ref_name(name):
            continue
        deletes |= not oid
        if not lock.exists():
            continue
        # A power cut may leave the length of what was written, and zeroes, or only its beginning.
        content = lock.read_text("ascii", "replace").strip("\0\n")
        is_torn = oid.startswith(content)
        if content == oid != "" or (is_torn and _is_settled(lock)):
            lock.unlink(missing_ok=True)
            removed.append(lock)
        elif is_torn:
            unknown = lock
    return _remove_shared_locks(journal, removed, deletes=deletes) or unknown


def _remove_shared_locks(journal: Path, removed: list[Path], *, deletes: bool) -> Path | None:
    """Remove the locks that a dead git took for all its refs together; returns as `_remove_locks`."""
    unknown: Path | None = None
    packed_lock, packed_new = journal.parent / _PACKED_LOCK, journal.parent / _PACKED_NEW
    for lock in (journal.parent / REFTABLE_LOCK, packed_lock):
        if not lock.exists() or lock.stat().st_mtime_ns < journal.stat().st_mtime_ns:
            continue
        files = [lock]
        if lock == packed_lock:
            if not deletes or lock.stat().st_size:  # an exporter's has content
                continue
            files = (
                [packed_new, lock] if packed_new.exists() else [lock]
            )  # whoever has the lock writes the other
        if all(_is_settled(file) for file in files):
            for file in files:
                file.unlink(missing_ok=True)
                removed.append(file)
        else:
            unknown = lock
    return unknown


def _is_ref_name(name: str) -> bool:
    """Tell whether a journal may name this: ours names nothing else, one that was planted may lead anywhere."""
    try:
        check_ref_name(name)
    except InvalidNameError:
        return False
    return True


def _is_settled(lock: Path) -> bool:
    """Tell whether a living git would have filled or dropped a lock long ago."""
    return time.time() - lock.stat().st_mtime >= _UNKNOWN_LOCK_AGE_S

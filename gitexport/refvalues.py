"""Values of refs: what a ref holds, one move of it, and what git's refusal of a move means.

Invariant: a name or id that passes the checks here can be written to git's standard input, or straight into
``packed-refs``, without being taken for anything else. Pure: this module reads no file and starts nothing.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

import msgspec

from cas.errors import ConflictError, GitCommandFailedError, IntegrityError, InvalidNameError
from gitexport.git import command_failed

if TYPE_CHECKING:
    from cas.errors import ExportError
    from gitexport.git import GitResult

REFTABLE_LOCK: Final = "reftable/tables.list.lock"  # in the common directory; one for all refs

_OID: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.(?:lock)?(?:/|\Z)|/\Z")
_LOCK_HELD: Final = re.compile(r"Unable to create '([^']+\.lock)': File exists")
_TABLES_LOCKED: Final = re.compile(r"cannot lock references")
_LOCKED_REF: Final = re.compile(r"cannot lock ref '([^']+)'(?:: (.*))?")
_BLOCKING_REF: Final = re.compile(r"'([^']+)' exists; cannot create '([^']+)'")
_BAD_OBJECT: Final = re.compile(r"nonexistent object|non-commit object|missing object|invalid object")


class RefValue(msgspec.Struct, frozen=True, gc=False):
    """Where a ref points, in hexadecimal oids.

    Attributes:
        oid: The object the ref names; for an annotated tag the tag object.
        peeled: The object behind an annotated tag when it was asked for, else None.
        symref: Target name when the ref is symbolic, else None.
    """

    oid: str
    peeled: str | None = None
    symref: str | None = None


class RefChange(msgspec.Struct, frozen=True, gc=False):
    """One move of a ref, oids in hex: ``old_oid`` None means it must not exist, ``new_oid`` None deletes it."""

    name: str
    old_oid: str | None
    new_oid: str | None


def check_oid(oid: str) -> str:
    """Return ``oid`` if it is 40 or 64 lower-case hexadecimal digits.

    Raises:
        IntegrityError: It is not.
    """
    if _OID.fullmatch(oid) is None:
        raise IntegrityError(f"{oid!r} is not a git oid", subject=oid)
    return oid


@functools.lru_cache(maxsize=16384)  # a batch checks each of its few thousand names several times
def check_ref_name(name: str) -> str:
    """Return ``name`` if git would accept it as a full ref name below ``refs/`` with at least three parts.

    Raises:
        InvalidNameError: It would not.
    """
    if not name.startswith("refs/") or name.count("/") < 2 or _REF_FORBIDDEN.search(name):  # noqa: PLR2004
        raise InvalidNameError(f"{name!r} is not a git ref name", subject=name)
    return name


def ref_folders(name: str) -> tuple[str, ...]:
    """Return the folders of a ref that could be refs themselves, so not ``refs/heads``; innermost first."""
    return _folders_from(name.rpartition("/")[0])


@functools.lru_cache(maxsize=16384)  # a folder has many refs
def _folders_from(folder: str) -> tuple[str, ...]:
    parts = folder.split("/")
    return tuple(["/".join(parts[:count]) for count in range(len(parts), 2, -1)])


def ref_failure(result: GitResult) -> ExportError | IntegrityError:
    """Return the error for an ``update-ref`` that git refused: who stands in the way, or what is missing."""
    said = result.stderr
    blocked = _BLOCKING_REF.search(said)
    if blocked:
        return ConflictError(
            f"ref {blocked[1]} exists, so {blocked[2]} cannot be created",
            subject=blocked[1],
            hint="Rename or delete that ref, or choose another branch prefix.",
        )
    held = _LOCK_HELD.search(said)
    if held:
        return lock_in_the_way(held[1])
    if _TABLES_LOCKED.search(said):
        return lock_in_the_way(REFTABLE_LOCK)
    if _BAD_OBJECT.search(said):
        return IntegrityError(f"git refused a ref: {said.strip()}")
    locked = _LOCKED_REF.search(said)
    if locked and result.exit_code >= 0:  # a git that was killed refused nothing
        return ConflictError(f"ref {locked[1]}: {locked[2] or 'cannot be locked'}", subject=locked[1])
    return command_failed("update-ref", result)


def lock_in_the_way(path: str) -> GitCommandFailedError:
    """Return the error for a lock file that is not ours to remove."""
    return GitCommandFailedError(
        f"a lock file is in the way: {path}",
        subject=path,
        hint="Another git may be at work; if none is, a killed one left the file: remove it.",
        kind="ref_locked",
    )

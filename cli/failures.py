"""Exit codes: one table, and which error ends a command with which code.

Invariant: every error of the product has exactly one code, a code never changes its meaning, and a script can tell
"fix the call" from "try again later" from "look at the disk" by the number alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from cas.errors import ArtifactStoreError


class ExitCode(NamedTuple):
    """One row of the table."""

    code: int
    name: str
    meaning: str


OK: Final = 0
UNEXPECTED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
INVALID_INPUT: Final = 4
SECRET_DETECTED: Final = 5
STORAGE: Final = 6
DAMAGED: Final = 7
EXPORT_PENDING: Final = 8
EXPORT_FAILED: Final = 9
LEASE_HELD: Final = 10
CHECK_FAILED: Final = 11
ALERT_INFO: Final = 12
ALERT_WARNING: Final = 13
ALERT_CRITICAL: Final = 14
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

EXIT_CODES: Final = (
    ExitCode(OK, "ok", "Done."),
    ExitCode(UNEXPECTED, "unexpected", "An error nobody foresaw: a defect; the text asks for a report."),
    ExitCode(USAGE, "usage", "The command line is not understood; --help shows how it is meant."),
    ExitCode(NOT_FOUND, "not-found", "No run, tag, branch, file or store by that name."),
    ExitCode(
        INVALID_INPUT, "invalid-input", "A value, file, setting or query is refused; nothing was stored."
    ),
    ExitCode(SECRET_DETECTED, "secret-detected", "A credential was found; nothing was stored."),
    ExitCode(
        STORAGE, "storage", "The disk, its space or permissions are in the way; the store is as it was."
    ),
    ExitCode(DAMAGED, "damaged", "Stored bytes do not match their digest, or git and store differ."),
    ExitCode(
        EXPORT_PENDING, "export-pending", "The export is not complete; the rest stays queued, run it again."
    ),
    ExitCode(EXPORT_FAILED, "export-failed", "git refused, or runs are parked; a person has to look."),
    ExitCode(
        LEASE_HELD,
        "lease-held",
        "Another process is at work on this store or has it open; try again, or give --lock-wait.",
    ),
    ExitCode(
        CHECK_FAILED, "check-failed", "What `cas doctor` or `cas verify --rollback` looked at is not so."
    ),
    ExitCode(ALERT_INFO, "alert-info", "`cas alerts`: a secret was detected or a rollback performed."),
    ExitCode(ALERT_WARNING, "alert-warning", "`cas alerts`: too many pushes failed."),
    ExitCode(ALERT_CRITICAL, "alert-critical", "`cas alerts`: too many commits failed."),
    ExitCode(INTERRUPTED, "interrupted", "Ctrl-C; nothing was left half-done."),
    ExitCode(BROKEN_PIPE, "broken-pipe", "The reader of the output went away."),
)

# Error classes by name, nearest first along the class's own ancestry, so that nothing is imported before it is needed.
_CODE_BY_CLASS: Final = {
    "NotFoundError": NOT_FOUND,
    "InvalidInputError": INVALID_INPUT,
    "StateError": INVALID_INPUT,
    "SecretDetectedError": SECRET_DETECTED,
    "IntegrityError": DAMAGED,
    "StorageError": STORAGE,
    "LeaseHeldError": LEASE_HELD,
    "WaitTimeoutError": EXPORT_PENDING,
    "ExportError": EXPORT_FAILED,
}
_CODE_BY_KIND: Final = {
    "not_a_store": NOT_FOUND,
    "purged": NOT_FOUND,
    "target_exists": INVALID_INPUT,
    "store_in_use": LEASE_HELD,
    "gc_running": LEASE_HELD,
}


def exit_code(error: ArtifactStoreError) -> int:
    """Return the exit code of an error."""
    if error.kind in _CODE_BY_KIND:
        return _CODE_BY_KIND[error.kind]
    for ancestor in type(error).__mro__:
        if ancestor.__name__ in _CODE_BY_CLASS:
            return _CODE_BY_CLASS[ancestor.__name__]
    return UNEXPECTED


def export_code(state: str) -> int:
    """Return the exit code of an export's state: ``done``, ``pending`` or ``parked``."""
    return {"done": OK, "pending": EXPORT_PENDING}.get(state, EXPORT_FAILED)

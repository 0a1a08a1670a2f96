"""The whole error tree, grouped by what a handler would do.

Invariant: no error text, argument or repr ever holds artifact content or a secret value; errors carry names,
digests and positions only. This module must not import anything else of the project.

    ArtifactStoreError
    ├── InvalidInputError            fix the call; nothing was stored
    │   ├── InvalidIdError           a workflow, task or correlation ID, or a prompt digest
    │   ├── InvalidNameError         an artifact name
    │   ├── InvalidFileError         an input file: missing, unreadable, not a regular file, changed while read
    │   ├── InvalidMetadataError     metadata that is not JSON
    │   ├── ConfigError              a configuration value
    │   └── QueryError               a `where` expression
    ├── SecretDetectedError          remove the credential (and rotate it); nothing was stored
    │   └── PurgedContentError       leave the file out: its content was purged from this store
    ├── NotFoundError                look elsewhere; near matches are in the hint
    ├── StorageError                 the disk, the map, permissions
    │   ├── ReadOnlyStoreError
    │   ├── StoreSuspectError        a write failed earlier; run `cas verify` first
    │   └── IntegrityError           stored bytes do not match their digest; restore or heal
    ├── StateError                   the object is closed, or used in a way its state forbids
    └── ExportError                  git said no; the runs stay queued
        ├── GitCommandFailedError    git is missing, too old, timed out or failed
        ├── LeaseHeldError           another exporter works on this store
        ├── ConflictError            the repository holds something else under our name
        └── WaitTimeoutError         the export did not finish in time
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cas.secretscan import Finding

__all__ = [
    "ArtifactStoreError",
    "ConfigError",
    "ConflictError",
    "ExportError",
    "GitCommandFailedError",
    "IntegrityError",
    "InvalidFileError",
    "InvalidIdError",
    "InvalidInputError",
    "InvalidMetadataError",
    "InvalidNameError",
    "LeaseHeldError",
    "NotFoundError",
    "PurgedContentError",
    "QueryError",
    "ReadOnlyStoreError",
    "SecretDetectedError",
    "StateError",
    "StorageError",
    "StoreSuspectError",
    "WaitTimeoutError",
]


class ArtifactStoreError(Exception):
    """Base of every error this product raises on purpose.

    Attributes:
        kind: Stable machine-readable name of the condition, in snake case.
        retryable: True when the same call may succeed later without a change by the caller.
        hint: What to do next, usually naming a command; None when there is nothing to add.
        subject: The culprit (a file name, an ID, a tag, a path); None when there is no single one.
    """

    kind: str = "artifact_store_error"
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        subject: str | None = None,
        kind: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.subject = subject
        if kind is not None:
            self.kind = kind
        if retryable is not None:
            self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by attributes, so that the error crosses process pools with all its fields."""
        return (_rebuild, (type(self), self.message, dict(self.__dict__)))

    def as_dict(self) -> dict[str, object]:
        """Return the fields as JSON-able data, for ``--json`` output and events."""
        fields: Mapping[str, object] = {
            "kind": self.kind,
            "error": self.message,
            "subject": self.subject,
            "hint": self.hint,
            "retryable": self.retryable,
        }
        return {name: value for name, value in fields.items() if value is not None}


def _rebuild(cls: type[ArtifactStoreError], message: str, state: dict[str, object]) -> ArtifactStoreError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class InvalidInputError(ArtifactStoreError):
    """The call cannot be carried out as given; nothing was stored."""

    kind = "invalid_input"


class InvalidIdError(InvalidInputError):
    """A workflow, task or correlation ID, or a prompt digest, is missing or not text."""

    kind = "invalid_id"


class InvalidNameError(InvalidInputError):
    """An artifact name is unsafe, duplicated, or equal to another on some file system."""

    kind = "invalid_name"


class InvalidFileError(InvalidInputError):
    """An input file is missing, unreadable, not a regular file, too large, changed while read, or cannot be scanned."""

    kind = "invalid_file"


class InvalidMetadataError(InvalidInputError):
    """Metadata is not JSON, or claims a key that the store writes itself."""

    kind = "invalid_metadata"


class ConfigError(InvalidInputError):
    """A configuration value is unusable."""

    kind = "invalid_config"


class QueryError(InvalidInputError):
    """A ``where`` expression cannot be parsed.

    Attributes:
        position: Zero-based character offset of the problem inside the expression.
    """

    kind = "invalid_query"

    def __init__(self, message: str, *, position: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.position = position


class SecretDetectedError(ArtifactStoreError):
    """The secret gate refused a run; nothing was stored.

    The text names file, line, column and rule of each finding, never the value.

    Attributes:
        findings: Every finding, in file and line order.
    """

    kind = "secret_detected"
    _SHOWN_COUNT: ClassVar[int] = 10  # enough to act on; a dumped key ring would flood the log

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        shown = [f"{f.name}:{f.line}:{f.column} [{f.rule}]" for f in self.findings[: self._SHOWN_COUNT]]
        more = len(self.findings) - len(shown)
        if more > 0:
            shown.append(f"and {more} more")
        count = len(self.findings)
        super().__init__(
            f"{count} secret{'s' if count != 1 else ''} detected: {', '.join(shown)}",
            hint="Remove the credential and rotate it; a false alarm is waived by an inline "
            "'cas: allow-secret' comment or a baseline file (cas scan --write-baseline).",
            subject=self.findings[0].name if self.findings else None,
        )

    def as_dict(self) -> dict[str, object]:
        """Return the fields and findings as JSON-able data; no value is among them."""
        return {**super().as_dict(), "findings": [f.as_dict() for f in self.findings]}


class PurgedContentError(SecretDetectedError):
    """Content that was purged from the store came back; nothing was stored. No waiver lets it in."""

    kind = "purged_content"

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__(findings)
        self.message = f"purged content came back: {self.subject}"
        self.args = (self.message,)
        self.hint = "Leave the file out, or take the credential out of it: this content was removed for good."


class NotFoundError(ArtifactStoreError):
    """No run, tag, branch, file or store by that name; near matches are in ``hint``."""

    kind = "not_found"


class StorageError(ArtifactStoreError):
    """The disk or the database refused.

    ``kind`` is one of ``storage_error``, ``disk_full``, ``io_error``, ``permission_denied``, ``map_full``,
    ``readers_full``, ``network_filesystem``, ``unknown_format``, ``not_a_store``, ``target_exists``.
    """

    kind = "storage_error"


class ReadOnlyStoreError(StorageError):
    """The store was opened for reading only, or lies on a read-only file system."""

    kind = "read_only"


class StoreSuspectError(StorageError):
    """An earlier write failed in a way that may have lost bytes; commits are refused until a full verify."""

    kind = "store_suspect"


class IntegrityError(StorageError):
    """Stored bytes do not match their digest, oid or checksum; the read is refused.

    ``kind`` is ``damaged``, or ``purged`` when the content was removed on purpose.
    """

    kind = "damaged"


class StateError(ArtifactStoreError):
    """The object is closed, or its state forbids the call."""

    kind = "invalid_state"


class ExportError(ArtifactStoreError):
    """The export could not go on; everything not exported stays queued."""

    kind = "export_error"


class GitCommandFailedError(ExportError):
    """git is missing, too old, ran out of time, or failed; credentials in its output are masked."""

    kind = "git_failed"
    retryable = True


class LeaseHeldError(ExportError):
    """Another exporter holds the lease of this store."""

    kind = "lease_held"
    retryable = True


class ConflictError(ExportError):
    """The repository holds another object under a name the store owns; nothing was overwritten."""

    kind = "conflict"


class WaitTimeoutError(ExportError):
    """The awaited export state was not reached in time."""

    kind = "wait_timeout"
    retryable = True

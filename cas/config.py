"""ArtifactStoreConfig: the store's settings as data, checked once when built.

Invariant: a config object that exists is usable; every problem is a ConfigError at construction. This module reads no
file, no environment and no home folder (the command line does that) and knows nothing of LMDB or git processes.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import re
from pathlib import Path
from typing import Final, Literal, TypeGuard, get_args

from cas.errors import ConfigError
from cas.names import exact_text

Durability = Literal["full", "group", "relaxed"]
ObjectFormat = Literal["sha1", "sha256"]
CheckedOutPolicy = Literal["warn", "refuse"]

MEBIBYTE: Final = 1024 * 1024
# A host that caps a blob at 100 MB rejects the whole push; the store itself has no need of a limit, so the default
# only keeps one runaway log from filling the disk.
DEFAULT_MAX_FILE_BYTES: Final = 4 * 1024 * MEBIBYTE
DEFAULT_MAX_FILES: Final = 10_000
DEFAULT_MAX_METADATA_BYTES: Final = 1 * MEBIBYTE
DEFAULT_MAP_SIZE_BYTES: Final = (
    1024 * 1024 * MEBIBYTE
)  # 1 TiB of address space, which costs nothing until used

MAX_NUMBER: Final = 2**62  # what the database and the system's calls take, and more than any machine has
MAX_PUSH_TIMEOUT_S: Final = 2_000_000  # 23 days; the system waits for a process 2**31 milliseconds at most
MAX_PREFIX_CHARS: Final = (
    42  # with two IDs of 100 bytes and two slashes that makes the 244 bytes hosts accept
)
_PATHS: Final = ("repo_path", "store_path", "git_signing_key", "secret_baseline", "on_exported_secret")
_REF_PREFIX: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_PERSON_FORBIDDEN: Final = re.compile(r"[<>\x00-\x1f\x7f]")
_REMOTE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactStoreConfig:
    """Settings of one store; immutable, safe to share between threads and processes.

    Args:
        repo_path: Git repository that exports go to (bare or with a work tree); it need not exist before the
            first export.
        remote_name: Remote that exports are pushed to.
        branch_prefix: Leading part of every branch name.
        commit_author_name: Author and committer name of exported commits.
        commit_author_email: Author and committer address of exported commits.
        scan_for_secrets: Refuse runs in which the secret gate finds a credential.
        secret_patterns: The user's own regular expressions, besides the built-in rules; None or empty adds none.
        secret_baseline: File of waived fingerprints, as written by ``cas scan --write-baseline``.
        secret_ignore: Secret rules that are not applied: ``RULE`` is off everywhere, ``GLOB: RULE, RULE`` in artifacts
            whose names match the pattern; the rule ``*`` stands for every one. Runs record what it lets through.
        include_metadata: Add a generated ``metadata.json`` to every exported tree.
        auto_push: Push after an export.
        push_timeout: Seconds one push may take before its process group is killed.
        require_correlation_id: Refuse runs without a correlation ID; otherwise one is generated.
        store_path: Folder of the store; None means ``<repo_path>/.cas``.
        open_timeout: Seconds to wait, when the store is opened, for a process that is compacting it.
        durability: ``full``, ``group`` or ``relaxed``; see docs/reliability.md for what each may lose.
        raise_errors: False makes ``commit_artifacts`` and ``revert_to_tag`` return a result with ``success`` False
            and the fields of the error instead of raising it, SecretDetectedError excepted; all other calls raise.
        git_signing_key: Private key file in OpenSSH format; commits are signed with it, None signs nothing.
        git_ssh_command: Shell command for ssh remotes; None means a plain ``ssh`` that never prompts. The user's git
            configuration is not read, so a special key is named here.
        git_credential_helper: git credential helper for http remotes, such as ``store``.
        git_trust_foreign_owner: Accept a repository that belongs to another user.
        object_format: Id format of exported commits, ``sha1`` or ``sha256``; fixed when the store is created.
        max_file_bytes: Largest accepted input file, in bytes.
        max_files: Most files in one run.
        max_metadata_bytes: Largest accepted metadata, in bytes of JSON.
        map_size_bytes: Address space reserved for the database, in bytes.
        indexed_metrics: Names of test metrics that get an index for ``where`` queries.
        checked_out: What an export does to a branch that some work tree has checked out: ``warn`` moves it and
            says so, ``refuse`` parks the run.
        push_refs: Most refs in one push.
        push_bytes: Most pack bytes in one push.
        metrics_keep_days: Days for which counts are kept by the hour; older ones are added to the totals.
        on_exported_url: Where each exported batch is posted to, as JSON.
        on_exported_command: Program, with arguments, that gets each exported batch as JSON on its standard input.
        on_exported_secret: File that holds the secret with which those posts are signed.

    Raises:
        ConfigError: A value is unusable; ``subject`` names the field.
    """

    repo_path: Path = dataclasses.field(default_factory=lambda: _present_folder("repo_path"))
    remote_name: str = "origin"
    branch_prefix: str = "ai/generated"
    commit_author_name: str = "algo-agent-bot"
    commit_author_email: str = "algo-agent@example.com"
    scan_for_secrets: bool = True
    secret_patterns: tuple[str, ...] | list[str] | None = None
    secret_baseline: Path | None = None
    secret_ignore: tuple[str, ...] | list[str] | None = None
    include_metadata: bool = True
    auto_push: bool = True
    push_timeout: float = 30
    require_correlation_id: bool = True
    store_path: Path | None = None
    open_timeout: float = 60
    durability: Durability = "full"
    raise_errors: bool = True
    git_signing_key: Path | None = None
    git_ssh_command: str | None = None
    git_credential_helper: str | None = None
    git_trust_foreign_owner: bool = False
    object_format: ObjectFormat = "sha1"
    max_file_bytes: int = DEFAULT_MAX_FILE_BYTES
    max_files: int = DEFAULT_MAX_FILES
    max_metadata_bytes: int = DEFAULT_MAX_METADATA_BYTES
    map_size_bytes: int = DEFAULT_MAP_SIZE_BYTES
    indexed_metrics: tuple[str, ...] = ()
    checked_out: CheckedOutPolicy = "warn"
    push_refs: int = 3000
    push_bytes: int = 256 * MEBIBYTE
    metrics_keep_days: int = 90
    on_exported_url: str | None = dataclasses.field(default=None, repr=False)  # may hold a password
    on_exported_command: str | None = None
    on_exported_secret: Path | None = None

    def __post_init__(self) -> None:
        _coerce_texts(self)
        _coerce_paths(self)
        _check_person(self)
        _check_refs(self)
        _check_programs(self)
        _check_choices(self)
        _check_numbers(self)
        _check_lists(self)
        if self.secret_patterns:
            from cas.secretscan.patterns import validate_patterns

            validate_patterns(self.secret_patterns)

    @property
    def store_dir(self) -> Path:
        """Absolute folder of the store.

        Raises:
            ConfigError: The path is relative, and the current folder was removed.
        """
        directory = self.store_path or self.repo_path / ".cas"
        if directory.is_absolute():
            return directory
        return _present_folder("repo_path" if self.store_path is None else "store_path") / directory

    def replace(self, **changes: object) -> ArtifactStoreConfig:
        """Return a copy with some fields changed, checked like a new one.

        Raises:
            ConfigError: A value is unusable; ``subject`` names the field.
        """
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]  # checked at run time


def _present_folder(field: str) -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise _fail(
            field, "the current folder was removed", "Go to one that exists, or name an absolute path."
        ) from error


def _set(config: ArtifactStoreConfig, field: str, value: object) -> None:
    object.__setattr__(config, field, value)


def _fail(field: str, why: str, hint: str | None = None) -> ConfigError:
    return ConfigError(f"{field}: {why}", subject=field, hint=hint)


def _coerce_texts(config: ArtifactStoreConfig) -> None:
    """Turn subclasses of text, such as an enumeration's members, into text: they may print as something else."""
    for field in dataclasses.fields(config):
        value: object = getattr(config, field.name)
        if isinstance(value, str):
            _set(config, field.name, exact_text(value))


def _coerce_paths(config: ArtifactStoreConfig) -> None:
    for field in _PATHS:
        value: object = getattr(config, field)
        if isinstance(value, str) and value:
            _set(config, field, Path(value))
        elif value is None and field != "repo_path":
            continue
        elif not isinstance(value, Path):
            raise _fail(field, "must be a path")
        if "\0" in str(value):
            raise _fail(field, "holds a NUL character")
        if not is_path_text(str(value)):
            raise _fail(field, "holds text that no file system can hold (lone surrogate)")


def _check_person(config: ArtifactStoreConfig) -> None:
    for field in ("commit_author_name", "commit_author_email"):
        value: object = getattr(config, field)
        if not isinstance(value, str) or not value.strip():
            raise _fail(field, "must be non-empty text")
        if value != value.strip() or _PERSON_FORBIDDEN.search(value):
            raise _fail(
                field, "holds a character that git refuses in an identity (<, >, control, outer blanks)"
            )
        if not _is_utf8(value):
            raise _fail(field, "is not valid Unicode text")


def _check_refs(config: ArtifactStoreConfig) -> None:
    prefix: object = config.branch_prefix
    if isinstance(prefix, str) and len(prefix) > MAX_PREFIX_CHARS:
        raise _fail(
            "branch_prefix",
            f"may have {MAX_PREFIX_CHARS} characters, as hosts limit a branch name to 244 bytes",
        )
    if not isinstance(prefix, str) or not _REF_PREFIX.fullmatch(prefix):
        raise _fail("branch_prefix", "must be parts of letters, digits, '_', '-', '.' joined by '/'")
    for part in prefix.split("/"):
        if ".." in part or part.endswith((".", ".lock")):
            raise _fail("branch_prefix", f"git refuses {part!r} in a branch name")
    remote: object = config.remote_name
    if not isinstance(remote, str) or not _REMOTE_NAME.fullmatch(remote) or ".." in remote:
        raise _fail("remote_name", "must be a plain remote name, such as 'origin'")


def _check_programs(config: ArtifactStoreConfig) -> None:
    """Refuse what no program, variable or address can be; what they mean is for git and the hooks to say."""
    for field in ("git_ssh_command", "git_credential_helper", "on_exported_url", "on_exported_command"):
        text: object = getattr(config, field)
        if text is None:
            continue
        if not isinstance(text, str) or not text.strip():
            raise _fail(field, "must be text")
        if "\0" in text:
            raise _fail(field, "holds a NUL character")
        if not is_path_text(text):
            raise _fail(field, "holds text that no program can be given (lone surrogate)")


def _check_choices(config: ArtifactStoreConfig) -> None:
    choices = {
        "durability": get_args(Durability),
        "object_format": get_args(ObjectFormat),
        "checked_out": get_args(CheckedOutPolicy),
    }
    for field, allowed in choices.items():
        if getattr(config, field) not in allowed:
            raise _fail(field, f"must be one of {', '.join(allowed)}")
    for field in (
        "scan_for_secrets",
        "include_metadata",
        "auto_push",
        "require_correlation_id",
        "raise_errors",
        "git_trust_foreign_owner",
    ):
        if not isinstance(getattr(config, field), bool):
            raise _fail(field, "must be true or false")


def _check_numbers(config: ArtifactStoreConfig) -> None:
    for field in (
        "max_file_bytes",
        "max_files",
        "max_metadata_bytes",
        "map_size_bytes",
        "push_refs",
        "push_bytes",
        "metrics_keep_days",
    ):
        value: object = getattr(config, field)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise _fail(field, "must be a positive whole number")
        if value > MAX_NUMBER:
            raise _fail(field, f"may be {MAX_NUMBER} at most")
    timeout: object = config.push_timeout
    if not _is_number(timeout) or not 0 < timeout < float("inf"):
        raise _fail("push_timeout", "must be a positive number of seconds")
    if timeout > MAX_PUSH_TIMEOUT_S:
        raise _fail("push_timeout", f"may be {MAX_PUSH_TIMEOUT_S} at most")
    timeout = config.open_timeout
    if not _is_number(timeout) or not 0 <= timeout < float("inf"):
        raise _fail("open_timeout", "must be a number of seconds")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_lists(config: ArtifactStoreConfig) -> None:
    for field in ("secret_patterns", "secret_ignore", "indexed_metrics"):
        value: object = getattr(config, field)
        if value is None:
            value = ()
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise _fail(field, "must be a list of texts")
        items: list[str] = []
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            if not isinstance(item, str) or not item or not _is_utf8(item):
                raise _fail(field, "must be a list of non-empty texts, valid as Unicode")
            items.append(exact_text(item))
        _set(config, field, tuple(items))


def anchored(config: ArtifactStoreConfig) -> ArtifactStoreConfig:
    """Return a configuration whose relative paths count from the current folder, also after that has changed.

    Raises:
        ConfigError: A path is relative, and the current folder was removed.
    """
    fixed = copy.copy(config)
    for field in _PATHS:
        path: Path | None = getattr(config, field)
        if path is not None and not path.is_absolute():
            _set(fixed, field, _present_folder(field) / path)
    return fixed


def is_path_text(text: str) -> bool:
    """Tell whether a file system can hold a text as a path: one with a lone surrogate, none can."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True

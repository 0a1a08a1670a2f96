"""The checks of ``cas doctor``: each looks at one thing and says what to do about it.

Invariant: a check changes nothing and never raises; what it cannot find out is a result too. The store is opened for
reading only.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import stat
import sys
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from cli.figures import count_text, list_of, size_text, whole_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cas.config import ArtifactStoreConfig
    from cli.session import Session

Status = Literal["ok", "warn", "fail"]
_MEBIBYTE: Final = 1024 * 1024
# Below the first figure a commit or an export may not find room; below the second a large batch may not.
_DISK_FAIL_BYTES: Final = 64 * _MEBIBYTE
_DISK_WARN_BYTES: Final = 1024 * _MEBIBYTE
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Result(NamedTuple):
    """What one check found."""

    check: str
    status: Status
    detail: str
    hint: str | None = None


def run_checks(session: Session) -> Iterator[Result]:
    """Yield the result of every check; after an unusable setting the rest is left out."""
    from cas.errors import ConfigError

    yield _python()
    yield _lmdb()
    yield _git()
    try:
        config = session.settings.config
    except ConfigError as error:
        yield Result("settings", "fail", error.message, error.hint)
        return
    file = session.settings.file
    yield Result("settings", "ok", "defaults, variables and flags" if file is None else str(file))
    yield _guarded("secret gate", lambda: _secret_gate(config))
    if config.git_signing_key is not None:
        yield _guarded("signing key", lambda: _signing_key(config))
    yield _guarded("store", lambda: _store(session))
    yield _guarded("permissions", lambda: _permissions(config.store_dir))
    yield _guarded("file system", lambda: _file_system(config.store_dir))
    yield _guarded("disk", lambda: _disk(config.store_dir))
    yield _guarded("last write", lambda: _suspect(config.store_dir))
    yield _guarded("repository", lambda: _repository(session))
    yield _guarded("remote", lambda: _remote(config))
    yield _guarded("export", lambda: _export(session))


def _guarded(check: str, look: Callable[[], Result]) -> Result:
    from cas.errors import ArtifactStoreError

    try:
        return look()
    except ArtifactStoreError as error:
        return Result(check, "fail", error.message, error.hint)
    except OSError as error:
        return Result(check, "fail", f"{error.filename}: {error.strerror}")


def _python() -> Result:
    return Result("python", "ok", f"{sys.version.split()[0]} ({sys.implementation.name})")


def _lmdb() -> Result:
    try:
        return Result("lmdb", "ok", importlib.metadata.version("lmdb"))
    except importlib.metadata.PackageNotFoundError:
        return Result("lmdb", "fail", "not installed", "Install cas-gitexport again; it brings lmdb.")


def _git() -> Result:
    from cas.errors import ArtifactStoreError
    from gitexport.git import git_version

    try:
        version = ".".join(map(str, git_version()))
    except ArtifactStoreError as error:
        hint = error.hint or "Install git; commits go on without it, exports do not."
        return Result("git", "fail", error.message, hint)
    return Result("git", "ok", version)


def _secret_gate(config: ArtifactStoreConfig) -> Result:
    from cas import SecretScanner

    SecretScanner(config)  # raises when a pattern or the baseline is unusable
    if not config.scan_for_secrets:
        return Result("secret gate", "warn", "switched off", "Set scan_for_secrets to true.")
    if importlib.util.find_spec("hyperscan") is None:
        hint = "pip install hyperscan makes it faster; it finds the same."
        return Result("secret gate", "warn", "on, pure Python engine", hint)
    return Result("secret gate", "ok", "on, hyperscan engine")


def _signing_key(config: ArtifactStoreConfig) -> Result:
    from cas.signing import SshSigner

    if config.git_signing_key is not None:
        SshSigner.open(config.git_signing_key)
    return Result("signing key", "ok", str(config.git_signing_key))


def _store(session: Session) -> Result:
    with session.open_for_reading() as store:
        count = whole_of(store.stats()["manifests"])
        return Result("store", "ok", f"{store.config.store_dir}, {count_text(count, 'commit')}")


def _permissions(store_dir: Path) -> Result:
    from cas.lmdbenv import DATA_FILE

    for path in (store_dir, store_dir / DATA_FILE):
        if not path.exists():
            return Result("permissions", "warn", "no store to look at")
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _OTHERS:
            hint = f"chmod go= {path}"
            return Result("permissions", "warn", f"{path} is open to other users ({mode:04o})", hint)
    return Result("permissions", "ok", "for its owner only")


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    return next((folder for folder in (path, *path.parents) if folder.exists()), path)


def _file_system(store_dir: Path) -> Result:
    from cas.lmdbenv import file_system_type, refuse_network_file_system

    place = _existing(store_dir)
    refuse_network_file_system(place)
    kind = file_system_type(place)
    if kind is None:
        return Result("file system", "warn", "unknown", "The store needs a local disk.")
    if kind in {"tmpfs", "ramfs"}:
        return Result("file system", "warn", f"{kind}: gone after a restart", "Set store_path to a disk.")
    return Result("file system", "ok", kind)


def _disk(store_dir: Path) -> Result:
    free_bytes = shutil.disk_usage(_existing(store_dir)).free
    text = f"{size_text(free_bytes)} free"
    if free_bytes < _DISK_FAIL_BYTES:
        return Result("disk", "fail", text, "Free space: commits are refused when it is used up.")
    if free_bytes < _DISK_WARN_BYTES:
        return Result("disk", "warn", text, "Free space before a large export.")
    return Result("disk", "ok", text)


def _suspect(store_dir: Path) -> Result:
    from cas.lmdbenv import SUSPECT_FILE

    if (store_dir / SUSPECT_FILE).exists():
        hint = "`cas verify --full` reads everything back, and lifts the mark when all is well."
        return Result("last write", "fail", "a write failed; commits are refused", hint)
    return Result("last write", "ok", "no write has failed")


def _object_format(session: Session) -> str:
    """Return the store's id format; without a store, the one that the next would get."""
    from cas.errors import ArtifactStoreError

    try:
        with session.open_for_reading() as store:
            return store.object_format
    except ArtifactStoreError:  # the check of the store tells
        return session.settings.config.object_format


def _repository(session: Session) -> Result:
    from cas.errors import GitCommandFailedError
    from gitexport.options import git_options
    from gitexport.repository import GitRepository

    config = session.settings.config
    try:
        repository = GitRepository.open(config.repo_path, git_options(config))
    except GitCommandFailedError as error:
        if error.kind == "not_a_repository":
            return Result("repository", "warn", error.message, f"{error.hint} Commits go on without it.")
        return Result("repository", "fail", error.message, error.hint)
    kind = "bare" if repository.is_bare else "with a work tree"
    object_format = _object_format(session)
    if repository.object_format != object_format:
        text = f"uses {repository.object_format} ids, the store {object_format}"
        hint = (
            "Export to another repository, or make a store of its format: "
            f"`cas init --store DIR -o object_format={repository.object_format}`."
        )
        return Result("repository", "fail", text, hint)
    return Result("repository", "ok", f"{config.repo_path}, {kind}, {repository.object_format}")


def _remote(config: ArtifactStoreConfig) -> Result:
    from cas.errors import GitCommandFailedError
    from gitexport.git import mask_credentials
    from gitexport.options import git_options
    from gitexport.repository import GitRepository

    if not config.auto_push:
        return Result("remote", "ok", "not needed: auto_push is off")
    try:
        repository = GitRepository.open(config.repo_path, git_options(config))
    except GitCommandFailedError:
        return Result("remote", "warn", "no repository to ask")
    if config.remote_name not in repository.remotes():
        hint = f"git -C {config.repo_path} remote add {config.remote_name} URL, or set auto_push to false."
        return Result("remote", "warn", f"there is no remote {config.remote_name!r}", hint)
    return Result("remote", "ok", mask_credentials(repository.push_url(config.remote_name)))


def _export(session: Session) -> Result:
    from gitexport import export_status

    with session.open_for_reading() as store:
        status = export_status(store)
    parked = list_of(status["parked"])
    if parked:
        count = count_text(len(parked), "entry", "entries")
        return Result("export", "warn", f"{count} parked", "`cas export status` says why.")
    if status.get("lease_holder"):
        return Result("export", "ok", f"running now: {status['lease_holder']}")
    return Result("export", "ok", f"{status['queued']} queued, no other export is running")

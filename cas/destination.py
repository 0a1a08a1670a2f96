"""Destinations: folders that are made for a user, beside the store and never at its cost.

Invariant: a folder that is or holds the store, a git repository or the current folder is never replaced, whatever the
caller allows, and nothing is put into the store's own folder. Errors of the file system here say nothing of the store.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from cas.config import is_path_text
from cas.errors import InvalidFileError
from cas.lmdbenv import DATA_FILE, storage_error, sync_directory

if TYPE_CHECKING:
    from collections.abc import Generator

# What is wrong with the path that was given, and not with a disk.
_BAD_PATH: Final = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL),
        *(errno.EBUSY, errno.EXDEV, errno.EISDIR),
    }
)
_HINT: Final = "Choose a new folder."


def folder_path(directory: object) -> Path:
    """Return the folder that a caller names, as an absolute path.

    Raises:
        InvalidFileError: It is no path, is empty, holds what no path may, or counts from a folder that was removed.
    """
    if not isinstance(directory, str | os.PathLike):
        raise InvalidFileError(f"a folder must be a path, not {type(directory).__name__}")
    text = os.fspath(cast("str | os.PathLike[str]", directory))
    if not isinstance(text, str) or not text or "\0" in text or not is_path_text(text):
        raise InvalidFileError(f"{text!a} is not the path of a folder", subject=ascii(text))
    path = Path(text)
    with folder_errors(path):
        return path.absolute()


@contextlib.contextmanager
def folder_errors(directory: Path) -> Generator[None]:
    """Turn errors of the file system in the block into ours: about the path, or about its disk.

    Raises:
        InvalidFileError: The path cannot be that of a new folder.
        StorageError: The disk refused.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _BAD_PATH:
            raise InvalidFileError(
                f"{directory} cannot be made: {os.strerror(error.errno or 0)}",
                subject=str(directory),
                hint=_HINT,
            ) from error
        raise storage_error(error, directory) from error


def check_outside(directory: Path, store: Path) -> None:
    """Refuse a folder in the store's own.

    Raises:
        InvalidFileError: It is that, or lies in it.
    """
    if _real(directory).is_relative_to(_real(store)):
        raise InvalidFileError(
            f"{directory} lies in the folder of the store", subject=str(directory), hint=_HINT
        )


def check_replaceable(directory: Path, store: Path, repository: Path) -> None:
    """Refuse to replace a folder that holds what no checkout has written.

    Raises:
        InvalidFileError: It is or holds the store, a git repository or the current folder.
    """
    place = _real(directory)
    kept = {"the store": store}
    with contextlib.suppress(FileNotFoundError):  # it was removed, so that nothing of it can be lost
        kept["the current folder"] = Path.cwd()
    if _is_repository(repository):
        kept["the git repository"] = repository
    found = [what for what, path in kept.items() if _real(path).is_relative_to(place)]
    if (place / DATA_FILE).exists() or (place / ".cas").exists():
        found.append("a store")
    # All the way down, which takes less time than removing what is there.
    if not found and any(_is_repository(Path(folder)) for folder, _, _ in os.walk(place)):
        found.append("a git repository")
    if found:
        raise InvalidFileError(
            f"{directory} is or holds {found[0]}, and is not replaced", subject=str(directory), hint=_HINT
        )


def present_above(directory: Path) -> Path:
    """Return the nearest folder above one that is there."""
    return next(above for above in directory.parents if above.exists())


def sync_names(directory: Path, present: Path) -> None:
    """Make a folder's name durable, and those of the folders above it that were made for it.

    Args:
        directory: The folder.
        present: What `present_above` gave before they were made.
    """
    for above in directory.parents:
        sync_directory(above)
        if above == present:
            return


def _real(path: Path) -> Path:
    # Path.resolve raises an error of its own for links that go in circles, before Python 3.13.
    return Path(os.path.realpath(path))


def _is_repository(path: Path) -> bool:
    return (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "objects").is_dir())

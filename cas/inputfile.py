"""An input file: opened without following links or waiting, read piece by piece, and what to say when that fails.

Invariant: the caller gets as many bytes as the file had when it was opened, or an error that names the artifact.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from cas.codec import CHUNK_BYTES
from cas.errors import InvalidFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# What the process or the machine is short of for a moment; the file itself may be well.
_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def iter_chunks(
    name: str, descriptor: int, size_bytes: int, on_read: Callable[[int], None] | None
) -> Generator[bytes]:
    """Yield the bytes of an open file, which must be as many as it had.

    Raises:
        InvalidFileError: They are more or fewer.
        OSError: The file cannot be read.
    """
    position = 0
    while chunk := os.pread(descriptor, CHUNK_BYTES, position):
        position += len(chunk)
        if position > size_bytes:
            break
        yield chunk
        if on_read is not None:
            on_read(len(chunk))
    if position != size_bytes:
        raise changed(name)


def open_input(name: str, path: str) -> int:
    """Return the descriptor of a file opened for reading; the caller looks whether it is a regular one.

    Raises:
        InvalidFileError: It is missing, a link, unreadable, or no path.
    """
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer. O_NOFOLLOW: a link's target may be swapped.
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise unreadable(name, path, error) from error


def unreadable(name: str, path: str, error: OSError | ValueError) -> InvalidFileError:
    """Return the error for a file that could not be opened or read."""
    if os.path.islink(path):  # noqa: PTH114  Path's own raises for a path too long or out of reach
        why = "is a symbolic link"
    elif isinstance(error, FileNotFoundError):
        why = "does not exist"
    elif isinstance(error, PermissionError):
        why = "is not readable"
    elif isinstance(error, OSError) and error.errno:
        why = f"cannot be read: {os.strerror(error.errno)}"
    else:
        why = "is not a valid path"
    passes = isinstance(error, OSError) and error.errno in _PASSING
    return InvalidFileError(f"file {name!r}: {path!r} {why}", subject=name, retryable=passes)


def changed(name: str) -> InvalidFileError:
    """Return the error for a file that is not what it was when its reading began."""
    return InvalidFileError(
        f"file {name!r} changed while it was read",
        subject=name,
        hint="Commit a file when its writer has closed it.",
        retryable=True,
    )

"""Where an open store file lies, and whether it is still there.

Invariant: a write to a file that was removed, moved or replaced since it was opened is noticed before it is made: LMDB
would go on with the file it has open, and nobody would find what was acknowledged.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cas.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path


class Place:
    """The path of an open file, and what tells that file from every other as long as it is open.

    Args:
        path: The file; it has just been opened.

    Raises:
        OSError: It is not there, or out of reach.
    """

    __slots__ = ("_path", "identity")

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self.identity = file_identity(self._path)

    def is_kept(self) -> bool:
        """Tell whether the path still leads to the file.

        Raises:
            OSError: The path is out of reach.
        """
        try:
            return file_identity(self._path) == self.identity
        except (FileNotFoundError, NotADirectoryError):
            return False

    def check(self) -> None:
        """Raise when the path leads elsewhere; costs about 2 µs.

        Raises:
            StorageError: The file was removed, moved or replaced since it was opened.
            OSError: The path is out of reach.
        """
        if not self.is_kept():
            directory = os.path.dirname(self._path)  # noqa: PTH120  text to text
            raise StorageError(
                f"the store in {directory} was removed or replaced while it was open",
                kind="not_a_store",
                hint="Open a new ArtifactStore, once the store is back in its place.",
                subject=directory,
            )


def file_identity(path: str) -> tuple[int, int]:
    """Return device and number of a file.

    Raises:
        OSError: It is not there, or out of reach.
    """
    status = os.stat(path)  # noqa: PTH116  asked for every commit, and half the cost of Path's
    return status.st_dev, status.st_ino

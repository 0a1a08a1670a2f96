"""What is done to a store that nobody has open: making its file smaller, and restoring a backup.

Invariant: a store that is in use is never touched, and an existing one never overwritten.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from cas import backup, check
from cas.arguments import check_config, check_progress
from cas.destination import folder_path
from cas.errors import StoreSuspectError
from cas.lmdbenv import compact_environment, suspect_mark

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from cas.config import ArtifactStoreConfig
    from cas.records import Record


def compact_store(config: ArtifactStoreConfig) -> Record:
    """Make the store file as small as what it holds; it never shrinks otherwise.

    Reads and writes everything once, and needs that much free space beside the file. Opening the store waits meanwhile.
    A crash at any point leaves the old file or the new one.

    Args:
        config: Says which store; this process must not have it open either.

    Returns:
        ``before_bytes`` and ``after_bytes`` of the file.

    Raises:
        ConfigError: It is no configuration.
        StateError: Somebody has the store open.
        StoreSuspectError: An earlier write failed; a complete verify comes first.
        IntegrityError: The store file is damaged, or the copy is not what it holds; the store is as it was.
        StorageError: No store there, not enough room, or the disk refused; the store is as it was.
    """
    check_config(config)
    directory = config.store_dir
    if suspect_mark(directory) is not None:
        raise StoreSuspectError(
            "an earlier write to this store failed, so its file is not replaced",
            hint="Run `cas verify --full` first.",
            subject=str(directory),
        )
    before_bytes, after_bytes = compact_environment(directory, map_size_bytes=config.map_size_bytes)
    return {"before_bytes": before_bytes, "after_bytes": after_bytes}


def restore_store(
    source: str | os.PathLike[str],
    config: ArtifactStoreConfig,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> Record:
    """Make a store from a backup, verified before it gets its name; durable on return.

    Args:
        source: Folder of the backup.
        config: Says where the store is to be; nothing may be there.
        progress: Called with phase, items verified, items in all, once the copy is made.

    Returns:
        ``directory, runs, blobs, bytes``.

    Raises:
        InvalidInputError: An argument is of another kind.
        StorageError: There is no backup, something is where the store is to be, or a disk refused.
        IntegrityError: The backup is damaged.
    """
    check_config(config)
    check_progress(progress)
    folder_path(source)  # a path at all; the user's own words name it
    verify = functools.partial(check.verify, progress=progress)
    return backup.restore(Path(source), config.store_dir, verify, map_size_bytes=config.map_size_bytes)

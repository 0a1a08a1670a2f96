"""Creation: a new store folder that is complete after a crash, or not there; and where one may lie."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Final

import lmdb

from cas.errors import StorageError
from cas.lmdbenv.faults import mapped_errors, storage_error, sync_directory
from cas.lmdbenv.scaffold import scaffold
from cas.lmdbenv.transaction import Table, sealed

DATA_FILE: Final = "data.mdb"
LOCK_FILE: Final = "lock.mdb"
DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
MAX_TABLES: Final = 16
ZERO_STEP_BYTES: Final = 16 * 1024 * 1024
# How the kernel writes blanks and backslashes in a mount point; other characters stand as they are (proc(5)).
_OCTAL_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "lustre",
    }
)


def is_store(directory: Path) -> bool:
    """Tell whether there is a store's file in a folder, whatever state it is in.

    Raises:
        StorageError: This user may not look into the folder, or a disk refused.
    """
    with mapped_errors(directory):
        try:
            (directory / DATA_FILE).stat()  # Path.exists hides that one may not look, from Python 3.14 on
        except ValueError:
            return False
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            return False
        return True


def create_environment(directory: Path, meta: dict[bytes, bytes]) -> None:
    """Make a new store folder that either is complete after a crash or is not there.

    The files are made in a scaffold beside it, synced, and renamed into place; the loser of a race leaves the winner's
    folder alone. A process that is killed may leave its scaffold; the next creation of the same store removes it.

    Args:
        directory: The folder to make; an existing empty folder is replaced.
        meta: Rows of the meta table.

    Raises:
        StorageError: The folder holds something else, cannot be written, or lies on a network file system.
    """
    directory = Path(os.path.realpath(directory))  # a rename would replace a link instead of following it
    try:
        _make_parents(directory.parent)
        refuse_network_file_system(directory.parent)
    except OSError as error:
        raise storage_error(error, directory) from error
    with mapped_errors(directory, writing=True), scaffold(directory) as temporary:
        temporary.mkdir(DIRECTORY_MODE)
        _fill_new(temporary, meta)
        try:
            temporary.rename(directory)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY}:
                raise
            if not (directory / DATA_FILE).is_file():
                raise StorageError(
                    f"{directory} cannot become a store: {_obstacle(directory)}",
                    kind="not_a_store",
                    hint="Choose another store_path (below a mount point, not the point itself), "
                    "or move what is in it.",
                    subject=str(directory),
                ) from error
        sync_directory(directory.parent)


def _make_parents(directory: Path) -> None:
    """Make a folder with all above it, each name durable in the folder that holds it."""
    if directory.is_dir():
        return
    _make_parents(directory.parent)
    directory.mkdir(exist_ok=True)
    sync_directory(directory.parent)


def _obstacle(directory: Path) -> str:
    if not directory.is_dir():
        return "it exists and is not a folder"
    return "it is a mount point" if directory.is_mount() else "it is not empty and holds no store"


def _fill_new(temporary: Path, meta: dict[bytes, bytes]) -> None:
    temporary.chmod(DIRECTORY_MODE)
    # The store usually lies inside a work tree; it ignores itself there, so that `git status` stays as it was.
    (temporary / ".gitignore").write_text("*\n")
    raw = lmdb.open(str(temporary), map_size=ZERO_STEP_BYTES, max_dbs=MAX_TABLES, mode=FILE_MODE)
    try:
        tables = {table: raw.open_db(table.value) for table in Table}
        with raw.begin(write=True) as transaction:
            for key, value in meta.items():
                transaction.put(key, sealed(Table.META, key, value), db=tables[Table.META])
        raw.sync(True)  # noqa: FBT003  py-lmdb takes it by position
    finally:
        raw.close()
    for name in (DATA_FILE, LOCK_FILE, ".gitignore"):
        path = temporary / name
        path.chmod(FILE_MODE)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_directory(temporary)


def file_system_type(path: Path) -> str | None:
    """Return the type of the mounted file system that holds ``path``, or None where it cannot be told."""
    try:
        lines = (
            Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        )
    except OSError:
        return None
    target = os.path.realpath(path)
    best_length, best_type = -1, None
    for line in lines:
        left, _, right = line.partition(" - ")
        mount_point = _OCTAL_ESCAPE.sub(lambda match: chr(int(match[1], 8)), left.split(" ")[4])
        inside = target == mount_point or target.startswith(mount_point.rstrip("/") + "/")
        if inside and len(mount_point) >= best_length:
            best_length, best_type = len(mount_point), right.split(" ")[0]
    return best_type


def refuse_network_file_system(path: Path) -> None:
    """Raise when ``path`` lies where memory maps and locks are not coherent between machines.

    Raises:
        StorageError: The file system is a network one.
    """
    kind = file_system_type(path)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StorageError(
            f"{path} lies on a network file system ({kind}), where the store's locks and maps are not safe",
            kind="network_filesystem",
            hint="Set store_path to a folder on a local disk; exports may go to a repository anywhere.",
            subject=str(path),
        )

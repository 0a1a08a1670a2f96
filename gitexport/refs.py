"""Moving the refs of a batch in one transaction: straight into ``packed-refs``, or by ``git update-ref``.

Invariant: a ref is only moved from the value it was expected to have, and refs of a batch move together. What
another program wrote is never overwritten, and no lock is removed that may belong to another program.

git's rules for its ``files`` format, which make the short cut safe:

- A ref is its loose file if there is one, else its line in ``packed-refs``. So a value that somebody writes
  into a loose file always wins over ours: by writing ``packed-refs`` alone nobody's value can be lost.
- Who changes ``packed-refs`` (pack-refs, deletions, this module) holds ``packed-refs.lock``, created with
  ``O_EXCL``, and replaces the file by rename. We re-read the file under that lock, so no packed value can be
  lost either.
- Who changes ref ``x`` by its loose file creates ``x.lock`` first and then reads ``x``. Taking that lock for
  each ref would be the textbook way and costs two file operations a ref, and thousands of stale files after a
  kill. Instead we look for ``x.lock`` and ``x`` before the rename, and once more after it, still under
  ``packed-refs.lock``. A git that locks ``x`` after the second look reads our value. One that locked it
  before is seen by one of the two looks: by the first, and nothing was written; by the second, and we wait
  for its end and compare. Its value then stands, as if it had come after ours, and ConflictError says so
  unless it was built on ours.

A deletion takes the line out in the same way. It is safe for the same reason: a ref that somebody writes meanwhile
gets a loose file, which stands.

Refs with a loose file or a log, symbolic refs, reftable and foreign forms of the file go the ordinary way. This
module must not start git itself (``repository.py`` does) and must not know of runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import os
import stat
import time
from typing import TYPE_CHECKING, Final

from cas.errors import ConflictError, IntegrityError, StateError
from gitexport.heldfile import mapped_os_errors, sync_folder
from gitexport.packedrefs import PackedEdit, PackedRefs
from gitexport.reflocks import POLL_S, TEMPORARY_NAME, packed_refs_lock, ref_journal, sweep_locks
from gitexport.refvalues import RefChange, check_oid, check_ref_name, lock_in_the_way, ref_folders

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from gitexport.repository import GitRepository

_LOOSE_WAIT_S: Final = (
    2.0  # as core.filesRefLockTimeout in git.py: another git's move of one ref is over by then
)
_SETTLE_WAIT_S: Final = 5.0
_WORKTREE_REFS: Final = ("refs/bisect/", "refs/worktree/", "refs/rewritten/")  # not shared, never packed
_SCAN_COUNT: Final = 50  # names in one folder from which listing it is cheaper than asking for each
# Measured: git needs 5 ms and 0.5 ms a ref (each is synced), a rewrite 2 ms and 1 ms per MB of the file. So a
# file may be this large before a batch of n refs is better off as loose files.
_REWRITE_BYTES: Final = 4 * 1024 * 1024
_REWRITE_BYTES_PER_REF: Final = 512 * 1024
_WRITE_PIECES: Final = 512  # below IOV_MAX of every system


@dataclasses.dataclass(slots=True)
class _Look:
    """What lies in the folders of some refs at one moment.

    Attributes:
        loose: Names that have a file.
        locks: Lock files of these names or of the folders they lie in.
        blocked: Name -> a ref with a file that makes it impossible (its folder, or one inside it).
    """

    loose: set[str] = dataclasses.field(default_factory=set[str])
    locks: list[Path] = dataclasses.field(default_factory=list["Path"])
    blocked: dict[str, str] = dataclasses.field(default_factory=dict[str, str])


def read_refs(repo: GitRepository, names: Iterable[str]) -> dict[str, str]:
    """Return those of the named refs that exist, name to hex oid, without starting git where that is possible.

    A symbolic ref counts by what it points at. The answer is a snapshot without a lock.

    Raises:
        GitCommandFailedError: git failed.
        InvalidNameError: A name git would refuse.
        StorageError: The repository cannot be read.
    """
    wanted = sorted({check_ref_name(name) for name in names})
    values = _values(repo, wanted)
    if any(value and value.startswith("ref:") for value in values.values()):
        return {name: value.oid for name, value in repo.read_refs(wanted).items()}
    return {name: value for name, value in values.items() if value}


def _values(repo: GitRepository, names: Sequence[str]) -> dict[str, str | None]:
    """Return what the refs hold: a hex oid, ``ref: <target>`` for a symbolic one, or None."""
    if repo.ref_format == "files" and not any(name.startswith(_WORKTREE_REFS) for name in names):
        with mapped_os_errors(repo.common_dir):
            # Loose before packed, as pack-refs moves values in that direction.
            loose = _read_loose(repo.common_dir, _look(repo.common_dir, names).loose)
            packed = _load_packed(repo.common_dir, len(names))
        if packed is not None:
            return {name: loose.get(name) or packed.find(name) for name in sorted(names)}
    found = repo.read_refs(names)
    return {name: f"ref: {value.symref}" if value.symref else value.oid for name, value in found.items()}


def update_refs(
    repo: GitRepository, changes: Sequence[RefChange], *, known: Mapping[str, str | None] | None = None
) -> None:
    """Move the refs of a batch in one transaction; they are on the disk when this returns.

    A change whose ref already has the new value counts as done, so a batch may be repeated after a crash.
    Killed before the end, either all or none of the refs have moved, except that a git killed inside its own
    transaction (refs that are loose files) may leave a part moved; repeating the batch then completes it.

    Args:
        repo: The repository; other programs may use it meanwhile.
        changes: Moves with expected old values, names unique. Branches need commits; the objects must be
            there.
        known: Commits and tags, by hex oid, that the caller has just seen in the repository or written to it: None,
            or the object behind the tag. git is asked about others.

    Raises:
        ConflictError: A ref is not where it was expected, or a ref stands in another's way; ``subject`` names
            the culprit. Nothing moved, except when another program moved it in the very same moment.
        GitCommandFailedError: Somebody holds a lock (kind ``ref_locked``), or git failed.
        IntegrityError: An object is missing or of the wrong kind.
        InvalidNameError: A name git would refuse.
        StateError: A name occurs twice.
        StorageError: The disk refused.
    """
    _check_changes(changes)
    if not changes:
        return
    sweep_ref_leftovers(repo)
    if _rewrite_pays(repo, changes):
        peeled = _check_objects(repo, changes, known or {})
        done = _rewrite(repo, changes, peeled)
        if not done and len(changes) > _SCAN_COUNT:
            # Many refs and some of them loose: packing those once is cheaper than a loose file for each.
            _pack_by_git(repo, changes)
            done = _rewrite(repo, changes, peeled)
        if done:
            return
    _update_by_git(repo, changes)


def sweep_ref_leftovers(repo: GitRepository) -> list[Path]:
    """Remove lock files that killed runs of ours left, and return them.

    Raises:
        GitCommandFailedError: A lock may be another program's (kind ``ref_locked``); a minute later it is known.
        StorageError: A file cannot be read or removed.
    """
    return sweep_locks(repo.common_dir)


def _check_changes(changes: Sequence[RefChange]) -> None:
    names: set[str] = set()
    for change in changes:
        if check_ref_name(change.name) in names:
            raise StateError(f"ref {change.name} is moved twice in one transaction", subject=change.name)
        names.add(change.name)
        for oid in (change.old_oid, change.new_oid):
            if oid is not None:
                check_oid(oid)


def _rewrite_pays(repo: GitRepository, changes: Sequence[RefChange]) -> bool:
    if repo.ref_format != "files":
        return False
    if any(change.name.startswith(_WORKTREE_REFS) for change in changes):
        return False
    path = repo.common_dir / "packed-refs"
    size_bytes = path.stat().st_size if path.exists() else 0
    return size_bytes <= _REWRITE_BYTES + _REWRITE_BYTES_PER_REF * len(changes)


def _check_objects(
    repo: GitRepository, changes: Sequence[RefChange], known: Mapping[str, str | None]
) -> Mapping[str, str | None]:
    """Return the object behind each new oid that is a tag; git would check the same for each ref it writes."""
    asked = [change for change in changes if change.new_oid and not _fits(change, known)]
    if not asked:
        return known
    kinds = repo.peel(change.new_oid or "" for change in asked)
    for change in asked:
        kind, _ = kinds[change.new_oid or ""]
        if kind == "missing" or (kind != "commit" and change.name.startswith("refs/heads/")):
            raise IntegrityError(
                f"{change.name} cannot name {change.new_oid}, which is {kind}", subject=change.name
            )
    return {**known, **{oid: target for oid, (_, target) in kinds.items()}}


def _fits(change: RefChange, known: Mapping[str, str | None]) -> bool:
    """Tell whether a ref may name its new object, by what is known of it: a branch names a commit."""
    target = known.get(change.new_oid or "", "")
    return target is None or (target != "" and not change.name.startswith("refs/heads/"))


def _rewrite(repo: GitRepository, changes: Sequence[RefChange], peeled: Mapping[str, str | None]) -> bool:
    """Move the refs by a new ``packed-refs``; False, with nothing changed, where that is not the way."""
    names = sorted(change.name for change in changes)
    deadline_s = time.monotonic() + _LOOSE_WAIT_S
    with mapped_os_errors(repo.common_dir):
        while True:
            with packed_refs_lock(repo.common_dir):
                look = _look(repo.common_dir, names)
                if not look.locks:
                    plan = _plan(repo.common_dir, changes, look)
                    if plan is None:
                        return False
                    packed, pending = plan
                    after = _publish(repo, packed, pending, peeled) if pending else _Look()
                    break
            if time.monotonic() >= deadline_s:
                raise lock_in_the_way(str(look.locks[0]))
            time.sleep(POLL_S)
    _settle(repo, pending, after)
    return True


def _plan(
    common_dir: Path, changes: Sequence[RefChange], look: _Look
) -> tuple[PackedRefs, list[RefChange]] | None:
    """Return the present file and the moves it still needs, or None if git has to make them."""
    packed = _load_packed(common_dir, 2 * len(changes))
    if packed is None:
        return None
    loose = _read_loose(common_dir, look.loose)
    ordered = sorted(changes, key=lambda change: change.name)
    current = {change.name: loose.get(change.name) or packed.find(change.name) for change in ordered}
    pending = _pending(ordered, current)
    created = [change.name for change in pending if change.old_oid is None]
    _check_blocked(look, changes)
    _check_folders(packed, created)
    moved = (change.name for change in pending if change.old_oid is not None)
    logs = common_dir / "logs"
    # A ref with a log must not move without an entry in it, and a loose value would hide a packed one.
    if any(change.name in loose for change in pending) or (
        (logs / "refs").is_dir() and any((logs / name).exists() for name in moved)
    ):
        return None
    return packed, pending


def _pending(changes: Iterable[RefChange], current: Mapping[str, str | None]) -> list[RefChange]:
    """Return the moves not made yet.

    Raises:
        ConflictError: A ref has neither its old nor its new value.
    """
    pending: list[RefChange] = []
    for change in changes:
        value = current.get(change.name)
        if value == change.new_oid:
            continue
        if value and value.startswith("ref:"):
            raise ConflictError(
                f"ref {change.name} is symbolic ({value}); it is left alone", subject=change.name
            )
        if value != change.old_oid:
            raise ConflictError(
                f"ref {change.name} is {f'at {value}' if value else 'missing'}, "
                f"expected {change.old_oid or 'none'}",
                subject=change.name,
                hint="Another program moved it; nothing was overwritten.",
            )
        pending.append(change)
    return pending


def _check_folders(packed: PackedRefs, created: Sequence[str]) -> None:
    """Refuse new refs that are a folder of another ref, or lie in one, among the packed ones and themselves."""
    names = set(created)
    folders: dict[str, str] = {}
    for name in created:
        for folder in ref_folders(name):
            if folder in folders:
                break
            folders[folder] = name
    for folder in sorted(folders):
        if folder in names or packed.find(folder):
            raise _blocked(folder, folders[folder])
    for name in created:
        inside = packed.below(name)
        if inside:
            raise _blocked(inside, name)


def _check_blocked(look: _Look, changes: Sequence[RefChange]) -> None:
    """Refuse refs that another one's file makes impossible; one that goes is not in the way of anybody."""
    for blocked, blocker in look.blocked.items():
        for change in changes:
            if change.new_oid and (change.name == blocked or change.name.startswith(f"{blocker}/")):
                raise _blocked(blocker, change.name)


def _publish(
    repo: GitRepository, packed: PackedRefs, pending: Sequence[RefChange], peeled: Mapping[str, str | None]
) -> _Look:
    """Replace ``packed-refs`` under its lock, and look again at what others did with these refs meanwhile."""
    path = repo.common_dir / "packed-refs"
    temporary = repo.common_dir / TEMPORARY_NAME
    pieces = packed.edited(
        PackedEdit(change.name, change.new_oid, peeled.get(change.new_oid or "")) for change in pending
    )
    temporary.unlink(missing_ok=True)  # of a killed run
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        mode = path.stat().st_mode if path.exists() else os.fstat(descriptor).st_mode | repo.shared_bits
        os.fchmod(descriptor, stat.S_IMODE(mode))
        for first in range(0, len(pieces), _WRITE_PIECES):
            _write_pieces(descriptor, pieces[first : first + _WRITE_PIECES])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(path)
    sync_folder(repo.common_dir)
    return _look(repo.common_dir, [change.name for change in pending])


def _write_pieces(descriptor: int, pieces: Sequence[memoryview | bytes]) -> None:
    left = [memoryview(piece) for piece in pieces]
    while left:
        written = os.writev(descriptor, left)
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if left:
            left[0] = left[0][written:]


def _settle(repo: GitRepository, pending: Sequence[RefChange], look: _Look) -> None:
    """Wait for gits that were moving one of our refs in the moment of the rename, and see who came last."""
    if not (look.locks or look.loose or look.blocked):
        return
    deadline_s = time.monotonic() + _SETTLE_WAIT_S
    while any(lock.exists() for lock in look.locks) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    _check_blocked(_look(repo.common_dir, [change.name for change in pending]), pending)
    current = read_refs(repo, [change.name for change in pending])
    for change in pending:
        value = current.get(change.name)
        if value == change.new_oid:
            continue
        branch = change.name.startswith("refs/heads/")
        if value and change.new_oid and branch and repo.is_ancestor(change.new_oid, value):
            continue  # it was built on ours
        raise ConflictError(
            f"ref {change.name} was moved by another program in the same moment, to {value or 'nothing'}",
            subject=change.name,
        )


def _update_by_git(repo: GitRepository, changes: Sequence[RefChange]) -> None:
    pending = _pending(changes, _values(repo, [change.name for change in changes]))
    if not pending:
        return
    with mapped_os_errors(repo.common_dir):
        with ref_journal(repo.common_dir, pending) as descriptor:
            repo.update_refs(pending, pass_fds=(descriptor,))
        # git syncs the files it writes, and none of the folders they lie in.
        folders = {folder for change in pending for folder in (repo.common_dir / change.name).parents}
        if repo.ref_format == "reftable":
            folders = {repo.common_dir / "reftable"}
        for folder in sorted(folders, reverse=True):
            if folder.is_relative_to(repo.common_dir) and folder.is_dir():
                sync_folder(folder)


def _pack_by_git(repo: GitRepository, changes: Sequence[RefChange]) -> None:
    """Let git pack all refs; to git, a file that goes is a deletion, with the locks of one."""
    with mapped_os_errors(repo.common_dir):
        going = [RefChange(change.name, change.old_oid, None) for change in changes]
        with ref_journal(repo.common_dir, going) as descriptor:
            repo.pack_refs(pass_fds=(descriptor,))


def _load_packed(common_dir: Path, asked_count: int) -> PackedRefs | None:
    """Return the packed refs, or None if the file has a form that only git should read or write.

    The file is mapped, as git maps it: whoever changes it replaces it, so that the bytes under the map stay.
    """
    path = common_dir / "packed-refs"
    if path.is_symlink():
        return None
    data: bytes | mmap.mmap = b""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        if os.fstat(file.fileno()).st_size:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    packed = PackedRefs(data, asked_count)
    return packed if packed.canonical else None


def _read_loose(common_dir: Path, names: Collection[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name in sorted(names):
        try:
            values[name] = (common_dir / name).read_text("ascii", "replace").strip()
        except FileNotFoundError:  # packed or deleted since it was seen
            continue
    return values


def _look(common_dir: Path, names: Sequence[str]) -> _Look:
    """Look for files, locks and obstacles of some refs; folders that do not exist cost nothing."""
    look = _Look()
    by_folder: dict[str, list[str]] = {}
    for name in names:
        by_folder.setdefault(name.rpartition("/")[0], []).append(name)
    present: dict[str, bool] = {}
    for folder, members in by_folder.items():
        if _folder_present(common_dir, folder, members[0], present, look):
            _look_in_folder(common_dir, folder, members, look)
    return look


def _folder_present(
    common_dir: Path, folder: str, member: str, present: dict[str, bool], look: _Look
) -> bool:
    known = present.get(folder)
    if known is None:
        parent = folder.rpartition("/")[0]
        known = not parent or _folder_present(common_dir, parent, member, present, look)
        if known:
            path = common_dir / folder
            lock = path.with_name(path.name + ".lock")
            if lock.exists():
                look.locks.append(lock)
            known = path.is_dir()
            if not known and os.path.lexists(path):
                look.blocked[member] = folder
        present[folder] = known
    return known


def _look_in_folder(common_dir: Path, folder: str, members: Sequence[str], look: _Look) -> None:
    # Locks first: git turns ``x.lock`` into ``x``, so whoever holds no lock any more in the first pass has left a
    # file for the second. One pass over both could miss a ref that is renamed behind its back.
    locks = _kinds(common_dir, folder, [f"{name}.lock" for name in members])
    look.locks += [common_dir / lock for lock in sorted(locks)]
    for name, is_folder in _kinds(common_dir, folder, members).items():
        if not is_folder:
            look.loose.add(name)
            continue
        look.locks += [path for path in _files_below(common_dir / name) if path.suffix == ".lock"]
        inside = [path for path in _files_below(common_dir / name) if path.suffix != ".lock"]
        if inside:
            look.blocked[name] = str(inside[0].relative_to(common_dir))


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _kinds(common_dir: Path, folder: str, members: Sequence[str]) -> dict[str, bool]:
    """Return which of these paths in a folder exist, and whether each is a folder itself."""
    if len(members) >= _SCAN_COUNT:
        try:
            with os.scandir(common_dir / folder) as entries:
                found = {f"{folder}/{entry.name}": entry.is_dir(follow_symlinks=False) for entry in entries}
        except (FileNotFoundError, NotADirectoryError):  # git removes folders that become empty
            return {}
        return {path: found[path] for path in members if path in found}
    kinds: dict[str, bool] = {}
    for path in members:
        try:
            kinds[path] = stat.S_ISDIR((common_dir / path).lstat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return kinds


def _blocked(blocker: str, name: str) -> ConflictError:
    return ConflictError(
        f"ref {blocker} exists, so {name} cannot be created",
        subject=blocker,
        hint="Rename or delete that ref, or choose another branch prefix.",
    )

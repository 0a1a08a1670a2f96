"""An environment: the open store file of a process, its headroom, and what happens to it after a fork."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import lmdb

from cas.errors import ReadOnlyStoreError, StateError, StorageError, StoreSuspectError
from cas.lmdbenv.creation import DATA_FILE, ZERO_STEP_BYTES
from cas.lmdbenv.faults import SUSPECT_FILE, check_length, mapped_errors, suspect_mark, sync_directory
from cas.lmdbenv.locks import hold_to_write, share_directory
from cas.lmdbenv.mapping import drop_cached, release_mapping
from cas.lmdbenv.mending import is_mended
from cas.lmdbenv.opening import open_database, open_tables
from cas.lmdbenv.place import Place
from cas.lmdbenv.snapshot import Snapshot
from cas.lmdbenv.transaction import Table, WriteTransaction
from cas.lmdbenv.visits import Visit, Visits

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from cas.config import Durability

# Growing the file inside a commit costs a journal flush and, on ext4, can lose acknowledged pages after an I/O error
# (docs/decisions.md, D5), so the tail is written ahead as zeroes, this much at a time, under the write lock.
HEADROOM_STEP_BYTES: Final = ZERO_STEP_BYTES
_ZEROES: Final = bytes(1024 * 1024)
# A commit of ordinary runs dirties well under this; less room than this left in the file asks for the next step.
HEADROOM_LOW_BYTES: Final = 4 * 1024 * 1024
# Where less address space than this is left, a store that works for a while would only put off the refusal.
_LEAST_MAP_BYTES: Final = 64 * 1024 * 1024
# A transaction lasts milliseconds; one that waits longer waits for another process, and a fork should not.
_FORK_WAIT_S: Final = 5.0
_FLUSHES_KEPT: Final = 8


class Environment:
    """An open store file. Thread-safe; usable after a fork, where it reopens itself.

    Build it with `open_environment` only; it is shared and counted there.
    """

    def __init__(
        self,
        directory: Path,
        *,
        map_size_bytes: int,
        durability: Durability,
        read_only: bool,
        open_timeout_s: float,
    ) -> None:
        self.directory = directory
        self._data_path = directory / DATA_FILE
        self._suspect_path = str(directory / SUSPECT_FILE)
        self.durability: Durability = durability
        self.read_only = read_only
        self._map_size_bytes = map_size_bytes
        self._open_timeout_s = open_timeout_s
        self._lock = threading.Lock()
        self._users_count = 0
        self._raw: lmdb.Environment | None = None
        self.tables: dict[Table, Any] = {}
        self._data_fd = -1
        self._share_fd = -1
        self._file_bytes = 0
        self._page_bytes = 4096
        self._process_id = 0
        self._closed = False
        self._must_reopen = False
        self._has_less_map = False  # than was asked for
        self._flushes_s: deque[float] = deque([0.0], maxlen=_FLUSHES_KEPT)
        self._gate = threading.Lock()
        self._passed = threading.Condition(self._gate)
        self._visits = Visits()
        self._forking_threads: set[int] = set()
        self._reopen()

    def _reopen(self) -> None:
        with mapped_errors(self.directory):
            # Kept while the store is open, so that its file is never replaced under a process that uses it.
            share_fd = share_directory(self.directory, self._open_timeout_s)
        try:
            self._open_raw()
        except BaseException:
            if share_fd >= 0:
                os.close(share_fd)
            raise
        self._share_fd = share_fd
        self._process_id = os.getpid()

    def _open_raw(self) -> None:
        check_length(self._data_path)
        with mapped_errors(self.directory):
            raw = self._open_fitting()
            try:
                self._map_size_bytes = int(raw.info()["map_size"])
                self.tables = self._open_tables(raw)
                self._page_bytes = int(raw.stat()["psize"])
                self.place = Place(self._data_path)
                self._data_fd = -1 if self.read_only else os.open(self._data_path, os.O_RDWR | os.O_CLOEXEC)
            except BaseException:
                raw.close()
                raise
            self._raw = raw
            self._file_bytes = 0

    def _open_fitting(self) -> lmdb.Environment:
        """Open the database with the map size that was asked for, or a smaller one where address space is limited.

        The largest that fits is halved once more, as the process needs room as well. Processes may differ in this: the
        file keeps the largest size that any of them used.
        """
        size_bytes = self._map_size_bytes
        while True:
            try:
                raw = self._open(size_bytes)
            except lmdb.MemoryError:
                if size_bytes < 2 * _LEAST_MAP_BYTES:
                    raise
                size_bytes //= 2
                continue
            if size_bytes == self._map_size_bytes or size_bytes < 2 * _LEAST_MAP_BYTES:
                break
            raw.close()
            raw = self._open(size_bytes // 2)
            break
        self._has_less_map = self._has_less_map or size_bytes < self._map_size_bytes
        return raw

    def _follow_growth(self, raw: lmdb.Environment) -> None:
        """Map what another process has made the file grow to.

        Raises:
            StorageError: It does not fit into this process's address space. LMDB would be left without any map when it
                tried, so the store is opened anew instead, at the next call that finds nobody inside.
        """
        if not self._has_less_map:
            raw.set_mapsize(0)
            return
        self._must_reopen = True
        raise StorageError(
            "the store has outgrown the address space that this process could map",
            kind="map_full",
            retryable=True,
            hint="Repeat the call, or raise the limit (ulimit -v).",
            subject=str(self.directory),
        )

    def _open(self, map_size_bytes: int) -> lmdb.Environment:
        return open_database(
            self.directory, map_size_bytes, durability=self.durability, read_only=self.read_only
        )

    def _open_tables(self, raw: lmdb.Environment) -> dict[Table, Any]:
        if self.read_only:
            return open_tables(raw)
        raw.reader_check()
        with hold_to_write(self._data_path):
            return open_tables(raw)

    def _current(self) -> lmdb.Environment:
        if self._process_id != os.getpid() and not self._closed:
            with self._lock:
                if self._process_id != os.getpid():
                    if self._raw is not None:
                        raise StateError(
                            "this process was forked while a transaction of its parent was open",
                            hint="Start workers with spawn or forkserver, or fork while no thread uses the store.",
                            subject=str(self.directory),
                        )
                    self._reopen()
        if self._raw is None or self._closed:
            raise StateError("the store is closed", hint="Open a new ArtifactStore.")
        return self._raw

    @contextlib.contextmanager
    def holding_off_forks(self) -> Generator[None]:
        """Make a fork wait for the end of the block, as for a transaction's: for locks a child would inherit."""
        visit = Visit()
        try:
            self.enter(visit)
            yield
        except BaseException:
            self.leave(visit)
            raise
        try:
            self.leave(visit)
        except BaseException:  # an interrupt
            self.leave(visit)
            raise

    def enter(self, visit: Visit) -> lmdb.Environment:
        """Count a visit of this thread among those that a fork waits for; a thread that is in is never held up.

        Every call is followed by one of `leave`, which may be repeated, unless it raised. The lock itself is entered,
        never the condition: an interrupt inside ``Condition.__enter__``, which is Python, leaves it locked for ever.
        """
        try:
            with self._gate:
                if self._forking_threads and visit.thread not in self._visits.threads():
                    self._passed.wait_for(lambda: not self._forking_threads)
                if self._must_reopen and not self._visits.threads() and self._process_id == os.getpid():
                    self._revive()
                self._visits.add(visit)
            return self._current()
        except BaseException:
            self.leave(visit)
            raise

    def leave(self, visit: Visit) -> None:
        """End what `enter` began."""
        with self._gate:
            self._visits.take_out(visit)
            if self._forking_threads:
                self._passed.notify_all()
            if self._closed and not self._visits.threads():
                self._close_raw()

    def _revive(self) -> None:
        """Open the database anew; called with the gate held and no transaction open.

        When the meta page could not be written, LMDB refuses every transaction until that is done.
        """
        if self._closed:
            return
        self._close_database()
        self._open_raw()
        self._must_reopen = False

    def before_fork(self) -> None:
        """Keep new transactions out, and wait a while for the open ones to end, those of this thread excepted."""
        thread = threading.get_ident()
        with self._gate:
            self._forking_threads.add(thread)
            self._passed.wait_for(lambda: not (self._visits.threads() - {thread}), timeout=_FORK_WAIT_S)

    def after_fork_in_parent(self) -> None:
        """Let transactions in again, unless another thread is forking as well."""
        with self._gate:
            self._forking_threads.discard(threading.get_ident())
            self._passed.notify_all()

    def after_fork_in_child(self) -> None:
        """Close the parent's database here, to be opened anew; possible only when no transaction was open.

        LMDB forbids the use of an inherited database, and closing one ends its open transactions in the reader table
        that all processes share, which would take the parent's snapshots away from under it.
        """
        quiet = not self._visits.threads()
        self._lock = threading.Lock()
        self._gate = threading.Lock()
        self._passed = threading.Condition(self._gate)
        self._visits = Visits()
        self._forking_threads = set()
        if quiet and self._raw is not None:
            self._close_database()
            self._close_share()

    @property
    def flush_s(self) -> float:
        """Seconds that writing and flushing a transaction takes on this disk: the least of the last few, 0 at first.

        The least, because a busy machine makes some of them longer, and that is not the disk's doing.
        """
        return min(self._flushes_s)

    @property
    def last_flush_s(self) -> float:
        """Seconds that the last transaction of this process took to be written and flushed."""
        return self._flushes_s[-1]

    def read(self) -> Snapshot:
        """Return the ``with`` block of a snapshot; keep it short, as it holds back the reuse of freed pages."""
        return Snapshot(self)

    def begin_read(self, raw: lmdb.Environment) -> lmdb.Transaction[memoryview]:
        """Begin a read transaction, once this thread has entered."""
        try:
            return raw.begin(buffers=True)
        except lmdb.ReadersFullError:
            raw.reader_check()
            return raw.begin(buffers=True)
        except lmdb.MapResizedError:
            self._follow_growth(raw)
            return raw.begin(buffers=True)

    @contextlib.contextmanager
    def write(self, reserve_bytes: int = 0) -> Generator[WriteTransaction]:
        """Open the write transaction, waiting for its lock without a limit; commit when the block ends well.

        Args:
            reserve_bytes: About how many bytes the block will add; the file is extended ahead of need.

        Raises:
            ReadOnlyStoreError: The store was opened read-only.
            StoreSuspectError: An earlier write failed; nothing more is written before a full verify.
            StorageError: The disk is full, failed, or the map is full; nothing of the block is stored.
        """
        if self.read_only:
            raise ReadOnlyStoreError("the store is open for reading only", subject=str(self.directory))
        with (
            self.holding_off_forks(),
            mapped_errors(self.directory, writing=True),
            self._held_to_write(),
        ):
            raw = self._current()
            transaction: lmdb.Transaction[memoryview] | None = None
            lent: WriteTransaction | None = None
            try:
                transaction = self._begin_write(raw)
                lent = WriteTransaction(transaction, self.tables, lambda more: self._keep_headroom(raw, more))
                self.check_suspect()  # under the lock: the writer before may have set the mark
                self.place.check()
                self._keep_headroom(raw, reserve_bytes)
                yield lent
                started_s = time.perf_counter()
            except BaseException:
                if transaction is not None:
                    transaction.abort()
                if lent is not None:
                    lent.is_stored = False
                raise
            try:
                transaction.commit()
                lent.is_stored = True
            except BaseException:
                self._must_reopen = True
                lent.is_stored = bool(lent.is_stored)
                raise
            self._flushes_s.append(time.perf_counter() - started_s)

    def _held_to_write(self) -> contextlib.AbstractContextManager[None]:
        self.place.check()  # says more than that there is no file to hold
        return hold_to_write(self._data_path)

    def _begin_write(self, raw: lmdb.Environment) -> lmdb.Transaction[memoryview]:
        try:
            return raw.begin(write=True, buffers=True)
        except lmdb.MapResizedError:
            self._follow_growth(raw)
            return raw.begin(write=True, buffers=True)

    def _keep_headroom(self, raw: lmdb.Environment, reserve_bytes: int) -> None:
        """Extend the file with written zeroes while the write lock is held, so that no commit changes its size."""
        used_bytes = (int(raw.info()["last_pgno"]) + 1) * self._page_bytes
        wanted_bytes = used_bytes + HEADROOM_LOW_BYTES + 2 * reserve_bytes
        if self._file_bytes >= wanted_bytes:
            return
        self._file_bytes = os.fstat(self._data_fd).st_size
        if self._file_bytes >= wanted_bytes:
            return
        start_bytes = self._file_bytes
        end_bytes = min(wanted_bytes + HEADROOM_STEP_BYTES, self._map_size_bytes)
        try:
            while self._file_bytes < end_bytes:
                self._file_bytes += os.pwrite(self._data_fd, _ZEROES, self._file_bytes)
            os.fsync(self._data_fd)
            drop_cached(self._data_fd, start_bytes)  # written in large pieces, see docs/decisions.md, D23
        except OSError as error:
            # Room that cannot be prepared is not yet room that is missing: the reserve already in the file may do.
            self._file_bytes = os.fstat(self._data_fd).st_size
            if (
                error.errno not in {errno.ENOSPC, errno.EDQUOT}
                or self._file_bytes < used_bytes + 2 * reserve_bytes
            ):
                raise

    def check_suspect(self) -> None:
        """Raise when an earlier write may have lost bytes.

        Raises:
            StoreSuspectError: The mark is on the disk, and this thread does not mend the store.
        """
        if os.access(self._suspect_path, os.F_OK) and not is_mended(self.directory):
            raise StoreSuspectError(
                "an earlier write to this store failed, so its file may not hold what was acknowledged",
                hint="Run `cas verify --full`; it reads everything back and lifts the mark when all is well.",
                subject=str(self.directory),
            )

    def clear_suspect(self) -> None:
        """Lift the mark; only a complete verify may.

        Raises:
            StorageError: The folder may not be written to, or the disk failed.
        """
        with mapped_errors(self.directory):
            (self.directory / SUSPECT_FILE).unlink(missing_ok=True)
            sync_directory(self.directory)

    def file_bytes(self) -> int:
        """Return the size of the data file, headroom included."""
        with mapped_errors(self.directory):
            return self._data_path.stat().st_size

    def used_bytes(self) -> int:
        """Return the bytes of the data file up to the last page in use."""
        with self.holding_off_forks():
            return (int(self._current().info()["last_pgno"]) + 1) * self._page_bytes

    def release_pages(self) -> None:
        """Give back the memory that reading has mapped in; for long jobs that read every blob once.

        The pages are clean and shared with the file, so only this process's view of them goes. No effect where the
        system has no such call.
        """
        if self._raw is not None and self._process_id == os.getpid():
            release_mapping(self._data_path)

    def drop_cached(self) -> None:
        """Ask the system to forget what it has cached of the file, so that reading asks the disk.

        Pages that another process has mapped, or that are not written back yet, stay. For a check after an I/O error.
        """
        self.release_pages()
        with mapped_errors(self.directory):
            descriptor = os.open(self._data_path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                drop_cached(descriptor)
            finally:
                os.close(descriptor)

    def suspect_mark(self) -> tuple[int, int] | None:
        """Return what tells this suspect mark from a later one, or None when there is none.

        Raises:
            StorageError: This user may not look into the folder, or a disk refused.
        """
        return suspect_mark(self.directory)

    def copy_to(self, directory: Path) -> None:
        """Write a consistent copy of the data file into an existing empty folder, while writers go on.

        Without free pages: LMDB copies those only while it holds its write lock.
        """
        with self.holding_off_forks(), mapped_errors(directory, writing=True):
            self._current().copy(str(directory), compact=True)

    def _close_database(self) -> None:
        """Close the database and its file; an interrupt leaves each of them closed and forgotten, or as it was."""
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()
        descriptor, self._data_fd = self._data_fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _close_share(self) -> None:
        descriptor, self._share_fd = self._share_fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    @property
    def map_size_bytes(self) -> int:
        """Address space the file is mapped with."""
        return self._map_size_bytes

    def retain(self) -> bool:
        """Count one more user; False once the file is closed. Called with the registry locked."""
        with self._gate:
            if self.is_gone:
                return False
            self._closed = False
            self._users_count += 1
            return True

    def release(self) -> None:
        """Count one user less; called with the registry locked.

        After the last one no transaction begins any more. The file is closed at the end of those that are open: LMDB
        would wait for ever, or take their memory away, if it were closed beside them.
        """
        with self._gate:
            self._users_count -= 1
            if self._users_count <= 0:
                self._closed = True
                if not self._visits.threads():
                    self._close_raw()

    @property
    def is_gone(self) -> bool:
        """True once the file is closed, or was left to the parent that this process was forked from."""
        return self._closed and (self._raw is None or self._process_id != os.getpid())

    def _close_raw(self) -> None:
        """Close the file; called with the gate held and nobody inside."""
        if self._process_id == os.getpid():
            self._close_database()
            self._close_share()
        self._raw = None
        self._data_fd = -1

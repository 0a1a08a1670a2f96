"""The meter: counts of this process that have no transaction of their own, until one takes them along.

How long a commit took is known only after its flush, and a refused commit writes nothing; so both wait here and are
written with the next commit of this process, with `Meter.flush`, or when the store is closed. Invariant: no commit
waits for a flush of its own on their behalf. A kill loses what waits here, never the count of a commit that was
stored. Thread-safe; one per process and environment; a forked child begins with an empty one.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cas import metrics
from cas.errors import ArtifactStoreError, InvalidInputError, SecretDetectedError, StorageError
from cas.perprocess import PerProcess

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from cas.lmdbenv import Environment, WriteTransaction
    from cas.metrics import Counts

# A process whose commits are all done by another one would never write what waits; from this many on it does.
MOST_WAITING: Final = 256
_HOURS_PER_DAY: Final = 24
Write = Callable[["WriteTransaction", "Mapping[int, Counts]"], None]


class _Loan:
    """Counts given to a transaction, the last one that wrote them, and whether that is still to be told."""

    __slots__ = ("counts", "transaction")

    def __init__(self, counts: dict[int, Counts]) -> None:
        self.counts = counts
        self.transaction: WriteTransaction | None = None


class Meter:
    """What waits to be counted.

    Args:
        environment: The open store.
    """

    def __init__(self, environment: Environment) -> None:
        self._find_environment = weakref.ref(environment)  # the registry below must not keep it alive
        self._lock = threading.Lock()
        self._waiting: dict[int, Counts] = {}
        self._waiting_count = 0
        self._sized_hour = -1
        self._loans: list[_Loan] = []  # whose borrower was interrupted while another thread committed for it

    @property
    def is_pressing(self) -> bool:
        """True when so much waits that the next commit should be written by this process itself."""
        return self._waiting_count >= MOST_WAITING

    def note(self, now_us: int, counts: Mapping[str, int]) -> None:
        """Add counts to what waits."""
        with self._lock:
            metrics.merge(self._waiting.setdefault(metrics.hour_of(now_us), {}), counts)
            self._waiting_count += 1

    def note_failure(self, now_us: int, error: BaseException) -> None:
        """Count a commit that was refused or failed."""
        if isinstance(error, SecretDetectedError):
            self.note(now_us, {"secret_refusals": 1, "secret_detections": max(1, len(error.findings))})
        else:
            self.note(now_us, {f"commit_failures.{_reason(error)}": 1})

    @contextlib.contextmanager
    def failures(self, now_us: Callable[[], int]) -> Generator[None]:
        """Count the call in the block if it fails."""
        try:
            yield
        except Exception as error:
            self.note_failure(now_us(), error)
            raise

    @contextlib.contextmanager
    def lent(self, now_us: int, keep_days: int) -> Generator[Write]:
        """Give what waits to the transaction that the block commits, and take it back when it was not written.

        Yields:
            A function to be called in the transaction, with what the transaction itself is to be counted for, by the
            hour; a repeated call in another transaction is fine.
        """
        loan = _Loan(self._take(now_us))

        def write(transaction: WriteTransaction, own: Mapping[int, Counts]) -> None:
            with self._lock:
                loan.transaction, taken = transaction, loan.counts
            for hour in sorted({*taken, *own}):
                parts = [counts[hour] for counts in (taken, own) if hour in counts]
                metrics.add(transaction, hour * metrics.HOUR_US, *parts)
            if any(metrics.FILE_BYTES in counts for counts in taken.values()):  # once an hour
                metrics.fold(transaction, now_us, keep_days * _HOURS_PER_DAY)

        try:
            yield write
        finally:
            with self._lock:
                self._loans.append(loan)
                self._settle_loans()

    def flush(self, keep_days: int) -> bool:
        """Write what waits in a transaction of its own; tell whether there was anything.

        Raises:
            StorageError: The disk refused; it goes on waiting.
        """
        with self._lock:
            self._settle_loans()
            if not self._waiting:
                return False
            now_us = (
                max(self._waiting) * metrics.HOUR_US
            )  # no look at the clock, which a caller may have counted
        with self.lent(now_us, keep_days) as write, self._environment().write() as transaction:
            write(transaction, {})
        return True

    def _environment(self) -> Environment:
        environment = self._find_environment()
        if environment is None:
            raise StorageError("the store is closed")
        return environment

    def _take(self, now_us: int) -> dict[int, Counts]:
        hour = metrics.hour_of(now_us)
        # Before the lock is taken: it waits for a fork, which waits for transactions, which take the lock to count.
        sizes = {} if hour == self._sized_hour else self._sizes()
        with self._lock:
            self._settle_loans()
            taken, self._waiting, self._waiting_count = self._waiting, {}, 0
            if sizes and hour != self._sized_hour:
                metrics.merge(taken.setdefault(hour, {}), sizes)
                self._sized_hour = hour
        return taken

    def _sizes(self) -> Counts:
        environment = self._environment()
        try:
            return {
                metrics.FILE_BYTES: environment.file_bytes(),
                metrics.USED_BYTES: environment.used_bytes(),
            }
        except ArtifactStoreError:  # what is wrong is told by the transaction
            return {}

    def _settle_loans(self) -> None:
        """Take back what was not stored; called with the lock held. What a transaction that goes on has, it keeps."""
        for loan in self._loans.copy():
            stored = False if loan.transaction is None else loan.transaction.is_stored
            if stored is None:
                continue
            self._loans.remove(loan)
            taken, loan.counts = loan.counts, {}  # work repeated later must not write them a second time
            if stored:
                continue
            for hour, counts in taken.items():
                metrics.merge(self._waiting.setdefault(hour, {}), counts)
            self._waiting_count += len(taken)


def _reason(error: BaseException) -> str:
    if isinstance(error, InvalidInputError):
        return "invalid_input"
    if isinstance(error, StorageError):
        return "storage"
    return "other" if isinstance(error, ArtifactStoreError) else "unexpected"


_meters: Final[PerProcess[Meter]] = PerProcess()


def meter_of(environment: Environment) -> Meter:
    """Return the meter of an environment, one for all stores of this process; a forked child gets its own."""
    return _meters.get(environment, lambda: Meter(environment))

"""The ``with`` block of a snapshot.

Invariant: however it is left, its transaction is ended and a fork that waits for it may go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lmdb

from cas.lmdbenv.faults import as_ours
from cas.lmdbenv.transaction import ReadTransaction
from cas.lmdbenv.visits import Visit

if TYPE_CHECKING:
    from types import TracebackType

    from cas.lmdbenv.environment import Environment


class Snapshot:
    """The ``with`` block of one read transaction, for one thread; a commit opens several, so it costs little."""

    __slots__ = ("_environment", "_transaction", "_visit")

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._transaction: ReadTransaction | None = None
        self._visit = Visit()

    def __enter__(self) -> ReadTransaction:
        environment = self._environment
        try:
            raw = environment.enter(self._visit)
            self._transaction = ReadTransaction(environment.begin_read(raw), environment.tables)
        except (lmdb.Error, OSError) as error:
            self._end()
            raise as_ours(error, environment.directory) from error
        except BaseException:
            self._end()
            raise
        return self._transaction

    def _end(self) -> None:
        """End the transaction and the visit; done again after an interrupt, it finds each step done or not done."""
        if self._transaction is not None:
            self._transaction.end()
            self._transaction = None
        self._environment.leave(self._visit)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end()
        except BaseException:
            self._end()
            raise
        if isinstance(error, lmdb.Error | OSError):
            raise as_ours(error, self._environment.directory) from error

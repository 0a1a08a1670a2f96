"""What the store's tests share: stores with a clock of their own, ordinary runs, and a dump of every row."""

from __future__ import annotations

import contextlib
import itertools

from cas import ArtifactStore, ArtifactStoreConfig
from cas.lmdbenv import Table

FIRST_SECOND = 1_762_525_800  # 2025-11-07T14:30:00Z
FILES = {"strategy.py": b"FAST, SLOW = 10, 30\n", "trades.csv": b"time,pnl\n1,2.5\n2,-1\n"}
METADATA = {
    "agent_version": "coder-v1.0",
    "llm_version": "gpt-4",
    "test_metrics": {"total_trades": 12, "net_pnl": 120.5, "win_rate": 0.58},
}


def make_clock(first_s=FIRST_SECOND):
    """Return a clock in nanoseconds that moves on by a second with every look at it."""
    seconds = itertools.count(first_s)
    return lambda: next(seconds) * 1_000_000_000


class NoRepository:
    """What a git reader says where there is no repository; keeps these tests apart from the exporter's half."""

    def branch_tip(self, repo_path, branch):
        return None


def open_store(directory, *, clock=None, git_reader=None, read_only=False, create=True, **settings):
    """Open a store in ``directory``; the secret gate is off unless asked for, as building its engine takes a while."""
    config = ArtifactStoreConfig(repo_path=directory, **{"scan_for_secrets": False, **settings})
    return ArtifactStore(
        config,
        clock=clock or make_clock(),
        git_reader=git_reader or NoRepository(),
        read_only=read_only,
        create=create,
    )


def commit(store, correlation_id="corr_1", **changes):
    """Commit an ordinary run, with some arguments changed."""
    arguments = {"workflow_id": "wf", "task_id": "task", "files": FILES, "metadata": METADATA}
    return store.commit_artifacts(**{**arguments, "correlation_id": correlation_id, **changes})


def dump(store):
    """Return every row of every table."""
    with store.environment.read() as transaction:
        return {table.name: dict(transaction.scan(table)) for table in Table}


def row_counts(store):
    """Return the number of rows of every table."""
    return {name: len(rows) for name, rows in dump(store).items()}


class _UndoneError(Exception):
    """Ends a transaction without a trace."""


@contextlib.contextmanager
def undone_transaction(store):
    """Give a write transaction that is undone at the end, so that the next test finds the same store."""
    with contextlib.suppress(_UndoneError), store.environment.write() as opened:
        yield opened
        raise _UndoneError

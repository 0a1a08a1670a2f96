"""The test kit: strategies, a model, a state machine, invariants and faults, for tests of code that uses a store.

    from cas.testing import rollback_test_case

Needs the extra ``testing`` (Hypothesis). Nothing outside of tests imports this package, and the product has no switch
for it. `gitexport.testing` adds the rules of export and push.
"""

from __future__ import annotations

from cas.testing.clock import SimulatedClock
from cas.testing.faults import (
    SimulatedCrash,
    crash_at_flush,
    crash_at_rename,
    crash_at_transaction,
    damage_stream,
    damaged_stream,
    failing_disk,
    failing_files,
    full_disk,
)
from cas.testing.machine import NoGitBranches, RollbackMachine, rollback_test_case
from cas.testing.model import StoredRun, StoreModel
from cas.testing.strategies import Run

__all__ = [
    "NoGitBranches",
    "RollbackMachine",
    "Run",
    "SimulatedClock",
    "SimulatedCrash",
    "StoreModel",
    "StoredRun",
    "crash_at_flush",
    "crash_at_rename",
    "crash_at_transaction",
    "damage_stream",
    "damaged_stream",
    "failing_disk",
    "failing_files",
    "full_disk",
    "rollback_test_case",
]

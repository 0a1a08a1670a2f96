"""The exporter on repositories that keep their refs in reftables: the same tests as for files, run again.

git has reftable since 2.45; with an older one this module is skipped. Left out are the tests that look into files of
refs or make such files by hand.
"""

from __future__ import annotations

import pytest

from gitexport.git import git_version
from tests.export import (
    test_delivery,
    test_exporter,
    test_kills,
    test_obstacles,
    test_rollbacks,
    test_untouched,
)

if git_version() < (2, 45):
    pytest.skip(
        f"git {'.'.join(map(str, git_version()))} has no reftable, git 2.45 or newer has",
        allow_module_level=True,
    )

_LOOKS_INTO_FILES = {"test_export_onto_loose_refs_killed_at_every_step_ends_the_same"}
for _module in (test_delivery, test_exporter, test_kills, test_obstacles, test_rollbacks, test_untouched):
    globals().update(
        {
            name: value
            for name, value in vars(_module).items()
            if not name.startswith("__") and name not in _LOOKS_INTO_FILES
        }
    )


@pytest.fixture
def ref_format():
    return "reftable"

"""The exporter on repositories that keep their refs in reftables: the same tests as for files, run again.

git has reftable since 2.45; with an older one this module is skipped. Left out are the tests that look into files of
refs or make such files by hand.
"""

from __future__ import annotations

import pytest

from gitexport.git import git_version
from tests.export import (
    test_archive,
    test_archive_remote,
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

_LOOKS_INTO_FILES = {
    "test_export_killed_at_every_step_ends_the_same",  # in its place stands the one below
    "test_export_onto_loose_refs_killed_at_every_step_ends_the_same",
    "test_archive_ref_that_is_wrong_is_reported",
    "test_branch_moved_by_git_while_the_refs_go_stands_where_it_was_put",
}
_MODULES = (
    test_archive,
    test_archive_remote,
    test_delivery,
    test_exporter,
    test_kills,
    test_obstacles,
    test_rollbacks,
    test_untouched,
)
for _module in _MODULES:
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


def test_export_into_a_reftable_killed_at_every_step_ends_the_same(place, killer):
    def make_runs(step):
        shared = {"shared.csv": b"the same in every run\n", "own.csv": f"{step}\n".encode()}
        return [place.commit(f"t{step}", f"a{step}", files=shared), place.commit(f"u{step % 3}", f"c{step}")]

    assert test_kills.kill_everywhere(place, killer, make_runs) > 20
    assert test_kills.follow_each_other(
        killer.moments,
        "open cas-refs.journal",
        "fsync",
        "fsync",
        "subprocess.Popen",
        "os.remove cas-refs.journal",
    )
    place.assert_exported()
    assert max(test_kills.object_counts(place).values()) == 1

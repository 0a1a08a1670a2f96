"""Who is to blame for a failed batch, and what is said of a branch that is checked out."""

import pytest

from cas.errors import ConflictError, IntegrityError
from cas.manifest import FileEntry
from gitexport import batch
from gitexport.entries import Entry

FILE = FileEntry("a.csv", 3, b"\x01" * 32, b"\x02" * 20)


def entry(sequence, branch, tags=(), files=()):
    named = tuple((f"refs/tags/{tag}", "00" * 20) for tag in tags)
    return Entry(
        sequence, f"refs/heads/{branch}", None, "00" * 20, named, (), tuple(files), (), f"c{sequence}"
    )


ENTRIES = [
    entry(1, "ai/w/t", tags=["corr_a"], files=[FILE]),
    entry(2, "ai/w/t", tags=["corr_b", "prompt_1"]),
    entry(3, "main", files=[FILE]),
    entry(4, "ai/w/tt"),
]


@pytest.mark.parametrize(
    ("subject", "sequences"),
    [
        ("refs/heads/ai/w/t", [1, 2]),
        ("refs/tags/corr_a", [1]),
        ("refs/tags/prompt_1", [2]),
        ("refs/heads/ai/w/t/below", [1, 2]),
        ("refs/heads/ai", [1, 2, 4]),
        ("refs/heads/ai/w/tt/x", [4]),
        ("01" * 32, [1, 3]),
        ("02" * 20, [1, 3]),
        ("refs/heads/other", []),
        ("", []),
    ],
)
def test_error_is_laid_to_the_entries_whose_ref_or_file_it_names(subject, sequences):
    assert [found.sequence for found in batch._culprits(subject, ENTRIES)] == sequences


def test_damage_is_an_integrity_error_about_bytes_that_an_entry_holds():
    damaged = IntegrityError("damaged", subject="01" * 32)
    assert batch._is_damage(damaged, ENTRIES)
    assert not batch._is_damage(damaged, ENTRIES[1:2])
    assert not batch._is_damage(IntegrityError("damaged", subject="refs/heads/main"), ENTRIES)
    assert not batch._is_damage(IntegrityError("damaged"), ENTRIES)
    assert not batch._is_damage(ConflictError("moved", subject="01" * 32), ENTRIES)


def test_checked_out_branch_is_told_with_the_command_that_takes_its_state_over():
    told = batch._checked_out("refs/heads/main", "/srv/a tree")
    assert told.startswith("branch main is checked out in /srv/a tree; ")
    assert "`git -C '/srv/a tree' restore --source=HEAD --staged --worktree -- Backtest/codes`" in told

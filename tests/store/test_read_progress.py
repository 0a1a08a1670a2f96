"""What a caller is told while a run is read: bytes, up to the total and no further."""

import pytest

from cas import InvalidFileError
from tests.store.stores import open_store

LARGE_BYTES = 2_000


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr("cas.intake.LARGE_FILE_BYTES", LARGE_BYTES)
    monkeypatch.setattr("cas.inputfile.CHUNK_BYTES", 500)
    with open_store(tmp_path / "place") as opened:
        yield opened


@pytest.fixture
def told(store):
    """Commits files, and returns what was told meanwhile."""

    def commit(files, correlation_id="a"):
        calls = []
        store.commit_artifacts(
            "wf",
            "t",
            files,
            correlation_id=correlation_id,
            progress=lambda phase, done, total: calls.append((phase, done, total)),
        )
        return calls

    return commit


def test_read_progress_counts_files_of_every_kind_up_to_the_total(told, tmp_path):
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    small.write_bytes(b"1" * 100)
    large.write_bytes(bytes(range(250)) * 9)  # above the limit: read to judge it, and again to store it
    calls = told({"small.csv": small, "memory.csv": b"2" * 30, "large.csv": large})
    assert {phase for phase, _, _ in calls} == {"read"}
    assert {total for _, _, total in calls} == {100 + 30 + 2 * 2250}
    done = [each for _, each, _ in calls]
    assert done == sorted(set(done))
    assert done[:2] == [100, 130]
    assert done[-1] == calls[-1][2]
    assert len(calls) == 2 + 2 * 5


def test_read_progress_of_a_large_file_that_is_stored_already_ends_at_the_total(told, tmp_path):
    large = tmp_path / "large.csv"
    large.write_bytes(bytes(range(250)) * 9)
    told({"large.csv": large})
    calls = told({"large.csv": large}, "b")
    assert calls[-1] == ("read", 4500, 4500)
    assert len(calls) == 5 + 1


def test_read_progress_of_a_missing_file_leaves_the_refusal_to_the_intake(told, tmp_path):
    with pytest.raises(InvalidFileError, match="does not exist"):
        told({"missing.csv": tmp_path / "missing.csv"})

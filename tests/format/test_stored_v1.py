"""A store written by an earlier version is read, checked and continued."""

from __future__ import annotations

import json

import pytest

from cas import gitform, records
from tests.format.make_store import FOLDER, FORMATS, NAMES, describe, fill, noise
from tests.store.stores import METADATA, dump, open_store


@pytest.mark.parametrize("read_only", [True, False])
def test_stored_store_tells_what_was_told_when_it_was_made(stored, read_only):
    folder, expected = stored
    with open_store(folder, read_only=read_only) as store:
        before = dump(store)
        described = describe(store, expected["results"])
        assert json.loads(json.dumps(described)) == expected
        assert dump(store) == before


def test_stored_store_is_sound_and_its_ids_reproduce(stored):
    folder, expected = stored
    with open_store(folder, read_only=True) as store:
        report = store.verify()
        assert report.ok, report.faults
        assert report.manifest_count == len(expected["results"])
        with store.environment.read() as transaction:
            oids = set()
            for sequence in range(1, report.manifest_count + 1):
                loaded, row = records.load(transaction, sequence)
                gitform.check_row(loaded, row)
                oids.add(row.commit_oid.hex())
        assert oids == {told["commit_sha"] for told in expected["results"].values()}


def test_stored_files_are_byte_for_byte_what_was_committed(stored, tmp_path):
    folder, _ = stored
    with open_store(folder) as store:
        assert store.read_file("large", "large.bin") == noise(2000)
        for number, name in enumerate(NAMES[:3]):
            assert store.read_file("corr_abc123", name) == b"content of %d\n" % number
        assert store.read_file("corr_abc123", "empty") == b""
        store.checkout("corr_abc123@2", tmp_path / "out")
        assert (tmp_path / "out" / "a.txt").read_bytes() == b"new\n"


def test_stored_store_takes_the_same_runs_as_known(stored):
    folder, expected = stored
    with open_store(folder) as store:
        first = expected["results"]["first"]
        again = store.commit_artifacts(
            "wf_rsi",
            "task_001",
            {name: store.read_file("corr_abc123", name) for name in NAMES},
            METADATA,
            "abc123",
            "7a8b9c0d1e2f3a4b",
        )
        assert again == {**first, "pushed": True, "export_state": "pushed"}
        assert store.revert_to_tag("corr_abc123", "ai/generated/wf_rsi/task_001")["created"] is False


def test_stored_store_is_continued(stored):
    folder, expected = stored
    with open_store(folder) as store:
        results = expected["results"]
        next_run = store.commit_artifacts(
            "wf_rsi", "task_001", {"f": b"same"}, None, "abc123", "7a8b9c0d1e2f-other"
        )
        assert next_run["revision"] == 3
        assert next_run["tags"] == ["corr_abc123@3"], "the prompt tag has its owner"
        assert store.history(next_run["branch"])[0]["parent"] == results["own"]["commit_sha"]
        assert store.verify().ok


@pytest.mark.parametrize("object_format", FORMATS)
def test_the_same_calls_still_give_the_stored_ids(tmp_path, monkeypatch, object_format):
    # What git is told must not change within format 1: a store filled anew has the ids of the stored one.
    from cas import blobs, intake
    from tests.format import make_store

    monkeypatch.setattr(intake, "LARGE_FILE_BYTES", make_store.LARGE_BYTES)
    monkeypatch.setattr(blobs, "PART_BYTES", make_store.PART_BYTES)
    expected = json.loads((FOLDER / f"{object_format}.json").read_text())["results"]
    with open_store(
        tmp_path,
        git_reader=make_store.Reader(object_format),
        object_format=object_format,
        indexed_metrics=("net_pnl",),
    ) as store:
        results = json.loads(json.dumps(fill(store)))
    for name, told in expected.items():
        assert common(results[name], told) == told


def common(result, told):
    """Return a result without the keys that were added since it was told."""
    if not isinstance(told, dict):
        return result
    return {key: common(result.get(key), value) for key, value in told.items()}


def test_stored_stores_are_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 100_000

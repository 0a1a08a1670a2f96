"""Damage: every table, every kind of change; what is broken is named, and no read gives wrong bytes or another run.

Changes are made below the store's own code, in the database itself, as a failing disk or a stray program makes them.
"""

from __future__ import annotations

import itertools

import lmdb
import pytest

from cas import ArtifactStoreError, blobs, check, intake, metrics, outbox
from cas.lmdbenv import DATA_FILE
from cas.lmdbenv import transaction as lmdb_transaction
from tests.store.stores import METADATA, open_store

TABLES = ("meta", "manifests", "blobs", "segments", "catalog", "outbox", "receipts")
RUNS = {
    f"run{number}": {
        "workflow_id": f"wf{number % 2}",
        "task_id": f"task{number}",
        "files": {"a.txt": b"content %d\n" % number * 20, "shared.txt": b"the same in all\n"},
        "metadata": {**METADATA, "number": number},
        "prompt_hash": f"prompt{number}",
    }
    for number in range(3)
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A sound store's file, with every kind of row, and what its reads give."""
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch, open_store(folder, indexed_metrics=("net_pnl",)) as store:
        patch.setattr(intake, "LARGE_FILE_BYTES", 1000)
        patch.setattr(blobs, "PART_BYTES", 500)
        for correlation_id, run in RUNS.items():
            store.commit_artifacts(**run, correlation_id=correlation_id)
        (folder / "large.bin").write_bytes(bytes(range(256)) * 20)
        store.commit_artifacts("wf0", "large", [folder / "large.bin"], None, "large")
        store.revert_to_tag("corr_run0", "release")
        with store.environment.write() as transaction:
            outbox.record_exported(transaction, [1, 2], 5)
            outbox.record_pushed(transaction, [1], 6)
        copy = folder / "copy"
        copy.mkdir()
        store.environment.copy_to(copy)
        assert store.verify().ok
        truth = dict(read_all(store))
    assert not any(isinstance(answer, ArtifactStoreError) for answer in truth.values())
    return (copy / DATA_FILE).read_bytes(), truth


def read_all(store):
    """Yield a name for each read there is, and what it gives or the typed error it raises."""
    calls = {f"list {name}": (lambda n=name: store.list_artifacts(f"wf{n}")) for name in range(2)}
    calls["where"] = lambda: store.list_artifacts(where="net_pnl > 0 and number < 2")
    calls["release"] = lambda: store.history("release")
    for name in (*RUNS, "large"):
        calls[f"get {name}"] = lambda n=name: store.get_artifact_by_correlation_id(n)
        calls[f"show {name}"] = lambda n=name: store.show(f"corr_{n}")
        calls[f"files {name}"] = lambda n=name: [
            (entry["name"], store.read_file(n, entry["name"])) for entry in store.list_files(n)
        ]
        calls[f"metadata {name}"] = lambda n=name: store.read_file(n, "metadata.json")
        calls[f"status {name}"] = lambda n=name: store.export_status(n)
    for name, run in RUNS.items():
        calls[f"prompt {name}"] = lambda r=run: store.list_artifacts(prompt_hash=r["prompt_hash"])
        calls[f"task {name}"] = lambda r=run: store.list_artifacts(task_id=r["task_id"])
        calls[f"branch {name}"] = lambda r=run: store.show(f"ai/generated/{r['workflow_id']}/{r['task_id']}")
    for name, call in calls.items():
        try:
            yield name, call()
        except ArtifactStoreError as error:
            yield name, error


def row_keys(data, table, folder):
    """Return the keys of a table of a store's file."""
    (folder / DATA_FILE).write_bytes(data)
    with lmdb.open(str(folder), max_dbs=16, lock=False) as environment:
        database = environment.open_db(table.encode(), create=False)
        with environment.begin(db=database) as transaction:
            keys = [bytes(key) for key, _ in transaction.cursor()]
    return [key for key in keys if key != metrics.NEWEST_HOUR]  # counts are no part of what is promised


def flip(transaction, key, at):
    value = bytearray(transaction.get(key))
    value[at % len(value)] ^= 0x10
    transaction.put(key, bytes(value))


def truncate(transaction, key, at):
    transaction.put(key, transaction.get(key)[: -1 - at])


def delete(transaction, key, at):
    transaction.delete(key)


def swap(transaction, key, at):
    keys = [bytes(other) for other, value in transaction.cursor() if value != transaction.get(key)]
    if not keys:
        pytest.skip("all values of the table are the same")
    other = keys[at % len(keys)]
    first, second = transaction.get(key), transaction.get(other)
    transaction.put(key, second)
    transaction.put(other, first)


CHANGES = {
    "flip first": (flip, 0),
    "flip middle": (flip, 11),
    "flip last": (flip, -1),
    "truncate by one": (truncate, 0),
    "truncate by nine": (truncate, 8),
    "delete": (delete, 0),
    "swap": (swap, 0),
    "swap with the last": (swap, -1),
}


def damage(folder, data, table, key, change):
    folder.mkdir()
    (folder / DATA_FILE).write_bytes(data)
    function, at = CHANGES[change]
    with lmdb.open(str(folder), max_dbs=16, lock=False) as environment:
        database = environment.open_db(table.encode(), create=False)
        with environment.begin(write=True, db=database) as transaction:
            function(transaction, key, at)


def spread(keys):
    """Return some keys of each kind: the first and last of every family."""
    families = itertools.groupby(sorted(keys), key=lambda key: (key[:1], len(key)))
    chosen = []
    for _, group in families:
        members = list(group)
        chosen += {members[0], members[-1]}
    return sorted(chosen)


def may_be_missed(table, key, change):
    """Tell whether a change leaves a store that is as sound as one in which that row never was."""
    if change != "delete":
        return False
    # Hints and dates; a missing row of them says "not yet". Git objects of a queued run are made anew.
    if table == "outbox":
        return key[:1] == b"o"
    return table == "meta" and key in {b"last_export", b"last_push", b"exported_segment", b"indexed_metrics"}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("table", TABLES)
def test_damage_is_named_and_never_read(original, tmp_path, table, change):
    check_damage(original, tmp_path, table, change)


def believe_every_row(patch):
    """Rows without a seal that is looked at."""

    def unsealed(table, key, stored):
        return stored if table is lmdb_transaction.Table.SEGMENTS else stored[: -lmdb_transaction.SEAL_BYTES]

    patch.setattr(lmdb_transaction, "unsealed", unsealed)


def believe_every_stream(patch):
    """A verify that reads no blob."""
    patch.setattr(check, "blobs_match", lambda environment, report, budget, threads: iter(()))


def miss_nothing(patch):
    """A verify that does not look for what is not there."""
    for name in ("catalog_matches", "manifests_complete", "entries_or_receipts"):
        patch.setattr(check, name, lambda *words: iter(()))
    patch.setattr(check, "_WHOLE_STORE_CHECKS", ())


BREAKS = [
    *((believe_every_row, table, "flip last") for table in TABLES if table != "segments"),
    (believe_every_row, "meta", "truncate by one"),
    *((believe_every_row, table, "swap") for table in ("manifests", "catalog", "outbox")),
    *((miss_nothing, table, "delete") for table in ("manifests", "blobs", "catalog", "outbox", "receipts")),
    *(
        (believe_every_stream, "segments", change)
        for change in ("flip middle", "truncate by one", "delete", "swap")
    ),
]


@pytest.mark.parametrize(
    ("broken", "table", "change"), BREAKS, ids=lambda value: getattr(value, "__name__", value)
)
def test_store_that_believes_damage_is_noticed(original, tmp_path, monkeypatch, broken, table, change):
    broken(monkeypatch)
    with pytest.raises((AssertionError, ArtifactStoreError, ValueError, TypeError)):
        check_damage(original, tmp_path, table, change)


def check_damage(original, tmp_path, table, change):
    data, truth = original
    (tmp_path / "keys").mkdir()
    for number, key in enumerate(spread(row_keys(data, table, tmp_path / "keys"))):
        where = f"{table} {key!r} {change}"
        folder = tmp_path / str(number)
        damage(folder, data, table, key, change)
        try:
            store = open_store(tmp_path, store_path=folder)
        except ArtifactStoreError:
            assert table == "meta", where
            continue
        with store:
            report = store.verify()
            assert not report.ok or may_be_missed(table, key, change), f"{where}: not named"
            for name, answer in read_all(store):
                check_read(where, name, answer, truth[name])


def check_read(where, name, answer, right):
    """A read gives what it gave, or less of it, or refuses; never something else."""
    if isinstance(answer, ArtifactStoreError) or answer is None:
        return
    if name.startswith("status") and answer != right:
        # A receipt or entry that is gone cannot be told from one that never was; verify names it.
        assert set(answer) == set(right), f"{where}: {name}"
    elif isinstance(right, list):
        assert all(stateless(item) in map(stateless, right) for item in answer), f"{where}: {name}"
    else:
        assert stateless(answer) == stateless(right), f"{where}: {name}"


def stateless(record):
    """Return a record without its export state, which a lost receipt sets back."""
    if not isinstance(record, dict):
        return record
    return {key: value for key, value in record.items() if key not in {"export_state", "pushed"}}


@pytest.mark.parametrize("table", ["blobs", "manifests", "segments"])
@pytest.mark.parametrize("change", ["flip middle", "truncate by one", "swap"])
def test_damaged_content_is_named_with_the_runs_it_touches(original, tmp_path, table, change):
    data, _ = original
    (tmp_path / "keys").mkdir()
    key = row_keys(data, table, tmp_path / "keys")[0]
    damage(tmp_path / "store", data, table, key, change)
    with open_store(tmp_path, store_path=tmp_path / "store") as store:
        report = store.verify()
        assert {fault.level for fault in report.faults} >= {"must"}
        assert all(fault.check and fault.subject and fault.detail for fault in report.faults)
        assert report.as_dict()["ok"] is False


@pytest.mark.parametrize("change", ["flip middle", "swap"])
def test_same_run_again_over_damage_is_refused_or_right(original, tmp_path, change):
    """A known blob, manifest or catalog row that is damaged must not be taken into a new answer."""
    data, truth = original
    (tmp_path / "keys").mkdir()
    number = itertools.count()
    for table in ("blobs", "manifests", "catalog"):
        for key in spread(row_keys(data, table, tmp_path / "keys")):
            folder = tmp_path / str(next(number))
            damage(folder, data, table, key, change)
            with open_store(tmp_path, store_path=folder) as store:
                for correlation_id, run in RUNS.items():
                    try:
                        result = store.commit_artifacts(**run, correlation_id=correlation_id)
                    except ArtifactStoreError:
                        continue
                    assert result["commit_sha"] == truth[f"get {correlation_id}"]["commit_sha"], (table, key)


def test_verify_of_a_sample_and_in_a_time_box_says_that_it_is_not_complete(original, tmp_path):
    data, _ = original
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / DATA_FILE).write_bytes(data)
    with open_store(tmp_path, store_path=tmp_path / "store") as store:
        assert store.verify(sample=0.5).complete is False
        assert store.verify(max_duration_s=0).complete is False
        whole = store.verify()
        assert whole.complete
        assert (whole.manifest_count, whole.blob_count) == (5, 5)

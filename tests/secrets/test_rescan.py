"""A rescan step by step: what is looked at, what is counted, remembered and noted, and who holds what was found."""

from __future__ import annotations

import pytest

from cas import ArtifactStoreConfig, blobs, marks, rescan
from cas.digest import digest_bytes
from cas.intake import scan_mark
from cas.lmdbenv import Table
from cas.manifest import FileEntry, ImportedManifest, RollbackManifest, RunManifest
from cas.objects import MODE_FILE, TreeEntry, tree_bytes
from cas.rescan import Located, RescanReport
from cas.secretscan import SecretScanner, allowance
from tests.gc.keeping import collect, flip_byte, pretend_export
from tests.secrets.corpus import B62, Maker
from tests.store.stores import open_store

VALUE = Maker("rescan").of(B62, 36)
LEAK = f'api_key = "{VALUE}"\n'.encode()
WAIVED = LEAK.replace(b"\n", b"  # cas: allow-secret\n")
CLEAN, OTHER = b"FAST, SLOW = 10, 30\n", b"1,2\n" * 9
SLOW = r"[a-z]+(?=[=:]x)"


@pytest.fixture(scope="module")
def scanner():
    return SecretScanner()


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "store") as opened:
        yield opened


def commit(store, correlation_id, **changes):
    arguments = {"files": {"a.py": CLEAN}, "workflow_id": "w", "task_id": "t"} | changes
    return store.commit_artifacts(correlation_id=correlation_id, **arguments)


def scanned(store, scanner, **options):
    return rescan.scan_all(store.environment, scanner, **options)


def ruleset(store, data):
    with store.environment.read() as transaction:
        return blobs.find(transaction, digest_bytes(data)).ruleset


def test_report_of_a_leak_as_data_has_every_field(store, scanner):
    commit(store, "c0")
    leaked = commit(store, "c1", files={"a.py": LEAK, "b.csv": OTHER})
    back = store.revert_to_tag("corr_c1", "main")
    report = scanned(store, scanner)
    (finding,) = scanner.scan(LEAK, "a.py")
    run = {
        "kind": "commit", "branch": leaked["branch"], "commit_sha": leaked["commit_sha"], "tags": ["corr_c1"],
        "export_state": "queued", "correlation_id": "c1", "revision": 1,
    }  # fmt: skip
    rollback = {
        "kind": "rollback", "branch": "main", "commit_sha": back["commit_sha"], "tags": [],
        "export_state": "queued", "reverted_to": "corr_c1",
    }  # fmt: skip
    assert report.as_dict() == {
        "ok": False, "ruleset_version": scanner.ruleset_version, "runs": 3, "blobs_scanned": 3,
        "blobs_known_clean": 0, "bytes_scanned": len(LEAK + CLEAN + OTHER), "waived": 0, "purged": 0,
        "unreadable": [], "branches": [leaked["branch"], "main"], "tags": ["corr_c1"],
        "commits": sorted([leaked["commit_sha"], back["commit_sha"]]),
        "findings": [finding.as_dict() | {"digest": digest_bytes(LEAK).hex(), "runs": [run, rollback]}],
    }  # fmt: skip


def test_report_is_good_only_without_findings_and_with_everything_read():
    assert RescanReport("v").ok
    assert not RescanReport("v", unreadable=["manifest 1"]).ok
    finding = SecretScanner().scan(LEAK, "a.py")[0]
    found = RescanReport("v", located=[Located(finding, None)])
    assert not found.ok
    assert found.as_dict()["findings"] == [finding.as_dict() | {"digest": None, "runs": []}]
    counted = RescanReport("v", 1, 2, 3, 4, 5, 6, unreadable=["x"]).as_dict()
    assert list(counted.values())[:9] == [False, "v", 1, 2, 3, 4, 5, 6, ["x"]]


def test_second_rescan_knows_what_the_first_found_clean_and_fresh_reads_it_again(store, scanner):
    commit(store, "c0", files={"a.py": CLEAN, "b.csv": OTHER})
    first = scanned(store, scanner)
    assert (first.blob_count, first.known_count, first.byte_count) == (2, 0, len(CLEAN + OTHER))
    second = scanned(store, scanner)
    assert (second.blob_count, second.known_count, second.byte_count) == (0, 2, 0)
    third = scanned(store, scanner, fresh=True)
    assert (third.blob_count, third.known_count) == (2, 0)


def test_blob_of_many_runs_is_read_once_and_found_in_each(store, scanner):
    for number in range(3):
        commit(store, f"c{number}", files={"a.py": LEAK, "b.py": CLEAN})
    report = scanned(store, scanner)
    assert report.blob_count == 2
    (item,) = report.located
    assert [run["correlation_id"] for run in item.runs] == ["c0", "c1", "c2"]


def test_leaks_of_two_files_and_names_are_all_listed(store, scanner):
    second = LEAK.replace(VALUE.encode(), Maker("other").of(B62, 36).encode())
    commit(store, "c0", files={"a.py": LEAK, "b.py": second})
    commit(store, "c1", files={"c.py": LEAK})
    report = scanned(store, scanner)
    assert [(item.finding.name, item.digest) for item in report.located] == [
        ("a.py", digest_bytes(LEAK)),
        ("b.py", digest_bytes(second)),
        ("c.py", digest_bytes(LEAK)),
    ]
    assert [len(item.runs) for item in report.located] == [1, 1, 1]


def test_clean_blob_is_noted_for_its_kind_of_name_and_one_with_a_waiver_is_not(store, scanner):
    commit(store, "c0", files={"a.py": CLEAN, "b.py": WAIVED})
    report = scanned(store, scanner)
    assert (report.waived_count, report.located) == (1, [])
    assert ruleset(store, CLEAN) == scan_mark(scanner, "a.py")
    assert ruleset(store, WAIVED) == blobs.NOT_SCANNED
    assert scanned(store, scanner).blob_count == 1


def test_waived_and_clean_blobs_are_remembered_within_one_rescan(store, scanner):
    for number in range(2):
        commit(store, f"c{number}", files={"a.py": CLEAN, "b.py": WAIVED})
    report = scanned(store, scanner)
    assert (report.blob_count, report.waived_count) == (2, 1)
    again = scanned(store, scanner)
    assert (again.blob_count, again.known_count) == (1, 1)


def test_memory_of_scans_is_bounded(store, scanner, monkeypatch):
    monkeypatch.setattr(rescan, "_REMEMBERED_COUNT", 2)
    for number, data in enumerate([CLEAN, OTHER, CLEAN, b"x = 1\n", CLEAN]):
        commit(store, f"c{number}", files={"a.py": data})
    assert scanned(store, scanner).blob_count == 4, "forgotten when a third one came"


def test_reading_store_scans_and_notes_nothing(store, scanner, tmp_path):
    commit(store, "c0", files={"a.py": CLEAN, "b.py": LEAK})
    store.close()
    with open_store(tmp_path / "store", read_only=True) as reading:
        report = scanned(reading, scanner)
        assert (report.blob_count, len(report.located)) == (2, 1)
        assert ruleset(reading, CLEAN) == blobs.NOT_SCANNED


def test_notes_are_written_in_short_transactions(store, scanner, monkeypatch):
    monkeypatch.setattr(rescan, "_NOTES_PER_TRANSACTION", 2)
    data = [b"x = %d\n" % number for number in range(5)]
    for number, content in enumerate(data):
        commit(store, f"c{number}", files={"a.py": content})
    begun, write = [], type(store.environment).write
    monkeypatch.setattr(type(store.environment), "write", lambda self: begun.append(self) or write(self))
    scanned(store, scanner)
    assert len(begun) == 3
    assert {ruleset(store, content) for content in data} == {scan_mark(scanner, "a.py")}


def test_manifest_that_cannot_be_decoded_is_told_and_the_others_scanned(store, scanner):
    for number in range(3):
        commit(store, f"c{number}")
    with store.environment.read() as transaction:
        keys = list(transaction.scan_keys(Table.MANIFESTS))
    flip_byte(store, Table.MANIFESTS, keys[1])
    report = scanned(store, scanner)
    assert (report.unreadable, report.run_count) == (["manifest 2"], 2)
    assert not report.ok


def test_blob_that_is_damaged_or_missing_is_told_once_and_the_others_scanned(store, scanner):
    for number in range(2):
        files = {"a.py": CLEAN, "b.py": OTHER, "c.py": LEAK, "d.py": b"d = 1\n"}
        commit(store, f"c{number}", files=files)
    with store.environment.write() as transaction:
        blob = blobs.find(transaction, digest_bytes(CLEAN))
        transaction.delete(Table.BLOBS, digest_bytes(OTHER))
    flip_byte(store, Table.SEGMENTS, blobs.segment_key(blob.segment, 0), blob.offset + 3)
    report = scanned(store, scanner)
    assert report.unreadable == [digest_bytes(CLEAN).hex(), digest_bytes(OTHER).hex()]
    assert report.blob_count == 2
    assert len(report.located) == 1


def test_purged_blob_is_counted_once_and_is_no_fault(store, scanner):
    for number in range(2):
        commit(store, f"c{number}", files={"a.py": LEAK, "b.py": OTHER})
    store.purge(digest_bytes(LEAK).hex())
    report = scanned(store, scanner)
    assert (report.ok, report.purged_count, report.blob_count) == (True, 1, 1)


def test_run_whose_files_were_given_up_is_scanned_by_its_texts_only(store, scanner):
    commit(store, "c0", metadata={"note": LEAK.decode()})
    pretend_export(store)
    store.forget(["c0"])
    collect(store)
    report = scanned(store, scanner)
    assert (report.unreadable, report.blob_count) == ([], 0)
    (item,) = report.located
    assert (item.finding.name, item.digest) == ("metadata", None)
    assert [run["revision"] for run in item.runs] == [1]


def test_rollback_to_a_clean_run_holds_nothing(store, scanner):
    commit(store, "c0")
    commit(store, "c1", files={"a.py": LEAK})
    store.revert_to_tag("corr_c0", "main")
    (item,) = scanned(store, scanner).located
    assert [run["kind"] for run in item.runs] == ["commit"]


def test_waivers_in_texts_are_counted(store, scanner):
    commit(store, "c0", metadata={"note": f"api_key={VALUE}  # cas: allow-secret"})
    report = scanned(store, scanner)
    assert (report.waived_count, report.located) == (1, [])


def test_text_and_file_in_which_a_pattern_takes_too_long_are_told_and_the_rest_scanned(store, monkeypatch):
    monkeypatch.setattr(allowance, "NS_PER_MEBIBYTE", 20_000_000)
    slow = SecretScanner(ArtifactStoreConfig(secret_patterns=[SLOW]), engine="python")
    for number in range(2):
        files = {"a.csv": b"a" * 50_000, f"{LEAK.decode().strip()}.csv": b"1"}
        commit(store, f"c{number}", files=files, metadata={"n": "b" * 50_000})
    report = scanned(store, slow)
    digest = digest_bytes(b"a" * 50_000).hex()
    assert report.unreadable == ["metadata of manifest 1", digest, "metadata of manifest 2"]
    assert [item.finding.name for item in report.located] == ["file names", "file names"]
    assert report.blob_count >= 1


@pytest.mark.parametrize(("count", "told"), [(5, [2, 4, 5]), (4, [2, 4])])
def test_progress_is_told_every_so_often_and_at_the_end(store, scanner, monkeypatch, count, told):
    monkeypatch.setattr(rescan, "_ROWS_PER_SNAPSHOT", 2)
    for number in range(count):
        commit(store, f"c{number}")
    steps = []
    scanned(store, scanner, progress=lambda *step: steps.append(step))
    assert steps == [("scan", number, count) for number in told]


def test_progress_never_exceeds_the_end_when_runs_are_added(store, scanner):
    for number in range(2):
        commit(store, f"c{number}")
    steps = []

    def tell(*step):
        if not steps:
            commit(store, "late")
        steps.append(step)

    scanned(store, scanner, progress=tell)
    assert {step[1:] for step in steps} == {(2, 2)}


def test_manifests_are_walked_from_any_number_in_several_snapshots(store, monkeypatch):
    monkeypatch.setattr(rescan, "_ROWS_PER_SNAPSHOT", 2)
    for number in range(4):
        commit(store, f"c{number}")
    walked = list(rescan.iter_manifests(store.environment))
    assert [sequence for sequence, _, _ in walked] == [1, 2, 3, 4]
    assert all(loaded.revision == 1 and row.commit_oid for _, loaded, row in walked)
    assert [sequence for sequence, *_ in rescan.iter_manifests(store.environment, 3)] == [3, 4]
    assert list(rescan.iter_manifests(store.environment, 5)) == []


def test_large_blob_is_scanned_as_a_stream_with_the_same_result(store, scanner, monkeypatch):
    data = b"x = 1\n" * 50 + LEAK + WAIVED
    commit(store, "c0", files={"a.py": data})
    with store.environment.read() as transaction:
        blob = blobs.find(transaction, digest_bytes(data))
    whole = rescan.scan_blob(store.environment, scanner, blob, "a.py")
    assert [(finding.name, finding.line) for finding in whole[0]] == [("a.py", 51)]
    assert [waiver.line for waiver in whole[1]] == [52]
    at_once, scan = [], scanner.scan_waived
    monkeypatch.setattr(type(scanner), "scan_waived", lambda _, *given: at_once.append(given) or scan(*given))
    monkeypatch.setattr(rescan, "LARGE_FILE_BYTES", len(data))
    assert rescan.scan_blob(store.environment, scanner, blob, "a.py") == whole
    assert at_once == [(data, "a.py")]
    monkeypatch.setattr(rescan, "LARGE_FILE_BYTES", len(data) - 1)
    assert rescan.scan_blob(store.environment, scanner, blob, "a.py") == whole
    assert at_once == [(data, "a.py")]


FIELDS = {
    "format": 1, "object_format": "sha1", "branch": "b/x", "parent": None, "author_name": "Ann",
    "author_email": "ann@example.org", "created_at_us": 5, "workflow_id": "w", "task_id": "t\u00e9",
    "correlation_id": "corr_x", "revision": 1, "prompt_hash": None, "metadata": b'{"n":1}',
    "files": (FileEntry("a/b.csv", 3, b"", b""), FileEntry("c.py", 4, b"", b"")), "with_metadata_file": True,
}  # fmt: skip


def test_texts_of_a_run_are_its_metadata_ids_and_file_names():
    expected = [
        ("metadata", b'{"n":1}'),
        ("ids", "w\nt\u00e9\ncorr_x".encode()),
        ("file names", b"a/b.csv\nc.py"),
    ]
    assert list(rescan.texts_of(RunManifest(**FIELDS))) == expected
    (_, ids, _) = rescan.texts_of(RunManifest(**FIELDS | {"prompt_hash": "p"}))
    assert ids == ("ids", "w\nt\u00e9\ncorr_x\np".encode())


def test_texts_of_an_imported_run_are_those_of_its_git_objects_as_well():
    tree = tree_bytes([TreeEntry(MODE_FILE, b"one", b"\1" * 20), TreeEntry(MODE_FILE, b"two", b"\2" * 20)])
    imported = ImportedManifest(
        **FIELDS | {"author_name": "\udce9nn"},
        commit=b"tree x\n\nsubject\n\nbody",
        trees=(tree, b"no tree", tree_bytes([TreeEntry(MODE_FILE, b"three", b"\3" * 20)])),
        metadata_file=b"{}",
        tag_objects=(("v1", b"object x\ntag v1\n\nnotes"), ("v2", b"object")),
    )
    assert list(rescan.texts_of(imported)) == [
        ("metadata", b'{"n":1}'),
        ("ids", b"w\nt\xc3\xa9\ncorr_x\nb/x\n\xe9nn\nann@example.org\nv1\nv2"),
        ("file names", b"a/b.csv\nc.py"),
        ("metadata.json", b"{}"),
        ("names in trees", b"one\ntwo\nthree"),
        ("message", b"subject\n\nbody\nnotes\n"),
    ]


def test_trees_of_an_imported_run_are_read_in_its_own_form():
    tree = tree_bytes([TreeEntry(MODE_FILE, b"one", b"\1" * 32), TreeEntry(MODE_FILE, b"two", b"\2" * 32)])
    imported = ImportedManifest(**FIELDS | {"object_format": "sha256"}, trees=(tree,))
    assert dict(rescan.texts_of(imported))["names in trees"] == b"one\ntwo"


@pytest.mark.parametrize(("reason", "text"), [("why", b"main\ncorr_x\nwhy"), (None, b"main\ncorr_x")])
def test_texts_of_a_rollback_are_branch_tag_and_reason(reason, text):
    rollback = RollbackManifest(1, "sha1", "main", None, "Ann", "a@b", 5, "corr_x", b"", b"", reason=reason)
    assert list(rescan.texts_of(rollback)) == [("reason", text)]


def test_notes_of_a_manifest_are_its_pin_and_why_it_was_forgotten(store):
    with store.environment.write() as transaction:
        marks.put_pin(transaction, 1, marks.Pin(5, "ke\u00e9p"))
        marks.put_forgotten(transaction, 1, marks.Forgotten(5, "ol\u00e9"))
        marks.put_pin(transaction, 2, marks.Pin(5))
        marks.put_forgotten(transaction, 3, marks.Forgotten(5))
        assert list(rescan.notes_of(transaction, 1)) == [
            ("pin's note", "ke\u00e9p".encode()),
            ("reason of forgetting", "ol\u00e9".encode()),
        ]
        assert [list(rescan.notes_of(transaction, number)) for number in (2, 3, 4)] == [[], [], []]


def test_leak_in_a_note_is_found(store, scanner):
    commit(store, "c0")
    store.pin("c0", note=LEAK.decode().strip())
    (item,) = scanned(store, scanner).located
    assert (item.finding.name, item.runs[0]["kind"]) == ("pin's note", "commit")

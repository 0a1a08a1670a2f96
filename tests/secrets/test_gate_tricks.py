"""Ways around the gate: what was scanned otherwise before, comes by another way, or comes back after a purge."""

import pytest

from cas import (
    ArtifactStore,
    ArtifactStoreConfig,
    IntegrityError,
    NotFoundError,
    PurgedContentError,
    blobs,
    commit,
)
from cas.digest import digest_bytes
from cas.errors import SecretDetectedError
from cas.groupcommit import RelayRefusedError
from cas.intake import take_in
from cas.secretscan import SecretScanner, write_baseline
from gitexport import Exporter, import_repository
from tests.export.places import run_git
from tests.secrets.corpus import B62, Maker
from tests.store.stores import make_clock

VALUE = Maker("gate tricks").of(B62, 36)
LEAK = f'api_key = "{VALUE}"\n'.encode()
CLEAN = b"FAST, SLOW = 10, 30\n"
# Clean in a Python file, a password in a settings file.
TWO_FACED = b"password = settings_password_9\n"


def opened(directory, **settings):
    return ArtifactStore(ArtifactStoreConfig(repo_path=directory, **settings), clock=make_clock())


def arguments(files, correlation_id="c9", **more):
    return {"workflow_id": "w", "task_id": "t", "files": files, "correlation_id": correlation_id, **more}


def grown(store, files):
    with store.open_run("w", "t", "c9") as run:
        for name, data in files.items():
            run.add_bytes(name, data)
        run.commit()


def in_batch(store, files):
    (told,) = store.commit_many([arguments(files)])
    if not told["success"]:
        raise {"purged_content": PurgedContentError}.get(told["kind"], SecretDetectedError)([])


def in_one(store, files):
    store.commit_artifacts(**arguments(files))


WAYS = [in_one, in_batch, grown]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_known", [True, False], ids=["known", "new"])
def test_content_under_two_kinds_of_name_is_judged_under_both(tmp_path, way, is_known):
    with opened(tmp_path) as store:
        if is_known:
            store.commit_artifacts(**arguments({"a.py": TWO_FACED}, "c1"))
        with pytest.raises(SecretDetectedError):
            way(store, {"a.py": TWO_FACED, "b.env": TWO_FACED})
        with pytest.raises(SecretDetectedError):
            way(store, {"b.env": TWO_FACED})
        assert store.get_artifact_by_correlation_id("c9") is None


@pytest.mark.parametrize("way", WAYS)
def test_content_taken_in_unscanned_is_scanned_when_it_comes_again(tmp_path, way):
    with opened(tmp_path, scan_for_secrets=False) as store:
        way(store, {"a.py": LEAK})
    with opened(tmp_path) as store, pytest.raises(SecretDetectedError):
        way(store, {"a.py": LEAK})  # also as the same run once more


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("data", [CLEAN, LEAK], ids=["clean", "waived"])
def test_rules_added_later_count_for_content_that_is_stored(tmp_path, way, data):
    mine = SecretScanner(ArtifactStoreConfig(secret_patterns=["FAST, SLOW"]))
    write_baseline(tmp_path / "base.json", SecretScanner().scan(LEAK, "a.py"))
    with opened(tmp_path, secret_baseline=tmp_path / "base.json") as store:
        way(store, {"a.py": data})
    later = {"secret_patterns": ["FAST, SLOW"]} if mine.scan(data, "a.py")[0].rule.startswith("user-") else {}
    with opened(tmp_path, **later) as store, pytest.raises(SecretDetectedError):
        way(store, {"a.py": data})


@pytest.mark.parametrize("way", WAYS)
def test_waiver_of_one_name_does_not_cover_the_same_content_under_another(tmp_path, way):
    write_baseline(tmp_path / "base.json", SecretScanner().scan(LEAK, "a.py"))
    with opened(tmp_path, secret_baseline=tmp_path / "base.json") as store:
        store.commit_artifacts(**arguments({"a.py": LEAK}, "c1"))
        with pytest.raises(SecretDetectedError):
            way(store, {"b.py": LEAK})


def test_rescan_counts_a_file_of_many_runs_once(tmp_path):
    with opened(tmp_path) as store:
        for number in range(5):
            store.commit_artifacts(
                **arguments({"a.py": CLEAN, "b.py": CLEAN}, f"c{number}", metadata={"n": number})
            )
        report = store.scan_all()
        assert (report.run_count, report.known_count, report.blob_count) == (5, 1, 0)
        fresh = store.scan_all(fresh=True)
        assert (fresh.known_count, fresh.blob_count) == (0, 1)


def test_rescan_counts_what_is_gone_once_under_whatever_names(tmp_path):
    with opened(tmp_path, scan_for_secrets=False) as store:
        store.commit_artifacts(**arguments({"a.py": LEAK, "b.env": LEAK}, "c1"))
        store.purge(digest_bytes(LEAK).hex())
        assert store.scan_all().purged_count == 1


def test_rescan_looks_into_notes_and_reasons(tmp_path):
    run_git(tmp_path, "init", "--quiet")
    with opened(tmp_path, scan_for_secrets=False, auto_push=False) as store:
        store.commit_artifacts(**arguments({"a.py": CLEAN}, "c1"))
        store.commit_artifacts(**arguments({"a.py": CLEAN}, "c2", metadata={"n": 1}))
        Exporter(store).run()
        store.pin("c1", note=LEAK.decode())
        store.forget(["c2"], reason=LEAK.decode())
    with opened(tmp_path) as store:
        report = store.scan_all()
        told = store.purge(report.located[0].finding.fingerprint)
    assert [entry["where"] for entry in told["remaining"]] == ["pin's note", "reason of forgetting"]
    assert [(item.finding.name, item.runs[0]["correlation_id"]) for item in report.located] == [
        ("pin's note", "c1"),
        ("reason of forgetting", "c2"),
    ]


def test_purge_finds_what_a_writer_has_added_since_the_search(tmp_path):
    more = LEAK + b"# another file with it\n"
    added = []
    with opened(tmp_path, scan_for_secrets=False) as store:
        store.commit_artifacts(**arguments({"a.py": LEAK}, "c1"))
        fingerprint = SecretScanner().scan(LEAK, "a.py")[0].fingerprint

        def writes_meanwhile(phase, done, total):
            if phase == "look" and done == total and not added:
                metadata = {"note": LEAK.decode()}
                added.append(store.commit_artifacts(**arguments({"b.py": more}, "c2", metadata=metadata)))

        told = store.purge(fingerprint, progress=writes_meanwhile)
        assert added
        assert {blob["digest"] for blob in told["blobs"]} == {
            digest_bytes(data).hex() for data in (LEAK, more)
        }
        assert {run["correlation_id"] for run in told["runs"]} == {"c1", "c2"}
        assert [(item["where"], item["correlation_id"]) for item in told["remaining"]] == [("metadata", "c2")]
        assert [item.digest for item in store.scan_all().located] == [None]
        with pytest.raises(IntegrityError, match="purged"):
            store.read_file("c2", "b.py")
        assert store.verify().ok


@pytest.fixture
def purged(tmp_path):
    """A store whose run c1 had its file purged, and the repository beside it."""
    with opened(tmp_path, scan_for_secrets=False) as store:
        store.commit_artifacts(**arguments({"a.py": LEAK}, "c1"))
        store.purge(digest_bytes(LEAK).hex())
        yield store


def assert_still_gone(store):
    with store.environment.read() as transaction:
        assert blobs.find(transaction, digest_bytes(LEAK)) is None
    with pytest.raises(IntegrityError, match="purged"):
        store.read_file("c1", "a.py")
    assert store.verify().ok


@pytest.mark.parametrize("way", WAYS)
def test_purged_content_does_not_come_back_by_a_commit(purged, way):
    with pytest.raises(PurgedContentError):
        way(purged, {"b.py": LEAK})
    assert_still_gone(purged)


def test_purged_content_does_not_come_back_by_the_same_run(purged):
    with pytest.raises(PurgedContentError):
        in_one(purged, {"a.py": LEAK})
    assert_still_gone(purged)


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "new"])
def test_run_that_grew_over_a_purge_is_refused(tmp_path, is_known):
    with opened(tmp_path, scan_for_secrets=False) as store:
        store.commit_artifacts(**arguments({"a.py": LEAK}, "c1"))
        if not is_known:
            store.commit_artifacts(**arguments({"a.py": CLEAN}, "c0"))
        with store.open_run("w", "t", "c9") as run:
            run.add_bytes("b.py", LEAK)
            store.purge(digest_bytes(LEAK).hex())
            with pytest.raises(PurgedContentError):
                run.commit()
        assert_still_gone(store)


def test_large_file_staged_over_a_purge_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("cas.intake.LARGE_FILE_BYTES", 1024)
    data = LEAK + Maker("tricks").random.randbytes(4096)
    (tmp_path / "big.py").write_bytes(data)
    with opened(tmp_path, scan_for_secrets=False) as store, opened(tmp_path, scan_for_secrets=False) as other:
        with store.open_run("w", "t", "c9") as run:
            run.add_file(tmp_path / "big.py")
            other.commit_artifacts(**arguments([tmp_path / "big.py"], "c1"))
            other.purge(digest_bytes(data).hex())
            with pytest.raises(PurgedContentError):
                run.commit()
        assert store.get_artifact_by_correlation_id("c9") is None
        report = store.verify()
        assert report.ok, report.faults


def test_posted_run_with_content_purged_meanwhile_is_not_applied_for_another(tmp_path):
    with opened(tmp_path, scan_for_secrets=False) as store:
        ids = commit.RunIds(workflow_id="w", task_id="t", correlation_id="c9", prompt_hash=None)
        taken = take_in(store.environment, store._gate, {"b.py": LEAK}, {})
        run = commit.prepare(
            ids, taken, b"{}", store.config, object_format=store.object_format, created_at_us=1, signer=None
        )
        work = commit.decode_relayed(commit.encode_relayed([run]))
        store.commit_artifacts(**arguments({"a.py": LEAK}, "c1"))
        store.purge(digest_bytes(LEAK).hex())
        with pytest.raises(RelayRefusedError), store.environment.write() as transaction:
            work(transaction)
        assert store.get_artifact_by_correlation_id("c9") is None
        assert_still_gone(store)


def test_healing_brings_no_purged_content_back(purged):
    asked = []

    def source(wanted):
        asked.append(wanted.digest)
        return [LEAK]

    purged.heal([source])
    assert asked == []
    assert_still_gone(purged)


def test_undelete_brings_no_purged_content_back(tmp_path):
    run_git(tmp_path, "init", "--quiet")
    with opened(tmp_path, scan_for_secrets=False, auto_push=False) as store:
        store.commit_artifacts(**arguments({"a.py": LEAK}, "c1"))
        Exporter(store).run()
        store.purge(digest_bytes(LEAK).hex())
        assert store.forget(["c1"])[0]["action"] == "forget"
        with pytest.raises(PurgedContentError):
            in_one(store, {"a.py": LEAK})
        with pytest.raises(NotFoundError, match="removed from the store"):
            store.undelete("c1")
        with store.environment.read() as transaction:
            assert blobs.find(transaction, digest_bytes(LEAK)) is None
        assert store.verify().ok


@pytest.mark.parametrize("on_secret", ["refuse", "allow"])
def test_import_brings_no_purged_content_back(tmp_path, purged, on_secret):
    old = tmp_path / "old"
    folder = old / "Backtest" / "codes" / "t9"
    folder.mkdir(parents=True)
    run_git(old, "init", "--quiet", "--initial-branch=main")
    (folder / "b.py").write_bytes(LEAK)
    run_git(old, "checkout", "--quiet", "-b", "ai/generated/w/t9")
    run_git(old, "add", ".")
    run_git(old, "commit", "--quiet", "--message=Add artifacts")
    summary = import_repository(purged, old, on_secret=on_secret)
    assert (summary.commits, len(summary.refused)) == (0, 1)
    assert_still_gone(purged)


def test_backup_made_after_a_purge_keeps_the_content_away(tmp_path, purged):
    purged.backup(tmp_path / "backup")
    with (
        ArtifactStore(
            ArtifactStoreConfig(repo_path=tmp_path, store_path=tmp_path / "backup", scan_for_secrets=False)
        ) as copy,
        pytest.raises(PurgedContentError),
    ):
        in_one(copy, {"b.py": LEAK})


def test_compaction_and_collection_keep_the_content_away(purged):
    purged.forget(["c1"])
    purged.gc()
    with pytest.raises(PurgedContentError):
        in_one(purged, {"b.py": LEAK})

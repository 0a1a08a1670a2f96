"""The gate in the store: one scan for each blob and rule set, rescans, and purges."""

import pytest

from cas import ArtifactStore, ArtifactStoreConfig, IntegrityError, NotFoundError, PurgedContentError, blobs
from cas.digest import digest_bytes
from cas.errors import ConfigError, InvalidInputError, SecretDetectedError
from cas.intake import scan_mark
from cas.secretscan import SecretScanner
from tests.secrets.corpus import B62, Maker
from tests.store.stores import make_clock

VALUE = Maker("store gate").of(B62, 36)
LEAK = f'api_key = "{VALUE}"\n'.encode()
CLEAN = b"FAST, SLOW = 10, 30\n"


def opened(directory, **settings):
    return ArtifactStore(ArtifactStoreConfig(repo_path=directory, **settings), clock=make_clock())


@pytest.fixture
def leaked(tmp_path):
    """A store that took a credential in while scanning was off."""
    with opened(tmp_path, scan_for_secrets=False) as store:
        store.commit_artifacts("w", "t", {"a.py": CLEAN}, correlation_id="c0")
        store.commit_artifacts("w", "t", {"a.py": LEAK, "b.csv": b"1,2\n" * 40}, correlation_id="c1")
        store.commit_artifacts("w", "t", {"a.py": CLEAN + b"#\n"}, correlation_id="c2")
        store.revert_to_tag("corr_c1", "main")
    return tmp_path


def row(store, data):
    with store.environment.read() as transaction:
        return blobs.find(transaction, digest_bytes(data))


def test_row_of_a_clean_blob_remembers_rules_and_kind_of_name(tmp_path):
    with opened(tmp_path) as store:
        store.commit_artifacts("w", "t", {"a.py": CLEAN}, correlation_id="c1")
        assert row(store, CLEAN).ruleset == scan_mark(SecretScanner(store.config), "b.py")
        assert row(store, CLEAN).ruleset != scan_mark(SecretScanner(store.config), "b.env")


def test_blob_scanned_under_one_kind_of_name_is_not_trusted_under_another(tmp_path):
    expression = b"password = settings_password_9\n"
    scanner = SecretScanner()
    assert not scanner.scan(expression, "a.py")
    assert scanner.scan(expression, "a.env")
    with opened(tmp_path) as store:
        store.commit_artifacts("w", "t", {"a.py": expression}, correlation_id="c1")
        with pytest.raises(SecretDetectedError):
            store.commit_artifacts("w", "t", {"a.env": expression}, correlation_id="c2")


def test_known_blob_scanned_clean_under_new_rules_gets_a_new_row(tmp_path):
    with opened(tmp_path) as store:
        store.commit_artifacts("w", "t", {"a.py": CLEAN}, correlation_id="c1")
        before = row(store, CLEAN).ruleset
    with opened(tmp_path, secret_patterns=["desk-[0-9]{9}"]) as store:
        store.commit_artifacts("w", "t", {"a.py": CLEAN}, correlation_id="c2")
        after = row(store, CLEAN)
        assert after.ruleset == scan_mark(SecretScanner(store.config), "a.py") != before
        assert store.read_file("c2", "a.py") == CLEAN


def test_blob_that_needed_a_waiver_is_not_remembered_as_clean(tmp_path):
    waived = LEAK.replace(b"\n", b"  # cas: allow-secret\n")
    with opened(tmp_path) as store:
        store.commit_artifacts("w", "t", {"a.py": waived}, correlation_id="c1")
        assert row(store, waived).ruleset == blobs.NOT_SCANNED


def test_ignored_rule_lets_a_finding_through_as_a_waiver_where_it_applies(tmp_path):
    (rule,) = {finding.rule for finding in SecretScanner().scan(LEAK, "a.py")}
    with opened(tmp_path, secret_ignore=[f"tests/*: {rule}, jwt"]) as store:
        store.commit_artifacts("w", "t", {"tests/a.py": LEAK}, correlation_id="c1")
        with pytest.raises(SecretDetectedError):
            store.commit_artifacts("w", "t", {"a.py": LEAK}, correlation_id="c2")
    assert not SecretScanner(ArtifactStoreConfig(secret_ignore=[rule])).scan(LEAK, "a.py")


@pytest.mark.parametrize("item", ["no-such-rule", "*", ": jwt", "a/*:", "a/*: no-such-rule"])
def test_ignored_rule_that_cannot_be_meant_is_refused(item):
    with pytest.raises(ConfigError):
        SecretScanner(ArtifactStoreConfig(secret_ignore=[item]))


def test_rescan_lists_runs_branches_and_tags_of_a_finding(leaked):
    with opened(leaked) as store:
        report = store.scan_all()
        (item,) = report.located
        assert item.digest == digest_bytes(LEAK)
        assert report.as_dict()["branches"] == ["ai/generated/w/t", "main"]
        assert report.as_dict()["tags"] == ["corr_c1"]
        assert report.blob_count == 4
        again = store.scan_all()
        assert (again.blob_count, again.known_count) == (1, 3)
        assert len(again.located) == 1
        assert store.scan_all(fresh=True).blob_count == 4


def test_rescan_looks_into_metadata_and_ids(tmp_path):
    with opened(tmp_path, scan_for_secrets=False) as store:
        note = {"note": f"api_key={VALUE}"}
        store.commit_artifacts("w", "t", {"a.py": CLEAN}, metadata=note, correlation_id="c1")
        (item,) = store.scan_all().located
        assert (item.digest, item.finding.name) == (None, "metadata")
        result = store.purge(item.finding.fingerprint)
        assert result["blobs"] == []
        assert [entry["where"] for entry in result["remaining"]] == ["metadata"]


def test_rescan_progress_reaches_the_end(leaked):
    told = []
    with opened(leaked) as store:
        store.scan_all(progress=lambda *step: told.append(step))
    assert told[-1] == ("scan", 4, 4)


def test_rollback_of_a_branch_named_by_a_credential_is_refused_and_stores_nothing(tmp_path):
    with opened(tmp_path, raise_errors=False) as store:
        store.commit_artifacts("w", "t", {"a.py": CLEAN}, correlation_id="c0")
        with pytest.raises(SecretDetectedError):
            store.revert_to_tag("corr_c0", f"api_key={VALUE}")
        report = store.scan_all()
        assert (report.ok, report.run_count) == (True, 1)


@pytest.mark.parametrize("by", ["fingerprint", "digest"])
def test_purge_removes_bytes_and_keeps_everything_else(leaked, by):
    with opened(leaked) as store:
        (item,) = store.scan_all().located
        target = item.finding.fingerprint if by == "fingerprint" else digest_bytes(LEAK).hex()
        planned = store.purge(target, dry_run=True)
        assert store.read_file("c1", "a.py") == LEAK
        done = store.purge(target)
        assert [blob["digest"] for blob in done["blobs"]] == [digest_bytes(LEAK).hex()]
        assert planned["runs"] != []
        assert [entry["fingerprint"] for entry in done["rotate"]] == [item.finding.fingerprint]
        with pytest.raises(IntegrityError) as refused:
            store.read_file("c1", "a.py")
        assert refused.value.kind == "purged"
        with pytest.raises(IntegrityError):
            store.checkout("c1", leaked / "out")
        assert not (leaked / "out").exists()
        with pytest.raises(IntegrityError):
            store.revert_to_tag("corr_c1", "other")
        assert store.read_file("c1", "b.csv") == b"1,2\n" * 40
        assert store.read_file("c0", "a.py") == CLEAN
        assert store.get_artifact_by_correlation_id("c1")["files"] == ["a.py", "b.csv"]


def test_purge_is_no_damage_and_not_found_again(leaked):
    with opened(leaked) as store:
        store.purge(digest_bytes(LEAK).hex())
        report = store.verify()
        assert report.ok
        assert report.purged == [digest_bytes(LEAK).hex()]
        assert store.scan_all().ok


def test_purge_sets_exports_aside_also_those_above_on_the_branch(leaked):
    with opened(leaked) as store:
        assert store.purge(digest_bytes(LEAK).hex())["held"] == 3
        states = [store.export_status(run)["export_state"] for run in ("c0", "c1", "c2")]
        assert states == ["queued", "parked", "parked"]
        assert VALUE not in str(store.export_status("c1"))


def test_purge_twice_tells_the_same_and_changes_nothing(leaked):
    with opened(leaked) as store:
        digest = digest_bytes(LEAK).hex()
        first, second = store.purge(digest), store.purge(digest)
        assert second["runs"] == [{**run, "export_state": "parked"} for run in first["runs"]]
        assert second["blobs"][0]["purged_before"]
        assert second["held"] == 0


@pytest.mark.parametrize("scans", [True, False])
def test_purged_content_cannot_come_back(leaked, scans):
    with opened(leaked) as store:
        store.purge(digest_bytes(LEAK).hex())
    with opened(leaked, scan_for_secrets=scans, raise_errors=False) as store:
        with pytest.raises(PurgedContentError) as refused:
            store.commit_artifacts("w", "new", {"x.py": LEAK}, correlation_id="c9")
        assert refused.value.kind == "purged_content"
        waived = store.commit_many(
            [{"workflow_id": "w", "task_id": "n", "files": {"x.py": LEAK}, "correlation_id": "c9"}]
        )
        assert waived[0]["kind"] == "purged_content"
        assert store.get_artifact_by_correlation_id("c9") is None


def test_purge_of_unknown_or_malformed_target_is_refused(leaked):
    with opened(leaked) as store:
        with pytest.raises(NotFoundError):
            store.purge("0" * 64)
        with pytest.raises(NotFoundError):
            store.purge("0" * 32)
        with pytest.raises(InvalidInputError):
            store.purge("0" * 8)


def test_purge_of_a_large_file_removes_every_part(tmp_path, monkeypatch):
    monkeypatch.setattr("cas.intake.LARGE_FILE_BYTES", 1024)
    data = LEAK + Maker("large").random.randbytes(4096)
    (tmp_path / "big.py").write_bytes(data)
    with opened(tmp_path, scan_for_secrets=False) as store:
        store.commit_artifacts("w", "t", [tmp_path / "big.py"], correlation_id="c1")
        store.purge(digest_bytes(data).hex())
        assert row(store, data) is None
        assert store.verify().ok
        with pytest.raises(PurgedContentError):
            store.commit_artifacts("w", "t", [tmp_path / "big.py"], correlation_id="c2")


def test_purge_leaves_the_stream_in_no_live_page(leaked):
    with opened(leaked) as store:
        blob = row(store, LEAK)
        with store.environment.read() as transaction:
            stream = b"".join(bytes(part) for part in blobs.iter_stream(transaction, blob))
        store.purge(digest_bytes(LEAK).hex())
        (leaked / "copy").mkdir()
        store.environment.copy_to(leaked / "copy")
    assert stream not in b"".join(path.read_bytes() for path in (leaked / "copy").iterdir())

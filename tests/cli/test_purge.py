"""`cas purge`."""

import json

import pytest


@pytest.fixture
def leaked(store, place, credential):
    """A store that took a credential in while scanning was off; returns the finding's fingerprint."""
    (place / "leak.py").write_text(f'password = "{credential}"\n')
    words = ("commit", "-w", "w", "-t", "t", "-c", "c1", "leak.py", "-o", "scan_for_secrets=false")
    store.ok(*words)
    ended = store("scan", "--all", "--json")
    assert ended.code == 5
    return ended.json["findings"][0]


def test_purge_dry_run_changes_nothing(store, leaked, credential):
    ended = store.ok("purge", "--secret", leaked["fingerprint"], "--dry-run", "--json")
    assert [blob["digest"] for blob in ended.json["blobs"]] == [leaked["digest"]]
    assert credential in store.ok("cat", "c1", "leak.py").out
    assert credential not in ended.out + ended.err


@pytest.mark.parametrize("key", ["fingerprint", "digest"])
def test_purge_removes_the_file_and_keeps_the_run(store, leaked, key):
    ended = store.ok("purge", "--secret", leaked[key])
    assert "removed" in ended.out
    assert "rotate: password" in ended.out
    assert store.ok("show", "c1", "--json").json["correlation_id"] == "c1"
    refused = store("cat", "c1", "leak.py")
    assert refused.code == 3
    assert "purged" in refused.err
    store.ok("scan", "--all")
    assert store.ok("verify", "--json").json["purged"] == [leaked["digest"]]
    assert store.ok("export", "status", "--json").json["parked"]


def test_purge_content_cannot_come_back_even_unscanned(store, leaked):
    store.ok("purge", "--secret", leaked["digest"])
    words = ("commit", "-w", "w", "-t", "t2", "-c", "c2", "leak.py", "-o", "scan_for_secrets=false")
    ended = store(*words, "--json")
    assert ended.code == 5
    assert json.loads(ended.err)["kind"] == "purged_content"


def test_purge_of_what_is_not_there_is_not_found(store, leaked):
    assert store("purge", "--secret", "0" * 32).code == 3
    assert store("purge", "--secret", "abc").code == 4


def test_scan_all_lists_runs_branches_and_tags(store, leaked, credential):
    ended = store("scan", "--all")
    assert ended.code == 5
    assert "ai/generated/w/t" in ended.out
    assert "corr_c1" in ended.out
    assert credential not in ended.out + ended.err
    assert store("scan", "--all", "leak.py").code == 2
    assert store("scan").code == 2

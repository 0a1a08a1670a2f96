"""A purge step by step: what it finds, what it removes and sets aside, and what it says has to follow elsewhere."""

from __future__ import annotations

import pytest

from cas import ArtifactStoreConfig, InvalidFileError, NotFoundError, blobs, outbox, purge, tombstones
from cas.digest import digest_bytes
from cas.errors import InvalidInputError
from cas.lmdbenv import Table
from cas.outbox import Stage
from cas.secretscan import SecretScanner, allowance
from tests.gc.keeping import flip_byte, pretend_export
from tests.secrets.corpus import B62, Maker
from tests.store.stores import open_store

VALUE = Maker("purge").of(B62, 36)
LEAK = f'api_key = "{VALUE}"\n'.encode()
SECOND = b"x = 1\n" + LEAK
CLEAN = b"FAST, SLOW = 10, 30\n"
DIGEST = digest_bytes(LEAK)
NOW_US = 1_800_000_000_000_000
HELD = "a file of it was purged from the store, so it must not go out"
FOLLOWER = "it stands on a commit of its branch whose file was purged, so it must not go out"


@pytest.fixture(scope="module")
def scanner():
    return SecretScanner()


@pytest.fixture(scope="module")
def mark(scanner):
    """Fingerprint and rule of the credential."""
    (finding,) = scanner.scan(LEAK, "a.py")
    return finding.fingerprint, finding.rule


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "store") as opened:
        yield opened


def commit(store, correlation_id, data=CLEAN, **changes):
    arguments = {"files": {"a.py": data}, "workflow_id": "w", "task_id": "t"} | changes
    return store.commit_artifacts(correlation_id=correlation_id, **arguments)["commit_sha"]


def purged(store, scanner, target=DIGEST, **options):
    target = target if isinstance(target, str) else target.hex()
    return purge.purge(store.environment, scanner, target, now_us=NOW_US, **options)


def entries(store):
    """Stage and reason of what waits, by sequence."""
    with store.environment.read() as transaction:
        return {
            sequence: (stage, attempt.reason)
            for stage in Stage
            for sequence, attempt in outbox.iter_entries(transaction, stage)
        }


def tombstone(store, digest=DIGEST):
    with store.environment.read() as transaction:
        return tombstones.find(transaction, digest)


def dump_of(store):
    with store.environment.read() as transaction:
        return {table: dict(transaction.scan(table)) for table in Table}


@pytest.mark.parametrize(
    "target", ["", "0" * 31, "0" * 33, "0" * 63, "0" * 65, "G" * 32, "A" * 64, "0" * 32 + "\n"]
)
def test_purge_target_of_another_form_is_refused_and_named(store, scanner, target):
    with pytest.raises(InvalidInputError) as caught:
        purged(store, scanner, target)
    assert caught.value.subject == target


@pytest.mark.parametrize("target", ["0" * 32, "0" * 64])
def test_purge_of_what_the_store_does_not_hold_is_told(store, scanner, target):
    commit(store, "c0", LEAK)
    before = dump_of(store)
    with pytest.raises(NotFoundError) as caught:
        purged(store, scanner, target)
    assert caught.value.subject == target
    assert "cas scan --all --json" in caught.value.hint
    assert dump_of(store) == before


@pytest.mark.parametrize("by", ["digest", "fingerprint"])
def test_purge_says_all_that_it_did(store, scanner, mark, by):
    fingerprint, rule = mark
    commit(store, "c0")
    leaked = commit(store, "c1", LEAK)
    commit(store, "c2")
    back = store.revert_to_tag("corr_c1", "main")["commit_sha"]
    with store.environment.read() as transaction:
        oid = blobs.find(transaction, DIGEST).oid
    run = {
        "kind": "commit", "branch": "ai/generated/w/t", "commit_sha": leaked, "tags": ["corr_c1"],
        "export_state": "parked", "correlation_id": "c1", "revision": 1, "files": ["Backtest/codes/t/a.py"],
    }  # fmt: skip
    rollback = {
        "kind": "rollback", "branch": "main", "commit_sha": back, "tags": [], "export_state": "parked",
        "reverted_to": "corr_c1", "files": ["Backtest/codes/t/a.py"],
    }  # fmt: skip
    told = purged(store, scanner, DIGEST if by == "digest" else fingerprint)
    planned = [record | {"export_state": told["runs"][0]["export_state"]} for record in (run, rollback)]
    assert told == {
        "target": DIGEST.hex() if by == "digest" else fingerprint,
        "dry_run": False,
        "held": 3,
        "rotate": [{"rule": rule, "fingerprint": fingerprint}],
        "remaining": [],
        "blobs": [
            {
                "digest": DIGEST.hex(), "oid": oid.hex(), "size_bytes": len(LEAK), "names": ["a.py"],
                "purged_before": False,
            }
        ],
        "runs": planned,
        "git": {"branches": [], "tags": [], "commits": [], "later_commits": [], "paths": []},
    }  # fmt: skip
    assert entries(store) == {
        1: (Stage.WRITE, None), 2: (Stage.PARKED_WRITE, HELD), 3: (Stage.PARKED_WRITE, FOLLOWER),
        4: (Stage.PARKED_WRITE, HELD),
    }  # fmt: skip
    assert tombstone(store) == tombstones.Tombstone(NOW_US, oid, len(LEAK), (fingerprint,))
    with store.environment.read() as transaction:
        assert blobs.find(transaction, DIGEST) is None
        assert outbox.find_entry(transaction, 2)[1].last_at_us == NOW_US


def test_planned_purge_changes_nothing_and_names_the_same(store, scanner):
    commit(store, "c1", LEAK)
    before = dump_of(store)
    planned = purged(store, scanner, dry_run=True)
    assert dump_of(store) == before
    done = purged(store, scanner)
    assert (planned["dry_run"], planned["held"]) == (True, 0)
    assert [planned[key] for key in ("rotate", "blobs", "remaining", "git")] == [
        done[key] for key in ("rotate", "blobs", "remaining", "git")
    ]


def test_second_purge_tells_the_same_from_the_tombstone(store, scanner, mark):
    commit(store, "c1", LEAK)
    first = purged(store, scanner)
    for target in (DIGEST, mark[0]):
        again = purged(store, scanner, target)
        assert again["held"] == 0
        assert again["blobs"] == [first["blobs"][0] | {"purged_before": True}]
        assert [run["commit_sha"] for run in again["runs"]] == [run["commit_sha"] for run in first["runs"]]
    assert tombstone(store).purged_at_us == NOW_US


def test_purge_by_fingerprint_takes_every_content_that_holds_it(store, scanner, mark):
    commit(store, "c1", files={"a.py": LEAK, "sub/b.py": SECOND, "c.py": CLEAN})
    commit(store, "c2", files={"copy.py": LEAK})
    told = purged(store, scanner, mark[0])
    assert {blob["digest"]: blob["names"] for blob in told["blobs"]} == {
        DIGEST.hex(): ["a.py", "copy.py"],
        digest_bytes(SECOND).hex(): ["sub/b.py"],
    }
    assert [blob["digest"] for blob in told["blobs"]] == sorted(blob["digest"] for blob in told["blobs"])
    assert [run["files"] for run in told["runs"]] == [
        ["Backtest/codes/t/a.py", "Backtest/codes/t/sub/b.py"],
        ["Backtest/codes/t/copy.py"],
    ]
    with store.environment.read() as transaction:
        assert blobs.find(transaction, digest_bytes(CLEAN)) is not None


def test_waived_credential_is_purged_like_any(store, scanner, mark):
    waived = LEAK.replace(b"\n", b"  # cas: allow-secret\n")
    commit(store, "c1", waived)
    told = purged(store, scanner, mark[0])
    assert [blob["digest"] for blob in told["blobs"]] == [digest_bytes(waived).hex()]
    assert [item["fingerprint"] for item in told["rotate"]] == [mark[0]]


def test_value_in_the_manifest_itself_remains_and_is_named(store, scanner, mark):
    fingerprint, rule = mark
    sha = commit(store, "c1", metadata={"note": LEAK.decode()})
    store.pin("c1", note=LEAK.decode().strip())
    told = purged(store, scanner, fingerprint)
    assert told["blobs"] == []
    assert [(one["where"], one["rule"], one["commit_sha"]) for one in told["remaining"]] == [
        ("metadata", rule, sha), ("pin's note", rule, sha),
    ]  # fmt: skip
    assert told["rotate"] == [{"rule": rule, "fingerprint": fingerprint}]
    assert told["runs"] == []
    assert (told["held"], entries(store)) == (0, {1: (Stage.WRITE, None)})


def test_rotation_lists_all_that_a_purged_file_held(store, scanner):
    other = LEAK.replace(VALUE.encode(), Maker("second").of(B62, 36).encode())
    commit(store, "c1", LEAK + other)
    told = purged(store, scanner, digest_bytes(LEAK + other))
    expected = sorted(finding.fingerprint for finding in scanner.scan(LEAK + other, "a.py"))
    assert sorted(item["fingerprint"] for item in told["rotate"]) == expected
    assert len(expected) == 2
    assert list(tombstone(store, digest_bytes(LEAK + other)).fingerprints) == expected


def test_purge_by_digest_scans_each_name_as_what_it_is(store, scanner):
    expression = b"password = settings_password_9\n"
    assert not scanner.scan(expression, "a.py")
    (finding,) = scanner.scan(expression, "a.env")
    commit(store, "c1", files={"a.py": expression, "b.env": expression})
    assert [item["fingerprint"] for item in purged(store, scanner, digest_bytes(expression))["rotate"]] == [
        finding.fingerprint
    ]


def test_content_of_a_clean_and_a_telling_name_is_found_by_fingerprint(store, scanner):
    expression = b"password = settings_password_9\n"
    (finding,) = scanner.scan(expression, "a.env")
    commit(store, "c1", files={"a.py": expression, "b.env": expression, "c.py": expression})
    (blob,) = purged(store, scanner, finding.fingerprint)["blobs"]
    assert (blob["digest"], blob["names"]) == (digest_bytes(expression).hex(), ["a.py", "b.env", "c.py"])


def test_damaged_file_is_stepped_over_and_can_be_purged_by_digest(store, scanner, mark):
    commit(store, "c1", files={"a.py": LEAK})
    commit(store, "c2", files={"a.py": SECOND})
    with store.environment.read() as transaction:
        blob = blobs.find(transaction, DIGEST)
    flip_byte(store, Table.SEGMENTS, blobs.segment_key(blob.segment, 0), blob.offset + 3)
    told = purged(store, scanner, mark[0], dry_run=True)
    assert [one["digest"] for one in told["blobs"]] == [digest_bytes(SECOND).hex()]
    assert purged(store, scanner)["rotate"] == []


def test_damaged_manifest_is_stepped_over(store, scanner, mark):
    for number in range(3):
        commit(store, f"c{number}", LEAK)
    with store.environment.read() as transaction:
        keys = list(transaction.scan_keys(Table.MANIFESTS))
    flip_byte(store, Table.MANIFESTS, keys[1])
    for target in (DIGEST, mark[0]):
        told = purged(store, scanner, target, dry_run=True)
        assert [run["correlation_id"] for run in told["runs"]] == ["c0", "c2"]


def test_pattern_that_takes_too_long_stops_a_search_but_no_purge_by_digest(store, monkeypatch):
    monkeypatch.setattr(allowance, "NS_PER_MEBIBYTE", 20_000_000)
    slow = SecretScanner(ArtifactStoreConfig(secret_patterns=[r"[a-z]+(?=[=:]x)"]), engine="python")
    data = b"a" * 50_000
    commit(store, "c1", data)
    with pytest.raises(InvalidFileError):
        purged(store, slow, "0" * 32)
    assert purged(store, slow, digest_bytes(data))["rotate"] == []


@pytest.mark.parametrize(("by", "phases"), [("digest", ["look"]), ("fingerprint", ["scan", "look"])])
def test_progress_is_told_by_phase(store, scanner, mark, by, phases):
    for number in range(3):
        commit(store, f"c{number}", LEAK)
    told = []
    target = DIGEST if by == "digest" else mark[0]
    purged(store, scanner, target, progress=lambda *step: told.append(step), dry_run=True)
    assert told == [(phase, 3, 3) for phase in phases]


def test_progress_is_told_every_so_often_and_never_beyond_the_end(store, scanner, monkeypatch):
    commit(store, "c0", LEAK)
    monkeypatch.setattr(
        purge, "iter_manifests", lambda _: ((number, None, None) for number in (255, 256, 257, 512))
    )
    monkeypatch.setattr(purge.catalog, "next_sequence", lambda _: 513)
    told = []
    search = purge._Search(store.environment, scanner, None, lambda *step: told.append(step))
    search.run({DIGEST})
    assert told == [("look", 256, 512), ("look", 512, 512)]
    monkeypatch.setattr(purge.catalog, "next_sequence", lambda _: 300)
    told.clear()
    search.run({DIGEST})
    assert told == [("look", 256, 299), ("look", 299, 299)]


@pytest.mark.parametrize("by", ["digest", "fingerprint"])
def test_what_is_committed_while_the_purge_looks_is_caught_up_with(store, scanner, mark, by):
    commit(store, "c0", LEAK)
    late = []

    def commit_meanwhile(phase, *_):
        if phase == "look" and not late:
            late.append(commit(store, "late", files={"x.py": LEAK, "new.py": SECOND}))
            late.append(store.revert_to_tag("corr_c0", "main")["commit_sha"])
            late.append(commit(store, "clean", b"clean = 1\n", metadata={"note": LEAK.decode()}))

    told = purged(store, scanner, DIGEST if by == "digest" else mark[0], progress=commit_meanwhile)
    assert [run["commit_sha"] for run in told["runs"]][1:] == late[:2]
    with store.environment.read() as transaction:
        assert blobs.find(transaction, DIGEST) is None
        second = blobs.find(transaction, digest_bytes(SECOND))
    if by == "digest":
        assert second is not None
        assert told["remaining"] == []
    else:
        assert second is None
        assert tombstone(store, digest_bytes(SECOND)).size_bytes == len(SECOND)
        assert [(one["where"], one["commit_sha"]) for one in told["remaining"]] == [("metadata", late[2])]
        assert {one["digest"]: one["purged_before"] for one in told["blobs"]} == {
            DIGEST.hex(): False, digest_bytes(SECOND).hex(): False,
        }  # fmt: skip
    assert [entries(store)[number][0] for number in (1, 2, 3)] == [Stage.PARKED_WRITE] * 3


def test_exported_runs_are_listed_for_git_and_their_pushes_held(store, scanner):
    commit(store, "c0")
    leaked = commit(store, "c1", LEAK)
    later = commit(store, "c2")
    back = store.revert_to_tag("corr_c1", "main")["commit_sha"]
    pretend_export(store)
    commit(store, "c3")
    told = purged(store, scanner)
    assert told["git"] == {
        "branches": ["ai/generated/w/t", "main"],
        "tags": ["corr_c1"],
        "commits": [leaked, back],
        "later_commits": [later],
        "paths": ["Backtest/codes/t/a.py"],
    }
    assert entries(store) == {
        1: (Stage.PUSH, None), 2: (Stage.PARKED_PUSH, HELD), 3: (Stage.PARKED_PUSH, FOLLOWER),
        4: (Stage.PARKED_PUSH, HELD), 5: (Stage.PARKED_WRITE, FOLLOWER),
    }  # fmt: skip
    assert told["held"] == 4


def test_later_commits_are_told_oldest_first_and_each_once(store, scanner):
    commit(store, "c0", LEAK)
    between = commit(store, "c1")
    again = commit(store, "c2", files={"a.py": LEAK, "b.py": CLEAN})
    last = commit(store, "c3", b"y = 2\n")
    pretend_export(store)
    git = purged(store, scanner)["git"]
    assert git["later_commits"] == [between, last]
    assert again in git["commits"]
    assert git["branches"] == ["ai/generated/w/t"]
    assert git["tags"] == ["corr_c0", "corr_c2"]


def test_other_branches_go_out_as_before(store, scanner):
    commit(store, "c0", LEAK)
    commit(store, "other", task_id="u")
    purged(store, scanner)
    assert entries(store)[2] == (Stage.WRITE, None)


def test_followers_committed_after_the_purge_are_held_before_a_push(store, scanner):
    commit(store, "c0")
    commit(store, "c1", LEAK)
    commit(store, "other", task_id="u")
    assert purge.hold_followers(store.environment, NOW_US) == 0
    purged(store, scanner)
    assert purge.hold_followers(store.environment, NOW_US) == 0
    commit(store, "c2")
    commit(store, "c3")
    before = entries(store)
    assert purge.hold_followers(store.environment, NOW_US + 1) == 2
    assert entries(store) == before | {
        4: (Stage.PARKED_WRITE, FOLLOWER), 5: (Stage.PARKED_WRITE, FOLLOWER),
    }  # fmt: skip
    with store.environment.read() as transaction:
        assert outbox.find_entry(transaction, 5)[1].last_at_us == NOW_US + 1
    assert purge.hold_followers(store.environment, NOW_US) == 0


def test_holding_followers_begins_at_the_oldest_held_of_a_branch(store, scanner):
    commit(store, "c0", LEAK)
    commit(store, "c1")
    commit(store, "c2", SECOND)
    purged(store, scanner)
    purged(store, scanner, digest_bytes(SECOND))
    with store.environment.write() as transaction:
        transaction.delete(Table.OUTBOX, Stage.PARKED_WRITE.value + blobs.segment_key(2, 0)[:8])
        outbox.enqueue(transaction, 2)
    assert purge.hold_followers(store.environment, NOW_US) == 1
    assert entries(store)[2] == (Stage.PARKED_WRITE, FOLLOWER)


def test_followers_of_a_branch_none_of_whose_entries_is_held_any_more_go_out(store, scanner):
    commit(store, "c0", LEAK)
    purged(store, scanner)
    with store.environment.write() as transaction:
        transaction.delete(Table.OUTBOX, Stage.PARKED_WRITE.value + blobs.segment_key(1, 0)[:8])
    commit(store, "c1")
    assert purge.hold_followers(store.environment, NOW_US) == 0
    assert entries(store) == {2: (Stage.WRITE, None)}


def test_content_that_went_while_the_purge_looked_is_listed_without_what_is_not_known():
    affected = purge._Affected(names={DIGEST: ["b.py", "a.py", "b.py"]})
    assert purge._blob_record(DIGEST, None, None, affected) == {
        "digest": DIGEST.hex(), "oid": "", "size_bytes": 0, "names": ["a.py", "b.py"], "purged_before": True,
    }  # fmt: skip

"""`cas verify`."""

import pytest

from cas import ArtifactStore, ArtifactStoreConfig, blobs
from cas.lmdbenv import DATA_FILE, SUSPECT_FILE, Table
from tests.gc.keeping import flip_byte


def damage(place, needle):
    """Flip one byte of the stored form of something that is in the data file once."""
    path = place / ".cas" / DATA_FILE
    data = bytearray(path.read_bytes())
    at = data.index(needle)
    data[at + len(needle) // 2] ^= 0x40
    path.write_bytes(data)


def test_verify_sound_store_is_ok(store, commit):
    commit()
    ended = store.ok("verify")
    assert ended.out.startswith("ok: 1 commit and 2 stored files")
    assert "blobs: 2 of 2" in ended.err


def test_verify_json_is_lines_of_progress_and_the_result(store, commit):
    commit()
    ended = store.ok("verify", "--json")
    assert ended.json["ok"] is True
    assert ended.err == ""
    assert {each["event"] for each in ended.events[:-1]} == {"progress"}
    assert ended.events[-1]["event"] == "result"
    assert {(each["phase"], each["done"], each["total"]) for each in ended.events[:-1]} >= {("blobs", 2, 2)}
    assert [each["event"] for each in store.ok("verify", "--json", "--quiet").events] == ["result"]


def test_verify_damaged_store_names_the_fault_and_ends_with_its_code(store, commit, place):
    import zlib

    commit("abc123", content="".join(f"{number},{number * 7919 % 1000}\n" for number in range(500)))
    entry = store.ok("show", "latest", "--json").json["file_entries"][1]
    from cas.codec import deflate

    stream = deflate((place / "trades.csv").read_bytes())
    assert zlib.decompress(stream)
    damage(place, stream)
    ended = store("verify")
    assert ended.code == 7
    assert ended.out.startswith("damaged: ")
    assert "held by abc123@1" in " ".join(ended.out.split())
    assert "cas verify --heal" in ended.err
    document = store("verify", "--json").json
    assert [(fault["subject"], fault["runs"]) for fault in document["faults"]] == [
        (entry["digest"], ["abc123@1"])
    ]
    assert store("cat", "latest", "trades.csv").code == 7


def test_verify_of_a_store_with_a_stray_segment_alone_says_what_removes_it(store, commit, place):
    commit()
    with (
        ArtifactStore(ArtifactStoreConfig(repo_path=place)) as opened,
        opened.environment.write() as transaction,
    ):
        transaction.put(Table.SEGMENTS, blobs.segment_key(99, 0), b"of nobody")
    ended = store("verify")
    assert "next: `cas gc`; nothing is lost" in ended.err
    assert "heal" not in ended.err
    store.ok("gc")
    store.ok("verify")


@pytest.mark.parametrize(
    ("table", "is_mended"),
    [(Table.MANIFESTS, False), (Table.OUTBOX, False), (Table.CATALOG, True), (Table.BLOBS, True)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_verify_says_what_heals_and_what_only_a_backup_brings_back(store, commit, place, table, is_mended):
    commit()
    config = ArtifactStoreConfig(repo_path=place, scan_for_secrets=False)
    with ArtifactStore(config) as opened:
        with opened.environment.read() as transaction:
            key = bytes(next(transaction.scan_keys(table)))
        flip_byte(opened, table, key, 3)
    ended = store("verify")
    assert ended.code == 7
    assert ("restore" in ended.err) == (not is_mended)
    assert "cas verify --heal" in ended.err


@pytest.mark.parametrize("words", [(), ("--full",)])
def test_verify_complete_lifts_the_mark_of_a_failed_write(store, commit, place, words):
    commit()
    mark = place / ".cas" / SUSPECT_FILE
    mark.write_text("a write failed\n")
    assert "commits are refused" in store.ok("verify", "--sample", "50%").err
    assert mark.exists()
    refused = store("revert", "corr_abc123")
    assert refused.code == 6
    assert "cas verify --full" in refused.err
    assert "lifted" in store.ok("verify", *words).out
    assert not mark.exists()
    store.ok("revert", "corr_abc123")


@pytest.fixture
def damaged(store, commit, place):
    """A store with a backup beside it, in which one file was damaged since."""
    from cas.codec import deflate

    commit("abc123", content="".join(f"{number},{number * 7919 % 1000}\n" for number in range(500)))
    store.ok("backup", "copy")
    damage(place, deflate((place / "trades.csv").read_bytes()))
    return store


def test_verify_heal_mends_from_a_backup(damaged, place):
    ended = damaged.ok("verify", "--heal", "--from", "copy")
    assert "mended 1 of 1 damaged file" in ended.out
    assert damaged.ok("cat", "latest", "trades.csv").out_bytes == (place / "trades.csv").read_bytes()


def test_verify_heal_mends_from_git(store, commit, place, git):
    from cas.codec import deflate

    commit("abc123", content="".join(f"{number},{number * 7919 % 1000}\n" for number in range(500)))
    git("init", "-q")
    store.ok("export", "--no-push")
    damage(place, deflate((place / "trades.csv").read_bytes()))
    assert "mended 1 of 1" in store.ok("verify", "--heal").out


def test_verify_heal_that_finds_no_source_names_the_runs(damaged):
    ended = damaged("verify", "--heal")
    assert ended.code == 7
    assert "lost: " in ended.out
    assert "abc123@1" in ended.out
    assert damaged("verify", "--heal", "--json").json["healing"]["lost"][0]["runs"] == ["abc123@1"]


@pytest.mark.parametrize("words", [("--sample", "50%"), ("--max-duration", "60s"), ("--sample", "0.5")])
def test_verify_part_of_a_store_is_accepted(store, commit, words):
    commit()
    store.ok("verify", *words)


@pytest.mark.parametrize(
    "words",
    [
        ("--sample", "0%"),
        ("--sample", "101%"),
        ("--sample", "x"),
        ("--max-duration", "soon"),
        ("--full", "--sample", "5%"),
        ("--heal", "--sample", "5%"),
        ("--from", "copy"),
    ],
)
def test_verify_unusable_quantity_is_a_usage_error(store, words):
    assert store("verify", *words).code == 2


def test_verify_rollback_proves_what_the_branch_holds(store, commit):
    commit("one")
    commit("two", content="2\n")
    made = store.ok("revert", "corr_one", "--json").json
    ended = store.ok("verify", "--rollback", "corr_one")
    assert ended.out.startswith("ok: main holds exactly corr_one (2 files")
    assert made["commit_sha"] in ended.out
    assert store.ok("verify", "--rollback", "corr_one", "--json").json == made["certificate"]


def test_verify_rollback_of_a_branch_that_went_on_ends_with_its_code(store, commit):
    commit("one")
    commit("two", content="2\n")
    store.ok("revert", "corr_one")
    store.ok("revert", "corr_two")
    ended = store("verify", "--rollback", "corr_one", "--branch", "main")
    assert ended.code == 11
    assert "taken back to corr_two" in ended.out
    assert store("verify", "--rollback", "corr_one", "-b", "nowhere").code == 11
    assert store("verify", "--rollback", "corr_none").code == 3


def test_verify_rollback_over_damage_ends_as_damage(damaged):
    ended = damaged("verify", "--rollback", "corr_abc123", "--branch", "ai/generated/wf_rsi/t1", "--json")
    assert ended.code == 7
    assert ended.json["damage"]


@pytest.mark.parametrize(
    "words", [("--branch", "main"), ("--rollback", "t", "--full"), ("--rollback", "t", "--sample", "5%")]
)
def test_verify_rollback_with_other_options_is_a_usage_error(store, words):
    assert store("verify", *words).code == 2


def test_verify_heal_mends_a_store_that_a_failed_write_has_marked(damaged, place):
    """The way out that the operations page gives: a mark stays while there is damage, and nothing else is written."""
    mark = place / ".cas" / SUSPECT_FILE
    mark.write_text("a write failed\n")
    assert damaged("verify", "--full").code == 7
    assert mark.exists()
    ended = damaged.ok("verify", "--heal", "--from", "copy")
    assert "mended 1 of 1 damaged file" in ended.out
    assert "lifted" in ended.out
    assert not mark.exists()
    damaged.ok("revert", "corr_abc123")

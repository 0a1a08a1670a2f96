"""`cas verify`."""

import pytest

from cas.lmdbenv import DATA_FILE, SUSPECT_FILE


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


def test_verify_json_has_one_document_and_no_progress(store, commit):
    commit()
    ended = store.ok("verify", "--json")
    assert ended.json["ok"] is True
    assert ended.err == ""


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
    document = store("verify", "--json").json
    assert entry["digest"] in {fault["subject"] for fault in document["faults"]}
    assert store("cat", "latest", "trades.csv").code == 7


def test_verify_full_lifts_the_mark_of_a_failed_write(store, commit, place):
    commit()
    mark = place / ".cas" / SUSPECT_FILE
    mark.write_text("a write failed\n")
    assert "commits are refused" in store.ok("verify").err
    assert mark.exists()
    refused = store("revert", "corr_abc123")
    assert refused.code == 6
    assert "cas verify --full" in refused.err
    assert "lifted" in store.ok("verify", "--full").out
    assert not mark.exists()
    store.ok("revert", "corr_abc123")


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
    ],
)
def test_verify_unusable_quantity_is_a_usage_error(store, words):
    assert store("verify", *words).code == 2

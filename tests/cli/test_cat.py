"""`cas cat`."""

import base64

BYTES = bytes(range(256)) * 300 + b"\r\n\x1b[31m no newline at the end"


def test_cat_binary_file_comes_back_byte_for_byte(store, place):
    (place / "blob.bin").write_bytes(BYTES)
    store.ok("commit", "-w", "w", "-t", "t", "-c", "c", "blob.bin")
    assert store.ok("cat", "latest", "blob.bin").out_bytes == BYTES


def test_cat_json_carries_the_content_as_base64(store, place):
    (place / "blob.bin").write_bytes(BYTES)
    store.ok("commit", "-w", "w", "-t", "t", "-c", "c", "blob.bin")
    document = store.ok("cat", "latest", "blob.bin", "--json").json
    assert base64.b64decode(document["base64"]) == BYTES
    assert document["size_bytes"] == len(BYTES)


def test_cat_metadata_is_the_generated_file(store, commit):
    commit()
    assert '"correlation_id": "abc123"' in store.ok("cat", "latest", "metadata.json").out


def test_cat_unknown_file_lists_the_names(store, commit):
    commit()
    ended = store("cat", "latest", "nothing.txt")
    assert ended.code == 3
    assert "strategy.py, trades.csv" in ended.err
    assert ended.out == ""


def test_cat_as_a_process_writes_the_same_bytes(store, place, spawn):
    (place / "blob.bin").write_bytes(BYTES)
    store.ok("commit", "-w", "w", "-t", "t", "-c", "c", "blob.bin")
    out, err = spawn("cat", "latest", "blob.bin").communicate(timeout=60)
    assert (out, err) == (BYTES, b"")

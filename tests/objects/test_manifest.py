"""Manifests without a store: canonical bytes, what metadata may hold and what an error names, and `metadata.json`."""

import decimal
import enum
import fractions
import json
import math
import time

import msgspec
import pytest

from cas import manifest as manifests
from cas.digest import digest_bytes
from cas.errors import IntegrityError, InvalidMetadataError
from cas.manifest import (
    FIRST_CLASS_KEYS,
    MANIFEST_FORMAT,
    MAX_MANIFEST_BYTES,
    FileEntry,
    ImportedManifest,
    ManifestRow,
    RollbackManifest,
    RunManifest,
    content_digest,
    decode,
    decode_head,
    decode_row,
    encode,
    encode_row,
    load_metadata,
    manifest_id,
    metadata_file_bytes,
    normalise_metadata,
    peek_metadata,
    scan_metadata,
    timestamp_s,
    timestamp_text,
)

FIELDS = {
    "format": MANIFEST_FORMAT,
    "object_format": "sha1",
    "branch": "ai/generated/w/t",
    "parent": None,
    "author_name": "Ann",
    "author_email": "ann@example.org",
    "created_at_us": 1_762_525_800_999_999,
    "workflow_id": "w",
    "task_id": "t",
    "correlation_id": "corr_x",
    "revision": 1,
    "prompt_hash": "p" * 64,
    "metadata": b'{"note":"n","test_metrics":{"pnl":1.50}}',
    "files": (
        FileEntry("b.csv", 3, b"\x01" * 32, b"\x02" * 20),
        FileEntry("a.py", 4, b"\x03" * 32, b"\x04" * 20),
    ),
    "with_metadata_file": True,
}
RUN = RunManifest(**FIELDS)
IMPORTED = ImportedManifest(**FIELDS, commit=b"c", trees=(b"t",), metadata_file=b"{ }\n")
ROLLBACK = RollbackManifest(
    MANIFEST_FORMAT, "sha1", "main", None, "Ann", "ann@example.org", 5, "corr_x", b"\x01" * 20, b"\x02" * 20
)


def row_of(manifest):
    return encode_row(ManifestRow(encode(manifest), b"\x05" * 20, b"\x06" * 20, (("corr_x", b"\x07" * 20),)))


@pytest.mark.parametrize("manifest", [RUN, IMPORTED, ROLLBACK])
def test_manifest_and_row_read_back(manifest):
    assert decode(encode(manifest)) == decode(memoryview(encode(manifest))) == manifest
    assert type(decode(encode(manifest))) is type(manifest)
    assert decode_row(row_of(manifest)).manifest == encode(manifest)
    assert manifest_id(encode(manifest)) == digest_bytes(encode(manifest))


@pytest.mark.parametrize("manifest", [RUN, IMPORTED])
def test_decode_head_gives_the_fields_queries_look_at(manifest):
    head = decode_head(row_of(manifest))
    assert (head.workflow_id, head.task_id, head.correlation_id) == ("w", "t", "corr_x")
    assert (head.revision, head.created_at_us, head.metadata) == (
        1,
        FIELDS["created_at_us"],
        FIELDS["metadata"],
    )
    assert head.prompt_hash == FIELDS["prompt_hash"]


def test_decode_head_of_a_rollback_is_none():
    assert decode_head(row_of(ROLLBACK)) is None


@pytest.mark.parametrize("read", [decode, decode_row, decode_head])
@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x90", encode(RUN)[:-1], msgspec.msgpack.encode(["other", 1])]
)
def test_damaged_bytes_are_refused(read, data):
    with pytest.raises(IntegrityError, match="cannot be decoded"):
        read(data)


@pytest.mark.parametrize("manifest", [RUN, ROLLBACK])
def test_manifest_of_another_format_is_refused_by_its_number(manifest):
    later = msgspec.structs.replace(manifest, format=MANIFEST_FORMAT + 1)
    for read, data in ((decode, encode(later)), (decode_head, row_of(later))):
        with pytest.raises(
            IntegrityError, match=f"has format {MANIFEST_FORMAT + 1}, this version reads"
        ) as caught:
            read(data)
        assert "newer version" in caught.value.hint


@pytest.mark.parametrize("read", [decode, decode_row])
def test_bytes_longer_than_any_manifest_are_refused_before_they_are_read(read):
    with pytest.raises(IntegrityError, match="longer than any"):
        read(bytes(MAX_MANIFEST_BYTES + 1))
    with pytest.raises(IntegrityError, match="cannot be decoded"):
        read(bytes(MAX_MANIFEST_BYTES))


class Colour(str, enum.Enum):  # noqa: UP042  # of this form `str()` gives the name, which is not what is stored
    RED = "red"


class Loose(int):
    """An integer of another type, as numpy's are."""


def test_normalise_metadata_keeps_order_and_plain_values():
    given = {
        "z": 1.5, "a": None, "t": True, "text": "Straße", "n": Loose(7), "f": fractions.Fraction(1, 4),
        "list": [1, (2, "x")], "map": {"k": Colour.RED}, "d": {}, "inner": {"files": 1},
    }  # fmt: skip
    encoded = normalise_metadata(given, 10_000)
    expected = (
        '{"z":1.5,"a":null,"t":true,"text":"Straße","n":7,"f":0.25,"list":[1,[2,"x"]],'
        '"map":{"k":"red"},"d":{},"inner":{"files":1}}'
    )
    assert encoded == expected.encode()
    assert load_metadata(encoded) == scan_metadata(encoded) == peek_metadata(encoded) == json.loads(expected)


def test_normalise_metadata_of_none_is_an_empty_object():
    assert normalise_metadata(None, 0) == b"{}"


def refusal(metadata, max_bytes=10_000):
    with pytest.raises(InvalidMetadataError) as caught:
        normalise_metadata(metadata, max_bytes)
    return caught.value


@pytest.mark.parametrize("value", [1, "text", [1], {1}])
def test_normalise_metadata_of_no_mapping_is_refused(value):
    assert f"not {type(value).__name__}" in str(refusal(value))


@pytest.mark.parametrize(
    ("metadata", "subject", "words"),
    [
        ({"m": {"x": math.nan}}, "m.x", "'m.x' is nan, which JSON cannot hold"),
        ({"m": [1, math.inf]}, "m[1]", "'m[1]' is inf"),
        ({"m": [[-math.inf]]}, "m[0][0]", "'m[0][0]' is -inf"),
        ({"m": {1: 2}}, "m", "key at 'm' is a int"),
        ({1: 2}, None, "key at 'the top' is a int"),
        ({"m": {2}}, "m", "'m' is a set, which JSON cannot hold"),
        ({"m": b"x"}, "m", "'m' is a bytes"),
        ({"m": "a\ud800"}, "m", "at 'm' holds text that is not valid Unicode"),
        ({"m": {"\ud800": 1}}, "m", "at 'm' holds text that is not valid Unicode"),
        ({"\ud800": 1}, None, "at 'the top' holds text that is not valid Unicode"),
        ({"m": 2**2048}, "m", "a whole number of 2049 bits, more than the 2048 allowed"),
        ({"m": fractions.Fraction(10**400)}, "m", "'m' is beyond the range of a double"),
        ({"m": decimal.Decimal(1)}, "m", "'m' is a Decimal"),
    ],
)
def test_normalise_metadata_of_an_unfit_value_names_its_place(metadata, subject, words):
    error = refusal(metadata)
    assert error.subject == subject
    assert words in str(error)


@pytest.mark.parametrize(
    "key", ["workflow_id", "task_id", "correlation_id", "prompt_hash", "commit_timestamp", "files"]
)
def test_normalise_metadata_with_a_key_of_the_store_names_it(key):
    assert refusal({key: 1}).subject == key
    assert normalise_metadata({"m": {key: 1}}, 100) == f'{{"m":{{"{key}":1}}}}'.encode()


def test_normalise_metadata_takes_whole_numbers_and_depth_to_their_limits():
    assert normalise_metadata({"m": 2**2048 - 1}, 10_000)
    nested, deeper = {}, {}
    for _ in range(manifests.MAX_METADATA_DEPTH - 1):
        nested = {"m": nested}
    assert normalise_metadata(nested, 10_000)
    deeper = {"m": nested}
    assert "nested deeper than 64 levels" in str(refusal(deeper))
    assert refusal(deeper).subject == ".".join("m" * 64)
    in_list = nested_list = []
    for _ in range(manifests.MAX_METADATA_DEPTH - 1):
        nested_list = [nested_list]
    assert in_list == []
    assert "nested deeper" in str(refusal({"m": nested_list}))
    assert normalise_metadata({"m": nested_list[0]}, 10_000)


def test_normalise_metadata_counts_bytes_to_the_limit():
    metadata = {"m": "é"}
    assert normalise_metadata(metadata, 10) == '{"m":"é"}'.encode()
    assert "10 bytes of JSON, more than the 9 allowed" in str(refusal(metadata, 9))


def test_load_metadata_of_something_else_is_refused():
    with pytest.raises(IntegrityError, match="not a JSON object"):
        load_metadata(b"[1]")


def test_scan_metadata_takes_numbers_beyond_any_double_and_nothing_but_objects():
    assert scan_metadata(b'{"m":1' + b"0" * 400 + b"}") == {"m": 10**400}
    assert scan_metadata(b'{"m":1e999}') == {"m": math.inf}
    with pytest.raises(IntegrityError, match="not a JSON object"):
        scan_metadata(b"[1]")


def test_content_digest_ignores_order_and_sees_everything_else():
    base = ("w", "t", "p", b'{"a":1,"b":{"c":2,"d":3}}', FIELDS["files"])
    same = ("w", "t", "p", b'{"b":{"d":3,"c":2},"a":1}', FIELDS["files"][::-1])
    assert content_digest(*base) == content_digest(*same)
    first, second = FIELDS["files"]
    others = [
        ("w2", *base[1:]), ("w", "t2", *base[2:]), ("w", "t", None, *base[3:]), (*base[:3], b'{"a":1}', base[4]),
        (*base[:4], (first,)), (*base[:4], (first, msgspec.structs.replace(second, digest=b"\x09" * 32))),
        (*base[:4], (first, msgspec.structs.replace(second, name="c"))), ("t", "w", *base[2:]),
    ]  # fmt: skip
    assert len({content_digest(*one) for one in [base, *others]}) == len(others) + 1
    named = [("a.py", b"\x03" * 32), ("b.csv", b"\x01" * 32)]
    packed = msgspec.msgpack.encode(("w", "t", "p", '{"a":1,"b":{"c":2,"d":3}}', named))
    assert content_digest(*base) == digest_bytes(packed)


@pytest.fixture
def far_from_utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_timestamps_are_whole_seconds_of_utc(far_from_utc):
    assert timestamp_text(1_762_525_800_999_999) == "2025-11-07T14:30:00Z"
    assert timestamp_text(253_402_300_799_999_999) == "9999-12-31T23:59:59Z"
    assert timestamp_text(0) == "1970-01-01T00:00:00Z"
    assert timestamp_s(RUN) == 1_762_525_800


def test_metadata_file_has_the_stores_keys_first_and_numbers_as_written():
    expected = """{
  "workflow_id": "w",
  "task_id": "t",
  "correlation_id": "corr_x",
  "prompt_hash": "%s",
  "commit_timestamp": "2025-11-07T14:30:00Z",
  "agent_version": null,
  "llm_version": null,
  "test_metrics": {
    "pnl": 1.50
  },
  "files": [
    "b.csv",
    "a.py"
  ],
  "note": "n"
}
"""
    assert metadata_file_bytes(RUN).decode() == expected % ("p" * 64)
    assert FIRST_CLASS_KEYS == ("agent_version", "llm_version", "test_metrics")


def test_metadata_file_of_an_imported_run_is_its_own():
    assert metadata_file_bytes(IMPORTED) == b"{ }\n"

"""docs/format.md says what the code does."""

from __future__ import annotations

import inspect
import lzma
import re
from pathlib import Path

import msgspec
import pytest

from cas import blobs, catalog, check, lmdbenv, manifest, metrics, outbox
from cas.lmdbenv import Table
from cas.meta import STORE_FORMAT, StoreMeta
from tests.format.make_store import FOLDER
from tests.store.stores import commit, dump, open_store

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def rows(section):
    """Return the cells of the section's first table, without its head."""
    table = re.search(r"(?:^\|.*\n)+", SECTIONS[section], re.MULTILINE).group()
    lines = [line.strip("|\n").split("|") for line in table.splitlines()[2:]]
    return [[cell.strip() for cell in line] for line in lines]


def codes(text):
    return re.findall(r"`([^`]+)`", text)


def fields(struct):
    return list(struct.__struct_fields__)


def test_page_lists_the_tables_of_the_code():
    assert [codes(row[0])[0] for row in rows("Tables")] == [table.value.decode() for table in Table]
    assert {table.value.decode() for table in Table} <= set(SECTIONS)


def test_page_lists_the_key_families_of_the_code():
    single = {
        value.decode()
        for name, value in vars(catalog).items()
        if isinstance(value, bytes) and len(value) == 1 and value.isalpha() and name.startswith("_")
    }
    assert {codes(row[0])[0] for row in rows("catalog")} == single


def test_page_lists_the_stages_of_the_code():
    assert [codes(row[0])[0] for row in rows("outbox")] == [stage.value.decode() for stage in outbox.Stage]


@pytest.mark.parametrize(
    ("kind", "struct"), [("run", manifest.RunManifest), ("rollback", manifest.RollbackManifest)]
)
def test_page_lists_the_fields_of_a_manifest_in_their_order(kind, struct):
    cells = {codes(row[0])[0]: codes(row[1]) for row in rows("manifests")}
    assert cells[kind] == fields(struct)


def test_page_lists_the_fields_of_an_imported_manifest():
    cells = {codes(row[0])[0]: codes(row[1]) for row in rows("manifests")}
    own = [name for name in fields(manifest.ImportedManifest) if name not in fields(manifest.RunManifest)]
    assert cells["imported"] == ["run", *own]


@pytest.mark.parametrize(
    ("section", "struct"),
    [
        ("manifests", manifest.ManifestRow),
        ("manifests", manifest.FileEntry),
        ("manifests", manifest.WaiverEntry),
        ("manifests", manifest.BaseEntry),
        ("outbox", outbox.Attempt),
        ("outbox", outbox.Deposit),
        ("outbox", blobs.Stream),
        ("receipts", outbox.Receipt),
    ],
)
def test_page_gives_the_fields_of_a_row_in_their_order(section, struct):
    assert f"[{', '.join(f'`{name}`' for name in fields(struct))}]" in SECTIONS[section]


def test_page_gives_the_fields_of_a_blob_row():
    widths = [int(row[0]) for row in rows("blobs")[:-1]]
    assert sum(widths) == blobs._ROW.size
    assert [codes(row[1])[0] for row in rows("blobs")] == [
        *("segment", "offset", "part_count", "stored_bytes", "size_bytes", "crc32", "ruleset", "oid")
    ]
    assert f"{blobs._ROW.size} bytes and the oid" in SECTIONS["blobs"]


def test_page_gives_the_store_row_and_the_format():
    cell = next(row[1] for row in rows("meta") if row[0] == "`store`")
    assert [name for name in codes(cell) if name in fields(StoreMeta)] == fields(StoreMeta)
    assert f"format {STORE_FORMAT} of the store" in PAGE


def test_page_lists_every_meta_name_of_the_code():
    found = set()
    for path in sorted(Path(lmdbenv.__file__).parents[1].glob("*.py")):
        text = path.read_text()
        if "Table.META" not in text and path.stem != "meta":
            continue
        uses = set(re.findall(r"Table\.META,\s*(?:b\"([a-z_:]+)\")", text))
        named = dict(re.findall(r"^(_[A-Z_]+): Final = b\"([a-z_]{4,}:?)\"", text, re.MULTILINE))
        found |= uses | set(named.values())
    found.discard("announced")  # a value
    assert {name for row in rows("meta") for name in codes(row[0])} == found


def test_page_lists_the_invariants_of_the_code_by_level():
    must, should = SECTIONS["Invariants"].split("SHOULD; what")
    named = {
        "MUST": re.findall(r"^- `(\w+)`", must, re.MULTILINE),
        "SHOULD": re.findall(r"^- `(\w+)`", should, re.MULTILINE),
    }
    for level, names in named.items():
        for name in names:
            assert inspect.getdoc(getattr(check, name)).startswith(level), name
    functions = {
        name
        for name, function in inspect.getmembers(check, inspect.isfunction)
        if re.match(r"MUST|SHOULD", inspect.getdoc(function) or "")
    }
    assert set(named["MUST"]) | set(named["SHOULD"]) == functions


def test_page_examples_are_rows_of_the_stored_store(tmp_path):
    import lmdb

    (tmp_path / "data.mdb").write_bytes(lzma.decompress((FOLDER / "sha1.mdb.xz").read_bytes()))
    examples = re.findall(r"^```\n(\w+) ([0-9a-f]+)\n([0-9a-f]+)\n```", PAGE, re.MULTILINE)
    assert {table for table, _, _ in examples} >= {
        "meta",
        "blobs",
        "segments",
        "catalog",
        "outbox",
        "receipts",
    }
    with lmdb.open(str(tmp_path), max_dbs=16, readonly=True, lock=False) as environment:
        for table, key, value in examples:
            database = environment.open_db(table.encode(), create=False)
            with environment.begin(db=database) as transaction:
                assert transaction.get(bytes.fromhex(key)).hex() == value, table


def test_rows_of_a_store_have_the_keys_of_the_page(store_of_everything):
    lengths = {"MANIFESTS": 8, "BLOBS": 32, "SEGMENTS": 12, "OUTBOX": 9, "RECEIPTS": 8}
    dumped = dump(store_of_everything)
    assert dumped["OUTBOX"].pop(metrics.NEWEST_HOUR)
    for table, length in lengths.items():
        assert {len(key) for key in dumped[table]} == {length}
    families = {codes(row[0])[0].encode() for row in rows("catalog")}
    assert {key[:1] for key in dumped["CATALOG"]} <= families
    assert {len(value) for value in dumped["CATALOG"].values()} == {8}
    assert max(len(key) for table in dumped.values() for key in table) <= 511


@pytest.fixture
def store_of_everything(tmp_path):
    with open_store(tmp_path, indexed_metrics=("net_pnl",)) as store:
        commit(store, "i" * 500, workflow_id="w" * 500, task_id="t" * 500, prompt_hash="p" * 500)
        commit(store, "\u4e2d" * 90, workflow_id="/" * 90, task_id="\0" * 90)
        store.revert_to_tag(store.show("latest")["tags"][0], "b" * 244)
        with store.environment.write() as transaction:
            outbox.record_exported(transaction, [1], 1)
        yield store


def test_manifest_bytes_are_canonical(store_of_everything):
    with store_of_everything.environment.read() as transaction:
        for _, row in catalog.iter_rows(transaction):
            assert manifest.encode(manifest.decode(row.manifest)) == row.manifest
            assert msgspec.msgpack.decode(row.manifest)[0] in {"run", "rollback"}

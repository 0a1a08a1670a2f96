"""Rows of a transaction: ranges in either direction are those of a sorted map, and a seal fits one key and value."""

import itertools
import zlib

import pytest

from cas.errors import IntegrityError, StorageError
from cas.lmdbenv import Table
from cas.lmdbenv.transaction import WriteTransaction, sealed, unsealed
from tests.store.stores import open_store, undone_transaction

TABLE = Table.RECEIPTS
KEYS = [
    b"\0", b"a", b"a\0", b"a\xff", b"a\xff\xff", b"ab", b"abc", b"b", b"b\0\0", b"m",
    b"X\xff", b"Y", b"\xfe", b"\xff", b"\xff\xff",
]  # fmt: skip
ROWS = {key: b"value of " + key for key in KEYS}
PREFIXES = [b"", b"X\xff", b"a", b"ab", b"a\xff", b"b", b"c", b"\xff", b"\xff\xff", b"zz"]
STARTS = [None, b"\0", b"a", b"a\xff\0", b"abz", b"b\0", b"c", b"\xff", b"\xff\xff\xff"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("transaction")) as opened:
        yield opened


@pytest.fixture
def transaction(store):
    with undone_transaction(store) as opened:
        for key, value in ROWS.items():
            opened.put(TABLE, key, value)
        yield opened


def test_scan_without_a_prefix_yields_every_row(transaction):
    assert list(transaction.scan(TABLE)) == sorted(ROWS.items())
    assert list(transaction.scan_keys(TABLE)) == sorted(ROWS)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_scan_yields_the_rows_of_a_prefix_in_key_order(transaction, prefix):
    wanted = [(key, ROWS[key]) for key in sorted(ROWS) if key.startswith(prefix)]
    assert list(transaction.scan(TABLE, prefix)) == wanted
    assert list(transaction.scan(TABLE, prefix, reverse=True)) == wanted[::-1]
    assert list(transaction.scan_keys(TABLE, prefix)) == [key for key, _ in wanted]
    assert list(transaction.scan_keys(TABLE, prefix, reverse=True)) == [key for key, _ in wanted][::-1]


@pytest.mark.parametrize(("prefix", "start"), list(itertools.product(PREFIXES, STARTS)))
def test_scan_from_a_start_walks_on_while_the_prefix_holds(transaction, prefix, start):
    onwards = [key for key in sorted(ROWS) if start is None or key >= start]
    if start is None:
        onwards = [key for key in onwards if key >= prefix]
    wanted = list(itertools.takewhile(lambda key: key.startswith(prefix), onwards))
    assert [key for key, _ in transaction.scan(TABLE, prefix, start=start)] == wanted
    from_both = [key for key in sorted(ROWS) if key >= max(prefix, start or b"")]
    wanted = list(itertools.takewhile(lambda key: key.startswith(prefix), from_both))
    assert list(transaction.scan_keys(TABLE, prefix, start=start or b"")) == wanted
    if start is not None:
        backwards = [key for key in sorted(ROWS, reverse=True) if key <= start]
        wanted = list(itertools.takewhile(lambda key: key.startswith(prefix), backwards))
        assert [key for key, _ in transaction.scan(TABLE, prefix, start=start, reverse=True)] == wanted


@pytest.mark.parametrize(
    ("start", "last"),
    [(b"\0", b"\xff\xff"), (b"a", b"b"), (b"a\1", b"aa"), (b"n", b"o"), (b"\xff\xff\xff", b"\xff")],
)
def test_keys_between_holds_both_ends(transaction, start, last):
    assert transaction.keys_between(TABLE, start, last) == [
        key for key in sorted(ROWS) if start <= key <= last
    ]


def test_empty_table_has_nothing(store):
    with store.environment.read() as transaction:
        assert list(transaction.scan(TABLE)) == list(transaction.scan(TABLE, reverse=True)) == []
        assert (
            list(transaction.scan_keys(TABLE)) == list(transaction.scan_keys(TABLE, b"a", reverse=True)) == []
        )
        assert transaction.keys_between(TABLE, b"\0", b"\xff") == []
        assert (transaction.last_key(TABLE), transaction.count(TABLE), transaction.bytes_used(TABLE)) == (
            None,
            0,
            0,
        )


def test_row_is_read_copied_replaced_and_deleted(transaction):
    assert transaction.get(TABLE, b"a") == b"value of a"
    assert bytes(transaction.view(TABLE, b"a")) == b"value of a"
    assert isinstance(transaction.view(TABLE, b"a"), memoryview)
    assert (transaction.get(TABLE, b"x"), transaction.view(TABLE, b"x")) == (None, None)
    assert (transaction.has(TABLE, b"a"), transaction.has(TABLE, b"x")) == (True, False)
    transaction.put(TABLE, b"a", b"")
    assert transaction.get(TABLE, b"a") == b""
    assert [transaction.delete(TABLE, b"a") for _ in range(2)] == [True, False]
    assert transaction.count(TABLE) == len(ROWS) - 1
    assert transaction.last_key(TABLE) == b"\xff\xff"
    assert transaction.get(Table.OUTBOX, b"ab") is None


def test_pages_are_told_in_bytes(transaction):
    assert transaction.bytes_used(TABLE) == 4096
    assert transaction.bytes_used(TABLE, 100) == 100
    transaction.put(TABLE, b"large", bytes(10_000))
    assert transaction.bytes_used(TABLE) == 4 * 4096
    for number in range(200):
        transaction.put(TABLE, b"%d" % number, bytes(100))
    assert transaction.bytes_used(TABLE) > 10 * 4096


def test_append_is_refused_out_of_order(transaction):
    transaction.append(TABLE, b"\xff\xff\xff", b"last")
    assert transaction.get(TABLE, b"\xff\xff\xff") == b"last"
    with pytest.raises(StorageError, match="out of order") as caught:
        transaction.append(TABLE, b"n", b"")
    assert caught.value.kind == "storage_error"


def test_seal_is_the_crc_of_key_and_value():
    stored = sealed(TABLE, b"key", b"value")
    assert stored == b"value" + zlib.crc32(b"value", zlib.crc32(b"key")).to_bytes(4, "big")
    assert bytes(unsealed(TABLE, b"key", memoryview(stored))) == b"value"
    assert sealed(TABLE, b"key", memoryview(b"value")) == stored
    assert sealed(Table.SEGMENTS, b"key", b"stream") == b"stream"
    assert bytes(unsealed(Table.SEGMENTS, b"key", memoryview(b"s"))) == b"s"


@pytest.mark.parametrize("damage", [b"", b"x", b"valu", b"Value", b"value", b"value\0\0\0\0"])
def test_value_without_its_seal_is_refused_and_named(damage):
    with pytest.raises(IntegrityError, match="a row of the table receipts is damaged") as caught:
        unsealed(TABLE, b"key", memoryview(damage))
    assert caught.value.subject == "receipts:6b6579"


def test_value_under_another_key_is_refused_and_listed(transaction):
    raw, handle = transaction._raw, transaction._tables[TABLE]
    assert list(transaction.damaged_keys(TABLE)) == []
    for key, other in ((b"b", b"a"), (b"ab", b"m")):
        raw.put(key, bytes(raw.get(other, db=handle)), db=handle)
    assert list(transaction.damaged_keys(TABLE)) == [b"ab", b"b"]
    for read in (transaction.get, transaction.view):
        with pytest.raises(IntegrityError):
            read(TABLE, b"b")
    with pytest.raises(IntegrityError):
        list(transaction.scan(TABLE, b"b"))
    assert list(transaction.scan_keys(TABLE, b"b")) == [b"b", b"b\0\0"]


def test_stream_is_kept_without_a_seal(transaction):
    transaction.put(Table.SEGMENTS, b"\x01", b"first")
    transaction.append(Table.SEGMENTS, b"\x02", b"second")
    assert [value for _, value in transaction.scan(Table.SEGMENTS)] == [b"first", b"second"]


def test_reserve_hands_the_size_on(transaction):
    asked = []
    WriteTransaction(transaction._raw, transaction._tables, asked.append).reserve(7)
    assert asked == [7]

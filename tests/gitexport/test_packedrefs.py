"""The packed-refs file as bytes: found by bisection at every size, edited in place, refused when it is no such file."""

import random

import pytest

from cas.errors import IntegrityError
from gitexport.packedrefs import HEADER, PackedEdit, PackedRefs

SIZES = [0, 1, 2, 3, 5, 8, 40, 300]


def oid(seed, length=40):
    return f"{seed % 16:x}" * length


def sample(count, length=40):
    """Sorted refs; every third is an annotated tag with its object behind it."""
    generator = random.Random(count)
    names = sorted(
        {
            f"refs/heads/{generator.choice('abc')}/{generator.randrange(10 ** generator.randrange(1, 6))}"
            for _ in range(count)
        }
    )
    return {
        name: (oid(number, length), oid(number + 1, length) if number % 3 == 0 else None)
        for number, name in enumerate(names)
    }


def rendered(refs, header=HEADER):
    lines = [
        f"{value} {name}\n" + (f"^{peeled}\n" if peeled else "")
        for name, (value, peeled) in sorted(refs.items())
    ]
    return header + "".join(lines).encode()


@pytest.mark.parametrize("asked_count", [0, 100_000], ids=["searched", "parsed"])
@pytest.mark.parametrize("length", [40, 64])
@pytest.mark.parametrize("count", SIZES)
def test_find_gives_the_oid_of_every_ref_in_any_order(count, length, asked_count):
    present = sample(count, length)
    refs = PackedRefs(rendered(present), asked_count)
    for names in (list(present), list(present)[::-1], random.Random(1).sample(list(present), len(present))):
        for name in names:
            assert refs.find(name) == present[name][0]
            assert refs.find(name + "x") is None
            assert refs.find(name[:-1]) == present.get(name[:-1], (None, None))[0]
    assert refs.find("a") is None
    assert refs.find("refs/heads/zzz") is None


@pytest.mark.parametrize("asked_count", [0, 100_000], ids=["searched", "parsed"])
@pytest.mark.parametrize("count", SIZES)
def test_below_names_the_first_ref_of_a_folder(count, asked_count):
    present = sample(count)
    refs = PackedRefs(rendered(present), asked_count)
    for folder in (
        "refs",
        "refs/heads",
        "refs/heads/a",
        "refs/heads/b",
        "refs/heads/c",
        "refs/heads/d",
        "refs/head",
    ):
        inside = [name for name in present if name.startswith(folder + "/")]
        assert refs.below(folder) == (min(inside) if inside else None)
    for name in present:
        assert refs.below(name) is None


@pytest.mark.parametrize("asked_count", [0, 100_000], ids=["searched", "parsed"])
@pytest.mark.parametrize("count", SIZES)
def test_edited_puts_in_adds_and_keeps_the_rest(count, asked_count):
    present = sample(count)
    names = list(present)
    edits = {name: ("f" * 40, "e" * 40 if number % 2 else None) for number, name in enumerate(names[::4])}
    edits |= {
        "refs/a": ("d" * 40, None),
        "refs/heads/b/new": ("c" * 40, "b" * 40),
        "refs/z": ("a" * 40, None),
    }
    shuffled = random.Random(2).sample(list(edits), len(edits))
    pieces = PackedRefs(rendered(present), asked_count).edited(
        PackedEdit(name, *edits[name]) for name in shuffled
    )
    assert all(len(piece) for piece in pieces[:-1])
    assert b"".join(pieces) == rendered(present | edits)


@pytest.mark.parametrize("asked_count", [0, 100_000], ids=["searched", "parsed"])
@pytest.mark.parametrize("count", SIZES)
def test_edited_takes_refs_out_with_the_object_behind_them(count, asked_count):
    present = sample(count)
    gone = [*list(present)[::3], *list(present)[1::5], "refs/heads/none"]
    edits = [PackedEdit(name, None) for name in dict.fromkeys(gone)]
    pieces = PackedRefs(rendered(present), asked_count).edited([*edits, PackedEdit("refs/z", "a" * 40)])
    left = {name: value for name, value in present.items() if name not in gone}
    assert all(len(piece) for piece in pieces[:-1])
    assert b"".join(pieces) == rendered(left | {"refs/z": ("a" * 40, None)})


def test_edited_by_nothing_is_the_same_file():
    data = rendered(sample(8))
    assert b"".join(PackedRefs(data).edited([])) == data


def test_edited_of_no_file_begins_with_the_header():
    pieces = PackedRefs(b"").edited([PackedEdit("refs/heads/a", "1" * 40)])
    assert b"".join(pieces) == HEADER + b"1" * 40 + b" refs/heads/a\n"


@pytest.mark.parametrize(
    ("data", "canonical"),
    [
        (b"", True),
        (HEADER, True),
        (b"# pack-refs with: sorted fully-peeled \n", True),
        (b"# pack-refs with: peeled fully-peeled sorted more \n", True),
        (b"# pack-refs with: peeled sorted \n", False),
        (b"# pack-refs with: peeled fully-peeled \n", False),
        (b"# something with: peeled fully-peeled sorted \n", False),
        (b"# peeled fully-peeled sorted \n", False),
        (b"1" * 40 + b" refs/heads/a\n", False),
        (HEADER + b"1" * 40 + b" refs/heads/a", False),
    ],
)
def test_canonical_asks_for_order_peeled_tags_and_a_whole_last_line(data, canonical):
    assert PackedRefs(data).canonical is canonical


@pytest.mark.parametrize(
    "entry",
    [
        b"nonsense\n",
        b"1" * 39 + b" refs/heads/a\n",
        b"1" * 41 + b" refs/heads/a\n",
        b"1" * 40 + b" refs/heads/a",
        b"1" * 40 + b"\n",
    ],
)
def test_malformed_entry_is_refused_where_it_is_met(entry):
    refs = PackedRefs(HEADER + entry)
    with pytest.raises(IntegrityError):
        refs.find("refs/heads/a")
    with pytest.raises(IntegrityError):
        refs.below("refs/heads")
    if entry.endswith(b"\n"):
        with pytest.raises(IntegrityError, match="packed-refs is malformed"):
            PackedRefs(HEADER + entry, 100)


@pytest.mark.parametrize("header", [HEADER, b"# pack-refs with: peeled \n", b""])
def test_data_is_kept_as_it_was_read(header):
    data = rendered(sample(3), header)
    assert PackedRefs(data).data == data
    assert PackedRefs(b"").data == HEADER


class CountingRefs(PackedRefs):
    """Counts how many entries are looked at."""

    looked_at = 0

    def _name_at(self, at):
        self.looked_at += 1
        return super()._name_at(at)


def test_find_in_a_large_file_looks_at_few_entries():
    present = {
        f"refs/heads/{number:05d}": (oid(number), oid(number) if number % 3 else None)
        for number in range(20_000)
    }
    names = list(present)
    refs = CountingRefs(rendered(present))
    for name in random.Random(3).sample(names, 100):
        assert refs.find(name) == present[name][0]
    assert refs.looked_at < 100 * 26  # the logarithm of 20,000 is 14, and the first steps go outwards
    refs.looked_at = 0
    for name in names[7000:7100]:
        assert refs.find(name) == present[name][0]
    assert refs.looked_at < 100 * 8 + 26  # in order, the next answer is near


@pytest.mark.parametrize(
    ("size_bytes", "asked_count", "parsed"),
    [(1024, 0, False), (1024, 1, False), (1024, 2, True), (1025, 2, False)],
)
def test_file_is_parsed_when_it_is_small_beside_what_is_asked(size_bytes, asked_count, parsed):
    data = rendered({f"refs/heads/a{number}": (oid(1), None) for number in range(9)})
    start = b"1" * 40 + b" refs/heads/b"
    data += start + b"b" * (size_bytes - len(data) - len(start) - 1) + b"\n"
    refs = CountingRefs(data, asked_count)
    assert refs.find("refs/heads/a3") == oid(1)
    assert (len(data), refs.looked_at == 0) == (size_bytes, parsed)

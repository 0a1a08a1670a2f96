"""Git objects without git: the bytes as git's documentation has them, the edges, and what an error names."""

import hashlib

import pytest

from cas import objects
from cas.errors import IntegrityError, InvalidInputError, InvalidNameError, StateError
from cas.objects import (
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_SUBMODULE,
    MODE_SYMLINK,
    MODE_TREE,
    GitObject,
    ObjectHasher,
    Person,
    TreeEntry,
    build_tree,
    commit_bytes,
    object_id,
    oid_bytes,
    pack_entry_header,
    parse_tree,
    tag_bytes,
    tree_bytes,
)

ONE, TWO, WIDE = b"\x01" * 20, b"\x02" * 20, b"\x03" * 32
ANN = Person("Ann", "ann@example.org")


def own_id(kind, data, new=hashlib.sha1):
    return new(b"%s %d\0%s" % (kind.encode(), len(data), data)).digest()


@pytest.mark.parametrize("kind", ["commit", "tree", "blob", "tag"])
@pytest.mark.parametrize("data", [b"", b"x", bytes(1000)])
def test_object_id_is_the_digest_of_header_and_content(kind, data):
    assert object_id(kind, data) == object_id(kind, data, "sha1") == own_id(kind, data)
    assert object_id(kind, memoryview(data), "sha256") == own_id(kind, data, hashlib.sha256)
    hasher = ObjectHasher(kind, len(data))
    for start in range(0, len(data), 300):
        hasher.update(data[start : start + 300])
    assert hasher.digest() == own_id(kind, data)


def test_object_hasher_of_another_size_than_announced_says_by_how_much():
    hasher = ObjectHasher("blob", 3, "sha1")
    hasher.update(b"ab")
    with pytest.raises(StateError, match=r"by -1 bytes"):
        hasher.digest()
    hasher.update(b"cd")
    with pytest.raises(StateError, match=r"by \+1 bytes"):
        hasher.digest()


def test_object_hasher_of_unknown_kind_or_negative_size_is_refused():
    with pytest.raises(InvalidInputError) as caught:
        ObjectHasher("note", 0)
    assert caught.value.subject == "note"
    with pytest.raises(InvalidInputError, match="-1"):
        ObjectHasher("blob", -1)
    assert [oid_bytes(name) for name in ("sha1", "sha256")] == [20, 32]


def test_tree_bytes_sorts_folders_as_if_they_ended_in_a_slash():
    entries = [
        TreeEntry(MODE_FILE, b"a.b", ONE),
        TreeEntry(MODE_TREE, b"a", TWO),
        TreeEntry(MODE_EXECUTABLE, b"a0", ONE),
        TreeEntry(MODE_SYMLINK, b"a-", ONE),
        TreeEntry(MODE_SUBMODULE, b"b", TWO),
    ]
    rows = (
        b"120000 a-\0" + ONE,
        b"100644 a.b\0" + ONE,
        b"40000 a\0" + TWO,
        b"100755 a0\0" + ONE,
        b"160000 b\0" + TWO,
    )
    assert tree_bytes(entries) == tree_bytes(entries[::-1]) == b"".join(rows)
    assert tree_bytes([]) == b""
    assert tree_bytes([TreeEntry(MODE_FILE, b"x", WIDE)]) == b"100644 x\0" + WIDE


@pytest.mark.parametrize("name", [b"", b".", b"..", b".git", b".Git", b"a/b", b"a\0b"])
def test_tree_bytes_of_a_bad_name_names_it(name):
    with pytest.raises(InvalidNameError) as caught:
        tree_bytes([TreeEntry(MODE_FILE, name, ONE)])
    assert caught.value.subject == name.decode()


def test_tree_bytes_of_a_name_twice_or_a_bad_mode_names_it():
    with pytest.raises(InvalidNameError) as caught:
        tree_bytes([TreeEntry(MODE_FILE, b"x\xff", ONE), TreeEntry(MODE_TREE, b"x\xff", TWO)])
    assert caught.value.subject == r"x\xff"
    with pytest.raises(InvalidInputError) as caught:
        tree_bytes([TreeEntry(0o100600, b"y", ONE)])
    assert caught.value.subject == "y"
    assert "100600" in str(caught.value)
    assert tree_bytes([TreeEntry(0o100664, b"y", ONE)]) == b"100664 y\0" + ONE


@pytest.mark.parametrize("oids", [[ONE, WIDE], [b"\x01" * 19], [b"\x01" * 21], [b""], [WIDE + b"\x01"]])
def test_tree_bytes_of_mixed_or_odd_oids_is_refused(oids):
    with pytest.raises(InvalidInputError, match="20 or all 32"):
        tree_bytes([TreeEntry(MODE_FILE, b"%d" % number, oid) for number, oid in enumerate(oids)])


def test_parse_tree_reads_what_tree_bytes_writes():
    entries = [TreeEntry(MODE_FILE, b"a b", ONE), TreeEntry(MODE_TREE, b"c", TWO)]
    assert parse_tree(tree_bytes(entries)) == parse_tree(tree_bytes(entries), "sha1") == entries
    wide = [TreeEntry(MODE_FILE, b"a", WIDE)]
    assert parse_tree(tree_bytes(wide), "sha256") == wide
    assert parse_tree(b"") == []
    assert parse_tree(b"7 a\0" + ONE) == [TreeEntry(7, b"a", ONE)]


GOOD = b"100644 a\0" + ONE


@pytest.mark.parametrize(
    ("data", "position"),
    [
        (GOOD[:-1], 0),
        (GOOD + b"x", 29),
        (GOOD + GOOD[:-1], 29),
        (b"100644 \0" + ONE, 0),
        (b" a\0" + ONE, 0),
        (b"0 a\0" + ONE, 0),
        (b"100648 a\0" + ONE, 0),
        (b"100649 a\0" + ONE, 0),
        (b"1006x4 a\0" + ONE, 0),
        (b"100644a", 0),
        (b"100644 a", 0),
        (b"\x01" * 30, 0),
    ],
)
def test_parse_tree_of_anything_else_names_the_entry(data, position):
    with pytest.raises(IntegrityError, match=f"not a sha1 tree: bad entry at byte {position}$"):
        parse_tree(data)


def test_build_tree_makes_every_folder_once_and_the_root_last():
    oid, trees = build_tree({"x/y/a": (MODE_FILE, ONE), "z": (MODE_EXECUTABLE, TWO), "w/b": (MODE_FILE, ONE)})
    deep = tree_bytes([TreeEntry(MODE_FILE, b"a", ONE)])
    side = tree_bytes([TreeEntry(MODE_FILE, b"b", ONE)])
    middle = tree_bytes([TreeEntry(MODE_TREE, b"y", own_id("tree", deep))])
    root = tree_bytes(
        [
            TreeEntry(MODE_TREE, b"w", own_id("tree", side)),
            TreeEntry(MODE_TREE, b"x", own_id("tree", middle)),
            TreeEntry(MODE_EXECUTABLE, b"z", TWO),
        ]
    )
    assert trees == [GitObject("tree", own_id("tree", data), data) for data in (deep, side, middle, root)]
    assert oid == own_id("tree", root)


def test_build_tree_gives_equal_folders_once_and_grafts_trees():
    oid, trees = build_tree({"a/f": (MODE_FILE, ONE), "b/f": (MODE_FILE, ONE), "c": (MODE_TREE, TWO)})
    assert len(trees) == 2
    assert trees[-1].oid == oid
    assert (MODE_TREE, b"c", TWO) in [(e.mode, e.name, e.oid) for e in parse_tree(trees[-1].data)]


def test_build_tree_of_wide_oids_is_of_that_format():
    oid, trees = build_tree({"a/f": (MODE_FILE, WIDE)}, "sha256")
    assert [len(tree.oid) for tree in trees] == [32, 32]
    assert oid == own_id("tree", trees[-1].data, hashlib.sha256)


@pytest.mark.parametrize("path", ["", "/a", "/"])
def test_build_tree_of_a_path_that_is_not_relative_names_it(path):
    with pytest.raises(InvalidNameError, match="must be relative") as caught:
        build_tree({path: (MODE_FILE, ONE)})
    assert caught.value.subject == path


@pytest.mark.parametrize("path", ["a//b", "a/", "a/./b", "a/../b", ".git/x"])
def test_build_tree_of_a_path_that_is_not_canonical_is_refused(path):
    with pytest.raises(InvalidNameError):
        build_tree({path: (MODE_FILE, ONE)})


def test_build_tree_of_an_oid_of_another_format_names_the_path():
    with pytest.raises(InvalidInputError, match="sha1 format") as caught:
        build_tree({"a": (MODE_FILE, WIDE)})
    assert caught.value.subject == "a"


@pytest.mark.parametrize("path", ["a\ud800", "a\ud800/b"])
def test_build_tree_of_a_lone_surrogate_names_the_path(path):
    with pytest.raises(InvalidNameError, match="not valid Unicode"):
        build_tree({path: (MODE_FILE, ONE)})


def test_commit_bytes_is_gits_form():
    head = f"tree {ONE.hex()}\nparent {TWO.hex()}\nparent {ONE.hex()}\n"
    person = "Ann <ann@example.org> 5 +0000"
    plain = f"{head}author {person}\ncommitter {person}\n\nWords.\n"
    assert commit_bytes(ONE, [TWO, ONE], ANN, 5, "Words.\n") == plain.encode()
    signed = f"{head}author {person}\ncommitter {person}\ngpgsig A\n \n B\n\nWords.\n"
    assert commit_bytes(ONE, [TWO, ONE], ANN, 5, "Words.\n", "A\n\nB\n\n") == signed.encode()
    assert b"\ngpgsig-sha256 A\n\n" in commit_bytes(WIDE, [], ANN, 5, "m", "A")


def test_tag_bytes_is_gits_form():
    text = f"object {ONE.hex()}\ntype commit\ntag v1\ntagger Ann <ann@example.org> 5 +0000\n\nWords.\n"
    assert tag_bytes(ONE, "commit", "v1", ANN, 5, "Words.\n") == text.encode()


@pytest.mark.parametrize(
    ("name", "email"), [("", "a"), (" ", "a"), ("a<", "a"), ("a", "a>"), ("a", ""), ("a\n", "a")]
)
def test_person_that_git_refuses_is_refused_and_named(name, email):
    with pytest.raises(InvalidInputError) as caught:
        commit_bytes(ONE, [], Person(name, email), 5, "m")
    assert caught.value.subject in {name, email} - {"a"}


@pytest.mark.parametrize("timestamp_s", [-1, 2**63])
def test_time_that_git_refuses_is_refused(timestamp_s):
    with pytest.raises(InvalidInputError, match=f"{timestamp_s} s"):
        commit_bytes(ONE, [], ANN, timestamp_s, "m")
    assert b"> 0 +0000" in commit_bytes(ONE, [], ANN, 0, "m")
    assert b"> 9223372036854775807 +0000" in commit_bytes(ONE, [], ANN, 2**63 - 1, "m")


@pytest.mark.parametrize("message", ["a\0b", "a\ud800"])
def test_message_that_git_refuses_is_refused(message):
    with pytest.raises(InvalidInputError, match="a commit or tag must"):
        commit_bytes(ONE, [], ANN, 5, message)


@pytest.mark.parametrize(
    "name", ["", "a b", "-a", ".a", "/a", "a.", "a/", "a//b", "a/.b", "a..b", "a@{b", "a.lock", "a~"]
)
def test_tag_name_that_git_refuses_is_refused_and_named(name):
    with pytest.raises(InvalidInputError, match="as a tag name") as caught:
        tag_bytes(ONE, "commit", name, ANN, 5, "m")
    assert caught.value.subject == name


@pytest.mark.parametrize("parents", [[WIDE], [b"\x01" * 19]])
def test_commit_and_tag_bytes_of_odd_oids_are_refused(parents):
    with pytest.raises(InvalidInputError):
        commit_bytes(ONE, parents, ANN, 5, "m")
    with pytest.raises(InvalidInputError):
        tag_bytes(b"\x01" * 19, "commit", "v1", ANN, 5, "m")
    with pytest.raises(InvalidInputError):
        tag_bytes(ONE, "note", "v1", ANN, 5, "m")


@pytest.mark.parametrize(
    ("kind", "size_bytes", "header"),
    [
        ("commit", 0, b"\x10"),
        ("tree", 15, b"\x2f"),
        ("blob", 16, b"\xb0\x01"),
        ("tag", 2047, b"\xcf\x7f"),
        ("blob", 2048, b"\xb0\x80\x01"),
        ("blob", 0x12345, b"\xb5\xb4\x24"),
    ],
)
def test_pack_entry_header_is_four_bits_and_then_seven(kind, size_bytes, header):
    assert pack_entry_header(kind, size_bytes) == header
    with pytest.raises(InvalidInputError, match="-1"):
        pack_entry_header(kind, -1)


def test_modes_are_gits():
    assert [oct(mode) for mode in (objects.MODE_FILE, objects.MODE_TREE)] == ["0o100644", "0o40000"]

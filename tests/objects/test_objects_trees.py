"""Trees: order, nesting, reading back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cas.errors import ArtifactStoreError, IntegrityError, InvalidInputError, InvalidNameError
from cas.objects import (
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_SUBMODULE,
    MODE_SYMLINK,
    MODE_TREE,
    TreeEntry,
    build_tree,
    file_tree_bytes,
    folder_tree_bytes,
    object_id,
    oid_bytes,
    parse_tree,
    tree_bytes,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.objects.conftest import ScratchRepository

MODES = st.sampled_from([MODE_TREE, MODE_FILE, MODE_EXECUTABLE, MODE_SYMLINK, MODE_SUBMODULE])
# Few characters around the slash in byte order, so that "a", "a.b", "a/" and "a0" meet often.
NAMES = st.text(st.sampled_from("ab.-0_ é"), min_size=1, max_size=4).filter(
    lambda name: name not in {".", ".."}
)
PARTS = st.text(st.sampled_from("ab.-0"), min_size=1, max_size=2).filter(lambda name: name not in {".", ".."})
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
OID = b"\x01" * 20


def _oid(number: int, object_format: str) -> bytes:
    return object_id("blob", b"%d" % number, object_format)


def _without_conflicts(paths: list[str]) -> list[str]:
    folders = {path[:at] for path in paths for at, char in enumerate(path) if char == "/"}
    return [path for path in paths if path not in folders]


@settings(max_examples=60, deadline=None)
@given(names=st.sets(NAMES, max_size=8))
def test_file_tree_bytes_any_names_are_what_tree_bytes_gives(names: set[str]) -> None:
    files = {name.encode(): _oid(at, "sha1") for at, name in enumerate(names)}
    assert file_tree_bytes(files) == tree_bytes(
        [TreeEntry(MODE_FILE, name, oid) for name, oid in files.items()]
    )
    for name, oid in files.items():
        assert folder_tree_bytes(name, oid) == tree_bytes([TreeEntry(MODE_TREE, name, oid)])


@pytest.mark.parametrize("name", [b"", b".", b"..", b".git", b".GIT", b"a/b", b"a\0b"])
def test_file_and_folder_tree_bytes_bad_name_is_refused(name: bytes) -> None:
    with pytest.raises(InvalidNameError):
        file_tree_bytes({name: OID})
    with pytest.raises(InvalidNameError):
        folder_tree_bytes(name, OID)


def test_file_tree_bytes_oids_of_two_formats_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        file_tree_bytes({b"a": OID, b"b": b"\x01" * 32})


@settings(max_examples=40, deadline=None)
@given(rows=st.dictionaries(NAMES, MODES, max_size=12))
def test_tree_bytes_any_entries_are_what_mktree_writes(
    repository: ScratchRepository, rows: dict[str, int]
) -> None:
    object_format = repository.object_format
    entries = [
        TreeEntry(mode, name.encode(), _oid(at, object_format))
        for at, (name, mode) in enumerate(rows.items())
    ]
    kinds = {MODE_TREE: "tree", MODE_SUBMODULE: "commit"}
    lines = b"".join(
        b"%06o %s %s\t%s\0"
        % (each.mode, kinds.get(each.mode, "blob").encode(), each.oid.hex().encode(), each.name)
        for each in entries
    )
    oid = repository.git("mktree", "--missing", "-z", stdin=lines).decode().strip()
    assert object_id("tree", tree_bytes(entries), object_format).hex() == oid


@given(st.dictionaries(NAMES, MODES, max_size=12), st.sampled_from(["sha1", "sha256"]))
def test_parse_tree_any_tree_reads_back(rows: dict[str, int], object_format: str) -> None:
    entries = [
        TreeEntry(mode, name.encode(), _oid(at, object_format))
        for at, (name, mode) in enumerate(rows.items())
    ]
    data = tree_bytes(entries)
    parsed = parse_tree(data, object_format)
    assert sorted(parsed, key=lambda each: each.name) == sorted(entries, key=lambda each: each.name)
    assert tree_bytes(reversed(parsed)) == data


@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([b"100644 ", b"a", b"\0", b" ", b"x" * 20])).map(b"".join)
)
def test_parse_tree_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        entries = parse_tree(data)
    except IntegrityError:
        return
    assert b"".join(b"%o %s\0%s" % (each.mode, each.name, each.oid) for each in entries).replace(
        b"0", b""
    ) == (data.replace(b"0", b""))


@pytest.mark.parametrize("cut_bytes", range(1, 32))
def test_parse_tree_cut_short_is_refused(cut_bytes: int) -> None:
    data = tree_bytes([TreeEntry(MODE_FILE, b"name", OID)])
    assert len(data) == 32
    with pytest.raises(IntegrityError):
        parse_tree(data[:-cut_bytes])


def test_parse_tree_old_group_writable_mode_survives_a_rewrite() -> None:
    data = b"100664 old\0" + OID
    assert tree_bytes(parse_tree(data)) == data


@pytest.mark.parametrize("name", [b"", b".", b"..", b".git", b".GIT", b"a/b", b"a\0b"])
def test_tree_bytes_name_that_git_refuses_is_refused(name: bytes) -> None:
    with pytest.raises(InvalidNameError):
        tree_bytes([TreeEntry(MODE_FILE, name, OID)])


def test_tree_bytes_file_and_folder_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidNameError):
        tree_bytes(
            [
                TreeEntry(MODE_FILE, b"a", OID),
                TreeEntry(MODE_FILE, b"a.b", OID),
                TreeEntry(MODE_TREE, b"a", OID),
            ]
        )


@pytest.mark.parametrize(
    "entries",
    [
        [TreeEntry(0o100600, b"a", OID)],
        [TreeEntry(MODE_FILE, b"a", OID[:-1])],
        [TreeEntry(MODE_FILE, b"a", OID), TreeEntry(MODE_FILE, b"b", b"\x01" * 32)],
    ],
)
def test_tree_bytes_bad_mode_or_oid_is_refused(entries: list[TreeEntry]) -> None:
    with pytest.raises(InvalidInputError):
        tree_bytes(entries)


@settings(max_examples=25, deadline=None)
@given(paths=st.lists(PATHS, unique=True, max_size=12).map(_without_conflicts))
def test_build_tree_any_paths_give_the_tree_that_write_tree_gives(
    repository: ScratchRepository, paths: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    object_format = repository.object_format
    files = {path: (MODE_FILE, _oid(at, object_format)) for at, path in enumerate(paths)}
    root, objects = build_tree(files, object_format)
    index: Path = tmp_path_factory.mktemp("index") / "index"
    env = {"GIT_INDEX_FILE": str(index)}
    lines = "".join(f"{mode:o} {oid.hex()}\t{path}\0" for path, (mode, oid) in files.items())
    repository.git("update-index", "-z", "--index-info", stdin=lines.encode(), env=env)
    assert root.hex() == repository.git("write-tree", "--missing-ok", env=env).decode().strip()
    assert build_tree(dict(reversed(files.items())), object_format) == (root, objects)
    _check_objects(root, objects, object_format)


def _check_objects(root: bytes, objects: list, object_format: str) -> None:
    """Every tree once, its id right, and none before the trees it holds; the root last."""
    seen: set[bytes] = set()
    trees = {each.oid for each in objects}
    for each in objects:
        assert each.kind == "tree"
        assert each.oid == object_id("tree", each.data, object_format)
        assert each.oid not in seen
        inner = {entry.oid for entry in parse_tree(each.data, object_format) if entry.mode == MODE_TREE}
        assert inner & trees <= seen
        seen.add(each.oid)
    assert objects[-1].oid == root


def test_build_tree_no_files_is_the_empty_tree() -> None:
    root, objects = build_tree({})
    assert root.hex() == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    assert [each.data for each in objects] == [b""]


def test_build_tree_grafted_tree_is_taken_as_it_is() -> None:
    inner, _ = build_tree({"x/y": (MODE_FILE, OID)})
    whole, _ = build_tree({"top/in/x/y": (MODE_FILE, OID), "other": (MODE_FILE, OID)})
    grafted, objects = build_tree({"top/in": (MODE_TREE, inner), "other": (MODE_FILE, OID)})
    assert grafted == whole
    assert oid_bytes("sha1") == len(grafted)
    assert len(objects) == 2


@pytest.mark.parametrize(
    "paths", [[""], ["/a"], ["a/"], ["a//b"], ["a/./b"], ["../a"], ["a", "a/b"], ["x/.git/y"], ["\ud800"]]
)
def test_build_tree_bad_paths_are_refused(paths: list[str]) -> None:
    with pytest.raises(InvalidNameError):
        build_tree(dict.fromkeys(paths, (MODE_FILE, OID)))


def test_build_tree_oid_of_the_other_format_is_refused() -> None:
    with pytest.raises(ArtifactStoreError):
        build_tree({"a": (MODE_FILE, OID)}, "sha256")


def test_build_tree_thousand_folders_deep_is_built() -> None:
    _, objects = build_tree({"/".join(["d"] * 3000): (MODE_FILE, OID)})
    assert len(objects) == 3000

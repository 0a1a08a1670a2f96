"""Other tools that bring many runs into a repository at once, each told the same orders.

Content is read from the input files, which lie in the page cache. Invariant: each makes the objects and refs that the
orders say and leaves them in an existing bare repository.
"""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engines_git import clean_environment
from benchmarks.floor import read_whole
from cas.objects import MODE_FILE, MODE_TREE, Person, TreeEntry, commit_bytes, tag_bytes, tree_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.orders import Order


def fast_import(repository: Path, _store_dir: Path, orders: Sequence[Order]) -> None:
    """Write one stream into ``git fast-import`` as it comes, annotated tags included."""
    _fast_import(repository, orders)


def fast_import_tuned(repository: Path, _store_dir: Path, orders: Sequence[Order]) -> None:
    """The same without its search for deltas and at compression level 1."""
    _fast_import(repository, orders, ("-c", "core.compression=1"), ("--depth=0",))


def _fast_import(
    repository: Path, orders: Sequence[Order], settings: Sequence[str] = (), options: Sequence[str] = ()
) -> None:
    process = subprocess.Popen(
        ["git", "-C", str(repository), *settings, "fast-import", "--quiet", *options],
        stdin=subprocess.PIPE,
        env=clean_environment(),
    )
    if process.stdin is None:
        raise RuntimeError("git fast-import has no input")
    for order in orders:
        for piece in _fast_import_lines(order):
            process.stdin.write(piece)
    process.stdin.close()
    if process.wait() != 0:
        raise RuntimeError("git fast-import failed")


def _fast_import_lines(order: Order) -> Iterator[bytes]:
    who = "{} <{}> {} +0000".format(*order.author, order.timestamp_s)
    yield f"commit refs/heads/{order.branch}\ncommitter {who}\n".encode() + _data(order.message.encode())
    for name, data in _contents(order):
        yield f"M 100644 inline {'/'.join((*order.folder, name))}\n".encode() + _data(data)
    for tag in order.tags:
        yield f"tag {tag}\nfrom refs/heads/{order.branch}\ntagger {who}\n".encode()
        yield _data(order.tag_message.encode())


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


def _contents(order: Order) -> Iterator[tuple[str, bytes]]:
    for name, path in order.files:
        yield name, read_whole(Path(path))
    yield "metadata.json", order.metadata_file


def gitpython(repository: Path, _store_dir: Path, orders: Sequence[Order]) -> None:
    """GitPython's object database (loose objects), branches by its ``Head``, tags as objects and references."""
    import git as gitpython_package
    from gitdb import IStream

    opened = gitpython_package.Repo(repository)

    def store(kind: str, data: bytes) -> bytes:
        oid: bytes = opened.odb.store(IStream(kind.encode(), len(data), io.BytesIO(data))).binsha
        return oid

    for order in orders:
        commit, tags = _store_order(order, store)
        gitpython_package.Head.create(opened, order.branch, commit.hex())
        for name, oid in tags:
            gitpython_package.Reference.create(opened, f"refs/tags/{name}", oid.hex())
    opened.close()


def _store_order(order: Order, store: Any) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Make an order's objects as bytes and store each; for libraries whose own builders start processes."""
    person = Person(*order.author)
    entries = [TreeEntry(MODE_FILE, name.encode(), store("blob", data)) for name, data in _contents(order)]
    root = store("tree", tree_bytes(entries))
    for name in reversed(order.folder):
        root = store("tree", tree_bytes([TreeEntry(MODE_TREE, name.encode(), root)]))
    commit = store("commit", commit_bytes(root, [], person, order.timestamp_s, order.message))
    tags = [
        (name, store("tag", tag_bytes(commit, "commit", name, person, order.timestamp_s, order.tag_message)))
        for name in order.tags
    ]
    return commit, tags


def dulwich(repository: Path, _store_dir: Path, orders: Sequence[Order]) -> None:
    """dulwich: all objects into one pack, all refs by one rewrite of ``packed-refs``."""
    from dulwich.objects import ShaFile
    from dulwich.repo import Repo

    numbers = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
    opened = Repo(str(repository))
    found: dict[bytes, Any] = {}

    def keep(kind: str, data: bytes) -> bytes:
        item = ShaFile.from_raw_string(numbers[kind], data)
        found[item.id] = item
        return bytes.fromhex(item.id.decode())

    refs: dict[bytes, bytes | None] = {}
    for order in orders:
        commit, tags = _store_order(order, keep)
        refs[f"refs/heads/{order.branch}".encode()] = commit.hex().encode()
        refs.update({f"refs/tags/{name}".encode(): oid.hex().encode() for name, oid in tags})
    opened.object_store.add_objects([(item, None) for item in found.values()])
    opened.refs.add_packed_refs(refs)
    opened.close()


def pygit2(repository: Path, _store_dir: Path, orders: Sequence[Order]) -> None:
    """pygit2: loose objects and refs."""
    import pygit2 as pygit2_package

    opened = pygit2_package.Repository(str(repository))
    for order in orders:
        person = pygit2_package.Signature(*order.author, order.timestamp_s, 0)
        builder = opened.TreeBuilder()
        for name, data in _contents(order):
            builder.insert(name, opened.create_blob(data), MODE_FILE)
        root = builder.write()
        for name in reversed(order.folder):
            outer = opened.TreeBuilder()
            outer.insert(name, root, MODE_TREE)
            root = outer.write()
        commit = opened.create_commit(f"refs/heads/{order.branch}", person, person, order.message, root, [])
        for tag in order.tags:
            kind = pygit2_package.enums.ObjectType.COMMIT
            opened.create_tag(tag, commit, kind, person, order.tag_message)
    opened.free()

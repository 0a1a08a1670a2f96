"""Ways to bring the same runs into a git repository in bulk: this exporter, git's own bulk tools, three libraries.

Invariant: each method is told the same commits (author, time, message, files, tags), so all of them make the same ids
and refs, and the benchmark compares them. A method gets raw content from the input files, which lie in the page cache;
only this store's exporter and `index_pack` read the store. Each runs in a process of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import subprocess
from typing import TYPE_CHECKING, Any, Final

from benchmarks.bulk_peers import dulwich, fast_import, fast_import_tuned, gitpython, pygit2
from benchmarks.engines_git import clean_environment, git
from benchmarks.machine import missing_git, missing_package
from cas import ArtifactStore, ArtifactStoreConfig, blobs, gitform, records
from cas.codec import deflate
from cas.objects import pack_entry_header
from gitexport import Exporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.orders import Order
    from cas.objects import GitObject
    from gitexport.blobcopy import CheckLevel


def this_exporter(
    repository: Path, store_dir: Path, _orders: Sequence[Order], *, check: CheckLevel = "deposit"
) -> None:
    """Export with the product: pack, index, refs, proof and receipts."""
    config = ArtifactStoreConfig(repo_path=repository, store_path=store_dir)
    with ArtifactStore(config, create=False) as store:
        summary = Exporter(store, check=check).run(push=False)
    if summary.state != "done":
        raise RuntimeError(f"the export is {summary.state}: {summary.failures[:3]}")


def index_pack(repository: Path, store_dir: Path, _orders: Sequence[Order]) -> None:
    """Feed the pack that this store's streams make to ``git index-pack``; refs by ``git update-ref`` in one go."""
    process = subprocess.Popen(
        ["git", "-C", str(repository), "index-pack", "--stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=clean_environment(),
    )
    with ArtifactStore(
        ArtifactStoreConfig(repo_path=repository, store_path=store_dir), create=False
    ) as store:
        refs = _feed_pack(store, process.stdin)
    if process.stdin is None or process.stdin.close() or process.wait() != 0:
        raise RuntimeError("git index-pack failed")
    _update_refs(repository, refs)


def _feed_pack(store: ArtifactStore, pipe: Any) -> dict[str, str]:
    refs: dict[str, str] = {}
    made: dict[bytes, GitObject] = {}
    files: dict[bytes, bytes] = {}
    with store.environment.read() as transaction:
        for sequence in range(1, int(str(store.stats()["manifests"])) + 1):
            run, row = records.load_run(transaction, sequence)
            form = gitform.check_row(run, row)
            objects = [*form.tree.objects, form.commit, *(tag.object for tag in form.tags)]
            made.update({item.oid: item for item in objects})
            files.update({entry.oid: entry.digest for entry in run.files})
            refs[f"refs/heads/{run.branch}"] = form.commit.oid.hex()
            refs.update({f"refs/tags/{tag.name}": tag.object.oid.hex() for tag in form.tags})
        checksum = hashlib.sha1(usedforsecurity=False)
        header = b"PACK" + (2).to_bytes(4, "big") + (len(made) + len(files)).to_bytes(4, "big")
        for piece in _pack_pieces(transaction, header, made, files):
            checksum.update(piece)
            pipe.write(piece)
        pipe.write(checksum.digest())
    return refs


def _pack_pieces(
    transaction: Any,
    header: bytes,
    made: Mapping[bytes, GitObject],
    files: Mapping[bytes, bytes],
) -> Iterator[bytes | memoryview]:
    yield header
    for item in made.values():
        yield pack_entry_header(item.kind, len(item.data))
        yield deflate(item.data)
    for digest in files.values():
        blob = blobs.require(transaction, digest)
        yield pack_entry_header("blob", blob.size_bytes)
        yield from blobs.iter_stream(transaction, blob)


def _update_refs(repository: Path, refs: Mapping[str, str]) -> None:
    lines = ["start\n", *(f"create {name} {oid}\n" for name, oid in refs.items()), "prepare\n", "commit\n"]
    git(repository, "update-ref", "--stdin", data="".join(lines).encode())


@dataclasses.dataclass(frozen=True, slots=True)
class MethodKind:
    """A way to export in bulk, and what is to be known of it; `share` is the part of the runs it is given.

    `share_of_many` is its part where there are so many runs that the whole would take minutes.
    """

    name: str
    title: str
    run: Callable[[Path, Path, Sequence[Order]], None]
    missing: Callable[[], dict[str, str] | None] = missing_git
    reads_store: bool = False
    share: float = 1.0
    share_of_many: float = 1.0


METHODS: Final = (
    MethodKind("this_exporter", "this exporter", this_exporter, reads_store=True),
    MethodKind(
        "this_exporter_full",
        "this exporter, every blob inflated and digested",
        functools.partial(this_exporter, check="full"),
        reads_store=True,
    ),
    MethodKind("index_pack", "this store's pack into git index-pack", index_pack, reads_store=True),
    MethodKind("fast_import", "git fast-import", fast_import, share_of_many=0.5),
    MethodKind(
        "fast_import_tuned", "git fast-import, level 1, no deltas", fast_import_tuned, share_of_many=0.2
    ),
    MethodKind(
        "dulwich",
        "dulwich",
        dulwich,
        functools.partial(missing_package, "dulwich", "dulwich"),
        share_of_many=0.2,
    ),
    MethodKind(
        "pygit2",
        "pygit2",
        pygit2,
        functools.partial(missing_package, "pygit2", "pygit2"),
        share_of_many=0.2,
    ),
    MethodKind(
        "gitpython",
        "GitPython",
        gitpython,
        functools.partial(missing_package, "git", "GitPython"),
        share=0.2,
        share_of_many=0.02,
    ),
)

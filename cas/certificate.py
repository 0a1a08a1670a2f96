"""The certificate of a rollback: what a branch holds now, hashed again and compared with the tag.

The tag's files are read and hashed anew, by digest and by git oid; from these oids follows the tree of the artifact
root, and from the branch's newest manifest its commit id. Invariant: a certificate is good only when every one of these
was computed here and fits, nothing is taken from an earlier look. Nothing here writes, and git is not started; whether
git holds the same bytes is for `gitexport.verify`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from cas import blobs, catalog, gitform, records, rollback, soundness
from cas.errors import ArtifactStoreError
from cas.manifest import RunManifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cas.lmdbenv import Environment, ReadTransaction
    from cas.manifest import RollbackManifest
    from cas.records import Record
    from cas.rollback import Base


@dataclasses.dataclass(frozen=True, slots=True)
class Certificate:
    """What was found of one branch and one tag.

    Attributes:
        tag: The tag.
        branch: The branch.
        source_oid: The tag's commit.
        commit_oid: The branch's newest commit; None when there is no such branch.
        read_from: Where the branch's newest commit is known from; ``git`` once people have committed on it.
        artifact_root: Tree of the artifact root that the tag's files give.
        held_root: Tree of the artifact root that the branch holds; None when it holds none.
        file_count: Files of the tag that were read and fit.
        byte_count: Their bytes.
        damage: Files and ids that do not fit.
        differences: What the branch holds other than the tag.
        kept_paths: Entries beside the artifact root that were compared with the commit before, and are the same; None
            when the store does not hold that commit, or the branch's newest commit is no rollback.
    """

    tag: str
    branch: str
    source_oid: bytes
    commit_oid: bytes | None
    read_from: Literal["store", "git"]
    artifact_root: bytes
    held_root: bytes | None
    file_count: int
    byte_count: int
    damage: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    kept_paths: int | None = None

    @property
    def ok(self) -> bool:
        """True when the branch holds exactly what the tag does, and all of it is sound."""
        return not self.damage and not self.differences

    def as_dict(self) -> Record:
        """Return the certificate as JSON-able data."""
        return {
            "ok": self.ok,
            "tag": self.tag,
            "branch": self.branch,
            "commit_sha": None if self.commit_oid is None else self.commit_oid.hex(),
            "source_commit": self.source_oid.hex(),
            "read_from": self.read_from,
            "artifact_root": self.artifact_root.hex(),
            "held_root": None if self.held_root is None else self.held_root.hex(),
            "files": self.file_count,
            "bytes": self.byte_count,
            "kept_paths": self.kept_paths,
            "damage": list(self.damage),
            "differences": list(self.differences),
        }


@dataclasses.dataclass(slots=True)
class _Findings:
    """What a look at the tag and the branch brought together."""

    file_count: int = 0
    byte_count: int = 0
    damage: list[str] = dataclasses.field(default_factory=list[str])
    differences: list[str] = dataclasses.field(default_factory=list[str])
    kept_paths: int | None = None


def certify(
    environment: Environment,
    tag: str,
    branch: str,
    base: Base,
    progress: Callable[[str, int, int], None] | None = None,
) -> Certificate:
    """Hash a tag's files again, and compare them with what a branch holds.

    Args:
        environment: The open store.
        tag: The tag.
        branch: The branch.
        base: What the branch holds now, from `rollback.find_base` or `rollback.base_at`.
        progress: Called with the phase ``hash again``, bytes read, bytes in all.

    Raises:
        NotFoundError: There is no such tag; near matches are in the hint.
        IntegrityError: A manifest that it reads, the tag's or one of the branch, is damaged.
    """
    found = _Findings()
    with environment.read() as transaction:
        run, row = records.load_run(transaction, rollback.find_tag(transaction, tag))
    _hash_files(environment, run, found, progress)
    with environment.read() as transaction:
        found.damage += _unsound_ids(transaction, catalog.find_tag(transaction, tag))
        in_store = base.head is not None and _commit_oid(transaction, base.head) == base.parent
        if in_store:
            found.damage += _unsound_ids(transaction, base.head)
            _compare_kept(transaction, base, found)
        artifact_root = gitform.tree_form(run).artifact_root
        if base.parent is None:
            found.differences.append(f"there is no branch {branch}")
        elif base.artifact_root != artifact_root:
            found.differences.append(_other_state(transaction, branch, base, in_store=in_store))
    return Certificate(
        tag=tag,
        branch=branch,
        source_oid=row.commit_oid,
        commit_oid=base.parent,
        read_from="store" if in_store or base.parent is None else "git",
        artifact_root=artifact_root,
        held_root=base.artifact_root,
        file_count=found.file_count,
        byte_count=found.byte_count,
        damage=tuple(found.damage),
        differences=tuple(found.differences),
        kept_paths=found.kept_paths,
    )


def _hash_files(
    environment: Environment,
    run: RunManifest,
    found: _Findings,
    progress: Callable[[str, int, int], None] | None,
) -> None:
    """Read each file of a run; it counts when digest, size and git oid are those of the manifest."""
    read_bytes, total_bytes = 0, sum(entry.size_bytes for entry in run.files)
    for entry in run.files:
        verdict = soundness.judge(environment, entry.digest)
        with environment.read() as transaction:
            blob = blobs.find(transaction, entry.digest) if verdict and verdict.fault is None else None
        if verdict is None:
            found.damage.append(f"{entry.name}: its content is not in the store")
        elif verdict.fault is not None:
            found.damage.append(f"{entry.name}: {verdict.fault}")
        elif blob is None or (blob.oid, verdict.size_bytes) != (entry.oid, entry.size_bytes):
            found.damage.append(f"{entry.name}: the stored content is not the manifest's")
        else:
            found.file_count += 1
            found.byte_count += entry.size_bytes
        read_bytes += entry.size_bytes
        if progress is not None:
            progress("hash again", read_bytes, total_bytes)


def _commit_oid(transaction: ReadTransaction, sequence: int) -> bytes:
    return records.load(transaction, sequence)[1].commit_oid


def _unsound_ids(transaction: ReadTransaction, sequence: int | None) -> Iterator[str]:
    """Yield what is wrong with the ids of a manifest, which are computed again from it."""
    if sequence is None:
        return
    try:
        gitform.check_row(*records.load(transaction, sequence))
    except ArtifactStoreError as error:
        yield error.message


def _compare_kept(transaction: ReadTransaction, base: Base, found: _Findings) -> None:
    """Compare what stands beside the artifact root with the commit before, where the store holds that one."""
    loaded, _ = records.load(transaction, base.head or 0)
    if isinstance(loaded, RunManifest):
        return
    before = rollback.NO_BASE
    if loaded.parent is not None:
        sequence = records.find_commit(transaction, loaded.parent)
        if sequence is None:
            return  # a commit that people made; only git has it
        before = rollback.base_at(transaction, sequence)
    kept = (*base.root_entries, *base.backtest_entries)
    if kept == (*before.root_entries, *before.backtest_entries):
        found.kept_paths = len(kept)
    else:
        found.differences.append(f"paths beside the artifact root differ from those of {_parent(loaded)}")


def _parent(loaded: RollbackManifest) -> str:
    return "no commit" if loaded.parent is None else loaded.parent.hex()


def _other_state(transaction: ReadTransaction, branch: str, base: Base, *, in_store: bool) -> str:
    if not in_store or base.head is None:
        return f"{branch} was moved on in git, to another artifact root"
    loaded, _ = records.load(transaction, base.head)
    if isinstance(loaded, RunManifest):
        return f"{branch} has gone on to the run {loaded.correlation_id}, revision {loaded.revision}"
    return f"{branch} was taken back to {loaded.tag} since"

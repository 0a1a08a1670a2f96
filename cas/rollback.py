"""Rollback: a new commit that makes a branch's artifact root equal to a tag's, and keeps everything else.

Invariant: history is never rewritten, a branch moves only when every blob of the tag was read and matched its digest,
and the parent is the branch's tip at the moment of the write transaction. Starts no process: git is read through
`cas.gitreader` only for branches the store does not know.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from typing import TYPE_CHECKING, Final

from cas import blobs, catalog, gitform, manifest, marks, metrics, names, outbox, records, soundness
from cas.errors import ConflictError, IntegrityError, InvalidInputError, InvalidNameError, NotFoundError
from cas.manifest import MANIFEST_FORMAT, BaseEntry, ManifestRow, RollbackManifest, RunManifest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cas.certificate import Certificate
    from cas.config import ArtifactStoreConfig
    from cas.gitreader import BranchTip, GitReader
    from cas.lmdbenv import Environment, ReadTransaction, WriteTransaction
    from cas.objects import Signer, TreeEntry

_NEAR_MATCH_COUNT: Final = 3
_NEAR_MATCH_POOL: Final = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Base:
    """What a branch holds before the rollback; ``head`` is its newest manifest in the store, if any."""

    head: int | None
    parent: bytes | None
    root_entries: tuple[BaseEntry, ...] = ()
    backtest_entries: tuple[BaseEntry, ...] = ()
    artifact_root: bytes | None = None


NO_BASE: Final = Base(head=None, parent=None)


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The state to go back to: a tag, its commit, and the tree of its artifact root, whose files were all read."""

    tag: str
    commit_oid: bytes
    artifact_root: bytes


def find_target(
    environment: Environment, tag: str, progress: Callable[[str, int, int], None] | None = None
) -> Target:
    """Return the state a tag names, after reading every blob of it: stored stream, digest and git oid.

    Args:
        environment: The open store.
        tag: The tag.
        progress: Called with the phase ``read``, bytes read, bytes in all.

    Raises:
        NotFoundError: There is no such tag; near matches are in the hint.
        IntegrityError: A blob of it is missing or damaged.
    """
    with environment.read() as transaction:
        sequence = find_tag(transaction, tag)
        run, row = records.load_run(transaction, sequence)
        tree = gitform.check_row(run, row).tree
        known = [blobs.require(transaction, entry.digest) for entry in run.files]
    read_bytes, total_bytes = 0, sum(entry.size_bytes for entry in run.files)
    for entry, blob in zip(run.files, known, strict=True):
        if blob.oid != entry.oid or blob.size_bytes != entry.size_bytes:
            raise IntegrityError(
                f"file {entry.name!r} of {tag} does not match its manifest", subject=entry.name
            )
        verdict = soundness.judge(environment, entry.digest)
        if verdict is None or verdict.fault is not None:
            fault = "was removed" if verdict is None else verdict.fault
            raise IntegrityError(f"file {entry.name!r} of {tag} is damaged: {fault}", subject=entry.name)
        read_bytes += entry.size_bytes
        if progress is not None:
            progress("read", read_bytes, total_bytes)
    return Target(tag=tag, commit_oid=row.commit_oid, artifact_root=tree.artifact_root)


def find_tag(transaction: ReadTransaction, tag: str) -> int:
    """Return the sequence a tag points at.

    Raises:
        NotFoundError: There is no such tag; near matches are in the hint.
    """
    sequence = catalog.find_tag(transaction, tag)
    if sequence is not None:
        check_shown(transaction, sequence, tag)
        return sequence
    near = near_tags(transaction, tag)
    hint = f"Did you mean {', '.join(near)}?" if near else "`cas list` shows the runs and their tags."
    raise NotFoundError(f"there is no tag {tag!r}", subject=tag, hint=hint)


def check_shown(transaction: ReadTransaction, sequence: int, text: str) -> None:
    """Refuse a run that was forgotten.

    Raises:
        NotFoundError: It was; the hint says how it comes back.
    """
    mark = marks.find_forgotten(transaction, sequence)
    if mark is None:
        return
    if mark.is_collected:
        raise NotFoundError(
            f"{text!r} was forgotten, and its files were removed from the store",
            subject=text,
            hint="Commit the same files again under the same correlation ID; that gives the same run. git has them.",
        )
    raise NotFoundError(f"{text!r} was forgotten", subject=text, hint="`cas undelete` brings it back.")


def near_tags(transaction: ReadTransaction, tag: str) -> list[str]:
    """Return a few existing tags that a mistyped one may have meant."""
    prefixed = (
        tag
        if tag.startswith((names.CORRELATION_PREFIX, names.PROMPT_PREFIX))
        else names.CORRELATION_PREFIX + tag
    )
    pool: list[str] = []
    hidden = marks.Hidden(transaction)
    # Those with the longest common beginning first: in a large store the whole list would take seconds.
    for length in range(len(prefixed), 0, -1):
        for name, sequence in catalog.iter_tags(transaction, prefixed[:length]):
            if sequence not in hidden:
                pool.append(name)
            if len(pool) >= _NEAR_MATCH_POOL:
                break
        if len(pool) >= _NEAR_MATCH_COUNT and length <= len(names.CORRELATION_PREFIX) + 1:
            break
        if len(pool) >= _NEAR_MATCH_POOL:
            break
    unique = list(dict.fromkeys(pool))
    close = difflib.get_close_matches(prefixed, unique, _NEAR_MATCH_COUNT, cutoff=0.6)
    # Else those that begin alike, by more than the prefix that all share.
    beginning = prefixed[: len(prefixed.partition("_")[0]) + 2]
    return close or [name for name in unique if name.startswith(beginning)][:_NEAR_MATCH_COUNT]


def check_reason(reason: object) -> str | None:
    """Return the reason of a rollback if it is text that can be kept.

    Raises:
        InvalidInputError: It is not.
    """
    if reason is None:
        return None
    if isinstance(reason, str) and reason.encode(errors="ignore").decode() == reason:
        return names.exact_text(reason)
    raise InvalidInputError("reason must be valid Unicode text", subject="reason")


def check_new_branch(transaction: ReadTransaction, branch: str, prefix: str) -> None:
    """Refuse a new branch that git could not hold beside another: one name would be a folder of the other.

    Below the store's own prefix every future branch has two parts more, so that other names there are refused at once.

    Raises:
        InvalidNameError: The other name is in the text.
    """
    parts = branch.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts))]
    rivals = [name for name in above if catalog.branch_head(transaction, name) is not None]
    rivals += [name for name, _ in itertools.islice(catalog.iter_branches(transaction, f"{branch}/"), 1)]
    own_part_count = prefix.count("/") + 3
    if f"{prefix}/".startswith(f"{branch}/") or (
        branch.startswith(f"{prefix}/") and len(parts) != own_part_count
    ):
        rivals.append(f"{prefix}/<workflow>/<task>")
    if rivals:
        raise InvalidNameError(
            f"branch {branch!r} cannot stand beside {rivals[0]!r}: git has no ref that is also a folder of refs",
            subject=branch,
        )


def find_base(
    environment: Environment,
    config: ArtifactStoreConfig,
    find_reader: Callable[[], GitReader | None],
    branch: str,
    object_format: str,
    *,
    is_new: bool = True,
) -> Base:
    """Return what a branch holds now, from the store, or from git when git knows more.

    The store's head counts while an export of it is pending. Once nothing is pending, a branch outside the store's own
    prefix may have been moved on by people, so git's tip is read and becomes the parent.

    Args:
        environment: The open store.
        config: The store's settings.
        find_reader: Gives what reads git, and is called only when git has to be asked.
        branch: The branch.
        object_format: The store's id format.
        is_new: Whether a branch that is not there is about to be made, and so needs a name that can stand.

    Raises:
        InvalidNameError: A new branch could not stand beside another one.
        GitCommandFailedError: git has to be asked and cannot be.
        ConflictError: The repository uses another object format.
    """
    with environment.read() as transaction:
        base = stored_base(transaction, branch)
        if base.head is None and is_new:
            check_new_branch(transaction, branch, config.branch_prefix)
        own = branch.startswith(f"{config.branch_prefix}/")
        pending = base.head is not None and outbox.get_receipt(transaction, base.head) is None
        if pending or (own and base.head is not None):
            return base
        known = {
            records.load(transaction, number)[1].commit_oid
            for number in catalog.branch_sequences(transaction, branch)
        }
    reader = find_reader()  # loads the half of the product that knows git, and so comes after what needs none
    tip = None if reader is None else reader.branch_tip(config.repo_path, branch)
    if tip is None or tip.commit_oid in known:
        return base
    if tip.object_format != object_format:
        raise ConflictError(
            f"the repository uses {tip.object_format} ids, the store {object_format}",
            hint="Create the store with object_format set to the repository's.",
            subject=branch,
        )
    return _git_base(tip, base.head)


def stored_base(transaction: ReadTransaction, branch: str) -> Base:
    """Return what the store knows a branch to hold; an empty base for a branch it does not know.

    Raises:
        IntegrityError: Its newest manifest is not known, missing or damaged.
    """
    head = catalog.sound_head(transaction, branch)
    return NO_BASE if head is None else base_at(transaction, head)


def base_at(transaction: ReadTransaction, head: int) -> Base:
    """Return what a branch holds whose newest commit is the manifest ``head``."""
    loaded, row = records.load(transaction, head)
    if isinstance(loaded, RunManifest):
        outer, inner = gitform.kept_entries(loaded)
        return Base(
            head=head,
            parent=row.commit_oid,
            root_entries=_base_entries(outer),
            backtest_entries=_base_entries(inner),
            artifact_root=gitform.tree_form(loaded).artifact_root,
        )
    return Base(
        head=head,
        parent=row.commit_oid,
        root_entries=loaded.root_entries,
        backtest_entries=loaded.backtest_entries,
        artifact_root=loaded.artifact_root,
    )


def _git_base(tip: BranchTip, head: int | None) -> Base:
    return Base(
        head=head,
        parent=tip.commit_oid,
        root_entries=_base_entries(tip.root_entries),
        backtest_entries=_base_entries(tip.backtest_entries),
        artifact_root=tip.artifact_root,
    )


def _base_entries(entries: Sequence[TreeEntry]) -> tuple[BaseEntry, ...]:
    return tuple(BaseEntry(entry.mode, entry.name, entry.oid) for entry in entries)


@dataclasses.dataclass(frozen=True, slots=True)
class PreparedRollback:
    """A rollback ready for the write transaction."""

    draft: RollbackManifest
    base: Base
    signer: Signer | None

    def apply(self, transaction: WriteTransaction) -> int | None:
        """Write the rollback.

        Returns:
            The sequence of its manifest, or None when the branch moved since the base was read: read it again.

        Raises:
            NotFoundError: The tag's run was forgotten since its files were read.
            IntegrityError: A file of it was removed or quarantined since.
        """
        _check_whole(transaction, self.draft.tag)
        if catalog.branch_head(transaction, self.draft.branch) != self.base.head:
            return None
        tree = gitform.tree_form(self.draft)
        signature = None if self.signer is None else gitform.sign(self.draft, tree.root, self.signer)
        row = ManifestRow(
            manifest=manifest.encode(self.draft),
            commit_oid=gitform.commit_form(self.draft, tree.root, signature).oid,
            tree_oid=tree.root,
            tags=(),
            signature=signature,
        )
        sequence = catalog.next_sequence(transaction)
        catalog.add(transaction, sequence, self.draft, row, None, ())
        outbox.enqueue(transaction, sequence)
        metrics.add(transaction, self.draft.created_at_us, {"rollbacks": 1})
        return sequence


def _check_whole(transaction: ReadTransaction, tag: str) -> None:
    """Make sure that what was read before the write transaction is still there."""
    run, _ = records.load_run(transaction, find_tag(transaction, tag))
    for entry in run.files:
        if blobs.require(transaction, entry.digest).is_quarantined:
            raise IntegrityError(f"file {entry.name!r} of {tag} is damaged", subject=entry.name)


def prepare(
    target: Target,
    base: Base,
    config: ArtifactStoreConfig,
    *,
    branch: str,
    object_format: str,
    created_at_us: int,
    reason: str | None,
    signer: Signer | None,
) -> PreparedRollback:
    """Return a rollback of ``branch`` to ``target`` on top of ``base``."""
    draft = RollbackManifest(
        format=MANIFEST_FORMAT,
        object_format="sha256" if object_format == "sha256" else "sha1",
        branch=branch,
        parent=base.parent,
        author_name=config.commit_author_name,
        author_email=config.commit_author_email,
        created_at_us=created_at_us,
        tag=target.tag,
        source=target.commit_oid,
        artifact_root=target.artifact_root,
        root_entries=base.root_entries,
        backtest_entries=base.backtest_entries,
        reason=reason,
    )
    return PreparedRollback(draft=draft, base=base, signer=signer)


def result(branch: str, target: Target, certificate: Certificate, *, created: bool) -> dict[str, object]:
    """Return what ``revert_to_tag`` returns: the commit the branch now ends in, and the proof of what it holds."""
    proof = certificate.as_dict()
    return {
        "success": True,
        "commit_sha": proof["commit_sha"],
        "reverted_to": target.tag,
        "branch": branch,
        "error": None,
        "created": created,
        "certificate": proof,
    }

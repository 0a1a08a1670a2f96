"""Taking over a repository of the replaced system: its branches as runs of the store, under their own commit ids.

Invariant: a branch is imported whole, from its first run to its tip, or not at all, with the reason; ids are git's, and
the repository does not change. A second import adds what is new. A branch with a secret stays out unless waived.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from cas import (
    ArtifactStore,
    blobs,
    catalog,
    gitform,
    indexes,
    intake,
    manifest,
    names,
    outbox,
    records,
    tombstones,
)
from cas.arguments import check_instance, check_list, check_progress
from cas.commit import discard_staged
from cas.errors import (
    ConflictError,
    GitCommandFailedError,
    IntegrityError,
    InvalidInputError,
    SecretDetectedError,
)
from cas.lmdbenv import mapped_errors
from cas.manifest import MANIFEST_FORMAT, ImportedManifest, ManifestRow
from cas.silence import silent
from gitexport import lease
from gitexport.branchwalk import branches_below, path_trees, read_history, read_objects
from gitexport.importsummary import ImportSummary, Told
from gitexport.oldruns import (
    OldBranch,
    OldRun,
    add_trees,
    parse_branch,
    parse_commit,
    parse_metadata,
    root_of,
    shown_name,
    texts_of,
)
from gitexport.oldtags import TagBook
from gitexport.options import git_options
from gitexport.repository import GitRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cas.intake import Intake
    from cas.lmdbenv import ReadTransaction, WriteTransaction
    from gitexport.oldruns import OldMetadata
    from gitexport.oldtags import OldTag

SecretPolicy = Literal["refuse", "allow"]

_GROUP_COMMITS = 100  # commits whose files are in memory and in one transaction at a time
_HELD_BYTES = 64 * 1024 * 1024  # contents of a group beyond this wait in files
_TRIES = 3


def import_repository(
    store: ArtifactStore,
    repository: Path | None = None,
    *,
    branches: Sequence[str] | None = None,
    on_secret: SecretPolicy = "refuse",  # noqa: S107  a policy, no password
    dry_run: bool = False,
    wait_s: float | None = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> ImportSummary:
    """Take over the branches ``<branch_prefix>/<workflow>/<task>`` of a repository with all their runs.

    Commits keep their ids, so old tags, rollbacks and queries work, and new runs continue these branches. Each branch
    is durable when its part of the import is done; a killed import is completed by the next one.

    Args:
        store: An open store.
        repository: The repository; None means the store's ``repo_path``. Later exports should go to it as well.
        branches: Only these; None means all below the store's ``branch_prefix``.
        on_secret: ``refuse`` leaves out a branch in which the secret gate finds something, ``allow`` takes it and
            reports.
        dry_run: Read and scan everything, write nothing.
        wait_s: Seconds to wait for an exporter at work; None waits without a limit.
        progress: Called with ``import``, commits done, commits in all.

    Raises:
        GitCommandFailedError: git is missing or failed, or there is no repository.
        ConflictError: The repository uses another object format.
        InvalidInputError: A branch that was named does not exist or has another form, only a remote has any, or an
            argument is of another kind.
        LeaseHeldError: An exporter is at work.
        StorageError: A disk refused.
    """
    try:
        check_instance(store, ArtifactStore, "store")
        path = repository or store.config.repo_path
        return _import_from(store, path, branches, on_secret, wait_s, progress, dry_run=dry_run)
    finally:
        del branches  # who prints the locals of a traceback finds no name in ours


@silent  # as a method of the store, which is handed over by its place
def _import_from(
    store: ArtifactStore,
    repository: Path,
    branches: Sequence[str] | None,
    on_secret: SecretPolicy,
    wait_s: float | None,
    progress: Callable[[str, int, int], None] | None,
    *,
    dry_run: bool,
) -> ImportSummary:
    if branches is not None:
        check_list(branches, "branches", "names")
    if on_secret not in get_args(SecretPolicy):
        raise InvalidInputError("on_secret must be refuse or allow", subject="on_secret")
    check_progress(progress)
    started_s = time.monotonic()
    git = GitRepository.open(repository, git_options(store.config))
    if git.object_format != store.object_format:
        raise ConflictError(
            f"{git.path} uses {git.object_format} ids, the store {store.object_format}",
            hint=f"Make another store for it: `cas init --store DIR -o object_format={git.object_format}`.",
            subject=str(git.path),
        )
    with lease.hold(store.environment.directory, wait_s):
        work = _Import(store, git, on_secret, progress, dry_run=dry_run)
        work.run(branches)
    work.summary.duration_s = time.monotonic() - started_s
    return work.summary


class _BlobGoneError(Exception):
    """A blob that was there during the preparation is gone."""


class _Refused(Exception):  # noqa: N818  the name says what it does to a branch
    """A branch cannot be imported; carries the reason."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Prepared:
    """A commit with its files taken in."""

    run: OldRun
    said: OldMetadata
    metadata_file: bytes
    taken: Intake
    tag_objects: Mapping[str, bytes]


class _Import:
    """One import; owned by one thread, which holds the lease."""

    def __init__(
        self,
        store: ArtifactStore,
        git: GitRepository,
        on_secret: SecretPolicy,
        progress: Callable[[str, int, int], None] | None,
        *,
        dry_run: bool,
    ) -> None:
        self.summary = ImportSummary(dry_run=dry_run)
        self._store = store
        self._git = git
        self._refuses_secrets = on_secret != "allow"  # noqa: S105  a policy, no password
        self._progress = progress
        self._gate = intake.Gate.build(store.config, intake.build_scanner(store.config), store.object_format)
        self._told = Told(self.summary, self._gate.scanner)
        self._tags = TagBook(git.list_refs(["refs/tags"], peeled=True))
        self._shown: Mapping[str, str] | None = None
        self._done = self._total = 0

    def run(self, branches: Sequence[str] | None) -> None:
        """Import branch by branch."""
        tips = self._tips(branches)
        history = read_history(self._git, [tip for _, tip in tips])
        chains = [(branch, history.own_commits(tip, branch.folder)) for branch, tip in tips]
        self._total = sum(len(chain) for _, chain in chains)
        self._shown = self._remote_refs() if chains and not self.summary.dry_run else None
        for branch, chain in chains:
            try:
                self._import_branch(branch, chain, history.flaw(chain, branch.folder))
            except _Refused as error:
                self._told.refuse(branch.name, str(error))
            except (IntegrityError, InvalidInputError, SecretDetectedError) as error:
                self._told.refuse(branch.name, error.message)

    def _tips(self, branches: Sequence[str] | None) -> list[tuple[OldBranch, str]]:
        prefix = self._store.config.branch_prefix
        found = branches_below(self._git, prefix)
        if branches is not None:
            for name in branches:
                if name not in found:
                    raise InvalidInputError(
                        f"there is no branch {name!r} below {prefix} in {self._git.path}", subject=name
                    )
            found = {name: found[name] for name in branches}
        tips: list[tuple[OldBranch, str]] = []
        for name, oid in found.items():
            branch = parse_branch(name, prefix)
            if isinstance(branch, str):
                self._told.refuse(shown_name(name), branch)
            else:
                tips.append((branch, oid))
        return tips

    def _remote_refs(self) -> Mapping[str, str] | None:
        """Return what the remote shows; None when there is none or it does not answer."""
        remote = self._store.config.remote_name
        if remote not in self._git.remotes():
            return None
        try:
            url = self._git.push_url(remote)
            return self._git.list_remote_refs(url, timeout_s=self._store.config.push_timeout)
        except (GitCommandFailedError, InvalidInputError):
            return None  # what is on the remote already is found out by the next push

    def _import_branch(self, branch: OldBranch, chain: Sequence[str], flaw: str | None) -> None:
        if flaw is not None:
            raise _Refused(flaw)
        with self._store.environment.read() as transaction:
            known = self._known_count(transaction, branch, chain)
        self.summary.present += known
        self._step(known)
        fresh = chain[known:]
        if not fresh:
            return
        if len(fresh) > _GROUP_COMMITS and self._refuses_secrets:
            # More than one transaction: look at everything first, so that a finding at the end keeps out the beginning.
            for group in self._groups(branch, fresh):
                self._discard(self._prepare_group(branch, group))
            self._told.forget_remarks(branch.name)
        parent = bytes.fromhex(chain[known - 1]) if known else None
        for group in self._groups(branch, fresh):
            self._import_group(branch, group, parent, tip=chain[-1])
            parent = group[-1].commit_oid
            self._step(len(group))
        self.summary.branches += 1

    def _known_count(self, transaction: ReadTransaction, branch: OldBranch, chain: Sequence[str]) -> int:
        """Return how many of a branch's oldest commits the store has; refuse what cannot continue its own history."""
        own = {
            records.load(transaction, sequence)[1].commit_oid.hex()
            for sequence in catalog.branch_sequences(transaction, branch.name)
        }
        known = next((index for index, oid in enumerate(chain) if oid not in own), len(chain))
        if any(oid in own for oid in chain[known:]):
            raise _Refused("the store holds some of its commits, but not those below them")
        if known == len(chain):
            return known  # the store may have gone on since
        head = catalog.branch_head(transaction, branch.name)
        tip = None if head is None else records.load(transaction, head)[1].commit_oid.hex()
        if tip != (chain[known - 1] if known else None):
            raise _Refused(
                "the store has runs of its own on this branch, which do not stand on the repository's commits"
            )
        return known

    def _groups(self, branch: OldBranch, chain: Sequence[str]) -> Iterator[list[OldRun]]:
        """Yield a branch's commits with their trees, a group at a time."""
        for first in range(0, len(chain), _GROUP_COMMITS):
            oids = chain[first : first + _GROUP_COMMITS]
            runs = {
                oid: parse_commit(oid, data)
                for oid, kind, data in read_objects(self._git, oids)
                if kind == "commit"
            }
            lost = [oid for oid in oids if oid not in runs]
            if lost:
                raise _Refused(f"commit {lost[0]} is missing")
            roots = {root_of(run): {branch.folder} for run in runs.values()}
            trees = path_trees(self._git, roots.keys(), roots)
            for run in runs.values():
                add_trees(run, branch.folder, trees, self._git.object_format)
            yield [runs[oid] for oid in oids]

    def _prepare_group(self, branch: OldBranch, group: Sequence[OldRun]) -> list[_Prepared]:
        """Read, scan and compress the files of some commits; nothing of them is visible yet."""
        wanted = {
            oid.hex() for run in group for oid in (*run.files.values(), run.metadata_oid) if oid is not None
        }
        annotated = {
            tag.oid.hex() for run in group for tag in self._tags.of(run.commit_oid.hex()) if tag.is_annotated
        }
        tag_objects = {oid: data for oid, kind, data in read_objects(self._git, annotated) if kind == "tag"}
        directory = self._store.environment.directory
        with (
            mapped_errors(directory),
            tempfile.TemporaryDirectory(prefix=lease.WORK_PREFIX, dir=directory) as folder,
        ):
            contents = self._read_files(wanted, Path(folder))
            prepared: list[_Prepared] = []
            try:
                for run in group:
                    prepared.append(self._prepare(branch, run, contents, tag_objects))  # noqa: PERF401  what there is is discarded
            except BaseException:
                self._discard(prepared)
                raise
            return prepared

    def _discard(self, prepared: Sequence[_Prepared]) -> None:
        """Remove what large files have left in the store so far."""
        for item in prepared:
            discard_staged(self._store.environment, item.taken)

    def _read_files(self, wanted: set[str], folder: Path) -> dict[str, bytes | Path]:
        """Return contents by oid; large ones in files, so that memory stays bounded."""
        contents: dict[str, bytes | Path] = {}
        held_bytes = 0
        for stream in self._git.iter_object_bytes(sorted(wanted)):
            if stream.kind != "blob":
                raise _Refused(f"file {stream.oid} is {stream.kind}")
            held_bytes += stream.size_bytes
            if held_bytes <= _HELD_BYTES and stream.size_bytes <= intake.LARGE_FILE_BYTES:
                contents[stream.oid] = b"".join(stream)
                continue
            held_bytes -= stream.size_bytes
            path = folder / stream.oid
            with path.open("xb") as file:
                for chunk in stream:
                    file.write(chunk)
            contents[stream.oid] = path
        return contents

    def _prepare(
        self,
        branch: OldBranch,
        run: OldRun,
        contents: Mapping[str, bytes | Path],
        tag_objects: Mapping[str, bytes],
    ) -> _Prepared:
        raw: bytes | None = None
        if run.metadata_oid is not None:
            content = contents[run.metadata_oid.hex()]
            raw = content if isinstance(content, bytes) else content.read_bytes()
        said = parse_metadata(raw, self._store.config.max_metadata_bytes)
        commit = run.commit_oid.hex()
        for remark in (*run.remarks, *self._tags.remarks(commit), *([said.remark] if said.remark else [])):
            self._told.remark(branch.name, commit, remark)
        sources = {name: contents[oid.hex()] for name, oid in run.files.items()}
        tags = {tag.name: tag_objects.get(tag.oid.hex()) for tag in self._tags.of(run.commit_oid.hex())}
        texts = {names.METADATA_NAME: raw or b"", **texts_of(branch, run, tags, self._git.object_format)}
        taken = self._take_in(branch, sources, texts)
        for entry in taken.entries:
            if entry.oid != run.files[entry.name]:
                raise IntegrityError(f"git gave other bytes than those of {run.files[entry.name].hex()}")
        return _Prepared(run, said, raw or b"", taken, tag_objects)

    def _take_in(
        self, branch: OldBranch, sources: Mapping[str, intake.Content], texts: Mapping[str, bytes]
    ) -> Intake:
        environment = self._store.environment
        try:
            return intake.take_in(environment, self._gate, sources, texts)
        except SecretDetectedError as error:
            self._told.find(branch.name, error.findings)
            if self._refuses_secrets:
                raise _Refused(error.message) from error
        # Not remembered as scanned: the next commit with the same file meets the gate again.
        return intake.take_in(environment, dataclasses.replace(self._gate, scanner=None), sources, texts)

    def _import_group(
        self, branch: OldBranch, group: Sequence[OldRun], parent: bytes | None, *, tip: str
    ) -> None:
        prepared: list[_Prepared] = []
        for attempt in range(_TRIES):
            prepared = self._prepare_group(branch, group)
            if self.summary.dry_run:
                self._discard(prepared)
                break
            try:
                self._write(branch, prepared, parent, tip=tip)
                break
            except BaseException as error:
                self._discard(prepared)
                if not isinstance(error, _BlobGoneError):
                    raise
                if attempt + 1 == _TRIES:
                    raise _Refused(
                        "its files were collected while they were imported; import again"
                    ) from None
        self.summary.commits += len(prepared)
        self.summary.files += sum(len(item.taken.entries) for item in prepared)
        self.summary.raw_bytes += sum(item.taken.raw_bytes for item in prepared)

    def _write(
        self,
        branch: OldBranch,
        prepared: Sequence[_Prepared],
        parent: bytes | None,
        *,
        tip: str,
    ) -> None:
        reserve_bytes = sum(len(blob.stream) for item in prepared for blob in item.taken.new_blobs)
        with self._store.environment.write(reserve_bytes=reserve_bytes) as transaction:
            for item in prepared:
                _add_blobs(transaction, item.taken)
                draft, row = self._manifest(transaction, branch, item, parent)
                gitform.check_row(draft, row)
                sequence = catalog.next_sequence(transaction)
                content = manifest.content_digest(
                    draft.workflow_id, draft.task_id, draft.prompt_hash, draft.metadata, draft.files
                )
                catalog.add(transaction, sequence, draft, row, content, indexes.maintained(transaction))
                pushed = self._is_on_remote(branch, row, tip)
                outbox.record_imported(transaction, sequence, self._store.now_us(), pushed=pushed)
                parent = row.commit_oid

    def _manifest(
        self,
        transaction: ReadTransaction,
        branch: OldBranch,
        item: _Prepared,
        parent: bytes | None,
    ) -> tuple[ImportedManifest, ManifestRow]:
        run = item.run
        tags: list[OldTag] = []
        for tag in self._tags.of(run.commit_oid.hex()):
            owner = catalog.find_tag(transaction, tag.name)
            if owner is None:
                tags.append(tag)
            elif records.load(transaction, owner)[1].commit_oid != run.commit_oid:
                raise _Refused(f"tag {tag.name} is one of another run of the store")
            # Else another branch that stands on the same commit has it.
        correlation_id, revision, prompt_hash = self._tags.identity(
            transaction, run.commit_oid.hex(), tags, item.said
        )
        draft = ImportedManifest(
            format=MANIFEST_FORMAT,
            object_format=self._git.object_format,
            branch=branch.name,
            parent=parent,
            author_name=run.author_name,
            author_email=run.author_email,
            created_at_us=run.created_at_us,
            workflow_id=branch.workflow_id,
            task_id=branch.task_id,
            correlation_id=correlation_id,
            revision=revision,
            prompt_hash=prompt_hash,
            metadata=item.said.metadata,
            files=item.taken.entries,
            with_metadata_file=run.metadata_oid is not None,
            waivers=item.taken.waivers,
            commit=run.commit,
            trees=run.trees,
            metadata_file=item.metadata_file,
            tag_objects=tuple(
                (tag.name, item.tag_objects[tag.oid.hex()])
                for tag in tags
                if tag.oid.hex() in item.tag_objects
            ),
        )
        row = ManifestRow(
            manifest=manifest.encode(draft),
            commit_oid=run.commit_oid,
            tree_oid=bytes.fromhex(root_of(run)),
            tags=tuple((tag.name, tag.oid) for tag in tags),
        )
        return draft, row

    def _is_on_remote(self, branch: OldBranch, row: ManifestRow, tip: str) -> bool:
        if self._shown is None or self._shown.get(f"refs/heads/{branch.name}") != tip:
            return False
        return all(self._shown.get(f"refs/tags/{name}") == oid.hex() for name, oid in row.tags)

    def _step(self, count: int) -> None:
        self._done += count
        if self._progress is not None and count:
            self._progress("import", self._done, self._total)


def _add_blobs(transaction: WriteTransaction, taken: Intake) -> None:
    fresh = {blob.digest for blob in taken.new_blobs}
    for entry in taken.entries:
        if entry.digest not in fresh and blobs.find_sound(transaction, entry.digest) is None:
            raise _BlobGoneError
    if any(tombstones.exists(transaction, digest) for digest in fresh):
        raise _BlobGoneError  # purged meanwhile: taking it in again tells which file
    blobs.add(transaction, taken.new_blobs)

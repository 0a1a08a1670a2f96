"""The calls that take branches back, and that prove what a branch holds.

Invariant: a branch only moves forward, by a commit that is durable on return, and only to a tag whose every byte was
read. Thin: the work is done by `cas.rollback` and `cas.certificate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cas import certificate, commit, names, rollback
from cas.arguments import check_progress
from cas.errors import ArtifactStoreError, SecretDetectedError
from cas.gitreader import find_git_reader
from cas.groupcommit import group_commit_of
from cas.keeper import StoreKeeper
from cas.silence import refusal, shown, silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from cas.certificate import Certificate
    from cas.config import ObjectFormat
    from cas.gitreader import GitReader
    from cas.groupcommit import GroupCommit
    from cas.meta import StoreMeta
    from cas.objects import Signer
    from cas.records import Record


class BranchReverter(StoreKeeper):
    """What takes the branches of an open store back; thread-safe."""

    meta: StoreMeta
    _git_reader: GitReader | None
    _signer: Signer | None

    @property
    def object_format(self) -> ObjectFormat:
        """Id format of this store's commits, fixed when it was created."""
        return self.meta.object_format

    @property
    def commit_queue(self) -> GroupCommit:
        """The queue that joins this process's commits into shared transactions."""
        return group_commit_of(self.environment, commit.decode_relayed)

    @silent
    def revert_to_tag(
        self,
        tag: str,
        target_branch: str = "main",
        *,
        reason: str | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Record:
        """Make a branch's artifact root (``Backtest/codes/``) equal to a tag's by a new commit.

        History is never rewritten and every other path of the branch stays. The branch may be the store's own, one
        that only the git repository knows (its tip is read once), or new. The commit is durable and its id known on
        return; git gets it with the next export. A branch that holds the state already gets no new commit.

        Args:
            tag: A correlation or prompt tag of this store.
            target_branch: The branch to move forward.
            reason: Kept in the history and the commit message.
            progress: Called with phase, bytes done, bytes in all; the tag's files are read before and after the move.

        Returns:
            ``success, commit_sha, reverted_to, branch, error, created, certificate``; for the certificate all of the
            tag was read and hashed again after the branch moved, see `verify_rollback`.

        Raises:
            SecretDetectedError: The reason or the branch's name holds a credential; also with ``raise_errors`` False.
            InvalidInputError: The reason cannot be kept, or the branch's name cannot stand in git.
            NotFoundError: No such tag; near matches are in the hint.
            IntegrityError: The tag's content is damaged; the branch is unchanged.
            ConflictError: The git repository uses another object format.
            GitCommandFailedError: git had to be asked for a branch that only it can know, and failed.
        """
        try:
            return self._revert(tag, target_branch, reason, progress)
        except SecretDetectedError:
            raise
        except ArtifactStoreError as error:
            if self.config.raise_errors or refusal(self.secret_scanner, error) is not None:
                raise
            refused: Record = {
                "success": False,
                "commit_sha": None,
                "reverted_to": None,
                "branch": shown(self.secret_scanner, target_branch),
            }
            return refused | error.as_dict()

    def _revert(
        self,
        tag: object,
        target_branch: object,
        reason: str | None,
        progress: Callable[[str, int, int], None] | None,
    ) -> Record:
        self._check_open()
        check_progress(progress)
        reason = rollback.check_reason(reason)
        self._refuse_secrets("reason", reason)
        branch = names.check_branch_name(target_branch)
        self._refuse_secrets("branch", branch)  # it stands in the manifest and in git's refs
        target = rollback.find_target(self._environment, names.check_id(tag, "tag"), progress)
        while True:
            base = rollback.find_base(
                self._environment, self.config, self._find_git_reader, branch, self.object_format
            )
            if base.artifact_root == target.artifact_root and base.parent is not None:
                proof = certificate.certify(self._environment, target.tag, branch, base, progress)
                return rollback.result(branch, target, proof, created=False)
            prepared = rollback.prepare(
                target,
                base,
                self.config,
                branch=branch,
                object_format=self.object_format,
                created_at_us=self.now_us(),
                reason=reason,
                signer=self._signer,
            )
            sequence = self.commit_queue.run(prepared.apply)
            if sequence is not None:
                with self._environment.read() as transaction:
                    base = rollback.base_at(transaction, sequence)
                proof = certificate.certify(self._environment, target.tag, branch, base, progress)
                return rollback.result(branch, target, proof, created=True)

    @silent
    def verify_rollback(
        self,
        tag: str,
        branch: str = "main",
        *,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Certificate:
        """Hash again what a branch holds now, and compare it with a tag; changes nothing.

        Args:
            tag: A correlation or prompt tag of this store.
            branch: The branch; one that people have moved on in git is read there.
            progress: Called with phase, bytes done, bytes in all.

        Returns:
            The certificate; ``ok`` when the branch's artifact root is exactly the tag's, and all of it is sound.

        Raises:
            InvalidInputError: git refuses the branch's name.
            NotFoundError: No such tag.
            IntegrityError: The tag's manifest is damaged.
            ConflictError: The git repository uses another object format.
            GitCommandFailedError: git had to be asked for a branch that only it can know, and failed.
        """
        self._check_open()
        check_progress(progress)
        name = names.check_branch_name(branch)
        checked = names.check_id(tag, "tag")
        base = rollback.find_base(
            self._environment, self.config, self._find_git_reader, name, self.object_format, is_new=False
        )
        return certificate.certify(self._environment, checked, name, base, progress)

    def _find_git_reader(self) -> GitReader | None:
        return self._git_reader or find_git_reader(self.config)

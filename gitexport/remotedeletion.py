"""Deleting refs at a remote, each only where the remote still has exactly the oid that was put there.

Invariant: git is given the expected oid of every ref (``--force-with-lease=<ref>:<oid>``), and the remote compares once
more; a ref that somebody moved is left alone and told of. Nothing is deleted without that. Keeps no state between
calls: what is gone already is not asked for again.

Names are explicit here, where a push uses wildcards (see ``transfer.py``): git compares each with every ref of the
remote, so the more refs that has, the fewer names go into one push.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import TYPE_CHECKING, Final

from cas.errors import GitCommandFailedError
from gitexport.git import one_line
from gitexport.transfer import delete_once, is_collateral

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gitexport.repository import GitRepository
    from gitexport.transfer import PushAnswer

DELETES_PER_PUSH: Final = 500
# Names times refs of the remote: git compares each with each before it sends anything, and a push has some seconds.
_COMPARISONS_PER_PUSH: Final = 5_000_000
_TIMEOUT_COUNT: Final = 4  # pushes that may run out of time, each half as long, before something is deleted
_SHOWN_CHARS: Final = 500
_MOVED: Final = "stale info"  # said by the git of this side, of a ref that is not where it was expected
_LOST_ANSWER: Final = re.compile(r"report status|no answer")
_BLANKET_COUNT: Final = 4  # refs refused one by one, none deleted: the remote deletes nothing
_REFUSAL_COUNT: Final = (
    64  # refused pushes spent on finding culprits in one call; hosts ask for a few a minute
)


@dataclasses.dataclass(slots=True)
class DeletionReport:
    """What a call came to.

    Attributes:
        deleted_count: Refs that the remote took away.
        kept: Refs that it has still, with the reason.
        push_count: How many pushes were run.
        error: Why the rest was not tried, or None.
        refuses_all: Whether that is because the remote deletes nothing.
    """

    deleted_count: int = 0
    kept: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    push_count: int = 0
    error: str | None = None
    refuses_all: bool = False


def delete_remote_refs(
    repository: GitRepository,
    url: str,
    refs: Mapping[str, str],
    *,
    timeout_s: float,
    ref_count: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[str, int, int], None] | None = None,
) -> DeletionReport:
    """Delete refs at a remote, in batches; smaller ones, once a push has run out of time.

    Args:
        repository: Whose configuration says how the remote is reached.
        url: As ``GitRepository.push_url`` gives it.
        refs: Full name -> hex oid that the remote is expected to have.
        timeout_s: Seconds one git process may take before its process group is killed.
        ref_count: How many refs the remote has, about; the more, the smaller the batches.
        should_stop: Asked before each push; when true, what is left stays.
        progress: Called with ``delete``, refs settled, refs in all.

    Raises:
        InvalidNameError: A name git would refuse.
        OSError: The temporary view of the refs cannot be written.
    """
    room = max(1, min(DELETES_PER_PUSH, _COMPARISONS_PER_PUSH // max(1, ref_count)))
    deleting = _Deleting(repository, url, timeout_s, DeletionReport(), room)
    names = iter(sorted(refs))
    done = 0
    while batch := list(itertools.islice(names, deleting.room)):
        work = [{name: refs[name] for name in batch}]
        while work and deleting.report.error is None:
            if should_stop():
                deleting.report.error = "stopped"
            elif len(work[-1]) > deleting.room:
                work.extend(_halves(work.pop()))
            else:
                work.extend(deleting.attempt(work.pop()))
        if deleting.report.error is not None:
            break
        done += len(batch)
        if progress is not None:
            progress("delete", done, len(refs))
    return deleting.report


@dataclasses.dataclass(slots=True)
class _Deleting:
    """One call: how the remote is reached, and what it has said so far."""

    repository: GitRepository
    url: str
    timeout_s: float
    report: DeletionReport
    room: int  # refs in one push
    atomic: bool = True
    timeout_count: int = 0  # since something was deleted
    refusal_count: int = 0
    blamed_count: int = 0  # refused pushes of which the remote named culprits
    refused_ref_count: int = 0  # those culprits

    def attempt(self, refs: dict[str, str]) -> list[dict[str, str]]:
        """Delete some refs by one push, and return what to push next."""
        self.report.push_count += 1
        try:
            answer = delete_once(
                self.repository, self.url, refs, timeout_s=self.timeout_s, atomic=self.atomic
            )
        except GitCommandFailedError as error:
            return self._after_silence(refs, error.message, halve=error.kind == "git_timeout")
        lost = any(_LOST_ANSWER.search(ref.reason) for ref in answer.refs.values())
        if answer.refs and not lost:
            return self._after_answer(refs, answer)
        if self.atomic and answer.lacks_atomic:
            self.atomic = False
            return [refs]
        return self._after_silence(
            refs, one_line(answer.text)[:_SHOWN_CHARS] or "the remote gave no answer", halve=False
        )

    def _after_silence(self, refs: dict[str, str], reason: str, *, halve: bool) -> list[dict[str, str]]:
        """Go on after a push of unknown outcome: ask the remote what is gone, and try the rest in smaller steps."""
        try:
            shown = self.repository.list_remote_refs(self.url, timeout_s=self.timeout_s)
        except GitCommandFailedError:
            self.report.error = reason
            return []
        left = {name: oid for name, oid in refs.items() if name in shown}
        self.report.deleted_count += len(refs) - len(left)
        self.timeout_count = self.timeout_count + 1 if len(left) == len(refs) else 0
        if not left:
            return []
        if self.timeout_count >= _TIMEOUT_COUNT or (len(left) == len(refs) and not (halve and len(left) > 1)):
            self.report.error = reason
            return []
        if halve:
            self.room = max(1, len(refs) // 2)
        return [left]

    def _after_answer(self, refs: dict[str, str], answer: PushAnswer) -> list[dict[str, str]]:
        """Go on with what was refused for the sake of others, without those."""
        refused = {name: answer.reason(name) for name in refs if not answer.accepts(name)}
        self.report.deleted_count += len(refs) - len(refused)
        self.timeout_count = 0
        own = {name: reason for name, reason in refused.items() if not is_collateral(reason)}
        rest = {name: refs[name] for name in refused if name not in own}
        if len(rest) == 1 and not own:  # nobody else is to blame
            own, rest = refused, {}
        self.report.kept |= own
        self.refusal_count += bool(refused)
        count = sum(1 for reason in own.values() if _MOVED not in reason)
        self.blamed_count += bool(count)
        self.refused_ref_count += count
        # Several that are named at once say nothing of those that were only refused for their sake.
        blamed_count = self.blamed_count if rest else self.refused_ref_count
        if blamed_count >= _BLANKET_COUNT and not self.report.deleted_count:
            self.report.refuses_all = True
            self.report.error = f"the remote deletes nothing: {next(iter(self.report.kept.values()))}"
        elif rest and self.refusal_count > _REFUSAL_COUNT:
            self.report.error = (
                f"the remote refused {self.refusal_count} pushes: {next(iter(refused.values()))}"
            )
        elif rest:
            return [rest] if own else _halves(rest)
        return []


def _halves(refs: dict[str, str]) -> list[dict[str, str]]:
    names = list(refs)
    middle = (len(names) + 1) // 2
    return [{name: refs[name] for name in part} for part in (names[middle:], names[:middle])]

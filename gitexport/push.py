"""Pushing groups of refs within budgets: who lands, who is refused for good, who is worth another try.

Invariant: a group (a branch and the tags of one run) is reported as pushed only if the remote holds every ref
of it at the given oid, by its own word. Nothing is forced or deleted. An answer that was lost is never
guessed: the remote is asked what it has. This module keeps no state between calls; what was pushed before is
found to be up to date.

How a refusal is narrowed down, as git says too little: the culprits it names are set aside and the rest goes
again. When nobody is named (a pre-receive hook speaks for all), the batch is halved. From the second refusal
on, halves are used even with names, since an ``update`` hook names one culprit a push. Pushes spent on this
are counted; when the remote refuses several single groups and accepts none, it refuses everything, and that
says nothing of the single run.
"""

from __future__ import annotations

import dataclasses
import enum
import random
import re
import time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from cas.errors import GitCommandFailedError
from gitexport.git import mask_credentials, one_line
from gitexport.transfer import RefAnswer, is_collateral, push_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gitexport.repository import GitRepository
    from gitexport.transfer import PushAnswer

K = TypeVar("K")

DEFAULT_MAX_REFS: Final = 3000
# Over http git turns wildcards into explicit refspecs, whose cost is quadratic: 3,000 refs in one push took 46 s, in
# three pushes 5 s.
HTTP_MAX_REFS: Final = 1000
DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024
_FIRST_DELAY_S: Final = 1.0
_LONGEST_DELAY_S: Final = 60.0
_BLANKET_COUNT: Final = 4  # single groups refused, none accepted: the remote refuses everything
_REFUSAL_COUNT: Final = (
    64  # refused pushes spent on finding culprits in one call; hosts ask for a few a minute
)
_SHOWN_CHARS: Final = 500

# The remote could not, rather than would not; the same push may work later.
_PASSING: Final = re.compile(
    r"failed to (?:update|lock)|cannot lock|unable to lock|unpack|unable to migrate|internal (?:server )?error"
    r"|time[d ]*out|temporar|try again|out of memory|No space left|transaction"
    # A gc at the remote with --prune=now deletes what a push is bringing in.
    r"|missing necessary objects|bad pack",
    re.IGNORECASE,
)
_TOO_LARGE: Final = re.compile(r"exceeds (?:the )?maximum|pack exceeds|file size limit", re.IGNORECASE)
# The remote cannot be used as things are; another try within seconds is pointless.
_HOPELESS: Final = re.compile(
    r"Authentication failed|could not read (?:Username|Password)|Permission denied|Repository not found"
    r"|does not appear to be a git repository|not allowed|Host key verification failed|dubious ownership"
    r"|returned error: 40[0-9]|service not enabled|access denied|does not support push options",
    re.IGNORECASE,
)
_BLOCKING_REF: Final = re.compile(r"'[^']+' exists; cannot create '[^']+'")
# The remote's branch is not behind ours; it may be ahead of it.
_NOT_BEHIND: Final = re.compile(r"non-fast-forward|fetch first")
_LOST_ANSWER: Final = re.compile(r"report status|no answer")
_LOST: Final = RefAnswer(accepted=False, reason="no answer")
_REMOTE_TALK: Final = re.compile(r"^remote: ?(.*\S)", re.MULTILINE)


class PushState(enum.Enum):
    """What became of a group."""

    PUSHED = "pushed"
    """The remote holds all its refs."""
    REJECTED = "rejected"
    """The remote refused it; the same push will be refused again until something changes there."""
    RETRY = "retry"
    """The remote does not hold it (or not all of it), for a reason that may pass."""
    UNKNOWN = "unknown"
    """The answer was lost and the remote could not be asked."""


@dataclasses.dataclass(frozen=True, slots=True)
class RefGroup(Generic[K]):
    """Refs that belong together, such as a run's branch and tags.

    Attributes:
        key: The caller's name for it, unique among the groups of one call.
        refs: Full name and hex oid of each; not empty.
        size_bytes: About how much it adds to a push; 0 when unknown.
    """

    key: K
    refs: tuple[tuple[str, str], ...]
    size_bytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class GroupOutcome:
    """State of a group, and for all but ``PUSHED`` the reason in git's or the remote's words, credentials masked.

    ``tried`` is False when the call was stopped before the group's turn, which is nobody's failure.
    """

    state: PushState
    reason: str = ""
    tried: bool = True

    @property
    def permanent(self) -> bool:
        """True when trying again is of no use before somebody changed something."""
        return self.state is PushState.REJECTED


@dataclasses.dataclass(slots=True)
class PushReport(Generic[K]):
    """What a call came to.

    Attributes:
        outcomes: One for each group, by key.
        push_count: How many pushes were run.
        error: Why the remote as a whole could not be used, or None.
    """

    outcomes: dict[K, GroupOutcome]
    push_count: int = 0
    error: str | None = None

    def count(self, state: PushState) -> int:
        """Return how many groups are in a state."""
        return sum(1 for outcome in self.outcomes.values() if outcome.state is state)


def push(  # noqa: PLR0913  # budgets and injected time are all the caller's to choose
    repo: GitRepository,
    remote: str,
    groups: Sequence[RefGroup[K]],
    *,
    timeout_s: float,
    max_refs: int = DEFAULT_MAX_REFS,
    max_bytes: int = DEFAULT_MAX_BYTES,
    deadline_s: float | None = None,
    on_settled: Callable[[RefGroup[K], GroupOutcome], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    stands_on: Callable[[str, str], bool] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
    rng: random.Random | None = None,
) -> PushReport[K]:
    """Push groups of refs, each wholly or not at all where the remote allows it, in batches within the budgets.

    Args:
        repo: Where refs and objects are; the oids need not be where its refs point now.
        remote: Name of a remote, or a URL.
        groups: What to push, in this order as far as possible; nothing else is pushed.
        timeout_s: Seconds one git process may take before its process group is killed.
        max_refs: Most refs in one push, over http at most HTTP_MAX_REFS; a larger group goes alone.
        max_bytes: Most bytes in one push by the groups' own figures; a larger group goes alone.
        deadline_s: Seconds during which one batch is tried again after failures that may pass; None means four
            times ``timeout_s``.
        on_settled: Called once for each group as soon as its outcome is known, in the calling thread.
        should_stop: Asked before each push; when true, what is left comes back as ``RETRY`` and not tried.
        stands_on: Tells whether a commit at the remote, given first, has another in its history; None asks the
            repository, which may not have it. A branch that stands on what was to be pushed holds it already.
        clock: Monotonic seconds.
        sleep: Waits that many seconds; may return early.
        rng: Source of the jitter of the waits.

    Returns:
        The outcome of every group.

    Raises:
        ConfigError: No such remote, or a transport that is not allowed.
        GitCommandFailedError: git failed before the first push.
        InvalidNameError: A name git would refuse.
        OSError: The temporary view of the refs cannot be written.
    """
    url = repo.push_url(remote)
    if url.startswith(("http://", "https://")):
        max_refs = min(max_refs, HTTP_MAX_REFS)
    pushing = _Pushing(
        repo=repo,
        url=url,
        timeout_s=timeout_s,
        deadline_s=4 * timeout_s if deadline_s is None else deadline_s,
        on_settled=on_settled,
        should_stop=should_stop or (lambda: False),
        stands_on=stands_on or repo.stands_on,
        clock=clock,
        sleep=sleep,
        rng=rng or random.Random(),  # noqa: S311  # jitter, not a secret
        report=PushReport[K]({}),
        refused_alone=[],
    )
    for batch in _batches(groups, max_refs, max_bytes):
        pushing.deliver(batch)
    pushing.close()
    return pushing.report


def _batches(groups: Sequence[RefGroup[K]], max_refs: int, max_bytes: int) -> Iterator[list[RefGroup[K]]]:
    batch: list[RefGroup[K]] = []
    ref_count = size_bytes = 0
    for group in groups:
        if batch and (ref_count + len(group.refs) > max_refs or size_bytes + group.size_bytes > max_bytes):
            yield batch
            batch, ref_count, size_bytes = [], 0, 0
        batch.append(group)
        ref_count += len(group.refs)
        size_bytes += group.size_bytes
    if batch:
        yield batch


@dataclasses.dataclass(slots=True, kw_only=True)
class _Pushing(Generic[K]):
    """One call of ``push``: its settings, and what it has learnt of the remote so far."""

    repo: GitRepository
    url: str
    timeout_s: float
    deadline_s: float
    on_settled: Callable[[RefGroup[K], GroupOutcome], None] | None
    should_stop: Callable[[], bool]
    stands_on: Callable[[str, str], bool]
    clock: Callable[[], float]
    sleep: Callable[[float], object]
    rng: random.Random
    report: PushReport[K]
    atomic: bool = True
    refusal_count: int = 0
    refused_alone: list[tuple[RefGroup[K], str]]
    started_s: float = 0.0
    failure_count: int = 0

    def deliver(self, batch: list[RefGroup[K]]) -> None:
        """Push a batch until each of its groups has an outcome, or is among those refused alone."""
        self.started_s = self.clock()
        self.failure_count = 0
        work = [batch]
        while work:
            groups = work.pop()
            if self.report.error is not None:
                self._settle(groups, PushState.RETRY, self.report.error)
            elif self.should_stop():
                self._settle(groups, PushState.RETRY, "stopped", tried=False)
            elif groups:
                work.extend(reversed(self._attempt(groups)))

    def close(self) -> None:
        """Settle the groups that were refused alone: for good, unless the remote refuses everything."""
        refused, self.refused_alone = self.refused_alone, []
        for group, reason in refused:
            state = PushState.RETRY if self.report.error else PushState.REJECTED
            self._settle([group], state, reason)

    def _attempt(self, groups: list[RefGroup[K]]) -> list[list[RefGroup[K]]]:
        """Push some groups once, settle those whose outcome is known now, and return what to push next."""
        refs = {name: oid for group in groups for name, oid in group.refs}
        self.report.push_count += 1
        try:
            answer = push_once(self.repo, self.url, refs, timeout_s=self.timeout_s, atomic=self.atomic)
        except GitCommandFailedError as error:
            return self._after_silence(groups, error.message, halve=error.kind == "git_timeout")
        if answer.refs:
            return self._after_answer(groups, answer)
        if self.atomic and answer.lacks_atomic:
            # Groups are then judged by all their refs, and a part that landed is not "pushed".
            self.atomic = False
            return [groups]
        reason = _cut(answer.text) or "git push said nothing"
        if _HOPELESS.search(answer.text):
            self.report.error = reason
            self._settle(groups, PushState.RETRY, reason)
            return []
        return self._after_silence(groups, reason, halve=False)

    def _after_silence(
        self, groups: list[RefGroup[K]], reason: str, *, halve: bool
    ) -> list[list[RefGroup[K]]]:
        """Go on after a push whose outcome is unknown: ask the remote, wait, push what it lacks again."""
        try:
            present = self.repo.list_remote_refs(self.url, timeout_s=self.timeout_s)
        except GitCommandFailedError:
            if self._wait():
                return [groups]
            # It can neither be pushed to nor asked, so the batches that follow need not find that out again.
            self.report.error = reason
            self._settle(groups, PushState.UNKNOWN, reason)
            return []
        landed: list[RefGroup[K]] = []
        left: list[RefGroup[K]] = []
        for group in groups:
            there = all(present.get(name) == oid for name, oid in group.refs)
            (landed if there else left).append(group)
        self._settle(landed, PushState.PUSHED)
        if not left:
            return []
        # Out of time: each half may fit the limit where the whole does not.
        return self._later(left, dict.fromkeys((group.key for group in left), reason), halve=halve)

    def _after_answer(self, groups: list[RefGroup[K]], answer: PushAnswer) -> list[list[RefGroup[K]]]:
        """Go on after a push with an answer for each ref."""
        again: list[RefGroup[K]] = []
        unnamed: list[RefGroup[K]] = []
        lost: list[RefGroup[K]] = []
        refused: list[tuple[RefGroup[K], list[str]]] = []
        named = False
        why: dict[K, str] = {}
        for group in groups:
            answers = [(name, answer.refs.get(name, _LOST)) for name, _ in group.refs]
            reasons = [_named(name, ref.reason) for name, ref in answers if not ref.accepted]
            own = [text for text in reasons if not is_collateral(text)]
            if not reasons:
                self._settle([group], PushState.PUSHED)
            elif any(_LOST_ANSWER.search(text) for text in reasons):
                lost.append(group)
            elif not own:
                unnamed.append(group)
                why[group.key] = _explained(reasons[0], answer.text)
            elif _PASSING.search(own[0]) and not (len(groups) == 1 and _TOO_LARGE.search(answer.text)):
                again.append(group)
                why[group.key] = _explained(own[0], answer.text)
            else:
                named = True
                refused.append((group, own))
        following = self._after_refusal(refused, answer)
        if lost:
            following += self._after_silence(lost, "the remote gave no answer", halve=False)
        if again:
            # What the remote cannot take at once (a limit on a pack, one broken object) it may take in part.
            following += self._later(again, why, halve=any("unpack" in why[group.key] for group in again))
        if named or unnamed:
            self.refusal_count += 1
        if unnamed:
            following += self._narrow(unnamed, why, answer, named=named)
        return following

    def _after_refusal(
        self, refused: Sequence[tuple[RefGroup[K], list[str]]], answer: PushAnswer
    ) -> list[list[RefGroup[K]]]:
        """Go on with groups that were named: refused for good, unless the remote went on from what they hold."""
        ahead: list[tuple[RefGroup[K], str]] = []
        for group, reasons in refused:
            reason = _explained(reasons[0], answer.text)
            if all(_NOT_BEHIND.search(each) for each in reasons):
                ahead.append((group, reason))
            else:
                self._settle([group], PushState.REJECTED, reason)
        if not ahead:
            return []
        try:
            present = self.repo.list_remote_refs(self.url, timeout_s=self.timeout_s)
        except GitCommandFailedError as error:
            self._settle([group for group, _ in ahead], PushState.RETRY, error.message)
            return []
        following: list[list[RefGroup[K]]] = []
        for group, reason in ahead:
            left = tuple(ref for ref in group.refs if not self._holds(present.get(ref[0]), *ref))
            if any(not name.startswith("refs/tags/") for name, _ in left):
                self._settle([group], PushState.REJECTED, reason)
            elif left:  # its tags
                following.append([dataclasses.replace(group, refs=left)])
            else:
                self._settle([group], PushState.PUSHED)
        return following

    def _holds(self, present: str | None, name: str, oid: str) -> bool:
        """Tell whether the remote's value of a ref holds ours: the same, or, but for tags, one that stands on it."""
        if present is None or present == oid:
            return present == oid
        return not name.startswith("refs/tags/") and self.stands_on(present, oid)

    def _narrow(
        self, groups: list[RefGroup[K]], why: Mapping[K, str], answer: PushAnswer, *, named: bool
    ) -> list[list[RefGroup[K]]]:
        """Go on with groups that were refused for the sake of others, or without a name."""
        if self.refusal_count > _REFUSAL_COUNT:
            self._settle_each(groups, PushState.RETRY, why)
            return []
        if named:
            return [groups] if self.refusal_count == 1 else _halves(groups)
        if len(groups) > 1:
            return _halves(groups)
        reason = why[groups[0].key]
        if _BLOCKING_REF.search(answer.text):
            self._settle(groups, PushState.REJECTED, _cut(answer.text))
            return []
        if "declined" not in reason:
            return self._later(groups, why)
        self.refused_alone.append((groups[0], reason))
        if len(self.refused_alone) >= _BLANKET_COUNT and not self.report.count(PushState.PUSHED):
            self.report.error = f"the remote refuses everything: {reason}"
        return []

    def _later(
        self, groups: list[RefGroup[K]], why: Mapping[K, str], *, halve: bool = False
    ) -> list[list[RefGroup[K]]]:
        if self._wait():
            return _halves(groups) if halve else [groups]
        self._settle_each(groups, PushState.RETRY, why)
        return []

    def _wait(self) -> bool:
        """Wait before another try, longer each time; False without waiting when the batch is out of time."""
        self.failure_count += 1
        delay_s = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** (self.failure_count - 1))
        delay_s *= self.rng.uniform(0.5, 1.5)
        if self.clock() - self.started_s + delay_s > self.deadline_s or self.should_stop():
            return False
        self.sleep(delay_s)
        return True

    def _settle_each(self, groups: Sequence[RefGroup[K]], state: PushState, why: Mapping[K, str]) -> None:
        for group in groups:
            self._settle([group], state, why[group.key])

    def _settle(
        self, groups: Sequence[RefGroup[K]], state: PushState, reason: str = "", *, tried: bool = True
    ) -> None:
        for group in groups:
            outcome = GroupOutcome(state, mask_credentials(reason), tried)
            self.report.outcomes[group.key] = outcome
            if self.on_settled is not None:
                self.on_settled(group, outcome)


def _halves(groups: list[RefGroup[K]]) -> list[list[RefGroup[K]]]:
    middle = (len(groups) + 1) // 2
    return [half for half in (groups[:middle], groups[middle:]) if half]


def _named(name: str, reason: str) -> str:
    """Return why a ref was refused; of a tag that the remote has already, also which."""
    if name.startswith("refs/tags/") and "already exists" in reason:
        return f"{reason}: the remote has another tag {name.removeprefix('refs/tags/')}"
    return reason


def _explained(reason: str, text: str) -> str:
    """Return a refusal with what the remote's hook said about it."""
    talk = " / ".join(_REMOTE_TALK.findall(text))
    return _cut(f"{reason}: {talk}" if talk else reason)


def _cut(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."

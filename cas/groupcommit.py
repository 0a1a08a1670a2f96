"""One transaction for the commits of all threads, and of all processes, that wait at the same moment.

A flush costs the same for one run as for fifty. The first thread to arrive leads: it takes the write lock, applies the
work of everyone who arrived meanwhile, flushes once and wakes them. Leaders of several processes meet in `cas.relay`:
the one whose turn it is commits the others' work with its own. Invariant: each caller learns the outcome of its own
work only after the flush, and one caller's failure never takes another's work down. This module knows nothing of what
the work does.
"""

from __future__ import annotations

import threading
import weakref
from _thread import start_new_thread
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar, cast

import msgspec

from cas.errors import StateError
from cas.perprocess import PerProcess
from cas.relay import Relay

if TYPE_CHECKING:
    from cas.lmdbenv import Environment, WriteTransaction
    from cas.relay import Turn

_T = TypeVar("_T")
Numbers = list[int]
Encode = Callable[[], bytes | None]
Decode = Callable[[bytes], Callable[["WriteTransaction"], Numbers]]
# Bounds one transaction's dirty pages, and how long the first waiter waits for the last one's work.
_MAX_GROUP_COUNT: Final = 64
# Durability `group`: how long a leader waits for threads that are still preparing their run. A few times the cost of
# preparing one, so that a writer alone is hardly slowed.
GATHER_S: Final = 0.002
# Handing work to another process costs files and processor time. Where a flush takes less than this, each process
# commits for itself (docs/decisions.md, D6).
RELAY_FLUSH_S: Final = 0.0015


class RelayRefusedError(Exception):
    """Posted work cannot be done by this process; raised before it wrote anything of it."""


class _Ticket:
    """One caller's work, its place in the queue and its outcome."""

    __slots__ = ("done", "encode", "error", "left", "reserve_bytes", "result", "wake", "work")

    def __init__(
        self, work: Callable[[WriteTransaction], object], reserve_bytes: int, encode: Encode | None
    ) -> None:
        self.work = work
        self.encode = encode
        self.reserve_bytes = reserve_bytes
        self.wake = threading.Lock()
        self.wake.acquire()
        self.left = threading.Lock()
        self.left.acquire()
        self.done = False
        self.result: object = None
        self.error: Exception | None = None

    def wake_up(self) -> None:
        """Let the caller go on; a second call does nothing."""
        if self.wake.locked():
            self.wake.release()


class GroupCommit:
    """The queue in front of one environment's write lock; thread-safe, one per process and environment."""

    def __init__(
        self, environment: Environment, *, decode: Decode | None = None, gather_s: float = 0.0
    ) -> None:
        self._find_environment = weakref.ref(environment)  # the registry below must not keep it alive
        self._relay = Relay(environment.directory)
        self._decode = decode
        self._gather_s = gather_s
        # The lock itself is entered, never the condition: an interrupt inside Condition.__enter__ leaves it locked.
        self._changed = threading.RLock()
        self._news = threading.Condition(self._changed)
        self._waiting: list[_Ticket] = []
        self._group: list[_Ticket] = []  # the leader's, from taking them to handing over
        self._leader: _Ticket | None = None
        # Threads and no count: what an interrupt keeps a thread from taking back, its next commit takes back.
        self._preparing: set[int] = set()
        self.transaction_count = 0
        self.relayed_count = 0  # groups that another process committed for this one

    @property
    def _environment(self) -> Environment:
        environment = self._find_environment()
        if environment is None:
            raise StateError("the store is closed", hint="Open a new ArtifactStore.")
        return environment

    def begin_preparing(self) -> None:
        """Note that this thread prepares work, which a gathering leader waits for."""
        with self._changed:
            self._preparing.add(threading.get_ident())

    def end_preparing(self) -> None:
        """Note that this thread prepares nothing any more."""
        with self._changed:
            self._preparing.discard(threading.get_ident())
            self._news.notify_all()

    def run(
        self, work: Callable[[WriteTransaction], _T], reserve_bytes: int = 0, encode: Encode | None = None
    ) -> _T:
        """Apply ``work`` in a durable transaction, shared with other threads' work when they wait as well.

        Args:
            work: Applied under the write lock. Whatever it raises is raised here, with none of its writes stored; it
                may be called a second time after another thread's work failed, so it must not keep state.
            reserve_bytes: About how many bytes it adds.
            encode: Gives the work as bytes, or None, for another process to do when one is committing; the work then
                returns a list of numbers. It must be such that doing it twice stores it once.

        Returns:
            What ``work`` returned, after the flush.

        Raises:
            StorageError: The transaction could not be committed.
        """
        ticket = _Ticket(work, reserve_bytes, encode)
        try:
            self._enter(ticket)
            ticket.wake.acquire()
            if not ticket.done:
                self._lead(ticket)
        except BaseException:
            # An interrupt may strike anywhere, here again as well; who waits behind this thread must not wait for ever.
            # Only the main thread hears one, and none before the handler's first call has made another thread.
            try:
                start_new_thread(self._leave, (ticket,))
            except RuntimeError:
                # None can be made; this one leaves by itself, which an interrupt may cut off.
                self._leave(ticket)
            ticket.left.acquire()
            raise
        if ticket.error is not None:
            raise ticket.error
        return cast("_T", ticket.result)

    def _enter(self, ticket: _Ticket) -> None:
        with self._changed:
            self._waiting.append(ticket)
            if self._leader is None:
                self._leader = ticket
                ticket.wake_up()

    def _leave(self, ticket: _Ticket) -> None:
        """Take an interrupted caller out of the queue for good, and hand over what it led."""
        try:
            with self._changed:
                # A leader that has it in its group, and is interrupted as well, gives it to nobody.
                ticket.done = True
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                if self._leader is ticket:
                    self._hand_over(ticket)
                elif self._leader is not None:
                    self._leader.wake_up()  # this one may have been interrupted between naming it and waking it
        finally:
            ticket.left.release()

    def _lead(self, own: _Ticket) -> None:
        shared = False  # with other processes' work, which may be what made the transaction fail
        try:
            self._gather()
            if own.encode is None or self._decode is None or self._environment.flush_s < RELAY_FLUSH_S:
                self._commit(own, None)
            else:
                shared = True
                # A child forked now would inherit the turn's lock, and hold it for as long as it lives.
                with self._environment.holding_off_forks(), self._relay.turn(own.encode) as turn:
                    if not self._take_answer(own, turn):
                        self._commit(own, turn)
        except Exception as error:  # noqa: BLE001  handed to the thread it belongs to
            self._settle(self._take(own), error, shared=shared)
        with self._changed:
            self._hand_over(own)

    def _take_answer(self, own: _Ticket, turn: Turn) -> bool:
        """Settle the leader's work by another process's answer; tell whether there was one."""
        if turn.answer is None:
            return False
        own.result = msgspec.msgpack.decode(turn.answer, type=Numbers)
        own.done = True
        self.relayed_count += 1
        with self._changed:
            if own in self._waiting:
                self._waiting.remove(own)
        return True

    def _commit(self, own: _Ticket, turn: Turn | None) -> None:
        answers: list[tuple[str, bytes]] = []
        with self._environment.write(reserve_bytes=own.reserve_bytes) as transaction:
            group = self._take(own)
            if len(group) > 1:
                transaction.reserve(sum(ticket.reserve_bytes for ticket in group))
            self.transaction_count += 1
            for ticket in group:
                ticket.result = ticket.work(transaction)
            if turn is not None:
                answers = self._do_posts(turn, transaction)
        for ticket in group:
            ticket.done = True
        if turn is not None:
            for name, answer in answers:
                turn.reply(name, answer)

    def _do_posts(self, turn: Turn, transaction: WriteTransaction) -> list[tuple[str, bytes]]:
        """Do what other processes posted; what cannot be done here is left to its poster, who finds no answer."""
        answers: list[tuple[str, bytes]] = []
        if self._decode is None:
            return answers
        for name, content in turn.iter_posts():
            try:
                work = self._decode(content)
                transaction.reserve(len(content))
                answers.append((name, msgspec.msgpack.encode(work(transaction))))
            except (RelayRefusedError, msgspec.MsgspecError):
                continue
        return answers

    def _gather(self) -> None:
        if self._gather_s > 0:
            with self._changed:
                self._news.wait_for(lambda: not self._preparing, timeout=self._gather_s)

    def _take(self, own: _Ticket) -> list[_Ticket]:
        """Return the leader's group; taken from the queue on the first call, with its own ticket at the head."""
        with self._changed:
            if not self._group:
                others = [ticket for ticket in self._waiting if ticket is not own]
                self._group = [own, *others[: _MAX_GROUP_COUNT - 1]]
                self._waiting = others[_MAX_GROUP_COUNT - 1 :]
            return self._group

    def _settle(self, group: list[_Ticket], error: Exception, *, shared: bool) -> None:
        """After a failed group, let each member succeed or fail alone, so that only the culprit fails.

        None is left when the transaction went well, and only telling other processes of it failed.
        """
        group = [ticket for ticket in group if not ticket.done]
        if len(group) == 1 and not shared:
            group[0].error = error
            group[0].done = True
            return
        for ticket in group:
            try:
                with self._environment.write(reserve_bytes=ticket.reserve_bytes) as transaction:
                    self.transaction_count += 1
                    ticket.result = ticket.work(transaction)
            except Exception as own_error:  # noqa: BLE001  handed to the thread it belongs to
                ticket.error = own_error
            ticket.done = True

    def _hand_over(self, own: _Ticket) -> None:
        """Wake the group's callers and the next leader; called with the queue's lock held.

        Work that an interrupt cut off goes back to the head of the queue. Whatever is repeated after an interrupt finds
        each step done or not done, so nothing is lost between two of them.
        """
        back = [ticket for ticket in self._group if not ticket.done and ticket is not own]
        self._waiting = back + [ticket for ticket in self._waiting if ticket not in back]
        for ticket in self._group:
            if ticket.done:
                ticket.wake_up()
        self._group = []
        self._leader = self._waiting[0] if self._waiting else None
        if self._leader is not None:
            self._leader.wake_up()


_queues: Final[PerProcess[GroupCommit]] = PerProcess()


def group_commit_of(environment: Environment, decode: Decode | None = None) -> GroupCommit:
    """Return the queue of an environment, one for all stores of this process; a forked child gets its own.

    Args:
        environment: The open store.
        decode: Turns posted work of other processes into work to apply; the first caller's counts.
    """

    def make() -> GroupCommit:
        gather_s = GATHER_S if environment.durability == "group" else 0.0
        return GroupCommit(environment, decode=decode, gather_s=gather_s)

    return _queues.get(environment, make)

"""What a push makes of answers: whom it settles, whom it tries again, alone or in halves, and when it gives up.

Remotes of every kind are in test_push.py; here the answers themselves are given, so that each rule has its own case.
"""

from __future__ import annotations

import random

import pytest

from cas.errors import GitCommandFailedError
from gitexport import push as pushing
from gitexport import transfer
from gitexport.push import GroupOutcome, PushState, RefGroup, push
from gitexport.transfer import PushAnswer, RefAnswer

PUSHED, REJECTED, RETRY, UNKNOWN = PushState.PUSHED, PushState.REJECTED, PushState.RETRY, PushState.UNKNOWN
OK = RefAnswer(accepted=True, reason="")
ATOMIC = "atomic push failed"
DECLINED = "pre-receive hook declined"


def group(key, *tags, size_bytes=0):
    """A branch at an id made of the key, and tags at another."""
    refs = ((f"refs/heads/{key}", key * 40), *((f"refs/tags/{tag}", "f" * 40) for tag in tags))
    return RefGroup(key, refs, size_bytes)


def no(reason):
    return RefAnswer(accepted=False, reason=reason)


def said(reasons, refs, text=""):
    """An answer to a push of refs: the reason of each branch that is refused, by key."""
    return PushAnswer({name: no(reasons[name[-1]]) if name[-1] in reasons else OK for name in refs}, text)


class Exact(random.Random):
    """Jitter of none, which notes between what it was to be chosen."""

    asked: tuple[float, float] | None = None

    def uniform(self, a, b):
        self.asked = (a, b)
        return 1.0


class Far:
    """A remote far away: answers pushes as it is told to, shows what it holds, passes time when somebody sleeps."""

    def __init__(self, url="ssh://far/x"):
        self.url = url
        self.answers = []
        self.pushes = []
        self.holds = {}
        self.stood_on = set()
        self.asked = []
        self.now_s = 1000.0
        self.slept = []
        self.settled = []
        self.stops = False
        self.rng = Exact()

    def push_url(self, remote):
        assert remote == "origin"
        return self.url

    def list_remote_refs(self, url, *, timeout_s):
        self.asked.append((url, timeout_s))
        if self.holds is None:
            raise GitCommandFailedError("cannot be asked")
        return self.holds

    def stands_on(self, commit, other):
        return (commit, other) in self.stood_on

    def push_once(self, repo, url, refs, *, timeout_s, atomic):
        assert (repo, url) == (self, self.url)
        self.pushes.append(
            ("".join(sorted({name[-1] for name in refs if "heads" in name})), timeout_s, atomic)
        )
        self.refs = dict(refs)
        answer = self.answers.pop(0) if self.answers else said({}, refs)
        if isinstance(answer, Exception):
            raise answer
        return answer(refs) if callable(answer) else answer

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now_s += seconds

    def run(self, *groups, timeout_s=30.0, **changes):
        settings = {
            "on_settled": lambda group, outcome: self.settled.append((group.key, outcome)),
            "clock": lambda: self.now_s,
            "sleep": self.sleep,
            "rng": self.rng,
            "should_stop": lambda: self.stops,
        }
        return push(self, "origin", groups, timeout_s=timeout_s, **settings | changes)

    @property
    def words(self):
        """Which groups went in each push."""
        return [words for words, _, _ in self.pushes]


@pytest.fixture
def far(monkeypatch):
    remote = Far()
    monkeypatch.setattr(pushing, "push_once", remote.push_once)
    return remote


def outcomes(report):
    return {key: (outcome.state, outcome.reason) for key, outcome in report.outcomes.items()}


def refusing(**reasons):
    return lambda refs: said(reasons, refs)


def test_accepted_groups_are_settled_in_order_with_one_push(far):
    report = far.run(group("a", "x"), group("b"))
    assert report.outcomes == {"a": GroupOutcome(PUSHED, "", True), "b": GroupOutcome(PUSHED)}
    assert far.settled == list(report.outcomes.items())
    assert far.pushes == [("ab", 30.0, True)]
    assert far.refs == {"refs/heads/a": "a" * 40, "refs/tags/x": "f" * 40, "refs/heads/b": "b" * 40}
    assert (report.push_count, report.error) == (1, None)
    assert (report.count(PUSHED), report.count(RETRY)) == (2, 0)
    assert far.run(group("a"), on_settled=None).outcomes.keys() == {"a"}


def test_batches_are_cut_at_the_budgets_and_not_before():
    groups = [group("a", "x", size_bytes=5), group("b", size_bytes=5), group("c", size_bytes=1)]

    def cut(max_refs, max_bytes):
        return ["".join(one.key for one in batch) for batch in pushing._batches(groups, max_refs, max_bytes)]

    assert cut(4, 11) == ["abc"]
    assert cut(3, 100) == ["ab", "c"]
    assert cut(1, 100) == ["a", "b", "c"]
    assert cut(2, 100) == ["a", "bc"]
    assert cut(100, 10) == ["ab", "c"]
    assert cut(100, 6) == ["a", "bc"]
    assert cut(100, 4) == ["a", "b", "c"]
    assert list(pushing._batches([], 1, 1)) == []


@pytest.mark.parametrize(
    ("url", "count"), [("http://h/x", 2), ("https://h/x", 2), ("ssh://h/x", 1), ("/http://x", 1)]
)
def test_push_over_http_is_cut_smaller(far, monkeypatch, url, count):
    monkeypatch.setattr(pushing, "HTTP_MAX_REFS", 1)
    far.url = url
    assert far.run(group("a"), group("b"), max_refs=2).push_count == count
    assert far.run(group("a"), group("b"), max_refs=1).push_count == 2


def test_remote_without_atomic_pushes_is_asked_once_more_and_from_then_on_without(far):
    far.answers = [PushAnswer({}, "fatal: the receiving end does not support --atomic push")]
    report = far.run(group("a"), group("b"), max_refs=1)
    assert far.pushes == [("a", 30.0, True), ("a", 30.0, False), ("b", 30.0, False)]
    assert report.count(PUSHED) == 2
    assert far.slept == []


@pytest.mark.parametrize("text", ["fatal: Authentication failed", "PERMISSION DENIED", "returned error: 403"])
def test_remote_that_cannot_be_used_is_given_up_at_once(far, text):
    far.answers = [PushAnswer({}, text)]
    report = far.run(group("a"), group("b"), max_refs=1)
    assert (report.push_count, report.error) == (1, text)
    assert outcomes(report) == {"a": (RETRY, text), "b": (RETRY, text)}
    assert all(outcome.tried for outcome in report.outcomes.values())
    assert far.asked == []


def test_push_that_said_nothing_is_resolved_by_asking_and_tried_again(far):
    far.answers = [PushAnswer({}, "")]
    far.holds = {"refs/heads/a": "a" * 40, "refs/heads/b": "b" * 40}
    report = far.run(group("a"), group("b", "x"), deadline_s=0.5)
    assert far.asked == [("ssh://far/x", 30.0)]
    assert outcomes(report) == {"a": (PUSHED, ""), "b": (RETRY, "git push said nothing")}
    far.answers = [PushAnswer({}, "")]
    report = far.run(group("a"), group("b", "x"))
    assert far.words[1:] == ["ab", "b"]
    assert report.count(PUSHED) == 2
    assert far.slept == [1.0]


def test_everything_that_landed_unheard_is_not_pushed_again(far):
    far.answers = [PushAnswer({}, "gone")]
    far.holds = {"refs/heads/a": "a" * 40}
    assert outcomes(far.run(group("a"))) == {"a": (PUSHED, "")}
    assert (far.words, far.slept) == (["a"], [])


def test_push_out_of_time_is_halved_and_another_failure_is_not(far):
    far.answers = [GitCommandFailedError("too slow", kind="git_timeout")]
    report = far.run(group("a"), group("b"), group("c"))
    assert far.words == ["abc", "ab", "c"]
    assert report.count(PUSHED) == 3
    far.answers, far.pushes[:] = [GitCommandFailedError("broken")], []
    far.run(group("a"), group("b"))
    assert far.words == ["ab", "ab"]


def test_remote_that_can_neither_be_pushed_to_nor_asked_is_given_up_when_time_is_over(far):
    far.holds = None
    far.answers = [GitCommandFailedError("unreachable")] * 9
    report = far.run(group("a"), group("b"), max_refs=1, deadline_s=7)
    assert far.slept == [1.0, 2.0, 4.0]
    assert far.words == ["a"] * 4
    assert report.error == "unreachable"
    assert outcomes(report) == {"a": (UNKNOWN, "unreachable"), "b": (RETRY, "unreachable")}


def test_waits_grow_to_a_minute_and_end_with_the_deadline_of_the_batch(far):
    far.answers = [refusing(a="failed to update ref")] * 99
    report = far.run(group("a"), timeout_s=60.0)
    assert far.slept == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert far.rng.asked == (0.5, 1.5)
    assert outcomes(report) == {"a": (RETRY, "failed to update ref")}
    far.answers, far.slept = [refusing(a="cannot lock ref"), refusing(), refusing(b="cannot lock ref")], []
    far.run(group("a"), group("b"), max_refs=1)  # each batch begins anew
    assert far.slept == [1.0, 1.0]


@pytest.mark.parametrize("said", ["missing necessary objects", "bad pack"])
def test_objects_that_a_collection_at_the_remote_took_away_meanwhile_are_sent_again(far, said):
    far.answers = [refusing(a=said)]
    assert outcomes(far.run(group("a"))) == {"a": (PUSHED, "")}
    assert far.slept == [1.0]


def test_wait_that_would_end_with_the_deadline_is_made_and_one_beyond_it_is_not(far):
    for deadline_s, slept in ((1.0, [1.0]), (0.99, [])):
        far.answers, far.slept = [refusing(a="temporary failure")], []
        far.run(group("a"), deadline_s=deadline_s)
        assert far.slept == slept


def test_stop_leaves_what_is_left_untried_and_is_not_waited_for(far):
    def stop(refs):
        far.stops = True
        return said({"a": "timed out"}, refs)

    far.answers = [stop]
    report = far.run(group("a"), group("b"), max_refs=1)
    assert report.outcomes == {
        "a": GroupOutcome(RETRY, "timed out", tried=True),
        "b": GroupOutcome(RETRY, "stopped", tried=False),
    }
    assert far.slept == []
    assert far.run(group("c")).push_count == 0


def test_refusal_by_name_is_for_good_and_the_rest_goes_again(far):
    far.answers = [refusing(a="hook declined", b=ATOMIC, c=ATOMIC)]
    report = far.run(group("a"), group("b"), group("c"))
    assert far.words == ["abc", "bc"]
    assert outcomes(report) == {"a": (REJECTED, "hook declined"), "b": (PUSHED, ""), "c": (PUSHED, "")}
    assert report.outcomes["a"].permanent
    assert not report.outcomes["b"].permanent
    assert far.slept == []


def test_second_refusal_by_name_is_narrowed_down_in_halves(far):
    far.answers = [
        refusing(a="hook declined", b=ATOMIC, c=ATOMIC, d=ATOMIC),
        refusing(b="hook declined", c=ATOMIC, d=ATOMIC),
    ]
    report = far.run(*map(group, "abcd"))
    assert far.words == ["abcd", "bcd", "c", "d"]
    assert (report.count(REJECTED), report.count(PUSHED)) == (2, 2)


def test_refusal_without_a_name_is_narrowed_down_in_halves_to_the_one(far):
    far.answers = [refusing(a=DECLINED, b=DECLINED), refusing(a=DECLINED)]
    report = far.run(group("a"), group("b"))
    assert far.words == ["ab", "a", "b"]
    assert outcomes(report) == {"b": (PUSHED, ""), "a": (REJECTED, DECLINED)}
    assert report.error is None


def test_remote_that_refuses_four_alone_and_takes_none_refuses_everything(far):
    def refuse(refs):
        return said(dict.fromkeys("abcdefgh", DECLINED), refs, "remote: closed\n")

    far.answers = [refuse] * 99
    report = far.run(*map(group, "abcdefgh"), max_refs=1)
    assert far.words == ["a", "b", "c", "d"]
    assert report.error == f"the remote refuses everything: {DECLINED}: closed"
    assert {outcome.state for outcome in report.outcomes.values()} == {RETRY}
    assert report.outcomes["a"].reason == f"{DECLINED}: closed"
    far.pushes.clear()
    far.answers = [refuse] * 3
    report = far.run(*map(group, "abc"), max_refs=1)
    assert {outcome.state for outcome in report.outcomes.values()} == {REJECTED}
    far.answers = [lambda refs: said({}, refs), *[refuse] * 4]
    report = far.run(*map(group, "zabcd"), max_refs=1)
    assert (report.error, report.count(REJECTED)) == (None, 4)


def test_ref_in_the_way_at_the_remote_is_told_in_its_words(far):
    text = "error: 'refs/heads/x' exists; cannot create 'refs/heads/x/y'"
    far.answers = [lambda refs: said({"a": ATOMIC}, refs, text)]
    assert outcomes(far.run(group("a"))) == {"a": (REJECTED, text)}


def test_single_group_refused_for_no_reason_of_its_own_is_tried_again(far):
    far.answers = [refusing(a=ATOMIC)]
    assert outcomes(far.run(group("a"))) == {"a": (PUSHED, "")}
    assert far.slept == [1.0]
    far.answers = [refusing(a=ATOMIC)]
    assert outcomes(far.run(group("a"), deadline_s=0)) == {"a": (RETRY, ATOMIC)}


def test_search_for_culprits_ends_after_so_many_refusals(far, monkeypatch):
    monkeypatch.setattr(pushing, "_REFUSAL_COUNT", 2)
    far.answers = [
        refusing(a="no", b=ATOMIC, c=ATOMIC, d=ATOMIC),
        refusing(b="no", c=ATOMIC, d=ATOMIC),
        refusing(c=ATOMIC),
    ]
    report = far.run(*map(group, "abcd"))
    assert far.words == ["abcd", "bcd", "c", "d"]
    assert outcomes(report)["c"] == (RETRY, ATOMIC)


@pytest.mark.parametrize(
    ("reason", "words"),
    [("cannot lock ref", ["ab", "b"]), ("unpacker error", ["abc", "ab", "c"])],
)
def test_failure_that_may_pass_is_tried_again_in_halves_where_it_is_the_pack(far, reason, words):
    if len(words) == 2:
        far.answers = [refusing(b=reason)]
        report = far.run(group("a"), group("b"))
    else:
        far.answers = [refusing(a=reason, b=reason, c=reason)]
        report = far.run(*map(group, "abc"))
    assert far.words == words
    assert report.count(PUSHED) == len(report.outcomes)
    assert far.slept == [1.0]


def test_single_group_that_is_too_large_is_refused_for_good(far):
    for text in ("remote: pack exceeds maximum allowed size", "remote: file size limit"):
        far.answers = [lambda refs, text=text: said({"a": "unpacker error"}, refs, text)]
        ((state, _),) = outcomes(far.run(group("a"))).values()
        assert state is REJECTED
    far.answers = [
        lambda refs: said({"a": "unpacker error", "b": "unpacker error"}, refs, "exceeds the maximum")
    ]
    assert far.run(group("a"), group("b")).count(PUSHED) == 2


@pytest.mark.parametrize("lost", ["missing", "remote failed to report status", "no answer"])
def test_group_without_an_answer_is_asked_for(far, lost):
    def answer(refs):
        found = said({} if lost == "missing" else {"x": lost}, refs)
        return PushAnswer({n: a for n, a in found.refs.items() if lost != "missing" or n[-1] != "x"}, "")

    far.answers = [answer]
    far.holds = {"refs/heads/a": "a" * 40, "refs/tags/x": "f" * 40}
    assert outcomes(far.run(group("a", "x"))) == {"a": (PUSHED, "")}
    assert len(far.asked) == 1
    far.answers = [answer]
    far.holds = {"refs/heads/a": "a" * 40}
    assert outcomes(far.run(group("a", "x"), deadline_s=0)) == {"a": (RETRY, "the remote gave no answer")}


def test_branch_that_the_remote_went_on_from_counts_as_pushed(far):
    ahead = "e" * 40
    far.stood_on = {(ahead, "a" * 40)}
    for shown, state in (
        ({"refs/heads/a": ahead, "refs/tags/x": "f" * 40}, PUSHED),
        ({"refs/heads/a": "d" * 40, "refs/tags/x": "f" * 40}, REJECTED),
        ({"refs/tags/x": "f" * 40}, REJECTED),
    ):
        far.answers, far.holds = [refusing(a="non-fast-forward")], shown
        report = far.run(group("a", "x"))
        assert outcomes(report) == {"a": (state, "" if state is PUSHED else "non-fast-forward")}
    assert far.asked == [("ssh://far/x", 30.0)] * 3


def test_tags_of_a_branch_that_the_remote_went_on_from_are_pushed_alone(far):
    far.answers = [refusing(a="fetch first", x="fetch first")]
    far.holds = {"refs/heads/a": "a" * 40, "refs/tags/x": "d" * 40}
    far.stood_on = {("d" * 40, "f" * 40)}
    report = far.run(group("a", "x"))
    assert far.refs == {"refs/tags/x": "f" * 40}
    assert outcomes(report) == {"a": (PUSHED, "")}


def test_every_kind_of_what_is_left_goes_on_after_one_answer(far):
    """A branch ahead whose tag is left, one without an answer, one that may pass, one refused, one beside it."""

    def answer(refs):
        found = said(
            {"a": "fetch first", "x": "fetch first", "c": "timed out", "d": "hook declined", "e": ATOMIC},
            refs,
        )
        return PushAnswer({name: one for name, one in found.refs.items() if name[-1] != "b"}, "")

    far.answers = [answer]
    far.holds = {"refs/heads/a": "a" * 40}
    report = far.run(group("a", "x"), *map(group, "bcde"))
    assert far.words == ["abcde", "", "b", "c", "e"]
    assert {key: outcome.state for key, outcome in report.outcomes.items()} == {
        **dict.fromkeys("abce", PUSHED),
        "d": REJECTED,
    }


def test_callers_word_on_what_stands_on_what_is_taken(far):
    far.answers, far.holds = [refusing(a="non-fast-forward")], {"refs/heads/a": "d" * 40}
    asked = []
    report = far.run(group("a"), stands_on=lambda *words: asked.append(words) or True)
    assert report.count(PUSHED) == 1
    assert asked == [("d" * 40, "a" * 40)]


def test_branch_ahead_with_another_refusal_beside_is_refused(far):
    far.answers = [refusing(a="non-fast-forward", x="hook declined")]
    assert outcomes(far.run(group("a", "x"))) == {"a": (REJECTED, "non-fast-forward")}
    assert far.asked == []


def test_branch_ahead_at_a_remote_that_cannot_be_asked_is_left_for_later(far):
    far.answers, far.holds = [refusing(a="non-fast-forward")], None
    assert outcomes(far.run(group("a"))) == {"a": (RETRY, "cannot be asked")}


def test_reason_holds_what_the_hooks_said_on_one_line_and_cut():
    text = "To x\nremote: first  \nremote:\nremote: second\n"
    assert pushing._explained("declined", text) == "declined: first / second"
    assert pushing._explained("declined", "nothing") == "declined"
    assert pushing._cut("x" * 500) == "x" * 500
    assert pushing._cut("x" * 501) == "x" * 500 + "..."
    assert pushing._cut("a\nb") == "a / b"


def test_credentials_in_a_reason_are_masked(far):
    far.answers = [PushAnswer({}, "fatal: Authentication failed for https://u:hunter2@host/")]
    assert "hunter2" not in str(far.run(group("a")).outcomes)


def test_halves_hold_everything_once_and_the_first_is_the_larger():
    assert pushing._halves([1, 2, 3]) == [[1, 2], [3]]
    assert pushing._halves([1, 2]) == [[1], [2]]
    assert pushing._halves([1]) == [[1]]


def test_answer_of_git_is_read_line_by_line():
    porcelain = (
        b"To ssh://x\n*\trefs/heads/a:refs/heads/a\t[new branch]\n=\trefs/heads/b:refs/heads/b\t[up to date]\n"
        b"!\trefs/heads/c:refs/heads/c\t[remote rejected] (caf\xe9 https://u:hunter2@h/)\n"
        b"-\t:refs/heads/d\t[deleted]\n \trefs/heads/e:refs/heads/e\t1..2\n"
        b"!\trefs/heads/u\xc2\x85v:refs/heads/u\xc2\x85v\t no \n**\tx:y\tz\n!\tonly\nDone\n"
    )
    found = transfer._parse(porcelain)
    assert {name for name, answer in found.items() if answer.accepted} == {f"refs/heads/{x}" for x in "abde"}
    assert all(not answer.reason for answer in found.values() if answer.accepted)
    assert found["refs/heads/c"] == no("[remote rejected] (caf\ufffd https://***@h/)")
    assert found["refs/heads/u\x85v"] == no("no")
    assert len(found) == 6


def test_answer_tells_of_refs_that_git_said_nothing_of():
    answer = PushAnswer({"refs/heads/a": OK, "refs/heads/b": no("why")}, "text")
    assert [answer.accepts(f"refs/heads/{x}") for x in "abc"] == [True, False, False]
    assert [answer.reason(f"refs/heads/{x}") for x in "abc"] == ["", "why", "no answer"]
    assert not answer.lacks_atomic
    assert PushAnswer({}, "it does not support --atomic push").lacks_atomic
    assert PushAnswer({}, "it does not support -atomic push").lacks_atomic
    assert transfer.is_collateral("atomic transaction failed")
    assert not transfer.is_collateral("hook declined")

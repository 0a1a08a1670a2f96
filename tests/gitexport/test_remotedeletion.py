"""Deletions at a remote: who goes, who stays and why, and when the rest is not tried; the answers are given."""

from __future__ import annotations

import pytest

from cas.errors import GitCommandFailedError
from gitexport import remotedeletion
from gitexport.remotedeletion import DeletionReport, delete_remote_refs
from gitexport.transfer import PushAnswer, RefAnswer

ATOMIC = "atomic push failed"
DECLINED = "pre-receive hook declined"


class Far:
    """A remote far away that answers deletions as it is told to."""

    def __init__(self):
        self.answers = []
        self.pushes = []
        self.left = None  # names it shows when it is asked; None for all that were to go

    def delete_once(self, repository, url, refs, *, timeout_s, atomic):
        assert (repository, url, timeout_s) == (self, "url", 7)
        self.pushes.append(("".join(name[-1] for name in refs), atomic))
        self.refs = refs
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, PushAnswer):
            return answer
        return PushAnswer(
            {name: RefAnswer(name[-1] not in answer, answer.get(name[-1], "")) for name in refs}, ""
        )

    def list_remote_refs(self, url, *, timeout_s):
        assert (url, timeout_s) == ("url", 7)
        if isinstance(self.left, Exception):
            raise self.left
        return (
            self.refs
            if self.left is None
            else {name: oid for name, oid in self.refs.items() if name[-1] in self.left}
        )

    def run(self, letters, **settings):
        refs = {f"refs/heads/{letter}": letter * 40 for letter in letters}
        return delete_remote_refs(self, "url", refs, timeout_s=7, **settings)

    @property
    def words(self):
        return [words for words, _ in self.pushes]


@pytest.fixture
def far(monkeypatch):
    remote = Far()
    monkeypatch.setattr(remotedeletion, "delete_once", remote.delete_once)
    return remote


def kept(report):
    return {name[-1]: reason for name, reason in report.kept.items()}


def test_refs_go_together_in_name_order_and_in_batches(far, monkeypatch):
    told = []
    report = far.run("cab", progress=lambda *words: told.append(words))
    assert report == DeletionReport(deleted_count=3, push_count=1)
    assert far.pushes == [("abc", True)]
    assert far.refs == {f"refs/heads/{letter}": letter * 40 for letter in "abc"}
    assert told == [("delete", 3, 3)]
    monkeypatch.setattr(remotedeletion, "DELETES_PER_PUSH", 2)
    told.clear()
    assert far.run("abcde", progress=lambda *words: told.append(words)).push_count == 3
    assert far.words[1:] == ["ab", "cd", "e"]
    assert told == [("delete", 2, 5), ("delete", 4, 5), ("delete", 5, 5)]
    assert far.run("") == DeletionReport()


def test_stop_leaves_the_rest(far, monkeypatch):
    monkeypatch.setattr(remotedeletion, "DELETES_PER_PUSH", 1)
    answers = iter([False, True])
    told = []
    report = far.run("abc", should_stop=lambda: next(answers), progress=lambda *words: told.append(words))
    assert report == DeletionReport(deleted_count=1, push_count=1, error="stopped")
    assert told == [("delete", 1, 3)]


def test_remote_that_cannot_be_used_is_not_asked_again(far, monkeypatch):
    monkeypatch.setattr(remotedeletion, "DELETES_PER_PUSH", 1)
    for answer, error in (
        (GitCommandFailedError("too slow", kind="git_timeout"), "too slow"),
        (PushAnswer({}, "fatal: no\n\nentry\n"), "fatal: no / entry"),
        (PushAnswer({}, ""), "the remote gave no answer"),
        (PushAnswer({}, "x" * 501), "x" * 500),
    ):
        for left in (None, GitCommandFailedError("cannot be asked either")):
            far.answers, far.left = [answer], left
            assert far.run("ab") == DeletionReport(push_count=1, error=error)


def test_push_that_ran_out_of_time_is_halved_and_its_lost_answer_asked_for(far):
    slow = GitCommandFailedError("too slow", kind="git_timeout")
    far.answers = [slow, {}, {}]
    assert far.run("abcd") == DeletionReport(deleted_count=4, push_count=3)
    assert far.words == ["abcd", "ab", "cd"]
    far.answers, far.left, far.pushes = [slow], "d", []
    assert far.run("abcd") == DeletionReport(deleted_count=4, push_count=2)
    assert far.words == ["abcd", "d"]
    far.answers, far.left = [slow] * 9, None
    assert far.run("abcdefghijklmnopqrst") == DeletionReport(push_count=4, error="too slow")


def test_remote_without_atomic_pushes_is_asked_without_from_then_on(far, monkeypatch):
    monkeypatch.setattr(remotedeletion, "DELETES_PER_PUSH", 1)
    far.answers = [PushAnswer({}, "the receiving end does not support --atomic push")]
    assert far.run("ab") == DeletionReport(deleted_count=2, push_count=3)
    assert far.pushes == [("a", True), ("a", False), ("b", False)]
    far.answers = [PushAnswer({}, "it does not support --atomic push")] * 2
    assert far.run("a").error == "it does not support --atomic push"


def test_ref_refused_by_name_stays_and_the_others_go(far):
    far.answers = [{"a": "hook declined", "b": ATOMIC, "c": ATOMIC}]
    report = far.run("abc")
    assert far.words == ["abc", "bc"]
    assert kept(report) == {"a": "hook declined"}
    assert (report.deleted_count, report.error, report.refuses_all) == (2, None, False)


def test_ref_refused_without_a_name_is_found_by_halves(far):
    far.answers = [
        {"a": DECLINED, "b": DECLINED, "c": DECLINED},
        {"a": DECLINED, "b": DECLINED},
        {"a": DECLINED},
    ]
    report = far.run("abc")
    assert far.words == ["abc", "ab", "a", "b", "c"]
    assert kept(report) == {"a": DECLINED}
    assert report.deleted_count == 2


def test_single_ref_refused_for_the_sake_of_another_that_is_named_goes_again(far):
    far.answers = [{"a": "hook declined", "b": ATOMIC}]
    report = far.run("ab")
    assert far.words == ["ab", "b"]
    assert (kept(report), report.deleted_count) == ({"a": "hook declined"}, 1)


def test_remote_that_deletes_nothing_is_given_up_after_four(far, monkeypatch):
    monkeypatch.setattr(remotedeletion, "DELETES_PER_PUSH", 1)
    far.answers = [{letter: f"no {letter}"} for letter in "abcdef"]
    report = far.run("abcdef")
    assert (report.push_count, report.refuses_all) == (4, True)
    assert report.error == "the remote deletes nothing: no a"
    assert far.run("a", progress=None).refuses_all is False


def test_remote_that_has_deleted_one_is_not_given_up(far, monkeypatch):
    monkeypatch.setattr(remotedeletion, "DELETES_PER_PUSH", 1)
    far.answers = [{}, *({letter: "no"} for letter in "bcdef")]
    report = far.run("abcdef")
    assert (report.push_count, report.error, report.deleted_count) == (6, None, 1)
    assert set(kept(report)) == set("bcdef")


def test_refs_that_moved_say_nothing_of_the_remote(far, monkeypatch):
    monkeypatch.setattr(remotedeletion, "DELETES_PER_PUSH", 1)
    far.answers = [{letter: "stale info"} for letter in "abcdef"]
    report = far.run("abcdef")
    assert (report.push_count, report.error, set(kept(report))) == (6, None, set("abcdef"))


def test_several_named_at_once_count_by_push_while_others_wait_for_them(far):
    far.answers = [{"a": "no", "b": "no", "c": "no", "d": "no", "e": ATOMIC}]
    report = far.run("abcde")
    assert (far.words, report.error, report.deleted_count) == (["abcde", "e"], None, 1)
    far.answers, far.pushes[:] = [dict.fromkeys("abcd", "no")], []
    assert far.run("abcd").error == "the remote deletes nothing: no"
    far.answers = [dict.fromkeys("abc", "no")]
    assert far.run("abc").error is None


def test_search_for_culprits_ends_after_so_many_refusals(far, monkeypatch):
    monkeypatch.setattr(remotedeletion, "_REFUSAL_COUNT", 1)
    far.answers = [{"a": "stale info", "b": ATOMIC, "c": ATOMIC}, {"b": "stale info", "c": ATOMIC}]
    report = far.run("abc")
    assert report.error == "the remote refused 2 pushes: stale info"
    assert (far.words, report.refuses_all) == (["abc", "bc"], False)


def test_halves_hold_everything_once():
    refs = {letter: letter * 40 for letter in "abc"}
    assert remotedeletion._halves(refs) == [{"c": "c" * 40}, {"a": "a" * 40, "b": "b" * 40}]

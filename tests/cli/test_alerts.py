"""`cas alerts`."""

import json

import pytest

from tests.gitexport.test_hooks import receiving


def refuse(store, place, count):
    for number in range(count):
        words = ("commit", "-w", "w", "-t", "t", "-c", f"bad{number}", "missing.csv")
        assert store(*words).code == 4


def test_alerts_of_a_quiet_store_are_none(store, commit):
    commit("one")
    assert store.ok("alerts").out == "ok: nothing fires\n"
    assert store.ok("alerts", "--json").json["alerts"] == []


def test_alerts_one_failure_among_two_commits_is_none(store, commit, place):
    commit("one")
    refuse(store, place, 1)
    assert store("alerts").code == 0


def test_alerts_many_failures_are_critical(store, commit, place):
    commit("one")
    refuse(store, place, 3)
    ended = store("alerts")
    assert ended.code == 14
    assert ended.out == "critical  3 of 4 commits failed in an hour: 75%, more than 5%\n"


@pytest.mark.parametrize("what", ["secret", "rollback"])
def test_alerts_secret_and_rollback_are_info(store, commit, place, credential, what):
    commit("one")
    if what == "secret":
        (place / "leak.py").write_text(f'password = "{credential}"\n')
        assert store("commit", "-w", "w", "-t", "t", "-c", "c", "leak.py").code == 5
    else:
        store.ok("revert", "corr_one")
    ended = store("alerts", "--json")
    assert ended.code == 12
    assert [alert["severity"] for alert in ended.json["alerts"]] == ["info"]
    assert credential not in ended.out


def test_alerts_are_posted_when_something_fires(store, commit, place):
    commit("one")
    with receiving() as receiver:
        store.ok("alerts", "--webhook", receiver.url)
        assert receiver.got == []
        refuse(store, place, 3)
        assert store("alerts", "--webhook", receiver.url).code == 14
    assert json.loads(receiver.got[0][1])["severity"] == "critical"


def test_alerts_webhook_that_refuses_keeps_the_exit_code(store, place):
    refuse(store, place, 3)
    with receiving(404) as receiver:
        ended = store("alerts", "--webhook", receiver.url)
    assert ended.code == 14
    assert "did not take the post" in ended.err


def test_alerts_webhook_of_another_form_is_refused(store):
    assert store("alerts", "--webhook", "ftp://user:hunter2@host/").code == 4
    assert "hunter2" not in store("alerts", "--webhook", "ftp://user:hunter2@host/").err

"""Waiting for another process that is in the way."""

import pytest

from cas import ArtifactStoreConfig, StateError, compact_store, gc
from cas.lmdbenv import hold_alone
from cli.waiting import when_free
from tests.store.stores import open_store


class Seconds:
    """A clock that moves while somebody sleeps."""

    def __init__(self, on_sleep=lambda: None):
        self.now = 0.0
        self._on_sleep = on_sleep

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self._on_sleep()


@pytest.fixture
def config(store, place):
    return ArtifactStoreConfig(repo_path=place)


def test_waiting_ends_when_the_store_is_free(place, config):
    opened = open_store(place)
    seconds = Seconds(opened.close)
    assert when_free(lambda: compact_store(config), 60, clock=seconds, sleep=seconds.sleep)["after_bytes"]
    assert 0 < seconds.now < 1


def test_waiting_ends_with_the_refusal_when_the_time_is_over(place, config):
    seconds = Seconds()
    with open_store(place), pytest.raises(StateError) as caught:
        when_free(lambda: compact_store(config), 3, clock=seconds, sleep=seconds.sleep)
    assert caught.value.kind == "store_in_use"
    assert 3 <= seconds.now < 3.5


def test_waiting_is_told_once_and_only_when_there_is_something_to_wait_for(place, config):
    told = []
    seconds = Seconds()
    options = {"on_wait": lambda: told.append(seconds.now), "clock": seconds, "sleep": seconds.sleep}
    with open_store(place), pytest.raises(StateError):
        when_free(lambda: compact_store(config), 1, **options)
    assert told == [0.0]
    when_free(lambda: compact_store(config), 1, **options)
    assert told == [0.0]


def test_waiting_does_not_repeat_other_refusals(place, config):
    opened = open_store(place)
    opened.close()
    seconds = Seconds()
    with pytest.raises(StateError):
        when_free(opened.stats, 60, clock=seconds, sleep=seconds.sleep)
    assert seconds.now == 0


@pytest.mark.parametrize("words", [("list",), ("commit", "-w", "w", "-t", "t", "-c", "c", "f"), ("export",)])
def test_a_command_during_a_compaction_ends_when_its_waiting_time_is_over(store, place, words):
    (place / "f").write_text("1")
    with hold_alone(place / ".cas"):
        ended = store(*words, "--lock-wait", "0s")
        assert ended.code == 10
        assert "--lock-wait" in ended.err
        assert store(*words, "-o", "open_timeout=0", "--json").error["kind"] == "store_in_use"
    assert store(*words, "--lock-wait", "0s").code in (0, 9)


def test_a_command_during_a_compaction_says_that_it_waits_and_then_goes_on(store, place, spawn):
    with hold_alone(place / ".cas"):
        process = spawn("list", "--lock-wait", "60s")
        assert process.stderr.readline() == b"waiting for another process at work on this store\n"
        assert process.poll() is None
    _, err = process.communicate()
    assert (process.returncode, err.count(b"waiting")) == (0, 0)
    assert b"No runs yet" in err


def test_lock_wait_lets_a_collection_wait_for_another_one(store, place):
    with hold_alone(place / ".cas" / gc.LOCK_FILE):
        ended = store("gc", "--lock-wait", "0.2s", "--json")
    assert (ended.code, ended.error["kind"]) == (10, "gc_running")

"""Waiting for another process that is in the way."""

import pytest

from cas import ArtifactStoreConfig, StateError, compact_store
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


def test_waiting_does_not_repeat_other_refusals(place, config):
    opened = open_store(place)
    opened.close()
    seconds = Seconds()
    with pytest.raises(StateError):
        when_free(opened.stats, 60, clock=seconds, sleep=seconds.sleep)
    assert seconds.now == 0


def test_lock_wait_is_taken_by_every_command_that_another_process_can_be_in_the_way_of(cas):
    for words in (("export",), ("export", "run"), ("import",), ("gc",)):
        assert "--lock-wait" in cas.ok(*words, "--help").out

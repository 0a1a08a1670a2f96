"""Who is called for a channel, and what adding and removing tell the bus that listens for them."""

from cas.events.bus import Subscribers


def test_first_and_last_subscriber_of_a_channel_are_told():
    subscribers = Subscribers()
    assert subscribers.add("results", print) is True
    assert subscribers.add("results", repr) is False
    assert subscribers.remove("results", print) is False
    assert subscribers.channels() == ["results"]
    assert subscribers.remove("results", repr) is True
    assert subscribers.channels() == []


def test_removing_who_is_not_there_changes_nothing():
    subscribers = Subscribers()
    subscribers.add("results", print)
    assert subscribers.remove("results", repr) is False
    assert subscribers.remove("other", print) is True
    assert subscribers.channels() == ["results"]

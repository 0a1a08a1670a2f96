"""The connection to Redis: which URLs it takes, what it shows of them, and what becomes of an error."""

from __future__ import annotations

import builtins
import sys

import pytest

from cas.errors import ConfigError, ExportError
from cas.events.connection import Connection, masked

redis = pytest.importorskip("redis", reason="the extra `redis` is not installed")

SHOWN = [
    ("redis://host:1/0", "redis://host:1/0"),
    ("redis://user:pw@host:1/0", "redis://***@host:1/0"),
    ("redis://:pw@host", "redis://***@host"),
    ("redis://host/0?db=1", "redis://host/0"),
    ("redis://u:a@b@host/0", "redis://***@host/0"),
    ("redis://u:a?b@host/0", "redis://***"),
    ("rediss://u:p@host/0?password=x@y", "rediss://***"),
    ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ("unix://u:p@/run/redis.sock?db=0", "unix://***@/run/redis.sock"),
    ("redis://u:a//b@host/0", "redis://***@host/0"),
]


@pytest.mark.parametrize(("url", "shown"), SHOWN, ids=[str(number) for number in range(len(SHOWN))])
def test_url_is_shown_without_what_may_be_a_password(url, shown):
    assert masked(url) == shown


@pytest.mark.parametrize(
    "url", ["redis://u:pw@host:1/0", "rediss://u:pw@host:1/0", "unix://u:pw@/run/r.sock"]
)
def test_connection_shows_its_masked_url_and_opens_no_socket(url):
    connection = Connection(url)
    assert connection.shown == masked(url)
    assert repr(connection) == f"<Connection {masked(url)}>"


def test_client_gives_up_waiting_and_looks_after_its_socket():
    settings = Connection("redis://host:1/3").client.connection_pool.connection_kwargs
    expected = {"host": "host", "port": 1, "db": 3, "socket_connect_timeout": 5.0, "socket_timeout": 10.0}
    assert {name: settings[name] for name in expected} == expected
    assert settings["health_check_interval"] == 30


@pytest.mark.parametrize(
    "url", ["", "http://host", "host:6379", "REDIS://host", " redis://host", "redis:/host"]
)
def test_url_of_another_scheme_is_refused(url):
    with pytest.raises(ConfigError, match="must begin with") as caught:
        Connection(url)
    assert caught.value.subject == "redis"


def test_url_that_the_client_cannot_read_is_refused_without_its_words():
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        Connection("redis://u:sesame@host:port/0")
    assert caught.value.subject == "redis"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "sesame" not in str(caught.value)


def test_missing_package_is_told_with_how_to_install_it(monkeypatch):
    load = builtins.__import__

    def refuse(name, *arguments, **options):
        if name == "redis":
            raise ImportError(name)
        return load(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "redis")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match="needs the package redis") as caught:
        Connection("redis://host")
    assert caught.value.hint == "pip install 'cas-gitexport[redis]'"
    assert isinstance(caught.value.__cause__, ImportError)


def test_call_gives_the_client_and_returns_its_answer():
    connection = Connection("redis://host")
    assert connection.call(lambda client: [client]) == [connection.client]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (redis.exceptions.ConnectionError("redis://u:sesame@host"), "connection error"),
        (redis.exceptions.ReadOnlyError("sesame"), "read only error"),
        (redis.exceptions.RedisError("sesame"), "redis error"),
        (ConnectionRefusedError(111, "sesame"), "connection refused error"),
        (TimeoutError("sesame"), "timeout error"),
    ],
    ids=["connection", "read-only", "any", "refused", "timeout"],
)
def test_error_of_the_server_is_told_by_its_kind_only(error, reason):
    def fail(_):
        raise error

    with pytest.raises(ExportError) as caught:
        Connection("redis://u:pw@host:1/0").call(fail)
    told = caught.value
    assert told.message == f"redis://***@host:1/0: {reason}"
    assert (told.kind, told.retryable, told.hint) == ("bus_failed", True, "Is the server up?")
    assert told.__suppress_context__
    assert told.__cause__ is None


def test_error_of_the_caller_is_its_own():
    with pytest.raises(ZeroDivisionError):
        Connection("redis://host").call(lambda _: 1 // 0)


def test_event_is_sent_once_in_a_week(redis_url):
    connection = Connection(redis_url)
    try:
        sent = [connection.publish_once("evt_1", lambda pipe: pipe.rpush("sent", "one")) for _ in range(2)]
        assert sent == [True, False]
        assert connection.publish_once("evt_2", lambda pipe: pipe.rpush("sent", "two")) is True
        assert connection.client.lrange("sent", 0, -1) == [b"one", b"two"]
        assert connection.client.get("cas:published:evt_1") == b"1"
        assert 7 * 86400 - 60 < connection.client.ttl("cas:published:evt_1") <= 7 * 86400
    finally:
        connection.close()


def test_event_that_another_sends_at_the_same_moment_is_told_as_not_sent(redis_url):
    connection = Connection(redis_url)

    def send(pipe):
        connection.client.set("cas:published:evt_1", b"theirs")
        pipe.rpush("sent", "mine")

    try:
        with pytest.raises(ExportError, match="watch error"):
            connection.publish_once("evt_1", send)
        assert connection.client.lrange("sent", 0, -1) == []
        assert connection.client.get("cas:published:evt_1") == b"theirs"
    finally:
        connection.close()


def test_closed_connection_has_no_socket_left(redis_url):
    connection = Connection(redis_url)
    connection.call(lambda client: client.ping())
    (made,) = connection.client.connection_pool._available_connections
    assert made._sock is not None
    connection.close()
    assert made._sock is None

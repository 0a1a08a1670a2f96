"""`cas listen`; its work on a real Redis is tested with the buses."""

import pytest

pytest.importorskip("redis", reason="the extra `redis` is not installed")


def test_listen_url_of_another_form_is_refused_without_its_password(store):
    ended = store("listen", "--redis", "http://user:hunter2@host/")
    assert ended.code == 4
    assert "hunter2" not in ended.err + ended.out


def test_listen_needs_a_store(cas):
    assert cas("listen", "--redis", "redis://127.0.0.1:1/0").code == 3


def test_listen_file_with_the_url_must_be_readable(store):
    ended = store("listen", "--redis", "@missing")
    assert ended.code == 4
    assert "missing cannot be read" in ended.err


def test_listen_without_redis_is_a_usage_error(store):
    assert store("listen").code == 2

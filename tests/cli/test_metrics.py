"""`cas metrics`."""

import json
import signal
import threading
import urllib.request
from urllib.parse import urlsplit

import pytest

pytest.importorskip("prometheus_client", reason="the extra `metrics` is not installed")


def test_metrics_are_prometheus_text(store, commit):
    commit("one")
    out = store.ok("metrics").out
    assert "# TYPE cas_commits_total counter\ncas_commits_total 1.0\n" in out
    assert store.ok("metrics", "--json").json["text"].startswith("# HELP")


def test_metrics_textfile_is_replaced_whole(store, commit, place):
    commit("one")
    target = place / "node" / "cas.prom"
    assert store("metrics", "--textfile", target).code == 4
    target.parent.mkdir()
    for _ in range(2):
        assert store.ok("metrics", "--textfile", target).out == ""
    assert "cas_commits_total 1.0" in target.read_text()
    assert [path.name for path in target.parent.iterdir()] == ["cas.prom"]
    assert target.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "words", [("--serve", "9464"), ("--serve", ":x"), ("--serve", ":1", "--textfile", "x")]
)
def test_metrics_wrong_options_are_a_usage_error(store, words):
    assert store("metrics", *words).code == 2


@pytest.mark.parametrize("as_json", [False, True])
def test_metrics_are_served_until_stopped(store, commit, spawn, as_json):
    commit("one")
    with spawn("metrics", "--serve", ":0", *(["--json"] if as_json else [])) as process:
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        if as_json:
            told = json.loads(process.stdout.readline())
            url = told["url"]
            assert told == {"event": "serving", "url": url, "host": "127.0.0.1", "port": urlsplit(url).port}
        else:
            url = process.stderr.readline().decode().removeprefix("serving ").strip()
        with urllib.request.urlopen(url) as answer:  # noqa: S310  our own server
            assert b"cas_commits_total 1.0" in answer.read()
        process.send_signal(signal.SIGTERM)
        process.communicate()
        watchdog.cancel()
    assert process.returncode == 0
    assert url.startswith("http://127.0.0.1:")

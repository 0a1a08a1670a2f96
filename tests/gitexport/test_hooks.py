"""Hooks: what is told of exported batches, signed and retried, without holding the export up."""

import contextlib
import http.server
import json
import shlex
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cas import ArtifactStore, ArtifactStoreConfig
from cas.errors import ConfigError, ExportError
from gitexport import Exporter, hooks, webhook

SECRET = b"sixteen bytes or more"


class Receiver:
    """An HTTP server that answers as it is told to and keeps what it got."""

    def __init__(self, statuses):
        self.got = []
        statuses = iter(statuses)
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), body))
                status = next(statuses, 200)
                self.send_response(status)
                if status in {301, 307}:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                """Say nothing."""

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@contextlib.contextmanager
def receiving(*statuses):
    receiver = Receiver(statuses)
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


def no_pause(_):
    """Wait for nothing."""


def test_post_is_signed_over_time_and_body():
    with receiving() as receiver:
        webhook.post(receiver.url, b"{}", secret=SECRET, clock_s=lambda: 1000.5)
    headers, body = receiver.got[0]
    assert headers["X-Cas-Timestamp"] == "1000"
    assert headers["X-Cas-Signature"] == webhook.signature(SECRET, 1000, body)
    assert headers["X-Cas-Signature"] != webhook.signature(SECRET, 1001, body)
    assert SECRET.decode() not in str(receiver.got)


@pytest.mark.parametrize(("statuses", "tries"), [((500, 503), 3), ((429,), 2), ((408, 200), 2)])
def test_post_is_tried_again_while_the_receiver_is_busy(statuses, tries):
    pauses = []
    with receiving(*statuses) as receiver:
        webhook.post(receiver.url, b"{}", pause=pauses.append)
    assert len(receiver.got) == tries
    assert len(pauses) == tries - 1


@pytest.mark.parametrize(("statuses", "tries"), [((404,), 1), ((301,), 1), ((307,), 1), ((500, 500, 500), 3)])
def test_post_that_is_refused_is_an_error_without_the_password(statuses, tries):
    with receiving(*statuses) as receiver:
        url = receiver.url.replace("//", "//user:hunter2@") + "?token=hunter2"
        with pytest.raises(ExportError) as caught:
            webhook.post(url.replace("user:hunter2@", ""), b"{}", pause=no_pause)
    assert len(receiver.got) == tries
    assert "hunter2" not in str(caught.value) + webhook.masked(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:hunter2@host:8443/services/hunter2?x=hunter2#hunter2", "https://host:8443/***"),
        ("https://u:hun@ter2@host/", "https://host/"),
        ("http://host", "http://host"),
        ("hunter2", "***"),
    ],
)
def test_masked_url_shows_scheme_and_host_alone(url, shown):
    assert webhook.masked(url) == shown


def test_post_to_nobody_is_an_error():
    with pytest.raises(ExportError):
        webhook.post("http://127.0.0.1:1/", b"{}", pause=no_pause)


def answer_once(listener, said):
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(said)


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n"])
def test_post_to_something_that_speaks_no_http_is_an_error(said):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [threading.Thread(target=answer_once, args=(listener, said)) for _ in range(3)]
        for thread in threads:
            thread.start()
        with pytest.raises(ExportError, match="did not take the post"):
            webhook.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", b"{}", pause=no_pause)
        for thread in threads:
            thread.join()


def test_post_to_a_port_that_is_no_number_is_an_error():
    with pytest.raises(ExportError, match="InvalidURL"):
        webhook.post("http://127.0.0.1:port/", b"{}", pause=no_pause)


@pytest.mark.parametrize(
    "url", ["ftp://host/", "file:///etc/passwd", "http://", "http:// host/", "host", "http://[bad/"]
)
def test_url_of_another_form_is_refused(url):
    with pytest.raises(ConfigError):
        webhook.check_url(url)


def test_secret_file_is_read_without_its_line_end(tmp_path):
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    assert webhook.read_secret(tmp_path / "secret") == SECRET
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(ConfigError):
        webhook.read_secret(tmp_path / "secret")
    with pytest.raises(ConfigError):
        webhook.read_secret(tmp_path / "missing")


@pytest.fixture
def repository(tmp_path):
    path = tmp_path / "repo.git"
    subprocess.run(["git", "init", "--quiet", "--bare", path], check=True)
    return path


@pytest.fixture
def run(repository, tmp_path):
    """Commits a run, exports with some settings, and returns its result and the summary."""

    def run_with(*, push=False, **settings):
        config = ArtifactStoreConfig(
            repo_path=repository, store_path=tmp_path / "store", scan_for_secrets=False, **settings
        )
        with ArtifactStore(config) as store:
            result = store.commit_artifacts("wf", "task", {"a.txt": b"x"}, {}, "c1")
            return result, Exporter(store).run(push=push)

    return run_with


def test_export_tells_of_its_batch(run, tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)
    with receiving() as receiver:
        result, summary = run(on_exported_url=receiver.url, on_exported_secret=tmp_path / "secret")
    assert summary.warnings == []
    headers, body = receiver.got[0]
    payload = json.loads(body)
    assert payload["event"] == "exported"
    (told,) = payload["runs"]
    assert told["commit_sha"] == result["commit_sha"]
    assert (told["correlation_id"], told["tags"]) == ("c1", ["corr_c1"])
    assert headers["X-Cas-Signature"] == webhook.signature(SECRET, int(headers["X-Cas-Timestamp"]), body)


def test_export_goes_on_when_the_receiver_refuses(run):
    with receiving(404) as receiver:
        _, summary = run(on_exported_url=receiver.url)
    assert summary.exported == 1
    assert "did not take the post" in summary.warnings[0]


def test_export_that_fails_later_has_told_of_what_arrived(run, repository, tmp_path):
    subprocess.run(["git", "-C", repository, "remote", "add", "origin", "ext::sh -c true"], check=True)
    out = tmp_path / "out.json"
    with pytest.raises(ConfigError, match="transport"):
        run(
            push=True,
            on_exported_command=shlex.join(["sh", "-c", f"sleep 0.1; cat > {shlex.quote(str(out))}"]),
        )
    assert json.loads(out.read_text())["event"] == "exported"
    assert "cas-hooks" not in {thread.name for thread in threading.enumerate()}


def test_export_goes_on_when_a_hook_setting_is_unusable(run, tmp_path):
    _, summary = run(on_exported_url="ftp://nowhere", on_exported_secret=tmp_path / "missing")
    assert summary.exported == 1
    assert summary.warnings[0].startswith("hook: ")


def test_export_gives_the_batch_to_a_program(run, tmp_path):
    out = tmp_path / "out.json"
    program = f"import os,sys; open({str(out)!r}, 'w').write(sys.stdin.read() + os.environ['CAS_TIMESTAMP'])"
    result, summary = run(on_exported_command=shlex.join([sys.executable, "-c", program]))
    assert summary.warnings == []
    assert result["commit_sha"] in out.read_text()


def test_program_that_hangs_is_killed_with_its_children():
    assert hooks.run_program(["sh", "-c", "sleep 60 & wait"], b"", None, timeout_s=0.1) is None


def test_program_sees_a_few_variables_only(monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_TOKEN", "value")
    out = tmp_path / "out"
    assert hooks.run_program(["sh", "-c", f"env > {shlex.quote(str(out))}"], b"", SECRET) == 0
    assert "SOME_TOKEN" not in out.read_text()
    assert "CAS_SIGNATURE=sha256=" in out.read_text()
    assert SECRET.decode() not in out.read_text()


def test_dry_run_tells_nobody(repository, tmp_path):
    with receiving() as receiver:
        config = ArtifactStoreConfig(
            repo_path=repository, store_path=tmp_path / "s", on_exported_url=receiver.url
        )
        with ArtifactStore(config) as store:
            store.commit_artifacts("wf", "task", {"a.txt": b"x"}, {}, "c1")
            Exporter(store).run(push=False, dry_run=True)
    assert receiver.got == []


def test_unusable_secret_or_command_names_its_setting(tmp_path):
    (tmp_path / "short").write_bytes(b"x" * 15 + b"\n")
    for path in (tmp_path / "short", tmp_path / "missing"):
        with pytest.raises(ConfigError) as caught:
            webhook.read_secret(path)
        assert caught.value.subject == "on_exported_secret"
        assert str(path) in caught.value.message
    (tmp_path / "short").write_bytes(b"x" * 16)
    assert webhook.read_secret(tmp_path / "short") == b"x" * 16
    with pytest.raises(ConfigError) as caught:
        hooks._words(ArtifactStoreConfig(repo_path=tmp_path, on_exported_command="a 'b"))
    assert caught.value.subject == "on_exported_command"
    assert hooks._words(ArtifactStoreConfig(repo_path=tmp_path, on_exported_command="a 'b c'")) == [
        "a",
        "b c",
    ]
    assert hooks._words(ArtifactStoreConfig(repo_path=tmp_path)) == []


def test_signature_covers_time_and_body_and_the_time_is_always_told():
    headers = webhook.signed_headers(SECRET, 7, b"body")
    assert headers == {"X-Cas-Timestamp": "7", "X-Cas-Signature": webhook.signature(SECRET, 7, b"body")}
    assert webhook.signed_headers(None, 7, b"body") == {"X-Cas-Timestamp": "7"}
    others = {webhook.signature(SECRET, 8, b"body"), webhook.signature(SECRET, 7, b"bodz")}
    assert headers["X-Cas-Signature"] not in others
    assert webhook.encode_payload({"a": [1], "b": Path("p")}) == b'{"a":[1],"b":"p"}'


def hooked(tmp_path, **settings):
    """Hooks of a store with two runs and a rollback, which wait for nothing."""
    store = ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path, scan_for_secrets=False, **settings))
    store.commit_artifacts("wf", "t", {"a": b"1"}, correlation_id="c1")
    store.commit_artifacts("wf", "t", {"a": b"2"}, correlation_id="c1")
    store.revert_to_tag("corr_c1", "main")
    made = hooks.ExportHooks.of(store)
    if made is not None:
        made._pause = no_pause
    return store, made


def test_store_without_a_hook_has_none(tmp_path):
    store, made = hooked(tmp_path)
    assert made is None
    store.close()


def test_batch_is_told_run_by_run_and_an_empty_one_is_not(tmp_path):
    with receiving(200) as receiver:
        store, made = hooked(tmp_path, on_exported_url=receiver.url)
        made.batch([])
        assert made._thread is None
        made.batch([1, 2, 3])
        assert made.finish() == []
    ((headers, body),) = receiver.got
    told = json.loads(body)
    assert (told["event"], told["store_id"], len(told["delivery"])) == ("exported", store.meta.store_id, 32)
    assert [run["kind"] for run in told["runs"]] == ["commit", "commit", "rollback"]
    shown = store.show("corr_c1@2")
    assert told["runs"][1] == {
        "kind": "commit", "branch": "ai/generated/wf/t", "commit_sha": shown["commit_sha"], "tags": ["corr_c1@2"],
        "workflow_id": "wf", "task_id": "t", "correlation_id": "c1", "revision": 2,
    }  # fmt: skip
    assert told["runs"][2].keys() == {"kind", "branch", "commit_sha", "tags"}
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == "cas-gitexport"
    store.close()


def test_program_that_fails_is_tried_three_times_and_then_told(tmp_path, monkeypatch):
    calls, pauses = [], []
    monkeypatch.setattr(hooks, "run_program", lambda words, body, secret: calls.append(words) or codes.pop(0))
    store, made = hooked(tmp_path, on_exported_command="notify now")
    made._pause = pauses.append
    codes = [1, None, 0]
    made._run_command(b"body")
    assert (calls, pauses) == ([["notify", "now"]] * 3, [1.0, 4.0])
    for last, says in ((7, "notify ended with 7"), (None, "notify took too long")):
        codes[:] = [1, 1, last]
        with pytest.raises(ExportError) as caught:
            made._run_command(b"body")
        assert (caught.value.message, caught.value.kind, caught.value.retryable) == (
            says,
            "hook_failed",
            True,
        )
    store.close()


def test_batch_that_cannot_be_read_or_has_no_room_is_told_as_a_warning(tmp_path, monkeypatch):
    store, made = hooked(tmp_path, on_exported_command="true")
    made.batch([77])
    assert made.finish()[0].startswith("hook: ")
    begun, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(made, "_run_command", lambda body: begun.set() or go_on.wait(60))
    made.batch([1])
    assert begun.wait(60)
    monkeypatch.setattr(made, "_waiting", type(made._waiting)(maxsize=1))
    made.batch([1])
    made.batch([1, 2])
    go_on.set()
    assert "hook: a batch of 2 was dropped" in made.finish()[-1]
    store.close()

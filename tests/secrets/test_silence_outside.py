"""A refused credential in what leaves the store: events, metrics, alerts, relay files, ``--json``, locals."""

import contextlib
import io
import json
import sys
import traceback

import pytest

from cas import ArtifactStore, ArtifactStoreConfig
from cas.codec import deflate
from cas.errors import SecretDetectedError
from cas.events import ArtifactEventHandler, Channels, MemoryBus, encode
from cas.exposition import render
from cas.health import evaluate
from cas.secretscan import SecretScanner
from cli.app import main
from tests.events.runs import passed, write_run

VALUE = "Zq7" + "wLm2" * 6 + "Tk9"
TEXT = f'api_key = "{VALUE}"\n'
STREAM = deflate(TEXT.encode())


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "Backtest" / "codes").mkdir(parents=True)
    (tmp_path / "artifacts").mkdir()
    write_run(tmp_path, "task1")
    return tmp_path


@pytest.fixture
def store(workspace):
    with ArtifactStore(ArtifactStoreConfig(repo_path=workspace)) as opened:
        yield opened


def secret_file(workspace):
    (workspace / "artifacts" / "task1" / "events.log").write_text(TEXT)
    return passed()


def secret_metrics(_workspace):
    event = passed()
    event.data["metrics"]["note"] = TEXT
    return event


def secret_version(_workspace):
    event = passed()
    event.data["llm_version"] = TEXT
    return event


def secret_id(_workspace):
    return passed(correlation_id=f"api_key={VALUE}")


def secret_name(workspace):
    """A name that is a credential, on a file that holds another."""
    name = f"api_key={VALUE}.log"
    (workspace / "artifacts" / "task1" / name).write_text(TEXT.replace("Zq7", "Zq8"))
    event = passed()
    event.data["artifacts"]["events_log"] = f"artifacts/task1/{name}"
    return event


REFUSED = [secret_file, secret_metrics, secret_version, secret_id, secret_name]


def kept_files(folder):
    return {path.name: path.read_bytes() for path in (folder / ".cas").rglob("*") if path.is_file()}


@pytest.mark.parametrize("make", REFUSED)
def test_rejected_event_metrics_alerts_and_store_files_hold_no_value(workspace, store, make):
    bus, published = MemoryBus(), []
    bus.subscribe(Channels.WORKFLOW_EVENTS, published.append)
    handler = ArtifactEventHandler(store, bus, pause=lambda _: None)
    handler.start()
    bus.publish(Channels.TEST_RESULTS, make(workspace))
    store.flush_metrics()
    assert [event.event_type for event in published] == ["artifact.rejected"]
    told = [encode(event) for event in published]
    told += [repr(published), repr(bus.failures), repr(vars(handler)), json.dumps(store.stats(), default=str)]
    with store.environment.read() as transaction:
        told.append(repr(evaluate(transaction, store.now_us())))
    exposed = render(store.environment, store.now_us)
    assert b"cas_secret_detections_total 1" in exposed or b"cas_secret_detections_total 2" in exposed
    told.append(exposed)
    assert not [text for text in told if VALUE in (text.decode() if isinstance(text, bytes) else text)]
    files = kept_files(workspace)
    assert "data.mdb" in files
    assert not [name for name, data in files.items() if VALUE.encode() in data or STREAM in data]


@pytest.mark.parametrize("make", REFUSED)
def test_refusal_holds_no_value_in_the_locals_of_its_traceback(workspace, store, make):
    event = make(workspace)
    arguments = {
        "workflow_id": event.workflow_id,
        "task_id": event.task_id,
        "files": {
            path.rpartition("/")[2]: (workspace / path).read_bytes()
            for path in event.data["artifacts"].values()
        },
        "metadata": event.data,
        "correlation_id": event.correlation_id,
    }

    def open_run():
        with store.open_run(event.workflow_id, event.task_id, event.correlation_id) as run:
            for name, data in arguments["files"].items():
                run.add_bytes(name, data)
            run.commit(event.data)

    for call in (lambda: store.commit_artifacts(**arguments), open_run):
        with pytest.raises(SecretDetectedError) as refused:
            call()
        assert VALUE not in shown_locals(refused.value)


def shown_locals(error):
    """Return the locals of the product's own frames, as error reporters print them."""
    lines = []
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if "/cas/" in frame.f_code.co_filename:
            lines.append(f"{frame.f_code.co_qualname}: {dict(frame.f_locals)!r}")
    assert lines
    assert error.__context__ is None
    return "\n".join(lines)


def test_scan_of_a_file_whose_name_is_a_credential_does_not_tell_the_name():
    (finding,) = SecretScanner(engine="python").scan(TEXT.encode(), f"api_key={VALUE}.log")
    assert VALUE not in repr(finding)
    assert "name" in finding.name


def run_cas(*words):
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
        sys.stdout.flush()
    return code, out.buffer.getvalue().decode(), err.getvalue()


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_commands_say_nothing_of_a_refused_value(workspace, form):
    repo = ["--repo", str(workspace), *form]
    (workspace / "leak.py").write_text(TEXT)
    commands = [
        ["init"],
        ["commit", "--workflow", "w", "--task", "t", "--correlation-id", "c", str(workspace / "leak.py")],
        ["scan", str(workspace / "leak.py")],
        ["scan", "--sarif", str(workspace / "leak.py")],
        ["scan", "--write-baseline", str(workspace / "base.json"), str(workspace / "leak.py")],
        ["stats"],
        ["alerts"],
        ["metrics"],
        ["list"],
    ]
    codes = {}
    for words in commands:
        code, out, err = run_cas(*repo, *words)
        codes[words[0]] = code
        assert VALUE not in out + err, words
    assert codes["commit"] != 0
    assert codes["alerts"] == 12  # the severity of a secret: info
    assert VALUE not in (workspace / "base.json").read_text()
    assert not [name for name, data in kept_files(workspace).items() if VALUE.encode() in data]

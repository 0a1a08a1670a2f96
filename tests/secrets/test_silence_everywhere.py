"""A credential handed to whatever call or command, which then fails: in nothing that is shown, stored or sent."""

# A call reads best as the one line that it is.
# ruff: noqa: E501

import contextlib
import io
import json
import logging
import re
import subprocess
import sys
import traceback

import pytest

from cas import ArtifactStore, ArtifactStoreConfig
from cas.codec import deflate
from cas.errors import ArtifactStoreError, ExportError, InvalidFileError, SecretDetectedError, StateError
from cas.events import ArtifactEventHandler, Channels, MemoryBus, encode
from cas.exposition import render
from cas.silence import silent
from cli.app import main
from gitexport import Exporter, import_repository
from tests.events.runs import passed, write_run
from tests.export.places import run_git
from tests.secrets.corpus import B62, Maker
from tests.secrets.test_silence_refused import told_by

VALUE = Maker("everywhere").of(B62, 31)
TEXT = f'api_key = "{VALUE}"'
NAME = f"api_key={VALUE}"
CLEAN = {"ok.py": b"A = 0\n"}


@pytest.fixture
def store(tmp_path):
    with ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path)) as opened:
        opened.commit_artifacts("w", "t", CLEAN, correlation_id="c0")
        opened.commit_artifacts("w", "t", CLEAN, {"n": 1}, correlation_id="c1")
        yield opened


def in_the_way(path):
    folder = path / NAME
    folder.mkdir()
    (folder / "there").write_text("")
    return folder


# fmt: off
CALLS = {
    "show": lambda store, _: store.show(TEXT),
    "show further back": lambda store, _: store.show(f"{TEXT}~3"),
    "list_files": lambda store, _: store.list_files(TEXT),
    "read_file of a run": lambda store, _: store.read_file(TEXT, "ok.py"),
    "read_file of a name": lambda store, _: store.read_file("c0", NAME),
    "iter_file of a run": lambda store, _: list(store.iter_file(TEXT, "ok.py")),
    "iter_file of a name": lambda store, _: next(store.iter_file("c0", NAME)),
    "checkout": lambda store, path: store.checkout(TEXT, path / "out"),
    "checkout into a folder in the way": lambda store, path: store.checkout("c0", in_the_way(path)),
    "diff, left": lambda store, _: store.diff(TEXT, "c0"),
    "diff, right": lambda store, _: store.diff("c0", TEXT),
    "history": lambda store, _: store.history(TEXT),
    "export_status": lambda store, _: store.export_status(TEXT),
    "wait_for_export": lambda store, _: store.wait_for_export(TEXT, timeout=0),
    "list_artifacts where": lambda store, _: store.list_artifacts(where=f"{NAME} >"),
    "list_artifacts where a number is missing": lambda store, _: store.list_artifacts(where=f"{TEXT} and 3"),
    "list_artifacts since": lambda store, _: store.list_artifacts(since=TEXT),
    "list_artifacts sort": lambda store, _: store.list_artifacts(sort=f"{TEXT}\ud800"),
    "list_artifacts after": lambda store, _: store.list_artifacts(after=TEXT),
    "get_artifact_by_correlation_id": lambda store, _: store.get_artifact_by_correlation_id(TEXT, revision=TEXT),
    "undelete": lambda store, _: store.undelete(TEXT),
    "purge": lambda store, _: store.purge(TEXT),
    "backup": lambda store, path: store.backup(in_the_way(path)),
}
# fmt: on


@pytest.mark.parametrize("case", CALLS)
def test_failed_call_shows_nothing_of_a_credential_in(store, tmp_path, caplog, case):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ArtifactStoreError) as failed:
        CALLS[case](store, tmp_path)
    assert not [told for told in told_by(failed.value) if VALUE in told]
    assert VALUE not in caplog.text + repr(failed.value.__dict__) + repr(
        getattr(failed.value, "__notes__", None)
    )


def test_ordinary_failure_of_reading_still_names_the_word(store):
    with pytest.raises(ArtifactStoreError, match="no run, tag or branch 'nothing'"):
        store.show("nothing")


class Hostile:
    """Content that breaks while it is looked at, in a call that holds a credential."""

    def __init__(self, error):
        self.error = error

    def __iter__(self):
        raise self.error


def use_run(store, error):
    with store.open_run("w", "t", "c9") as run:
        run.add_bytes("a.py", b"1")
        store.close()
        run.commit({"note": TEXT, "more": Hostile(error)})


def write_name(store):
    with store.open_run("w", "t", "c9") as run, run.open_file(f"../{NAME}") as file:
        file.write(b"1")


# fmt: off
BROKEN = {
    "commit_artifacts": lambda store: store.commit_artifacts("w", "t", {"a.py": TEXT.encode()}, {"n": TEXT}, correlation_id="c9"),
    "commit_many": lambda store: store.commit_many([{"workflow_id": "w", "task_id": "t", "correlation_id": "c9", "files": {"a.py": TEXT.encode()}}]),
    "show": lambda store: store.show(TEXT),
    "iter_file": lambda store: list(store.iter_file("c0", NAME)),
    "purge": lambda store: store.purge(TEXT),
}
# fmt: on


@pytest.mark.parametrize("case", BROKEN)
def test_failure_that_is_not_about_the_input_keeps_frames_and_no_locals(store, case):
    store.close()
    with pytest.raises(StateError) as failed:
        BROKEN[case](store)
    assert not [told for told in told_by(failed.value) if VALUE in told]
    assert "_check_open" in "".join(traceback.format_exception(failed.value))


@pytest.mark.parametrize("error", [OSError("broken"), KeyboardInterrupt(), TypeError("odd")], ids=type)
def test_unforeseen_error_keeps_no_locals_of_ours(store, error):
    with pytest.raises(type(error)) as failed:
        store.commit_artifacts("w", "t", Hostile(error), {"n": TEXT}, correlation_id=TEXT)
    assert not [told for told in told_by_any(failed.value) if VALUE in told]


def told_by_any(error):
    chain = [error]
    while chain:
        each = chain.pop()
        yield repr(each) + "".join(traceback.format_exception(each))
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if re.search(r"/(cas|gitexport)/", frame.f_code.co_filename):
                yield f"{frame.f_code.co_qualname}: {dict(frame.f_locals)!r}"
        chain += [other for other in (each.__cause__, each.__context__) if other is not None]


def test_locals_of_a_callback_stay_its_own(store):
    def progress(phase, _done, _total):
        own = phase
        raise ValueError(own)

    with pytest.raises(ValueError, match="read") as failed:
        store.commit_artifacts("w", "t", {"big": b"1" * 100}, correlation_id="c9", progress=progress)
    frames = [frame for frame, _ in traceback.walk_tb(failed.value.__traceback__)]
    assert frames[-1].f_locals["own"]


class Refusing:
    """Refuses a text for an error that came up while another one was handled."""

    secret_scanner = None

    def __init__(self, path):
        self.path = path

    @silent
    def read(self, text):
        try:
            try:
                json.loads(text)
            finally:
                (self.path / text).read_text()
        except OSError as error:
            raise InvalidFileError("it cannot be read") from error


def test_refusal_lets_go_of_all_frames_below_it_and_of_none_of_the_callers(tmp_path):
    own = OSError("the caller's")
    try:
        raise own
    except OSError:
        with pytest.raises(InvalidFileError) as failed:
            Refusing(tmp_path).read(NAME)
    assert own.__traceback__ is not None
    assert type(failed.value.__cause__) is FileNotFoundError
    assert failed.value.__cause__.__traceback__ is None
    assert failed.value.__cause__.__context__ is None


def test_file_of_a_growing_run_with_a_bad_name_is_told_without_it(store):
    with pytest.raises(SecretDetectedError) as failed:
        write_name(store)
    assert not [told for told in told_by(failed.value) if VALUE in told]


def test_growing_run_of_a_closed_store_shows_nothing(store):
    with pytest.raises(ArtifactStoreError) as failed:
        use_run(store, OSError())
    assert not [told for told in told_by(failed.value) if VALUE in told]


class DeafBus(MemoryBus):
    """A bus that is told of runs and takes no answers."""

    redelivers = True

    def publish(self, channel, event):
        if channel == Channels.WORKFLOW_EVENTS:
            raise ExportError("nobody answers", retryable=False)
        super().publish(channel, event)


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "Backtest" / "codes").mkdir(parents=True)
    (tmp_path / "artifacts").mkdir()
    write_run(tmp_path, "task1")
    return tmp_path


def with_data(**data):
    event = passed()
    event.data.update(data)
    return event


EVENTS = {
    "metrics": lambda: with_data(metrics={"note": TEXT}),
    "metric's name": lambda: with_data(metrics={TEXT: 1}),
    "version": lambda: with_data(llm_version=TEXT),
    "prompt": lambda: with_data(prompt_hash=TEXT),
    "artifact's kind": lambda: with_data(artifacts={**passed().data["artifacts"], TEXT: "/outside"}),
    "artifact's path": lambda: with_data(artifacts={**passed().data["artifacts"], "x": f"../{NAME}"}),
    "artifacts": lambda: with_data(artifacts=TEXT),
    "correlation id": lambda: passed(correlation_id=TEXT),
    "workflow": lambda: passed(workflow_id=TEXT),
    "event id": lambda: passed(event_id=TEXT, data={}),
}


@pytest.mark.parametrize("case", EVENTS)
def test_event_that_is_refused_is_answered_without_the_credential(workspace, caplog, case):
    caplog.set_level(logging.DEBUG)
    bus, published = MemoryBus(), []
    bus.subscribe(Channels.WORKFLOW_EVENTS, published.append)
    with ArtifactStore(ArtifactStoreConfig(repo_path=workspace)) as store:
        ArtifactEventHandler(store, bus, pause=lambda _: None).start()
        bus.publish(Channels.TEST_RESULTS, EVENTS[case]())
        store.flush_metrics()
        told = [encode(event) for event in published] + [render(store.environment, store.now_us)]
    assert [event.event_type for event in published] == ["artifact.rejected"]
    assert not [text for text in told if VALUE.encode() in text]
    assert not bus.failures
    assert VALUE not in caplog.text
    assert_kept_nowhere(workspace)


@pytest.mark.parametrize("case", EVENTS)
def test_failure_to_answer_an_event_shows_nothing_of_it(workspace, case):
    bus = DeafBus()
    with ArtifactStore(ArtifactStoreConfig(repo_path=workspace)) as store:
        ArtifactEventHandler(store, bus, pause=lambda _: None).start()
        bus.publish(Channels.TEST_RESULTS, EVENTS[case]())
    (failure,) = bus.failures
    frames = [
        f"{frame.f_code.co_qualname}: {dict(frame.f_locals)!r}"
        for frame, _ in traceback.walk_tb(failure.__traceback__)
        if "/cas/" in frame.f_code.co_filename and "deliver" not in frame.f_code.co_name
    ]
    assert frames
    assert not [told for told in [repr(failure), *frames] if VALUE in told]


def test_answer_to_a_stored_event_repeats_no_id_that_is_a_credential(workspace):
    bus, published = MemoryBus(), []
    bus.subscribe(Channels.WORKFLOW_EVENTS, published.append)
    with ArtifactStore(ArtifactStoreConfig(repo_path=workspace)) as store:
        ArtifactEventHandler(store, bus, pause=lambda _: None).start()
        bus.publish(Channels.TEST_RESULTS, passed(event_id=TEXT))
    (answer,) = published
    assert answer.event_type == "artifact.committed"
    assert VALUE.encode() not in encode(answer)


def assert_kept_nowhere(folder, *more):
    """No file of the store, the relay's among them, and no object of git holds the value, plain or deflated."""
    files = [path for path in (folder / ".cas").rglob("*") if path.is_file()]
    assert files
    for path in [*files, *more]:
        data = path.read_bytes()
        assert VALUE.encode() not in data, path
        assert deflate(TEXT.encode()) not in data, path
    if (folder / ".git").exists():
        for words in (["cat-file", "--batch-all-objects", "--batch"], ["for-each-ref"]):
            told = subprocess.run(["git", "-C", folder, *words], capture_output=True, check=True).stdout
            assert VALUE.encode() not in told


def run_cas(*words):
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
        sys.stdout.flush()
    return code, out.buffer.getvalue().decode(), err.getvalue()


COMMANDS = [
    ["commit", "-w", "w", "-t", "t", "-c", "c9", "leak.py"],
    ["commit", "-w", "w", "-t", "t", "-c", "c9", f"{NAME}.py"],
    ["commit", "-w", "w", "-t", "t", "-c", "c9", f"none-{NAME}.py"],
    ["commit", "-w", "w", "-t", "t", "-c", TEXT, "ok.py"],
    ["commit", "-w", TEXT, "-t", "t", "-c", "c9", "ok.py"],
    ["commit", "-w", "w", "-t", "t", "-c", "c9", "--meta", f"note={TEXT}", "ok.py"],
    ["show", TEXT],
    ["cat", TEXT, "ok.py"],
    ["cat", "c0", NAME],
    ["checkout", TEXT, "out"],
    ["checkout", "c0", NAME],
    ["diff", TEXT, "c0"],
    ["log", TEXT],
    ["list", "--where", f"{TEXT} >"],
    ["revert", TEXT, "--to", "main"],
    ["verify", "--rollback", TEXT],
    ["pin", TEXT],
    ["pin", "c0", "--note", TEXT],
    ["unpin", TEXT],
    ["forget", TEXT],
    ["undelete", TEXT],
    ["purge", "--secret", TEXT],
    ["export", "status", TEXT],
    ["scan", "leak.py"],
    ["scan", f"{NAME}.py"],
    ["scan", NAME],
    ["scan", f"none-{NAME}.py"],
    ["scan", "."],
    ["scan", "--sarif", "."],
    ["scan", ".", "--write-baseline", "base.json"],
    ["import", "--branch", f"ai/generated/w/{NAME}"],
    ["stats"],
    ["metrics"],
    ["alerts"],
    ["list"],
    ["export"],
    ["show", "nothing"],
]


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_no_command_says_or_keeps_a_credential(tmp_path, monkeypatch, caplog, form):
    caplog.set_level(logging.DEBUG)
    run_git(tmp_path, "init", "--quiet")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leak.py").write_text(TEXT)
    (tmp_path / f"{NAME}.py").write_text(TEXT)
    (tmp_path / "ok.py").write_text("A = 0\n")
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "leak.py").write_text(TEXT)
    with ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path)) as store:
        store.commit_artifacts("w", "t", CLEAN, correlation_id="c0")
    told, codes = {}, set()
    for words in COMMANDS:
        code, out, err = run_cas(*form, *words)
        codes.add(code)
        if VALUE in out + err:
            told[" ".join(words)] = out + err
        assert code != 1, (words, err)
    assert told == {}, "\n".join(f"{words}: {said}" for words, said in told.items())
    assert VALUE not in caplog.text
    assert codes >= {0, 3, 5}
    assert_kept_nowhere(tmp_path, tmp_path / "base.json")


class OldRepository:
    """A repository of the replaced system with a credential in some place of it."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        run_git(path, "init", "--quiet", "--initial-branch=main")

    def commit(self, task="task1", files=None, message="Add artifacts", author="Bot", tags=(), note=None):
        folder = self.path / "Backtest" / "codes" / task
        folder.mkdir(parents=True)
        for name, content in {"strategy.py": "A = 0\n", "metadata.json": "{}", **(files or {})}.items():
            (folder / name).write_text(content)
        run_git(self.path, "checkout", "--quiet", "-b", f"ai/generated/w/{task}")
        run_git(self.path, "add", ".")
        run_git(
            self.path,
            "-c",
            f"user.name={author}",
            "commit",
            "--quiet",
            f"--author={author} <a@example.com>",
            f"--message={message}",
        )
        for tag in tags:
            run_git(self.path, "tag", *([] if note is None else ["--annotate", f"--message={note}"]), tag)

    def link(self):
        folder = self.path / "Backtest" / "codes" / "task1"
        folder.mkdir(parents=True)
        (folder / NAME).symlink_to("strategy.py")
        self.rest()

    def rest(self):
        folder = self.path / "Backtest" / "codes" / "task1"
        (folder / "strategy.py").write_text("A = 0\n")
        run_git(self.path, "checkout", "--quiet", "-b", "ai/generated/w/task1")
        run_git(self.path, "add", ".")
        run_git(self.path, "commit", "--quiet", "--message=Add artifacts")


OLD = {
    "file": lambda old: old.commit(files={"a.py": TEXT}),
    "file's name": lambda old: old.commit(files={NAME: "1"}),
    "metadata": lambda old: old.commit(files={"metadata.json": json.dumps({"note": TEXT})}),
    "metadata's key": lambda old: old.commit(files={"metadata.json": json.dumps({TEXT: 1})}),
    "broken metadata": lambda old: old.commit(files={"metadata.json": f"{{{TEXT}"}),
    "message": lambda old: old.commit(message=f"Add\n\n{TEXT}"),
    "branch": lambda old: old.commit(task=NAME),
    "author": lambda old: old.commit(author=NAME),
    "tag": lambda old: old.commit(tags=[f"corr_{NAME}"]),
    "tag's message": lambda old: old.commit(tags=["corr_x"], note=TEXT),
    "link's name": OldRepository.link,
}


@pytest.mark.parametrize("case", OLD)
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_import_refuses_a_credential_without_telling_it(tmp_path, caplog, case, form):
    caplog.set_level(logging.DEBUG)
    old = OldRepository(tmp_path / "old")
    OLD[case](old)
    config = ArtifactStoreConfig(repo_path=old.path, store_path=tmp_path / "new" / ".cas")
    with ArtifactStore(config) as store:
        summary = import_repository(store, dry_run=True).as_dict()
        assert VALUE not in repr(summary)
        assert len(summary["refused"]) == 1
        assert summary["findings"]
        assert summary == {
            **import_repository(store).as_dict(),
            "dry_run": True,
            "duration_s": summary["duration_s"],
        }
        assert store.list_artifacts() == []
        allowed = import_repository(store, on_secret="allow", dry_run=True).as_dict()
        assert allowed["commits"] == 1
        assert VALUE not in repr(allowed)
    code, out, err = run_cas("--store", str(config.store_dir), "--repo", str(old.path), *form, "import")
    assert code == 5
    assert VALUE not in out + err + caplog.text
    assert_kept_nowhere(tmp_path / "new")


def test_import_of_a_branch_that_is_not_there_is_told_without_its_name(tmp_path):
    old = OldRepository(tmp_path / "old")
    old.commit()
    with (
        ArtifactStore(ArtifactStoreConfig(repo_path=old.path)) as store,
        pytest.raises(SecretDetectedError) as failed,
    ):
        import_repository(store, branches=[f"ai/generated/w/{NAME}"])
    assert not [told for told in told_by(failed.value) if VALUE in told]


def test_rescan_of_an_allowed_import_finds_what_the_gate_found(tmp_path):
    for number, case in enumerate(OLD):
        old = OldRepository(tmp_path / f"old{number}")
        OLD[case](old)
        with ArtifactStore(ArtifactStoreConfig(repo_path=old.path)) as store:
            assert import_repository(store, on_secret="allow").commits == 1
            report = store.scan_all()
            assert report.located, case
            assert VALUE not in json.dumps(report.as_dict()) or case in {"branch", "tag"}


def test_export_after_refusals_holds_nothing(tmp_path):
    run_git(tmp_path, "init", "--quiet")
    with ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path, auto_push=False)) as store:
        for broken in BROKEN.values():
            with contextlib.suppress(ArtifactStoreError):
                broken(store)
        store.commit_artifacts("w", "t", CLEAN, correlation_id="c1")
        assert Exporter(store).run().exported == 1
    assert_kept_nowhere(tmp_path)

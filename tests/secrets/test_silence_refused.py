"""A credential in any text that is handed in, refused for whatever reason, is in nothing that the refusal shows."""

# A call reads best as the one line that it is.
# ruff: noqa: E501

import json
import traceback

import pytest

from cas import ArtifactStore, ArtifactStoreConfig
from cas.errors import ArtifactStoreError, InvalidFileError, SecretDetectedError
from cas.events import ArtifactEventHandler, Channels, MemoryBus, encode
from tests.events.runs import passed, write_run

VALUE = "Zq7" + "wLm2" * 6 + "Tk9"
TEXT = f'api_key = "{VALUE}"'
CLEAN = {"ok.py": b"A = 0\n"}


@pytest.fixture
def store(tmp_path):
    with ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path)) as opened:
        opened.commit_artifacts("w", "t", CLEAN, correlation_id="c0")
        yield opened


def writing(store, act):
    with store.open_run("w", "t", "c1") as run:
        act(run)


def write_into(run, text):
    with run.open_file("a.py") as file:
        file.write(text)


# fmt: off
CALLS = {
    "content": lambda store, _: store.commit_artifacts("w", "t", {"a.py": TEXT.encode()}, correlation_id="c1"),
    "metadata": lambda store, _: store.commit_artifacts("w", "t", CLEAN, {"note": TEXT}, correlation_id="c1"),
    "metadata key": lambda store, _: store.commit_artifacts("w", "t", CLEAN, {TEXT: 1}, correlation_id="c1"),
    "metadata that is not JSON": lambda store, _: store.commit_artifacts("w", "t", CLEAN, {"a": TEXT, "b": object()}, correlation_id="c1"),
    "metadata beside a missing file": lambda store, path: store.commit_artifacts("w", "t", [path / "none.py"], {"note": TEXT}, correlation_id="c1"),
    "content beside a missing file": lambda store, path: store.commit_artifacts("w", "t", {"a.py": TEXT.encode(), "b.py": path / "none.py"}, correlation_id="c1"),
    "name of a missing file": lambda store, path: store.commit_artifacts("w", "t", [path / f"api_key={VALUE}.py"], correlation_id="c1"),
    "name that is unsafe": lambda store, _: store.commit_artifacts("w", "t", {f"../api_key={VALUE}": b""}, correlation_id="c1"),
    "workflow": lambda store, _: store.commit_artifacts(TEXT, "t", CLEAN, correlation_id="c1"),
    "task": lambda store, _: store.commit_artifacts("w", TEXT, CLEAN, correlation_id="c1"),
    "correlation id": lambda store, _: store.commit_artifacts("w", "t", CLEAN, correlation_id=TEXT),
    "correlation id with a break": lambda store, _: store.commit_artifacts("w", "t", CLEAN, correlation_id=f"\0{TEXT}\ud800"),
    "prompt hash": lambda store, _: store.commit_artifacts("w", "t", CLEAN, correlation_id="c1", prompt_hash=TEXT),
    "run's id": lambda store, _: store.open_run("w", "t", f"{TEXT}\ud800"),
    "run's bytes": lambda store, _: writing(store, lambda run: run.add_bytes("a.py", TEXT.encode())),
    "run's name": lambda store, _: writing(store, lambda run: (run.add_bytes(f"api_key={VALUE}", b"1"), run.commit())),
    "run's unsafe name": lambda store, _: writing(store, lambda run: run.add_bytes(f"../api_key={VALUE}", b"1")),
    "run's missing file": lambda store, path: writing(store, lambda run: run.add_file(path / f"api_key={VALUE}")),
    "run's open file": lambda store, _: writing(store, lambda run: write_into(run, TEXT.encode())),
    "run's metadata": lambda store, _: writing(store, lambda run: (run.add_bytes("a.py", b"1"), run.commit({"note": TEXT}))),
    "rollback's reason": lambda store, _: store.revert_to_tag("corr_c0", "main", reason=TEXT),
    "rollback's reason of a tag that is not there": lambda store, _: store.revert_to_tag("corr_none", "main", reason=TEXT),
    "rollback's tag": lambda store, _: store.revert_to_tag(TEXT, "main"),
    "rollback's branch": lambda store, _: store.revert_to_tag("corr_c0", f"{TEXT}..lock"),
    "rollback's branch that git accepts": lambda store, _: store.revert_to_tag("corr_c0", f"api_key={VALUE}"),
    "rollback's branch beside a reason that is no text": lambda store, _: store.revert_to_tag("corr_c0", f"api_key={VALUE}", reason="\ud800"),
    "certificate's tag": lambda store, _: store.verify_rollback(TEXT),
    "pin's note": lambda store, _: store.pin("c0", note=TEXT),
    "pin's note that is no text": lambda store, _: store.pin("c0", note=f"{TEXT}\ud800"),
    "pin's run": lambda store, _: store.pin(TEXT),
    "unpinned run": lambda store, _: store.unpin(TEXT),
    "reason of forgetting": lambda store, _: store.forget(["c0"], reason=TEXT),
    "forgotten run": lambda store, _: store.forget([TEXT]),
}
# fmt: on


def told_by(error):
    """Yield all that an error shows, with the locals of the product's own frames, of it and of what it came from."""
    yield from (
        str(error),
        repr(error),
        repr(error.args),
        json.dumps(error.as_dict()),
        "".join(traceback.format_exception(error)),
    )
    chain = [error]
    while chain:
        each = chain.pop()
        yield repr(each)
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if "/cas/" in frame.f_code.co_filename or "/gitexport/" in frame.f_code.co_filename:
                yield f"{frame.f_code.co_qualname}: {dict(frame.f_locals)!r}"
        chain += [other for other in (each.__cause__, each.__context__) if other is not None]


@pytest.mark.parametrize("case", CALLS)
def test_refused_call_shows_nothing_of_a_credential_in(store, tmp_path, case):
    with pytest.raises(ArtifactStoreError) as refused:
        CALLS[case](store, tmp_path)
    assert not [told for told in told_by(refused.value) if VALUE in told]


@pytest.mark.parametrize("case", [case for case in CALLS if "run" not in case])
def test_graceful_result_shows_nothing_of_a_credential_in(tmp_path, case):
    with ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path, raise_errors=False)) as store:
        store.commit_artifacts("w", "t", CLEAN, correlation_id="c0")
        try:
            result = CALLS[case](store, tmp_path)
        except ArtifactStoreError as error:
            result = list(told_by(error))
        assert VALUE not in repr(result)


def test_batch_result_shows_nothing_of_a_credential(store, tmp_path):
    run = {"workflow_id": "w", "task_id": "t", "correlation_id": "c1", "files": CLEAN}
    results = store.commit_many(
        [
            run | {"correlation_id": TEXT},
            run | {"correlation_id": TEXT, "files": [tmp_path / "none.py"]},
            run | {"files": [tmp_path / f"api_key={VALUE}"]},
            run | {"metadata": {"note": TEXT}},
        ]
    )
    assert [result["success"] for result in results] == [False] * 4
    assert VALUE not in repr(results)


def test_ordinary_refusal_still_names_the_file(store, tmp_path):
    with pytest.raises(InvalidFileError, match=r"none\.py.*does not exist"):
        store.commit_artifacts("w", "t", [tmp_path / "none.py"], correlation_id="c1")


def test_missing_file_whose_name_is_a_credential_is_told_as_a_secret(store, tmp_path):
    with pytest.raises(SecretDetectedError) as refused:
        store.commit_artifacts("w", "t", [tmp_path / f"api_key={VALUE}.py"], correlation_id="c1")
    assert refused.value.findings[0].rule == "api-key"


def test_scanner_that_is_off_leaves_errors_as_they_are(tmp_path):
    with (
        ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path, scan_for_secrets=False)) as store,
        pytest.raises(InvalidFileError, match=VALUE),
    ):
        store.commit_artifacts("w", "t", [tmp_path / f"api_key={VALUE}.py"], correlation_id="c1")


@pytest.mark.parametrize("field", ["correlation_id", "workflow_id", "task_id"])
def test_event_of_a_missing_file_repeats_no_id_that_is_a_credential(tmp_path, field):
    (tmp_path / "Backtest" / "codes").mkdir(parents=True)
    (tmp_path / "artifacts").mkdir()
    write_run(tmp_path, "task1")
    event = passed(**{field: TEXT})
    event.data["artifacts"]["trades"] = "artifacts/none.csv"
    bus, published = MemoryBus(), []
    bus.subscribe(Channels.WORKFLOW_EVENTS, published.append)
    with ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path)) as store:
        handler = ArtifactEventHandler(store, bus, pause=lambda _: None)
        handler.start()
        bus.publish(Channels.TEST_RESULTS, event)
    assert [each.event_type for each in published] == ["artifact.rejected"]
    assert not [each for each in published if VALUE in encode(each).decode()]

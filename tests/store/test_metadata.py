"""Metadata and IDs come back as they were given, whatever they are."""

from __future__ import annotations

import enum
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.names.ids import IDS
from tests.store.stores import METADATA, commit, open_store

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
OURS = {"workflow_id", "task_id", "correlation_id", "prompt_hash", "commit_timestamp", "files"}
DOCUMENTS = st.dictionaries(TEXT.filter(lambda key: key not in OURS), JSON, max_size=5)
FIRST_CLASS = st.fixed_dictionaries(
    {},
    optional={
        "agent_version": JSON,
        "llm_version": TEXT,
        "test_metrics": st.dictionaries(TEXT, JSON, max_size=4) | JSON,
    },
)
_COUNTER = iter(range(10**9))


def same(left, right):
    """Equal as JSON values: 1 and 1.0 and True differ."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


@given(metadata=st.builds(lambda a, b: {**a, **b}, DOCUMENTS, FIRST_CLASS))
def test_metadata_comes_back_as_given(shared_store, metadata):
    correlation_id = f"m{next(_COUNTER)}"
    result = commit(shared_store, correlation_id, task_id=correlation_id, metadata=metadata)
    record = shared_store.get_artifact_by_correlation_id(correlation_id)
    assert same(record["metadata"], metadata)
    assert list(record["metadata"]) == list(metadata), "keys keep their order"
    document = json.loads(shared_store.read_file(correlation_id, "metadata.json"))
    for key, value in metadata.items():
        assert same(document[key], value)
        assert key in record
    assert document["files"] == result["files"]
    assert commit(shared_store, correlation_id, task_id=correlation_id, metadata=metadata) == result
    assert shared_store.show(result["commit_sha"])["correlation_id"] == correlation_id


@given(workflow_id=IDS, task_id=IDS, correlation_id=IDS, prompt_hash=st.none() | IDS)
def test_any_text_is_an_id(shared_store, workflow_id, task_id, correlation_id, prompt_hash):
    arguments = {"workflow_id": workflow_id, "task_id": task_id, "prompt_hash": prompt_hash}
    result = commit(shared_store, correlation_id, **arguments)
    record = shared_store.show(result["commit_sha"])
    assert {key: record[key] for key in arguments} == arguments
    found = shared_store.list_artifacts(workflow_id=workflow_id, task_id=task_id, prompt_hash=prompt_hash)
    assert result["commit_sha"] in {run["commit_sha"] for run in found}
    assert shared_store.history(result["branch"])[0]["commit_sha"] == result["commit_sha"]
    newest = shared_store.get_artifact_by_correlation_id(correlation_id)
    assert newest["tags"][0].split("@")[0] == result["tags"][0].split("@")[0]


def test_store_of_any_ids_and_metadata_is_sound(tmp_path):
    with open_store(tmp_path) as store:

        @given(IDS, IDS, IDS, DOCUMENTS)
        def fill(workflow_id, task_id, correlation_id, metadata):
            commit(store, correlation_id, workflow_id=workflow_id, task_id=task_id, metadata=metadata)

        fill()
        report = store.verify()
        assert report.ok, report.faults[:3]
        assert report.manifest_count > 40


class Kind(str, enum.Enum):  # noqa: UP042  StrEnum prints its value anyway; this kind does not
    LONG = "long-only"


def test_metadata_of_other_libraries_is_taken_by_value(store):
    metadata = {
        "total": np.int64(3),
        "pnl": np.float64(2.5),
        "won": np.float64(2.5) > 0,
        "test_metrics": {"lost": np.bool_(False)},
        "kind": Kind.LONG,
        "pair": (1, 2),
        Kind.LONG: True,
    }
    commit(store, metadata=metadata)
    record = store.get_artifact_by_correlation_id("1")
    assert same(
        record["metadata"],
        {
            "total": 3,
            "pnl": 2.5,
            "won": True,
            "test_metrics": {"lost": False},
            "kind": "long-only",
            "pair": [1, 2],
            "long-only": True,
        },
    )
    assert len(store.list_artifacts(where="won = true and lost = false")) == 1


@pytest.mark.parametrize("text", [Kind.LONG, np.str_("long-only")], ids=["enumeration", "numpy"])
def test_text_of_other_libraries_is_taken_by_value(store, text):
    plain = "long-only"
    texts = {"workflow_id": text, "task_id": text, "correlation_id": text, "prompt_hash": text}
    result = commit(store, files={text: b"1"}, **texts)
    assert result["branch"] == "ai/generated/long-only/long-only"
    assert {type(result[key]) for key in texts} == {str}
    assert result["files"] == [plain]
    with store.open_run(text, text, "grown") as run:
        run.add_bytes(text, b"2")
        assert type(run.commit()["files"][0]) is str
    store.pin(text, note=text)
    store.revert_to_tag(result["tags"][0], text, reason=text)
    assert plain in store.history(plain)[0]["reason"]
    assert store.verify().ok, "every id follows from what was stored"
    assert commit(store, files={plain: b"1"}, **dict.fromkeys(texts, plain)) == result


def test_settings_of_other_libraries_are_taken_by_value(tmp_path):
    settings = {
        "branch_prefix": Kind.LONG,
        "commit_author_name": Kind.LONG,
        "commit_author_email": np.str_("a@b"),
    }
    with open_store(tmp_path, **settings) as store:
        assert commit(store)["branch"] == "long-only/wf/task"
        assert store.verify().ok


def test_metadata_file_has_the_replaced_systems_keys_first(store):
    commit(store, metadata={"note": "n", **METADATA}, prompt_hash="7a8b")
    document = json.loads(store.read_file("corr_1", "metadata.json"))
    assert list(document) == [
        *("workflow_id", "task_id", "correlation_id", "prompt_hash", "commit_timestamp"),
        *("agent_version", "llm_version", "test_metrics", "files", "note"),
    ]
    assert document["commit_timestamp"] == "2025-11-07T14:30:01Z"
    assert document["test_metrics"] == METADATA["test_metrics"]


def test_caller_may_change_its_metadata_afterwards(store):
    metadata = {"list": [1]}
    commit(store, metadata=metadata)
    metadata["list"].append(2)
    assert store.show("corr_1")["metadata"] == {"list": [1]}

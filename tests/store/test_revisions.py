"""What a commit answers: the same again, other content, other forms of an ID, tags, parents, and any order."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas import InvalidIdError, catalog, manifest, outbox
from cas.lmdbenv import Table
from tests.store.stores import FILES, METADATA, commit, dump, open_store, row_counts

RESULT_KEYS = {
    *("success", "branch", "commit_sha", "tags", "pushed", "error", "files", "correlation_id"),
    *("revision", "manifest_id", "export_state"),
}


def test_commit_result_has_every_promised_key(store):
    result = commit(store, prompt_hash="7a8b9c0d1e2f3a4b")
    assert set(result) >= RESULT_KEYS
    assert result["success"] is True
    assert result["branch"] == "ai/generated/wf/task"
    assert result["tags"] == ["corr_1", "prompt_7a8b9c0d1e2f"]
    assert (result["pushed"], result["error"], result["export_state"]) == (False, None, "queued")
    assert result["files"] == list(FILES)
    assert (result["correlation_id"], result["revision"]) == ("corr_1", 1)
    assert len(result["commit_sha"]) == 40
    assert len(result["manifest_id"]) == 64


def test_commit_same_call_again_returns_the_same_and_stores_nothing(store):
    first = commit(store, prompt_hash="p")
    before = dump(store)
    transactions = store.commit_queue.transaction_count
    assert commit(store, prompt_hash="p") == first
    assert dump(store) == before
    assert store.commit_queue.transaction_count == transactions


def test_commit_same_content_in_another_form_is_the_same_run(store, tmp_path):
    first = commit(store)
    paths = {}
    for name, data in reversed(FILES.items()):
        (tmp_path / name).write_bytes(data)
        paths[name] = tmp_path / name
    before = dump(store)
    turned = dict(reversed(METADATA.items()))
    assert commit(store, files=paths, metadata=turned) == first
    assert commit(store, files=list(paths.values()))["manifest_id"] == first["manifest_id"]
    assert dump(store) == before


@pytest.mark.parametrize(
    "change",
    [
        {"files": {**FILES, "trades.csv": b"other\n"}},
        {"files": {"strategy.py": FILES["strategy.py"]}},
        {"files": {"renamed.py": FILES["strategy.py"], "trades.csv": FILES["trades.csv"]}},
        {"metadata": {**METADATA, "note": "new"}},
        {"metadata": None},
        {"prompt_hash": "p"},
        {"task_id": "other"},
        {"workflow_id": "other"},
    ],
    ids=repr,
)
def test_commit_other_content_is_the_next_revision(store, change):
    first = commit(store)
    second = commit(store, **change)
    assert second["revision"] == 2
    assert second["tags"][0] == "corr_1@2"
    assert second["commit_sha"] != first["commit_sha"]
    assert store.get_artifact_by_correlation_id("1")["commit_sha"] == second["commit_sha"]
    assert store.get_artifact_by_correlation_id("1", revision=1)["commit_sha"] == first["commit_sha"]
    assert commit(store) == first, "an old delivery that comes again is still the first revision"
    assert commit(store, **change) == second
    assert store.verify().ok


def test_correlation_id_with_and_without_prefix_is_one_id(store):
    first = commit(store, "abc123")
    assert first["tags"] == ["corr_abc123"]
    before = dump(store)
    assert commit(store, "corr_abc123") == first
    assert dump(store) == before
    assert commit(store, "corr_abc123", metadata=None)["tags"] == ["corr_abc123@2"]
    assert commit(store, "corr_corr_abc123")["tags"] == ["corr_corr_abc123"]
    for form in ("abc123", "corr_abc123"):
        assert store.get_artifact_by_correlation_id(form)["revision"] == 2
        assert store.export_status(form)["export_state"] == "queued"


@pytest.mark.parametrize("absent", ["none", "", None, "corr_", "x" * 5000, "corr_1@2"])
def test_get_artifact_unknown_correlation_id_is_none(store, absent):
    commit(store)
    assert store.get_artifact_by_correlation_id(absent) is None


@pytest.mark.parametrize("revision", [0, -1, 2, 2**32, 2**80])
def test_get_artifact_unknown_revision_is_none(store, revision):
    commit(store)
    assert store.get_artifact_by_correlation_id("1", revision=revision) is None


def test_prompt_tag_belongs_to_the_first_run_of_the_prompt(store):
    first = commit(store, "a", prompt_hash="0123456789abcdef")
    second = commit(store, "b", prompt_hash="0123456789abcdef", task_id="t2")
    near = commit(store, "c", prompt_hash="0123456789ab-other", task_id="t3")
    assert first["tags"] == ["corr_a", "prompt_0123456789ab"]
    assert second["tags"] == ["corr_b"]
    assert near["tags"] == ["corr_c"]
    found = store.list_artifacts(prompt_hash="0123456789abcdef")
    assert [run["correlation_id"] for run in found] == ["b", "a"]
    assert store.show("prompt_0123456789ab")["correlation_id"] == "a"


def test_branch_commits_are_a_chain_of_parents(store):
    results = [commit(store, f"c{n}", metadata={"n": n}) for n in range(4)]
    commit(store, "elsewhere", task_id="other")
    history = store.history("ai/generated/wf/task")
    assert [step["commit_sha"] for step in history] == [r["commit_sha"] for r in reversed(results)]
    assert [step["parent"] for step in history] == [*(step["commit_sha"] for step in history[1:]), None]
    assert store.history("ai/generated/wf/other")[0]["parent"] is None


@pytest.mark.parametrize(
    ("other_id", "change"),
    [
        ("other", {}),
        ("1", {"metadata": None, "task_id": "elsewhere"}),
        ("other", {"task_id": "elsewhere", "prompt_hash": "0123456789ab"}),
    ],
    ids=["branch", "revision", "prompt"],
)
def test_commit_that_another_one_overtakes_takes_its_ids_from_what_is_there_then(
    store, monkeypatch, other_id, change
):
    run = store.commit_queue.run
    overtaken = []

    def overtake(*arguments):
        if not overtaken:
            overtaken.append(None)
            overtaken[0] = commit(store, other_id, **change)
        return run(*arguments)

    monkeypatch.setattr(store.commit_queue, "run", overtake)
    late = commit(store, "1", prompt_hash="0123456789ab")
    before = overtaken[0]
    assert late["revision"] == (2 if other_id == "1" else 1)
    assert ("prompt_0123456789ab" in late["tags"]) == ("prompt_hash" not in change)
    parent = store.history(late["branch"])[0]["parent"]
    assert parent == (before["commit_sha"] if before["branch"] == late["branch"] else None)
    assert store.verify().ok


def test_ids_depend_on_nothing_but_the_calls(tmp_path):
    results = []
    for name in ("one", "two"):
        with open_store(tmp_path / name) as store:
            results.append([commit(store, f"c{n}", metadata={"n": n}, prompt_hash="p") for n in range(3)])
    assert results[0] == results[1]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_deliveries_in_any_order_and_doubled_lose_nothing(tmp_path, order):
    with open_store(tmp_path) as store:
        for number in [*order, *order[::-1], *order]:
            commit(store, f"c{number % 2}", metadata={"n": number}, task_id=f"t{number % 2}")
        assert row_counts(store)["MANIFESTS"] == 3
        with store.environment.read() as transaction:
            assert outbox.count_entries(transaction, outbox.Stage.WRITE) == 3
        runs = store.list_artifacts()
        assert {run["metadata"]["n"] for run in runs} == {0, 1, 2}
        assert sorted(run["revision"] for run in runs) == [1, 1, 2]
        assert store.verify().ok


def test_commit_without_required_correlation_id_gets_one_of_its_own(tmp_path):
    with open_store(tmp_path, require_correlation_id=False) as store:
        one, two = commit(store, None), commit(store, None)
        assert one["correlation_id"] != two["correlation_id"]
        assert one["tags"] == [f"corr_{one['correlation_id']}"]
        assert commit(store, one["correlation_id"]) == one
        with pytest.raises(InvalidIdError):
            commit(store, "")


def test_commit_equal_files_are_one_blob(store):
    commit(store, files={"a": b"same", "b": b"same", "c/d": b"same"})
    commit(store, "corr_2", files={"e": b"same"}, task_id="t2")
    assert row_counts(store)["BLOBS"] == 1
    assert row_counts(store)["SEGMENTS"] == 1
    assert store.read_file("corr_1", "c/d") == store.read_file("corr_2", "e") == b"same"


def test_commit_without_metadata_file_has_none(tmp_path):
    with open_store(tmp_path, include_metadata=False) as store:
        commit(store)
        assert store.checkout("corr_1", tmp_path / "out") == list(FILES)


@given(
    runs=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from(["", "corr_"])),
        min_size=1,
        max_size=12,
    )
)
def test_any_series_of_deliveries_gives_each_content_one_revision(shared_store, runs, request):
    # A model of the promise: revisions count the distinct contents of an ID in the order of their first delivery.
    salt = f"{len(dump(shared_store)['MANIFESTS'])}-"
    seen: dict[int, list[int]] = {}
    for who, content, prefix in runs:
        contents = seen.setdefault(who, [])
        if content not in contents:
            contents.append(content)
        result = commit(
            shared_store, f"{prefix}{salt}{who}", task_id=f"{salt}{who}", files={"f": b"%d" % content}
        )
        assert result["revision"] == contents.index(content) + 1
    for who, contents in seen.items():
        newest = shared_store.get_artifact_by_correlation_id(f"{salt}{who}")
        assert newest["revision"] == len(contents)
        assert shared_store.read_file(newest["commit_sha"], "f") == b"%d" % contents[-1]


@pytest.mark.parametrize("tag", ["corr_user@host", "corr_user@2", "corr_user@1", "corr_user@02"])
def test_imported_tag_with_an_at_sign_leads_to_its_run(store, tag):
    commit(store)
    with store.environment.write() as transaction:
        ((sequence, row),) = catalog.iter_rows(transaction)
        row = msgspec.structs.replace(row, tags=((tag, b"\1" * 20),))
        assert catalog.find_tag(transaction, tag) is None
        for key in catalog.catalog_keys(sequence, manifest.decode(row.manifest), row, None, ()):
            transaction.put(Table.CATALOG, key, catalog.sequence_key(sequence))
        assert catalog.find_tag(transaction, tag) == sequence


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("corr_user", ["corr_user", "corr_user@2", "corr_user@10", "corr_user@host"]),
        ("corr_user@", ["corr_user@2", "corr_user@10", "corr_user@host"]),
        ("corr_user@1", ["corr_user@10"]),
        ("corr_user@h", ["corr_user@host"]),
        ("corr_user@10", ["corr_user@10"]),
        ("corr_user@0", []),
        ("corr_user@host", ["corr_user@host"]),
        ("corr_user@host@", []),
        ("corr_u@", []),
    ],
)
def test_tags_by_the_beginning_of_their_name_include_revisions(store, prefix, found):
    rows = [("user", 1), ("user", 2), ("user", 10), ("user@host", 1), ("userland", 1)]
    with store.environment.write() as transaction:
        for number, (base, revision) in enumerate(rows, 1):
            key = b"ccorr_" + base.encode() + b"\0" + revision.to_bytes(4, "big")
            transaction.put(Table.CATALOG, key, catalog.sequence_key(number))
        tags = [name for name, _ in catalog.iter_tags(transaction, prefix)]
    assert [tag for tag in tags if tag != "corr_userland"] == found

"""Lists, predicates, times, and the words by which people point at a run."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas import ArtifactStoreError, InvalidInputError, NotFoundError, QueryError, predicate
from cas.query import moment_us
from tests.store.stores import FIRST_SECOND, commit, open_store

PNLS = [-5.0, -0.0, 0.0, 0, 3, 3.5, 10**400, -(10**400), None, "text", True]
MOMENT = datetime.datetime(2025, 11, 7, 14, 30, tzinfo=datetime.UTC)


def ids(runs):
    return [run["correlation_id"] for run in runs]


@pytest.fixture(scope="module", params=[(), ("pnl",)], ids=["plain", "indexed"])
def filled(request, tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("filled"), indexed_metrics=request.param) as store:
        for number, pnl in enumerate(PNLS):
            metadata = {"test_metrics": {"pnl": pnl, "n": number}, "note": {"kind": f"k{number % 2}"}}
            commit(
                store, f"c{number}", workflow_id=f"w{number % 2}", task_id=f"t{number % 3}", metadata=metadata
            )
        store.revert_to_tag("corr_c0")
        yield store


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ("pnl > 0", [6, 5, 4]),
        ("pnl >= 0", [6, 5, 4, 3, 2, 1]),
        ("pnl = 0", [3, 2, 1]),
        ("pnl < 0", [7, 0]),
        ("pnl <= 0 and pnl >= 0", [3, 2, 1]),
        ("pnl > 3 and pnl < 4", [5]),
        ("pnl != 3 and pnl > 2", [6, 5]),
        ("pnl = null", [8]),
        ("pnl = true", [10]),
        ('pnl = "text"', [9]),
        ("pnl ~ 'EX'", [9]),
        ("not pnl < 1e300", [10, 9, 8, 6]),
        ("n >= 9 or (n < 2 and pnl < 0)", [10, 9, 0]),
        ('note.kind = "k1" and n < 4', [3, 1]),
        ("missing = 1", []),
        ("", [*range(10, -1, -1)]),
    ],
)
def test_where_selects_newest_first(filled, where, numbers):
    assert ids(filled.list_artifacts(where=where)) == [f"c{number}" for number in numbers]


@pytest.mark.parametrize(
    "where",
    [
        *(
            "pnl >",
            "> 3",
            "pnl 3",
            "pnl > > 3",
            "(pnl > 3",
            "pnl > 3)",
            "pnl > 1e999",
            "pnl > abc",
            "and",
            "not",
        ),
        *(
            "pnl > 3 and",
            "pnl = 'open",
            "pnl > 1.2.3",
            "pnl @ 3",
            "(" * 99 + "n > 1" + ")" * 99,
            "__import__('os')",
        ),
        "pnl > " + "9" * 5000,
        7,
    ],
    ids=lambda where: repr(where)[:20],
)
def test_where_that_cannot_be_read_is_refused_with_its_place(filled, where):
    with pytest.raises(QueryError) as caught:
        filled.list_artifacts(where=where)
    assert caught.value.position >= 0


@given(st.text(st.sampled_from("pn and or not()<>=!~\"'\\ .1e9-+\n"), max_size=40))
def test_any_where_is_a_predicate_or_a_query_error(text):
    position = None
    try:
        parsed = predicate.parse(text)
    except QueryError as error:
        position = error.position
    else:
        assert isinstance(parsed.matches({"p": 1, "test_metrics": {"n": 2.5}}), bool)
        predicate.bounds(parsed)
    assert position is None or 0 <= position <= len(text)


@given(
    low=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70),
    sign=st.sampled_from(["<", "<=", "=", ">=", ">"]),
)
def test_index_and_scan_agree_on_any_bound(filled, low, sign):
    where = f"pnl {sign} {low!r}"
    parsed = predicate.parse(where)
    expected = [
        f"c{n}" for n, pnl in enumerate(PNLS) if parsed.matches({"test_metrics": {"pnl": pnl, "n": n}})
    ]
    assert ids(filled.list_artifacts(where=where)) == expected[::-1]


def test_list_filters_by_every_name(filled):
    assert ids(filled.list_artifacts(workflow_id="w1", limit=2)) == ["c9", "c7"]
    assert ids(filled.list_artifacts(task_id="t2")) == ["c8", "c5", "c2"]
    assert ids(filled.list_artifacts("w0", task_id="t2")) == ["c8", "c2"]
    assert ids(filled.list_artifacts(task_id="t2", offset=1, limit=1)) == ["c5"]
    assert filled.list_artifacts(workflow_id="w") == filled.list_artifacts(task_id="absent") == []
    assert filled.list_artifacts(limit=0) == []


def test_list_by_task_finds_runs_of_an_earlier_branch_prefix(tmp_path):
    with open_store(tmp_path) as store:
        commit(store, "old")
    with open_store(tmp_path, branch_prefix="robots") as store:
        commit(store, "new")
        assert ids(store.list_artifacts("wf", task_id="task")) == ["new", "old"]
        assert ids(store.list_artifacts(task_id="task")) == ["new", "old"]


def test_list_ids_that_begin_alike_are_kept_apart(store):
    for number, (workflow, task) in enumerate(
        [("a", "b/c"), ("a/b", "c"), ("a", "b"), ("a%2Fb", "c"), ("ab", "c")]
    ):
        commit(store, f"c{number}", workflow_id=workflow, task_id=task, prompt_hash=workflow)
    assert ids(store.list_artifacts("a")) == ["c2", "c0"]
    assert ids(store.list_artifacts("a/b")) == ["c1"]
    assert ids(store.list_artifacts("a%2Fb", task_id="c")) == ["c3"]
    assert ids(store.list_artifacts(task_id="b")) == ["c2"]
    assert ids(store.list_artifacts(prompt_hash="a")) == ["c2", "c0"]


@pytest.mark.parametrize("number", [-1, True, 1.5, "3", None, 10**9])
@pytest.mark.parametrize("name", ["limit", "offset"])
def test_list_number_out_of_range_is_refused_by_name(filled, name, number):
    with pytest.raises(InvalidInputError) as caught:
        filled.list_artifacts(**{name: number})
    assert caught.value.subject == name


def test_list_by_time_includes_the_first_moment_and_excludes_the_last(store):
    for number in range(4):
        commit(store, f"c{number}")
    times = [store.show(f"corr_c{number}")["created_at_us"] / 1e6 for number in range(4)]
    assert ids(store.list_artifacts(since=times[1], until=times[3])) == ["c2", "c1"]
    assert ids(store.list_artifacts(since=times[3])) == ["c3"]
    assert ids(store.list_artifacts(until=times[0])) == []
    assert ids(store.list_artifacts(since="2025-11-07T14:30:00Z")) == ["c3", "c2", "c1", "c0"]
    assert ids(store.list_artifacts(since="2025-11-07 15:30:00+01:00", workflow_id="wf", limit=1)) == ["c3"]
    assert store.list_artifacts(since=-1e9, until=0) == []


@pytest.mark.parametrize(
    "moment",
    [
        "yesterday",
        "",
        MOMENT.replace(tzinfo=None),
        float("nan"),
        float("inf"),
        -1e300,
        1e300,
        True,
        b"x",
        [],
        10**30,
    ],
    ids=repr,
)
def test_list_moment_that_is_none_is_refused(filled, moment):
    with pytest.raises(InvalidInputError):
        filled.list_artifacts(since=moment)


@given(st.datetimes(datetime.datetime(1971, 1, 1), timezones=st.just(datetime.UTC)))  # noqa: DTZ001  they get one
def test_moment_of_a_datetime_is_exact_to_the_microsecond(moment):
    microsecond = datetime.timedelta(microseconds=1)
    assert datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + moment_us(moment) * microsecond == moment
    assert moment_us(moment.isoformat()) == moment_us(moment)


def test_moment_of_whole_seconds_is_the_clocks(store):
    commit(store)
    assert store.show("latest")["created_at_us"] == moment_us(FIRST_SECOND + 1)


def test_refs_of_every_kind_point_at_their_run(store):
    results = [commit(store, f"id {n}", metadata={"n": n}, prompt_hash="7a8b9c0d1e2f") for n in range(3)]
    rolled = store.revert_to_tag("corr_id%200", "ai/generated/wf/task")
    branch = "ai/generated/wf/task"
    expected = {
        "latest": results[2],
        "latest~2": results[0],
        "corr_id%201": results[1],
        "id 1": results[1],
        "prompt_7a8b9c0d1e2f": results[0],
        results[1]["commit_sha"]: results[1],
        results[1]["commit_sha"][:9]: results[1],
        results[2]["manifest_id"][:12]: results[2],
        branch: rolled,
        f"{branch}~1": results[2],
        "corr_id%202~2": results[0],
    }
    for ref, result in expected.items():
        assert store.show(ref)["commit_sha"] == result["commit_sha"], ref


@pytest.mark.parametrize(
    "ref",
    [
        "latest~9",
        "nothing",
        "corr_1~5",
        "abc",
        "0" * 40,
        "0" * 5000,
        "corr_1@9",
        "corr_1@99999999999",
        "a\0b",
        "corr_1\0",
    ],
    ids=lambda ref: repr(ref)[:20],
)
def test_ref_to_nothing_is_not_found(store, ref):
    commit(store)
    with pytest.raises(NotFoundError):
        store.show(ref)


@pytest.mark.parametrize("ref", ["", None, 7, "\ud800"], ids=ascii)
def test_ref_that_is_no_text_is_refused(store, ref, tmp_path):
    for call in (
        store.show,
        store.list_files,
        store.history,
        lambda ref: store.checkout(ref, tmp_path / "x"),
    ):
        with pytest.raises(InvalidInputError):
            call(ref)


@given(st.text(max_size=30))
def test_any_ref_is_answered_or_refused_by_a_typed_error(filled, ref):
    for call in (filled.show, filled.history, filled.get_artifact_by_correlation_id, filled.export_status):
        try:
            call(ref)
        except ArtifactStoreError:
            continue


def test_lists_of_fewer_than_none_are_empty(store):
    done = commit(store)
    assert store.history(done["branch"], -1) == store.list_forgotten(-1) == []


def test_ambiguous_id_prefix_is_refused(tmp_path):
    with open_store(tmp_path) as store:
        run = {"workflow_id": "wf", "task_id": "t"}
        results = store.commit_many(
            [{**run, "files": {"f": b"%d" % n}, "correlation_id": f"c{n}"} for n in range(1200)]
        )
        starts = [result["commit_sha"][:4] for result in results]
        double = next(start for start in starts if starts.count(start) > 1)
        with pytest.raises(InvalidInputError, match="more than one"):
            store.show(double)


@pytest.mark.parametrize("revision", ["1", 1.0, True])
def test_revision_that_is_no_number_is_refused(store, revision):
    commit(store)
    with pytest.raises(InvalidInputError):
        store.get_artifact_by_correlation_id("1", revision=revision)

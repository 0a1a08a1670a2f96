"""The catalog, one family of keys at a time, against the plain list of runs that were added."""

import itertools
import json

import pytest

from cas import catalog, manifest
from cas.errors import IntegrityError
from cas.lmdbenv import Table
from cas.manifest import ManifestRow
from cas.names import branch_name, correlation_tag, prompt_tag
from cas.objects import object_id
from tests.objects.test_gitform import rollback, run
from tests.store.stores import open_store, undone_transaction

HOUR_US = 3_600_000_000
PROMPTS = ("abcdef0123456789", "fedcba9876543210", None)
WORKFLOWS = ("wf", "wf/other", "w")
TASKS = ("t", "t x")
NET = (3, -2.5, None, 3.0, 10**400, -(10**400), 0.0, -0.0, True, "7", 41, 2)


def made_run(number):
    """The manifest of a run; every field goes round in a period of its own."""
    workflow, task = WORKFLOWS[number % 3], TASKS[number % 2]
    return run(
        branch=branch_name("ai/generated", workflow, task),
        workflow_id=workflow,
        task_id=task,
        correlation_id=f"c{number // 2}",
        revision=number % 2 + 1,
        prompt_hash=PROMPTS[number % 3],
        created_at_us=(number * 7 % 12) * HOUR_US,
        metadata=json.dumps({"test_metrics": {"net": NET[number]}}).encode(),
    )


def row_of(made, tags=()):
    encoded = manifest.encode(made)
    return ManifestRow(encoded, object_id("commit", encoded), bytes(20), tuple(tags))


def content(number):
    return bytes([number]) * 32


@pytest.fixture(scope="module")
def runs():
    """Sequence → manifest; sequences have gaps, as those of collected runs do."""
    return {3 * number + 2: made_run(number) for number in range(12)}


@pytest.fixture(scope="module")
def store(tmp_path_factory, runs):
    with open_store(tmp_path_factory.mktemp("catalog")) as opened:
        with opened.environment.write() as transaction:
            for number, (sequence, made) in enumerate(runs.items()):
                tags = [(correlation_tag(made.correlation_id, made.revision), bytes(20))]
                if number in {0, 1}:
                    tags.append((prompt_tag(made.prompt_hash), bytes(20)))
                catalog.add(transaction, sequence, made, row_of(made, tags), content(number), ("net",))
            catalog.add(
                transaction, 50, rollback(branch="main"), row_of(rollback(branch="main")), None, ("net",)
            )
        yield opened


@pytest.fixture
def transaction(store):
    with undone_transaction(store) as opened:
        yield opened


def walks(runs, wanted):
    """Every walk over some sequences: direction, where to go on, and what is to come."""
    ordered = [sequence for sequence, made in runs.items() if wanted(made)]
    for reverse, after in itertools.product((True, False), (None, 0, *range(60), 2**63)):
        there = ordered[::-1] if reverse else ordered
        yield (
            reverse,
            after,
            [
                sequence
                for sequence in there
                if after is None or (sequence < after if reverse else sequence > after)
            ],
        )


def test_manifests_come_in_sequence_from_anywhere_in_either_direction(transaction, runs):
    both = runs | {50: None}
    for reverse, after, wanted in walks(both, lambda _: True):
        assert list(catalog.iter_sequences(transaction, reverse=reverse, after=after)) == wanted
    assert list(catalog.iter_sequences(transaction)) == sorted(both, reverse=True)
    assert [sequence for sequence, _ in catalog.iter_rows(transaction)] == sorted(both)
    assert [at for at, _ in catalog.iter_rows(transaction, start=9)] == [at for at in both if at >= 9]
    found = list(catalog.iter_rows(transaction, reverse=True))
    assert [manifest.decode(row.manifest) for _, row in found[1:]] == list(runs.values())[::-1]
    assert catalog.sequences_from(transaction, 9, 3) == [11, 14, 17]
    assert catalog.sequences_from(transaction, 51, 3) == []


@pytest.mark.parametrize("workflow", [*WORKFLOWS, "x"])
def test_runs_of_a_workflow_come_in_sequence_and_no_others(transaction, runs, workflow):
    for reverse, after, wanted in walks(runs, lambda made: made.workflow_id == workflow):
        assert list(catalog.workflow_sequences(transaction, workflow, reverse=reverse, after=after)) == wanted
    assert list(catalog.workflow_sequences(transaction, workflow)) == [
        sequence for sequence in sorted(runs, reverse=True) if runs[sequence].workflow_id == workflow
    ]


@pytest.mark.parametrize("task", [*TASKS, "x"])
@pytest.mark.parametrize("workflow", [None, *WORKFLOWS])
def test_runs_of_a_task_come_in_sequence_of_one_workflow_or_of_all(transaction, runs, task, workflow):
    def belongs(made):
        return made.task_id == task and workflow in {None, made.workflow_id}

    for reverse, after, wanted in walks(runs, belongs):
        found = catalog.task_sequences(transaction, task, workflow, reverse=reverse, after=after)
        assert list(found) == wanted
    found = list(catalog.task_sequences(transaction, task, workflow))
    assert found == [sequence for sequence in sorted(runs, reverse=True) if belongs(runs[sequence])]


@pytest.mark.parametrize("prompt", [*PROMPTS[:2], "abcdef"])
def test_runs_of_a_prompt_come_in_sequence(transaction, runs, prompt):
    for reverse, after, wanted in walks(runs, lambda made: made.prompt_hash == prompt):
        assert list(catalog.prompt_sequences(transaction, prompt, reverse=reverse, after=after)) == wanted
    found = list(catalog.prompt_sequences(transaction, prompt))
    assert found == [
        sequence for sequence in sorted(runs, reverse=True) if runs[sequence].prompt_hash == prompt
    ]


BOUNDS = [None, -5, 0, 1, 3 * HOUR_US, 3 * HOUR_US + 1, 11 * HOUR_US, 11 * HOUR_US + 1]


@pytest.mark.parametrize("reverse", [True, False])
def test_runs_of_a_time_range_come_in_the_order_of_their_times(transaction, runs, reverse):
    ordered = sorted((made.created_at_us, sequence) for sequence, made in runs.items())
    if reverse:
        ordered.reverse()
    for since, until in itertools.product(BOUNDS, BOUNDS):
        inside = [
            (at_us, sequence)
            for at_us, sequence in ordered
            if (since is None or at_us >= since) and (until is None or at_us < until)
        ]
        for after in (None, *ordered):
            wanted = [
                sequence
                for at_us, sequence in inside
                if after is None or ((at_us, sequence) < after if reverse else (at_us, sequence) > after)
            ]
            found = catalog.time_sequences(
                transaction, since_us=since, until_us=until, reverse=reverse, after=after
            )
            assert list(found) == wanted
    assert list(catalog.time_sequences(transaction)) == [
        sequence for _, sequence in sorted(ordered, reverse=True)
    ]


def indexed_values(runs):
    """The runs that have a number, in the order of these and of equal ones of the sequences."""
    found = [
        (catalog.sortable(value), sequence, value)
        for (sequence, _), value in zip(runs.items(), NET, strict=True)
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return sorted(found, key=lambda entry: entry[:2])


@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize("low", [None, -3, -2.5, 0, 3])
@pytest.mark.parametrize("high", [None, 3, 2.99, 41, -3])
def test_runs_come_by_an_indexed_metric_from_anywhere_in_either_direction(
    transaction, runs, reverse, low, high
):
    ordered = indexed_values(runs)[:: -1 if reverse else 1]
    inside = [
        (key, sequence)
        for key, sequence, value in ordered
        if (low is None or value >= low) and (high is None or value <= high)
    ]
    for after in (None, *((key, sequence) for key, sequence, _ in ordered)):
        wanted = [
            sequence
            for place, sequence in ((place, place[1]) for place in inside)
            if after is None or (place < after if reverse else place > after)
        ]
        walk = catalog.metric_walk(transaction, "net", low=low, high=high, reverse=reverse, after=after)
        assert list(walk) == wanted
    found = catalog.metric_sequences(transaction, "net", low=low, high=high)
    assert sorted(map(catalog.sequence_of, found)) == sorted(sequence for _, sequence in inside)
    assert all(len(key) == catalog.SEQUENCE_BYTES for key in found)
    assert list(catalog.metric_walk(transaction, "other")) == []


def test_metric_is_walked_from_the_greatest_and_the_newest_unless_told_otherwise(transaction, runs):
    assert list(catalog.metric_walk(transaction, "net")) == [
        sequence for _, sequence, _ in reversed(indexed_values(runs))
    ]


def test_numbers_sort_as_their_bytes_do():
    numbers = [-(10**400), -1e300, -2, -1.5, -5e-324, 0.0, 5e-324, 1, 1.5, 2**53, 1e300, 10**400]
    keys = [catalog.sortable(number) for number in numbers]
    assert keys == sorted(set(keys))
    assert {len(key) for key in keys} == {8}
    assert catalog.sortable(-0.0) == catalog.sortable(0)
    assert catalog.sortable(3) == catalog.sortable(3.0)
    assert catalog.sortable(10**400) == catalog.sortable(float("inf"))
    assert catalog.sortable(-(10**400)) == catalog.sortable(float("-inf"))
    assert catalog.sortable(1.0) == bytes.fromhex("bff0000000000000")
    assert catalog.sortable(-1.0) == bytes.fromhex("400fffffffffffff")


def test_revisions_of_an_id_come_newest_first_and_of_that_id_alone(transaction, runs):
    assert list(catalog.revisions(transaction, "c2")) == [(2, 17), (1, 14)]
    assert catalog.latest_revision(transaction, "c2") == (2, 17)
    assert catalog.latest_revision(transaction, "c") is None
    assert catalog.find_revision(transaction, "c2", 1) == 14
    assert catalog.find_revision(transaction, "c2", 2) == 17
    for revision in (-1, 0, 3, catalog.MAX_REVISION, catalog.MAX_REVISION + 1):
        assert catalog.find_revision(transaction, "c2", revision) is None


def test_greatest_revision_is_found(transaction):
    made = run(correlation_id="far", revision=catalog.MAX_REVISION)
    catalog.add(transaction, 60, made, row_of(made), None, ())
    assert catalog.find_revision(transaction, "far", catalog.MAX_REVISION) == 60
    assert catalog.find_tag(transaction, f"corr_far@{catalog.MAX_REVISION}") == 60
    assert catalog.find_tag(transaction, f"corr_far@{catalog.MAX_REVISION + 1}") is None


def test_content_is_found_within_its_own_id_alone(transaction):
    assert catalog.find_content(transaction, "c2", content(5)) == 17
    assert catalog.find_content(transaction, "c1", content(5)) is None
    assert catalog.find_content(transaction, "c2", content(6)) is None


def test_tags_lead_to_their_runs(transaction):
    assert catalog.find_tag(transaction, "corr_c2") == 14
    assert catalog.find_tag(transaction, "corr_c2@2") == 17
    for tag in (
        "corr_c2@1",
        "corr_c2@02",
        "corr_c2@3",
        "corr_c2@",
        "corr_c2@\u0662",
        "corr_x",
        "@2",
        "prompt_0",
    ):
        assert catalog.find_tag(transaction, tag) is None
    assert catalog.find_tag(transaction, prompt_tag(PROMPTS[0])) == 2
    assert catalog.prompt_tag_owner(transaction, prompt_tag(PROMPTS[1])) == 5
    assert catalog.prompt_tag_owner(transaction, "prompt_000000000000") is None


def test_tags_are_listed_by_prefix_correlation_tags_before_prompt_tags(transaction, runs):
    correlation = [
        (correlation_tag(made.correlation_id, made.revision), sequence) for sequence, made in runs.items()
    ]
    prompts = [(prompt_tag(PROMPTS[0]), 2), (prompt_tag(PROMPTS[1]), 5)]
    assert list(catalog.iter_tags(transaction)) == correlation + prompts
    assert list(catalog.iter_tags(transaction, "corr_c2")) == [("corr_c2", 14), ("corr_c2@2", 17)]
    assert list(catalog.iter_tags(transaction, "prompt_f")) == prompts[1:]
    assert list(catalog.iter_tags(transaction, "x")) == []


def test_tag_of_an_imported_run_leads_to_it_under_each_of_its_names(transaction):
    made = run(correlation_id="old", revision=1)
    tags = [(tag, bytes(20)) for tag in ("corr_old", "corr_other@3", "corr_old@2", "prompt_123456789abc")]
    catalog.add(transaction, 60, made, row_of(made, tags), None, ())
    for tag, _ in tags:
        assert catalog.find_tag(transaction, tag) == 60
    assert catalog.find_tag(transaction, "corr_other") is None
    assert list(catalog.revisions(transaction, "old")) == [(1, 60)]
    assert ("corr_other@3", 60) in list(catalog.iter_tags(transaction, "corr_other"))


def test_branches_have_their_newest_manifest_and_their_history(transaction, runs):
    by_branch = {}
    for sequence, made in runs.items():
        by_branch.setdefault(made.branch, []).append(sequence)
    by_branch["main"] = [50]
    assert list(catalog.iter_branches(transaction)) == [
        (branch, by_branch[branch][-1]) for branch in sorted(by_branch)
    ]
    assert list(catalog.iter_branches(transaction, "mai")) == [("main", 50)]
    for branch, sequences in by_branch.items():
        assert catalog.branch_head(transaction, branch) == sequences[-1]
        assert list(catalog.branch_sequences(transaction, branch)) == sequences[::-1]
        assert list(catalog.branch_sequences(transaction, branch, reverse=False)) == sequences
    assert catalog.branch_head(transaction, "mai") is None
    assert list(catalog.branch_sequences(transaction, "mai")) == []


def test_commit_and_manifest_ids_are_found_by_a_prefix_of_any_length(transaction, runs):
    for sequence, made in runs.items():
        row = row_of(made)
        for oid in (row.commit_oid, manifest.manifest_id(row.manifest)):
            for chars in (11, 12, 2 * len(oid)):
                assert catalog.find_by_oid_prefix(transaction, oid.hex()[:chars]) == [sequence]
            other = "0" if oid.hex()[10] != "0" else "1"
            assert catalog.find_by_oid_prefix(transaction, oid.hex()[:10] + other) == []


def test_ids_that_share_a_prefix_are_told_up_to_a_limit_once_each(transaction):
    key = b"o" + bytes.fromhex("abcdef") + bytes(17)
    for number in range(4):
        transaction.put(Table.CATALOG, key[:-1] + bytes([number]), catalog.sequence_key(7 + number // 2))
    transaction.put(Table.CATALOG, b"o" + bytes.fromhex("abcdee") + bytes(17), catalog.sequence_key(99))
    assert catalog.find_by_oid_prefix(transaction, "abcdef") == [7, 8]
    assert catalog.find_by_oid_prefix(transaction, "abcde") == [99, 7]
    assert catalog.find_by_oid_prefix(transaction, "abcde", limit=3) == [99, 7, 8]
    assert catalog.find_by_oid_prefix(transaction, "abcde", limit=1) == [99]


def test_head_of_a_run_is_read_and_of_a_rollback_there_is_none(transaction, runs):
    head = catalog.get_head(transaction, 2)
    assert (head.workflow_id, head.correlation_id) == ("wf", "c0")
    assert catalog.get_head(transaction, 50) is None
    assert catalog.get_head(transaction, 3) is None
    assert catalog.get_row(transaction, 3) is None
    assert manifest.decode(catalog.get_row(transaction, 2).manifest) == runs[2]


def test_next_sequence_is_above_the_manifests_and_above_the_number_that_was_counted(transaction):
    assert catalog.next_sequence(transaction) == 51
    transaction.put(Table.META, b"sequence", catalog.sequence_key(70))
    assert catalog.next_sequence(transaction) == 71
    transaction.put(Table.META, b"sequence", catalog.sequence_key(20))
    assert catalog.next_sequence(transaction) == 51


def test_first_sequence_of_a_store_is_one(tmp_path):
    with open_store(tmp_path) as empty, empty.environment.read() as transaction:
        assert catalog.next_sequence(transaction) == 1
        assert list(catalog.iter_sequences(transaction)) == []
        assert list(catalog.iter_tags(transaction)) == []


def test_sequence_number_that_is_cut_off_is_damage():
    assert catalog.sequence_of(b"any prefix" + catalog.sequence_key(258)) == 258
    assert catalog.sequence_key(258) == b"\0\0\0\0\0\0\1\2"
    with pytest.raises(IntegrityError, match="has 7 bytes, not 8"):
        catalog.sequence_of(bytes(7))


def test_listing_keys_are_those_by_which_runs_are_listed(runs):
    made = runs[2]
    keys = list(catalog.catalog_keys(2, made, row_of(made), content(0), ("net",)))
    listing = [key for key in keys if catalog.is_listing_key(key)]
    assert [key[:1] for key in listing] == [b"w", b"k", b"d", b"p", b"m"]
    assert {key[:1] for key in keys if key not in listing} == {b"b", b"h", b"o", b"i", b"c"}
    assert {key[:1] for key in catalog.catalog_keys(9, rollback(), row_of(rollback()), None, ("net",))} == {
        b"b", b"h", b"o", b"i",
    }  # fmt: skip


@pytest.mark.parametrize("revision", [1, 2])
def test_own_tag_of_a_run_needs_no_key_beside_that_of_its_revision(revision):
    made = run(correlation_id="c", revision=revision)
    bare, tagged = (
        list(catalog.catalog_keys(2, made, row_of(made, tags), content(0), ()))
        for tags in ((), [(correlation_tag("c", revision), bytes(20))])
    )
    assert tagged == bare
    assert len(set(bare)) == len(bare)

"""Branch, correlation and prompt names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas.errors import InvalidIdError
from cas.names import (
    branch_name,
    canonical_correlation_id,
    correlation_tag,
    escape_id,
    prompt_tag,
    task_directory,
    unescape_id,
)
from tests.names.ids import IDS


def test_branch_name_plain_ids_reads_as_documented() -> None:
    assert (
        branch_name("ai/generated", "wf_rsi_strategy", "task_001") == "ai/generated/wf_rsi_strategy/task_001"
    )


@given(IDS, IDS)
def test_branch_name_any_ids_has_two_components_below_the_prefix(workflow_id: str, task_id: str) -> None:
    name = branch_name("ai/generated", workflow_id, task_id)
    assert name == f"ai/generated/{escape_id(workflow_id)}/{escape_id(task_id)}"
    assert name.count("/") == 3


@pytest.mark.parametrize(
    ("correlation_id", "tag"),
    [
        ("abc123", "corr_abc123"),
        ("corr_abc123", "corr_abc123"),
        ("corr_corr_x", "corr_corr_x"),
        ("corr_", "corr_"),
        ("a/b@2", "corr_a%2Fb%402"),
        ("CORR_x", "corr_CORR_x"),
        ("-x", "corr_-x"),
        ("con", "corr_con"),
    ],
)
def test_correlation_tag_prefixes_once(correlation_id: str, tag: str) -> None:
    assert correlation_tag(correlation_id) == tag
    assert correlation_tag(correlation_id, 1) == tag
    assert correlation_tag(correlation_id, 12) == f"{tag}@12"


@pytest.mark.parametrize("revision", [0, -1])
def test_correlation_tag_revision_below_one_is_refused(revision: int) -> None:
    with pytest.raises(InvalidIdError):
        correlation_tag("x", revision)


@given(st.lists(st.tuples(IDS.map(canonical_correlation_id), st.integers(1, 5)), unique=True, max_size=20))
def test_correlation_tag_different_ids_and_revisions_never_meet(keys: list[tuple[str, int]]) -> None:
    assert len({correlation_tag(each, revision) for each, revision in keys}) == len(keys)


@given(IDS)
def test_canonical_correlation_id_with_or_without_prefix_is_one(text: str) -> None:
    canonical = canonical_correlation_id(text)
    assert canonical == canonical_correlation_id(canonical)
    assert correlation_tag(text) == correlation_tag(canonical)
    assert canonical in {text, f"corr_{text}"}
    if "%-" not in correlation_tag(text):
        assert unescape_id(correlation_tag(text)) == canonical


@pytest.mark.parametrize(
    ("prompt_hash", "tag"),
    [
        ("7a8b9c0d1e2f3a4b", "prompt_7a8b9c0d1e2f"),
        ("short", "prompt_short"),
        ("sha256:0123456789", "prompt_sha256%3A01234"),
        ("12345678901.lock", "prompt_12345678901%2E"),
    ],
)
def test_prompt_tag_takes_twelve_characters(prompt_hash: str, tag: str) -> None:
    assert prompt_tag(prompt_hash) == tag


@given(IDS)
def test_task_directory_is_the_escaped_id(task_id: str) -> None:
    assert task_directory(task_id) == escape_id(task_id)


@pytest.mark.parametrize("make", [canonical_correlation_id, correlation_tag, prompt_tag, task_directory])
@pytest.mark.parametrize("bad", ["", "\udc80", None])
def test_tag_names_unusable_id_is_refused(make: object, bad: object) -> None:
    assert callable(make)
    with pytest.raises(InvalidIdError):
        make(bad)


@pytest.mark.parametrize("revision", [0, -1])
def test_correlation_tag_of_a_revision_below_one_names_what_is_wrong(revision: int) -> None:
    with pytest.raises(InvalidIdError) as caught:
        correlation_tag("c1", revision)
    assert caught.value.subject == "revision"

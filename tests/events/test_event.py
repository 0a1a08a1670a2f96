"""The form of an event."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas.errors import InvalidInputError
from cas.events import EventType, decode, encode
from cas.events.event import MAX_EVENT_BYTES, new_event

FIELDS = {
    "event_id": "evt_0123456789ab",
    "event_type": "test.passed",
    "correlation_id": "c1",
    "workflow_id": "wf",
    "task_id": "t1",
    "timestamp": "2026-01-01T00:00:00Z",
    "data": {"artifacts": {"trades": "trades.csv"}, "metrics": {"net_pnl": 1.5}},
    "source": "tester",
}
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_event_json_has_exactly_the_fields_of_the_contract():
    assert json.loads(encode(decode(json.dumps(FIELDS)))) == FIELDS


def test_event_without_task_has_no_task_field():
    fields = {name: value for name, value in FIELDS.items() if name != "task_id"}
    assert json.loads(encode(decode(json.dumps(fields)))) == fields


@given(
    extra=st.dictionaries(
        st.text().filter(lambda name: name not in {*FIELDS, "extra"}), json_values, max_size=4
    )
)
def test_event_with_foreign_fields_keeps_them(extra):
    event = decode(json.dumps({**FIELDS, **extra}))
    assert event.extra == extra
    assert json.loads(encode(event)) == {**FIELDS, **extra}


def test_event_with_a_foreign_field_named_extra_keeps_it():
    fields = {**FIELDS, "extra": {"a": 1}}
    assert json.loads(encode(decode(json.dumps(fields)))) == fields


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        json.dumps({**FIELDS, "data": "sk_live_value"}).encode(),
        json.dumps({name: FIELDS[name] for name in FIELDS if name != "event_type"}).encode(),
        b" " * (MAX_EVENT_BYTES + 1),
        b"[" * 100_000,
    ],
)
def test_event_that_is_none_is_refused_without_its_content(content):
    with pytest.raises(InvalidInputError) as caught:
        decode(content)
    assert "sk_live" not in str(caught.value)


def test_event_for_the_same_cause_has_the_same_id():
    common = {"correlation_id": "c", "workflow_id": "w", "task_id": "t", "data": {}}
    first = new_event(EventType.ARTIFACT_PUSHED, cause="x", now_us=1, **common)
    again = new_event(EventType.ARTIFACT_PUSHED, cause="x", now_us=2, **common)
    other = new_event(EventType.ARTIFACT_COMMITTED, cause="x", now_us=1, **common)
    assert first.event_id == again.event_id != other.event_id
    assert first.event_id.startswith("evt_")
    assert len(first.event_id) == 16


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not JSON"),
        (b'{"event_id": "\xff"}', "is not JSON"),
        (b"[]", "lacks a field or has one of a wrong type"),
        (json.dumps({**FIELDS, "data": "text"}).encode(), "lacks a field or has one of a wrong type"),
        (b'{"event_id": "evt_0123456789ab"}', "lacks a field or has one of a wrong type"),
    ],
)
def test_event_that_is_none_is_told_why(content, words):
    with pytest.raises(InvalidInputError, match=words):
        decode(content)

"""The form of an event: its fields, its JSON, and the events that the store publishes.

Invariant: an event that is decoded and encoded again holds every field it came with, known here or not, and an event
made here for the same cause has the same id, so that a repetition can be told from something new.
"""

from __future__ import annotations

import datetime
import enum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cas.digest import digest_bytes
from cas.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE: Final = "artifact_store"
MAX_EVENT_BYTES: Final = 1024 * 1024  # events name files, they do not carry them
_ID_HEX_CHARS: Final = 12


class EventType(enum.StrEnum):
    """The types of events that this package knows; others are passed by."""

    TEST_PASSED = "test.passed"
    TEST_FAILED = "test.failed"
    ARTIFACT_COMMITTED = "artifact.committed"
    ARTIFACT_REJECTED = "artifact.rejected"
    ARTIFACT_FAILED = "artifact.failed"
    ARTIFACT_PUSHED = "artifact.pushed"


class Channels(enum.StrEnum):
    """The channels of the orchestrator's bus that this package uses."""

    TEST_RESULTS = "test.results"
    WORKFLOW_EVENTS = "workflow.events"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event.

    Attributes:
        event_id: ``evt_`` and 12 hexadecimal characters.
        event_type: Such as ``test.passed``; see `EventType`.
        correlation_id: What joins the events of one run.
        workflow_id: The workflow.
        timestamp: When it was made, ISO 8601 in UTC.
        data: What it says.
        source: Who made it.
        task_id: The task; None when the event is about a whole workflow.
        extra: Fields of others that have no meaning here; kept as they are.
    """

    event_id: str
    event_type: str
    correlation_id: str
    workflow_id: str
    timestamp: str
    data: dict[str, Any] = {}
    source: str = ""
    task_id: str | None = None
    extra: dict[str, Any] = {}


_KNOWN: Final = frozenset(Event.__struct_fields__) - {"extra"}


def encode(event: Event) -> bytes:
    """Return the JSON of an event, UTF-8."""
    fields: dict[str, Any] = dict(event.extra)
    fields |= {name: getattr(event, name) for name in Event.__struct_fields__ if name in _KNOWN}
    if event.task_id is None:
        del fields["task_id"]
    return msgspec.json.encode(fields)


def decode(content: bytes | str) -> Event:
    """Return the event of a JSON text.

    Raises:
        InvalidInputError: It is no event, or larger than 1 MiB; nothing of its content is in the text.
    """
    if len(content) > MAX_EVENT_BYTES:
        raise InvalidInputError(f"an event of {len(content)} bytes is larger than {MAX_EVENT_BYTES}")
    try:
        fields = msgspec.json.decode(content, type=dict[str, Any])
        extra = {name: value for name, value in fields.items() if name not in _KNOWN}
        known = {name: value for name, value in fields.items() if name in _KNOWN}
        return msgspec.convert({**known, "extra": extra}, Event)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        # Of msgspec's errors the one about a field is a kind of the one about the text.
        what = (
            "lacks a field or has one of a wrong type"
            if isinstance(error, msgspec.ValidationError)
            else "is not JSON"
        )
        raise InvalidInputError(f"a message is no event: it {what}") from None


def new_event(
    event_type: EventType,
    *,
    cause: str,
    correlation_id: str,
    workflow_id: str,
    task_id: str | None,
    data: Mapping[str, object],
    now_us: int,
) -> Event:
    """Return an event of this store.

    Args:
        event_type: Its type.
        cause: What it follows from; the same type and cause give the same id.
        correlation_id: Of the run.
        workflow_id: Of the run.
        task_id: Of the run.
        data: What it says; JSON.
        now_us: Microseconds since the epoch.
    """
    digest = digest_bytes(f"{event_type.value}\0{cause}".encode(errors="surrogatepass"))
    moment = datetime.datetime.fromtimestamp(now_us / 1_000_000, datetime.UTC)
    return Event(
        event_id=f"evt_{digest.hex()[:_ID_HEX_CHARS]}",
        event_type=event_type.value,
        correlation_id=correlation_id,
        workflow_id=workflow_id,
        timestamp=moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        data=dict(data),
        source=SOURCE,
        task_id=task_id,
    )

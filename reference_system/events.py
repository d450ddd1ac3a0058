"""Events: records that cross Kafka, encoded and decoded in one place.

A record is declared once, as a frozen msgspec Struct; its JSON Schema is generated from it and committed under
`docs/schemas/`. Decoding is strict: unknown and missing fields, numbers in strings, NaN, infinities, unbounded ids,
times without a zone and times more than five minutes in the future are refused.

In: bytes. Out: records, or `EventRejected` with a reason class and a message.
Invariant: `decode(topic, encode(event), now=now) == event`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from reference_system.errors import EventRejected

MAX_EVENT_BYTES = 64 * 1024
# A producer's clock may run ahead of ours by this much; further ahead is a wrong clock, not an event.
FUTURE_TOLERANCE = timedelta(minutes=5)
# Nothing in this system happened before; a time from 1970 is a unit error.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)

# The look-ahead is the end of the string in Python and in JSON Schema alike: `$` would let a newline pass.
Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*(?![\s\S])")]
Moment = Annotated[datetime, Meta(tz=True)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every event has: the version of its schema and the moment it happened."""

    schema_version: Literal[1]
    event_timestamp: Moment


class PredictionLogged(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer that a model gave, with everything needed to judge it later.

    `event_timestamp` is the moment that was asked about, `created_timestamp` the moment of evaluation, both on the
    event clock. `items` are the ids that were recommended (empty for fraud); `scores` has one value, or one for each
    item, or none where a degraded answer came from a rule; `features` is the model's input, row after row, in the
    order of the model's signature.
    """

    created_timestamp: Moment
    prediction_id: Id
    use_case: Literal["fraud", "recommendation"]
    request_id: Id
    entity_id: Id
    model_version: Annotated[str, Meta(min_length=1, max_length=64)]
    items: Annotated[list[Id], Meta(max_length=100)]
    scores: Annotated[list[float], Meta(max_length=100)]
    decision: Annotated[str, Meta(max_length=32)]
    reasons: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=10)]
    features: Annotated[list[float], Meta(max_length=5_000)]
    feature_age_seconds: Annotated[float, Meta(ge=0.0)] | None
    degraded: bool
    latency_ms: Annotated[float, Meta(ge=0.0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A Kafka topic: what it carries, what keys its partitions and what identifies an event."""

    name: str
    record: type[Event]
    key: str
    event_id: str

    @property
    def dead_letter(self) -> str:
        """The topic for bytes that are not such an event."""
        return f"{self.name}.dead-letter"

    def key_of(self, event: Event) -> str:
        """The partition key of an event."""
        return str(getattr(event, self.key))

    def id_of(self, event: Event) -> str:
        """The id of an event: two events with one id are the same event."""
        return str(getattr(event, self.event_id))


PREDICTIONS = Topic(name="predictions", record=PredictionLogged, key="entity_id", event_id="prediction_id")

_encoder = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    """The event as JSON bytes."""
    return _encoder.encode(event)


def decode(topic: Topic, data: bytes | None, *, now: datetime) -> Event:
    """The event that the bytes hold.

    Args:
        topic: what the bytes claim to be.
        data: a Kafka value; `None` is a tombstone.
        now: the event clock's time, against which a time is "in the future".

    Raises:
        EventRejected: with the reason; the caller sends the untouched bytes to the dead-letter topic.
    """
    if data is None:
        raise EventRejected(f"{topic.name}: a tombstone is no event")
    if len(data) > MAX_EVENT_BYTES:
        raise EventRejected(f"{topic.name}: {len(data)} bytes, at most {MAX_EVENT_BYTES} are allowed")
    try:
        event = msgspec.json.decode(data, type=topic.record)
    # RecursionError is what deep nesting raises: it is no ValueError.
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EventRejected(f"{topic.name}: {error}") from error
    for name in ("event_timestamp", "created_timestamp"):
        moment = getattr(event, name, None)
        if moment is None:
            continue
        if moment > now + FUTURE_TOLERANCE:
            raise EventRejected(f"{topic.name}: {name} {moment.isoformat()} lies in the future of {now.isoformat()}")
        if moment < EARLIEST:
            raise EventRejected(f"{topic.name}: {name} {moment.isoformat()} lies before {EARLIEST.isoformat()}")
    return event


def json_schema(topic: Topic) -> dict[str, Any]:
    """The JSON Schema of a topic's record, generated from its declaration."""
    schema = msgspec.json.schema(topic.record)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"{topic.name} v1", **schema}

"""Events: records that cross Kafka, encoded and decoded in one place.

A record is declared once, as a frozen msgspec Struct; its JSON Schema is generated from it and committed under
`docs/schemas/`. Decoding is strict: unknown and missing fields, numbers in strings, NaN, infinities, unbounded ids,
times without a zone, times more than five minutes in the future, a key that stands twice and NUL are refused.

In: bytes. Out: records, or `EventRejected` with a reason class and a message.
Invariant: `decode(topic, encode(event), now=now) == event` for every event that decoding accepts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta

from reference_system.errors import EventRejected
from reference_system.event_shapes import (
    AN_ID,
    ID_PATTERN,
    Id,
    are_plain_ids,
    is_id,
    pairs_of,
    repeated_key,
    shape_of,
    without_indentation,
)
from reference_system.use_case import UseCase

MAX_EVENT_BYTES = 64 * 1024
# Where ingestion sends rows to the task that owns their entity (`features/stream/forwarding.py`); no topic of events.
REPARTITION_TOPIC = "repartition"
# A producer's clock may run ahead of ours by this much; further ahead is a wrong clock, not an event.
FUTURE_TOLERANCE = timedelta(minutes=5)
# Public data that people bring begins in the 1990s; a time from 1970 is a unit error.
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)

Moment = Annotated[datetime, Meta(tz=True)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
# Microseconds since the epoch, within what a datetime can say.
MomentMicros = Annotated[int, Meta(ge=0, le=253_402_300_799_999_999)]
# A topic and a partition.
PartitionKey = tuple[str, int]


class Refusal(StrEnum):
    """What is wrong with refused bytes, in one word: the `error_class` of a dead letter."""

    TOMBSTONE = "tombstone"
    OVERSIZED = "oversized"
    NOT_JSON = "not-json"
    WRONG_SCHEMA = "wrong-schema"
    UNKNOWN_VERSION = "unknown-version"
    REPEATED_KEY = "repeated-key"
    HOSTILE_TEXT = "hostile-text"
    WRONG_TIME = "wrong-time"
    WRONG_KEY = "wrong-key"


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

    What the features were made of: `entity_keys` are the keys whose windows were evaluated (the customer and the
    terminal; the viewer and the video of each item), `state_micros` says for each of them how new its state was (the
    moment at which the newest event in it became known, microseconds; null if there was no state), and
    `catalogue_timestamp` is when the videos' states were read (null for fraud, and where a rule answered).
    """

    created_timestamp: Moment
    prediction_id: Id
    use_case: UseCase
    request_id: Id
    entity_id: Id
    model_version: Annotated[str, Meta(min_length=1, max_length=64)]
    items: Annotated[list[Id], Meta(max_length=100)]
    scores: Annotated[list[float], Meta(max_length=100)]
    decision: Annotated[str, Meta(max_length=32)]
    reasons: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=10)]
    features: Annotated[list[float], Meta(max_length=5_000)]
    entity_keys: Annotated[list[Id], Meta(max_length=101)]
    state_micros: Annotated[list[MomentMicros | None], Meta(max_length=101)]
    catalogue_timestamp: Moment | None
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

    @property
    def known_field(self) -> str:
        """The field that says when an event could be known: for what is told of an earlier moment, that is later."""
        return "created_timestamp" if "created_timestamp" in self.record.__struct_fields__ else "event_timestamp"

    def key_of(self, event: Event) -> str:
        """The partition key of an event."""
        return str(getattr(event, self.key))

    def id_of(self, event: Event) -> str:
        """The id of an event: two events with one id are the same event."""
        return str(getattr(event, self.event_id))


PREDICTIONS = Topic(name="predictions", record=PredictionLogged, key="entity_id", event_id="prediction_id")
# What the version beside the champion (or, where that one answered, the champion) would have answered: the same
# `prediction_id`, another `model_version`, and nobody was shown it.
SHADOWS = Topic(name="shadow-predictions", record=PredictionLogged, key="entity_id", event_id="prediction_id")

_encoder = msgspec.json.Encoder()
_QUOTE, _ESCAPE = b'"\\'
# A field of time whose fraction has more than six digits.
_FINER_TIME = re.compile(rb'(_timestamp"\s*:\s*"[0-9Tt: -]{19}\.[0-9]{6})[0-9]+')


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
    return decoder(topic)(data, now + FUTURE_TOLERANCE)


@cache
def decoder(topic: Topic) -> Callable[[bytes | None, datetime], Event]:
    """A topic's `decode` for many events: (value, the latest time that is not in the future) → event."""
    read = msgspec.json.Decoder(topic.record).decode
    shape = shape_of(topic.record)
    ids, quotes = shape.joined_ids(), shape.quotes()
    has_created = "created_timestamp" in topic.record.__struct_fields__
    created = attrgetter("created_timestamp")

    def decode_value(data: bytes | None, latest: datetime) -> Event:
        if data is None:
            raise EventRejected(f"{topic.name}: a tombstone is no event", kind=Refusal.TOMBSTONE)
        if len(data) > MAX_EVENT_BYTES:
            fact = f"{topic.name}: {len(data)} bytes, at most {MAX_EVENT_BYTES} are allowed"
            raise EventRejected(fact, kind=Refusal.OVERSIZED)
        try:
            event = read(whole_microseconds(data))
        # RecursionError is what deep nesting raises: it is no ValueError.
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise EventRejected(f"{topic.name}: {error}", kind=_kind_of(error)) from error
        if _ESCAPE in data or data.count(_QUOTE) != quotes(event):
            _refuse_odd_text(topic, data, event)
        if not are_plain_ids(ids(event)):
            _refuse_ids(topic, event)
        if not EARLIEST <= event.event_timestamp <= latest:
            _refuse_time(topic, "event_timestamp", event.event_timestamp, latest)
        if has_created and not EARLIEST <= created(event) <= latest:
            _refuse_time(topic, "created_timestamp", created(event), latest)
        return event

    return decode_value


def whole_microseconds(data: bytes) -> bytes:
    """The JSON with its fields of time cut to the microsecond, as every reader of times here cuts them.

    The decoder by itself rounds: the last moment of a day would become the next day.
    """
    return _FINER_TIME.sub(rb"\1", data) if _FINER_TIME.search(data) else data


def _kind_of(error: Exception) -> Refusal:
    if isinstance(error, msgspec.ValidationError):
        return Refusal.UNKNOWN_VERSION if str(error).endswith("`$.schema_version`") else Refusal.WRONG_SCHEMA
    return Refusal.NOT_JSON


def _refuse_odd_text(topic: Topic, data: bytes, event: Event) -> None:
    """Refuse repeated keys and NUL: the second, slower parse, for bytes that have escapes or too many texts."""
    pairs = pairs_of(data)
    repeated = repeated_key(pairs)
    if repeated is not None:
        fact = f"{topic.name}: the key `{repeated}` stands more than once"
        raise EventRejected(fact, kind=Refusal.REPEATED_KEY)
    for name, value in pairs:
        if "\x00" in value if isinstance(value, str) else isinstance(value, list) and _has_nul(value):
            raise EventRejected(f"{topic.name}: `{name}` has a NUL in it", kind=Refusal.HOSTILE_TEXT)
    _refuse_ids(topic, event)


def _has_nul(values: Sequence[object]) -> bool:
    return any(isinstance(value, str) and "\x00" in value for value in values)


def _refuse_ids(topic: Topic, event: Event) -> None:
    """Refuse an event with an id that is none, naming the field."""
    shape = shape_of(topic.record)
    single = [(name, getattr(event, name)) for name in shape.ids]
    in_lists = [(f"{name}[...]", value) for name in shape.id_lists for value in getattr(event, name)]
    for name, value in (*single, *in_lists):
        if not is_id(value):
            fact = f"{topic.name}: {value!r} is no id, which is {AN_ID} - at `$.{name}`"
            raise EventRejected(fact, kind=Refusal.WRONG_SCHEMA)


def _refuse_time(topic: Topic, name: str, moment: datetime, latest: datetime) -> NoReturn:
    bound = f"before {EARLIEST.isoformat()}"
    if moment > latest:
        bound = f"in the future of {(latest - FUTURE_TOLERANCE).isoformat()}"
    raise EventRejected(f"{topic.name}: {name} {moment.isoformat()} lies {bound}", kind=Refusal.WRONG_TIME)


def json_schema(topic: Topic) -> dict[str, Any]:
    """The JSON Schema of a topic's record, generated from its declaration."""
    schema = msgspec.json.schema(topic.record)
    schema["$defs"] = without_indentation(schema["$defs"])
    fields = schema["$defs"][topic.record.__name__]["properties"]
    for name in (*shape_of(topic.record).ids, *shape_of(topic.record).id_lists):
        fields[name].get("items", fields[name])["pattern"] = ID_PATTERN
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"{topic.name} v1", **schema}

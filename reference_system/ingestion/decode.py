"""The boundary: bytes from Kafka become events here or nowhere.

In: a batch of records and the event clock's time. Out: for each record its event, or the reason why it has none.
Invariant: a record is never dropped and never changed; what is refused keeps its bytes for the dead-letter topic.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from reference_system.errors import EventRejected
from reference_system.events import Event, Topic, decode, encode

Headers = tuple[tuple[str, bytes | None], ...]


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What Kafka stores for one message; `produced_ms` is the producer's wall time."""

    topic: str
    partition: int
    offset: int
    produced_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Decoded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record with its event, or with the reason why it has none."""

    record: Record
    event: Event | None
    reason: str


def decode_records(records: Iterable[Record], topics: Mapping[str, Topic], *, now: datetime) -> list[Decoded]:
    """Decode a batch, in order.

    Args:
        records: what a poll returned.
        topics: the consumed topics by name.
        now: the event clock's time, read after the poll: an event cannot be from after its own arrival.
    """
    return [_decode_record(record, topics[record.topic], now) for record in records]


def _decode_record(record: Record, topic: Topic, now: datetime) -> Decoded:
    try:
        event = decode(topic, record.value, now=now)
        refuse_repeated_keys(topic, record.value or b"", event)
    except EventRejected as error:
        return Decoded(record=record, event=None, reason=str(error))
    return Decoded(record=record, event=event, reason="")


def refuse_repeated_keys(topic: Topic, data: bytes, event: Event) -> None:
    """Refuse an object in which a key stands twice: readers disagree about which value counts.

    The decoder keeps the last value silently. Every record is one flat object, so without escapes the number of
    quotation marks tells how many keys and strings there are: a repeated key has more than the event written anew.
    Only bytes with an escape need a second, slower parse.

    Raises:
        EventRejected: naming the key.
    """
    if b"\\" not in data and data.count(b'"') == encode(event).count(b'"'):
        return
    json.loads(data, object_pairs_hook=lambda pairs: _refuse_repeated(topic, [name for name, _ in pairs]))


def _refuse_repeated(topic: Topic, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise EventRejected(f"{topic.name}: the key `{name}` stands more than once")

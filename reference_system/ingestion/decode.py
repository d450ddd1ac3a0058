"""The boundary: bytes from Kafka become events here or nowhere.

In: a batch of records and the event clock's time. Out: for each record its event, or the reason why it has none.
Invariant: a record is never dropped and never changed; what is refused keeps its bytes for the dead-letter topic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from operator import attrgetter

import msgspec

from reference_system.errors import EventRejected
from reference_system.events import FUTURE_TOLERANCE, Event, Refusal, Topic, decoder

Headers = tuple[tuple[str, bytes | None], ...]


class KafkaRecord(msgspec.Struct, frozen=True, gc=False):
    """What Kafka stores for one message; `produced_ms` is the producer's wall time."""

    topic: str
    partition: int
    offset: int
    produced_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """A record with its event, or with the reason why it has none, in a sentence and in one word."""

    record: KafkaRecord
    event: Event | None
    reason: str = ""
    error_class: str = ""


def decode_records(records: Iterable[KafkaRecord], topics: Mapping[str, Topic], *, now: datetime) -> list[Decoded]:
    """Decode a batch, in order.

    A record's key must be what its topic is keyed by: whoever owns a partition owns the entities whose keys lead
    there, so an event under another key would be counted where nobody looks for it.

    Args:
        records: what a poll returned.
        topics: the consumed topics by name.
        now: the event clock's time, read after the poll: an event cannot be from after its own arrival.
    """
    latest = now + FUTURE_TOLERANCE
    readers = {}
    decoded = []
    for record in records:
        if record.topic not in readers:
            topic = topics[record.topic]
            readers[record.topic] = (topic, decoder(topic), attrgetter(topic.key))
        topic, read, key_of = readers[record.topic]
        try:
            event = read(record.value, latest)
        except EventRejected as error:
            decoded.append(Decoded(record, None, str(error), error.kind))
            continue
        if key_of(event).encode() == record.key:
            decoded.append(Decoded(record, event))
        else:
            fact = f"{topic.name}: the record's key is not the event's {topic.key}"
            decoded.append(Decoded(record, None, fact, Refusal.WRONG_KEY))
    return decoded

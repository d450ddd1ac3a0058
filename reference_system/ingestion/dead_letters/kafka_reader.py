"""What lies on the dead-letter topics, and how it is sent again.

In: the broker. Out: each refused record once, with the reason, whether it was sent again and where to.
Invariant: a dead letter is named by its origin (topic, partition, offset), so one that a crash sent twice is one.
Nothing is ever removed: a replay adds a mark, which is a record without a value and with the header `replayed_as`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from kafka.consumer.fetcher import ConsumerRecord

from reference_system.errors import StateError
from reference_system.events import PartitionKey, Topic
from reference_system.ingestion.kafka_log import TopicLog

REPLAYED_AS = "replayed_as"


class Origin(msgspec.Struct, frozen=True, order=True):
    """Where a record stood when it was refused; written `topic/partition/offset`."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """The id that people type."""
        return f"{self.topic}/{self.partition}/{self.offset}"


def origin_named(text: str) -> Origin:
    """The inverse of `str`.

    Raises:
        StateError: if the text is no such id.
    """
    topic, *place = text.rsplit("/", 2)
    if not topic or len(place) != 2 or not all(part.isascii() and part.isdigit() for part in place):  # noqa: PLR2004 - partition and offset
        raise StateError(
            f"{text!r} is no dead letter's id, which looks like transactions/0/17",
            next_command="workbook dead-letter list",
        )
    return Origin(topic, *map(int, place))


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A refused record: its untouched bytes, and what its headers say."""

    origin: Origin
    error_class: str
    error: str
    schema_version: str
    attempt: int
    sent_ms: int  # when ingestion refused it, milliseconds of the machine's clock
    key: bytes | None
    value: bytes | None


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """The mark that a dead letter was sent again, and as what."""

    origin: Origin
    replayed_as: Origin


def read_shelf(log: TopicLog, topic: Topic) -> Iterator[DeadLetter | Replay]:
    """Everything on a topic's dead-letter topic, in the order of its partitions; an origin's first letter only.

    What others put there, without the headers of a dead letter, is passed over.
    """
    met: set[Origin] = set()
    for batch in log.read(topic.dead_letter, log.extent(topic.dead_letter)):
        for record in batch:
            found = shelved(record)
            if found is None or found.origin.topic != topic.name:
                continue
            if isinstance(found, DeadLetter):
                if found.origin in met:
                    continue
                met.add(found.origin)
            yield found


def shelved(record: ConsumerRecord) -> DeadLetter | Replay | None:
    """What a record of a dead-letter topic is; `None` for what ingestion did not put there."""
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    place = [headers.get(name, "") for name in ("partition", "offset")]
    if "topic" not in headers or not all(part.isascii() and part.isdigit() for part in place):
        return None
    origin = Origin(headers["topic"], int(place[0]), int(place[1]))
    if REPLAYED_AS in headers:
        return Replay(origin=origin, replayed_as=origin_named(headers[REPLAYED_AS]))
    attempt = headers.get("attempt", "")
    return DeadLetter(
        origin=origin,
        error_class=headers.get("error_class", ""),
        error=headers.get("error", ""),
        schema_version=headers.get("schema_version", ""),
        attempt=int(attempt) if attempt.isascii() and attempt.isdigit() else 1,
        sent_ms=record.timestamp,
        key=record.key,
        value=record.value,
    )


def count_dead_letters(bootstrap: str, topics: Sequence[Topic], below: Mapping[PartitionKey, int]) -> dict[str, int]:
    """How many records of each topic, with offsets under `below`, are dead letters: each counted once.

    Raises:
        ServiceError: if the broker does not answer.
    """
    with TopicLog(bootstrap) as log:
        return {
            topic.name: sum(
                isinstance(found, DeadLetter)
                and found.origin.offset < below.get((topic.name, found.origin.partition), 0)
                for found in read_shelf(log, topic)
            )
            for topic in topics
        }

"""Reads raw topics as Arrow, without decoding the records.

In: a topic and offset ranges. Out: batches of `(part, off, key, value)`; those of dead letters have the origin from
their headers.
Invariant: bytes are unchanged; one batch in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from kafka.consumer.fetcher import ConsumerRecord

from reference_system.events import Topic
from reference_system.ingestion.dead_letters.kafka_reader import DeadLetter, shelved
from reference_system.ingestion.kafka_log import Extent, TopicLog

_SCHEMA = pa.schema(
    [("part", pa.int32()), ("off", pa.int64()), ("key", pa.large_binary()), ("value", pa.large_binary())]
)


def raw_records(log: TopicLog, topic: Topic, ranges: Extent) -> Iterator[pa.RecordBatch]:
    """The records of a topic in these ranges of offsets."""
    for batch in log.read(topic.name, ranges):
        columns = zip(*((each.partition, each.offset, each.key, each.value) for each in batch), strict=True)
        yield _batch(list(columns))


def dead_letters(log: TopicLog, topic: Topic) -> Iterator[pa.RecordBatch]:
    """Every dead letter of a topic, including copies, with the partition and offset of its origin."""
    for batch in log.read(topic.dead_letter, log.extent(topic.dead_letter)):
        found = [letter for letter in map(_letter, batch) if letter is not None and letter.origin.topic == topic.name]
        if found:
            rows = ((each.origin.partition, each.origin.offset, each.key, each.value) for each in found)
            yield _batch(list(zip(*rows, strict=True)))


def _letter(record: ConsumerRecord) -> DeadLetter | None:
    found = shelved(record)
    return found if isinstance(found, DeadLetter) else None


def _batch(columns: list[tuple[object, ...]]) -> pa.RecordBatch:
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)

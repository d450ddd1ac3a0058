"""A minimal consumer (poll, decode, discard), the baseline for ingestion's speed.

In: a topic of the broker. Out: the CPU seconds for reading a number of its events.
Invariant: the same client with the same options as `ingestion/kafka_consumer.py`, and the fastest decoder for the
record, without any check that the bytes are an event.
"""

from __future__ import annotations

from time import process_time
from typing import Self

import msgspec
from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from reference_system.events import Topic

_POLL_MS = 200
_BATCH = 2_000


class BareLoop:
    """A consumer of one topic from its beginning; a context manager."""

    def __init__(self, bootstrap: str, topic: Topic, partitions: int) -> None:
        """Connect."""
        self._decoder = msgspec.json.Decoder(topic.record)
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            client_id="workbook-bare-loop",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            allow_auto_create_topics=False,
            max_poll_records=_BATCH,
            fetch_min_bytes=1,
            metrics_enabled=False,
        )
        places = [TopicPartition(topic.name, partition) for partition in range(partitions)]
        self._consumer.assign(places)
        self._consumer.seek_to_beginning(*places)

    def __enter__(self) -> Self:
        """The loop itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Disconnect."""
        self._consumer.close()

    def read(self, count: int) -> float:
        """Poll and decode the next `count` events; returns the CPU seconds."""
        decode = self._decoder.decode
        began = process_time()
        while count > 0:
            for records in self._consumer.poll(timeout_ms=_POLL_MS).values():
                for record in records:
                    decode(record.value)
                count -= len(records)
        return process_time() - began

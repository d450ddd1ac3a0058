"""Reading what a topic holds, from its first record to its last: for looking into it, never for consuming.

In: the broker and the names of topics. Out: their records, batch by batch, in the order of each partition.
Invariant: nothing is committed anywhere and no group is joined, so a consumer beside it notices nothing; what is
produced after the call is not read.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Self

from kafka import KafkaConsumer
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from reference_system.errors import ServiceError

_CONNECT_SECONDS = 1.0
_POLL_MS = 200
_BATCH = 4_000
# A broker that holds records and hands none out for so many polls does not work.
_SILENT_POLLS = 100

# For each partition its first offset and the offset behind its last.
Extent = Mapping[int, tuple[int, int]]


class TopicLog:
    """A reader of topics; use it as a context manager."""

    def __init__(self, bootstrap: str) -> None:
        """Connect.

        Raises:
            ServiceError: if the broker does not answer.
        """
        host, _, port = bootstrap.rpartition(":")
        try:
            # A client that nothing answers backs off for many seconds.
            socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
            self._consumer = KafkaConsumer(
                bootstrap_servers=bootstrap,
                client_id="workbook-log",
                group_id=None,
                auto_offset_reset="none",
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                max_poll_records=_BATCH,
                bootstrap_timeout_ms=10_000,
                request_timeout_ms=10_000,
                metrics_enabled=False,
            )
        except (OSError, KafkaError) as error:
            raise ServiceError(f"no Kafka broker answers at {bootstrap}: {error}", next_command="make up") from error

    def __enter__(self) -> Self:
        """The reader itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the broker."""
        self._consumer.close(autocommit=False)

    def extent(self, topic: str) -> Extent:
        """What the broker holds of a topic; empty if there is no such topic.

        Raises:
            ServiceError: if the broker does not answer.
        """
        try:
            places = [TopicPartition(topic, number) for number in self._consumer.partitions_for_topic(topic) or ()]
            if not places:
                return {}
            first, end = self._consumer.beginning_offsets(places), self._consumer.end_offsets(places)
        except KafkaError as error:
            raise ServiceError(f"the broker does not tell what {topic} holds: {error!r}") from error
        return {place.partition: (first[place], end[place]) for place in places}

    def read(self, topic: str, ranges: Extent) -> Iterator[list[ConsumerRecord]]:
        """The records of a topic with offsets in these ranges (the second excluded), a partition's in order.

        Raises:
            ServiceError: if the broker does not answer, or removed records meanwhile.
        """
        left = {TopicPartition(topic, number): span for number, span in ranges.items() if span[0] < span[1]}
        try:
            self._consumer.assign(list(left))
            for place, (first, _) in left.items():
                self._consumer.seek(place, first)
            yield from self._poll({place: end for place, (_, end) in left.items()})
        except KafkaError as error:
            raise ServiceError(f"reading {topic} failed: {error!r}", next_command="workbook logs kafka") from error

    def _poll(self, ends: dict[TopicPartition, int]) -> Iterator[list[ConsumerRecord]]:
        silent = 0
        while ends:
            batches = self._consumer.poll(timeout_ms=_POLL_MS)
            silent = 0 if batches else silent + 1
            if silent == _SILENT_POLLS:
                names = ", ".join(f"{place.topic}-{place.partition}" for place in ends)
                raise ServiceError(f"the broker hands out nothing of {names}", next_command="workbook logs kafka")
            for place, found in batches.items():
                end = ends.get(place)
                if end is None:
                    continue
                yield found if found[-1].offset < end else [record for record in found if record.offset < end]
                if found[-1].offset + 1 >= end:
                    del ends[place]
                    self._consumer.pause(place)

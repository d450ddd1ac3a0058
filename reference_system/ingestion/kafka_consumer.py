"""Reading the partitions of some tasks, of every topic, from where the sinks say.

In: topics, tasks and, for each partition, the next offset that a sink needs. Out: records, in the order of each
partition.
Invariant: nothing is skipped. A position that the broker no longer has, or does not have yet, is an error and not a
reason to start elsewhere; what is committed to Kafka is for the lag that other tools show, never read back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Self

from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from reference_system.errors import ServiceError, StateError
from reference_system.events import PartitionKey
from reference_system.ingestion.decode import KafkaRecord

GROUP = "workbook-ingestion"
_POLL_MS = 200
_BATCH = 20_000
_FETCH_BYTES = 4 * 1024 * 1024
_LEAVE_MS = 1_000


class EventSource:
    """A consumer of some partitions of the topics; use it as a context manager."""

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[str],
        partitions: Collection[int],
        starts: Mapping[PartitionKey, int | None],
    ) -> None:
        """Assign the partitions of every topic and seek.

        Args:
            bootstrap: the broker's `host:port`.
            topics: what to read.
            partitions: of each topic.
            starts: for each place the next offset to read; 0 where there is none, and `None` stands for the first
                record that the broker still holds.

        Raises:
            ServiceError: if the broker does not answer or lacks a topic.
            StateError: if the broker does not hold a position that we ask for.
        """
        self._next: dict[PartitionKey, int] = {}
        try:
            self._consumer = KafkaConsumer(
                bootstrap_servers=bootstrap,
                client_id=GROUP,
                group_id=GROUP,
                enable_auto_commit=False,
                # An offset that is out of range raises: "earliest" would repeat, "latest" would skip, both silently.
                auto_offset_reset="none",
                allow_auto_create_topics=False,
                max_poll_records=_BATCH,
                # Behind the head, larger polls change each entity once for several events.
                max_partition_fetch_bytes=_FETCH_BYTES,
                # As soon as there is anything: while one batch is worked on, the next one gathers by itself.
                fetch_min_bytes=1,
                bootstrap_timeout_ms=10_000,
                request_timeout_ms=10_000,
                reconnect_backoff_max_ms=1_000,
                metrics_enabled=False,
            )
            with ExitStack() as until_assigned:
                until_assigned.callback(self._leave)
                self._assign(topics, partitions, starts)
                until_assigned.pop_all()
        except KafkaError as error:
            raise ServiceError(f"the Kafka broker at {bootstrap} does not answer: {error}") from error

    def __enter__(self) -> Self:
        """The source itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the broker."""
        self._leave()

    def _leave(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=_LEAVE_MS)

    def poll(self) -> dict[PartitionKey, list[KafkaRecord]]:
        """What arrived since the last poll, by partition; nothing if the broker is silent or away for a moment.

        Raises:
            ServiceError: if what the broker holds can no longer be read in order.
        """
        try:
            batches = self._consumer.poll(timeout_ms=_POLL_MS)
        except KafkaError as error:
            raise ServiceError(f"reading from Kafka failed: {error!r}", next_command="workbook logs kafka") from error
        found: dict[PartitionKey, list[KafkaRecord]] = {}
        for at, batch in batches.items():
            place = (at.topic, at.partition)
            self._next[place] = batch[-1].offset + 1
            found[place] = [
                KafkaRecord(
                    each.topic, each.partition, each.offset, each.timestamp, each.key, each.value, tuple(each.headers)
                )
                for each in batch
            ]
        return found

    def waiting(self) -> int:
        """How many records the broker holds that `poll` did not return; asks the broker.

        Raises:
            ServiceError: if it does not answer.
        """
        places = [TopicPartition(*place) for place in self._next]
        try:
            ends = self._consumer.end_offsets(places)
        except KafkaError as error:
            raise ServiceError(f"reading from Kafka failed: {error!r}", next_command="workbook logs kafka") from error
        return sum(ends[place] - self._next[place.topic, place.partition] for place in places)

    def positions(self) -> dict[PartitionKey, int]:
        """For each partition the next offset that `poll` returns.

        Kept here: the client's own answer is a request to the broker after any trouble, and waits for it.
        """
        return dict(self._next)

    def lag(self) -> dict[str, int]:
        """For each topic how many records wait, as of the last fetch."""
        lags: dict[str, int] = {}
        for (topic, partition), position in self._next.items():
            end = self._consumer.highwater(TopicPartition(topic, partition))
            lags[topic] = lags.get(topic, 0) + (0 if end is None else end - position)
        return lags

    def show_progress(self, next_offsets: Mapping[PartitionKey, int]) -> None:
        """Tell Kafka how far we are, for tools that show the lag. It may fail: nothing depends on it."""
        self._consumer.commit_async(_positions(next_offsets), callback=lambda *_: None)

    def show_last_progress(self, next_offsets: Mapping[PartitionKey, int]) -> None:
        """The same before leaving, with a moment's patience."""
        with suppress(KafkaError):
            self._consumer.commit(_positions(next_offsets), timeout_ms=_LEAVE_MS)

    def _assign(
        self, topics: Sequence[str], partitions: Collection[int], starts: Mapping[PartitionKey, int | None]
    ) -> None:
        places = [TopicPartition(topic, partition) for topic in topics for partition in sorted(partitions)]
        for topic in topics:
            self._check_partitions(topic, max(partitions))
        self._consumer.assign(places)
        first, end = self._consumer.beginning_offsets(places), self._consumer.end_offsets(places)
        for place in places:
            start = starts.get((place.topic, place.partition), 0)
            start = first[place] if start is None else start
            if start < first[place]:
                raise StateError(
                    f"{place.topic}-{place.partition}: the broker's retention removed numbers {start} to "
                    f"{first[place] - 1} before they were read; they are lost, and what was read before them is whole",
                    next_command="workbook verify",
                )
            if start > end[place]:
                raise StateError(
                    f"{place.topic}-{place.partition}: the next event is number {start}, but the broker holds numbers "
                    f"{first[place]} to {end[place]} (excluded): its log and our state do not belong together",
                    next_command="make clean",
                )
            self._consumer.seek(place, start)
            self._next[place.topic, place.partition] = start

    def _check_partitions(self, topic: str, highest: int) -> None:
        found: set[int] | None = self._consumer.partitions_for_topic(topic)
        if not found:
            raise ServiceError(f"the broker has no topic {topic}", next_command="make up")
        if highest not in found:
            raise StateError(
                f"topic {topic} has {len(found)} partitions and the settings ask for more", next_command="make clean"
            )


def _positions(next_offsets: Mapping[PartitionKey, int]) -> dict[TopicPartition, OffsetAndMetadata]:
    return {
        TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)
        for (topic, partition), offset in next_offsets.items()
    }

"""Publishes events to Kafka, each acknowledged.

In: events in time order. Out: the same events in their topics, acknowledged by the broker.
Invariant: `publish` succeeds when every event is acknowledged; a failed event is sent again with the same id, so a
retry after a lost acknowledgement causes a duplicate that its id identifies, never a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from kafka import KafkaProducer
from kafka.errors import KafkaError

from reference_system.events import Event, Topic, encode
from reference_system.kafka_producers import drop, durable_producer

# Longer than a delivery may take, shorter than the heartbeat's 15 s: a waiting world still reports that it is alive.
_FLUSH_SECONDS = 8.0

Message = tuple[Topic, Event]


class KafkaPublisher:
    """A producer that is recreated after a failure; a context manager."""

    def __init__(self, bootstrap: str) -> None:
        """Take the broker's `host:port`; no connection is opened yet."""
        self._bootstrap = bootstrap
        self._producer: KafkaProducer | None = None

    def __enter__(self) -> Self:
        """The first event creates the producer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the producer."""
        self._drop()

    def publish(self, messages: Sequence[Message], *, keep_on: Callable[[str], bool]) -> bool:
        """Send until all are acknowledged, or until `keep_on`, called with the failure, returns false.

        Returns:
            Whether all are acknowledged.
        """
        waiting = list(messages)
        while waiting:
            waiting, problem = self._send(waiting)
            if waiting:
                self._drop()
                if not keep_on(f"{len(waiting)} events are not acknowledged: {problem}"):
                    return False
        return True

    def _send(self, messages: Sequence[Message]) -> tuple[list[Message], str]:
        """Send all once; returns those that were not acknowledged, in their order, and the last reason."""
        problem = ""
        futures = []
        try:
            producer = self._producer = self._producer or self._connect()
            for topic, event in messages:
                key = topic.key_of(event).encode()
                futures.append(producer.send(topic.name, key=key, value=encode(event)))
            # Without a timeout it can wait forever for a batch that was in flight when the broker was killed.
            producer.flush(timeout=_FLUSH_SECONDS)
        except KafkaError as error:
            problem = f"{type(error).__name__} {error}".strip()
        missing = list(messages[len(futures) :])
        refused = []
        for message, future in zip(messages, futures, strict=False):
            if not future.succeeded():
                refused.append(message)
                problem = problem or f"{type(future.exception).__name__} {future.exception}"
        return refused + missing, problem

    def _connect(self) -> KafkaProducer:
        return durable_producer(self._bootstrap, "workbook-world", compression_type="lz4", linger_ms=20)

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            drop(producer)

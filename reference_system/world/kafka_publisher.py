"""Events to Kafka, each acknowledged.

In: events in time order. Out: the same events in their topics, acknowledged by the broker.
Invariant: `publish` returns when every event is acknowledged; what failed is sent again with the same id, so a retry
after a lost acknowledgement makes a duplicate that its id gives away, never a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from kafka import KafkaProducer
from kafka.errors import KafkaError

from reference_system.events import Event, Topic, encode
from reference_system.kafka_producers import drop, durable_producer

# Longer than a delivery may take, shorter than the heartbeat's 15 s: a world that waits is alive and says so.
_FLUSH_SECONDS = 8.0

Message = tuple[Topic, Event]


class KafkaPublisher:
    """A producer that is made again when it failed; a context manager."""

    def __init__(self, bootstrap: str) -> None:
        """Take the broker's `host:port`; nothing is opened yet."""
        self._bootstrap = bootstrap
        self._producer: KafkaProducer | None = None

    def __enter__(self) -> Self:
        """The producer is made with the first event."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the producer."""
        self._drop()

    def publish(self, messages: Sequence[Message], *, keep_on: Callable[[str], bool]) -> bool:
        """Send until all are acknowledged, or until `keep_on`, which is told what failed, says no.

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
        """Send all once; those that were not acknowledged, in their order, and the last reason."""
        problem = ""
        futures = []
        try:
            producer = self._producer = self._producer or self._connect()
            for topic, event in messages:
                key = topic.key_of(event).encode()
                futures.append(producer.send(topic.name, key=key, value=encode(event)))
            # Without a deadline it can wait for ever for a batch that was in flight when the broker was killed.
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

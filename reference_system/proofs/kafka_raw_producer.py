"""Sends raw messages to Kafka and returns the offset of each.

In: (topic, key, value) with any bytes. Out: topic, partition and offset, in the order of the messages.
Invariant: `send` returns when the broker has acknowledged every message. A failed message is sent again, so it is in
the topic twice if the broker stored it and the acknowledgement was lost. No message is ever missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Self

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError

from reference_system.errors import ServiceError
from reference_system.kafka_producers import drop, durable_producer

_FLUSH_SECONDS = 8.0
# A killed broker is restarted within a few seconds; a drill must not wait forever for one that is not.
_PATIENCE_SECONDS = 90.0
# Larger than the broker's limit: the broker, not this client, must refuse a message that is too large.
_MAX_REQUEST_BYTES = 4 * 1024 * 1024


class RawMessage(msgspec.Struct, frozen=True, gc=False):
    """One message to send."""

    topic: str
    key: bytes | None
    value: bytes | None


class Acknowledged(msgspec.Struct, frozen=True, gc=False):
    """Where the broker stored a message."""

    topic: str
    partition: int
    offset: int


class DrillProducer:
    """A producer that is recreated after a failure; a context manager."""

    def __init__(self, bootstrap: str) -> None:
        """Take the broker's `host:port`; no connection is opened yet."""
        self._bootstrap = bootstrap
        self._producer: KafkaProducer | None = None
        self.retries = 0

    def __enter__(self) -> Self:
        """The first message creates the producer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the producer."""
        self._drop()

    def send(self, messages: Sequence[RawMessage]) -> list[Acknowledged]:
        """Send until all are acknowledged.

        Raises:
            ServiceError: if the broker does not acknowledge them in time.
        """
        places: dict[int, Acknowledged] = {}
        deadline = monotonic() + _PATIENCE_SECONDS
        while len(places) < len(messages):
            waiting = [number for number in range(len(messages)) if number not in places]
            problem = self._attempt(messages, waiting, places)
            if len(places) < len(messages):
                self._drop()
                self.retries += len(messages) - len(places)
                if monotonic() > deadline:
                    raise ServiceError(f"{self._bootstrap} no longer acknowledges messages: {problem!r}")
        return [places[number] for number in range(len(messages))]

    def _attempt(
        self, messages: Sequence[RawMessage], waiting: Sequence[int], places: dict[int, Acknowledged]
    ) -> BaseException | None:
        """Send the waiting messages once, record the acknowledged ones, return the last problem."""
        problem: BaseException | None = None
        futures = []
        try:
            producer = self._producer = self._producer or self._connect()
            for number in waiting:
                message = messages[number]
                futures.append(producer.send(message.topic, key=message.key, value=message.value))
            # Without a timeout it can wait forever for a batch that was in flight when the broker was killed.
            producer.flush(timeout=_FLUSH_SECONDS)
        except KafkaError as error:
            problem = error
        for number, future in zip(waiting, futures, strict=False):
            if future.succeeded():
                place = future.get()
                places[number] = Acknowledged(place.topic, place.partition, place.offset)
            else:
                problem = future.exception or problem
        return problem

    def _connect(self) -> KafkaProducer:
        return durable_producer(
            self._bootstrap,
            "workbook-drill",
            compression_type="lz4",
            linger_ms=5,
            batch_size=2**17,
            max_request_size=_MAX_REQUEST_BYTES,
            reconnect_backoff_max_ms=500,
        )

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            drop(producer)

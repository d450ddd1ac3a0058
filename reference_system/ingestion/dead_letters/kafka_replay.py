"""Sending dead letters again: to the topic that they came from, as they were or corrected.

In: dead letters. Out: the same bytes on the topic of their origin, with headers `attempt` and `replay_of`; a mark on
the dead-letter topic.
Invariant: the record is acknowledged before its mark is sent. A crash between the two leaves a letter that looks as
if nobody had replayed it; replayed once more, its event is a duplicate and counted once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Self

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError

from reference_system.errors import EventRejected, ServiceError
from reference_system.events import decode
from reference_system.ingestion.dead_letters.kafka_reader import REPLAYED_AS, DeadLetter, Origin
from reference_system.ingestion.dead_letters.kafka_writer import dead_letter_producer
from reference_system.kafka_producers import drop
from reference_system.use_cases import topic_named

_DELIVERY_SECONDS = 10
# Whether a time lies in the future is for ingestion to say.
_ANY_TIME = datetime(9999, 1, 1, tzinfo=UTC)


def corrected(letter: DeadLetter, value: bytes) -> DeadLetter:
    """The letter with other bytes: under the key of the event that they are, if they are one."""
    topic = topic_named(letter.origin.topic)
    try:
        key: bytes | None = topic.key_of(decode(topic, value, now=_ANY_TIME)).encode()
    except EventRejected:
        key = letter.key
    return msgspec.structs.replace(letter, key=key, value=value)


class DeadLetterReplay:
    """A producer that sends dead letters again; use it as a context manager."""

    def __init__(self, bootstrap: str) -> None:
        """Connect.

        Raises:
            ServiceError: if the broker does not answer.
        """
        try:
            self._producer: KafkaProducer = dead_letter_producer(bootstrap)
        except KafkaError as error:
            raise ServiceError(f"the Kafka broker at {bootstrap} does not answer: {error}") from error

    def __enter__(self) -> Self:
        """The producer itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the broker; nothing is pending after a `send`."""
        drop(self._producer)

    def send(self, letters: Sequence[DeadLetter]) -> list[Origin]:
        """Send letters and their marks; returns where each of them stands now.

        Raises:
            ServiceError: if the broker did not take one; those before it are marked.
        """
        pending = []
        try:
            for letter in letters:
                headers = [("attempt", str(letter.attempt).encode()), ("replay_of", str(letter.origin).encode())]
                future = self._producer.send(letter.origin.topic, key=letter.key, value=letter.value, headers=headers)
                pending.append((letter, future))
            self._producer.flush(timeout=_DELIVERY_SECONDS)
            return [self._mark(letter, future.get(timeout=_DELIVERY_SECONDS)) for letter, future in pending]
        except MessageSizeTooLargeError as error:
            raise ServiceError(
                f"a dead letter is too large to be sent again: {error}", next_command="workbook dead-letter list"
            ) from error
        except KafkaError as error:
            raise ServiceError(f"a dead letter could not be sent again: {error!r}") from error
        finally:
            self._producer.flush(timeout=_DELIVERY_SECONDS)

    def _mark(self, letter: DeadLetter, sent: object) -> Origin:
        at = Origin(letter.origin.topic, sent.partition, sent.offset)  # type: ignore[attr-defined] # kafka has no types
        headers = [
            ("topic", letter.origin.topic.encode()),
            ("partition", str(letter.origin.partition).encode()),
            ("offset", str(letter.origin.offset).encode()),
            (REPLAYED_AS, str(at).encode()),
        ]
        # The client refuses a message with neither key nor value.
        self._producer.send(f"{letter.origin.topic}.dead-letter", key=letter.key or b"", value=None, headers=headers)
        return at

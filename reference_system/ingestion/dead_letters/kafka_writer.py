"""Where bytes go that are no events: `<topic>.dead-letter`, untouched, with the reason beside them.

In: refused records. Out: the same key and value, with headers `error_class`, `error`, `topic`, `partition`, `offset`,
`schema_version` and `attempt`.
Invariant: `send` returns only when the broker has every record. A crash after that may send one again: `topic`,
`partition` and `offset` tell that it is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from kafka import KafkaProducer
from kafka.errors import KafkaError

from reference_system.errors import ServiceError
from reference_system.events import Topic
from reference_system.ingestion.decode import Decoded, Headers, KafkaRecord
from reference_system.kafka_producers import drop, durable_producer

SCHEMA_VERSION = b"1"
# Twice what the broker takes on an ordinary topic: the largest message still fits with its headers.
_MAX_REQUEST_BYTES = 2 * 1024 * 1024
_DELIVERY_SECONDS = 8
# A reason is for people; it must not be able to outgrow the message.
_MAX_REASON = 500
# What anybody may write in a header is believed only within reason.
_ATTEMPT_DIGITS = 6


class DeadLetters:
    """The producer of the dead-letter topics; use it as a context manager."""

    def __init__(self, bootstrap: str, topics: Mapping[str, Topic]) -> None:
        """Connect on first use: most runs never reject anything."""
        self._bootstrap = bootstrap
        self._topics = topics
        self._producer: KafkaProducer | None = None

    def __enter__(self) -> Self:
        """The producer itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the broker; nothing is pending after a `send`."""
        if self._producer is not None:
            drop(self._producer)

    def send(self, refused: Sequence[Decoded]) -> None:
        """Send the records and wait until the broker has all of them.

        Raises:
            ServiceError: if one of them was not acknowledged; the caller must not go on.
        """
        if not refused:
            return
        name = ""
        try:
            producer = self._producer = self._producer or dead_letter_producer(self._bootstrap)
            pending = []
            for each in refused:
                name = self._topics[each.record.topic].dead_letter
                pending.append((name, producer.send(name, **_message(each))))
            producer.flush(timeout=_DELIVERY_SECONDS)
            for name, future in pending:  # noqa: B007 - the message of the error names it
                future.get(timeout=_DELIVERY_SECONDS)
        except KafkaError as error:
            raise ServiceError(
                f"{name or 'the dead-letter topic'} does not take a refused event, so ingestion stops: {error!r}",
                next_command="workbook logs kafka",
            ) from error


def dead_letter_producer(bootstrap: str) -> KafkaProducer:
    """A producer that loses nothing and gives up after seconds."""
    return durable_producer(bootstrap, "workbook-dead-letter", max_request_size=_MAX_REQUEST_BYTES)


def _message(refused: Decoded) -> dict[str, object]:
    record = refused.record
    # The client refuses a message with neither key nor value; a tombstone without a key gets an empty one.
    key = b"" if record.key is None and record.value is None else record.key
    return {"key": key, "value": record.value, "headers": list(_headers(refused))}


def _headers(refused: Decoded) -> Headers:
    record = refused.record
    return (
        ("error_class", refused.error_class.encode()),
        ("error", refused.reason[:_MAX_REASON].encode()),
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(record.offset).encode()),
        ("schema_version", SCHEMA_VERSION),
        ("attempt", str(_attempt(record)).encode()),
    )


def _attempt(record: KafkaRecord) -> int:
    """1, or one more than the dead letter that was replayed says."""
    earlier = dict(record.headers).get("attempt") or b""
    return int(earlier) + 1 if earlier.isdigit() and len(earlier) < _ATTEMPT_DIGITS else 1

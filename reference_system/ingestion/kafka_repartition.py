"""Sending rows to the tasks that own their entities, through the repartition topic.

In: the outboxes of tasks. Out: how far the broker has them.
Invariant: of one task's records for another, the next is sent only when the one before is acknowledged, so a record
that fails can never be overtaken: what arrives has no hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

from kafka import KafkaProducer
from kafka.errors import KafkaError

from reference_system.errors import ServiceError
from reference_system.kafka_producers import drop, durable_producer
from reference_system.states import PostedRow

_FLUSH_SECONDS = 10.0
_MAX_REQUEST_BYTES = 8 * 1024 * 1024


class RowForwarder:
    """The producer of the repartition topic; use it as a context manager."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Connect with the first record: a task that owns everything never sends one."""
        self._bootstrap, self._topic = bootstrap, topic
        self._producer: KafkaProducer | None = None
        self._pending: list[tuple[int, int, object]] = []

    def __enter__(self) -> Self:
        """The forwarder itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the broker; what was not acknowledged stays in the outboxes."""
        if self._producer is not None:
            drop(self._producer)

    def send(self, outboxes: Mapping[int, Iterable[PostedRow]]) -> None:
        """Send the next records of each task, the first for each other task, unless earlier ones are on their way.

        Raises:
            ServiceError: if the broker does not take them.
        """
        if self._pending:
            return
        try:
            for task, posts in outboxes.items():
                targets: set[int] = set()
                for number, target, record in posts:
                    # Numbers are acknowledged in order, so a second record for one target ends the round.
                    if target in targets:
                        break
                    targets.add(target)
                    producer = self._producer = self._producer or self._connect()
                    self._pending.append((task, number, producer.send(self._topic, value=record, partition=target)))
        except KafkaError as error:
            raise self._refused(error) from error

    def acknowledged(self, *, wait: bool = False) -> dict[int, int]:
        """For each task the number up to which the broker has its outbox, if what was sent has arrived.

        Args:
            wait: until it has.

        Raises:
            ServiceError: if the broker did not take a record; a new start sends it again.
        """
        if wait and self._producer is not None and self._pending:
            try:
                self._producer.flush(timeout=_FLUSH_SECONDS)
            except KafkaError as error:
                raise self._refused(error) from error
        if not all(future.is_done for _, _, future in self._pending):  # type: ignore[attr-defined] # the client's future
            return {}
        for _, _, future in self._pending:
            if not future.succeeded():  # type: ignore[attr-defined]
                raise self._refused(future.exception)  # type: ignore[attr-defined]
        reached = {task: number for task, number, _ in self._pending}
        self._pending = []
        return reached

    def _refused(self, reason: object) -> ServiceError:
        return ServiceError(
            f"rows could not be sent to the topic {self._topic}: {reason!r}", next_command="workbook logs kafka"
        )

    def _connect(self) -> KafkaProducer:
        try:
            return durable_producer(
                self._bootstrap, "workbook-repartition", compression_type="lz4", max_request_size=_MAX_REQUEST_BYTES
            )
        except KafkaError as error:
            raise self._refused(error) from error
